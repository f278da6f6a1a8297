/* ffn.c - the feed-forward, forwards and back.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "train/cpu/blocks.h"

typedef struct activation {
    const emb_train_run *run;
    float *out;
    const float *in;
    uint32_t tokens, cols;
    bool back; /* out is the gradient behind the activation, to become that before it */
} activation;

static void activate_part(void *user, uint32_t index, uint32_t count) {
    const activation *a = user;
    const emb_train_kernels *kernels = emb_train_kernels_in(a->run);
    uint32_t first = emb_team_begin(a->tokens, 1, index, count);
    uint32_t end = emb_team_begin(a->tokens, 1, index + 1, count);
    size_t at = (size_t)first * a->cols, values = (size_t)(end - first) * a->cols;
    (a->back ? kernels->gelu_back : kernels->gelu)(a->out + at, a->in + at, values);
}

void emb_train_cpu_ffn(const emb_train_run *run, void *x, void *sum, void *kept,
                       const emb_tile *tile, const emb_layer_params *w) {
    emb_train_buffers b = emb_train_buffers_of(run);
    uint32_t hidden = run->spec->hidden, wide = run->spec->intermediate, tokens = tile->tokens;
    float *before = kept ? kept : b.before;
    emb_train_linear(run, before, x, w->ffn_in, w->ffn_in_bias, tokens, wide, hidden);
    activation a = {run, b.after, before, tokens, wide, false};
    emb_team_run(run->team, activate_part, &a);
    emb_train_linear(run, sum, b.after, w->ffn_out, w->ffn_out_bias, tokens, hidden, wide);
    emb_train_end_block(run, x, sum, tile, EMB_DROP_FFN, w->ffn_gain, w->ffn_shift);
}

void emb_train_cpu_ffn_back(const emb_train_run *run, const emb_layer_params *g, void *d,
                            const void *in, const void *kept, const emb_tile *tile,
                            const emb_layer_params *w) {
    emb_train_buffers b = emb_train_buffers_of(run);
    uint32_t hidden = run->spec->hidden, wide = run->spec->intermediate, tokens = tile->tokens;
    const float *before = kept ? kept : b.before;
    const float *d_out = emb_train_drop(run, b.dropped, d, tile, EMB_DROP_FFN);
    if (!kept) emb_train_linear(run, b.before, in, w->ffn_in, w->ffn_in_bias, tokens, wide, hidden);
    activation a = {run, b.after, before, tokens, wide, false};
    emb_team_run(run->team, activate_part, &a);
    emb_train_linear_gradients(run, g->ffn_out, g->ffn_out_bias, d_out, b.after, tokens, hidden,
                               wide);
    emb_train_linear_back(run, b.after, d_out, w->ffn_out, tokens, hidden, wide, false);
    a.back = true;
    emb_team_run(run->team, activate_part, &a);
    emb_train_linear_gradients(run, g->ffn_in, g->ffn_in_bias, b.after, in, tokens, wide, hidden);
    emb_train_linear_back(run, d, b.after, w->ffn_in, tokens, wide, hidden, true);
}
