/* blocks.c - the scratch of the CPU's training operations, and those that cost little: embedding,
 * norm, pooling; the table of operations.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cpu/blocks.h"

#include <math.h>
#include <string.h>

/* Cuts the next buffer off; with a base of NULL the end is the number of bytes. */
static float *cut(uintptr_t *end, size_t rows, size_t cols) {
    uintptr_t start = *end;
    *end += (rows * cols * sizeof(float) + EMB_ALIGN - 1) / EMB_ALIGN * EMB_ALIGN;
    return (float *)start;
}

emb_train_attended emb_train_cut_attended(const emb_layer_spec *spec, uint32_t tokens,
                                          const void *memory) {
    uintptr_t end = (uintptr_t)memory;
    uint32_t context = emb_spec_context(spec);
    emb_train_attended a;
    a.qkv = cut(&end, tokens, 3 * (size_t)context);
    a.context = cut(&end, tokens, context);
    a.log_sums = cut(&end, spec->heads, tokens);
    a.bytes = end - (uintptr_t)memory;
    return a;
}

emb_train_buffers emb_train_cut(const emb_layer_spec *spec, uint32_t tokens, uint32_t threads,
                                void *memory) {
    uintptr_t end = (uintptr_t)memory;
    uint32_t context = emb_spec_context(spec);
    uint32_t longest = tokens < spec->chunk_tokens_max ? tokens : spec->chunk_tokens_max;
    emb_train_buffers b = {.longest = (longest + 15) / 16 * 16};
    b.moments = cut(&end, tokens, 2);
    b.work = cut(&end, threads, EMB_TRAIN_WORK);
    b.scores = cut(&end, threads, (size_t)EMB_TRAIN_QUERIES * b.longest);
    b.d_scores = cut(&end, threads, (size_t)EMB_TRAIN_QUERIES * b.longest);
    b.dropped_scores = cut(&end, threads, (size_t)EMB_TRAIN_QUERIES * b.longest);
    b.dropped = cut(&end, tokens, spec->hidden);
    b.row = cut(&end, threads, 2 * (size_t)spec->hidden);
    uintptr_t ffn = end;
    b.before = cut(&ffn, tokens, spec->intermediate);
    b.after = cut(&ffn, tokens, spec->intermediate);
    b.attended = emb_train_cut_attended(spec, tokens, (void *)end);
    end += b.attended.bytes;
    b.d_qkv = cut(&end, tokens, 3 * (size_t)context);
    b.d_context = cut(&end, tokens, context);
    b.bytes = (ffn > end ? ffn : end) - (uintptr_t)memory;
    return b;
}

static void layout(emb_train_run *run, const emb_layer_spec *spec, uint32_t tokens,
                   uint32_t threads, emb_ledger *ledger) {
    emb_train_scratch *scratch = &run->scratch;
    scratch->tokens_max = tokens;
    scratch->threads = threads;
    scratch->memory = emb_ledger_take(ledger, emb_train_cut(spec, tokens, threads, NULL).bytes, 1);
}

/* ---- dropout --------------------------------------------------------------------------------- */

typedef struct drop_job {
    const emb_train_run *run;
    const emb_tile *tile;
    float *out;
    const float *in;
    emb_drop_site site;
} drop_job;

static void drop_part(void *user, uint32_t index, uint32_t count) {
    const drop_job *j = user;
    const emb_train_run *run = j->run;
    uint32_t hidden = run->spec->hidden, end = emb_team_begin(j->tile->chunks, 1, index + 1, count);
    uint64_t key = emb_hash_mix(run->dropout.key, 4 * (uint64_t)run->layer + j->site);
    for (uint32_t c = emb_team_begin(j->tile->chunks, 1, index, count); c < end; c++) {
        uint64_t text = emb_hash_mix(key, run->rows[c]);
        for (uint32_t t = j->tile->starts[c]; t < j->tile->starts[c + 1]; t++) {
            size_t at = (size_t)t * hidden;
            emb_train_kernels_in(run)->drop(j->out + at, j->in + at, hidden,
                                            emb_hash_mix(text, t - j->tile->starts[c]),
                                            run->dropout.hidden);
        }
    }
}

const float *emb_train_drop(const emb_train_run *run, float *out, const float *in,
                            const emb_tile *tile, emb_drop_site site) {
    if (!(run->dropout.hidden > 0)) return in;
    drop_job j = {run, tile, out, in, site};
    emb_team_run(run->team, drop_part, &j);
    return out;
}

static void drop_embedding(const emb_train_run *run, void *x, const emb_tile *tile) {
    emb_train_drop(run, x, x, tile, EMB_DROP_EMBEDDING);
}

/* ---- norm ------------------------------------------------------------------------------------ */

typedef struct norm_job {
    const emb_train_run *run;
    emb_train_buffers b;
    float *out, *d_gain, *d_shift;
    const float *sum, *gain, *shift;
    uint32_t tokens;
} norm_job;

static void norm_rows(void *user, uint32_t index, uint32_t count) {
    const norm_job *j = user;
    const emb_layer_spec *spec = j->run->spec;
    uint32_t end = emb_team_begin(j->tokens, 1, index + 1, count);
    for (uint32_t t = emb_team_begin(j->tokens, 1, index, count); t < end; t++) {
        size_t at = (size_t)t * spec->hidden;
        float *out = j->out ? j->out + at : j->b.row + 2 * (size_t)index * spec->hidden;
        emb_train_kernels_in(j->run)->norm(out, j->b.moments + 2 * (size_t)t, j->sum + at, j->gain,
                                           j->shift, spec->hidden, spec->norm_epsilon);
    }
}

void emb_train_cpu_norm(const emb_train_run *run, void *out, const void *sum, uint32_t tokens,
                        const float *gain, const float *shift) {
    norm_job j = {.run = run,
                  .b = emb_train_buffers_of(run),
                  .out = out,
                  .sum = sum,
                  .gain = gain,
                  .shift = shift,
                  .tokens = tokens};
    emb_team_run(run->team, norm_rows, &j);
}

static void gains_columns(void *user, uint32_t index, uint32_t count) {
    const norm_job *j = user;
    uint32_t hidden = j->run->spec->hidden;
    uint32_t first = emb_team_begin(hidden, 16, index, count);
    uint32_t columns = emb_team_begin(hidden, 16, index + 1, count) - first;
    for (uint32_t t = 0; t < j->tokens && columns; t++) {
        size_t at = (size_t)t * hidden + first;
        emb_train_kernels_in(j->run)->norm_gains(j->d_gain + first, j->d_shift + first, j->out + at,
                                                 j->sum + at, j->b.moments + 2 * (size_t)t,
                                                 columns);
    }
}

static void norm_rows_back(void *user, uint32_t index, uint32_t count) {
    const norm_job *j = user;
    uint32_t hidden = j->run->spec->hidden, end = emb_team_begin(j->tokens, 1, index + 1, count);
    for (uint32_t t = emb_team_begin(j->tokens, 1, index, count); t < end; t++) {
        size_t at = (size_t)t * hidden;
        emb_train_kernels_in(j->run)->norm_back(j->out + at, j->out + at, j->sum + at,
                                                j->b.moments + 2 * (size_t)t, j->gain, hidden);
    }
}

static void norm_back(const emb_train_run *run, float *d_gain, float *d_shift, void *d,
                      const void *sum, uint32_t tokens, const float *gain) {
    norm_job j = {.run = run,
                  .b = emb_train_buffers_of(run),
                  .sum = sum,
                  .gain = gain,
                  .shift = gain, /* the values are not wanted, the moments are */
                  .tokens = tokens};
    emb_team_run(run->team, norm_rows, &j);
    j.out = d;
    j.d_gain = d_gain;
    j.d_shift = d_shift;
    emb_team_run(run->team, gains_columns, &j);
    emb_team_run(run->team, norm_rows_back, &j);
}

/* ---- embedding ------------------------------------------------------------------------------- */

static void embed(const emb_train_run *run, void *x, void *to, const emb_tile *tile,
                  const emb_embed_params *w) {
    float *sum = to;
    uint32_t hidden = run->spec->hidden;
    for (uint32_t c = 0; c < tile->chunks; c++) {
        for (uint32_t t = tile->starts[c]; t < tile->starts[c + 1]; t++) {
            const float *word = w->words + (size_t)tile->ids[t] * hidden;
            size_t place = run->position_offset + t - tile->starts[c];
            const float *position = w->positions + place * hidden;
            float *out = sum + (size_t)t * hidden;
            for (uint32_t i = 0; i < hidden; i++)
                out[i] = word[i] + (w->token_types ? position[i] + w->token_types[i] : position[i]);
        }
    }
    emb_train_cpu_norm(run, x, sum, tile->tokens, w->gain, w->shift);
    drop_embedding(run, x, tile);
}

static void embed_back(const emb_train_run *run, const emb_embed_params *g, const void *d_sum,
                       const emb_tile *tile) {
    const emb_train_kernels *kernels = emb_train_kernels_in(run);
    uint32_t hidden = run->spec->hidden;
    for (uint32_t c = 0; c < tile->chunks; c++) {
        for (uint32_t t = tile->starts[c]; t < tile->starts[c + 1]; t++) {
            const float *d = (const float *)d_sum + (size_t)t * hidden;
            size_t place = run->position_offset + t - tile->starts[c];
            kernels->add(g->words + (size_t)tile->ids[t] * hidden, d, hidden);
            kernels->add(g->positions + place * hidden, d, hidden);
            if (g->token_types) kernels->add(g->token_types, d, hidden);
        }
    }
}

/* ---- pooling --------------------------------------------------------------------------------- */

/* The token that has the largest value in a column. */
static uint32_t largest(const float *in, const emb_tile *tile, uint32_t c, uint32_t hidden,
                        uint32_t column) {
    uint32_t best = tile->starts[c];
    for (uint32_t t = best + 1; t < tile->starts[c + 1]; t++)
        if (in[(size_t)t * hidden + column] > in[(size_t)best * hidden + column]) best = t;
    return best;
}

static void pool_chunk(const emb_train_run *run, float *out, const float *in, const emb_tile *tile,
                       uint32_t c, emb_pooling pooling) {
    uint32_t hidden = run->spec->hidden, start = tile->starts[c];
    uint32_t tokens = tile->starts[c + 1] - start;
    memcpy(out, in + (size_t)start * hidden, hidden * sizeof *out);
    if (pooling == EMB_POOLING_MAX)
        for (uint32_t i = 0; i < hidden; i++)
            out[i] = in[(size_t)largest(in, tile, c, hidden, i) * hidden + i];
    if (pooling != EMB_POOLING_MEAN) return;
    for (uint32_t t = 1; t < tokens; t++)
        emb_train_kernels_in(run)->add(out, in + (size_t)(start + t) * hidden, hidden);
    for (uint32_t i = 0; i < hidden; i++) out[i] /= (float)tokens;
}

static float length_of(const emb_train_run *run, const float *vector) {
    uint32_t hidden = run->spec->hidden;
    return fmaxf(sqrtf(emb_train_kernels_in(run)->dot(vector, vector, hidden)), 1e-12f);
}

static void pool(const emb_train_run *run, void *vectors, const uint32_t *targets, const void *in,
                 const emb_tile *tile, const emb_pool_rule *rule) {
    uint32_t hidden = run->spec->hidden;
    for (uint32_t c = 0; c < tile->chunks; c++) {
        float *out = (float *)vectors + (size_t)targets[c] * hidden;
        pool_chunk(run, out, in, tile, c, rule->pooling);
        float length = rule->normalize ? length_of(run, out) : 1.0f;
        for (uint32_t i = 0; i < hidden; i++) out[i] /= length;
    }
}

/* The gradient before the length became one: what of it goes along the vector changes nothing. */
static void length_back(const emb_train_run *run, float *d, const float *vector,
                        const float *d_vector) {
    uint32_t hidden = run->spec->hidden;
    float length = length_of(run, vector);
    float along = emb_train_kernels_in(run)->dot(vector, d_vector, hidden) / (length * length);
    for (uint32_t i = 0; i < hidden; i++) d[i] = (d_vector[i] - along * vector[i]) / length;
}

static void pool_back(const emb_train_run *run, void *to, const void *d_vectors,
                      const uint32_t *targets, const void *in, const emb_tile *tile,
                      const emb_pool_rule *rule) {
    float *d = to;
    uint32_t hidden = run->spec->hidden;
    emb_train_buffers b = emb_train_buffers_of(run);
    float *pooled = b.row, *d_pooled = b.row + hidden;
    for (uint32_t c = 0; c < tile->chunks; c++) {
        uint32_t start = tile->starts[c], end = tile->starts[c + 1];
        const float *given = (const float *)d_vectors + (size_t)targets[c] * hidden;
        if (rule->normalize) {
            pool_chunk(run, pooled, in, tile, c, rule->pooling);
            length_back(run, d_pooled, pooled, given);
            given = d_pooled;
        }
        bool mean = rule->pooling == EMB_POOLING_MEAN;
        float share = mean ? 1.0f / (float)(end - start) : 0.0f;
        for (uint32_t t = start; t < end; t++)
            for (uint32_t i = 0; i < hidden; i++) d[(size_t)t * hidden + i] = share * given[i];
        if (rule->pooling == EMB_POOLING_CLS)
            memcpy(d + (size_t)start * hidden, given, hidden * sizeof *d);
        for (uint32_t i = 0; i < hidden && rule->pooling == EMB_POOLING_MAX; i++)
            d[(size_t)largest(in, tile, c, hidden, i) * hidden + i] = given[i];
    }
}

static uint64_t attention_kept(const emb_layer_spec *spec, uint32_t tokens) {
    return emb_train_cut_attended(spec, tokens, NULL).bytes;
}

/* What stands before the activation. */
static uint64_t ffn_kept(const emb_layer_spec *spec, uint32_t tokens) {
    return (uint64_t)tokens * spec->intermediate * sizeof(float);
}

const emb_train_ops emb_train_cpu_ops = {
    .name = "cpu",
    .activation_bytes = sizeof(float),
    .layout = layout,
    .attention_kept = attention_kept,
    .ffn_kept = ffn_kept,
    .embed = embed,
    .embed_back = embed_back,
    .drop_embedding = drop_embedding,
    .norm = emb_train_cpu_norm,
    .norm_back = norm_back,
    .attention = emb_train_cpu_attention,
    .attention_back = emb_train_cpu_attention_back,
    .ffn = emb_train_cpu_ffn,
    .ffn_back = emb_train_cpu_ffn_back,
    .pool = pool,
    .pool_back = pool_back,
};
