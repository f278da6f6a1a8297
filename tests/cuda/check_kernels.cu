/* check_kernels.cu - every CUDA op against a double-precision reference, on awkward shapes.
 *
 * Outputs start as NaNs between guards; rows past a batch must stay as they were. Then bits: a
 * chunk alone, in a batch, in a larger bucket and under every tile shape. `small` runs few cases,
 * for compute-sanitizer. Prints JSON lines; exits 1 if a check failed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cuda/support.cuh"

static emb_cuda_device device;
static emb_cuda_blas blas;
static bool has_blas, small;
static int failures;

/* ---- judging --------------------------------------------------------------------------------- */

/* The worst of a group of cases, as a share of what is allowed. */
typedef struct verdict {
    const char *name;
    emb_dtype type;
    double worst;
    int cases, bad;
} verdict;

static void report(const verdict &v) {
    printf("{\"check\": \"%s\", \"type\": \"%s\", \"cases\": %d, \"failed\": %d, "
           "\"worst_of_allowed\": %.3f}\n",
           v.name, TYPE_NAMES[v.type], v.cases, v.bad, v.worst);
    fflush(stdout);
    failures += v.bad;
}

/* Judges `out` [rows, cols] (f32 or of its type) against `wanted`; rows past it must be poison. */
static void judge(verdict &v, const buffer &out, const std::vector<double> &wanted, double slack) {
    std::vector<float> got = buffer_values(out);
    double relative = v.type == EMB_DTYPE_F32 ? 1e-5 : v.type == EMB_DTYPE_F16 ? 6e-4 : 4.5e-3;
    double squares = 0, worst = 0;
    for (double w : wanted) squares += w * w;
    double absolute = slack * relative * sqrt(squares / (double)wanted.size()) + 2e-5;
    bool bad = !buffer_intact(out);
    for (size_t i = 0; i < wanted.size(); i++) {
        double off = fabs(got[i] - wanted[i]) / (relative * fabs(wanted[i]) + absolute);
        if (!(off <= 1)) bad = true;
        if (off > worst || off != off) worst = off;
    }
    for (size_t i = wanted.size(); i < got.size(); i++) bad = bad || got[i] == got[i];
    v.cases++, v.bad += bad;
    if (worst > v.worst || worst != worst) v.worst = worst;
}

static void judge_bits(verdict &v, const void *a, const void *b, size_t bytes) {
    v.cases++;
    if (memcmp(a, b, bytes)) v.bad++;
}

static std::vector<uint32_t> some_lengths(uint32_t longest) {
    std::vector<uint32_t> all = {1, 2, 17, 63, 64, 65, 1, 127, 128, 129, 200, 512, 3};
    std::vector<uint32_t> some;
    for (uint32_t n : all) {
        if (n <= longest) some.push_back(n);
    }
    return some;
}

static std::vector<emb_dtype> types() {
    std::vector<emb_dtype> all = {EMB_DTYPE_F32, EMB_DTYPE_F16};
    if (device.capability >= 80) all.push_back(EMB_DTYPE_BF16);
    return all;
}

/* ---- references ------------------------------------------------------------------------------ */

static double gelu(double x) {
    return 0.5 * x * (1 + erf(x / sqrt(2.0)));
}

static void normalize_row(double *row, size_t hidden, const std::vector<float> &gain,
                          const std::vector<float> &shift, double epsilon) {
    double mean = 0, variance = 0;
    for (size_t i = 0; i < hidden; i++) mean += row[i] / (double)hidden;
    for (size_t i = 0; i < hidden; i++) {
        variance += (row[i] - mean) * (row[i] - mean) / (double)hidden;
    }
    for (size_t i = 0; i < hidden; i++) {
        row[i] = (row[i] - mean) / sqrt(variance + epsilon) * gain[i] + shift[i];
    }
}

/* Attention of one query row of one head; `place` is the row of the relative table's centre. */
static void attend_row(double *out, const float *query, const float *keys, uint32_t length,
                       uint32_t stride, uint32_t hidden, uint32_t head_dim, const float *bias) {
    std::vector<double> weights(length);
    double top = -1e300, sum = 0;
    for (uint32_t j = 0; j < length; j++) {
        double dot = 0;
        for (uint32_t d = 0; d < head_dim; d++) dot += (double)query[d] * keys[j * stride + d];
        weights[j] = dot / sqrt((double)head_dim) + (bias ? bias[j] : 0);
        top = std::max(top, weights[j]);
    }
    for (double &w : weights) sum += w = exp(w - top);
    for (uint32_t d = 0; d < head_dim; d++) {
        double value = 0;
        for (uint32_t j = 0; j < length; j++) {
            value += weights[j] * keys[hidden + j * stride + d] / sum;
        }
        out[d] = value;
    }
}

static std::vector<double> attention_reference(const std::vector<float> &qkv, const batch &b,
                                               const emb_cuda_heads &h,
                                               const std::vector<float> &relative) {
    std::vector<double> out((size_t)b.tokens * h.hidden);
    uint32_t stride = 3 * h.hidden, span = 2 * h.relative_tokens - 1;
    for (size_t c = 0; c < b.lengths.size(); c++) {
        for (uint32_t i = 0; i < b.lengths[c]; i++) {
            for (uint32_t head = 0; head < h.heads; head++) {
                size_t row = b.starts[c] + i, at = head * h.head_dim;
                const float *bias = NULL;
                if (h.relative) bias = &relative[head * span + h.relative_tokens - 1 - i];
                attend_row(&out[row * h.hidden + at], &qkv[row * stride + at],
                           &qkv[(size_t)b.starts[c] * stride + h.hidden + at], b.lengths[c], stride,
                           h.hidden, h.head_dim, bias);
            }
        }
    }
    return out;
}

/* ---- ops ------------------------------------------------------------------------------------- */

static void check_prepare() {
    verdict v = {"prepare", EMB_DTYPE_F32, 0, 0, 0};
    std::vector<uint32_t> many(3000);
    for (uint32_t &n : many) n = 1 + random_below(70);
    for (const std::vector<uint32_t> &lengths : {some_lengths(512), many}) {
        batch b = batch_make(lengths, 100);
        REQUIRE(cudaDeviceSynchronize());
        std::vector<uint32_t> at(b.tokens);
        std::vector<uint32_t> tiles(emb_cuda_query_tiles_words(b.tokens, (uint32_t)lengths.size()));
        REQUIRE(cudaMemcpy(at.data(), b.batch.positions, b.tokens * 4, cudaMemcpyDeviceToHost));
        REQUIRE(cudaMemcpy(tiles.data(), b.batch.query_tiles, tiles.size() * 4,
                           cudaMemcpyDeviceToHost));
        size_t item = 0;
        bool bad = false;
        for (size_t c = 0; c < lengths.size(); c++) {
            for (uint32_t i = 0; i < lengths[c]; i++) {
                bad = bad || at[b.starts[c] + i] != i;
                if (i % EMB_CUDA_QUERY_ROWS) continue;
                const uint32_t *t = &tiles[4 * ++item];
                bad = bad || t[0] != b.starts[c] || t[1] != lengths[c] || t[2] != i || t[3] != c;
            }
        }
        v.cases++, v.bad += bad || tiles[0] != item;
        batch_close(b);
    }
    report(v);
}

static void check_embed(emb_dtype type) {
    verdict v = {"embed", type, 0, 0, 0};
    for (uint32_t hidden : {32u, 48u, 384u, 768u, 1536u}) {
        uint32_t vocabulary = 99;
        batch b = batch_make(some_lengths(small ? 65 : 512), vocabulary);
        std::vector<float> words = random_values((size_t)vocabulary * hidden, 1, type);
        std::vector<float> positions = random_values(512 * (size_t)hidden, 1, EMB_DTYPE_F32);
        std::vector<float> gain = random_values(hidden, 0.2f, EMB_DTYPE_F32, 1);
        std::vector<float> shift = random_values(hidden, 0.2f, EMB_DTYPE_F32);
        buffer w = buffer_from(words, type), p = buffer_from(positions, EMB_DTYPE_F32);
        buffer g = buffer_from(gain, EMB_DTYPE_F32), s = buffer_from(shift, EMB_DTYPE_F32);
        buffer out = buffer_open((size_t)(b.tokens + 3) * hidden, type);
        std::vector<double> wanted;
        for (size_t c = 0; c < b.lengths.size(); c++) {
            for (uint32_t i = 0; i < b.lengths[c]; i++) {
                std::vector<double> row(hidden);
                for (uint32_t d = 0; d < hidden; d++) {
                    row[d] = (double)words[(size_t)b.ids[b.starts[c] + i] * hidden + d] +
                             positions[(size_t)i * hidden + d];
                }
                normalize_row(row.data(), hidden, gain, shift, 1e-12);
                wanted.insert(wanted.end(), row.begin(), row.end());
            }
        }
        void *pinned = NULL;
        std::vector<unsigned char> raw = to_bytes(words, type);
        REQUIRE(cudaMallocHost(&pinned, raw.size()));
        memcpy(pinned, raw.data(), raw.size());
        for (const void *table : {(const void *)inside(w), (const void *)pinned}) {
            emb_cuda_embedding e = {table, (float *)inside(p), (float *)inside(g),
                                    (float *)inside(s), 1e-12f};
            buffer_poison(out);
            REQUIRE(emb_cuda_embed(inside(out), &b.batch, &e, hidden, type, NULL));
            judge(v, out, wanted, 0.1);
        }
        REQUIRE(cudaFreeHost(pinned));
        for (buffer *x : {&w, &p, &g, &s, &out}) buffer_close(*x);
        batch_close(b);
    }
    report(v);
}

static void check_norm(emb_dtype type) {
    verdict v = {"residual_norm", type, 0, 0, 0};
    for (uint32_t hidden : {32u, 48u, 384u, 768u, 1024u, 1536u}) {
        batch b = batch_make({1, 30, 7}, 10);
        size_t count = (size_t)b.tokens * hidden;
        std::vector<float> x = random_values(count, 1, type), r = random_values(count, 2, type, 5);
        std::vector<float> gain = random_values(hidden, 0.2f, EMB_DTYPE_F32, 1);
        std::vector<float> shift = random_values(hidden, 0.2f, EMB_DTYPE_F32);
        std::vector<double> wanted(count);
        for (size_t i = 0; i < count; i++) wanted[i] = (double)x[i] + r[i];
        for (uint32_t t = 0; t < b.tokens; t++) {
            normalize_row(&wanted[(size_t)t * hidden], hidden, gain, shift, 1e-5);
        }
        buffer in = buffer_from(x, type), residual = buffer_from(r, type);
        buffer g = buffer_from(gain, EMB_DTYPE_F32), s = buffer_from(shift, EMB_DTYPE_F32);
        buffer out = buffer_open(count + hidden, type);
        emb_cuda_norm norm = {(float *)inside(g), (float *)inside(s), 1e-5f};
        REQUIRE(emb_cuda_residual_norm(inside(out), inside(in), inside(residual), &norm, &b.batch,
                                       hidden, type, NULL));
        judge(v, out, wanted, 0.1);
        REQUIRE(emb_cuda_residual_norm(inside(residual), inside(in), inside(residual), &norm,
                                       &b.batch, hidden, type, NULL));
        judge(v, residual, wanted, 0.1);
        for (buffer *y : {&in, &residual, &g, &s, &out}) buffer_close(*y);
        batch_close(b);
    }
    report(v);
}

/* One product: every tile shape, with and without GELU, then cuBLASLt. */
static void check_product(verdict &v, verdict &bits, verdict &library, uint32_t tokens, uint32_t N,
                          uint32_t K) {
    emb_dtype type = v.type;
    batch b = batch_make({tokens}, 10);
    std::vector<float> x = random_values((size_t)tokens * K, 1, type);
    std::vector<float> w = random_values((size_t)N * K, 1 / sqrtf((float)K), type);
    std::vector<float> bias = random_values(N, 0.5f, type);
    std::vector<double> wanted[2];
    for (size_t i = 0; i < (size_t)tokens * N; i++) {
        double sum = bias[i % N];
        for (uint32_t k = 0; k < K; k++) sum += (double)x[i / N * K + k] * w[i % N * K + k];
        wanted[0].push_back(sum), wanted[1].push_back(gelu(sum));
    }
    buffer in = buffer_from(x, type), weight = buffer_from(w, type);
    buffer b32 = buffer_from(bias, EMB_DTYPE_F32), b16 = buffer_from(bias, type);
    buffer out = buffer_open((size_t)(tokens + 2) * N, type);
    emb_cuda_linear linear = {inside(weight), (float *)inside(b32), N, K, type};
    for (int g = 0; g < 2; g++) {
        std::vector<unsigned char> first;
        int last = type == EMB_DTYPE_F32 || device.capability != 90 ? 3 : 4;
        for (int tile = 0; tile <= last; tile++) {
            buffer_poison(out);
            REQUIRE(emb_cuda_linear_run(inside(out), inside(in), &linear, g, (emb_cuda_tile)tile,
                                        &b.batch, &device, NULL));
            judge(v, out, wanted[g], 1);
            std::vector<unsigned char> raw = buffer_bytes(out);
            if (tile) judge_bits(bits, raw.data(), first.data(), raw.size());
            first = raw;
        }
        if (!has_blas) continue;
        buffer exact = buffer_open((size_t)tokens * N, type);
        emb_cuda_blas_choice choice;
        linear.bias = (float *)inside(b16);
        REQUIRE(emb_cuda_blas_choose(&choice, &blas, &linear, 4096, 0));
        REQUIRE(
            emb_cuda_blas_run(inside(exact), inside(in), &linear, &blas, &choice, tokens, NULL));
        if (g) REQUIRE(emb_cuda_gelu(inside(exact), N, &b.batch, type, NULL));
        judge(library, exact, wanted[g], g ? 4 : 1); /* rounded twice with GELU */
        buffer_close(exact);
        linear.bias = (float *)inside(b32);
    }
    for (buffer *y : {&in, &weight, &b32, &b16, &out}) buffer_close(*y);
    batch_close(b);
}

/* Many tiles a block: no reference, only the same bits from every shape. */
static void check_long_product(verdict &bits, uint32_t N, uint32_t K) {
    emb_dtype type = bits.type;
    batch b = batch_make({30011}, 10);
    buffer in = buffer_from(random_values((size_t)b.tokens * K, 1, type), type);
    buffer weight = buffer_from(random_values((size_t)N * K, 1 / sqrtf((float)K), type), type);
    buffer bias = buffer_from(random_values(N, 0.5f, EMB_DTYPE_F32), EMB_DTYPE_F32);
    buffer out = buffer_open((size_t)b.tokens * N, type);
    emb_cuda_linear linear = {inside(weight), (float *)inside(bias), N, K, type};
    std::vector<unsigned char> first;
    int last = type == EMB_DTYPE_F32 || device.capability != 90 ? 3 : 4;
    for (int tile = 1; tile <= last; tile++) {
        buffer_poison(out);
        REQUIRE(emb_cuda_linear_run(inside(out), inside(in), &linear, 1, (emb_cuda_tile)tile,
                                    &b.batch, &device, NULL));
        std::vector<unsigned char> raw = buffer_bytes(out);
        if (tile > 1) judge_bits(bits, raw.data(), first.data(), raw.size());
        first = raw;
        if (!buffer_intact(out)) bits.bad++;
    }
    for (buffer *y : {&in, &weight, &bias, &out}) buffer_close(*y);
    batch_close(b);
}

static void check_linear(emb_dtype type) {
    verdict v = {"linear", type, 0, 0, 0}, bits = {"linear tiles, same bits", type, 0, 0, 0};
    verdict library = {"linear by cuBLASLt", type, 0, 0, 0};
    uint32_t shapes[][2] = {{32, 32},    {144, 48},   {104, 40},  {384, 384},
                            {1536, 384}, {384, 1536}, {2304, 768}};
    for (auto &shape : shapes) {
        for (uint32_t tokens : {1u, 17u, 64u, 200u}) {
            if ((size_t)tokens * shape[0] * shape[1] > (small ? 5000000u : 200000000u)) continue;
            check_product(v, bits, library, tokens, shape[0], shape[1]);
        }
    }
    if (!small) check_long_product(bits, 1152, 384), check_long_product(bits, 384, 1536);
    report(v), report(bits);
    if (has_blas) report(library);
}

/* A product with residual and norm in one kernel: the same bits as in two. */
static void check_product_norm(verdict &bits, uint32_t tokens, uint32_t N, uint32_t K) {
    emb_dtype type = bits.type;
    batch b = batch_open(tokens + 70, 1);
    batch_fill(b, {tokens}, std::vector<uint32_t>(), 10);
    size_t rows = tokens + 70, width = N * type_bytes(type);
    buffer in = buffer_from(random_values(rows * K, 1, type), type);
    buffer weight = buffer_from(random_values((size_t)N * K, 1 / sqrtf((float)K), type), type);
    buffer bias = buffer_from(random_values(N, 0.5f, EMB_DTYPE_F32), EMB_DTYPE_F32);
    buffer gain = buffer_from(random_values(N, 0.2f, EMB_DTYPE_F32, 1), EMB_DTYPE_F32);
    buffer shift = buffer_from(random_values(N, 0.2f, EMB_DTYPE_F32), EMB_DTYPE_F32);
    std::vector<float> x = random_values(rows * N, 2, type, 0.5f);
    buffer residual = buffer_from(x, type), between = buffer_open(rows * N, type);
    buffer wanted = buffer_from(x, type);
    emb_cuda_linear linear = {inside(weight), (float *)inside(bias), N, K, type};
    emb_cuda_norm norm = {(float *)inside(gain), (float *)inside(shift), 1e-5f};
    REQUIRE(emb_cuda_linear_norm(inside(wanted), inside(in), &linear, inside(wanted), &norm,
                                 inside(between), EMB_CUDA_TILE_MEDIUM, b.batch.tokens_max,
                                 &b.batch, &device, NULL));
    std::vector<unsigned char> first = buffer_bytes(wanted);
    for (int i = 0; i < 3; i++) { /* again, in place: the same bits, rows past the batch kept */
        buffer out = buffer_from(x, type);
        REQUIRE(i ? emb_cuda_linear_norm_wgmma(inside(out), inside(in), &linear, inside(out), &norm,
                                               &b.batch, &device, NULL)
                  : emb_cuda_linear_norm(inside(out), inside(in), &linear, inside(out), &norm,
                                         inside(between), EMB_CUDA_TILE_AUTO, b.batch.tokens_max,
                                         &b.batch, &device, NULL));
        std::vector<unsigned char> raw = buffer_bytes(out);
        judge_bits(bits, raw.data(), first.data(), width * rows);
        if (!buffer_intact(out)) bits.bad++;
        buffer_close(out);
    }
    for (buffer *y : {&in, &weight, &bias, &gain, &shift, &residual, &between, &wanted}) {
        buffer_close(*y);
    }
    batch_close(b);
}

static void check_linear_norm(emb_dtype type) {
    verdict bits = {"linear and norm in one, same bits", type, 0, 0, 0};
    if (type == EMB_DTYPE_F32 || device.capability != 90) return;
    uint32_t shapes[][2] = {{384, 384}, {384, 1536}, {768, 768}, {768, 3072}};
    for (auto &shape : shapes) {
        for (uint32_t tokens : {1u, 128u, 300u, 9000u, 30011u}) {
            if (small && tokens > 300) continue;
            check_product_norm(bits, tokens, shape[0], shape[1]);
        }
    }
    report(bits);
}

static void check_heads(verdict &v, verdict &bits, emb_cuda_heads h, const batch &b) {
    emb_dtype type = v.type;
    size_t stale = (size_t)(b.batch.tokens_max - b.tokens) * 3 * h.hidden;
    std::vector<float> qkv = random_values((size_t)b.tokens * 3 * h.hidden, 1.5f, type);
    qkv.resize(qkv.size() + stale, NAN); /* rows past the batch reach no result */
    std::vector<float> table =
        random_values((size_t)h.heads * (2 * h.relative_tokens - 1), 1, EMB_DTYPE_F32);
    buffer in = buffer_from(qkv, type), relative = buffer_from(table, EMB_DTYPE_F32);
    if (h.relative_tokens > 1) h.relative = (float *)inside(relative);
    size_t width = h.hidden * type_bytes(type);
    buffer out = buffer_open((size_t)(b.tokens + 1) * h.hidden, type);
    REQUIRE(emb_cuda_attention(inside(out), inside(in), &h, &b.batch, type, &device, NULL));
    judge(v, out, attention_reference(qkv, b, h, table), 4);
    std::vector<unsigned char> packed = buffer_bytes(out);
    if (device.capability == 90 && type != EMB_DTYPE_F32 && h.head_dim % 8 == 0) {
        buffer_poison(out);
        REQUIRE(emb_cuda_attention_mma(inside(out), inside(in), &h, &b.batch, type, &device, NULL));
        std::vector<unsigned char> raw = buffer_bytes(out);
        judge_bits(bits, raw.data(), packed.data(), raw.size());
    }
    for (size_t c = 0; c < b.lengths.size(); c++) { /* the same chunk alone */
        batch alone = batch_make({b.lengths[c]}, 10);
        const char *from = (const char *)inside(in) + 3 * width * b.starts[c];
        buffer_poison(out);
        REQUIRE(emb_cuda_attention(inside(out), from, &h, &alone.batch, type, &device, NULL));
        std::vector<unsigned char> raw = buffer_bytes(out);
        judge_bits(bits, raw.data(), packed.data() + width * b.starts[c], width * b.lengths[c]);
        batch_close(alone);
    }
    for (buffer *y : {&in, &relative, &out}) buffer_close(*y);
}

static void check_attention(emb_dtype type) {
    verdict v = {"attention", type, 0, 0, 0};
    verdict bits = {"attention alone and by other products, same bits", type, 0, 0, 0};
    uint32_t longest = small ? 129 : 512;
    std::vector<uint32_t> lengths = some_lengths(longest);
    batch b = batch_open(1500, (uint32_t)lengths.size());
    batch_fill(b, lengths, std::vector<uint32_t>(), 10);
    for (uint32_t head_dim : {16u, 20u, 24u, 32u, 64u, 96u, 128u}) {
        for (uint32_t relative_tokens : {1u, longest}) {
            emb_cuda_heads h = {2 * head_dim, 2, head_dim, relative_tokens, NULL};
            check_heads(v, bits, h, b);
        }
    }
    batch_close(b);
    report(v), report(bits);
}

static std::vector<double> pool_reference(const std::vector<float> &x, const batch &b,
                                          uint32_t hidden, int pooling) {
    std::vector<double> out(b.lengths.size() * hidden);
    for (size_t c = 0; c < b.lengths.size(); c++) {
        std::vector<double> row(hidden);
        double squares = 0;
        for (uint32_t d = 0; d < hidden; d++) {
            const float *first = &x[(size_t)b.starts[c] * hidden + d];
            double sum = 0, top = -1e300;
            for (uint32_t i = 0; i < b.lengths[c]; i++) {
                sum += first[(size_t)i * hidden];
                top = std::max(top, (double)first[(size_t)i * hidden]);
            }
            row[d] = pooling == EMB_CUDA_POOL_MEAN  ? sum / b.lengths[c]
                     : pooling == EMB_CUDA_POOL_CLS ? first[0]
                                                    : top;
            squares += row[d] * row[d];
        }
        size_t target = b.lengths.size() - 1 - c;
        for (uint32_t d = 0; d < hidden; d++) out[target * hidden + d] = row[d] / sqrt(squares);
    }
    return out;
}

static void check_pool(emb_dtype type) {
    verdict v = {"pool", EMB_DTYPE_F32, 0, 0, 0};
    batch b = batch_make(some_lengths(512), 10);
    for (uint32_t hidden : {32u, 48u, 384u, 768u, 1536u}) {
        std::vector<float> x = random_values((size_t)b.tokens * hidden, 1, type, 0.2f);
        buffer in = buffer_from(x, type);
        buffer rows = buffer_open(b.lengths.size() * hidden, EMB_DTYPE_F32);
        for (int pooling = 0; pooling < 3; pooling++) {
            buffer_poison(rows);
            REQUIRE(emb_cuda_pool((float *)inside(rows), inside(in), &b.batch, hidden,
                                  (emb_cuda_pooling)pooling, 1, type, NULL));
            judge(v, rows, pool_reference(x, b, hidden, pooling), 1);
        }
        buffer_close(in), buffer_close(rows);
    }
    batch_close(b);
    v.type = type;
    report(v);
}

/* GELU of the products, over its whole range. */
static void check_gelu(emb_dtype type) {
    verdict v = {"gelu", type, 0, 0, 0};
    std::vector<float> x(1 << 16);
    std::vector<double> wanted;
    for (size_t i = 0; i < x.size(); i++) {
        x[i] = rounded(((float)i / 32768.0f - 1) * (i & 1 ? 40.0f : 6.0f), type);
        wanted.push_back(gelu(x[i]));
    }
    batch b = batch_make({256}, 10);
    buffer values = buffer_from(x, type);
    REQUIRE(emb_cuda_gelu(inside(values), 256, &b.batch, type, NULL));
    judge(v, values, wanted, 0);
    buffer_close(values), batch_close(b);
    report(v);
}

int main(int argc, char **argv) {
    small = argc > 1 && !strcmp(argv[1], "small");
    REQUIRE(emb_cuda_device_read(&device));
    has_blas = !small && emb_cuda_blas_open(&blas, NULL) == 0;
    check_prepare();
    for (emb_dtype type : types()) {
        check_embed(type);
        check_norm(type);
        check_gelu(type);
        check_linear(type);
        check_linear_norm(type);
        check_attention(type);
        check_pool(type);
    }
    REQUIRE(cudaDeviceSynchronize());
    if (has_blas) emb_cuda_blas_close(&blas);
    printf("{\"check\": \"all\", \"sm\": %u, \"cublaslt\": %s, \"failed\": %d}\n",
           device.capability, has_blas ? "true" : "false", failures);
    return failures ? 1 : 0;
}
