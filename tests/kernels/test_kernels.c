/* test_kernels.c - every block operation of every backend that this CPU has, on awkward shapes,
 * against double precision; guard bytes around every buffer; and that a chunk's bits do not depend
 * on the tile, the place in it or the buffers around it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "backend/cpu/registry.h"
#include "encoder/walk.h"
#include "kernels/parts.h"
#include "kernels/rig.h"

typedef struct variant {
    const emb_backend *backend;
    emb_dtype dtype;
    double tolerance; /* of a normalised value */
    double cosine;    /* of a row */
} variant;

static const rig_sizes shapes[] = {
    {2, 16, 64, 512, false}, {3, 16, 100, 70, true},     {1, 32, 33, 160, false},
    {5, 7, 51, 90, true},    {12, 32, 1536, 160, false}, {12, 64, 3072, 64, true},
    {2, 64, 200, 160, true}, {4, 24, 96, 66, false},     {1, 1, 1, 40, false},
    {2, 33, 130, 70, true},  {3, 128, 256, 40, false},   {8, 48, 65, 40, true},
};

static const uint32_t lengths[][12] = {
    {1},     {1, 1, 1, 2, 3},       {16},      {17, 1, 15, 5}, {33, 31}, {64, 2},
    {65, 7}, {40, 1, 20, 3, 16, 1}, {130, 29}, {512},
};

/* A tile of these lengths, or no tile if a chunk is too long for the shape. */
static bool make_tile(emb_tile *tile, uint32_t *starts, const uint32_t *chunks, uint32_t longest) {
    uint32_t count = 0;
    starts[0] = 0;
    for (; count < 12 && chunks[count]; count++) {
        if (chunks[count] > longest) return false;
        starts[count + 1] = starts[count] + chunks[count];
    }
    *tile = (emb_tile){.tokens = starts[count], .chunks = count, .starts = starts};
    return true;
}

typedef void (*block)(const emb_backend *self, emb_lane_scratch *lane, void *out, const void *in,
                      const emb_tile *tile, const emb_layer *layer, const emb_layer_spec *shape);
typedef void (*oracle)(double *out, const float *in, const emb_tile *tile, const rig_layer *rig);

static void compare(const variant *v, const rig_layer *rig, const char *what, const emb_tile *tile,
                    const float *got, const double *expected) {
    uint32_t hidden = rig->shape.hidden;
    double difference = rig_difference(got, expected, (size_t)tile->tokens * hidden);
    double cosine = rig_cosine(got, expected, tile->tokens, hidden);
    rig_check(difference <= v->tolerance, "%s %s hidden %u heads %u tokens %u chunks %u: off by %g",
              v->backend->numerics, what, hidden, rig->shape.heads, tile->tokens, tile->chunks,
              difference);
    rig_check(cosine >= v->cosine || hidden < 8, "%s %s hidden %u tokens %u: cosine 1 - %g",
              v->backend->numerics, what, hidden, tile->tokens, 1.0 - cosine);
}

static void test_block(const variant *v, rig_layer *rig, const char *what, block run, oracle expect,
                       const emb_tile *tile) {
    size_t count = (size_t)tile->tokens * rig->shape.hidden, bytes = count * sizeof(float);
    float *in = rig_take(bytes, 4), *kept = rig_take(bytes, 0), *out = rig_take(bytes, 12);
    double *expected = malloc(count * sizeof *expected);
    if (!expected) exit(71);
    rig_fill(in, count, 1.7f);
    memcpy(kept, in, bytes);
    expect(expected, in, tile, rig);
    run(v->backend, &rig->scratch, out, in, tile, &rig->layer, &rig->shape);
    rig_check(!memcmp(in, kept, bytes), "%s %s changed its input", v->backend->numerics, what);
    compare(v, rig, what, tile, out, expected);
    run(v->backend, &rig->scratch, in, in, tile, &rig->layer, &rig->shape);
    rig_check(!memcmp(in, out, bytes), "%s %s differs in place", v->backend->numerics, what);
    rig_give(in);
    rig_give(kept);
    rig_give(out);
    free(expected);
}

/* A chunk alone in a small lane, at another offset, against the chunk inside the tile. */
static void test_alone(const variant *v, rig_layer *rig, const emb_tile *tile) {
    uint32_t hidden = rig->shape.hidden;
    size_t bytes = (size_t)tile->tokens * hidden * sizeof(float);
    float *in = rig_take(bytes, 0), *all = rig_take(bytes, 8);
    rig_fill(in, bytes / sizeof *in, 1.7f);
    v->backend->attention_block(v->backend, &rig->scratch, all, in, tile, &rig->layer, &rig->shape);
    v->backend->ffn_block(v->backend, &rig->scratch, all, all, tile, &rig->layer, &rig->shape);
    for (uint32_t c = 0; c < tile->chunks; c++) {
        uint32_t starts[2] = {0, tile->starts[c + 1] - tile->starts[c]};
        emb_tile one = {.tokens = starts[1], .chunks = 1, .starts = starts};
        size_t first = (size_t)tile->starts[c] * hidden, part = starts[1] * hidden * sizeof(float);
        float *x = rig_take(part, 4);
        v->backend->attention_block(v->backend, &rig->scratch, x, in + first, &one, &rig->layer,
                                    &rig->shape);
        v->backend->ffn_block(v->backend, &rig->scratch, x, x, &one, &rig->layer, &rig->shape);
        rig_check(!memcmp(x, all + first, part), "%s: chunk %u of %u has other bits alone",
                  v->backend->numerics, c, tile->chunks);
        rig_give(x);
    }
    rig_give(in);
    rig_give(all);
}

typedef struct kept_inputs {
    float *blocks[2];
    size_t bytes;
    uint32_t calls;
} kept_inputs;

static void keep_input(void *user, emb_block_kind kind, const void *x, const emb_tile *tile) {
    kept_inputs *kept = user;
    (void)tile;
    memcpy(kept->blocks[kind], x, kept->bytes);
    kept->calls++;
}

/* The walk's layer is the blocks one after the other, and shows what goes into each. */
static void test_inputs(const variant *v, rig_layer *rig, const emb_tile *tile) {
    size_t bytes = (size_t)tile->tokens * rig->shape.hidden * sizeof(float);
    float *in = rig_take(bytes, 0), *middle = rig_take(bytes, 4), *out = rig_take(bytes, 8);
    float *walked = rig_take(bytes, 0);
    kept_inputs kept = {{rig_take(bytes, 0), rig_take(bytes, 0)}, bytes, 0};
    const emb_block_inputs inputs = {keep_input, &kept};
    const emb_layer_step step = {v->backend, &rig->shape, &rig->scratch, &inputs};
    rig_fill(in, bytes / sizeof *in, 1.7f);
    v->backend->attention_block(v->backend, &rig->scratch, middle, in, tile, &rig->layer,
                                &rig->shape);
    v->backend->ffn_block(v->backend, &rig->scratch, out, middle, tile, &rig->layer, &rig->shape);
    emb_walk_layer(&step, walked, in, tile, &rig->layer);
    rig_check(kept.calls == 2 && !memcmp(kept.blocks[EMB_BLOCK_ATTENTION], in, bytes) &&
                  !memcmp(kept.blocks[EMB_BLOCK_FFN], middle, bytes),
              "%s: the blocks' inputs are not those kept", v->backend->numerics);
    rig_check(!memcmp(walked, out, bytes), "%s: the walk gives other bits", v->backend->numerics);
    float *const buffers[] = {in, middle, out, walked, kept.blocks[0], kept.blocks[1]};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) rig_give(buffers[i]);
}

static void test_blocks(const variant *v) {
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
            uint32_t starts[13];
            emb_tile tile;
            if (!make_tile(&tile, starts, lengths[l], shapes[s].chunk_tokens_max)) continue;
            /* the large shapes are slow in double precision: a few tiles are enough */
            if (shapes[s].intermediate > 1000 && tile.tokens > 40) continue;
            rig_layer rig;
            rig_seed((uint32_t)(100 * s + l + 1));
            rig_layer_open(&rig, v->backend, v->dtype, &shapes[s], tile.tokens);
            test_block(v, &rig, "attention_block", v->backend->attention_block,
                       rig_oracle_attention, &tile);
            test_block(v, &rig, "ffn_block", v->backend->ffn_block, rig_oracle_ffn, &tile);
            test_alone(v, &rig, &tile);
            test_inputs(v, &rig, &tile);
            rig_layer_close(&rig);
        }
    }
}

/* Random mixtures at sizes of real models, large enough to cross every block of tokens. */
static void test_mixtures(const variant *v) {
    static const rig_sizes sizes[] = {{12, 32, 1536, 256, false}, {2, 64, 72, 256, true}};
    /* ref is plain about rows, and slow */
    uint32_t count = strcmp(v->backend->name, "ref") ? 6 : 2;
    for (uint32_t n = 0; n < count; n++) {
        uint32_t starts[13] = {0}, chunks = 0;
        rig_seed(77 + n);
        for (; chunks < 12; chunks++) {
            uint32_t length = 1 + (uint32_t)((rig_random() + 1.0f) * (chunks % 3 ? 12 : 75));
            starts[chunks + 1] = starts[chunks] + length;
        }
        emb_tile tile = {.tokens = starts[chunks], .chunks = chunks, .starts = starts};
        rig_layer rig;
        rig_layer_open(&rig, v->backend, v->dtype, &sizes[n % 2], tile.tokens);
        test_alone(v, &rig, &tile);
        rig_layer_close(&rig);
    }
}

/* ---- embed and pool -------------------------------------------------------------------------- */

/* Value i of a table's row. */
static double word_of(const variant *v, const void *row, uint32_t hidden, uint32_t i) {
    if (v->dtype == EMB_DTYPE_F32) return ((const float *)row)[i];
    if (v->dtype == EMB_DTYPE_BF16) return emb_cpu_widen(((const uint16_t *)row)[i]);
    float scale;
    memcpy(&scale, (const unsigned char *)row + emb_dtype_scale_at(hidden), sizeof scale);
    return (double)((const int8_t *)row)[i] * scale;
}

static void test_embed(const variant *v, uint32_t hidden) {
    enum { WORDS = 50, LONGEST = 20 };
    uint32_t starts[4] = {0, 20, 21, 33}, ids[33];
    emb_tile tile = {.tokens = 33, .chunks = 3, .ids = ids, .starts = starts};
    for (uint32_t t = 0; t < tile.tokens; t++) ids[t] = (t * 7 + 3) % WORDS;
    size_t words = (size_t)WORDS * hidden;
    float *plain = rig_take(words * 4, 0), *positions = rig_take((size_t)LONGEST * hidden * 4, 4);
    float *gain = rig_take(hidden * 4, 4), *shift = rig_take(hidden * 4, 8);
    size_t row_bytes = emb_dtype_row_bytes(v->dtype, hidden);
    unsigned char *table = rig_take(WORDS * row_bytes, 0);
    float *out = rig_take((size_t)tile.tokens * hidden * 4, 4);
    rig_fill(plain, words, 1.0f);
    rig_fill(positions, (size_t)LONGEST * hidden, 0.5f);
    rig_fill(gain, hidden, 1.0f);
    rig_fill(shift, hidden, 0.5f);
    v->backend->convert(v->backend, table, v->dtype, plain, WORDS, hidden);
    emb_embedding embedding = {v->dtype, table, positions, gain, shift};
    emb_layer_spec shape = {.hidden = hidden, .chunk_tokens_max = LONGEST, .norm_epsilon = 1e-5f};
    v->backend->embed(v->backend, NULL, out, &tile, &embedding, &shape);
    double *expected = malloc((size_t)tile.tokens * hidden * sizeof *expected);
    if (!expected) exit(71);
    bool close = true;
    for (uint32_t c = 0; c < tile.chunks; c++) {
        for (uint32_t t = starts[c]; t < starts[c + 1]; t++) {
            double *row = expected + (size_t)t * hidden;
            for (uint32_t i = 0; i < hidden; i++) {
                const unsigned char *from = table + ids[t] * row_bytes;
                double word = word_of(v, from, hidden, i);
                double original = plain[(size_t)ids[t] * hidden + i];
                close &= fabs(word - original) <= (v->dtype == EMB_DTYPE_F32 ? 0.0 : 0.004);
                row[i] = word + positions[(size_t)(t - starts[c]) * hidden + i];
            }
            rig_oracle_norm(row, gain, shift, hidden, 1e-5f);
        }
    }
    double difference = rig_difference(out, expected, (size_t)tile.tokens * hidden);
    rig_check(close, "%s: the table is not what it was made from", v->backend->numerics);
    rig_check(difference < 4e-6, "%s embed hidden %u: off by %g", v->backend->numerics, hidden,
              difference);
    void *buffers[] = {plain, positions, gain, shift, table, out};
    for (size_t i = 0; i < 6; i++) rig_give(buffers[i]);
    free(expected);
}

/* Squares past the largest f32: the row is NaN, not the norm's shift, and no other row changes. */
static void test_norm_overflow(const variant *v, uint32_t hidden) {
    uint32_t starts[2] = {0, 3}, ids[3] = {0, 1, 0};
    emb_tile tile = {.tokens = 3, .chunks = 1, .ids = ids, .starts = starts};
    float *plain = rig_take((size_t)2 * hidden * 4, 0), *rest = rig_take((size_t)3 * hidden * 4, 4);
    unsigned char *table = rig_take(2 * emb_dtype_row_bytes(v->dtype, hidden), 0);
    float *out = rig_take((size_t)3 * hidden * 4, 4);
    rig_fill(plain, (size_t)2 * hidden, 1.0f);
    rig_fill(rest, (size_t)3 * hidden, 1.0f);
    for (uint32_t i = 0; i < hidden; i++) plain[hidden + i] = i % 2 ? 1e30f : -1e30f;
    v->backend->convert(v->backend, table, v->dtype, plain, 2, hidden);
    emb_embedding embedding = {v->dtype, table, rest, rest, rest};
    emb_layer_spec shape = {.hidden = hidden, .chunk_tokens_max = 3, .norm_epsilon = 1e-5f};
    v->backend->embed(v->backend, NULL, out, &tile, &embedding, &shape);
    for (uint32_t i = 0; i < hidden; i++)
        rig_check(isfinite(out[i]) && isnan(out[hidden + i]) && isfinite(out[2 * hidden + i]),
                  "%s norm hidden %u: %g, %g beside it where the squares overflow",
                  v->backend->numerics, hidden, out[hidden + i], out[i]);
    void *buffers[] = {plain, rest, table, out};
    for (size_t i = 0; i < 4; i++) rig_give(buffers[i]);
}

static double pooled(const float *in, uint32_t tokens, uint32_t hidden, uint32_t i,
                     emb_pooling pooling) {
    double value = in[i];
    if (pooling == EMB_POOLING_CLS) return value;
    for (uint32_t t = 1; t < tokens; t++) {
        double next = in[(size_t)t * hidden + i];
        value = pooling == EMB_POOLING_MAX ? fmax(value, next) : value + next;
    }
    return pooling == EMB_POOLING_MEAN ? value / tokens : value;
}

static void test_pool(const variant *v, uint32_t hidden, emb_pooling pooling, bool normalize) {
    uint32_t starts[4] = {0, 9, 10, 40}, targets[3] = {4, 0, 2};
    emb_tile tile = {.tokens = 40, .chunks = 3, .starts = starts};
    float *in = rig_take((size_t)40 * hidden * 4, 4), *rows = rig_take((size_t)5 * hidden * 4, 8);
    rig_fill(in, (size_t)40 * hidden, 3.0f);
    emb_pool_rule rule = {pooling, normalize};
    emb_layer_spec shape = {.hidden = hidden};
    v->backend->pool(v->backend, NULL, rows, targets, in, &tile, &rule, &shape);
    for (uint32_t c = 0; c < 3; c++) {
        double *expected = malloc(hidden * sizeof *expected), squares = 0.0;
        if (!expected) exit(71);
        for (uint32_t i = 0; i < hidden; i++) {
            expected[i] = pooled(in + (size_t)starts[c] * hidden, starts[c + 1] - starts[c], hidden,
                                 i, pooling);
            squares += expected[i] * expected[i];
        }
        for (uint32_t i = 0; normalize && i < hidden; i++) expected[i] /= sqrt(squares);
        double difference = rig_difference(rows + (size_t)targets[c] * hidden, expected, hidden);
        rig_check(difference < 1e-6, "%s pool %d hidden %u: off by %g", v->backend->numerics,
                  (int)pooling, hidden, difference);
        free(expected);
    }
    rig_check(isnan(rows[hidden]) && isnan(rows[3 * hidden]), "pool wrote a row not its own");
    rig_give(in);
    rig_give(rows);
}

static void test_pool_special(const variant *v) {
    float in[8] = {0}, rows[4];
    uint32_t starts[2] = {0, 2}, targets[1] = {0};
    emb_tile tile = {.tokens = 2, .chunks = 1, .starts = starts};
    emb_layer_spec shape = {.hidden = 4};
    emb_pool_rule rule = {EMB_POOLING_MEAN, 1};
    v->backend->pool(v->backend, NULL, rows, targets, in, &tile, &rule, &shape);
    rig_check(rows[0] == 0.0f && rows[3] == 0.0f, "a zero vector normalises to zero");
    for (uint32_t place = 0; place < 8; place += 4) {
        for (int pooling = EMB_POOLING_MEAN; pooling <= EMB_POOLING_MAX; pooling++) {
            if (pooling == EMB_POOLING_CLS && place) continue;
            memset(in, 0, sizeof in);
            in[place] = NAN;
            rule.pooling = (emb_pooling)pooling;
            v->backend->pool(v->backend, NULL, rows, targets, in, &tile, &rule, &shape);
            rig_check(isnan(rows[0]), "pool %d hides a NaN at token %u", pooling, place / 4);
        }
    }
}

/* ---- convert, detect ------------------------------------------------------------------------- */

static void test_convert(const variant *v) {
    static const struct {
        uint32_t in;
        uint16_t out;
    } cases[] = {
        {0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81},
        {0x80000000, 0x8000}, {0x7f7fffff, 0x7f80}, {0xff800000, 0xff80}, {0x00000001, 0x0000},
        {0x00018000, 0x0002}, {0x007f8000, 0x0080}, {0x7f800001, 0x7fc0}, {0xffffffff, 0xffff},
    };
    enum { COUNT = sizeof cases / sizeof *cases };
    float in[COUNT], same[COUNT];
    uint16_t out[COUNT];
    for (size_t i = 0; i < COUNT; i++) memcpy(&in[i], &cases[i].in, 4);
    v->backend->convert(v->backend, out, EMB_DTYPE_BF16, in, 1, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        rig_check(out[i] == cases[i].out, "convert %08x: got %04x, want %04x", cases[i].in, out[i],
                  cases[i].out);
    v->backend->convert(v->backend, same, EMB_DTYPE_F32, in, 1, COUNT);
    rig_check(!memcmp(in, same, sizeof in), "convert to f32 copies");
}

static void test_detect(void) {
    uint32_t features;
    emb_error error = {0};
    setenv("EMB_CPU", "sse9", 1);
    rig_check(emb_cpu_detect(&features, &error) == EMB_INVALID_ARGUMENT &&
                  strstr(error.message, "sse9") && strstr(error.message, "avx2"),
              "an unknown EMB_CPU is refused by name: %s", error.message);
    setenv("EMB_CPU", "ref", 1);
    rig_check(emb_cpu_detect(&features, &error) == EMB_OK && !features, "EMB_CPU=ref");
    setenv("EMB_CPU", "", 1);
    rig_check(emb_cpu_detect(&features, &error) == EMB_OK, "an empty EMB_CPU is none");
    unsetenv("EMB_CPU");
}

/* Which kernels a set of features gets, and the set in words and back. */
static void test_names(void) {
    static const struct {
        uint32_t features;
        const char *words, *f32, *bf16, *int8;
    } sets[] = {
        {0, "none", "ref-f32.2", "ref-bf16.2", "ref-int8.2"},
#ifdef EMB_X86
        {EMB_CPU_AVX2, "avx2", "avx2-f32.2", "avx2-bf16.2", "avx2-int8.2"},
        {EMB_CPU_AVX2 | EMB_CPU_AVX512, "avx2 avx512", "avx512-f32.2", "avx512-bf16.2",
         "avx512-int8.2"},
        {15, "avx2 avx512 vnni bf16", "avx512-f32.2", "avx512-bf16.2", "avx512-attention8-int8.2"},
        {31, "avx2 avx512 vnni bf16 bf16_fast", "avx512-f32.2", "avx512-bf16dot.2",
         "avx512-attention8-int8.2"},
#endif
    };
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        char words[EMB_CPU_FEATURES_TEXT];
        uint32_t features = 99, set = sets[i].features;
        emb_cpu_features_write(words, sizeof words, set);
        rig_check(!strcmp(words, sets[i].words), "set %u is '%s'", set, words);
        rig_check(emb_cpu_features_read(&features, words) && features == set, "'%s': %u", words,
                  features);
        const char *const wanted[] = {sets[i].f32, sets[i].bf16, sets[i].int8};
        static const emb_dtype dtypes[] = {EMB_DTYPE_F32, EMB_DTYPE_BF16, EMB_DTYPE_INT8};
        for (size_t d = 0; d < 3; d++) {
            const char *numerics = emb_cpu_backend(set, dtypes[d], NULL)->numerics;
            rig_check(!strcmp(numerics, wanted[d]), "'%s' runs %s", words, numerics);
        }
        static const emb_layer_spec gated = {.gated = true};
        rig_check(emb_cpu_backend(set, EMB_DTYPE_F32, &gated) ==
                      emb_cpu_backend(set, EMB_DTYPE_F32, NULL),
                  "where no row computes such layers, the fastest says why");
        rig_check(emb_cpu_backend(set, EMB_DTYPE_FP8, NULL) == NULL, "no CPU multiplies fp8");
    }
    uint32_t features;
    rig_check(!emb_cpu_features_read(&features, "avx2 sse9"), "an unknown name is refused");
}

/* ---- main ------------------------------------------------------------------------------------ */

/* A lane of hidden 768 and 384 tokens, activations included, stays below 2 MiB in 8 and 4 bits. */
static void test_scratch(const variant *v) {
    emb_layer_spec shape = {.hidden = 768, .heads = 12, .head_dim = 64, .intermediate = 3072};
    shape.chunk_tokens_max = 384;
    emb_lane_scratch scratch;
    emb_ledger ledger;
    emb_ledger_init(&ledger, NULL, 0);
    v->backend->lane_layout(v->backend, &scratch, &shape, shape.chunk_tokens_max, &ledger);
    uint64_t bytes = ledger.bytes + (uint64_t)shape.chunk_tokens_max * shape.hidden * sizeof(float);
    rig_check(bytes <= 2 << 20, "%s: %llu bytes of a lane", v->backend->numerics,
              (unsigned long long)bytes);
}

static void test_row(const emb_cpu_row *row) {
    const emb_backend *backend = &row->backend;
    emb_dtype dtype = backend->dtype;
    bool rounds = strstr(backend->numerics, "dot") != NULL;
    variant v = {backend, dtype, rounds ? 0.06 : 1e-5, rounds ? 0.99995 : 1.0 - 1e-11};
    if (emb_dtype_quantized(dtype)) v.tolerance = 0.3, v.cosine = 0.995;
    if (emb_dtype_quantized(dtype)) test_scratch(&v);
    uint64_t before = rig_total.checks, failed = rig_total.failures;
    parts_test(backend);
    test_blocks(&v);
    test_mixtures(&v);
    for (uint32_t hidden = 1; hidden <= 768; hidden = hidden * 2 + 1) {
        test_embed(&v, hidden);
        if (hidden > 1) test_norm_overflow(&v, hidden); /* a row of one has no variance */
        for (int pooling = EMB_POOLING_MEAN; pooling <= EMB_POOLING_MAX; pooling++) {
            test_pool(&v, hidden, (emb_pooling)pooling, false);
            test_pool(&v, hidden, (emb_pooling)pooling, true);
        }
    }
    test_pool_special(&v);
    test_convert(&v);
    printf("%-24s %llu checks, %llu failures\n", backend->numerics,
           (unsigned long long)(rig_total.checks - before),
           (unsigned long long)(rig_total.failures - failed));
}

int main(void) {
    uint32_t features = 0;
    emb_error error = {0};
    test_detect();
    test_names();
    rig_check(emb_cpu_detect(&features, &error) == EMB_OK, "detect: %s", error.message);
    for (uint32_t i = 0; i < emb_cpu_rows_count; i++) {
        const emb_cpu_row *row = &emb_cpu_rows[i];
        char lacks[EMB_CPU_FEATURES_TEXT];
        /* a row that is not the fastest one here is right all the same */
        if (row->needs & ~(features | EMB_CPU_BF16_FAST)) {
            emb_cpu_features_write(lacks, sizeof lacks, row->needs & ~features);
            printf("%-24s skipped: no %s here\n", row->backend.numerics, lacks);
            continue;
        }
        test_row(row);
    }
    printf("%llu checks, %llu failures\n", (unsigned long long)rig_total.checks,
           (unsigned long long)rig_total.failures);
    return rig_total.failures ? 1 : 0;
}
