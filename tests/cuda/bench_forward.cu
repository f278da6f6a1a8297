/* bench_forward.cu - whole forward passes with random weights: same bits, then device times.
 *
 * Each pass is captured once per bucket in a CUDA graph and replayed; own products beside
 * cuBLASLt's, whose algorithm is the fastest of its first candidates at 16,384 tokens. Then every
 * op by itself. `bits` checks without timing, `quick` takes one model, `own` leaves cuBLASLt out,
 * `ops` times own ops alone, `choices` norms apart and in one; `serve` answers lines of MODEL
 * LENGTH... with the time of that pass, for bench/gpu_forward.py. Prints JSON lines; exits 1 if
 * bits differ.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cuda/forward.cuh"
#include "cuda/timing.cuh"

static emb_cuda_device device;
static emb_cuda_blas blas;
static bool has_blas;
static int failures;

/* ---- choosing the library's algorithms ------------------------------------------------------- */

static void choose(random_linear &l, const random_linear *same, const activations &a,
                   const batch &b) {
    if (same) {
        l.choice = same->choice, l.has_choice = same->has_choice;
        return;
    }
    double best = 1e30;
    for (uint32_t i = 0; i < 12; i++) {
        emb_cuda_blas_choice choice;
        if (emb_cuda_blas_choose(&choice, &blas, &l.library, b.batch.tokens_max, i)) break;
        double us = op_time([&] {
            REQUIRE(emb_cuda_blas_run(a.wide, a.x, &l.library, &blas, &choice, b.batch.tokens_max,
                                      stream));
        });
        if (us < best) best = us, l.choice = choice, l.has_choice = 1;
    }
}

static void choose_all(random_model &m) {
    batch b = batch_make(std::vector<uint32_t>(128, 128), m.vocabulary);
    random_model wider = m;
    wider.hidden = m.intermediate; /* so that x can be the widest input */
    wider.intermediate = 4 * m.intermediate;
    activations a = activations_open(wider, b.tokens, 128);
    for (uint32_t i = 0; i < m.layers; i++) {
        choose(m.qkv[i], i ? &m.qkv[0] : NULL, a, b);
        choose(m.attention_out[i], i ? &m.attention_out[0] : NULL, a, b);
        choose(m.ffn_in[i], i ? &m.ffn_in[0] : NULL, a, b);
        choose(m.ffn_out[i], i ? &m.ffn_out[0] : NULL, a, b);
    }
    activations_close(a);
    batch_close(b);
}

/* ---- bits ------------------------------------------------------------------------------------ */

static std::vector<float> rows_of(const random_model &m, const batch &b, const emb_cuda_blas *lib,
                                  bool graph) {
    activations a = activations_open(m, b.batch.tokens_max, b.batch.chunks_max);
    std::vector<float> rows(b.lengths.size() * m.hidden);
    if (graph) {
        cudaGraphExec_t g = capture([&] { forward(m, a, &b.batch, &device, lib, stream); });
        REQUIRE(cudaGraphLaunch(g, stream));
        REQUIRE(cudaStreamSynchronize(stream));
        REQUIRE(cudaGraphExecDestroy(g));
    } else {
        forward(m, a, &b.batch, &device, lib, stream);
        REQUIRE(cudaStreamSynchronize(stream));
    }
    REQUIRE(cudaMemcpy(rows.data(), a.rows, rows.size() * 4, cudaMemcpyDeviceToHost));
    activations_close(a);
    return rows;
}

/* Rows of a batch: alone, in a much larger bucket, by plain launches and by a graph. */
static void check_bits(const random_model &m, const emb_cuda_blas *lib) {
    std::vector<uint32_t> lengths = ragged_lengths(3000, 1, std::min(m.longest, 300u));
    int bad = 0, cases = 0;
    batch b = batch_make(lengths, m.vocabulary);
    batch roomy = batch_open(40000, 700);
    batch_fill(roomy, lengths, b.ids, m.vocabulary);
    std::vector<float> packed = rows_of(m, b, lib, false);
    for (float v : packed) bad += v != v;
    std::vector<float> graph = rows_of(m, b, lib, true), large = rows_of(m, roomy, lib, true);
    bad += memcmp(packed.data(), graph.data(), packed.size() * 4) != 0;
    bad += memcmp(packed.data(), large.data(), packed.size() * 4) != 0;
    for (size_t c = 0; c < lengths.size(); c += 3, cases++) {
        batch alone = batch_open(lengths[c], 1);
        std::vector<uint32_t> ids(b.ids.begin() + b.starts[c], b.ids.begin() + b.starts[c + 1]);
        batch_fill(alone, {lengths[c]}, ids, m.vocabulary);
        std::vector<float> row = rows_of(m, alone, lib, false);
        const float *same = &packed[(lengths.size() - 1 - c) * m.hidden];
        bad += memcmp(row.data(), same, m.hidden * 4) != 0;
        batch_close(alone);
    }
    printf("{\"check\": \"forward, same bits alone, packed, in a larger bucket, by graph\", "
           "\"model\": \"%s\", \"type\": \"%s\", \"products\": \"%s\", \"cases\": %d, "
           "\"failed\": %d}\n",
           m.name, TYPE_NAMES[m.type], lib ? "cublaslt" : "own", cases + 2, bad);
    fflush(stdout);
    failures += bad;
    batch_close(b), batch_close(roomy);
}

/* ---- benches --------------------------------------------------------------------------------- */

static void bench_pass(const random_model &m, const char *shape,
                       const std::vector<uint32_t> &lengths, const emb_cuda_blas *lib,
                       forward_choice choice = CHOSEN) {
    batch b = batch_make(lengths, m.vocabulary);
    activations a = activations_open(m, b.tokens, (uint32_t)lengths.size());
    cudaGraphExec_t graph = capture([&] { forward(m, a, &b.batch, &device, lib, stream, choice); });
    double us = graph_time(graph, b.tokens < 4096 ? 20 : 3), flop = 0;
    double H = m.hidden, F = m.intermediate;
    for (uint32_t n : lengths) flop += n * (m.layers * (8 * H * H + 4 * H * F + 4.0 * n * H));
    printf("{\"bench\": \"forward\", \"model\": \"%s\", \"type\": \"%s\", \"products\": \"%s\", "
           "\"lengths\": \"%s\", \"tokens\": %u, \"us\": %.1f, \"mtok_s\": %.3f, "
           "\"tflop_s\": %.0f}\n",
           m.name, TYPE_NAMES[m.type], lib ? "cublaslt" : "own", shape, b.tokens, us, b.tokens / us,
           flop / us * 1e-6);
    fflush(stdout);
    REQUIRE(cudaGraphExecDestroy(graph));
    activations_close(a), batch_close(b);
}

static void print_op(const random_model &m, const char *op, uint32_t tokens, double us,
                     double flop) {
    printf("{\"bench\": \"op\", \"model\": \"%s\", \"type\": \"%s\", \"op\": \"%s\", "
           "\"tokens\": %u, \"us\": %.2f, \"tflop_s\": %.0f}\n",
           m.name, TYPE_NAMES[m.type], op, tokens, us, flop / us * 1e-6);
    fflush(stdout);
}

static void bench_product(const random_model &m, const char *name, const random_linear &l, int gelu,
                          const activations &a, const batch &b) {
    char op[64];
    double flop = 2.0 * b.tokens * l.own.rows * l.own.cols;
    void *wide = (char *)a.wide + (size_t)b.tokens * m.intermediate * type_bytes(m.type);
    for (int lib = 0; lib <= (has_blas ? 1 : 0); lib++) {
        double us = op_time([&] {
            run_linear(wide, a.wide, l, gelu, &b.batch, &device, lib ? &blas : NULL, stream);
        });
        snprintf(op, sizeof op, "%s %s", name, lib ? "cublaslt" : "own");
        print_op(m, op, b.tokens, us, flop);
    }
}

/* In one kernel where that is possible, whatever the choice by size. */
static void bench_product_norm(const random_model &m, const char *op, const random_linear &l,
                               const activations &a, const batch &b) {
    bool possible = device.capability == 90 && m.type != EMB_DTYPE_F32;
    if (!possible ||
        emb_cuda_linear_norm_wgmma(a.x, a.wide, &l.own, a.x, &m.norm, &b.batch, &device, stream)) {
        return;
    }
    print_op(m, op, b.tokens, op_time([&] {
                 emb_cuda_linear_norm_wgmma(a.x, a.wide, &l.own, a.x, &m.norm, &b.batch, &device,
                                            stream);
             }),
             2.0 * b.tokens * l.own.rows * l.own.cols);
}

static void bench_ops(const random_model &m, const std::vector<uint32_t> &lengths) {
    batch b = batch_make(lengths, m.vocabulary);
    random_model wider = m;
    wider.hidden = m.intermediate;
    activations a = activations_open(wider, b.tokens, (uint32_t)lengths.size());
    std::vector<float> values = random_values(1 << 20, 1, m.type);
    buffer some = buffer_from(values, m.type);
    size_t total = (size_t)b.tokens * 4 * m.intermediate * type_bytes(m.type);
    for (size_t at = 0; at < total; at += some.bytes) {
        REQUIRE(cudaMemcpy((char *)a.wide + at, inside(some), std::min(some.bytes, total - at),
                           cudaMemcpyDeviceToDevice));
    }
    emb_cuda_heads heads = {m.hidden, m.heads, m.hidden / m.heads, m.longest, m.relative};
    double flop = 0;
    for (uint32_t n : lengths) flop += 4.0 * n * n * m.hidden;
    print_op(m, "prepare", b.tokens, op_time([&] { emb_cuda_prepare(&b.batch, stream); }), 0);
    print_op(
        m, "embed", b.tokens,
        op_time([&] { emb_cuda_embed(a.x, &b.batch, &m.embedding, m.hidden, m.type, stream); }), 0);
    bench_product(m, "qkv", m.qkv[0], 0, a, b);
    print_op(m, "attention", b.tokens, op_time([&] {
                 emb_cuda_attention(a.y, a.wide, &heads, &b.batch, m.type, &device, stream);
             }),
             flop);
    bench_product(m, "attention_out", m.attention_out[0], 0, a, b);
    print_op(m, "residual_norm", b.tokens, op_time([&] {
                 emb_cuda_residual_norm(a.x, a.wide, a.x, &m.norm, &b.batch, m.hidden, m.type,
                                        stream);
             }),
             0);
    bench_product(m, "ffn_in", m.ffn_in[0], 1, a, b);
    bench_product(m, "ffn_out", m.ffn_out[0], 0, a, b);
    bench_product_norm(m, "attention_out and norm", m.attention_out[0], a, b);
    bench_product_norm(m, "ffn_out and norm", m.ffn_out[0], a, b);
    print_op(m, "pool", b.tokens, op_time([&] {
                 emb_cuda_pool(a.rows, a.x, &b.batch, m.hidden, EMB_CUDA_POOL_MEAN, 1, m.type,
                               stream);
             }),
             0);
    activations_close(a), batch_close(b), buffer_close(some);
}

static void bench_model(const random_model &m) {
    for (int lib = 0; lib <= (has_blas ? 1 : 0); lib++) {
        const emb_cuda_blas *library = lib ? &blas : NULL;
        bench_pass(m, "one of 128", std::vector<uint32_t>(1, 128), library);
        for (uint32_t chunks : {64u, 128u, 256u, 512u}) {
            bench_pass(m, "128", std::vector<uint32_t>(chunks, 128), library);
        }
        bench_pass(m, "512", std::vector<uint32_t>(64, 512), library);
        bench_pass(m, "ragged 8-256", ragged_lengths(65536, 8, 256), library);
        bench_pass(m, "ragged 8-32", ragged_lengths(32768, 8, 32), library);
    }
    bench_ops(m, std::vector<uint32_t>(256, 128));
    bench_ops(m, std::vector<uint32_t>(1, 128));
}

/* Products and norms in two kernels and in one: what linear.cu chooses by. */
static void bench_choices(const random_model &m) {
    if (m.type != EMB_DTYPE_F16 || device.capability != 90) return;
    for (uint32_t chunks : {64u, 128u, 240u, 256u, 480u, 512u}) {
        std::vector<uint32_t> lengths(chunks, 128);
        bench_pass(m, "128, product and norm apart", lengths, NULL, APART);
        bench_pass(m, "128, product and norm in one", lengths, NULL, IN_ONE);
    }
}

/* ---- serving --------------------------------------------------------------------------------- */

/* Opens what a model needs and its relative table. */
static void open_model(random_model &m) {
    model_open(m);
    if (!strcmp(m.name, "mpnet-base")) {
        m.relative =
            (float *)device_values((size_t)m.heads * (2 * m.longest - 1), 1, 0, EMB_DTYPE_F32);
    }
}

/* Times one f16 pass of the lengths on a line until standard input ends. */
static void serve(random_model *models, size_t count) {
    std::vector<char> line(1 << 20);
    std::vector<bool> opened(count, false);
    while (fgets(line.data(), (int)line.size(), stdin)) {
        std::vector<uint32_t> lengths;
        char *word = strtok(line.data(), " \n");
        size_t i = 0;
        while (word && i < count &&
               (strcmp(models[i].name, word) || models[i].type != EMB_DTYPE_F16)) {
            i++;
        }
        if (!word || i == count) exit(2);
        if (!opened[i]) open_model(models[i]);
        opened[i] = true;
        while ((word = strtok(NULL, " \n"))) lengths.push_back((uint32_t)strtoul(word, NULL, 10));
        bench_pass(models[i], "as asked", lengths, NULL);
    }
}

int main(int argc, char **argv) {
    bool quick = argc > 1 && !strcmp(argv[1], "quick");
    bool bits_only = argc > 1 && !strcmp(argv[1], "bits");
    bool choices = argc > 1 && !strcmp(argv[1], "choices");
    bool ops_only = argc > 1 && !strcmp(argv[1], "ops");
    bool own_only =
        argc > 1 && (ops_only || choices || !strcmp(argv[1], "own") || !strcmp(argv[1], "serve"));
    random_model models[] = {{"L6", 6, 384, 12, 1536, 30522, 512, EMB_DTYPE_F16},
                             {"L6", 6, 384, 12, 1536, 30522, 512, EMB_DTYPE_BF16},
                             {"L6", 6, 384, 12, 1536, 30522, 512, EMB_DTYPE_F32},
                             {"BERT-base", 12, 768, 12, 3072, 30522, 512, EMB_DTYPE_F16},
                             {"mpnet-base", 12, 768, 12, 3072, 30527, 512, EMB_DTYPE_F16}};
    REQUIRE(emb_cuda_device_read(&device));
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    has_blas = !own_only && emb_cuda_blas_open(&blas, NULL) == 0;
    if (argc > 1 && !strcmp(argv[1], "serve")) {
        serve(models, sizeof models / sizeof models[0]);
        return 0;
    }
    for (random_model &m : models) {
        if (m.type == EMB_DTYPE_BF16 && device.capability < 80) continue;
        if (quick && (m.type != EMB_DTYPE_F16 || m.hidden != models[0].hidden)) continue;
        open_model(m);
        if (choices) {
            bench_choices(m);
            continue;
        }
        if (ops_only) {
            for (uint32_t chunks : {64u, 128u, 256u, 512u}) {
                if (m.type == EMB_DTYPE_F16) bench_ops(m, std::vector<uint32_t>(chunks, 128));
            }
            continue;
        }
        if (has_blas) choose_all(m);
        check_bits(m, NULL);
        if (has_blas) check_bits(m, &blas);
        bool brief = m.type != EMB_DTYPE_F16 || m.relative;
        if (bits_only) continue;
        if (brief) {
            bench_pass(m, "128", std::vector<uint32_t>(256, 128), NULL);
            if (has_blas) bench_pass(m, "128", std::vector<uint32_t>(256, 128), &blas);
        } else {
            bench_model(m);
        }
    }
    REQUIRE(cudaDeviceSynchronize());
    return failures ? 1 : 0;
}
