/* npy.c - sink of NumPy arrays (format 1.0): f32 little-endian, one row a text.
 *
 * Rows go to the file with pwrite straight from where the engine keeps them; the header, which
 * names the number of rows, is written again at the end.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "sink/sink.h"

#define HEADER_BYTES 128 /* a multiple of 64, and room for 20 digits of rows */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rows are written as they are in memory");

static emb_status write_header(emb_sink *sink, emb_error *error) {
    char header[HEADER_BYTES + 1];
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (char)(HEADER_BYTES - 10);
    header[9] = 0;
    int length = snprintf(header + 10, HEADER_BYTES - 10,
                          "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %u), }",
                          (unsigned long long)sink->rows_written, sink->dim);
    memset(header + 10 + length, ' ', (size_t)(HEADER_BYTES - 10 - length));
    header[HEADER_BYTES - 1] = '\n';
    return emb_output_write_at(&sink->output, header, HEADER_BYTES, 0, error);
}

/* How many rows from here on succeeded and are contiguous in memory. */
static uint32_t run_length(const emb_row *rows, uint32_t count, uint32_t dim) {
    uint32_t length = 1;
    while (length < count && rows[length].status == EMB_OK &&
           rows[length].values == rows[length - 1].values + dim) {
        length++;
    }
    return length;
}

/* Of a text that failed, the row is NaN: sink->own. */
static emb_status npy_rows(emb_sink *sink, const emb_row *rows, uint32_t count, emb_error *error) {
    size_t row_bytes = (size_t)sink->dim * sizeof(float);
    for (uint32_t i = 0; i < count;) {
        bool good = rows[i].status == EMB_OK;
        uint32_t run = good ? run_length(rows + i, count - i, sink->dim) : 1;
        uint64_t offset = HEADER_BYTES + sink->rows_written * row_bytes;
        EMB_APP_TRY(emb_output_write_at(&sink->output, good ? rows[i].values : sink->own,
                                        run * row_bytes, offset, error));
        sink->rows_written += run;
        i += run;
    }
    return EMB_OK;
}

static size_t npy_bytes(uint32_t dim) {
    return dim * sizeof(float);
}

static emb_status npy_open(emb_sink *sink, emb_error *error) {
    float *failed = sink->own;
    for (uint32_t i = 0; i < sink->dim; i++) failed[i] = NAN;
    return write_header(sink, error);
}

const emb_sink_ops emb_sink_npy_ops = {
    .suffixes = (const char *const[]){".npy", NULL},
    .needs_file = "its header is written last",
    .behind = true,
    .bytes = npy_bytes,
    .open = npy_open,
    .rows = npy_rows,
    .finish = write_header,
};
