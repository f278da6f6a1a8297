/* dlpack.c - rows as DLPack capsules, of the host's memory or a GPU's, versioned or not.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "core.h"
#include "interchange.h"

/* Both forms of managed tensor, with the shape they point at. */
typedef struct tensor_export {
    union {
        emb_dl_managed plain;
        emb_dl_managed_versioned versioned;
    } managed;
    int64_t shape[2], strides[2];
    emb_python_buffer *buffer;
} tensor_export;

static void free_export(tensor_export *given) {
    emb_python_buffer_drop(given->buffer);
    free(given);
}

static void delete_plain(emb_dl_managed *managed) {
    free_export(managed->context);
}

static void delete_versioned(emb_dl_managed_versioned *managed) {
    free_export(managed->context);
}

/* A capsule that nobody took still owns its tensor; one that was taken has been renamed. */
static void drop_plain(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor"))
        delete_plain(PyCapsule_GetPointer(capsule, "dltensor"));
}

static void drop_versioned(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor_versioned"))
        delete_versioned(PyCapsule_GetPointer(capsule, "dltensor_versioned"));
}

static tensor_export *export_tensor(const emb_python_rows *rows, emb_python_buffer *buffer,
                                    emb_dl_tensor **tensor, bool versioned) {
    tensor_export *given = calloc(1, sizeof *given);
    if (!given) return NULL;
    emb_python_buffer_hold(buffer);
    given->buffer = buffer;
    for (int i = 0; i < rows->dimensions; i++) {
        given->shape[i] = rows->shape[i];
        given->strides[i] = rows->strides[i] / (int64_t)sizeof(float);
    }
    *tensor = versioned ? &given->managed.versioned.tensor : &given->managed.plain.tensor;
    **tensor = (emb_dl_tensor){
        .data = buffer->values,
        .device = {EMB_DL_CPU, 0},
        .dimensions = rows->dimensions,
        .type = {EMB_DL_FLOAT, 32, 1},
        .shape = given->shape,
        .strides = given->strides,
    };
    if (buffer->held) {
        (*tensor)->device.type = EMB_DL_CUDA;
        (*tensor)->device.index = (int32_t)buffer->device.device;
    }
    return given;
}

int emb_python_dlpack_read(emb_python_dlpack_asked *asked, PyObject *arguments, PyObject *named) {
    static char *names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *device = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, named, "|$OOOO:__dlpack__", names, &asked->stream,
                                     &asked->version, &device, &asked->copy))
        return -1;
    if (!device || device == Py_None) return 0;
    if (!PyTuple_Check(device)) {
        PyErr_SetString(PyExc_TypeError, "dl_device: a tuple (type, index) is needed");
        return -1;
    }
    const char *format = "ii;dl_device: a tuple (type, index) of two ints is needed";
    return PyArg_ParseTuple(device, format, &asked->type, &asked->index) ? 0 : -1;
}

PyObject *emb_python_dlpack(const emb_python_rows *rows, emb_python_buffer *buffer,
                            PyObject *version, bool copied) {
    long major = 0;
    if (version && version != Py_None) {
        PyObject *first = PySequence_GetItem(version, 0);
        major = first ? PyLong_AsLong(first) : -1;
        Py_XDECREF(first);
        if (major < 0 && PyErr_Occurred()) return NULL;
    }
    emb_dl_tensor *tensor;
    tensor_export *given = export_tensor(rows, buffer, &tensor, major >= 1);
    if (!given) return PyErr_NoMemory();
    PyObject *capsule;
    if (major >= 1) {
        given->managed.versioned.version.major = 1;
        given->managed.versioned.context = given;
        given->managed.versioned.deleter = delete_versioned;
        given->managed.versioned.flags = copied ? EMB_DL_IS_COPIED : 0;
        capsule = PyCapsule_New(given, "dltensor_versioned", drop_versioned);
    } else {
        given->managed.plain.context = given;
        given->managed.plain.deleter = delete_plain;
        capsule = PyCapsule_New(given, "dltensor", drop_plain);
    }
    if (!capsule) free_export(given);
    return capsule;
}
