/* kernels.c - times the block operations and the whole stack of layers with random weights, as JSON
 * lines, for each instruction set that this CPU has.
 *
 *   kernels [forward|work|ops|knee|pack|peak] [isa] [f32|bf16|int8|int4] [layers hidden heads wide]
 *
 * peak is what the CPU can do at most: products of bytes (VNNI) from registers alone. work is a few
 * passes and no clock, so that instructions can be counted (valgrind lacks AVX-512):
 *   valgrind --tool=callgrind --toggle-collect=one_pass kernels work avx2 int8 1 384 12 1536
 * Every other figure is the best of the repetitions that fit its share of time: other work on the
 * machine can only make a sample slower.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/backend.h"

typedef struct model {
    const emb_backend *backend;
    emb_dtype dtype;
    uint32_t layers_count, tokens_max;
    emb_layer_spec shape;
    emb_layer *layers;
    emb_lane_scratch scratch;
    uint64_t scratch_bytes, weight_bytes;
    void *memory;
    float *x, *values;
    emb_quantized_rows rows;
    uint32_t *starts;
} model;

/* Time that this thread was given, so that others on the machine disturb less. */
static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static uint32_t random_state = 1;

static float random_value(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(int32_t)random_state * (1.0f / 2147483648.0f);
}

static void *need(size_t bytes) {
    void *result = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!result) {
        fprintf(stderr, "kernels: out of memory for %zu bytes\n", bytes);
        exit(71);
    }
    memset(result, 0, (bytes + 63) / 64 * 64);
    return result;
}

/* Books everything that the backend wants: measured once, bound once. */
static void layout(model *m, emb_ledger *ledger) {
    uint32_t hidden = m->shape.hidden, wide = m->shape.intermediate;
    for (uint32_t l = 0; l < m->layers_count; l++) {
        emb_layer *layer = &m->layers[l];
        layer->qkv.group = layer->attention_out.group = EMB_QUANTIZE_GROUP;
        layer->ffn_in.group = layer->ffn_out.group = EMB_QUANTIZE_GROUP;
        m->backend->linear_layout(m->backend, &layer->qkv, 3 * hidden, hidden, m->dtype, ledger);
        m->backend->linear_layout(m->backend, &layer->attention_out, hidden, hidden, m->dtype,
                                  ledger);
        m->backend->linear_layout(m->backend, &layer->ffn_in, wide, hidden, m->dtype, ledger);
        m->backend->linear_layout(m->backend, &layer->ffn_out, hidden, wide, m->dtype, ledger);
        layer->attention_gain = emb_ledger_take(ledger, hidden, sizeof(float));
        layer->attention_shift = emb_ledger_take(ledger, hidden, sizeof(float));
        layer->ffn_gain = emb_ledger_take(ledger, hidden, sizeof(float));
        layer->ffn_shift = emb_ledger_take(ledger, hidden, sizeof(float));
    }
    m->weight_bytes = ledger->bytes;
    m->backend->lane_layout(m->backend, &m->scratch, &m->shape, m->tokens_max, ledger);
    m->scratch_bytes = ledger->bytes - m->weight_bytes;
}

/* Rows [row0, row0 + rows) of values, quantized first where the dtype is so. */
static void pack(model *m, emb_linear *linear, uint32_t row0, uint32_t rows) {
    const float *values = m->values + (size_t)row0 * linear->cols;
    if (!emb_dtype_quantized(m->dtype)) {
        m->backend->linear_pack(m->backend, linear, row0, rows, values);
        return;
    }
    for (uint32_t r = 0; r < rows; r += EMB_PACK_ROWS) {
        m->rows.rows = rows - r < EMB_PACK_ROWS ? rows - r : EMB_PACK_ROWS;
        m->rows.cols = linear->cols;
        m->rows.group = EMB_QUANTIZE_GROUP;
        emb_quantize_rows(&m->rows, values + (size_t)r * linear->cols, NULL);
        m->backend->linear_pack_quantized(m->backend, linear, row0 + r, &m->rows);
    }
}

static void fill_linear(model *m, emb_linear *linear) {
    float scale = 0.05f;
    for (size_t i = 0; i < (size_t)linear->rows * linear->cols; i++)
        m->values[i] = scale * random_value();
    pack(m, linear, 0, linear->rows);
    for (uint32_t r = 0; r < linear->rows; r++) linear->bias[r] = 0.1f * random_value();
}

static void fill(model *m) {
    for (uint32_t l = 0; l < m->layers_count; l++) {
        emb_layer *layer = &m->layers[l];
        fill_linear(m, &layer->qkv);
        fill_linear(m, &layer->attention_out);
        fill_linear(m, &layer->ffn_in);
        fill_linear(m, &layer->ffn_out);
        for (uint32_t i = 0; i < m->shape.hidden; i++)
            layer->attention_gain[i] = layer->ffn_gain[i] = 1.0f + 0.1f * random_value();
    }
}

static void model_init(model *m, const emb_backend *backend, emb_dtype dtype, const uint32_t *sizes,
                       uint32_t tokens_max) {
    memset(m, 0, sizeof *m);
    m->backend = backend;
    m->dtype = dtype;
    m->layers_count = sizes[0];
    m->tokens_max = tokens_max;
    m->shape = (emb_layer_spec){.hidden = sizes[1],
                                .heads = sizes[2],
                                .head_dim = sizes[1] / sizes[2],
                                .intermediate = sizes[3],
                                .chunk_tokens_max = 512,
                                .norm_epsilon = 1e-12f};
    m->layers = need(m->layers_count * sizeof *m->layers);
    emb_ledger ledger;
    emb_ledger_init(&ledger, NULL, 0);
    layout(m, &ledger);
    m->memory = need(ledger.bytes);
    uint64_t bytes = ledger.bytes;
    emb_ledger_init(&ledger, m->memory, bytes);
    layout(m, &ledger);
    uint32_t hidden = m->shape.hidden, rows = m->shape.intermediate;
    if (rows < 3 * hidden) rows = 3 * hidden;
    m->values = need((size_t)rows * hidden * sizeof(float));
    m->x = need((size_t)tokens_max * hidden * sizeof(float));
    m->starts = need((tokens_max + 1) * sizeof *m->starts);
    size_t block = (size_t)EMB_PACK_ROWS * (rows + EMB_QUANTIZE_GROUP);
    m->rows = (emb_quantized_rows){.bits = dtype == EMB_DTYPE_INT4 ? 4 : 8,
                                   .values = need(block),
                                   .scales = need(block / EMB_QUANTIZE_GROUP * sizeof(float)),
                                   .zeros = need(block / EMB_QUANTIZE_GROUP)};
    fill(m);
}

static void model_reset(model *m) {
    free(m->layers);
    free(m->memory);
    free(m->values);
    free(m->x);
    free(m->starts);
    free(m->rows.values);
    free(m->rows.scales);
    free(m->rows.zeros);
}

static emb_tile make_tile(model *m, uint32_t chunks, uint32_t tokens) {
    for (uint32_t c = 0; c <= chunks; c++) m->starts[c] = c * tokens;
    for (size_t i = 0; i < (size_t)chunks * tokens * m->shape.hidden; i++) m->x[i] = random_value();
    return (emb_tile){.tokens = chunks * tokens, .chunks = chunks, .starts = m->starts};
}

/* All layers over chunks in tiles. By a name of its own for whoever counts its instructions. */
__attribute__((noinline)) static void one_pass(model *m, const emb_tile *tile, uint32_t chunks) {
    for (uint32_t c = 0; c < chunks; c += tile->chunks) {
        for (uint32_t l = 0; l < m->layers_count; l++) {
            m->backend->attention_block(m->backend, &m->scratch, m->x, m->x, tile, &m->layers[l],
                                        &m->shape);
            m->backend->ffn_block(m->backend, &m->scratch, m->x, m->x, tile, &m->layers[l],
                                  &m->shape);
        }
    }
}

/* As many chunks as a tile holds, or all. */
static emb_tile first_tile(model *m, uint32_t chunks, uint32_t tokens) {
    uint32_t per_tile = m->tokens_max / tokens;
    return make_tile(m, per_tile < chunks ? per_tile : chunks, tokens);
}

/* The best time of one pass. */
static double forward(model *m, uint32_t chunks, uint32_t tokens, double budget) {
    emb_tile tile = first_tile(m, chunks, tokens);
    double best = 1e9, end = seconds() + budget;
    for (uint32_t n = 0; n < 3 || seconds() < end; n++) {
        double start = seconds();
        one_pass(m, &tile, chunks);
        double taken = seconds() - start;
        if (taken < best) best = taken;
    }
    return best;
}

static double flops_per_token(const model *m, uint32_t tokens) {
    double hidden = m->shape.hidden;
    double attention = 8.0 * hidden * hidden + 4.0 * hidden * tokens;
    return m->layers_count * (attention + 4.0 * hidden * m->shape.intermediate);
}

static void print_line(const model *m, const char *what, uint32_t chunks, uint32_t tokens,
                       double taken, double flops) {
    printf("{\"bench\":\"%s\",\"isa\":\"%s\",\"numerics\":\"%s\",\"layers\":%u,\"hidden\":%u,"
           "\"chunks\":%u,\"tokens\":%u,\"tile\":%u,\"scratch_bytes\":%llu,\"ms\":%.4f,"
           "\"tokens_per_second\":%.0f,\"gflops\":%.1f}\n",
           what, m->backend->name, m->backend->numerics, m->layers_count, m->shape.hidden, chunks,
           tokens, m->tokens_max, (unsigned long long)m->scratch_bytes, 1e3 * taken,
           chunks * tokens / taken, flops / taken * 1e-9);
    fflush(stdout);
}

static void bench_forward(const emb_backend *backend, emb_dtype dtype, const uint32_t *sizes) {
    static const uint32_t cases[][2] = {{1, 16}, {1, 128}, {32, 128}, {1, 512}, {16, 16}, {1, 20}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t chunks = cases[i][0], tokens = cases[i][1];
        uint32_t tile = tokens > 256 ? tokens : 256;
        model m;
        model_init(&m, backend, dtype, sizes, tile);
        double taken = forward(&m, chunks, tokens, 1.0);
        print_line(&m, "forward", chunks, tokens, taken,
                   flops_per_token(&m, tokens) * chunks * tokens);
        model_reset(&m);
    }
}

/* Small: an emulator is a hundred times slower, and fused multiply-adds are its slowest. */
static void bench_work(const emb_backend *backend, emb_dtype dtype, const uint32_t *sizes) {
    static const uint32_t cases[][2] = {{1, 20}, {3, 16}, {1, 128}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t chunks = cases[i][0], tokens = cases[i][1];
        model m;
        model_init(&m, backend, dtype, sizes, 256);
        emb_tile tile = first_tile(&m, chunks, tokens);
        one_pass(&m, &tile, chunks);
        printf("{\"bench\":\"work\",\"numerics\":\"%s\",\"chunks\":%u,\"tokens\":%u}\n",
               backend->numerics, chunks, tokens);
        model_reset(&m);
    }
}

/* Speed against tokens per tile, on texts of 32 and of 128 tokens. */
static void bench_knee(const emb_backend *backend, emb_dtype dtype, const uint32_t *sizes) {
    static const uint32_t tiles[] = {32, 64, 128, 192, 256, 384, 512, 1024};
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++) {
        for (uint32_t tokens = 32; tokens <= 128 && tokens <= tiles[i]; tokens *= 4) {
            model m;
            model_init(&m, backend, dtype, sizes, tiles[i]);
            uint32_t chunks = tiles[i] / tokens;
            double taken = forward(&m, chunks, tokens, 1.0);
            print_line(&m, "knee", chunks, tokens, taken,
                       flops_per_token(&m, tokens) * chunks * tokens);
            model_reset(&m);
        }
    }
}

static void bench_ops(const emb_backend *backend, emb_dtype dtype, const uint32_t *sizes) {
    model m;
    uint32_t tokens = 128;
    model_init(&m, backend, dtype, sizes, tokens);
    emb_tile tile = make_tile(&m, 1, tokens);
    double best[2] = {1e9, 1e9}, hidden = m.shape.hidden;
    for (double end = seconds() + 1.0; seconds() < end;) {
        double t0 = seconds();
        m.backend->attention_block(m.backend, &m.scratch, m.x, m.x, &tile, m.layers, &m.shape);
        double t1 = seconds();
        m.backend->ffn_block(m.backend, &m.scratch, m.x, m.x, &tile, m.layers, &m.shape);
        double t2 = seconds();
        if (t1 - t0 < best[0]) best[0] = t1 - t0;
        if (t2 - t1 < best[1]) best[1] = t2 - t1;
    }
    double attention = tokens * (8.0 * hidden * hidden + 4.0 * hidden * tokens);
    print_line(&m, "attention_block", 1, tokens, best[0], attention);
    print_line(&m, "ffn_block", 1, tokens, best[1], tokens * 4.0 * hidden * m.shape.intermediate);
    model_reset(&m);
}

static void bench_pack(const emb_backend *backend, emb_dtype dtype, const uint32_t *sizes) {
    model m;
    model_init(&m, backend, dtype, sizes, 16);
    emb_linear *linear = &m.layers[0].ffn_in;
    double best = 1e9, bytes = 4.0 * linear->rows * linear->cols;
    for (double end = seconds() + 0.5; seconds() < end;) {
        double start = seconds();
        for (uint32_t r = 0; r < linear->rows; r += EMB_PACK_ROWS)
            pack(&m, linear, r,
                 linear->rows - r < EMB_PACK_ROWS ? linear->rows - r : EMB_PACK_ROWS);
        double taken = seconds() - start;
        if (taken < best) best = taken;
    }
    printf("{\"bench\":\"pack\",\"numerics\":\"%s\",\"ms\":%.3f,\"gb_per_second\":%.2f}\n",
           backend->numerics, best * 1e3, bytes / best * 1e-9);
    model_reset(&m);
}

/* Accumulators enough to hide the latency of any core; nothing is read from memory. */
static void bench_peak(const emb_backend *backend, emb_dtype dtype, const uint32_t *sizes) {
    (void)backend, (void)dtype, (void)sizes;
#ifdef EMB_X86
    if (!__builtin_cpu_supports("avx512vnni")) {
        printf("{\"bench\":\"peak\",\"skipped\":\"no AVX-512 VNNI\"}\n");
        return;
    }
    enum { STEPS = 1000000, PER_STEP = 14 };
    double best = 1e9;
    for (double end = seconds() + 1.0; seconds() < end;) {
        double start = seconds();
        long steps = STEPS;
        __asm__ volatile("1:\n\t"
                         ".irp z, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13\n\t"
                         "vpdpbusd %%zmm14, %%zmm15, %%zmm\\z\n\t"
                         ".endr\n\t"
                         "dec %0\n\t"
                         "jnz 1b\n\t"
                         : "+r"(steps)
                         :
                         : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                           "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
        double taken = seconds() - start;
        if (taken < best) best = taken;
    }
    printf("{\"bench\":\"peak\",\"instruction\":\"vpdpbusd zmm\",\"gops\":%.1f}\n",
           128.0 * PER_STEP * STEPS / best * 1e-9);
#endif
}

typedef void (*bench)(const emb_backend *backend, emb_dtype dtype, const uint32_t *sizes);

static bench find_bench(const char *name) {
    if (!strcmp(name, "forward")) return bench_forward;
    if (!strcmp(name, "work")) return bench_work;
    if (!strcmp(name, "knee")) return bench_knee;
    if (!strcmp(name, "ops")) return bench_ops;
    if (!strcmp(name, "pack")) return bench_pack;
    if (!strcmp(name, "peak")) return bench_peak;
    return NULL;
}

int main(int argc, char **argv) {
    bench run = find_bench(argc > 1 ? argv[1] : "forward");
    uint32_t features;
    emb_error error;
    if (argc > 2) setenv("EMB_CPU", argv[2], 1);
    if (emb_cpu_detect(&features, &error) != EMB_OK) {
        fprintf(stderr, "kernels: %s\n", error.message);
        return 64;
    }
    const char *name = argc > 3 ? argv[3] : "f32";
    bool widen = !strcmp(name, "bf16widen");
    if (widen) features &= ~(uint32_t)EMB_CPU_BF16_FAST;
    uint32_t sizes[4] = {6, 384, 12, 1536};
    for (int i = 4; i < argc && i < 8; i++) sizes[i - 4] = (uint32_t)strtoul(argv[i], NULL, 10);
    if (!run || sizes[2] == 0 || sizes[1] % sizes[2] != 0) {
        fprintf(stderr, "usage: kernels [forward|work|ops|knee|pack|peak] [ref|avx2|avx512] "
                        "[f32|bf16|bf16widen|int8|int4] [layers hidden heads intermediate]\n");
        return 64;
    }
    emb_dtype dtype = widen || !strcmp(name, "bf16") ? EMB_DTYPE_BF16
                      : !strcmp(name, "int8")        ? EMB_DTYPE_INT8
                      : !strcmp(name, "int4")        ? EMB_DTYPE_INT4
                                                     : EMB_DTYPE_F32;
    run(emb_cpu_backend(features, dtype, NULL), dtype, sizes);
    return 0;
}
