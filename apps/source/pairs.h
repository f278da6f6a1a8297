/* pairs.h - source of scored sentence pairs: two texts per row, and a number.
 *
 * Feeds `eval`. A first pass over the table finds its columns and counts its rows, so that the
 * memory for the scores can be planned.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_PAIRS_H
#define EMB_SOURCE_PAIRS_H

#include "source/heading.h"

typedef struct emb_pairs {
    emb_source source;
    emb_csv csv;
    const char *path;
    emb_heading heading;
    uint32_t rows_max;                                  /* rows of the table, its header included */
    uint32_t score_column, first_column, second_column; /* 0-based */
    double *scores; /* [rows_max], the caller's; NaN: the row is invalid */
    uint32_t pairs; /* rows given so far */
    char score_text[EMB_HEADING_CELL_TEXT];
    uint32_t score_length, cells_done;
    bool row_bad, row_excess, header_passed;
    bool cell_bad; /* the row fails, for the reason in cell_error */
    emb_error cell_error;
} emb_pairs;

/* Makes the first pass. columns: "SCORE,FIRST,SECOND" as names or 1-based numbers, or NULL for
 * score,sentence1,sentence2 (with a header row) or 5,6,7 (without).
 * Needs: buffer of EMB_SOURCE_BYTES, for this call. Fails: EMB_NOT_FOUND, EMB_BAD_FILE,
 * EMB_INVALID_ARGUMENT. */
emb_status emb_pairs_inspect(emb_pairs *pairs, const char *path, const char *columns,
                             const emb_source_options *options, void *buffer, emb_error *error);

/* Starts reading; may be called again to read once more. scores: [rows_max]. The source fails with
 * EMB_BAD_FILE if the table has more rows by then. */
emb_status emb_pairs_open(emb_pairs *pairs, const emb_source_options *options, double *scores,
                          int stop_descriptor, void *memory, emb_error *error);

#endif
