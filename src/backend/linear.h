/* linear.h - parameters in a backend's form: matrices, layers, the embedding.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_LINEAR_H
#define EMB_BACKEND_LINEAR_H

#include "base/dtype.h"
#include "base/ledger.h"
#include "base/quantize.h"

/* A matrix applied as out = in * W^T + bias, W [rows, cols]. `packed` is private to the backend. */
typedef struct emb_linear {
    uint32_t rows, cols;
    emb_dtype dtype;
    uint32_t group; /* I4: cols that share a scale, set before linear_layout; else unused */
    void *packed;
    float *bias;      /* [rows] */
    void *bias_typed; /* NULL, or [rows] in `dtype`, for a backend that needs the bias in that form
                         too */
    float *smooth;    /* NULL, or [cols]: in is multiplied by it before it is quantized */
    float *scales;    /* I8, I4, FP8: private, as `packed` */
    float *bounds;    /* FP8: [2], bounds of the outputs; filled in for ffn_in only */
    int32_t *sums;    /* I8, I4: of the quantized weights that share a scale */
    uint8_t *zeros;   /* I4 */
} emb_linear;

typedef struct emb_layer {
    emb_linear qkv;                          /* [3 * hidden, hidden]: queries, keys, values */
    emb_linear attention_out;                /* [hidden, hidden] */
    emb_linear ffn_in;                       /* [intermediate, hidden] */
    emb_linear ffn_out;                      /* [hidden, intermediate] */
    float *attention_gain, *attention_shift; /* [hidden] */
    float *ffn_gain, *ffn_shift;             /* [hidden] */
} emb_layer;

#define EMB_PACK_ROWS 64 /* matrices are packed in steps of so many rows */

typedef struct emb_embedding {
    emb_dtype dtype;
    const void *words;         /* [rows] of emb_dtype_row_bytes each; ids index its rows */
    const float *positions;    /* [chunk_tokens_max, hidden]; token type row 0 already added */
    const float *gain, *shift; /* [hidden] */
} emb_embedding;

#endif
