/* arrow.c - string columns through Arrow's C data interface: utf8, large_utf8 and string_view, also
 * as the dictionary of a categorical column; and columns of nothing but nulls.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "interchange.h"

typedef enum text_layout {
    LAYOUT_UTF8,
    LAYOUT_LARGE_UTF8,
    LAYOUT_VIEW,
    LAYOUT_NULL,
    LAYOUT_OTHER /* no strings: refused with the first value */
} text_layout;

struct emb_python_column {
    emb_arrow_array *chunks; /* [chunks_count], owned */
    size_t chunks_count, chunks_room;
    text_layout layout; /* of the strings */
    char index_format;  /* of the places in a dictionary; 0: there is none */
    const char *kind;   /* what a column of LAYOUT_OTHER holds */
    int64_t count;
    size_t chunk;  /* that holds the row last asked for */
    int64_t first; /* row number of its first value */
};

/* What a format of Arrow is called; the first that the format begins with. */
static const char *name_kind(const char *format) {
    static const char *const names[][2] = {
        {"b", "bool"},
        {"c", "int8"},
        {"C", "uint8"},
        {"s", "int16"},
        {"S", "uint16"},
        {"i", "int32"},
        {"I", "uint32"},
        {"l", "int64"},
        {"L", "uint64"},
        {"e", "float16"},
        {"f", "float32"},
        {"g", "float64"},
        {"z", "bytes"},
        {"Z", "bytes"},
        {"vz", "bytes"},
        {"w", "bytes"},
        {"d", "decimals"},
        {"t", "times"},
        {"+s", "structs (a whole table?)"},
        {"+r", "run-ends"},
        {"+", "lists"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(format, names[i][0], strlen(names[i][0])) == 0) return names[i][1];
    return "an unknown type";
}

static void choose_layout(emb_python_column *column, const emb_arrow_schema *schema) {
    if (schema->dictionary) {
        column->index_format = schema->format[0];
        schema = schema->dictionary;
    }
    const char *format = schema->format;
    column->layout = strcmp(format, "u") == 0    ? LAYOUT_UTF8
                     : strcmp(format, "U") == 0  ? LAYOUT_LARGE_UTF8
                     : strcmp(format, "vu") == 0 ? LAYOUT_VIEW
                     : strcmp(format, "n") == 0  ? LAYOUT_NULL
                                                 : LAYOUT_OTHER;
    column->kind = name_kind(format);
}

/* Takes the array over, also if it fails. */
static int add_chunk(emb_python_column *column, emb_arrow_array *array) {
    if (column->layout == LAYOUT_OTHER && array->length) {
        array->release(array);
        emb_python_refuse(EMB_INVALID_ARGUMENT, 0,
                          "a column of strings is needed, and this one holds %s: cast it first",
                          column->kind);
        return -1;
    }
    if (column->chunks_count == column->chunks_room) {
        size_t room = column->chunks_room ? 2 * column->chunks_room : 8;
        emb_arrow_array *grown = realloc(column->chunks, room * sizeof *grown);
        if (!grown) {
            array->release(array);
            PyErr_NoMemory();
            return -1;
        }
        column->chunks = grown;
        column->chunks_room = room;
    }
    column->chunks[column->chunks_count++] = *array;
    array->release = NULL;
    column->count += column->chunks[column->chunks_count - 1].length;
    return 0;
}

static int read_stream(emb_python_column *column, emb_arrow_stream *stream) {
    emb_arrow_schema schema = {0};
    int failed = stream->get_schema(stream, &schema);
    if (!failed) {
        choose_layout(column, &schema);
        if (schema.release) schema.release(&schema);
    }
    while (!failed) {
        emb_arrow_array array = {0};
        failed = stream->get_next(stream, &array);
        if (failed || !array.release) break;
        if (add_chunk(column, &array) != 0) return -1;
    }
    if (!failed) return 0;
    const char *reason = stream->get_last_error ? stream->get_last_error(stream) : NULL;
    PyErr_Format(PyExc_OSError, "the Arrow stream failed: %s", reason ? reason : "unknown reason");
    return -1;
}

static int open_stream(emb_python_column *column, PyObject *capsule) {
    emb_arrow_stream *stream = PyCapsule_GetPointer(capsule, "arrow_array_stream");
    if (!stream) return -1;
    if (!stream->release) {
        PyErr_SetString(PyExc_ValueError, "the Arrow stream has been read already");
        return -1;
    }
    int status = read_stream(column, stream);
    stream->release(stream);
    stream->release = NULL;
    return status;
}

static int open_array(emb_python_column *column, PyObject *schema_capsule, PyObject *capsule) {
    emb_arrow_schema *schema = PyCapsule_GetPointer(schema_capsule, "arrow_schema");
    emb_arrow_array *array = schema ? PyCapsule_GetPointer(capsule, "arrow_array") : NULL;
    if (!array) return -1;
    if (!array->release || !schema->release) {
        PyErr_SetString(PyExc_ValueError, "the Arrow array has been taken already");
        return -1;
    }
    choose_layout(column, schema);
    return add_chunk(column, array);
}

emb_python_column *emb_python_column_open(PyObject *stream, PyObject *schema, PyObject *array) {
    emb_python_column *column = calloc(1, sizeof *column);
    if (!column) return (emb_python_column *)PyErr_NoMemory();
    if ((stream ? open_stream(column, stream) : open_array(column, schema, array)) == 0)
        return column;
    emb_python_column_close(column);
    return NULL;
}

void emb_python_column_close(emb_python_column *column) {
    if (!column) return;
    for (size_t i = 0; i < column->chunks_count; i++) column->chunks[i].release(&column->chunks[i]);
    free(column->chunks);
    free(column);
}

int64_t emb_python_column_count(const emb_python_column *column) {
    return column->count;
}

/* A view is 16 bytes: the length, then the text itself up to 12 bytes, or its first four, the
 * number of its buffer and its place there. */
static void read_view(const emb_arrow_array *array, int64_t at, const char **data, size_t *length) {
    const unsigned char *view = (const unsigned char *)array->buffers[1] + 16 * at;
    int32_t words[4];
    memcpy(words, view, sizeof words);
    *length = (size_t)words[0];
    *data = words[0] <= 12 ? (const char *)view + 4
                           : (const char *)array->buffers[2 + words[2]] + words[3];
}

/* `at` counts from the start of the buffers. */
static void read_text(const emb_arrow_array *array, text_layout layout, int64_t at,
                      const char **data, size_t *length) {
    if (layout == LAYOUT_VIEW) {
        read_view(array, at, data, length);
    } else if (layout == LAYOUT_UTF8) {
        const int32_t *offsets = array->buffers[1];
        *data = (const char *)array->buffers[2] + offsets[at];
        *length = (size_t)(offsets[at + 1] - offsets[at]);
    } else {
        const int64_t *offsets = array->buffers[1];
        *data = (const char *)array->buffers[2] + offsets[at];
        *length = (size_t)(offsets[at + 1] - offsets[at]);
    }
}

static bool is_null(const emb_arrow_array *array, int64_t at) {
    const unsigned char *valid = array->buffers[0];
    return valid && !(valid[at >> 3] >> (at & 7) & 1);
}

/* Where a value of a categorical column stands in its dictionary. */
static int64_t read_index(char format, const void *indices, int64_t at) {
    switch (format) {
    case 'c':
        return ((const int8_t *)indices)[at];
    case 'C':
        return ((const uint8_t *)indices)[at];
    case 's':
        return ((const int16_t *)indices)[at];
    case 'S':
        return ((const uint16_t *)indices)[at];
    case 'i':
        return ((const int32_t *)indices)[at];
    case 'I':
        return ((const uint32_t *)indices)[at];
    default:
        return ((const int64_t *)indices)[at]; /* 'l' and 'L' */
    }
}

int emb_python_column_text(emb_python_column *column, int64_t row, const char **data,
                           size_t *length) {
    while (row - column->first >= column->chunks[column->chunk].length)
        column->first += column->chunks[column->chunk++].length;
    const emb_arrow_array *array = &column->chunks[column->chunk];
    int64_t at = row - column->first + array->offset;
    bool null = column->layout == LAYOUT_NULL || is_null(array, at);
    if (!null && column->index_format) {
        at = read_index(column->index_format, array->buffers[1], at);
        array = array->dictionary;
        if (at < 0 || at >= array->length) {
            emb_python_refuse(EMB_INVALID_ARGUMENT, 0,
                              "text %lld stands at %lld of a dictionary of %lld: the column is "
                              "malformed",
                              (long long)row, (long long)at, (long long)array->length);
            return -1;
        }
        at += array->offset;
        null = is_null(array, at);
    }
    if (null) {
        emb_python_refuse(EMB_BAD_TEXT, (uint64_t)row,
                          "text %lld is null: fill nulls or leave such rows out before encoding",
                          (long long)row);
        return -1;
    }
    read_text(array, column->layout, at, data, length);
    return 0;
}
