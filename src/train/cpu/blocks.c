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

/* ---- rows of a tile -------------------------------------------------------------------------- */

/* What is done with each row of a tile: steps that are NULL, or dropout of nothing, are left out.
 */
typedef struct rows_job {
    const emb_train_run *run;
    const emb_tile *tile;
    float *out;
    const float *in;
    emb_drop_site site;
    const float *add;        /* to what dropout leaves */
    float *normed, *moments; /* the norm of that */
    const float *gain, *shift;
    const emb_embed_params *embed; /* makes `out` in the first place */
} rows_job;

static void embed_row(const rows_job *j, float *out, uint32_t token, uint32_t place) {
    const emb_embed_params *w = j->embed;
    uint32_t hidden = j->run->spec->hidden;
    const float *word = w->words + (size_t)j->tile->ids[token] * hidden;
    const float *position = w->positions + ((size_t)j->run->position_offset + place) * hidden;
    for (uint32_t i = 0; i < hidden; i++)
        out[i] = word[i] + (w->token_types ? position[i] + w->token_types[i] : position[i]);
}

static void do_row(const rows_job *j, uint32_t token, uint32_t place, uint64_t text) {
    const emb_train_run *run = j->run;
    const emb_train_kernels *kernels = emb_train_kernels_in(run);
    uint32_t hidden = run->spec->hidden;
    size_t at = (size_t)token * hidden;
    float *out = j->out + at;
    if (j->embed) embed_row(j, out, token, place);
    if (!j->embed && run->dropout.hidden > 0)
        kernels->drop(out, j->in + at, hidden, emb_hash_mix(text, place), run->dropout.hidden);
    if (j->add) kernels->add(out, j->add + at, hidden);
    if (!j->normed) return;
    kernels->norm(j->normed + at, j->moments + 2 * (size_t)token, out, j->gain, j->shift, hidden,
                  run->spec->norm_epsilon);
    if (j->embed && run->dropout.hidden > 0)
        kernels->drop(j->normed + at, j->normed + at, hidden, emb_hash_mix(text, place),
                      run->dropout.hidden);
}

static void do_rows(void *user, uint32_t index, uint32_t count) {
    const rows_job *j = user;
    const emb_tile *tile = j->tile;
    uint32_t first = emb_team_begin(tile->tokens, 1, index, count);
    uint32_t end = emb_team_begin(tile->tokens, 1, index + 1, count);
    uint64_t key = emb_hash_mix(j->run->dropout.key, 4 * (uint64_t)j->run->layer + j->site);
    for (uint32_t c = 0; c < tile->chunks; c++) {
        uint32_t start = tile->starts[c], next = tile->starts[c + 1];
        uint64_t text = emb_hash_mix(key, j->run->rows[c]);
        for (uint32_t t = start < first ? first : start; t < next && t < end; t++)
            do_row(j, t, t - start, text);
    }
}

const float *emb_train_drop(const emb_train_run *run, float *out, const float *in,
                            const emb_tile *tile, emb_drop_site site) {
    if (!(run->dropout.hidden > 0)) return in;
    rows_job j = {.run = run, .tile = tile, .out = out, .in = in, .site = site};
    emb_team_run(run->team, do_rows, &j);
    return out;
}

void emb_train_end_block(const emb_train_run *run, float *x, float *sum, const emb_tile *tile,
                         emb_drop_site site, const float *gain, const float *shift) {
    rows_job j = {.run = run,
                  .tile = tile,
                  .out = sum,
                  .in = sum,
                  .site = site,
                  .add = x,
                  .normed = x,
                  .moments = emb_train_buffers_of(run).moments,
                  .gain = gain,
                  .shift = shift};
    emb_team_run(run->team, do_rows, &j);
}

static void drop_embedding(const emb_train_run *run, void *x, const emb_tile *tile) {
    emb_train_drop(run, x, x, tile, EMB_DROP_EMBEDDING);
}

static void embed(const emb_train_run *run, void *x, void *sum, const emb_tile *tile,
                  const emb_embed_params *w) {
    rows_job j = {.run = run,
                  .tile = tile,
                  .out = sum,
                  .site = EMB_DROP_EMBEDDING,
                  .normed = x,
                  .moments = emb_train_buffers_of(run).moments,
                  .gain = w->gain,
                  .shift = w->shift,
                  .embed = w};
    emb_team_run(run->team, do_rows, &j);
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
    if (d_gain) emb_team_run(run->team, gains_columns, &j);
    emb_team_run(run->team, norm_rows_back, &j);
}

/* ---- embedding ------------------------------------------------------------------------------- */

typedef struct embed_job {
    const emb_train_run *run;
    const emb_tile *tile;
    const emb_embed_params *g;
    const float *d;
} embed_job;

/* A thread takes columns: a word may stand anywhere. */
static void embed_columns(void *user, uint32_t index, uint32_t count) {
    const embed_job *j = user;
    const emb_tile *tile = j->tile;
    const emb_train_kernels *kernels = emb_train_kernels_in(j->run);
    uint32_t hidden = j->run->spec->hidden, first = emb_team_begin(hidden, 16, index, count);
    uint32_t columns = emb_team_begin(hidden, 16, index + 1, count) - first;
    if (!columns) return;
    for (uint32_t c = 0; c < tile->chunks; c++) {
        for (uint32_t t = tile->starts[c]; t < tile->starts[c + 1]; t++) {
            const float *d = j->d + (size_t)t * hidden + first;
            size_t place = (size_t)j->run->position_offset + t - tile->starts[c];
            if (j->g->words)
                kernels->add(j->g->words + (size_t)tile->ids[t] * hidden + first, d, columns);
            kernels->add(j->g->positions + place * hidden + first, d, columns);
        }
    }
    if (j->g->token_types)
        kernels->add_rows(j->g->token_types + first, j->d + first, hidden, tile->tokens, columns);
}

static void embed_back(const emb_train_run *run, const emb_embed_params *g, const void *d_sum,
                       const emb_tile *tile) {
    embed_job j = {run, tile, g, d_sum};
    emb_team_run(run->team, embed_columns, &j);
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

typedef struct pool_job {
    const emb_train_run *run;
    const emb_tile *tile;
    const uint32_t *targets;
    const emb_pool_rule *rule;
    const float *in;
    float *vectors;
    float *d; /* of `in`, on the way back */
    const float *d_vectors;
} pool_job;

static void pool_part(void *user, uint32_t index, uint32_t count) {
    const pool_job *j = user;
    uint32_t hidden = j->run->spec->hidden, chunks = j->tile->chunks;
    uint32_t end = emb_team_begin(chunks, 1, index + 1, count);
    for (uint32_t c = emb_team_begin(chunks, 1, index, count); c < end; c++) {
        float *out = j->vectors + (size_t)j->targets[c] * hidden;
        pool_chunk(j->run, out, j->in, j->tile, c, j->rule->pooling);
        float length = j->rule->normalize ? length_of(j->run, out) : 1.0f;
        for (uint32_t i = 0; i < hidden; i++) out[i] /= length;
    }
}

static void pool(const emb_train_run *run, void *vectors, const uint32_t *targets, const void *in,
                 const emb_tile *tile, const emb_pool_rule *rule) {
    pool_job j = {run, tile, targets, rule, in, vectors, NULL, NULL};
    emb_team_run(run->team, pool_part, &j);
}

/* The gradient before the length became one: what of it goes along the vector changes nothing. */
static void length_back(const emb_train_run *run, float *d, const float *vector,
                        const float *d_vector) {
    uint32_t hidden = run->spec->hidden;
    float length = length_of(run, vector);
    float along = emb_train_kernels_in(run)->dot(vector, d_vector, hidden) / (length * length);
    for (uint32_t i = 0; i < hidden; i++) d[i] = (d_vector[i] - along * vector[i]) / length;
}

static void pool_chunk_back(const pool_job *j, uint32_t c, float *pooled, float *d_pooled) {
    uint32_t hidden = j->run->spec->hidden, start = j->tile->starts[c],
             end = j->tile->starts[c + 1];
    const float *given = j->d_vectors + (size_t)j->targets[c] * hidden;
    if (j->rule->normalize) {
        pool_chunk(j->run, pooled, j->in, j->tile, c, j->rule->pooling);
        length_back(j->run, d_pooled, pooled, given);
        given = d_pooled;
    }
    bool mean = j->rule->pooling == EMB_POOLING_MEAN;
    float share = mean ? 1.0f / (float)(end - start) : 0.0f;
    for (uint32_t t = start; t < end; t++)
        for (uint32_t i = 0; i < hidden; i++) j->d[(size_t)t * hidden + i] = share * given[i];
    if (j->rule->pooling == EMB_POOLING_CLS)
        memcpy(j->d + (size_t)start * hidden, given, hidden * sizeof *given);
    for (uint32_t i = 0; i < hidden && j->rule->pooling == EMB_POOLING_MAX; i++)
        j->d[(size_t)largest(j->in, j->tile, c, hidden, i) * hidden + i] = given[i];
}

static void pool_part_back(void *user, uint32_t index, uint32_t count) {
    const pool_job *j = user;
    uint32_t hidden = j->run->spec->hidden, chunks = j->tile->chunks;
    uint32_t end = emb_team_begin(chunks, 1, index + 1, count);
    float *row = emb_train_buffers_of(j->run).row + 2 * (size_t)index * hidden;
    for (uint32_t c = emb_team_begin(chunks, 1, index, count); c < end; c++)
        pool_chunk_back(j, c, row, row + hidden);
}

static void pool_back(const emb_train_run *run, void *d, const void *d_vectors,
                      const uint32_t *targets, const void *in, const emb_tile *tile,
                      const emb_pool_rule *rule) {
    pool_job j = {run, tile, targets, rule, in, NULL, d, d_vectors};
    emb_team_run(run->team, pool_part_back, &j);
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
