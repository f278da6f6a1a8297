/* heading.h - the first row of a table: how its cells stand apart, and which column is which.
 *
 * Feeds the readers of tables that look a file through before they read it: pairs, examples.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_HEADING_H
#define EMB_SOURCE_HEADING_H

#include "source/csv.h"
#include "source/pieces.h"

#define EMB_HEADING_CELLS     64 /* columns that are looked at */
#define EMB_HEADING_CELL_TEXT 40
#define EMB_HEADING_NONE      UINT32_MAX

typedef struct emb_heading {
    char delimiter;
    bool quotes;
    bool names;                                           /* it names columns, and is no data */
    char cells[EMB_HEADING_CELLS][EMB_HEADING_CELL_TEXT]; /* of the first row */
    uint32_t cells_count;                                 /* all that it has */
} emb_heading;

/* Tabs in the first line mean tab separated, and then a quote is a character like any other, as in
 * the STS benchmark; else it is as the options say. */
void emb_heading_guess(emb_heading *heading, const char *bytes, size_t length,
                       const emb_source_options *options);

/* Keeps a cell, piece by piece, of the first row that is not blank. */
void emb_heading_add(emb_heading *heading, const emb_csv *csv);

/* How many of the cells were kept. */
uint32_t emb_heading_kept(const emb_heading *heading);

/* The column, 0-based, of that name or 1-based number, `length` characters long; or none. */
uint32_t emb_heading_find(const emb_heading *heading, const char *name, size_t length);

/* Resolves "A,B,C" into `count` columns, no two the same. False if it cannot be. */
bool emb_heading_resolve(const emb_heading *heading, const char *columns, uint32_t *found,
                         uint32_t count);

/* Lists the cells for a message, and gives what to add to it about the delimiter. */
const char *emb_heading_describe(const emb_heading *heading, emb_source_names *names);

/* Whether the text is a finite number, blanks around it allowed. value may be NULL. */
bool emb_heading_number(const char *text, double *value);

#endif
