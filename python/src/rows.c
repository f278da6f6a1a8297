/* rows.c - the type Rows: vectors in the host's memory, given to numpy (buffer protocol), DLPack
 * and Arrow, never copied.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core.h"
#include "interchange.h"

#define ALIGNMENT 64 /* that Arrow asks for */

/* From here on a buffer is a mapping of its own, so that what is dropped leaves the process at
 * once: malloc keeps what was freed once it has seen a large piece freed, and memory= bounds the
 * process. */
#define MAPPED_BYTES (128u << 10)

/* ---- buffer ---------------------------------------------------------------------------------- */

/* Of all buffers in host memory: numpy and others drop theirs without this module. */
static atomic_ullong alive_bytes;

uint64_t emb_python_buffers_bytes(void) {
    return atomic_load(&alive_bytes);
}

static void *take_values(uint64_t bytes) {
    void *values = NULL;
    if (bytes < MAPPED_BYTES)
        return posix_memalign(&values, ALIGNMENT, bytes ? bytes : ALIGNMENT) == 0 ? values : NULL;
    values = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return values == MAP_FAILED ? NULL : values;
}

static void give_values(void *values, uint64_t bytes) {
    if (bytes < MAPPED_BYTES)
        free(values);
    else
        munmap(values, bytes);
}

emb_python_buffer *emb_python_buffer_open(int64_t count, int64_t dim) {
    uint64_t bytes;
    if (__builtin_mul_overflow((uint64_t)count * sizeof(float), (uint64_t)dim, &bytes)) return NULL;
    emb_python_buffer *buffer = calloc(1, sizeof *buffer);
    void *values = buffer ? take_values(bytes) : NULL;
    if (!values) {
        free(buffer);
        return NULL;
    }
    atomic_init(&buffer->references, 1);
    buffer->values = values;
    buffer->count = count;
    buffer->dim = dim;
    atomic_fetch_add(&alive_bytes, bytes);
    return buffer;
}

void emb_python_buffer_hold(emb_python_buffer *buffer) {
    atomic_fetch_add(&buffer->references, 1);
}

void emb_python_buffer_drop(emb_python_buffer *buffer) {
    if (!buffer || atomic_fetch_sub(&buffer->references, 1) != 1) return;
    if (buffer->held) {
        uint64_t bytes = buffer->device.bytes;
        emb_device_rows_close(&buffer->device);
        atomic_fetch_sub(&buffer->held->bytes, bytes);
        emb_python_held_drop(buffer->held);
    } else {
        uint64_t bytes = (uint64_t)(buffer->count * buffer->dim) * sizeof(float);
        atomic_fetch_sub(&alive_bytes, bytes);
        give_values(buffer->values, bytes);
    }
    free(buffer);
}

static int get_buffer(PyObject *object, Py_buffer *view, int flags) {
    emb_python_rows *self = (emb_python_rows *)object;
    (void)flags; /* C-contiguous and writable: every request can be met */
    memset(view, 0, sizeof *view);
    Py_INCREF(object);
    view->obj = object;
    view->buf = self->buffer->values;
    view->len = (Py_ssize_t)(self->buffer->count * self->buffer->dim * (int64_t)sizeof(float));
    view->itemsize = sizeof(float);
    view->format = flags & PyBUF_FORMAT ? "f" : NULL;
    view->ndim = self->dimensions;
    view->shape = flags & PyBUF_ND ? self->shape : NULL;
    view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? self->strides : NULL;
    return 0;
}

/* ---- DLPack ---------------------------------------------------------------------------------- */

static PyObject *rows_dlpack(PyObject *object, PyObject *arguments, PyObject *named) {
    emb_python_dlpack_asked asked = {.type = EMB_DL_CPU};
    if (emb_python_dlpack_read(&asked, arguments, named) != 0) return NULL;
    if (asked.copy == Py_True || asked.type != EMB_DL_CPU) {
        PyErr_SetString(PyExc_BufferError,
                        "rows are in host memory and are not copied: ask for the "
                        "CPU, without copy");
        return NULL;
    }
    emb_python_rows *self = (emb_python_rows *)object;
    return emb_python_dlpack(self, self->buffer, asked.version, false);
}

static PyObject *rows_dlpack_device(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return Py_BuildValue("(ii)", EMB_DL_CPU, 0);
}

/* ---- Arrow ----------------------------------------------------------------------------------- */

/* A list array of fixed size and its one child, allocated together. */
typedef struct array_export {
    emb_arrow_array child, *children[1];
    const void *list_buffers[1], *value_buffers[2];
    emb_python_buffer *buffer;
    atomic_int open; /* the list and the child, which a consumer may move away */
} array_export;

static void close_array(emb_arrow_array *array) {
    array_export *given = array->private_data;
    array->release = NULL;
    if (atomic_fetch_sub(&given->open, 1) != 1) return;
    emb_python_buffer_drop(given->buffer);
    free(given);
}

static void release_child(emb_arrow_array *array) {
    close_array(array);
}

static void release_list(emb_arrow_array *array) {
    emb_arrow_array *child = array->children[0];
    if (child->release) child->release(child);
    close_array(array);
}

static int export_array(emb_arrow_array *out, emb_python_buffer *buffer) {
    array_export *given = calloc(1, sizeof *given);
    if (!given) return -1;
    emb_python_buffer_hold(buffer);
    given->buffer = buffer;
    atomic_init(&given->open, 2);
    given->value_buffers[1] = buffer->values;
    given->child = (emb_arrow_array){.length = buffer->count * buffer->dim,
                                     .n_buffers = 2,
                                     .buffers = given->value_buffers,
                                     .release = release_child,
                                     .private_data = given};
    given->children[0] = &given->child;
    *out = (emb_arrow_array){.length = buffer->count,
                             .n_buffers = 1,
                             .n_children = 1,
                             .buffers = given->list_buffers,
                             .children = given->children,
                             .release = release_list,
                             .private_data = given};
    return 0;
}

typedef struct schema_export {
    emb_arrow_schema child, *children[1];
    char format[32];
    atomic_int open;
} schema_export;

static void close_schema(emb_arrow_schema *schema) {
    schema_export *given = schema->private_data;
    schema->release = NULL;
    if (atomic_fetch_sub(&given->open, 1) == 1) free(given);
}

static void release_list_schema(emb_arrow_schema *schema) {
    emb_arrow_schema *child = schema->children[0];
    if (child->release) child->release(child);
    close_schema(schema);
}

static int export_schema(emb_arrow_schema *out, int64_t dim) {
    schema_export *given = calloc(1, sizeof *given);
    if (!given) return -1;
    atomic_init(&given->open, 2);
    snprintf(given->format, sizeof given->format, "+w:%lld", (long long)dim);
    given->child = (emb_arrow_schema){.format = "f",
                                      .name = "item",
                                      .flags = EMB_ARROW_NULLABLE,
                                      .release = close_schema,
                                      .private_data = given};
    given->children[0] = &given->child;
    *out = (emb_arrow_schema){.format = given->format,
                              .name = "",
                              .flags = EMB_ARROW_NULLABLE,
                              .n_children = 1,
                              .children = given->children,
                              .release = release_list_schema,
                              .private_data = given};
    return 0;
}

static void drop_array(PyObject *capsule) {
    emb_arrow_array *array = PyCapsule_GetPointer(capsule, "arrow_array");
    if (array->release) array->release(array);
    free(array);
}

static void drop_schema(PyObject *capsule) {
    emb_arrow_schema *schema = PyCapsule_GetPointer(capsule, "arrow_schema");
    if (schema->release) schema->release(schema);
    free(schema);
}

static PyObject *schema_capsule(int64_t dim) {
    emb_arrow_schema *schema = calloc(1, sizeof *schema);
    if (!schema || export_schema(schema, dim) != 0) {
        free(schema);
        return PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(schema, "arrow_schema", drop_schema);
    if (!capsule) {
        schema->release(schema);
        free(schema);
    }
    return capsule;
}

static PyObject *array_capsule(emb_python_buffer *buffer) {
    emb_arrow_array *array = calloc(1, sizeof *array);
    if (!array || export_array(array, buffer) != 0) {
        free(array);
        return PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(array, "arrow_array", drop_array);
    if (!capsule) {
        array->release(array);
        free(array);
    }
    return capsule;
}

static PyObject *rows_arrow(PyObject *object, PyObject *arguments, PyObject *named) {
    static char *names[] = {"requested_schema", NULL};
    PyObject *requested = NULL; /* a wish that need not be met */
    if (!PyArg_ParseTupleAndKeywords(arguments, named, "|O:__arrow_c_array__", names, &requested))
        return NULL;
    emb_python_buffer *buffer = ((emb_python_rows *)object)->buffer;
    PyObject *schema = schema_capsule(buffer->dim);
    PyObject *array = schema ? array_capsule(buffer) : NULL;
    PyObject *both = array ? PyTuple_Pack(2, schema, array) : NULL;
    Py_XDECREF(schema);
    Py_XDECREF(array);
    return both;
}

static PyObject *rows_arrow_schema(PyObject *object, PyObject *unused) {
    (void)unused;
    return schema_capsule(((emb_python_rows *)object)->buffer->dim);
}

/* ---- the type -------------------------------------------------------------------------------- */

static Py_ssize_t rows_length(PyObject *object) {
    return ((emb_python_rows *)object)->shape[0];
}

PyObject *emb_python_rows_shape(PyObject *object, void *unused) {
    (void)unused;
    emb_python_rows *self = (emb_python_rows *)object;
    if (self->dimensions == 1) return Py_BuildValue("(n)", self->shape[0]);
    return Py_BuildValue("(nn)", self->shape[0], self->shape[1]);
}

PyObject *emb_python_rows_address(PyObject *object, void *unused) {
    (void)unused;
    return PyLong_FromVoidPtr(((emb_python_rows *)object)->buffer->values);
}

static void rows_free(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    emb_python_buffer *buffer = ((emb_python_rows *)object)->buffer;
    if (buffer->held) { /* the GPU may be at work for the program */
        Py_BEGIN_ALLOW_THREADS;
        emb_python_buffer_drop(buffer);
        Py_END_ALLOW_THREADS
    } else {
        emb_python_buffer_drop(buffer);
    }
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static PyMethodDef rows_methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))rows_dlpack, METH_VARARGS | METH_KEYWORDS,
     "A DLPack capsule of this memory (host, f32); nothing is copied."},
    {"__dlpack_device__", rows_dlpack_device, METH_NOARGS, "(1, 0): the CPU."},
    {"__arrow_c_array__", (PyCFunction)(void (*)(void))rows_arrow, METH_VARARGS | METH_KEYWORDS,
     "Arrow's C data interface: a fixed-size list of f32; nothing is copied."},
    {"__arrow_c_schema__", rows_arrow_schema, METH_NOARGS, "The schema of __arrow_c_array__."},
    {0},
};

static PyGetSetDef rows_properties[] = {
    {"shape", emb_python_rows_shape, NULL, "(rows, dim), or (dim,) of a single text.", NULL},
    {"address", emb_python_rows_address, NULL,
     "Where the first value is, for checks that nothing is copied.", NULL},
    {0},
};

PyObject *emb_python_rows_type(PyObject *module, const char *name, PyMethodDef *methods,
                               PyGetSetDef *properties, void *buffer, const char *doc) {
    PyType_Slot slots[] = {
        {Py_tp_dealloc, rows_free},
        {Py_tp_methods, methods},
        {Py_tp_getset, properties},
        {Py_sq_length, rows_length},
        {Py_tp_doc, (char *)doc},
        {buffer ? Py_bf_getbuffer : 0, buffer},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = name,
        .basicsize = sizeof(emb_python_rows),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (type && PyModule_AddObjectRef(module, strchr(name, '.') + 1, type) != 0) Py_CLEAR(type);
    return type;
}

static PyTypeObject *rows_type, *device_rows_type; /* of the process */

int emb_python_rows_register(PyObject *module) {
    /* kept for good: rows may outlive the module */
    rows_type = (PyTypeObject *)emb_python_rows_type(
        module, "embound.Rows", rows_methods, rows_properties, get_buffer,
        "Vectors, f32 and contiguous, for numpy.asarray, DLPack and Arrow without copies.");
    if (!rows_type) return -1;
    device_rows_type = (PyTypeObject *)emb_python_device_rows_register(module);
    return device_rows_type ? 0 : -1;
}

PyObject *emb_python_rows_make(emb_python_buffer *buffer, bool single) {
    PyTypeObject *type = buffer->held ? device_rows_type : rows_type;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    emb_python_rows *self = (emb_python_rows *)allocate(type, 0);
    if (!self) {
        emb_python_buffer_drop(buffer);
        return NULL;
    }
    self->buffer = buffer;
    self->dimensions = single ? 1 : 2;
    self->shape[0] = (Py_ssize_t)(single ? buffer->dim : buffer->count);
    self->shape[1] = (Py_ssize_t)buffer->dim;
    self->strides[0] = (Py_ssize_t)sizeof(float) * (single ? 1 : (Py_ssize_t)buffer->dim);
    self->strides[1] = sizeof(float);
    return (PyObject *)self;
}
