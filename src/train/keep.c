/* keep.c - what of a batch's activations is worth its bytes until the way back.
 *
 * A tile whose sums are gone goes forwards once more; the inside of a block that is not there is
 * computed again. The last slab is shared by all tiles that have none of their own, so its insides
 * serve all of them: with many tiles they come before slabs of sums.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/keep.h"

/* Multiplications a token; the softmax costs about as much as the products beside it. */
static double attention_of(const emb_layer_spec *spec) {
    return 4.0 * emb_spec_context(spec) * spec->chunk_tokens_max;
}

static double weights_of(const emb_layer_spec *spec) {
    double hidden = spec->hidden;
    return hidden * (4.0 * emb_spec_context(spec) + 2.0 * spec->intermediate);
}

double emb_train_keep_weights(const emb_layer_spec *spec) {
    return weights_of(spec) / (weights_of(spec) + attention_of(spec));
}

emb_keep_costs emb_train_keep_costs(const emb_train_lane *lane, uint32_t tiles) {
    const emb_layer_spec *spec = &lane->spec;
    uint64_t layers = lane->params->shape->layers;
    double hidden = spec->hidden, context = emb_spec_context(spec), wide = spec->intermediate;
    double qkv = 3 * hidden * context, attention = attention_of(spec);
    double all = attention + weights_of(spec);
    return (emb_keep_costs){
        .tiles = tiles,
        .sums = {lane->slab_bytes, 1},
        .attention = {layers * lane->attention_bytes, (qkv + attention) / all},
        .ffn = {layers * lane->ffn_bytes, hidden * wide / all},
    };
}

/* Passes forward that a step does again. */
static double again(const emb_keep_costs *c, const emb_train_sizes *sizes) {
    uint32_t gone = c->tiles - sizes->slabs; /* tiles that share the last slab with another */
    uint32_t attention = sizes->attention_slabs ? sizes->attention_slabs + gone : 0;
    uint32_t ffn = sizes->ffn_slabs ? sizes->ffn_slabs + gone : 0;
    return gone * c->sums.share + (c->tiles - attention) * c->attention.share +
           (c->tiles - ffn) * c->ffn.share;
}

/* As many more as are left to keep, and as there are bytes for. */
static uint32_t more(uint64_t *bytes, const emb_keep *keep, uint32_t most) {
    uint64_t count = keep->bytes ? *bytes / keep->bytes : 0;
    if (count > most) count = most;
    *bytes -= count * keep->bytes;
    return (uint32_t)count;
}

void emb_train_keep_choose(emb_train_sizes *sizes, const emb_keep_costs *c, uint64_t bytes) {
    bool attention_first =
        c->attention.share * (double)c->ffn.bytes >= c->ffn.share * (double)c->attention.bytes;
    double least = -1;
    emb_train_sizes best = *sizes;
    for (uint32_t shared = 0; shared < 4; shared++) { /* insides that the last slab begins with */
        emb_train_sizes s = *sizes;
        uint64_t rest = bytes;
        s.attention_slabs = more(&rest, &c->attention, shared & 1);
        s.ffn_slabs = more(&rest, &c->ffn, shared >> 1);
        s.slabs = 1 + more(&rest, &c->sums, c->tiles - 1);
        if (attention_first)
            s.attention_slabs += more(&rest, &c->attention, s.slabs - s.attention_slabs);
        s.ffn_slabs += more(&rest, &c->ffn, s.slabs - s.ffn_slabs);
        s.attention_slabs += more(&rest, &c->attention, s.slabs - s.attention_slabs);
        double cost = again(c, &s);
        if (least >= 0 && cost >= least) continue;
        least = cost;
        best = s;
    }
    *sizes = best;
}

/* With sums of every k-th layer alone, all layers but the last of them are passed once more. */
double emb_train_keep_passes(const emb_train_sizes *sizes, const emb_keep_costs *costs,
                             uint32_t layers) {
    bool segmented = sizes->every && sizes->every < layers;
    double between = segmented ? 1 - (double)sizes->every / layers : 0;
    return 3 + between + again(costs, sizes) / costs->tiles;
}
