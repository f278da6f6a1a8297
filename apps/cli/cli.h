/* cli.h - what the parts of the command line share: options, exit codes, printing, the session.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_CLI_H
#define EMB_CLI_CLI_H

#include <pthread.h>
#include <stdbool.h>

#include "embound.h"
#include "sink/errors.h"
#include "sink/sink.h"
#include "source/source.h"

/* ---- exit codes (sysexits) ------------------------------------------------------------------- */

enum {
    EMB_EXIT_OK = 0,
    EMB_EXIT_USAGE = 64,
    EMB_EXIT_DATA = 65, /* malformed file, or rows that failed */
    EMB_EXIT_NO_INPUT = 66,
    EMB_EXIT_DEVICE = 69,
    EMB_EXIT_INTERNAL = 70,
    EMB_EXIT_SYSTEM = 71, /* the system refused memory or threads */
    EMB_EXIT_CREATE = 73, /* the output cannot be created */
    EMB_EXIT_OUTPUT = 74, /* reading or writing failed half way */
    EMB_EXIT_AGAIN = 75,  /* another job holds the output */
    EMB_EXIT_BUDGET = 78,
    EMB_EXIT_INTERRUPTED = 130
};

/* The exit code that a status means by itself. */
int emb_cli_exit_code(emb_status status);

/* ---- options --------------------------------------------------------------------------------- */

typedef enum emb_cli_command {
    EMB_CLI_PLAN = 1 << 0,
    EMB_CLI_ENCODE = 1 << 1,
    EMB_CLI_TOKENIZE = 1 << 2,
    EMB_CLI_SEARCH = 1 << 3,
    EMB_CLI_EVAL = 1 << 4,
    EMB_CLI_INFO = 1 << 5,
    EMB_CLI_BENCH = 1 << 6,
    EMB_CLI_MONITOR = 1 << 7,
    EMB_CLI_PULL = 1 << 8,
    EMB_CLI_TUNE = 1 << 9,
    EMB_CLI_QUANTIZE = 1 << 10
} emb_cli_command;

typedef enum emb_cli_progress { EMB_CLI_AUTO, EMB_CLI_ALWAYS, EMB_CLI_NEVER } emb_cli_progress;

typedef enum emb_cli_autotune {
    EMB_CLI_TUNE_CACHED, /* what an earlier run found */
    EMB_CLI_TUNE_OFF,
    EMB_CLI_TUNE_FULL /* time kernels if no earlier run did */
} emb_cli_autotune;

#define EMB_CLI_INPUTS_MAX  1024
#define EMB_CLI_QUERIES_MAX 64
#define EMB_CLI_K_MAX       1000

typedef struct emb_options {
    emb_cli_command command;
    const char *model;
    const char *inputs[EMB_CLI_INPUTS_MAX];
    uint32_t inputs_count;
    const char *words[EMB_CLI_QUERIES_MAX]; /* what stands after MODEL: queries, a table */
    uint32_t words_count;
    const char *output;
    emb_sink_format output_format;
    emb_source_options source;
    emb_limits limits;
    emb_device_list devices;
    bool device_stated; /* by an option, not by EMB_DEVICE */
    bool dtype_auto;
    const char *prompt_name;
    emb_cli_progress progress;
    emb_cli_autotune autotune;
    const char *stats_path, *machine_path, *save_machine_path;
    bool json, quiet, no_specials;
    const char *index_path, *texts_path, *against, *columns, *calibrate;
    uint32_t group, calibrate_tokens;
    bool smooth, force;
    uint32_t k, repeat;
    uint32_t score;       /* 0: cosine, 1: dot */
    bool status;          /* leave a file for `embound monitor` */
    double interval;      /* seconds */
    uint32_t reports_max; /* 0: until it is stopped */
    const char *revision;
    bool offline;
} emb_options;

typedef enum emb_cli_parse { EMB_CLI_RUN, EMB_CLI_HELP, EMB_CLI_BAD } emb_cli_parse;

/* Reads the arguments after the command's name. On EMB_CLI_BAD the message is in error. */
emb_cli_parse emb_options_parse(emb_options *options, emb_cli_command command, int count,
                                char **arguments, emb_error *error);

/* Bytes from "96MiB", "1.5GB", "64M"; "auto" is 0. Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_size_parse(uint64_t *out, const char *text, const char *option, emb_error *error);

/* "43.2MiB": at least `bytes`, and emb_size_parse reads it back. */
void emb_size_text(char *out, size_t capacity, uint64_t bytes);

/* "43.25MiB", "10 bytes": at most `bytes`, closely enough to be known again by who stated it. */
void emb_size_stated(char *out, size_t capacity, uint64_t bytes);

/* Refuses an output (NULL: none) that is one of the inputs. Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_cli_check_output(const char *output, const char *const *inputs, uint32_t count,
                                emb_error *error);

/* Refuses an output (NULL: none) that exists in the model's folder, or one below it.
 * Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_cli_check_model(const char *output, const char *model, emb_error *error);

/* Refuses --stats (NULL: none) in the file of another output. what: "vectors", "failed rows".
 * Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_cli_check_stats(const char *stats, const char *output, const char *what,
                               emb_error *error);

/* ---- commands: give an exit code ------------------------------------------------------------- */

typedef struct emb_session emb_session;

typedef struct emb_command_entry {
    const char *name;
    emb_cli_command id;
    int (*run)(emb_session *session, emb_options *options);
    const char *usage; /* what stands after the name */
    const char *summary, *about;
} emb_command_entry;

extern const emb_command_entry emb_command_list[];
extern const size_t emb_command_list_count;

int emb_command_plan(emb_session *session, emb_options *options);
int emb_command_encode(emb_session *session, emb_options *options);
int emb_command_tokenize(emb_session *session, emb_options *options);
int emb_command_search(emb_session *session, emb_options *options);
int emb_command_eval(emb_session *session, emb_options *options);
int emb_command_info(emb_session *session, emb_options *options);
int emb_command_bench(emb_session *session, emb_options *options);
int emb_command_monitor(emb_session *session, emb_options *options);
int emb_command_pull(emb_session *session, emb_options *options);
int emb_command_tune(emb_session *session, emb_options *options);
int emb_command_quantize(emb_session *session, emb_options *options);

/* Prints --help of the program, of a command. */
void emb_help_print_usage(emb_writer *writer);
void emb_help_print(emb_writer *writer, const emb_command_entry *command);

/* Prints the completion for "bash", "zsh" or "fish"; false: for no other. */
bool emb_completion_print(emb_writer *writer, const char *shell);

/* ---- printing -------------------------------------------------------------------------------- */

/* One line on standard error, after "embound: ". */
void emb_cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Bytes as they are, on standard error. */
void emb_cli_err(const char *text, size_t length);

/* Standard output, buffered. The same writer each time. */
emb_writer *emb_cli_stdout(void);

/* Says what is in error and gives the exit code of the status. */
int emb_cli_fail(emb_status status, const emb_error *error);

/* Flushes standard output; gives `code`, or EMB_EXIT_OUTPUT if that fails. */
int emb_cli_finish(int code);

/* ---- signals --------------------------------------------------------------------------------- */

/* First signal: cancels the engine that runs, if any. Second: leaves at once. */
void emb_signals_install(void);
void emb_signals_set_engine(emb_engine *engine); /* NULL: none runs */
void emb_signals_set_busy(bool works);           /* other work that looks at `received` */
int emb_signals_descriptor(void);                /* becomes readable with the first signal */
int emb_signals_received(void);                  /* its number, or 0 */

/* ---- session: model, plan, one block for ourselves, engine ----------------------------------- */

typedef enum emb_cli_tuned {
    EMB_CLI_UNTUNED,
    EMB_CLI_TUNED_BEFORE,
    EMB_CLI_TUNED_NOW
} emb_cli_tuned;

typedef struct emb_session {
    emb_machine machine;
    emb_model *model;
    emb_model_info info;
    emb_limits limits;
    emb_plan plan;
    emb_engine *engine;
    emb_cli_tuned tuned;
    unsigned char *block; /* everything that the command line keeps: limits.caller_bytes */
    uint64_t block_used;
} emb_session;

/* Measures the machine. Call first, before other memory is used. */
emb_status emb_session_probe(emb_session *session, const emb_options *options, emb_error *error);

/* Opens the model at `path` (a path, or a name in the hub cache). */
emb_status emb_session_open_model(emb_session *session, const char *path, emb_error *error);

/* Makes the plan, with `caller_bytes` for ourselves. */
emb_status emb_session_plan(emb_session *session, const emb_options *options, uint64_t caller_bytes,
                            emb_error *error);

/* Takes the block that the plan has booked for ourselves, every page resident. */
emb_status emb_session_open_block(emb_session *session, emb_error *error);

emb_status emb_session_open_engine(emb_session *session, emb_error *error);

/* Cuts bytes off the block. Never fails: what is cut was booked. */
void *emb_session_take(emb_session *session, uint64_t bytes);

/* Closes engine and model; the block stays, for a second model. */
void emb_session_close_model(emb_session *session);

/* Closes engine, model and block; the machine stays. */
void emb_session_close(emb_session *session);

/* Rounds a size up to what emb_session_take uses. */
uint64_t emb_session_round(uint64_t bytes);

/* The prompt that the options or the model ask for, or NULL.
 * Fails: EMB_INVALID_ARGUMENT (no such prompt name). */
emb_status emb_session_prompt(const char **prompt, const emb_session *session,
                              const emb_options *options, emb_error *error);

/* Puts into a GPU's plan the kernels that an earlier run found, or that they are to be timed. */
void emb_tuning_plan(emb_session *session, const emb_options *options);

/* Keeps for later runs what the engine found when it was opened, if it timed kernels. Fails: EMB_IO
 * and what else a file may; the run is none the worse. */
emb_status emb_tuning_keep(emb_session *session, emb_error *error);

/* "43.3MiB": a budget that works when the plan's minimum is bytes_min. */
void emb_session_minimum(char *out, size_t capacity, uint64_t bytes_min);

/* emb_cli_fail, which for EMB_BUDGET names minima that can be pasted. */
int emb_session_fail(const emb_session *session, const emb_options *options, emb_status status,
                     const emb_error *error);

/* ---- the file in which a running engine says what it does ------------------------------------ */

#define EMB_STATUS_BYTES 4096
#define EMB_STATUS_MARKS 8

typedef struct emb_status_mark {
    uint64_t tokens;
    double seconds;
} emb_status_mark;

typedef struct emb_status_file {
    const emb_session *session;
    char *buffer;     /* [EMB_STATUS_BYTES] */
    int folder;       /* descriptor; -1: no file is kept */
    uint64_t started; /* of this process, in the system's ticks */
    double written;
    uint32_t writes;
    emb_status_mark marks[EMB_STATUS_MARKS]; /* the latest writes */
    char name[24], temporary[24];
} emb_status_file;

/* Makes the folder if need be and writes the file. Needs: buffer, an open engine. Fails: EMB_IO. */
emb_status emb_status_file_open(emb_status_file *file, const emb_session *session,
                                emb_error *error);

/* Replaces the file if it is a second old. Where that fails, says so and gives up the file. */
void emb_status_file_write(emb_status_file *file);

/* Removes the file. Does nothing if there is none. */
void emb_status_file_close(emb_status_file *file);

/* Removes the file that is open, if any. Async-signal-safe, for a second signal. */
void emb_status_file_abort(void);

/* What such a file says. */
typedef struct emb_engine_status {
    uint64_t pid, started;
    char model[128], device[16], dtype[16];
    uint64_t host_bytes_planned, host_bytes_now, host_bytes_peak;
    uint64_t device_bytes_planned; /* per GPU; 0: none is used */
    uint64_t texts, tokens;
    double seconds, tokens_per_second; /* the latter over the last seconds */
    double age_seconds;                /* of the file */
} emb_engine_status;

/* Reads the files of this user's engines, by process number; removes those of dead processes. */
uint32_t emb_status_read_all(emb_engine_status *out, uint32_t capacity);

/* ---- the loop over submit and collect -------------------------------------------------------- */

#define EMB_RUN_PIECES    256
#define EMB_RUN_ROWS      256
#define EMB_RUN_IN_FLIGHT 65536 /* texts submitted and not collected, at most */
#define EMB_RUN_SKIPPED   16    /* failed rows handed on at once */
#define EMB_RUN_MARKS     256

/* When so many texts have been delivered, the input is done up to here. */
typedef struct emb_run_mark {
    uint64_t texts, bytes;
} emb_run_mark;

/* Receives finished rows; status is not EMB_OK where the source or the engine failed the row, and
 * then there are no values. */
typedef emb_status (*emb_run_rows)(void *user, const emb_row *rows, uint32_t count,
                                   emb_error *error);

/* Called before rows that were given out become invalid. */
typedef emb_status (*emb_run_settle)(void *user, emb_error *error);

typedef struct emb_run {
    emb_engine *engine;
    emb_source *source;
    emb_run_rows rows_callback;
    emb_run_settle settle_callback; /* NULL: rows are used up when rows_callback returns */
    void *user;
    emb_error_log *log;
    bool quiet;
    bool progress;
    bool status;                   /* keep a status file meanwhile */
    uint64_t submitted, collected; /* texts, those that the source failed among them */
    uint64_t skipped;              /* of them, those that were never given to the engine */
    uint64_t failed, failed_row;   /* rows (of two texts in eval); the last one that failed */
    emb_piece *pieces;             /* [EMB_RUN_PIECES] */
    emb_row *rows;                 /* [EMB_RUN_ROWS] */
    emb_row *skipped_rows;         /* [EMB_RUN_SKIPPED], all alike */
    uint8_t *failed_bits;          /* [EMB_RUN_IN_FLIGHT / 8], by text number */
    uint8_t *skipped_bits;         /* the same */
    emb_run_mark *marks;           /* [EMB_RUN_MARKS], a ring: of what is under way */
    uint32_t marks_first, marks_count;
    emb_run_mark done;      /* the last mark that was passed */
    uint64_t bytes_before;  /* of text that the engine has read in passes before, in bench */
    emb_status idle_status; /* of the work done while the input had nothing */
    emb_error idle_error;
    double started, drawn;
    double share, share_seconds; /* that the bar shows, and when it came to that */
    bool bar_visible;
    const emb_session *session;
    emb_status_file status_file;
} emb_run;

uint64_t emb_run_bytes(void);
void emb_run_bind(emb_run *run, emb_session *session);

/* Encodes everything the source yields. While the input has nothing to read, what waits is encoded
 * and handed on. Fails: what the source, the engine or the callback give. */
emb_status emb_run_all(emb_run *run, emb_error *error);

/* The engine's counters, with the rows that never came to it. */
void emb_run_stats(const emb_run *run, emb_engine_stats_t *stats);

/* ---- progress and reports -------------------------------------------------------------------- */

double emb_cli_seconds(void);
bool emb_cli_wants_progress(const emb_options *options);
void emb_progress_draw(emb_run *run, bool last);
void emb_progress_clear(emb_run *run);

/* The summary on standard error after an encode. */
void emb_report_summary(const emb_engine_stats_t *stats, const emb_session *session);

/* What the source has to say of texts that were read all the same: not UTF-8, CR inside a line. */
void emb_report_notes(const emb_source *source);

/* "", or "s" after any other number than one. */
const char *emb_cli_plural(uint64_t count);

/* One JSON object. */
void emb_report_stats(emb_writer *writer, const emb_engine_stats_t *stats,
                      const emb_session *session);

/* Writes emb_report_stats to a file ("-": standard output). Gives an exit code. */
int emb_report_save_stats(const char *path, const emb_engine_stats_t *stats,
                          const emb_session *session);

void emb_report_plan_table(emb_writer *writer, const emb_session *session);
void emb_report_plan_json(emb_writer *writer, const emb_session *session);

/* Bytes that `encode` keeps for itself: what `plan` books too. */
uint64_t emb_encode_bytes(const emb_options *options, uint32_t dim);

/* ---- rows written behind the caller's back ----------------------------------------------------
 */

#define EMB_BEHIND_STACK_BYTES (128u << 10)

/* A thread that hands rows to a sink. Guarded by the mutex, but for `open` and `sink`. */
typedef struct emb_behind {
    bool open;
    emb_sink *sink;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    const emb_row *rows;
    uint32_t count; /* 0: nothing to write */
    bool stop;
    emb_status status; /* of the rows before; sticky by its use */
    emb_error error;
} emb_behind;

/* Bytes of memory that open wants. */
uint64_t emb_behind_bytes(void);
emb_status emb_behind_open(emb_behind *behind, emb_sink *sink, void *memory, emb_error *error);

/* Hands rows over; they stay borrowed until settled. Fails as the rows before did. */
emb_status emb_behind_rows(emb_behind *behind, const emb_row *rows, uint32_t count,
                           emb_error *error);

/* Waits until nothing is borrowed any more. Fails: EMB_IO. */
emb_status emb_behind_settle(emb_behind *behind, emb_error *error);
void emb_behind_close(emb_behind *behind);

/* Runs `embound-NAME` from beside the program or from PATH. Returns only if there is none. */
void emb_cli_run_external(const char *name, char **arguments);

#endif
