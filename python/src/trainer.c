/* trainer.c - the type Trainer: steps, vectors and checkpoints of one model that is being trained.
 *
 * A thin face of embound_train.h: texts come from any sequence of str, and the GIL is free while
 * they are worked on. One thread at a time may call; data, schedules and files are Python's.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/vector.h"
#include "core.h"
#include "describe.h"
#include "embound_train.h"

typedef struct trainer_object {
    PyObject_HEAD emb_trainer *trainer; /* NULL once it is closed */
    PyObject *engine;                   /* whose model is trained; owned */
    emb_train_options options;
    uint32_t texts_max, dim;
    emb_text *texts;  /* [texts_max] of the call at hand */
    PyObject **bytes; /* [texts_max] that they lie in; NULL beyond */
    float *targets;   /* [batch_examples, targets_each] */
    uint32_t targets_each;
    bool busy;     /* in a call; under the GIL */
    pid_t process; /* that the trainer's threads live in */
} trainer_object;

/* ---- options --------------------------------------------------------------------------------- */

typedef enum option_kind { WHOLE, LONG, REAL } option_kind; /* uint32_t, uint64_t, float */

enum { WIDTHS = EMB_TRAIN_WIDTHS };

/* Members of emb_train_options by name. */
static const struct option {
    const char *name;
    size_t at;
    option_kind kind;
    uint32_t most; /* of a sequence; 0: one value */
} option_rows[] = {
    {"loss", offsetof(emb_train_options, loss.kind), WHOLE, 0},
    {"scale", offsetof(emb_train_options, loss.scale), REAL, 0},
    {"symmetric", offsetof(emb_train_options, loss.symmetric), WHOLE, 0},
    {"distance", offsetof(emb_train_options, loss.distance), WHOLE, 0},
    {"margin", offsetof(emb_train_options, loss.margin), REAL, 0},
    {"teacher_width", offsetof(emb_train_options, loss.teacher_width), WHOLE, 0},
    {"widths_count", offsetof(emb_train_options, loss.widths_count), WHOLE, 0},
    {"widths", offsetof(emb_train_options, loss.widths), WHOLE, WIDTHS},
    {"width_weights", offsetof(emb_train_options, loss.width_weights), REAL, WIDTHS},
    {"batch_examples", offsetof(emb_train_options, batch_examples), WHOLE, 0},
    {"example_texts", offsetof(emb_train_options, example_texts), WHOLE, 0},
    {"max_length", offsetof(emb_train_options, max_length), WHOLE, 0},
    {"tokens_per_tile", offsetof(emb_train_options, tokens_per_tile), WHOLE, 0},
    {"threads", offsetof(emb_train_options, threads), WHOLE, 0},
    {"dtype", offsetof(emb_train_options, dtype), WHOLE, 0},
    {"seed", offsetof(emb_train_options, seed), LONG, 0},
    {"dropout", offsetof(emb_train_options, dropout), REAL, 0},
    {"attention_dropout", offsetof(emb_train_options, attention_dropout), REAL, 0},
    {"learning_rate", offsetof(emb_train_options, learning_rate), REAL, 0},
    {"optimizer_bits", offsetof(emb_train_options, optimizer_bits), WHOLE, 0},
    {"beta1", offsetof(emb_train_options, beta1), REAL, 0},
    {"beta2", offsetof(emb_train_options, beta2), REAL, 0},
    {"epsilon", offsetof(emb_train_options, epsilon), REAL, 0},
    {"weight_decay", offsetof(emb_train_options, weight_decay), REAL, 0},
    {"optimizer", offsetof(emb_train_options, optimizer), WHOLE, 0},
    {"momentum", offsetof(emb_train_options, momentum), REAL, 0},
    {"nesterov", offsetof(emb_train_options, nesterov), WHOLE, 0},
    {"layer_decay", offsetof(emb_train_options, layer_decay), REAL, 0},
    {"clip_norm", offsetof(emb_train_options, clip_norm), REAL, 0},
    {"schedule", offsetof(emb_train_options, schedule), WHOLE, 0},
    {"steps", offsetof(emb_train_options, steps), LONG, 0},
    {"warmup_steps", offsetof(emb_train_options, warmup_steps), LONG, 0},
    {"accumulate", offsetof(emb_train_options, accumulate), WHOLE, 0},
    {"host_bytes_max", offsetof(emb_train_options, host_bytes_max), LONG, 0},
    {"caller_bytes", offsetof(emb_train_options, caller_bytes), LONG, 0},
};

static int read_value(char *place, const struct option *row, PyObject *value) {
    if (row->kind == REAL) {
        float real = (float)PyFloat_AsDouble(value);
        memcpy(place, &real, sizeof real);
        return PyErr_Occurred() ? -1 : 0;
    }
    unsigned long long number = PyLong_AsUnsignedLongLong(value);
    uint32_t narrow = (uint32_t)number;
    if (PyErr_Occurred()) return -1;
    if (row->kind == WHOLE && narrow != number) {
        PyErr_Format(PyExc_OverflowError, "%s=%llu is too large", row->name, number);
        return -1;
    }
    if (row->kind == WHOLE)
        memcpy(place, &narrow, sizeof narrow);
    else
        memcpy(place, &(uint64_t){number}, sizeof(uint64_t));
    return 0;
}

static int read_option(emb_train_options *out, const struct option *row, PyObject *value) {
    char *place = (char *)out + row->at;
    if (row->most == 0) return read_value(place, row, value);
    Py_ssize_t count = PySequence_Size(value);
    if (count > (Py_ssize_t)row->most)
        PyErr_Format(PyExc_ValueError, "%s: %u values at most", row->name, row->most);
    for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++) {
        PyObject *item = PySequence_GetItem(value, i);
        if (item) read_value(place + i * (Py_ssize_t)sizeof(uint32_t), row, item);
        Py_XDECREF(item);
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* Reads a dict of options over zeros; -1 with an exception. */
static int read_options(emb_train_options *out, PyObject *named) {
    Py_ssize_t left = named ? PyDict_Size(named) : 0;
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    for (size_t i = 0; i < sizeof option_rows / sizeof option_rows[0]; i++) {
        PyObject *value = named ? PyDict_GetItemString(named, option_rows[i].name) : NULL;
        if (!value) continue;
        left--;
        if (read_option(out, &option_rows[i], value) != 0) return -1;
    }
    if (left == 0) return 0;
    PyErr_Format(PyExc_TypeError, "Trainer has no such option among %R", named);
    return -1;
}

/* ---- one call at a time ---------------------------------------------------------------------- */

static PyObject *raise_training(emb_status status, const emb_error *error) {
    if (status != EMB_NOT_FINITE) return emb_python_raise(status, error);
    PyObject *errors = PyImport_ImportModule("embound._errors");
    PyObject *kind = errors ? PyObject_GetAttrString(errors, "NotFiniteError") : NULL;
    if (kind) PyErr_SetString(kind, error->message);
    Py_XDECREF(kind);
    Py_XDECREF(errors);
    return NULL;
}

/* The trainer, busy from now on; NULL with an exception. */
static trainer_object *enter(PyObject *object) {
    trainer_object *self = (trainer_object *)object;
    if (!self->trainer)
        emb_python_refuse(EMB_INVALID_ARGUMENT, 0, "the trainer is closed");
    else if (self->process != getpid())
        emb_python_refuse(EMB_DEVICE, 0,
                          "a child of fork cannot go on with a trainer, whose "
                          "threads are the parent's: make one in the child");
    else if (self->busy)
        emb_python_refuse(EMB_INVALID_ARGUMENT, 0,
                          "the trainer is at work in another thread: one at a time may call it");
    else
        self->busy = true;
    return PyErr_Occurred() ? NULL : self;
}

static void leave(trainer_object *self) {
    for (uint32_t i = 0; i < self->texts_max && self->bytes[i]; i++) Py_CLEAR(self->bytes[i]);
    self->busy = false;
}

/* ---- texts and targets ----------------------------------------------------------------------- */

/* Takes texts number `first` to `first + count` of a sequence; -1 with an exception. What was taken
 * is held until the trainer is left. */
static int take_texts(trainer_object *self, PyObject *sequence, Py_ssize_t first, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(sequence, first + (Py_ssize_t)i);
        emb_text *text = &self->texts[i];
        const char *data = NULL;
        if (!item) return -1;
        *text = (emb_text){0};
        if (PyUnicode_Check(item))
            self->bytes[i] = emb_python_utf8(item, &data, &text->length);
        else
            emb_python_refuse_item(item, first + (int64_t)i);
        Py_DECREF(item);
        if (!self->bytes[i]) return -1;
        text->data = data;
    }
    return 0;
}

/* A prompt as the library takes it; *out NULL for None. -1 with an exception. */
static int read_prompt(const char **out, PyObject *prompt) {
    Py_ssize_t length;
    *out = NULL;
    if (prompt == Py_None) return 0;
    *out = PyUnicode_AsUTF8AndSize(prompt, &length);
    if (!*out) return -1;
    if ((size_t)length == strlen(*out)) return 0;
    emb_python_refuse(EMB_INVALID_ARGUMENT, 0, "a prompt holds NUL: leave it out");
    return -1;
}

/* A prompt for each text of an example, or None. */
static int take_prompts(trainer_object *self, PyObject *prompts, uint32_t count) {
    uint32_t columns = self->options.example_texts;
    for (uint32_t k = 0; prompts != Py_None && k < columns; k++) {
        const char *prompt;
        PyObject *item = PySequence_GetItem(prompts, k);
        if (!item || read_prompt(&prompt, item) != 0) {
            Py_XDECREF(item);
            return -1;
        }
        Py_DECREF(item); /* the sequence holds it as long as the call */
        for (uint32_t i = k; i < count; i += columns) self->texts[i].prompt = prompt;
    }
    return 0;
}

/* Takes targets out of a contiguous buffer of f32; 0 if it is none, -1 with an exception. */
static int copy_targets(trainer_object *self, PyObject *targets, size_t count) {
    Py_buffer view;
    if (!PyObject_CheckBuffer(targets)) return 0;
    if (PyObject_GetBuffer(targets, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) != 0) return -1;
    bool fits = view.format && strcmp(view.format, "f") == 0 &&
                (size_t)view.len == count * sizeof *self->targets;
    if (fits) memcpy(self->targets, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return fits;
}

static int take_targets(trainer_object *self, PyObject *targets, uint32_t examples) {
    size_t count = (size_t)examples * self->targets_each;
    if (targets == Py_None) return 0;
    int copied = copy_targets(self, targets, count);
    if (copied != 0) return copied < 0 ? -1 : 0;
    if (PySequence_Size(targets) != (Py_ssize_t)count) {
        if (!PyErr_Occurred())
            emb_python_refuse(EMB_INVALID_ARGUMENT, 0, "%u examples need %zu targets", examples,
                              count);
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(targets, (Py_ssize_t)i);
        self->targets[i] = item ? (float)PyFloat_AsDouble(item) : 0;
        Py_XDECREF(item);
        if (PyErr_Occurred()) return -1;
    }
    return 0;
}

/* ---- steps and vectors ----------------------------------------------------------------------- */

/* How many texts there are, if that is a batch of whole examples; 0 with an exception. */
static uint32_t count_texts(const trainer_object *self, PyObject *texts) {
    Py_ssize_t count = PyUnicode_Check(texts) ? 0 : PySequence_Size(texts);
    uint32_t columns = self->options.example_texts;
    if (count > 0 && count % (Py_ssize_t)columns == 0 && count <= (Py_ssize_t)self->texts_max)
        return (uint32_t)count;
    if (!PyErr_Occurred())
        emb_python_refuse(EMB_INVALID_ARGUMENT, 0,
                          "a step takes 1 to %u examples of %u texts, one behind the other",
                          self->options.batch_examples, columns);
    return 0;
}

static PyObject *run_step(trainer_object *self, PyObject *texts, PyObject *targets,
                          PyObject *prompts) {
    uint32_t count = count_texts(self, texts), examples = count / self->options.example_texts;
    if (!count || take_texts(self, texts, 0, count) != 0 ||
        take_prompts(self, prompts, count) != 0 || take_targets(self, targets, examples) != 0)
        return NULL;
    emb_train_step step = {0};
    emb_error error = {0};
    emb_status status;
    const float *values = targets == Py_None ? NULL : self->targets;
    Py_BEGIN_ALLOW_THREADS;
    status = emb_trainer_step(&step, self->trainer, self->texts, values, examples, &error);
    Py_END_ALLOW_THREADS if (status != EMB_OK) return raise_training(status, &error);
    return Py_BuildValue("{s:K,s:N,s:d,s:d,s:d,s:K,s:K,s:d}", "step", (unsigned long long)step.step,
                         "updated", PyBool_FromLong((long)step.updated), "loss", step.loss,
                         "gradient_norm", step.gradient_norm, "learning_rate", step.learning_rate,
                         "tokens", (unsigned long long)step.tokens, "truncated",
                         (unsigned long long)step.truncated, "seconds", step.seconds);
}

static PyObject *trainer_step(PyObject *object, PyObject *const *arguments, Py_ssize_t count) {
    if (count != 3) return PyErr_Format(PyExc_TypeError, "step takes texts, targets, prompts");
    trainer_object *self = enter(object);
    if (!self) return NULL;
    PyObject *result = run_step(self, arguments[0], arguments[1], arguments[2]);
    leave(self);
    return result;
}

/* Vectors of a batch of texts, to the first rows of `out`: kept values, then normalised. */
static emb_status encode_batch(trainer_object *self, float *out, uint32_t count, int64_t dim,
                               bool normalize, emb_error *error) {
    const float *vectors;
    emb_status status = emb_trainer_encode(&vectors, self->trainer, self->texts, count, error);
    for (uint32_t i = 0; status == EMB_OK && i < count; i++) {
        memcpy(out + i * dim, vectors + (size_t)i * self->dim, (size_t)dim * sizeof *out);
        if (normalize) emb_vector_normalize(out + i * dim, (size_t)dim);
    }
    return status;
}

static int fill_rows(trainer_object *self, emb_python_buffer *rows, PyObject *texts,
                     const char *prompt, bool normalize) {
    for (int64_t first = 0; first < rows->count;) {
        int64_t left = rows->count - first;
        uint32_t count = left < self->texts_max ? (uint32_t)left : self->texts_max;
        if (take_texts(self, texts, (Py_ssize_t)first, count) != 0) return -1;
        for (uint32_t i = 0; i < count; i++) self->texts[i].prompt = prompt;
        emb_error error = {0};
        emb_status status;
        Py_BEGIN_ALLOW_THREADS;
        status = encode_batch(self, rows->values + first * rows->dim, count, rows->dim, normalize,
                              &error);
        Py_END_ALLOW_THREADS leave(self);
        self->busy = true;
        if (status != EMB_OK) {
            raise_training(status, &error);
            return -1;
        }
        if (PyErr_CheckSignals() != 0) return -1;
        first += count;
    }
    return 0;
}

static PyObject *encode(trainer_object *self, PyObject *texts, const char *prompt, int64_t dim,
                        bool normalize, bool single) {
    Py_ssize_t count = PySequence_Size(texts);
    if (count < 0) return NULL;
    if (dim < 0 || dim > self->dim) dim = self->dim;
    emb_python_buffer *rows = emb_python_buffer_open(count, dim);
    if (!rows) return PyErr_NoMemory();
    if (fill_rows(self, rows, texts, prompt, normalize) == 0)
        return emb_python_rows_make(rows, single);
    emb_python_buffer_drop(rows);
    return NULL;
}

static PyObject *trainer_encode(PyObject *object, PyObject *const *arguments, Py_ssize_t count) {
    const char *prompt;
    if (count != 4)
        return PyErr_Format(PyExc_TypeError, "encode takes texts, prompt, dim, normalize");
    int64_t dim = PyLong_AsLongLong(arguments[2]);
    int normalize = PyObject_IsTrue(arguments[3]);
    if (PyErr_Occurred() || read_prompt(&prompt, arguments[1]) != 0) return NULL;
    trainer_object *self = enter(object);
    if (!self) return NULL;
    bool single = PyUnicode_Check(arguments[0]);
    PyObject *texts = single ? PyTuple_Pack(1, arguments[0]) : Py_NewRef(arguments[0]);
    PyObject *rows = texts ? encode(self, texts, prompt, dim, normalize > 0, single) : NULL;
    leave(self);
    Py_XDECREF(texts);
    return rows;
}

/* ---- files ----------------------------------------------------------------------------------- */

typedef emb_status (*writer)(emb_trainer *trainer, const char *path, uint32_t overwrite,
                             emb_error *error);

static PyObject *write_model(PyObject *object, PyObject *arguments, writer write) {
    PyObject *path;
    int overwrite = 0;
    if (!PyArg_ParseTuple(arguments, "O&|p", PyUnicode_FSConverter, &path, &overwrite)) return NULL;
    trainer_object *self = enter(object);
    emb_error error = {0};
    emb_status status = EMB_OK;
    if (self) {
        const char *name = PyBytes_AsString(path);
        Py_BEGIN_ALLOW_THREADS;
        status = write(self->trainer, name, overwrite != 0, &error);
        Py_END_ALLOW_THREADS leave(self);
    }
    Py_DECREF(path);
    if (!self) return NULL;
    return status == EMB_OK ? Py_NewRef(Py_None) : raise_training(status, &error);
}

static PyObject *trainer_save(PyObject *object, PyObject *arguments) {
    return write_model(object, arguments, emb_trainer_save);
}

static PyObject *trainer_try_save(PyObject *object, PyObject *arguments) {
    return write_model(object, arguments, emb_trainer_try_save);
}

enum { MARKS = sizeof((emb_train_mark){0}.numbers) / sizeof(uint64_t) };

static int read_mark(emb_train_mark *mark, PyObject *numbers) {
    Py_ssize_t count = PySequence_Size(numbers);
    memset(mark, 0, sizeof *mark);
    if (count > MARKS) PyErr_Format(PyExc_ValueError, "a mark has at most %d numbers", (int)MARKS);
    for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++) {
        PyObject *item = PySequence_GetItem(numbers, i);
        if (item) mark->numbers[i] = PyLong_AsUnsignedLongLong(item);
        Py_XDECREF(item);
    }
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *trainer_store(PyObject *object, PyObject *arguments) {
    PyObject *path, *numbers;
    emb_train_mark mark;
    if (!PyArg_ParseTuple(arguments, "O&O", PyUnicode_FSConverter, &path, &numbers)) return NULL;
    trainer_object *self = read_mark(&mark, numbers) == 0 ? enter(object) : NULL;
    emb_error error = {0};
    emb_status status = EMB_OK;
    if (self) {
        const char *name = PyBytes_AsString(path);
        Py_BEGIN_ALLOW_THREADS;
        status = emb_trainer_store(self->trainer, name, &mark, &error);
        Py_END_ALLOW_THREADS leave(self);
    }
    Py_DECREF(path);
    if (!self) return NULL;
    return status == EMB_OK ? Py_NewRef(Py_None) : raise_training(status, &error);
}

static PyObject *trainer_resume(PyObject *object, PyObject *arguments) {
    PyObject *path;
    if (!PyArg_ParseTuple(arguments, "O&", PyUnicode_FSConverter, &path)) return NULL;
    trainer_object *self = enter(object);
    emb_train_mark mark;
    emb_error error = {0};
    emb_status status = EMB_OK;
    if (self) {
        const char *name = PyBytes_AsString(path);
        Py_BEGIN_ALLOW_THREADS;
        status = emb_trainer_resume(&mark, self->trainer, name, &error);
        Py_END_ALLOW_THREADS leave(self);
    }
    Py_DECREF(path);
    if (!self) return NULL;
    if (status != EMB_OK) return emb_python_raise(status, &error);
    PyObject *numbers = PyTuple_New(MARKS);
    for (Py_ssize_t i = 0; numbers && i < MARKS; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(mark.numbers[i]);
        if (!number || PyTuple_SetItem(numbers, i, number) != 0) Py_CLEAR(numbers);
    }
    return numbers;
}

/* ---- what it is ------------------------------------------------------------------------------ */

static PyObject *trainer_plan(PyObject *object, PyObject *unused) {
    (void)unused;
    const trainer_object *self = (trainer_object *)object;
    emb_train_plan plan;
    if (!self->trainer) return emb_python_refuse(EMB_INVALID_ARGUMENT, 0, "the trainer is closed");
    emb_trainer_plan(&plan, self->trainer);
    return Py_BuildValue("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:K,s:K,s:K,s:[N]}", "tokens_per_tile",
                         plan.tokens_per_tile, "tiles", plan.tiles, "tiles_kept", plan.tiles_kept,
                         "attention_kept", plan.attention_kept, "ffn_kept", plan.ffn_kept, "layers",
                         plan.layers, "layers_apart", plan.layers_apart, "threads", plan.threads,
                         "host_bytes", (unsigned long long)plan.host_bytes, "host_bytes_min",
                         (unsigned long long)plan.host_bytes_min, "host_bytes_max",
                         (unsigned long long)self->options.host_bytes_max, "regions",
                         emb_python_describe_region(&plan.region));
}

static PyObject *trainer_stats(PyObject *object, PyObject *unused) {
    (void)unused;
    const trainer_object *self = (trainer_object *)object;
    emb_train_stats stats;
    if (!self->trainer) return emb_python_refuse(EMB_INVALID_ARGUMENT, 0, "the trainer is closed");
    emb_trainer_stats(&stats, self->trainer);
    return Py_BuildValue(
        "{s:K,s:K,s:K,s:K,s:d,s:K,s:K,s:K}", "steps", (unsigned long long)stats.steps, "examples",
        (unsigned long long)stats.examples, "tokens", (unsigned long long)stats.tokens, "truncated",
        (unsigned long long)stats.truncated, "seconds", stats.seconds, "host_bytes_planned",
        (unsigned long long)stats.host_bytes_planned, "host_bytes_now",
        (unsigned long long)stats.host_bytes_now, "host_bytes_peak",
        (unsigned long long)stats.host_bytes_peak);
}

static PyObject *trainer_is_open(PyObject *object, void *unused) {
    (void)unused;
    return PyBool_FromLong(((const trainer_object *)object)->trainer != NULL);
}

/* In a child of fork the memory stays taken: closing would wait for threads that are not there. */
static void close_trainer(trainer_object *self) {
    emb_trainer *trainer = self->trainer;
    self->trainer = NULL;
    if (!trainer || self->process != getpid()) return;
    Py_BEGIN_ALLOW_THREADS;
    emb_trainer_close(trainer);
    Py_END_ALLOW_THREADS
}

static PyObject *trainer_close(PyObject *object, PyObject *unused) {
    (void)unused;
    trainer_object *self = (trainer_object *)object;
    if (self->busy)
        return emb_python_refuse(EMB_INVALID_ARGUMENT, 0,
                                 "the trainer is at work in another thread");
    close_trainer(self);
    Py_RETURN_NONE;
}

/* ---- the type -------------------------------------------------------------------------------- */

static int open_trainer(trainer_object *self) {
    const emb_model *model = ((emb_python_engine *)self->engine)->model;
    emb_model_info info;
    emb_error error = {0};
    emb_status status;
    emb_model_describe(&info, model);
    self->dim = info.dim;
    self->process = getpid();
    if (emb_python_opening_enter() != 0) return -1;
    Py_BEGIN_ALLOW_THREADS;
    status = emb_trainer_open(&self->trainer, model, &self->options, &error);
    Py_END_ALLOW_THREADS emb_python_opening_leave();
    if (status == EMB_OK) return 0;
    emb_python_raise(status, &error);
    return -1;
}

/* What a call holds of the caller's, before the trainer measures the process. */
static int take_room(trainer_object *self) {
    const emb_train_options *o = &self->options;
    uint64_t texts = (uint64_t)o->batch_examples * o->example_texts;
    self->texts_max = texts < UINT32_MAX / 2 ? (uint32_t)texts : 0; /* the library refuses more */
    self->texts = calloc((size_t)self->texts_max + 1, sizeof *self->texts);
    self->bytes = calloc((size_t)self->texts_max + 1, sizeof *self->bytes);
    self->targets_each =
        o->loss.kind == EMB_LOSS_DISTILL ? o->example_texts * o->loss.teacher_width : 1;
    self->targets =
        calloc((size_t)o->batch_examples * self->targets_each + 1, sizeof *self->targets);
    if (self->texts && self->bytes && self->targets) return 0;
    PyErr_NoMemory();
    return -1;
}

static PyObject *trainer_new(PyTypeObject *type, PyObject *arguments, PyObject *named) {
    PyObject *engine;
    if (!PyArg_ParseTuple(arguments, "O:Trainer", &engine)) return NULL;
    if (!emb_python_engine_check(engine))
        return PyErr_Format(PyExc_TypeError, "Trainer takes an Engine and options by name");
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    trainer_object *self = (trainer_object *)allocate(type, 0);
    if (!self) return NULL;
    self->engine = Py_NewRef(engine);
    if (read_options(&self->options, named) != 0 || take_room(self) != 0 || open_trainer(self) != 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void trainer_free(PyObject *object) {
    trainer_object *self = (trainer_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    close_trainer(self);
    free(self->texts);
    free(self->bytes);
    free(self->targets);
    Py_XDECREF(self->engine);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static PyMethodDef trainer_methods[] = {
    {"step", (PyCFunction)(void (*)(void))trainer_step, METH_FASTCALL,
     "step(texts, targets, prompts) -> dict: texts of all examples, one behind the other; targets "
     "or "
     "None; for each text of an example a prompt or None, or None"},
    {"encode", (PyCFunction)(void (*)(void))trainer_encode, METH_FASTCALL,
     "encode(texts, prompt, dim, normalize) -> Rows, by the parameters as they are now"},
    {"save", trainer_save, METH_VARARGS, "save(path, overwrite): the model into a new directory."},
    {"try_save", trainer_try_save, METH_VARARGS, "Whether save could; leaves nothing."},
    {"store", trainer_store, METH_VARARGS,
     "store(path, numbers): the whole state as one file, with up to eight numbers."},
    {"resume", trainer_resume, METH_VARARGS, "resume(path) -> the numbers; goes on from there."},
    {"plan", trainer_plan, METH_NOARGS, "What the trainer takes, as a dict."},
    {"stats", trainer_stats, METH_NOARGS, "Counters since open, bytes of the process, as a dict."},
    {"close", trainer_close, METH_NOARGS, "Gives the trainer's memory back."},
    {0},
};

static PyGetSetDef trainer_properties[] = {
    {"is_open", trainer_is_open, NULL, "Whether it has not been closed.", NULL},
    {0},
};

static PyType_Slot trainer_slots[] = {
    {Py_tp_new, trainer_new},
    {Py_tp_dealloc, trainer_free},
    {Py_tp_methods, trainer_methods},
    {Py_tp_getset, trainer_properties},
    {Py_tp_doc,
     "Trainer(engine, **options): trains the engine's model; embound_train.h's options."},
    {0, NULL},
};

static PyType_Spec trainer_spec = {
    .name = "embound._core.Trainer",
    .basicsize = sizeof(trainer_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = trainer_slots,
};

int emb_python_trainer_register(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &trainer_spec, NULL);
    int status = type ? PyModule_AddObjectRef(module, "Trainer", type) : -1;
    Py_XDECREF(type);
    return status;
}
