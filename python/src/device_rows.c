/* device_rows.c - the type DeviceRows: vectors in a GPU's memory, given to torch, cupy and jax by
 * DLPack and __cuda_array_interface__; and the room for them inside the budget.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "interchange.h"

/* ---- memory ---------------------------------------------------------------------------------- */

emb_python_held *emb_python_held_open(void) {
    emb_python_held *held = malloc(sizeof *held);
    if (!held) return NULL;
    atomic_init(&held->references, 1);
    atomic_init(&held->bytes, 0);
    return held;
}

void emb_python_held_drop(emb_python_held *held) {
    if (held && atomic_fetch_sub(&held->references, 1) == 1) free(held);
}

static emb_status open_rows(emb_python_buffer *buffer, emb_python_engine *self, emb_error *error) {
    emb_status status;
    uint64_t count = buffer->dim ? (uint64_t)buffer->count : 0;
    Py_BEGIN_ALLOW_THREADS;
    status = emb_device_rows_open(&buffer->device, self->engine, count, (uint32_t)buffer->dim,
                                  atomic_load(&self->held->bytes), error);
    Py_END_ALLOW_THREADS return status;
}

emb_python_buffer *emb_python_engine_rows(emb_python_engine *self, int64_t count, int64_t dim) {
    emb_python_buffer *buffer = calloc(1, sizeof *buffer);
    if (!buffer) {
        PyErr_NoMemory();
        return NULL;
    }
    atomic_init(&buffer->references, 1);
    buffer->count = count;
    buffer->dim = dim;
    emb_error error = {0};
    emb_status status = open_rows(buffer, self, &error);
    if (status == EMB_BUDGET) {
        uint64_t bytes = atomic_load(&self->held->bytes) + buffer->device.bytes;
        int room = emb_python_engine_make_room(self, bytes, &error);
        if (room == 0) status = open_rows(buffer, self, &error);
        if (room == -2) {
            free(buffer);
            return NULL;
        }
    }
    if (status != EMB_OK) {
        free(buffer);
        emb_python_raise(status, &error);
        return NULL;
    }
    buffer->values = buffer->device.values;
    buffer->held = self->held;
    atomic_fetch_add(&self->held->references, 1);
    atomic_fetch_add(&self->held->bytes, buffer->device.bytes);
    return buffer;
}

/* The same values in the host's memory; NULL with an exception. */
static emb_python_buffer *copy_to_host(const emb_python_buffer *from) {
    emb_error error = {0};
    uint64_t bytes = (uint64_t)(from->count * from->dim) * sizeof(float);
    emb_status status = emb_python_account_claim(NULL, bytes, &error);
    if (status != EMB_OK) {
        emb_python_raise(status, &error);
        return NULL;
    }
    emb_python_buffer *to = emb_python_buffer_open(from->count, from->dim);
    if (!to) {
        PyErr_NoMemory();
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
    status = emb_device_rows_get(to->values, &from->device, 0, from->device.count, &error);
    Py_END_ALLOW_THREADS if (status == EMB_OK) return to;
    emb_python_buffer_drop(to);
    emb_python_raise(status, &error);
    return NULL;
}

/* ---- DLPack ---------------------------------------------------------------------------------- */

/* The rows were complete before anybody had them, so that no stream need wait: what the consumer's
 * may be is checked alone. */
static int check_stream(PyObject *stream) {
    if (!stream || stream == Py_None) return 0;
    if (!PyLong_Check(stream)) {
        PyErr_SetString(PyExc_TypeError, "stream: an int or None is needed");
        return -1;
    }
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(stream, &overflow);
    if (overflow > 0 || value > 0 || (overflow == 0 && value == -1)) return 0;
    PyErr_SetString(PyExc_BufferError, "stream: of CUDA it is -1, None, 1 (the default stream), 2 "
                                       "(one for each thread) or a stream's address, never 0");
    return -1;
}

static PyObject *refuse_copy(const char *why) {
    PyErr_SetString(PyExc_BufferError, why);
    return NULL;
}

static PyObject *give_to_host(const emb_python_rows *self, PyObject *version) {
    emb_python_buffer *host = copy_to_host(self->buffer);
    if (!host) return NULL;
    PyObject *capsule = emb_python_dlpack(self, host, version, true);
    emb_python_buffer_drop(host);
    return capsule;
}

static PyObject *rows_dlpack(PyObject *object, PyObject *arguments, PyObject *named) {
    const emb_python_rows *self = (emb_python_rows *)object;
    int own = (int)self->buffer->device.device;
    emb_python_dlpack_asked asked = {.type = EMB_DL_CUDA, .index = own};
    if (emb_python_dlpack_read(&asked, arguments, named) != 0) return NULL;
    if (asked.type == EMB_DL_CPU) {
        if (asked.copy == Py_False)
            return refuse_copy("rows are on a GPU: on the CPU they are a copy");
        return give_to_host(self, asked.version);
    }
    if (asked.type != EMB_DL_CUDA || asked.index != own)
        return refuse_copy("rows are given to their own GPU, or as a copy to the CPU: (1, 0)");
    if (asked.copy == Py_True)
        return refuse_copy("rows on a GPU are not copied there: the consumer can");
    if (check_stream(asked.stream) != 0) return NULL;
    return emb_python_dlpack(self, self->buffer, asked.version, false);
}

static PyObject *rows_dlpack_device(PyObject *object, PyObject *unused) {
    (void)unused;
    return Py_BuildValue("(iI)", EMB_DL_CUDA, ((emb_python_rows *)object)->buffer->device.device);
}

/* ---- the type -------------------------------------------------------------------------------- */

/* Version 3; stream None: there is nothing to wait for. */
static PyObject *rows_cuda(PyObject *object, void *unused) {
    PyObject *shape = emb_python_rows_shape(object, unused);
    if (!shape) return NULL;
    void *values = ((emb_python_rows *)object)->buffer->values;
    return Py_BuildValue("{s:N,s:s,s:(KO),s:i,s:O,s:O}", "shape", shape, "typestr", "<f4", "data",
                         (unsigned long long)(uintptr_t)values, Py_False, "version", 3, "strides",
                         Py_None, "stream", Py_None);
}

static PyObject *rows_device(PyObject *object, void *unused) {
    (void)unused;
    return PyUnicode_FromFormat("cuda:%u", ((emb_python_rows *)object)->buffer->device.device);
}

static PyObject *rows_to_host(PyObject *object, PyObject *unused) {
    (void)unused;
    const emb_python_rows *self = (emb_python_rows *)object;
    emb_python_buffer *host = copy_to_host(self->buffer);
    return host ? emb_python_rows_make(host, self->dimensions == 1) : NULL;
}

/* numpy would otherwise make an array of one object. */
static PyObject *rows_array(PyObject *self, PyObject *arguments, PyObject *named) {
    (void)self, (void)arguments, (void)named;
    PyErr_SetString(PyExc_TypeError, "rows are on a GPU: take to_host() of them, or "
                                     "numpy.from_dlpack(rows, device='cpu')");
    return NULL;
}

static PyMethodDef rows_methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))rows_dlpack, METH_VARARGS | METH_KEYWORDS,
     "A DLPack capsule of this memory (CUDA, f32); nothing is copied, and no stream need wait. "
     "dl_device=(1, 0): of a copy in the host's memory."},
    {"__dlpack_device__", rows_dlpack_device, METH_NOARGS, "(2, index): CUDA, and which GPU."},
    {"__array__", (PyCFunction)(void (*)(void))rows_array, METH_VARARGS | METH_KEYWORDS,
     "Refused: nothing is copied to the host unless asked for."},
    {"to_host", rows_to_host, METH_NOARGS, "The same vectors as Rows, in the host's memory."},
    {0},
};

static PyGetSetDef rows_properties[] = {
    {"shape", emb_python_rows_shape, NULL, "(rows, dim), or (dim,) of a single text.", NULL},
    {"address", emb_python_rows_address, NULL, "Where the first value is on the GPU.", NULL},
    {"device", rows_device, NULL, "Such as 'cuda:0'.", NULL},
    {"__cuda_array_interface__", rows_cuda, NULL, "Version 3, of this memory.", NULL},
    {0},
};

PyObject *emb_python_device_rows_register(PyObject *module) {
    return emb_python_rows_type(
        module, "embound.DeviceRows", rows_methods, rows_properties, NULL,
        "Vectors on a GPU, f32 and contiguous, for torch.from_dlpack, cupy.from_dlpack and "
        "jax.dlpack.from_dlpack without copies. The memory goes with the last of them, also "
        "after the model.");
}
