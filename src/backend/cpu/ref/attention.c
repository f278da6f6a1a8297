/* attention.c - softmax(q k^T) v of one head in plain C, key block by key block: the running
 * maximum, the running sum and the running output are rescaled when the maximum grows.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/ref/ref.h"

#include <math.h>

/* Scaled scores of query i and keys [j0, j0 + count); gives their maximum. */
static float score(float *scores, const emb_cpu_attention *a, uint32_t i, uint32_t j0,
                   uint32_t count) {
    const float *query = a->queries + i * a->stride;
    float highest = -INFINITY;
    for (uint32_t j = j0; j < j0 + count; j++) {
        const float *key = a->keys + j * a->stride;
        float sum = 0.0f;
        for (uint32_t d = 0; d < a->head_dim; d++) sum += query[d] * a->scale * key[d];
        if (a->relative) sum += a->relative[(ptrdiff_t)j - (ptrdiff_t)i];
        scores[j - j0] = sum;
        highest = sum > highest ? sum : highest;
    }
    return highest;
}

/* Adds the block's weighted values to out; gives the sum of its weights. */
static float gather(float *out, const emb_cpu_attention *a, const float *scores, float highest,
                    uint32_t j0, uint32_t count) {
    float total = 0.0f;
    for (uint32_t j = 0; j < count; j++) {
        const float *value = a->values + (j0 + j) * a->stride;
        float weight = expf(scores[j] - highest);
        total += weight;
        for (uint32_t d = 0; d < a->head_dim; d++) out[d] += weight * value[d];
    }
    return total;
}

void emb_cpu_ref_attention(const emb_cpu_attention *a) {
    float scores[EMB_CPU_KEY_BLOCK];
    for (uint32_t i = 0; i < a->tokens; i++) {
        float *out = (float *)a->out + i * a->out_stride;
        float highest = -INFINITY, total = 0.0f;
        memset(out, 0, a->head_dim * sizeof *out);
        for (uint32_t j = 0; j < a->tokens; j += EMB_CPU_KEY_BLOCK) {
            uint32_t count = a->tokens - j < EMB_CPU_KEY_BLOCK ? a->tokens - j : EMB_CPU_KEY_BLOCK;
            float before = highest, block = score(scores, a, i, j, count);
            highest = block > highest ? block : highest;
            float fade = expf(before - highest);
            for (uint32_t d = 0; d < a->head_dim; d++) out[d] *= fade;
            total = total * fade + gather(out, a, scores, highest, j, count);
        }
        for (uint32_t d = 0; d < a->head_dim; d++) out[d] /= total;
    }
}
