/* texts.c - the next texts for the engine, from a list of str or from an Arrow column.
 *
 * A str is encoded to UTF-8 for the slab at hand alone: CPython would otherwise keep the UTF-8 of
 * every text that is not ASCII for as long as the text lives.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "core.h"

void emb_python_texts_release(emb_python_texts *texts) {
    for (uint32_t i = 0; i < texts->texts; i++) Py_CLEAR(texts->held[i]);
    texts->texts = texts->pieces_count = 0;
}

/* The bytes of one str, held until the slab is released. */
static int take_str(emb_python_texts *texts, const char **data, size_t *length) {
    PyObject *text = PyList_GetItem(texts->list, (Py_ssize_t)texts->next);
    if (!text) return -1;
    if (!PyUnicode_Check(text)) {
        PyObject *type = PyObject_GetAttrString((PyObject *)Py_TYPE(text), "__name__");
        if (type)
            PyErr_Format(PyExc_ValueError,
                         "text %lld is of type %U; only str can be encoded: convert it first",
                         (long long)texts->next, type);
        Py_XDECREF(type);
        return -1;
    }
    PyObject *bytes = PyUnicode_AsUTF8String(text);
    if (!bytes && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        PyErr_Clear(); /* half of a surrogate pair: as U+FFFD, like other broken bytes */
        bytes = PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
    }
    char *start;
    Py_ssize_t bytes_length;
    if (!bytes || PyBytes_AsStringAndSize(bytes, &start, &bytes_length) != 0) {
        Py_XDECREF(bytes);
        return -1;
    }
    texts->held[texts->texts] = bytes;
    *data = start;
    *length = (size_t)bytes_length;
    return 0;
}

int emb_python_texts_fill(emb_python_texts *texts) {
    emb_python_texts_release(texts);
    size_t bytes = 0;
    while (texts->next < texts->count && texts->texts < EMB_SLAB_TEXTS && bytes < EMB_SLAB_BYTES) {
        const char *data;
        size_t length;
        texts->held[texts->texts] = NULL;
        if (texts->column ? emb_python_column_text(texts->column, texts->next, &data, &length)
                          : take_str(texts, &data, &length)) {
            emb_python_texts_release(texts);
            return -1;
        }
        uint32_t first = EMB_PIECE_FIRST;
        uint64_t user = (uint64_t)texts->next++;
        texts->texts++;
        if (texts->prompt) {
            texts->pieces[texts->pieces_count++] =
                (emb_piece){texts->prompt, texts->prompt_length, first, user};
            first = 0;
        }
        texts->pieces[texts->pieces_count++] =
            (emb_piece){data, length, first | EMB_PIECE_LAST, user};
        bytes += length;
    }
    return texts->texts != 0;
}
