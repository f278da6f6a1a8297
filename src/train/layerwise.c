/* layerwise.c - which gradients are at hand, and moving their parameters.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/layerwise.h"

#include <math.h>
#include <string.h>

enum { NORM_VALUES = 4096 }; /* as in optimizer.c */

/* The first values of a layer; of none: where the last one ends. */
static uint64_t layer_first(const emb_params *params, uint32_t layer) {
    for (uint32_t i = 0; i < params->ranges_count; i++)
        if (params->ranges[i].depth == layer + 1) return params->ranges[i].first;
    return params->values;
}

/* Where the words end, which are the first tensor. */
static uint64_t words_end(const emb_params *params) {
    return params->ranges[0].first + params->ranges[0].values;
}

static uint64_t most(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* All layers have the same tensors. The least is what a block of words needs, and a piece of a
 * checkpoint that is only looked at. */
uint64_t emb_layerwise_count(const emb_params *params) {
    const emb_shape *shape = params->shape;
    uint64_t layers = params->values - params->layers_first, least = 1u << 18;
    uint64_t count = (layers + shape->layers - 1) / shape->layers + EMB_PARAM_BLOCK;
    uint64_t words = (uint64_t)shape->vocabulary * shape->spec.hidden;
    count = most(count, params->layers_first - words);
    count = most(count, (uint64_t)EMB_PARAM_BLOCK * shape->spec.hidden);
    return most(count, params->values < least ? params->values : least);
}

void emb_layerwise_start(emb_layerwise *l) {
    emb_optimizer_begin(l->optimizer);
    l->squares = 0;
}

static void begin(emb_layerwise *l, uint64_t first, uint64_t end) {
    l->first = first;
    l->end = end;
    memset(l->gradients, 0, (end - first) * sizeof *l->gradients);
}

void emb_layerwise_begin(emb_layerwise *l, uint32_t layer) {
    begin(l, layer_first(l->params, layer), layer_first(l->params, layer + 1));
}

void emb_layerwise_begin_outside(emb_layerwise *l) {
    begin(l, words_end(l->params), l->params->layers_first);
}

void emb_layerwise_end(emb_layerwise *l) {
    uint64_t count = l->end - l->first;
    for (uint64_t at = 0; at < count; at += NORM_VALUES) {
        uint32_t some = count - at < NORM_VALUES ? (uint32_t)(count - at) : NORM_VALUES;
        l->squares += l->optimizer->kernels->dot(l->gradients + at, l->gradients + at, some);
    }
    if (!isfinite(l->squares)) return;
    emb_optimizer_move(l->optimizer, l->values, l->gradients, l->first, l->end);
}

/* So many rows at once as there is room for, in whole blocks of the optimizer's. */
void emb_layerwise_words(emb_layerwise *l, const float *d_sum, const emb_tile *tile) {
    uint32_t hidden = l->params->shape->spec.hidden, vocabulary = l->params->shape->vocabulary;
    uint32_t rows = (uint32_t)(l->count / hidden / EMB_PARAM_BLOCK * EMB_PARAM_BLOCK);
    for (uint32_t row = 0; row < vocabulary; row += rows) {
        bool last = vocabulary - row <= rows;
        uint64_t first = (uint64_t)row * hidden;
        begin(l, first, last ? words_end(l->params) : first + (uint64_t)rows * hidden);
        for (uint32_t t = 0; t < tile->tokens; t++) {
            uint32_t place = tile->ids[t] - row; /* wraps around if it is before them */
            if (place >= rows) continue;
            l->optimizer->kernels->add(l->gradients + (size_t)place * hidden,
                                       d_sum + (size_t)t * hidden, hidden);
        }
        emb_layerwise_end(l);
    }
}
