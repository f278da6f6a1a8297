/* core.h - what the files of embound._core share: engines, trainers, rows, texts, and the raising
 * of errors.
 *
 * Limited API of CPython 3.11. Only public declarations are used.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_PYTHON_CORE_H
#define EMB_PYTHON_CORE_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <pthread.h>
#include <Python.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "embound_experimental.h"

#define EMB_PYTHON_WAIT_MS 50 /* between two looks for signals: Ctrl-C */

/* ---- errors (module.c) ----------------------------------------------------------------------- */

/* Raises the exception of embound._errors for this status. Gives NULL. Needs the GIL. */
PyObject *emb_python_raise(emb_status status, const emb_error *error);

/* The same where a device may have been chosen by something else than a parameter: `chosen_by`
 * (empty: no) stands before what is said of that device. */
PyObject *emb_python_raise_device(const char *chosen_by, emb_status status, const emb_error *error);

/* A str of the library's text, which may name what is not UTF-8, or be cut; NULL with an exception.
 */
PyObject *emb_python_string(const char *text);

/* Raises with a message as printf makes it; number: the index of a TextError. */
__attribute__((format(printf, 3, 4))) PyObject *
emb_python_refuse(emb_status status, uint64_t number, const char *format, ...);

/* ---- rows (rows.c, device_rows.c, dlpack.c) -------------------------------------------------- */

/* Bytes on a GPU of all rows of one Python engine, which may be gone before them. */
typedef struct emb_python_held {
    atomic_size_t references;
    atomic_ullong bytes;
} emb_python_held;

/* NULL without memory. The caller owns one reference. */
emb_python_held *emb_python_held_open(void);
void emb_python_held_drop(emb_python_held *held);

/* Vectors that outlive the Python object around them: numpy, DLPack and Arrow hold references of
 * their own, which any thread may drop without the GIL. */
typedef struct emb_python_buffer {
    atomic_size_t references;
    float *values; /* [count, dim], 64-byte aligned; an address of the GPU if held is there */
    int64_t count, dim;
    emb_python_held *held;  /* NULL: in the host's memory */
    emb_device_rows device; /* if held is there */
} emb_python_buffer;

/* NULL without memory. The caller owns one reference. */
emb_python_buffer *emb_python_buffer_open(int64_t count, int64_t dim);

/* Bytes of host memory of all buffers that are alive in this process. Any thread. */
uint64_t emb_python_buffers_bytes(void);
void emb_python_buffer_hold(emb_python_buffer *buffer);
void emb_python_buffer_drop(emb_python_buffer *buffer);

/* What a Rows or DeviceRows is. */
typedef struct emb_python_rows {
    PyObject_HEAD emb_python_buffer *buffer;
    Py_ssize_t shape[2], strides[2];
    int dimensions;
} emb_python_rows;

/* Registers the types Rows and DeviceRows. 0, or -1 with an exception. */
int emb_python_rows_register(PyObject *module);
PyObject *emb_python_device_rows_register(PyObject *module);

/* A new Rows (of a buffer on a GPU: DeviceRows) that takes over the caller's reference to the
 * buffer, also if it fails. `single`: one row, shown as one dimension. Needs registered types. */
PyObject *emb_python_rows_make(emb_python_buffer *buffer, bool single);

/* A new type of rows, "embound.NAME", added to the module: with these methods and properties beside
 * what both types have; buffer: its getbufferproc, or NULL. NULL with an exception. */
PyObject *emb_python_rows_type(PyObject *module, const char *name, PyMethodDef *methods,
                               PyGetSetDef *properties, void *buffer, const char *doc);

/* Properties of both types. */
PyObject *emb_python_rows_shape(PyObject *object, void *unused);
PyObject *emb_python_rows_address(PyObject *object, void *unused);

/* The arguments of __dlpack__, borrowed; NULL: not there. */
typedef struct emb_python_dlpack_asked {
    PyObject *stream, *version, *copy;
    int type, index; /* of the device */
} emb_python_dlpack_asked;

/* Reads them over what is there, which holds where nothing is asked for. -1 with an exception. */
int emb_python_dlpack_read(emb_python_dlpack_asked *asked, PyObject *arguments, PyObject *named);

/* A DLPack capsule of the buffer in the shape of `rows`; version: None, NULL or the newest that the
 * consumer knows. copied: the buffer is nobody else's. */
PyObject *emb_python_dlpack(const emb_python_rows *rows, emb_python_buffer *buffer,
                            PyObject *version, bool copied);

/* ---- texts (texts.c, arrow.c) ---------------------------------------------------------------- */

#define EMB_SLAB_TEXTS       128
#define EMB_SLAB_BYTES       (1u << 20)
#define EMB_SLICE_CHARACTERS (64 << 10) /* of a str that are UTF-8 at a time */

/* One run of a string column: its values' places. From Arrow, nothing is copied. */
typedef struct emb_python_column emb_python_column;

/* Where texts come from, and those taken from it for the next submit. */
typedef struct emb_python_texts {
    PyObject *list; /* list of str, borrowed; NULL if a column is read */
    emb_python_column *column;
    const char *prompt; /* borrowed; NULL: none */
    size_t prompt_length;
    int64_t count, next; /* texts in all, and the next to be taken */
    PyObject *text;      /* the next one, owned, while it has been taken in part */
    Py_ssize_t at;       /* characters of it that have been taken */
    uint32_t slices, pieces_count;
    PyObject *held[EMB_SLAB_TEXTS]; /* bytes of the slab; NULL for a column's */
    emb_piece pieces[2 * EMB_SLAB_TEXTS];
} emb_python_texts;

/* Takes the next slab; 1, 0 at the end, -1 with an exception. Needs the GIL. */
int emb_python_texts_fill(emb_python_texts *texts);
void emb_python_texts_release(emb_python_texts *texts);

/* A str as UTF-8: a new object that owns the bytes. NULL with an exception. */
PyObject *emb_python_utf8(PyObject *text, const char **data, size_t *length);

/* Raises that this is no str; index: its place among the texts. Gives NULL. */
PyObject *emb_python_refuse_item(PyObject *item, int64_t index);

/* The next characters of a str from *at on, which moves, as UTF-8: a new object that owns the
 * bytes, however long the str is a small one. NULL with an exception. */
PyObject *emb_python_slice(PyObject *text, Py_ssize_t *at, const char **data, size_t *length);

/* Imports an Arrow stream (a capsule "arrow_array_stream"), or one array with its schema. Takes
 * their contents over. NULL with an exception. */
emb_python_column *emb_python_column_open(PyObject *stream, PyObject *schema, PyObject *array);
void emb_python_column_close(emb_python_column *column);
int64_t emb_python_column_count(const emb_python_column *column);

/* The bytes of one text; -1 with an exception if it is null. Rows are asked for in order. */
int emb_python_column_text(emb_python_column *column, int64_t row, const char **data,
                           size_t *length);

/* ---- engines (engine.c, encode.c) ------------------------------------------------------------ */

/* A caller waiting for its turn; lives on its stack. */
typedef struct emb_python_waiter {
    struct emb_python_waiter *next;
    pthread_cond_t turn;
    bool granted;
} emb_python_waiter;

/* One caller at a time, in the order they came. */
typedef struct emb_python_queue {
    pthread_mutex_t mutex; /* guards the rest */
    bool busy;
    emb_python_waiter *first, *last;
    pid_t process; /* that they are threads of */
} emb_python_queue;

typedef struct emb_python_engine {
    PyObject_HEAD emb_model *model;
    struct emb_python_engine *next; /* of all engines (account.c) */
    emb_engine *engine; /* NULL until the first use, and after close or Ctrl-C; under the GIL */
    emb_limits limits;
    emb_plan plan;         /* of the open engine; under the GIL */
    emb_machine machine;   /* that it was made for */
    uint64_t taken_bytes;  /* by rows and engines when the process was measured */
    emb_python_held *held; /* by rows on the GPU */
    emb_device_list gpus;  /* to look at; count 0: all */
    char device_by[64];    /* "EMB_DEVICE=cuda": that chose the device; empty: it did not */
    emb_python_queue turn; /* its process: that the engine's threads live in */
    bool untold;           /* the plan has a reason against a GPU that nobody has heard */
    uint64_t calls, texts, tokens_dropped, opens; /* since this object was made */
} emb_python_engine;

/* ---- all engines of the process (account.c); with the GIL ------------------------------------ */

/* Whose figures bound a plan; NULL: its own. */
typedef struct emb_python_bounds {
    const emb_python_engine *host, *device;
} emb_python_bounds;

void emb_python_account_add(emb_python_engine *self);
void emb_python_account_remove(emb_python_engine *self);

/* Lowers the budgets to the figures of the other engines that are open, on the machine's GPUs. */
void emb_python_account_bound(emb_limits *limits, emb_python_bounds *by,
                              const emb_python_engine *self, const emb_machine *machine);

/* Names in an EMB_BUDGET what the process itself holds, and the engine whose figure it was. */
void emb_python_account_blame(emb_error *error, const emb_python_bounds *by,
                              const emb_machine *machine);

/* Gives what other engines hold a line of its own in the plan. */
void emb_python_account_part(emb_plan *plan, const emb_python_engine *self);

/* After an engine was opened, and before it is closed or forgotten. */
void emb_python_account_opened(const emb_python_engine *self);
void emb_python_account_closed(const emb_python_engine *self);

/* Bytes of host memory of open engines and of rows that are alive, in this process. Any thread. */
uint64_t emb_python_account_taken(void);

/* Bytes that the figures of all open engines leave for rows now; INT64_MAX where none states one.
 * Any thread, also without the GIL. */
int64_t emb_python_account_room(void);

/* Says that so many more of rows have no room, and the ways out. self: who computes them, or NULL.
 */
void emb_python_account_refuse(const emb_python_engine *self, uint64_t bytes, emb_error *error);

/* EMB_BUDGET with that, if they have none; else EMB_OK. */
emb_status emb_python_account_claim(const emb_python_engine *self, uint64_t bytes,
                                    emb_error *error);

int emb_python_engine_register(PyObject *module);

/* Whether this is an Engine. */
bool emb_python_engine_check(PyObject *object);

/* Measuring the process, planning for it and taking the memory are one step, as each engine and
 * trainer sees what the one before has taken. Joined after an engine's own turn; -1 with an
 * exception. */
int emb_python_opening_enter(void);
void emb_python_opening_leave(void);

/* Waits for this caller's turn, with the GIL released meanwhile; -1 with an exception (signals).
 * In a child of fork the queue and the engine begin anew. */
int emb_python_engine_enter(emb_python_engine *self);
void emb_python_engine_leave(emb_python_engine *self);

/* The same after work that may have opened the engine; then tells why it is not on a GPU, if nobody
 * has been told. Gives the result, or drops it: NULL with an exception. */
PyObject *emb_python_engine_finish(emb_python_engine *self, PyObject *result);

/* Opens the engine if it is not, or gives other output; has the turn and the GIL. -1 with an
 * exception. */
int emb_python_engine_ready(emb_python_engine *self, emb_output_kind output);

/* Takes memory for rows on the engine's GPU; opens the engine anew, with a smaller plan, if the
 * budget has no room for them otherwise. Has the turn, the GIL and a ready engine. NULL with an
 * exception. (device_rows.c) */
emb_python_buffer *emb_python_engine_rows(emb_python_engine *self, int64_t count, int64_t dim);

/* Opens the engine anew so that the plan leaves so many bytes of each GPU. 0; -1 and the error, of
 * which the engine knows nothing, if it cannot; -2 with an exception. */
int emb_python_engine_make_room(emb_python_engine *self, uint64_t bytes, emb_error *error);

/* Stops the work under way and closes the engine; has the turn and the GIL. */
void emb_python_engine_discard(emb_python_engine *self);

/* Methods; engine.c says what they take. */
PyObject *emb_python_encode(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *emb_python_encode_tokens(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *emb_python_encode_column(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *emb_python_tokenize(PyObject *self, PyObject *const *arguments, Py_ssize_t count);

/* ---- trainers (trainer.c) -------------------------------------------------------------------- */

int emb_python_trainer_register(PyObject *module);

#endif
