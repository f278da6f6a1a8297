/* texts.c - the next texts for the engine, from a list of str or from an Arrow column.
 *
 * A str is encoded to UTF-8 slice by slice, for the slab at hand alone: CPython would otherwise
 * keep the UTF-8 of every text that is not ASCII for as long as the text lives, and a long text
 * would take its own length again.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "core.h"

void emb_python_texts_release(emb_python_texts *texts) {
    for (uint32_t i = 0; i < texts->slices; i++) Py_CLEAR(texts->held[i]);
    texts->slices = texts->pieces_count = 0;
}

PyObject *emb_python_utf8(PyObject *text, const char **data, size_t *length) {
    PyObject *bytes = PyUnicode_AsUTF8String(text);
    if (!bytes && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        PyErr_Clear(); /* half of a surrogate pair: as U+FFFD, like other broken bytes */
        if (PyErr_WarnEx(PyExc_UnicodeWarning,
                         "a text holds half of a surrogate pair, which no UTF-8 has: it is read as "
                         "U+FFFD",
                         1) == 0)
            bytes = PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
    }
    char *start;
    Py_ssize_t bytes_length;
    if (!bytes || PyBytes_AsStringAndSize(bytes, &start, &bytes_length) != 0) {
        Py_XDECREF(bytes);
        return NULL;
    }
    *data = start;
    *length = (size_t)bytes_length;
    return bytes;
}

PyObject *emb_python_slice(PyObject *text, Py_ssize_t *at, const char **data, size_t *length) {
    Py_ssize_t total = PyUnicode_GetLength(text), end = *at + EMB_SLICE_CHARACTERS;
    if (end > total) end = total;
    PyObject *slice =
        *at == 0 && end == total ? Py_NewRef(text) : PyUnicode_Substring(text, *at, end);
    PyObject *bytes = slice ? emb_python_utf8(slice, data, length) : NULL;
    Py_XDECREF(slice);
    if (bytes) *at = end;
    return bytes;
}

/* None, and the nan by which pandas and numpy say the same. */
static bool is_missing(PyObject *item) {
    if (item == Py_None) return true;
    if (!PyFloat_Check(item)) return false;
    double value = PyFloat_AsDouble(item);
    return value != value;
}

PyObject *emb_python_refuse_item(PyObject *item, int64_t index) {
    if (is_missing(item))
        return emb_python_refuse(EMB_BAD_TEXT, (uint64_t)index,
                                 "text %lld is %s; only str can be encoded: leave such rows out, "
                                 "or fill them",
                                 (long long)index, item == Py_None ? "None" : "missing (nan)");
    PyObject *type = PyObject_GetAttrString((PyObject *)Py_TYPE(item), "__name__");
    PyObject *name = type ? PyUnicode_AsUTF8String(type) : NULL;
    if (name)
        emb_python_refuse(EMB_BAD_TEXT, (uint64_t)index,
                          "text %lld is of type %.60s; only str can be encoded: convert it first%s",
                          (long long)index, PyBytes_AsString(name),
                          PyLong_Check(item) ? " (token ids cannot be: long='chunk' takes whole "
                                               "texts of any length)"
                                             : "");
    Py_XDECREF(name);
    Py_XDECREF(type);
    return NULL;
}

/* The next slice of the list's texts, held until the slab is released. */
static int take_str(emb_python_texts *texts, const char **data, size_t *length, bool *last) {
    if (!texts->text) {
        PyObject *item = PyList_GetItem(texts->list, (Py_ssize_t)texts->next);
        if (!item) return -1;
        if (!PyUnicode_Check(item)) {
            emb_python_refuse_item(item, texts->next);
            return -1;
        }
        texts->text = Py_NewRef(item);
        texts->at = 0;
    }
    PyObject *bytes = emb_python_slice(texts->text, &texts->at, data, length);
    if (!bytes) return -1;
    texts->held[texts->slices] = bytes;
    *last = texts->at == PyUnicode_GetLength(texts->text);
    if (*last) Py_CLEAR(texts->text);
    return 0;
}

int emb_python_texts_fill(emb_python_texts *texts) {
    emb_python_texts_release(texts);
    size_t bytes = 0;
    while (texts->next < texts->count && texts->slices < EMB_SLAB_TEXTS && bytes < EMB_SLAB_BYTES) {
        const char *data;
        size_t length;
        bool first = !texts->text, last = true;
        texts->held[texts->slices] = NULL;
        if (texts->column ? emb_python_column_text(texts->column, texts->next, &data, &length)
                          : take_str(texts, &data, &length, &last)) {
            emb_python_texts_release(texts);
            return -1;
        }
        uint32_t flags = first ? EMB_PIECE_FIRST : 0;
        uint64_t user = (uint64_t)texts->next;
        texts->next += last;
        texts->slices++;
        if (first && texts->prompt) {
            texts->pieces[texts->pieces_count++] =
                (emb_piece){texts->prompt, texts->prompt_length, flags, user};
            flags = 0;
        }
        if (last) flags |= EMB_PIECE_LAST;
        texts->pieces[texts->pieces_count++] = (emb_piece){data, length, flags, user};
        bytes += length;
    }
    return texts->slices != 0;
}
