/* encode.c - texts in, rows out: submit and collect with the GIL released, signals looked at often.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/vector.h"
#include "core.h"

#define COLLECT_ROWS 256

/* One call of encode. */
typedef struct encode_job {
    const emb_python_engine *self;
    emb_engine *engine;
    emb_python_buffer *out;   /* [texts, dim]; NULL for vectors of tokens: */
    emb_python_buffer **outs; /* [texts] of [tokens, dim], NULL until there */
    uint32_t engine_dim;
    float *stage; /* [COLLECT_ROWS, dim]: what the host still changes before rows go to the GPU */
    bool no_memory;
    uint64_t no_room_bytes; /* of the first row that the stated memory has no room for */
    emb_python_texts *texts;
    PyObject *progress; /* called with the rows done so far; NULL: none */
    bool normalize;
    uint32_t sent; /* pieces of the slab that the engine has taken */
    bool open;     /* the last piece sent does not end its text */
    int64_t due;   /* texts sent */
    int64_t got;   /* rows collected */
    uint64_t texts_cut, tokens_dropped;
    emb_status failed; /* of the first failed text */
    uint64_t failed_text;
    emb_error error;
} encode_job;

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void place_tokens(encode_job *job, const emb_row *row) {
    uint64_t bytes = row->tokens * job->engine_dim * sizeof(float);
    if (!job->no_room_bytes && (int64_t)bytes > emb_python_account_room())
        job->no_room_bytes = bytes; /* how many tokens there are is not known before */
    if (job->no_room_bytes) return;
    emb_python_buffer *out = emb_python_buffer_open((int64_t)row->tokens, job->engine_dim);
    job->outs[row->user] = out;
    if (!out)
        job->no_memory = true;
    else if (row->tokens)
        memcpy(out->values, row->values, bytes);
}

/* Keeps the first dim values, then normalises: the order of sentence-transformers. */
static void place_vector(float *values, const encode_job *job, const emb_row *row) {
    int64_t dim = job->out->dim;
    if (dim) memcpy(values, row->values, (size_t)dim * sizeof *values);
    if (!job->normalize || row->status != EMB_OK) return;
    emb_vector_normalize(values, (size_t)dim);
}

static void place_row(encode_job *job, const emb_row *row) {
    if (job->outs)
        place_tokens(job, row);
    else if (!job->out->held)
        place_vector(job->out->values + (int64_t)row->user * job->out->dim, job, row);
    job->texts_cut += row->tokens_dropped != 0;
    job->tokens_dropped += row->tokens_dropped;
    if (row->status != EMB_OK && (job->failed == EMB_OK || row->user < job->failed_text)) {
        job->failed = row->status;
        job->failed_text = row->user;
    }
}

/* Rows come in the order of the texts: from the pinned window to the GPU in few copies. */
static emb_status upload(encode_job *job, emb_row *rows, uint32_t count) {
    if (count == 0 || job->out->dim == 0) return EMB_OK;
    for (uint32_t i = 0; job->normalize && i < count; i++) {
        float *values = job->stage + (int64_t)i * job->out->dim;
        place_vector(values, job, &rows[i]);
        rows[i].values = values;
    }
    return emb_device_rows_put(&job->out->device, rows->user, rows, count, &job->error);
}

static emb_status collect(encode_job *job) {
    emb_row rows[COLLECT_ROWS];
    uint32_t count = 0;
    emb_status status = emb_engine_collect(job->engine, rows, COLLECT_ROWS, &count,
                                           EMB_PYTHON_WAIT_MS, &job->error);
    for (uint32_t i = 0; i < count; i++) place_row(job, &rows[i]);
    job->got += count;
    if (status == EMB_OK && job->no_room_bytes) return EMB_BUDGET;
    if (status == EMB_OK && job->out && job->out->held) status = upload(job, rows, count);
    return status;
}

/* Sends the slab. EMB_TIMEOUT: time to look for signals, then call again. */
static emb_status send_slab(encode_job *job) {
    double until = seconds_now() + 1e-3 * EMB_PYTHON_WAIT_MS;
    const emb_python_texts *texts = job->texts;
    while (job->sent < texts->pieces_count) {
        uint32_t taken = 0;
        emb_status status = emb_engine_submit(job->engine, texts->pieces + job->sent,
                                              texts->pieces_count - job->sent, &taken, &job->error);
        job->sent += taken;
        if (status == EMB_OK && job->sent < texts->pieces_count) status = collect(job);
        if (status != EMB_OK) return status;
        if (job->sent < texts->pieces_count && seconds_now() > until) return EMB_TIMEOUT;
    }
    return EMB_OK;
}

/* Collects every row of what was sent. EMB_TIMEOUT as above. */
static emb_status finish(encode_job *job) {
    double until = seconds_now() + 1e-3 * EMB_PYTHON_WAIT_MS;
    while (job->got < job->due) {
        emb_engine_flush(job->engine);
        emb_status status = collect(job);
        if (status != EMB_OK) return status;
        if (job->got < job->due && seconds_now() > until) return EMB_TIMEOUT;
    }
    return EMB_OK;
}

static int report(encode_job *job) {
    if (PyErr_CheckSignals() != 0) return -1;
    if (!job->progress) return 0;
    PyObject *done = PyLong_FromLongLong(job->got);
    PyObject *result = done ? PyObject_CallFunctionObjArgs(job->progress, done, NULL) : NULL;
    Py_XDECREF(done);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* Runs one of the two steps to its end; -1 with an exception, after which the engine is undefined.
 */
static int drive(encode_job *job, emb_status (*step)(encode_job *)) {
    for (;;) {
        emb_status status;
        Py_BEGIN_ALLOW_THREADS;
        status = step(job);
        Py_END_ALLOW_THREADS if (status == EMB_OK) return 0;
        if (status == EMB_BUDGET && job->no_room_bytes)
            emb_python_account_refuse(job->self, job->no_room_bytes, &job->error);
        if (status != EMB_TIMEOUT) {
            emb_python_raise(status, &job->error);
            return -1;
        }
        if (report(job) != 0) return -1;
    }
}

static int run(encode_job *job) {
    int more;
    while ((more = emb_python_texts_fill(job->texts)) > 0) {
        job->sent = 0;
        if (drive(job, send_slab) != 0) return -1;
        job->open = !(job->texts->pieces[job->sent - 1].flags & EMB_PIECE_LAST);
        job->due = job->texts->next;
        if (job->progress && report(job) != 0) return -1;
    }
    if (more < 0 && job->open) return -1; /* the text's end was never sent, and cannot be now */
    if (more < 0) {
        /* what was sent before the text that cannot be taken must leave the engine */
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        job->progress = NULL;
        int status = drive(job, finish);
        if (status == 0) PyErr_Restore(type, value, traceback);
        return status == 0 ? 1 : -1;
    }
    if (drive(job, finish) != 0) return -1;
    return job->progress ? report(job) : 0;
}

/* Raises what stopped the first failed text. */
static PyObject *raise_text(const encode_job *job) {
    emb_error error = {0};
    PyOS_snprintf(error.message, sizeof error.message, "text %llu %s",
                  (unsigned long long)job->failed_text,
                  job->failed == EMB_TOO_LONG
                      ? "is longer than the limit of tokens; long='truncate' or 'chunk' takes it"
                  : job->failed == EMB_NOT_FINITE
                      ? "has a vector that is not finite: the model's weights overflow"
                      : "cannot be encoded");
    error.bytes_min = job->failed_text;
    return emb_python_raise(job->failed, &error);
}

/* Runs the job, then closes the engine if it was stopped in the middle. 0 if all rows are there. */
static int run_whole(encode_job *job, emb_python_engine *self) {
    int status = run(job);
    emb_python_texts_release(job->texts);
    Py_CLEAR(job->texts->text);
    if (status < 0) {
        /* an exception is set; closing must not lose it */
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        emb_python_engine_discard(self);
        PyErr_Restore(type, value, traceback);
    }
    if (status == 0 && job->no_memory) {
        PyErr_NoMemory();
        status = 1;
    }
    if (status == 0 && job->failed != EMB_OK) {
        raise_text(job);
        status = 1;
    }
    if (status == 0) {
        self->calls++;
        self->texts += (uint64_t)job->texts->count;
        self->tokens_dropped += job->tokens_dropped;
    }
    return status;
}

static PyObject *result_of(const encode_job *job, PyObject *rows) {
    if (!rows) return NULL;
    return Py_BuildValue("(NKK)", rows, (unsigned long long)job->texts_cut,
                         (unsigned long long)job->tokens_dropped);
}

/* What the call asks for beside the texts. */
typedef struct encode_options {
    int64_t dim; /* -1: all */
    bool normalize, single, on_device;
    uint64_t beside;    /* bytes per row that the caller makes of it in host memory */
    PyObject *progress; /* NULL: none */
} encode_options;

/* Memory for the rows, before any work; has a ready engine, which may be another afterwards. */
static int open_out(encode_job *job, emb_python_engine *self, const encode_options *options) {
    int64_t dim = options->dim;
    if (dim < 0 || dim > self->plan.dim) dim = self->plan.dim;
    if (options->on_device) {
        job->out = emb_python_engine_rows(self, job->texts->count, dim);
        if (!job->out) return -1;
        if (job->normalize) job->stage = malloc(((size_t)dim + 1) * COLLECT_ROWS * sizeof(float));
    } else {
        uint64_t bytes = (uint64_t)job->texts->count;
        if (__builtin_mul_overflow(bytes, (uint64_t)dim * sizeof(float) + options->beside, &bytes))
            bytes = INT64_MAX;
        emb_status status = emb_python_account_claim(self, bytes, &job->error);
        if (status != EMB_OK) {
            emb_python_raise(status, &job->error);
            return -1;
        }
        job->out = emb_python_buffer_open(job->texts->count, dim);
    }
    job->engine = self->engine;
    if (job->out && (job->stage || !options->on_device || !job->normalize)) return 0;
    PyErr_NoMemory();
    return -1;
}

static PyObject *encode(emb_python_engine *self, emb_python_texts *texts,
                        const encode_options *options) {
    if (emb_python_engine_enter(self) != 0) return NULL;
    PyObject *result = NULL;
    encode_job job = {.self = self,
                      .texts = texts,
                      .normalize = options->normalize,
                      .progress = options->progress};
    if (emb_python_engine_ready(self, EMB_OUTPUT_TEXT) == 0) {
        if (open_out(&job, self, options) == 0 && run_whole(&job, self) == 0) {
            emb_python_buffer_hold(job.out);
            result = result_of(&job, emb_python_rows_make(job.out, options->single));
        }
        free(job.stage);
        emb_python_buffer_drop(job.out);
    }
    return emb_python_engine_finish(self, result);
}

/* The buffers as a list of Rows, which take them over. */
static PyObject *rows_of(emb_python_buffer **outs, int64_t count) {
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (int64_t i = 0; list && i < count; i++) {
        PyObject *rows = emb_python_rows_make(outs[i], false);
        outs[i] = NULL;
        if (!rows || PyList_SetItem(list, (Py_ssize_t)i, rows) != 0) Py_CLEAR(list);
    }
    return list;
}

static PyObject *encode_tokens(emb_python_engine *self, emb_python_texts *texts) {
    if (emb_python_engine_enter(self) != 0) return NULL;
    PyObject *result = NULL;
    size_t count = (size_t)texts->count;
    encode_job job = {
        .self = self, .texts = texts, .outs = calloc(count ? count : 1, sizeof *job.outs)};
    if (!job.outs) {
        PyErr_NoMemory();
    } else if (emb_python_engine_ready(self, EMB_OUTPUT_TOKENS) == 0) {
        job.engine = self->engine;
        job.engine_dim = self->plan.dim;
        if (run_whole(&job, self) == 0) result = result_of(&job, rows_of(job.outs, texts->count));
    }
    for (size_t i = 0; job.outs && i < count; i++) emb_python_buffer_drop(job.outs[i]);
    free(job.outs);
    return emb_python_engine_finish(self, result);
}

static int read_prompt(emb_python_texts *texts, PyObject *prompt) {
    if (prompt == Py_None) return 0;
    Py_ssize_t length;
    texts->prompt = PyUnicode_AsUTF8AndSize(prompt, &length);
    texts->prompt_length = (size_t)length;
    return texts->prompt ? 0 : -1;
}

/* prompt, dim, normalize, progress, on_device, beside: the last arguments of both methods. */
static int read_options(emb_python_texts *texts, encode_options *options,
                        PyObject *const *arguments) {
    memset(options, 0, sizeof *options);
    if (read_prompt(texts, arguments[0]) != 0) return -1;
    options->dim = PyLong_AsLongLong(arguments[1]);
    if (options->dim == -1 && PyErr_Occurred()) return -1;
    int normalize = PyObject_IsTrue(arguments[2]), on_device = PyObject_IsTrue(arguments[4]);
    options->normalize = normalize > 0;
    options->on_device = on_device > 0;
    options->beside = PyLong_AsUnsignedLongLong(arguments[5]);
    if (PyErr_Occurred()) return -1;
    options->progress = arguments[3] == Py_None ? NULL : arguments[3];
    return normalize < 0 || on_device < 0 ? -1 : 0;
}

PyObject *emb_python_encode(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    emb_python_texts texts;
    encode_options options;
    memset(&texts, 0, offsetof(emb_python_texts, held));
    if (count != 7) return PyErr_Format(PyExc_TypeError, "encode takes 7 arguments");
    if (read_options(&texts, &options, arguments + 1) != 0) return NULL;
    options.single = PyUnicode_Check(arguments[0]);
    PyObject *list = options.single ? PyList_New(1) : Py_NewRef(arguments[0]);
    if (list && options.single) PyList_SetItem(list, 0, Py_NewRef(arguments[0]));
    if (!list) return NULL;
    PyObject *result = NULL;
    if (PyList_Check(list)) {
        texts.list = list;
        texts.count = PyList_Size(list);
        result = encode((emb_python_engine *)self, &texts, &options);
    } else {
        PyErr_SetString(PyExc_TypeError, "a str or a list of str is needed");
    }
    Py_DECREF(list);
    return result;
}

PyObject *emb_python_encode_tokens(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    emb_python_texts texts;
    memset(&texts, 0, offsetof(emb_python_texts, held));
    if (count != 2 || !PyList_Check(arguments[0]))
        return PyErr_Format(PyExc_TypeError, "encode_tokens takes a list of str and a prompt");
    if (read_prompt(&texts, arguments[1]) != 0) return NULL;
    texts.list = arguments[0];
    texts.count = PyList_Size(texts.list);
    return encode_tokens((emb_python_engine *)self, &texts);
}

PyObject *emb_python_encode_column(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    emb_python_texts texts;
    encode_options options;
    memset(&texts, 0, offsetof(emb_python_texts, held));
    if (count != 9) return PyErr_Format(PyExc_TypeError, "encode_column takes 9 arguments");
    if (read_options(&texts, &options, arguments + 3) != 0) return NULL;
    texts.column = emb_python_column_open(arguments[0] == Py_None ? NULL : arguments[0],
                                          arguments[1], arguments[2]);
    if (!texts.column) return NULL;
    texts.count = emb_python_column_count(texts.column);
    PyObject *result = encode((emb_python_engine *)self, &texts, &options);
    emb_python_column_close(texts.column);
    return result;
}

/* ---- token ids ------------------------------------------------------------------------------- */

/* Ids written so far, behind the special ones that stand before them. */
typedef struct token_ids {
    emb_specials specials;
    uint32_t *ids;
    size_t count, capacity;
} token_ids;

/* Adds the ids of a str; of a long one no more is read than fills them. -1 with an exception. */
static int add_ids(token_ids *out, emb_tokenizer_handle *tokenizer, PyObject *text, uint32_t flags,
                   uint32_t last) {
    Py_ssize_t at = 0, length = PyUnicode_GetLength(text);
    do {
        const char *data;
        size_t bytes, used = 0, count = 0;
        PyObject *held = emb_python_slice(text, &at, &data, &bytes);
        if (!held) return -1;
        if (at == length) flags |= last;
        uint32_t done = 0;
        emb_error error = {0};
        emb_status status = emb_tokenize(tokenizer, data, bytes, flags,
                                         out->ids + out->specials.before + out->count,
                                         out->capacity - out->count, &used, &count, &done, &error);
        Py_DECREF(held);
        if (status != EMB_OK) {
            emb_python_raise(status, &error);
            return -1;
        }
        out->count += count;
        flags = 0;
    } while (at < length && out->count < out->capacity);
    return 0;
}

/* One text's ids, the prompt's first, between the special ones. prompt: NULL for none. */
static PyObject *tokenize_one(emb_tokenizer_handle *tokenizer, PyObject *prompt, PyObject *text,
                              token_ids *out) {
    uint32_t flags = EMB_PIECE_FIRST;
    out->count = 0;
    if (prompt) {
        if (add_ids(out, tokenizer, prompt, flags, 0) != 0) return NULL;
        flags = 0;
    }
    if (out->count < out->capacity && add_ids(out, tokenizer, text, flags, EMB_PIECE_LAST) != 0)
        return NULL;
    const emb_specials *specials = &out->specials;
    uint32_t *behind = out->ids + specials->before + out->count;
    memcpy(out->ids, specials->ids, specials->before * sizeof *out->ids);
    memcpy(behind, specials->ids + specials->before, specials->after * sizeof *out->ids);
    behind += specials->after;
    return PyBytes_FromStringAndSize((const char *)out->ids,
                                     (Py_ssize_t)((size_t)(behind - out->ids) * sizeof *out->ids));
}

PyObject *emb_python_tokenize(PyObject *object, PyObject *const *arguments, Py_ssize_t count) {
    if (count != 3 || !PyList_Check(arguments[0]))
        return PyErr_Format(PyExc_TypeError, "tokenize takes a list of str, a prompt, a number");
    unsigned long capacity = PyLong_AsUnsignedLong(arguments[2]);
    if (PyErr_Occurred()) return NULL;
    const emb_model *model = ((emb_python_engine *)object)->model;
    token_ids ids = {0};
    emb_model_specials(&ids.specials, model);
    uint32_t around = ids.specials.before + ids.specials.after;
    if (capacity <= around || capacity > 1u << 20)
        return PyErr_Format(PyExc_ValueError, "tokens_max %lu: state %u to 1048576", capacity,
                            around + 1);
    PyObject *prompt = arguments[1] == Py_None ? NULL : arguments[1];
    emb_tokenizer_handle *tokenizer = NULL;
    emb_error error = {0};
    emb_status status = emb_tokenizer_open(&tokenizer, model, &error);
    if (status != EMB_OK) return emb_python_raise(status, &error);
    ids.ids = PyMem_Malloc(capacity * sizeof *ids.ids);
    ids.capacity = capacity - around;
    PyObject *out = ids.ids ? PyList_New(0) : PyErr_NoMemory();
    for (Py_ssize_t i = 0; out && i < PyList_Size(arguments[0]); i++) {
        PyObject *one = tokenize_one(tokenizer, prompt, PyList_GetItem(arguments[0], i), &ids);
        if (!one || PyList_Append(out, one) != 0) Py_CLEAR(out);
        Py_XDECREF(one);
    }
    PyMem_Free(ids.ids);
    emb_tokenizer_close(tokenizer);
    return out;
}
