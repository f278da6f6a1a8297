/* token_table.h - the chunks of one window: flat ids, and where each chunk starts.
 *
 * Filled by the engine from what text emits, read by plan (lengths) and encoder (ids).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_TOKEN_TABLE_H
#define EMB_BASE_TOKEN_TABLE_H

#include <stdint.h>

typedef struct emb_token_table {
    uint32_t *ids;    /* [tokens_max], chunk after chunk, special tokens included */
    uint32_t *starts; /* [chunks_max + 1], chunk c is ids[starts[c] .. starts[c + 1]) */
    uint32_t tokens, tokens_max;
    uint32_t chunks, chunks_max;
} emb_token_table;

#endif
