/* run.h - the loop that every encoding job shares: a source's texts in, rows out.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_COMMON_RUN_H
#define EMB_COMMON_RUN_H

#include "common/session.h"
#include "common/status.h"
#include "sink/errors.h"
#include "source/source.h"

#define EMB_RUN_PIECES    256
#define EMB_RUN_ROWS      256
#define EMB_RUN_IN_FLIGHT 65536 /* texts submitted and not collected, at most */
#define EMB_RUN_SKIPPED   16    /* failed rows handed on at once */
#define EMB_RUN_MARKS     256

typedef struct emb_run emb_run;

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

/* Shows how far it is while it runs. */
typedef struct emb_run_display {
    void (*begin)(void);
    void (*draw)(const emb_run *run, bool last);
    void (*clear)(void); /* before a line is said */
} emb_run_display;

struct emb_run {
    emb_engine *engine;
    emb_source *source;
    emb_run_rows rows_callback;
    emb_run_settle settle_callback; /* NULL: rows are used up when rows_callback returns */
    void *user;
    emb_error_log *log;
    bool quiet;
    const emb_run_display *display; /* NULL: nothing is shown */
    bool status;                    /* keep a status file meanwhile */
    uint64_t submitted, collected;  /* texts, those that the source failed among them */
    uint64_t skipped;               /* of them, those that were never given to the engine */
    uint64_t failed, failed_row;    /* rows (of two texts in eval); the last one that failed */
    emb_piece *pieces;              /* [EMB_RUN_PIECES] */
    emb_row *rows;                  /* [EMB_RUN_ROWS] */
    emb_row *skipped_rows;          /* [EMB_RUN_SKIPPED], all alike */
    uint8_t *failed_bits;           /* [EMB_RUN_IN_FLIGHT / 8], by text number */
    uint8_t *skipped_bits;          /* the same */
    emb_run_mark *marks;            /* [EMB_RUN_MARKS], a ring: of what is under way */
    uint32_t marks_first, marks_count;
    emb_run_mark done;      /* the last mark that was passed */
    uint64_t bytes_before;  /* of text that the engine has read in passes before, in bench */
    emb_status idle_status; /* of the work done while the input had nothing */
    emb_error idle_error;
    double started;
    const emb_session *session;
    emb_status_file status_file;
};

uint64_t emb_run_bytes(void);
void emb_run_bind(emb_run *run, emb_session *session);

/* Encodes everything the source yields. While the input has nothing to read, what waits is encoded
 * and handed on. Fails: what the source, the engine or the callback give. */
emb_status emb_run_all(emb_run *run, emb_error *error);

/* The engine's counters, with the rows that never came to it. */
void emb_run_stats(const emb_run *run, emb_engine_stats_t *stats);

#endif
