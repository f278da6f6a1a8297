/* attention.c - softmax(q k^T) v of one head in plain C, with an online softmax: the running
 * sum and the output are rescaled when a key tile raises the running maximum.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/ref/ref.h"

#include <math.h>

/* Scaled scores of query i and keys [j0, j0 + count); gives their maximum. */
static float score(float *scores, const emb_cpu_attention *a, uint32_t i, uint32_t j0,
                   uint32_t count) {
    const float *query = a->queries + i * a->stride;
    float maximum = -INFINITY;
    for (uint32_t j = j0; j < j0 + count; j++) {
        const float *key = a->keys + j * a->stride;
        float sum = 0.0f;
        for (uint32_t d = 0; d < a->head_dim; d++) sum += query[d] * a->scale * key[d];
        if (a->relative) sum += a->relative[(ptrdiff_t)j - (ptrdiff_t)i];
        scores[j - j0] = sum;
        maximum = sum > maximum ? sum : maximum;
    }
    return maximum;
}

/* Adds the key tile's weighted values to out; gives the sum of its weights. */
static float add_values(float *out, const emb_cpu_attention *a, const float *scores, float maximum,
                        uint32_t j0, uint32_t count) {
    float weights = 0.0f;
    for (uint32_t j = 0; j < count; j++) {
        const float *value = a->values + (j0 + j) * a->stride;
        float weight = expf(scores[j] - maximum);
        weights += weight;
        for (uint32_t d = 0; d < a->head_dim; d++) out[d] += weight * value[d];
    }
    return weights;
}

void emb_cpu_ref_attention(const emb_cpu_attention *a) {
    float scores[EMB_CPU_KEY_TILE];
    for (uint32_t i = 0; i < a->tokens; i++) {
        float *out = (float *)a->out + i * a->out_stride;
        float maximum = -INFINITY, sum = 0.0f;
        memset(out, 0, a->head_dim * sizeof *out);
        for (uint32_t j = 0; j < a->tokens; j += EMB_CPU_KEY_TILE) {
            uint32_t count = a->tokens - j < EMB_CPU_KEY_TILE ? a->tokens - j : EMB_CPU_KEY_TILE;
            float before = maximum, tile = score(scores, a, i, j, count);
            maximum = tile > maximum ? tile : maximum;
            float rescale = expf(before - maximum);
            for (uint32_t d = 0; d < a->head_dim; d++) out[d] *= rescale;
            sum = sum * rescale + add_values(out, a, scores, maximum, j, count);
        }
        for (uint32_t d = 0; d < a->head_dim; d++) out[d] /= sum;
    }
}
