/* bench_quantized.cu - whole passes with int8, fp8 and int4 beside f16: same bits, then times.
 *
 * As bench_forward.cu, own products alone; formats take turns, so that a ratio is of one time.
 * `bits` checks without timing, `ops` times each op too, `quick` does so at one size. Prints JSON
 * lines; exits 1 if bits differ.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cuda/forward_quantized.cuh"
#include "cuda/timing.cuh"

static emb_cuda_device device;
static int failures;

/* ---- bits ------------------------------------------------------------------------------------ */

static std::vector<float> rows_of(const quantized_model &q, const batch &b, bool graph) {
    quantized_activations a = quantized_activations_open(q, b.batch.tokens_max, b.batch.chunks_max);
    std::vector<float> rows(b.lengths.size() * q.m.hidden);
    quantized_run r = {q, a, &b.batch, &device, stream};
    if (graph) {
        cudaGraphExec_t g = capture([&] { forward_quantized(r); });
        REQUIRE(cudaGraphLaunch(g, stream));
        REQUIRE(cudaStreamSynchronize(stream));
        REQUIRE(cudaGraphExecDestroy(g));
    } else {
        forward_quantized(r);
        REQUIRE(cudaStreamSynchronize(stream));
    }
    REQUIRE(cudaMemcpy(rows.data(), a.a.rows, rows.size() * 4, cudaMemcpyDeviceToHost));
    quantized_activations_close(a);
    return rows;
}

/* Rows of a batch: alone, in a much larger bucket, by plain launches and by a graph. */
static void check_bits(const quantized_model &q) {
    std::vector<uint32_t> lengths = ragged_lengths(3000, 1, 300);
    int bad = 0, cases = 0;
    batch b = batch_make(lengths, q.m.vocabulary);
    batch roomy = batch_open(40000, 700);
    batch_fill(roomy, lengths, b.ids, q.m.vocabulary);
    std::vector<float> packed = rows_of(q, b, false);
    for (float v : packed) bad += v != v;
    std::vector<float> graph = rows_of(q, b, true), large = rows_of(q, roomy, true);
    bad += memcmp(packed.data(), graph.data(), packed.size() * 4) != 0;
    bad += memcmp(packed.data(), large.data(), packed.size() * 4) != 0;
    for (size_t c = 0; c < lengths.size(); c += 3, cases++) {
        batch alone = batch_open(lengths[c], 1);
        std::vector<uint32_t> ids(b.ids.begin() + b.starts[c], b.ids.begin() + b.starts[c + 1]);
        batch_fill(alone, {lengths[c]}, ids, q.m.vocabulary);
        std::vector<float> row = rows_of(q, alone, false);
        const float *same = &packed[(lengths.size() - 1 - c) * q.m.hidden];
        bad += memcmp(row.data(), same, q.m.hidden * 4) != 0;
        batch_close(alone);
    }
    printf("{\"check\": \"forward, same bits alone, packed, in a larger bucket, by graph\", "
           "\"model\": \"%s\", \"type\": \"%s\", \"cases\": %d, \"failed\": %d}\n",
           q.m.name, TYPE_NAMES[q.type], cases + 2, bad);
    failures += bad;
    batch_close(b), batch_close(roomy);
}

/* ---- times ----------------------------------------------------------------------------------- */

/* One dtype's captured pass. */
typedef struct pass {
    const char *type;
    cudaGraphExec_t graph;
    std::vector<double> us;
} pass;

static void print_passes(const random_model &m, const char *shape, uint32_t tokens,
                         std::vector<pass> &passes) {
    double whole = 0;
    for (pass &p : passes) {
        std::sort(p.us.begin(), p.us.end());
        double us = p.us[p.us.size() / 2];
        if (whole == 0) whole = us;
        printf("{\"bench\": \"forward\", \"model\": \"%s\", \"type\": \"%s\", \"lengths\": \"%s\", "
               "\"tokens\": %u, \"us\": %.1f, \"mtok_s\": %.3f, \"of_f16\": %.3f}\n",
               m.name, p.type, shape, tokens, us, tokens / us, whole / us);
    }
}

static void bench_passes(const random_model &m, std::vector<quantized_model> &all,
                         const char *shape, const std::vector<uint32_t> &lengths) {
    batch b = batch_make(lengths, m.vocabulary);
    uint32_t chunks = (uint32_t)lengths.size();
    activations a = activations_open(m, b.tokens, chunks);
    std::vector<quantized_activations> spaces;
    spaces.reserve(all.size());
    std::vector<pass> passes;
    passes.push_back({"f16", capture([&] { forward(m, a, &b.batch, &device, NULL, stream); }), {}});
    for (quantized_model &q : all) {
        spaces.push_back(quantized_activations_open(q, b.tokens, chunks));
        quantized_run r = {q, spaces.back(), &b.batch, &device, stream};
        passes.push_back({TYPE_NAMES[q.type], capture([&] { forward_quantized(r); }), {}});
    }
    for (int turn = 0; turn < 3; turn++) {
        for (pass &p : passes) p.us.push_back(graph_time(p.graph, b.tokens < 4096 ? 10 : 1));
    }
    print_passes(m, shape, b.tokens, passes);
    for (pass &p : passes) REQUIRE(cudaGraphExecDestroy(p.graph));
    for (quantized_activations &x : spaces) quantized_activations_close(x);
    activations_close(a), batch_close(b);
}

static void print_op(const quantized_model &q, const char *op, uint32_t tokens, double us,
                     double flop) {
    printf("{\"bench\": \"op\", \"model\": \"%s\", \"type\": \"%s\", \"op\": \"%s\", "
           "\"tokens\": %u, \"us\": %.2f, \"tflop_s\": %.0f}\n",
           q.m.name, TYPE_NAMES[q.type], op, tokens, us, flop / us * 1e-6);
}

/* What a kernel takes to run with a pass's values. */
template <typename F>
static void bench_op(const quantized_run &r, const char *op, const emb_cuda_quantized *l, F work) {
    uint32_t tokens = r.batch->tokens_max;
    print_op(r.q, op, tokens, op_time([&] { REQUIRE(work()); }),
             l ? 2.0 * tokens * l->rows * l->cols : 0);
}

static void bench_product(const quantized_run &r, const char *op, const emb_cuda_quantized &l) {
    const activations &a = r.x.a;
    const emb_cuda_codes *from = r.q.type == EMB_DTYPE_INT4 ? NULL : &r.x.inner;
    bench_op(r, op, &l, [&] {
        return emb_cuda_quantized_run(a.y, from, from ? NULL : a.wide, &l, 0, EMB_CUDA_TILE_AUTO,
                                      r.batch, r.device, stream);
    });
}

static void bench_ops(const quantized_model &q, uint32_t chunks) {
    batch b = batch_make(std::vector<uint32_t>(chunks, 128), q.m.vocabulary);
    quantized_activations x = quantized_activations_open(q, b.tokens, chunks);
    quantized_run r = {q, x, &b.batch, &device, stream};
    const activations &a = x.a;
    const emb_cuda_codes *codes = q.type == EMB_DTYPE_INT4 ? NULL : &x.codes;
    emb_cuda_heads heads = {q.m.hidden, q.m.heads, q.m.hidden / q.m.heads, q.m.longest,
                            q.m.relative};
    uint32_t H = q.m.hidden, F = q.m.intermediate;
    forward_quantized(r); /* values like those of a pass */
    bench_op(r, "embed", NULL, [&] {
        return emb_cuda_embed_codes(a.x, codes, NULL, q.type, r.batch, &q.m.embedding, H, r.device,
                                    stream);
    });
    bench_op(r, "qkv", &q.qkv[0], [&] { return run_quantized(r, a.wide, q.qkv[0], 0), 0; });
    bench_op(r, "attention", NULL, [&] {
        return emb_cuda_attention(a.y, a.wide, &heads, r.batch, EMB_DTYPE_F16, r.device, stream);
    });
    bench_op(r, "ffn_in", &q.ffn_in[0],
             [&] { return run_quantized(r, a.wide, q.ffn_in[0], 1), 0; });
    if (codes) {
        bench_op(r, "quantize hidden", NULL, [&] {
            return emb_cuda_quantize(&x.inner, a.y, NULL, H, q.type, r.batch, r.device, stream);
        });
        bench_op(r, "quantize intermediate", NULL, [&] {
            return emb_cuda_quantize(&x.inner, a.wide, NULL, F, q.type, r.batch, r.device, stream);
        });
    }
    bench_op(r, "residual_norm", NULL, [&] {
        return emb_cuda_residual_norm_codes(a.x, codes, NULL, q.type, a.y, a.x, &q.m.norm, r.batch,
                                            H, r.device, stream);
    });
    if (q.type != EMB_DTYPE_FP8) bench_product(r, "attention_out", q.attention_out[0]);
    bench_product(r, "ffn_out", q.ffn_out[0]);
    if (q.type == EMB_DTYPE_FP8) {
        bench_op(r, "ffn_in to codes", &q.ffn_in[0], [&] {
            return emb_cuda_quantized_codes(&x.inner, &x.codes, q.bounds[0], &q.ffn_in[0], 1,
                                            EMB_CUDA_TILE_AUTO, r.batch, r.device, stream);
        });
    }
    quantized_activations_close(x), batch_close(b);
}

static void bench_model(random_model m, bool bits_only, bool quick, bool ops) {
    std::vector<quantized_model> all;
    for (emb_dtype type : {EMB_DTYPE_INT8, EMB_DTYPE_FP8, EMB_DTYPE_INT4}) {
        if (type == EMB_DTYPE_FP8 && device.capability < 89) continue;
        quantized_model q = {};
        q.m = m, q.type = type;
        quantized_open(q);
        check_bits(q);
        all.push_back(q);
    }
    if (bits_only) return;
    model_open(m);
    bench_passes(m, all, "one of 128", std::vector<uint32_t>(1, 128));
    for (uint32_t chunks : {64u, 128u, 256u, 512u}) {
        if (quick && chunks != 64 && chunks != 256) continue;
        bench_passes(m, all, "128", std::vector<uint32_t>(chunks, 128));
    }
    if (!quick) bench_passes(m, all, "ragged 8-256", ragged_lengths(65536, 8, 256));
    for (size_t i = 0; i < all.size() && ops; i++) bench_ops(all[i], 256);
}

int main(int argc, char **argv) {
    bool bits_only = argc > 1 && !strcmp(argv[1], "bits");
    bool quick = argc > 1 && !strcmp(argv[1], "quick");
    bool ops = quick || (argc > 1 && !strcmp(argv[1], "ops"));
    random_model models[] = {{"L6", 6, 384, 12, 1536, 30522, 512, EMB_DTYPE_F16},
                             {"mpnet-base", 12, 768, 12, 3072, 30527, 512, EMB_DTYPE_F16}};
    setvbuf(stdout, NULL, _IOLBF, 0);
    REQUIRE(emb_cuda_device_read(&device));
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (random_model &m : models) {
        if (!strcmp(m.name, "mpnet-base")) {
            m.relative =
                (float *)device_values((size_t)m.heads * (2 * m.longest - 1), 1, 0, EMB_DTYPE_F32);
        }
        bench_model(m, bits_only, quick, ops);
    }
    REQUIRE(cudaDeviceSynchronize());
    return failures ? 1 : 0;
}
