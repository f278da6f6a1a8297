/* engine.c - the type Engine: one model, its limits, and at most one open engine, used in turn.
 *
 * The engine is opened on first use and again after Ctrl-C or fork. Callers of many threads queue
 * in the order they come; the GIL is free while they wait and while the engine works.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core.h"
#include "describe.h"

/* ---- one caller at a time -------------------------------------------------------------------- */

static void begin_queue(emb_python_queue *queue) {
    pthread_mutex_init(&queue->mutex, NULL);
    queue->busy = false;
    queue->first = queue->last = NULL;
    queue->process = getpid();
}

static void remove_waiter(emb_python_queue *queue, emb_python_waiter *waiter) {
    emb_python_waiter **link = &queue->first, *before = NULL;
    while (*link && *link != waiter) {
        before = *link;
        link = &(*link)->next;
    }
    if (!*link) return;
    *link = waiter->next;
    if (queue->last == waiter) queue->last = before;
}

/* Hands the turn to who has waited longest. Has the mutex. */
static void pass_turn(emb_python_queue *queue) {
    emb_python_waiter *waiter = queue->first;
    queue->busy = waiter != NULL;
    if (!waiter) return;
    remove_waiter(queue, waiter);
    waiter->granted = true;
    pthread_cond_signal(&waiter->turn);
}

/* Waits some milliseconds; true once it is this caller's turn. */
static bool wait_turn(emb_python_queue *queue, emb_python_waiter *waiter) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += EMB_PYTHON_WAIT_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&queue->mutex);
    int status = 0;
    while (!waiter->granted && status != ETIMEDOUT)
        status = pthread_cond_timedwait(&waiter->turn, &queue->mutex, &until);
    bool granted = waiter->granted;
    pthread_mutex_unlock(&queue->mutex);
    return granted;
}

/* Waits with the GIL released; -1 with an exception (signals). */
static int join_queue(emb_python_queue *queue) {
    emb_python_waiter waiter = {0};
    pthread_cond_init(&waiter.turn, NULL);
    pthread_mutex_lock(&queue->mutex);
    bool granted = !queue->busy;
    if (granted) {
        queue->busy = true;
    } else {
        if (queue->last) queue->last->next = &waiter;
        if (!queue->first) queue->first = &waiter;
        queue->last = &waiter;
    }
    pthread_mutex_unlock(&queue->mutex);
    int interrupted = 0;
    while (!granted && !interrupted) {
        Py_BEGIN_ALLOW_THREADS;
        granted = wait_turn(queue, &waiter);
        Py_END_ALLOW_THREADS if (!granted) interrupted = PyErr_CheckSignals();
    }
    if (interrupted) {
        pthread_mutex_lock(&queue->mutex);
        if (waiter.granted)
            pass_turn(queue);
        else
            remove_waiter(queue, &waiter);
        pthread_mutex_unlock(&queue->mutex);
    }
    pthread_cond_destroy(&waiter.turn);
    return interrupted ? -1 : 0;
}

static void leave_queue(emb_python_queue *queue) {
    pthread_mutex_lock(&queue->mutex);
    pass_turn(queue);
    pthread_mutex_unlock(&queue->mutex);
}

static emb_python_queue opening; /* of all engines and trainers */

int emb_python_opening_enter(void) {
    if (opening.process != getpid()) begin_queue(&opening); /* the first, or a child of fork */
    return join_queue(&opening);
}

void emb_python_opening_leave(void) {
    leave_queue(&opening);
}

static bool is_open_here(const emb_python_engine *self) {
    return self->engine != NULL && self->turn.process == getpid();
}

int emb_python_engine_enter(emb_python_engine *self) {
    if (self->turn.process != getpid()) {
        begin_queue(&self->turn); /* the parent's threads are not here */
        if (self->engine) emb_python_account_closed(self);
        emb_engine_forget(self->engine);
        self->engine = NULL;
    }
    return join_queue(&self->turn);
}

void emb_python_engine_leave(emb_python_engine *self) {
    leave_queue(&self->turn);
}

/* ---- opening --------------------------------------------------------------------------------- */

static uint64_t whole_pages(uint64_t bytes) {
    const uint64_t page = 2u << 20; /* of a GPU */
    return (bytes + page - 1) / page * page;
}

/* The probe may take seconds, and has to do with other libraries: without the GIL. */
static emb_status measure(emb_machine *machine, const emb_python_engine *self, emb_error *error) {
    emb_device_list devices = self->gpus;
    devices.struct_bytes = sizeof devices;
    devices.kind = self->limits.device;
    if (devices.kind == EMB_DEVICE_CUDA && devices.count == 0 && self->limits.devices_max == 1)
        devices.count = 1; /* no context on a GPU that is not used */
    emb_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = emb_machine_probe_guest(machine, &devices, error);
    Py_END_ALLOW_THREADS return status;
}

/* Whether a figure for the GPU may be left out where auto comes to the CPU: it was stated for other
 * work of this model (vectors of tokens are made on the CPU), or for another model. */
static bool figure_is_idle(const emb_limits *limits, const emb_python_engine *self,
                           const emb_machine *machine) {
    bool of_this = self->limits.device_bytes_max && limits->output != EMB_OUTPUT_TOKENS;
    return limits->device == EMB_DEVICE_AUTO && machine->devices_count > 0 && !of_this;
}

/* Plans for the machine as it was measured, inside the figures of all open engines. */
static emb_status plan_on(emb_plan *out, const emb_python_engine *self, const emb_machine *machine,
                          uint64_t rows, emb_error *error) {
    emb_limits limits = self->limits;
    emb_python_bounds by;
    limits.device_caller_bytes = rows;
    emb_python_account_bound(&limits, &by, self, machine);
    emb_status status = emb_plan_make(out, self->model, &limits, machine, error);
    if (status == EMB_DEVICE && figure_is_idle(&limits, self, machine)) {
        limits.device_bytes_max = 0;
        status = emb_plan_make(out, self->model, &limits, machine, error);
    }
    if (status == EMB_BUDGET) emb_python_account_blame(error, &by, machine);
    if (status == EMB_OK) emb_python_account_part(out, self);
    return status;
}

/* Measures the process as it is now, and plans; has the turn of opening. What the probe finds on a
 * GPU holds this engine's rows: they are the plan's caller's instead, so that they count once. */
static emb_status make_plan(emb_plan *out, emb_machine *machine, const emb_python_engine *self,
                            emb_error *error) {
    emb_status status = measure(machine, self, error);
    if (status != EMB_OK) return status;
    uint64_t held = atomic_load(&self->held->bytes);
    uint64_t *all = &machine->devices[0].held_bytes;
    *all -= held < *all ? held : *all;
    return plan_on(out, self, machine, whole_pages(held), error);
}

void emb_python_engine_discard(emb_python_engine *self) {
    emb_engine *engine = self->engine;
    self->engine = NULL;
    if (!engine) return;
    emb_python_account_closed(self);
    Py_BEGIN_ALLOW_THREADS;
    emb_engine_cancel(engine);
    emb_engine_close(engine);
    Py_END_ALLOW_THREADS;
}

/* Tells once why there is no GPU. -1 with an exception, as a warning can be made one. Whoever hears
 * of it may use the engine: without its turn. */
static int tell_device(const emb_plan *plan) {
    if (!*plan->device_reason) return 0;
    PyObject *errors = PyImport_ImportModule("embound._errors");
    PyObject *told = errors ? PyObject_CallMethod(errors, "tell_device", "Ni",
                                                  emb_python_string(plan->device_reason),
                                                  (int)plan->device_notice)
                            : NULL;
    Py_XDECREF(errors);
    Py_XDECREF(told);
    return told ? 0 : -1;
}

PyObject *emb_python_engine_finish(emb_python_engine *self, PyObject *result) {
    leave_queue(&self->turn);
    if (!result || !self->untold) return result;
    self->untold = false;
    emb_plan plan = self->plan;
    if (tell_device(&plan) != 0) Py_CLEAR(result);
    return result;
}

/* Opens the engine of self->plan, if that could be made; has the turn of opening. 0, or -1 with an
 * exception. */
static int open_planned(emb_python_engine *self, emb_status status, emb_error *error) {
    emb_engine *engine = NULL;
    if (status == EMB_OK) {
        Py_BEGIN_ALLOW_THREADS;
        status = emb_engine_open(&engine, self->model, &self->plan, error);
        Py_END_ALLOW_THREADS;
    }
    if (status == EMB_OK) {
        self->engine = engine; /* with the GIL, under which others look at it */
        self->opens++;
        self->untold = *self->plan.device_reason != 0;
        emb_python_account_opened(self);
        return 0;
    }
    self->limits.output = EMB_OUTPUT_TEXT;
    emb_python_raise_device(self->device_by, status, error);
    return -1;
}

int emb_python_engine_ready(emb_python_engine *self, emb_output_kind output) {
    if (self->limits.output != output) emb_python_engine_discard(self);
    if (self->engine) return 0;
    if (emb_python_opening_enter() != 0) return -1;
    self->limits.output = output;
#ifdef __GLIBC__
    malloc_trim(0); /* pages that rows have left behind are not the process's any more */
#endif
    self->taken_bytes = emb_python_account_taken();
    emb_error error = {0};
    emb_status status = make_plan(&self->plan, &self->machine, self, &error);
    int opened = open_planned(self, status, &error);
    emb_python_opening_leave();
    return opened;
}

/* Plans for the machine as it was when the engine opened: measured now, it would hold what the
 * engine itself holds. True if it stays on a GPU. */
static bool leaves_room(emb_plan *out, const emb_python_engine *self, uint64_t bytes,
                        emb_error *error) {
    return plan_on(out, self, &self->machine, whole_pages(bytes), error) == EMB_OK &&
           out->device == EMB_DEVICE_CUDA;
}

static int make_room(emb_python_engine *self, uint64_t bytes, emb_error *error) {
    emb_plan plan, wide;
    emb_error refused = {.bytes_min = 1};
    if (!leaves_room(&plan, self, bytes, &refused)) {
        if (refused.bytes_min == 0) *error = refused; /* the host's budget too */
        return -1;
    }
    /* twice as much, if that costs no speed: more rows may come, and each opening is slow */
    if (leaves_room(&wide, self, 2 * bytes, &refused) && wide.rung == plan.rung) plan = wide;
    emb_python_engine_discard(self);
    self->plan = plan;
    return open_planned(self, EMB_OK, error) == 0 ? 0 : -2;
}

int emb_python_engine_make_room(emb_python_engine *self, uint64_t bytes, emb_error *error) {
    if (emb_python_opening_enter() != 0) return -2;
    int status = make_room(self, bytes, error);
    emb_python_opening_leave();
    return status;
}

/* ---- methods --------------------------------------------------------------------------------- */

static int read_gpus(emb_device_list *out, PyObject *list) {
    memset(out, 0, sizeof *out);
    Py_ssize_t count = PyList_Size(list);
    if (count < 0) return -1;
    if (count > EMB_DEVICES_MAX) {
        PyErr_Format(PyExc_ValueError, "at most %d GPUs can be used", EMB_DEVICES_MAX);
        return -1;
    }
    out->count = (uint32_t)count;
    for (Py_ssize_t i = 0; i < count; i++) {
        out->indices[i] = (uint32_t)PyLong_AsUnsignedLong(PyList_GetItem(list, i));
        if (PyErr_Occurred()) return -1;
    }
    return 0;
}

static PyObject *engine_configure(PyObject *object, PyObject *arguments, PyObject *named) {
    static char *names[] = {"device",    "gpus",         "gpus_max",  "dtype",
                            "long_rule", "threads",      "tokens",    "host_bytes",
                            "gpu_bytes", "caller_bytes", "device_by", NULL};
    const char *device_by;
    int device, dtype, long_rule;
    unsigned gpus_max, threads, tokens;
    PyObject *gpus;
    unsigned long long host, gpu, caller;
    if (!PyArg_ParseTupleAndKeywords(arguments, named, "iOIiiIIKKKs", names, &device, &gpus,
                                     &gpus_max, &dtype, &long_rule, &threads, &tokens, &host, &gpu,
                                     &caller, &device_by))
        return NULL;
    emb_python_engine *self = (emb_python_engine *)object;
    emb_device_list list;
    if (read_gpus(&list, gpus) != 0 || emb_python_engine_enter(self) != 0) return NULL;
    emb_python_engine_discard(self);
    self->gpus = list;
    PyOS_snprintf(self->device_by, sizeof self->device_by, "%s", device_by);
    self->limits = emb_limits_default();
    self->limits.devices_max = gpus_max;
    self->limits.device = (emb_device_kind)device;
    self->limits.dtype = (emb_dtype)dtype;
    self->limits.long_rule = (emb_long_rule)long_rule;
    self->limits.threads = threads;
    self->limits.chunk_tokens_max = tokens;
    self->limits.host_bytes_max = host;
    self->limits.device_bytes_max = gpu;
    self->limits.caller_bytes = caller;
    emb_model_info info; /* truncate_dim is the caller's affair: all values */
    emb_model_describe(&info, self->model);
    self->limits.dim = info.dim;
    emb_python_engine_leave(self);
    Py_RETURN_NONE;
}

/* The plan of the open engine, else one made now; -1 with an exception. Whoever uses the engine
 * meanwhile is not waited for. */
static int plan_now(emb_plan *plan, emb_python_engine *self) {
    bool open = is_open_here(self);
    *plan = self->plan;
    if (open) return 0;
    if (emb_python_engine_enter(self) != 0) return -1;
    emb_machine machine;
    emb_error error = {0};
    emb_status status = EMB_OK;
    int entered = 0;
    *plan = self->plan; /* another caller may have opened it */
    if (!self->engine && (entered = emb_python_opening_enter()) == 0) {
        status = make_plan(plan, &machine, self, &error);
        emb_python_opening_leave();
    }
    emb_python_engine_leave(self);
    if (status != EMB_OK) emb_python_raise_device(self->device_by, status, &error);
    return entered == 0 && status == EMB_OK ? 0 : -1;
}

static PyObject *engine_plan(PyObject *object, PyObject *unused) {
    (void)unused;
    emb_plan plan;
    if (plan_now(&plan, (emb_python_engine *)object) != 0 || tell_device(&plan) != 0) return NULL;
    return emb_python_describe_plan(&plan);
}

static PyObject *engine_open(PyObject *object, PyObject *unused) {
    (void)unused;
    emb_python_engine *self = (emb_python_engine *)object;
    if (emb_python_engine_enter(self) != 0) return NULL;
    int status = self->engine ? 0 : emb_python_engine_ready(self, EMB_OUTPUT_TEXT);
    return emb_python_engine_finish(self, status == 0 ? Py_NewRef(Py_None) : NULL);
}

static PyObject *engine_room(PyObject *object, PyObject *unused) {
    (void)unused;
    emb_python_engine *self = (emb_python_engine *)object;
    if (emb_python_engine_enter(self) != 0) return NULL;
    int status = self->engine ? 0 : emb_python_engine_ready(self, EMB_OUTPUT_TEXT);
    int64_t room = status == 0 ? emb_python_account_room() : 0;
    return emb_python_engine_finish(self,
                                    status == 0 ? PyLong_FromLongLong(room > 0 ? room : 0) : NULL);
}

static PyObject *engine_close(PyObject *object, PyObject *unused) {
    (void)unused;
    emb_python_engine *self = (emb_python_engine *)object;
    if (emb_python_engine_enter(self) != 0) return NULL;
    emb_python_engine_discard(self);
    emb_python_engine_leave(self);
    Py_RETURN_NONE;
}

/* Of the engine as it is: nobody who uses it is waited for, and nobody closes it under the GIL. */
static PyObject *engine_stats(PyObject *object, PyObject *unused) {
    (void)unused;
    emb_python_engine *self = (emb_python_engine *)object;
    emb_engine_stats_t stats = {0};
    bool open = is_open_here(self);
    if (open) emb_engine_stats(&stats, self->engine);
    return emb_python_describe_stats(&stats, open, self);
}

static PyObject *engine_info(PyObject *object, void *unused) {
    (void)unused;
    const emb_model *model = ((emb_python_engine *)object)->model;
    emb_model_info info;
    emb_specials specials;
    emb_model_describe(&info, model);
    emb_model_specials(&specials, model);
    return emb_python_describe_model(&info, &specials);
}

static PyObject *engine_opens(PyObject *object, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(((const emb_python_engine *)object)->opens);
}

static PyObject *engine_is_open(PyObject *object, void *unused) {
    (void)unused;
    return PyBool_FromLong(is_open_here((emb_python_engine *)object));
}

/* ---- the type -------------------------------------------------------------------------------- */

static PyObject *engine_new(PyTypeObject *type, PyObject *arguments, PyObject *named) {
    static char *names[] = {"path", NULL};
    PyObject *path = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, named, "O&", names, PyUnicode_FSConverter, &path))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    emb_python_engine *self = (emb_python_engine *)allocate(type, 0);
    if (!self) {
        Py_DECREF(path);
        return NULL;
    }
    begin_queue(&self->turn);
    self->limits = emb_limits_default();
    self->held = emb_python_held_open();
    if (!self->held) {
        Py_DECREF(path);
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    emb_error error = {0};
    emb_status status;
    char *name = PyBytes_AsString(path);
    Py_BEGIN_ALLOW_THREADS;
    status = emb_model_open(&self->model, name, &error);
    Py_END_ALLOW_THREADS Py_DECREF(path);
    if (status == EMB_OK) {
        emb_python_account_add(self);
        return (PyObject *)self;
    }
    Py_DECREF(self);
    return emb_python_raise(status, &error);
}

static void engine_free(PyObject *object) {
    emb_python_engine *self = (emb_python_engine *)object;
    PyTypeObject *type = Py_TYPE(object);
    emb_python_account_remove(self);
    if (self->turn.process == getpid()) {
        emb_python_engine_discard(self);
        pthread_mutex_destroy(&self->turn.mutex);
    } else if (self->engine) {
        emb_python_account_closed(self);
        emb_engine_forget(self->engine);
    }
    emb_model_close(self->model);
    emb_python_held_drop(self->held);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static PyMethodDef engine_methods[] = {
    {"configure", (PyCFunction)(void (*)(void))engine_configure, METH_VARARGS | METH_KEYWORDS,
     "Sets limits and closes the engine; the next use opens it with them."},
    {"plan", engine_plan, METH_NOARGS, "The plan as a dict: of the open engine, else made now."},
    {"open", engine_open, METH_NOARGS, "Opens the engine: takes its memory, loads the weights."},
    {"room", engine_room, METH_NOARGS,
     "Bytes that the stated memory leaves for rows; opens the engine if it is not."},
    {"close", engine_close, METH_NOARGS, "Gives the engine's memory back; the next use reopens."},
    {"stats", engine_stats, METH_NOARGS, "Counters since open, bytes of the process, as a dict."},
    {"encode", (PyCFunction)(void (*)(void))emb_python_encode, METH_FASTCALL,
     "encode(texts, prompt, dim, normalize, progress, on_device, beside) -> (Rows or DeviceRows, "
     "texts cut, tokens dropped); beside: bytes that each row takes once more, in another form"},
    {"encode_tokens", (PyCFunction)(void (*)(void))emb_python_encode_tokens, METH_FASTCALL,
     "encode_tokens(texts, prompt) -> (list of Rows [tokens, dim], texts cut, tokens dropped)"},
    {"encode_column", (PyCFunction)(void (*)(void))emb_python_encode_column, METH_FASTCALL,
     "encode_column(stream, schema, array, prompt, dim, normalize, progress, on_device, beside) -> "
     "as encode"},
    {"tokenize", (PyCFunction)(void (*)(void))emb_python_tokenize, METH_FASTCALL,
     "tokenize(texts, prompt, tokens_max) -> list of bytes: native u32, special tokens included"},
    {0},
};

static PyGetSetDef engine_properties[] = {
    {"info", engine_info, NULL, "The model as its files describe it, as a dict.", NULL},
    {"opens", engine_opens, NULL, "How often an engine was opened: its plan may have changed.",
     NULL},
    {"is_open", engine_is_open, NULL, "Whether an engine is open in this process.", NULL},
    {0},
};

static PyType_Slot engine_slots[] = {
    {Py_tp_new, engine_new},
    {Py_tp_dealloc, engine_free},
    {Py_tp_methods, engine_methods},
    {Py_tp_getset, engine_properties},
    {Py_tp_doc, "Engine(path): a model of local files, and the engine that encodes with it."},
    {0, NULL},
};

static PyType_Spec engine_spec = {
    .name = "embound._core.Engine",
    .basicsize = sizeof(emb_python_engine),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = engine_slots,
};

static PyObject *engine_type; /* of the process, kept for good */

bool emb_python_engine_check(PyObject *object) {
    return PyObject_IsInstance(object, engine_type) == 1;
}

int emb_python_engine_register(PyObject *module) {
    engine_type = PyType_FromModuleAndSpec(module, &engine_spec, NULL);
    return engine_type ? PyModule_AddObjectRef(module, "Engine", engine_type) : -1;
}
