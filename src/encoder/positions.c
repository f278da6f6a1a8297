/* positions.c - loads what encodes positions: the rows that embed adds, and the relative attention
 * bias.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "encoder/positions.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "encoder/weights_parts.h"

uint32_t emb_relative_bucket(int32_t distance, uint32_t buckets, uint32_t distance_max) {
    uint32_t half = buckets / 2, bucket = distance > 0 ? half : 0;
    uint32_t away = (uint32_t)(distance < 0 ? -distance : distance), exact = half / 2;
    if (away < exact) return bucket + away;
    /* in f32 throughout, as the reference computes it: at a bucket's border a rounding decides */
    float scaled = logf((float)away / (float)exact) /
                   (float)log((double)distance_max / (double)exact) * (float)(half - exact);
    uint32_t far = exact + (uint32_t)scaled;
    return bucket + (far < half ? far : half - 1);
}

emb_status emb_weights_load_relative(emb_weights *w, emb_error *error) {
    const emb_shape *s = w->shape;
    uint32_t width = 2 * w->chunk_tokens_max - 1;
    const float *buckets = w->staging;
    float *row = w->staging + (size_t)s->relative_buckets * s->spec.heads;
    EMB_TRY(emb_model_read_rows(w->files, EMB_TENSOR_RELATIVE, 0, 0, s->relative_buckets,
                                w->staging, w->staging_scratch, error));
    for (uint32_t head = 0; head < s->spec.heads; head++) {
        for (uint32_t i = 0; i < width; i++) {
            int32_t distance = (int32_t)i - (int32_t)(w->chunk_tokens_max - 1);
            uint32_t bucket =
                emb_relative_bucket(distance, s->relative_buckets, s->relative_distance);
            row[i] = buckets[bucket * s->spec.heads + head];
        }
        w->backend->convert(w->backend, w->spec->relative + (size_t)head * width, EMB_DTYPE_F32,
                            row, 1, width);
    }
    return EMB_OK;
}

/* Positions with token type row 0 added, one row at a time; the type's row is kept in staging. */
emb_status emb_weights_load_positions(emb_weights *w, emb_error *error) {
    const emb_shape *s = w->shape;
    float *type = w->staging, *row = w->staging + s->spec.hidden;
    memset(type, 0, s->spec.hidden * sizeof *type);
    if (s->has_token_types)
        EMB_TRY(emb_model_read_rows(w->files, EMB_TENSOR_TOKEN_TYPES, 0, 0, 1, type,
                                    w->staging_scratch, error));
    uint32_t rank, rows, cols;
    bool table = emb_model_tensor_shape(w->files, EMB_TENSOR_POSITIONS, 0, &rank, &rows, &cols);
    for (uint32_t i = 0; i < w->chunk_tokens_max; i++) {
        memset(row, 0, s->spec.hidden * sizeof *row);
        if (table)
            EMB_TRY(emb_model_read_rows(w->files, EMB_TENSOR_POSITIONS, 0, s->position_offset + i,
                                        1, row, w->staging_scratch, error));
        for (uint32_t c = 0; s->has_token_types && c < s->spec.hidden; c++) row[c] += type[c];
        w->backend->convert(w->backend, w->positions + (size_t)i * s->spec.hidden, EMB_DTYPE_F32,
                            row, 1, s->spec.hidden);
    }
    return EMB_OK;
}
