/* module.c - the extension embound._core: its types, its version, and statuses as exceptions.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <string.h>

#include "core.h"

PyObject *emb_python_string(const char *text) {
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

PyObject *emb_python_raise(emb_status status, const emb_error *error) {
    return emb_python_raise_device("", status, error);
}

PyObject *emb_python_raise_device(const char *chosen_by, emb_status status,
                                  const emb_error *error) {
    bool of_device = status == EMB_DEVICE || strstr(error->message, EMB_ADVICE_CPU);
    bool told = *chosen_by && of_device;
    PyObject *errors = PyImport_ImportModule("embound._errors");
    if (!errors) return NULL;
    char text[sizeof error->message + 80];
    PyOS_snprintf(text, sizeof text, "%.63s%s%.255s", told ? chosen_by : "", told ? ": " : "",
                  error->message);
    PyObject *message = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    PyObject *exception =
        message ? PyObject_CallMethod(errors, "from_status", "iOKi", (int)status, message,
                                      (unsigned long long)error->bytes_min, (int)error->region)
                : NULL;
    if (exception) PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_XDECREF(exception);
    Py_XDECREF(message);
    Py_DECREF(errors);
    return NULL;
}

PyObject *emb_python_refuse(emb_status status, uint64_t number, const char *format, ...) {
    emb_error error = {.bytes_min = number};
    va_list arguments;
    va_start(arguments, format);
    PyOS_vsnprintf(error.message, sizeof error.message, format, arguments);
    va_end(arguments);
    return emb_python_raise(status, &error);
}

static int fill_module(PyObject *module) {
    if (emb_python_rows_register(module) != 0 || emb_python_engine_register(module) != 0 ||
        emb_python_trainer_register(module) != 0)
        return -1;
    if (PyModule_AddStringConstant(module, "advice_cpu", EMB_ADVICE_CPU) != 0) return -1;
    return PyModule_AddStringConstant(module, "version", emb_version());
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, fill_module},
    {0, NULL},
};

static PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "embound._core",
    .m_doc = "The engine of embound; use the classes of the package embound.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC PyInit__core(void) {
    return PyModuleDef_Init(&module_definition);
}
