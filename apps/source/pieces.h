/* pieces.h - helpers with which sources make texts: pieces, prompts, counts of invalid UTF-8.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_PIECES_H
#define EMB_SOURCE_PIECES_H

#include "source/source.h"

/* Initialises a source that is not in the registry, or before its ops open it. No input is open. */
void emb_source_init(emb_source *source, const emb_source_ops *ops, void *own,
                     const emb_source_options *options);

typedef struct emb_piece_list {
    emb_piece *pieces;
    uint32_t capacity, count;
} emb_piece_list;

/* Room for a prompt, a piece and an end? */
bool emb_piece_list_full(const emb_piece_list *list);

/* Adds bytes to the current text, starting it (with its prompt) if need be. */
void emb_source_add(emb_source *source, emb_piece_list *list, const void *data, size_t length);

/* Ends the current text (an empty one if nothing was added). Fails: EMB_BAD_TEXT (it is not UTF-8,
 * and `invalid` makes that an error): the text has ended nevertheless. */
emb_status emb_source_end(emb_source *source, emb_piece_list *list, emb_error *error);

/* Ends the current text, which fails for a reason of its own. */
void emb_source_end_bad(emb_source *source, emb_piece_list *list);

/* Names for a message: "id", "text". What does not fit is replaced by "...". */
typedef struct emb_source_names {
    char text[96];
    uint8_t used;
    bool full;
} emb_source_names;

void emb_source_names_add(emb_source_names *names, const char *name, size_t length);

#endif
