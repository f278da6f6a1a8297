/* check_train_attention.cu - training's attention, forwards and back, against a double-precision
 * reference on awkward lengths: with dropout by the CPU's formula, with a bias and its gradient.
 *
 * Outputs start as NaNs between guards; two runs must give the same bits. `small` runs few cases;
 * `bench` prints times as well. Prints JSON lines; exits 1 if a check failed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cuda/timing.cuh"
#include "train/cpu/random.h"
#include "train/cuda/kernels/attention.h"

static emb_cuda_device device;
static int failures;
static uint32_t worst_length; /* of the chunk with the largest error */

/* One case: what goes in, in the type's precision, and what is to come out. */
typedef struct trial {
    emb_dtype type;
    emb_cuda_heads heads;
    emb_train_cuda_drop drop;
    uint32_t longest;
    batch b;
    std::vector<uint32_t> rows;
    std::vector<float> qkv, d_out, relative;
    std::vector<double> out, log_sums, d_qkv, d_relative;
} trial;

/* ---- reference ------------------------------------------------------------------------------- */

/* One query of one head: its row of all the results. */
typedef struct query {
    uint32_t chunk, head, i;
    const float *q, *keys, *d_out;
    double *out, *d_q, *d_keys;
} query;

static double kept(const trial &t, const query &at, uint32_t j) {
    if (!(t.drop.share > 0)) return 1;
    uint64_t key = emb_hash_mix(emb_hash_mix(t.drop.key, t.rows[at.chunk]), at.head);
    uint32_t bits = emb_random_bits(emb_hash_mix(key, at.i), j);
    return bits < emb_random_limit(t.drop.share) ? 0 : 1 / (1 - (double)t.drop.share);
}

static double softmax_row(std::vector<double> &weights, const trial &t, const query &at) {
    uint32_t D = t.heads.head_dim, stride = 3 * t.heads.hidden, L = t.heads.relative_tokens;
    double top = -1e300, sum = 0;
    for (uint32_t j = 0; j < weights.size(); j++) {
        double dot = 0;
        for (uint32_t d = 0; d < D; d++) dot += (double)at.q[d] * at.keys[j * stride + d];
        weights[j] = dot / sqrt((double)D);
        if (t.heads.relative) {
            weights[j] += t.relative[at.head * (2 * L - 1) + j + L - 1 - at.i];
        }
        top = std::max(top, weights[j]);
    }
    for (double &w : weights) sum += w = exp(w - top);
    for (double &w : weights) w /= sum;
    return top + log(sum);
}

static double reference_row(trial &t, const query &at) {
    uint32_t D = t.heads.head_dim, H = t.heads.hidden, stride = 3 * H, L = t.heads.relative_tokens;
    uint32_t count = t.b.lengths[at.chunk];
    std::vector<double> weights(count), gradients(count);
    double log_sum = softmax_row(weights, t, at), along = 0;
    for (uint32_t j = 0; j < count; j++) {
        double keep = kept(t, at, j);
        for (uint32_t d = 0; d < D; d++) {
            at.out[d] += weights[j] * keep * at.keys[H + j * stride + d];
            gradients[j] += keep * at.d_out[d] * at.keys[H + j * stride + d];
            at.d_keys[H + j * stride + d] += weights[j] * keep * at.d_out[d];
        }
        along += gradients[j] * weights[j];
    }
    for (uint32_t j = 0; j < count; j++) {
        double d = weights[j] * (gradients[j] - along), scaled = d / sqrt((double)D);
        if (t.heads.relative) t.d_relative[at.head * (2 * L - 1) + j + L - 1 - at.i] += d;
        for (uint32_t c = 0; c < D; c++) {
            at.d_q[c] += scaled * at.keys[j * stride + c];
            at.d_keys[j * stride + c] += scaled * at.q[c];
        }
    }
    return log_sum;
}

static void reference(trial &t) {
    uint32_t H = t.heads.hidden, stride = 3 * H;
    t.out.assign((size_t)t.b.tokens * H, 0);
    t.d_qkv.assign((size_t)t.b.tokens * stride, 0);
    t.log_sums.assign((size_t)t.heads.heads * t.b.tokens, 0);
    t.d_relative.assign(t.relative.size(), 0);
    for (uint32_t c = 0; c < t.b.lengths.size(); c++) {
        for (uint32_t head = 0; head < t.heads.heads; head++) {
            size_t column = head * t.heads.head_dim, first = t.b.starts[c];
            for (uint32_t i = 0; i < t.b.lengths[c]; i++) {
                query at = {c,
                            head,
                            i,
                            &t.qkv[(first + i) * stride + column],
                            &t.qkv[first * stride + H + column],
                            &t.d_out[(first + i) * H + column],
                            &t.out[(first + i) * H + column],
                            &t.d_qkv[(first + i) * stride + column],
                            &t.d_qkv[first * stride + H + column]};
                t.log_sums[head * t.b.tokens + first + i] = reference_row(t, at);
            }
        }
    }
}

/* ---- judging --------------------------------------------------------------------------------- */

/* Root mean square of what is off, by chunk and block of head_dim columns, as a share of that of
 * the wanted values there (and a tenth of that everywhere, where they are next to nothing; in the
 * shortest chunks that of d_out, for there the gradients of scores are what is left of numbers of
 * its size that are nearly equal). */
static double error_of(const trial &t, const std::vector<float> &got,
                       const std::vector<double> &wanted, uint32_t cols) {
    uint32_t D = t.heads.head_dim;
    double all = 0, worst = 0;
    for (double w : wanted) all += w * w;
    all = sqrt(all / (double)wanted.size());
    for (size_t c = 0; c < t.b.lengths.size(); c++) {
        for (uint32_t column = 0; column < cols; column += D) {
            double off = 0, size = 0, count = (double)t.b.lengths[c] * D;
            double floor = t.b.lengths[c] < 4 ? 1 + all : 0.1 * all;
            for (uint32_t i = t.b.starts[c]; i < t.b.starts[c + 1]; i++) {
                for (uint32_t d = column; d < column + D; d++) {
                    double w = wanted[(size_t)i * cols + d], o = got[(size_t)i * cols + d] - w;
                    off += o * o, size += w * w;
                }
            }
            double error = sqrt(off / count) / (sqrt(size / count) + floor);
            if (!(error <= worst)) worst = error, worst_length = t.b.lengths[c];
        }
    }
    return worst;
}

static double error_of_all(const std::vector<float> &got, const std::vector<double> &wanted) {
    double off = 0, size = 0;
    for (size_t i = 0; i < wanted.size(); i++) {
        off += (got[i] - wanted[i]) * (got[i] - wanted[i]), size += wanted[i] * wanted[i];
    }
    return wanted.empty() ? 0 : sqrt(off / (size + 1e-9));
}

static void report(const trial &t, const char *what, double error, bool intact) {
    double allowed = t.type == EMB_DTYPE_F16 ? 3e-3 : 2e-2;
    bool bad = !(error <= allowed) || !intact;
    failures += bad;
    printf("{\"check\": \"attention %s\", \"type\": \"%s\", \"head_dim\": %u, \"dropout\": %.2f, "
           "\"relative\": %d, \"longest\": %u, \"as\": %u, \"error\": %.5f, \"at_length\": %u, "
           "\"failed\": %d}\n",
           what, TYPE_NAMES[t.type], t.heads.head_dim, t.drop.share, t.heads.relative != NULL,
           t.longest, device.capability, error, worst_length, bad);
    fflush(stdout);
}

/* ---- trials ---------------------------------------------------------------------------------- */

/* Device memory of a trial. */
typedef struct places {
    buffer qkv, d_out, rows, relative, out, log_sums, d_qkv, d_relative, scratch;
} places;

static places places_open(trial &t) {
    places m;
    size_t values = (size_t)t.b.tokens * t.heads.hidden, log_sums = t.log_sums.size();
    bool relative = !t.relative.empty();
    m.qkv = buffer_from(t.qkv, t.type), m.d_out = buffer_from(t.d_out, t.type);
    m.rows = buffer_copy(t.rows), m.relative = buffer_from(t.relative, EMB_DTYPE_F32);
    m.out = buffer_open(values, t.type), m.log_sums = buffer_open(log_sums, EMB_DTYPE_F32);
    m.d_qkv = buffer_open(3 * values, t.type);
    m.d_relative = buffer_open(t.relative.size(), EMB_DTYPE_F32);
    t.heads.relative = relative ? (float *)inside(m.relative) : NULL;
    t.drop.rows = (uint32_t *)inside(m.rows);
    uint64_t scratch = emb_cuda_train_attention_scratch(&t.heads, &t.b.batch, relative, &device);
    m.scratch = buffer_open(scratch, EMB_DTYPE_INT8);
    return m;
}

static void places_close(places &m) {
    for (buffer *b : {&m.qkv, &m.d_out, &m.rows, &m.relative, &m.out, &m.log_sums, &m.d_qkv,
                      &m.d_relative, &m.scratch}) {
        buffer_close(*b);
    }
}

static void back(const trial &t, const places &m, bool relative) {
    float *d_relative = relative ? (float *)inside(m.d_relative) : NULL;
    REQUIRE(emb_cuda_train_attention_back(inside(m.d_qkv), d_relative, inside(m.scratch),
                                          inside(m.d_out), inside(m.out),
                                          (float *)inside(m.log_sums), inside(m.qkv), &t.heads,
                                          &t.drop, t.longest, &t.b.batch, t.type, &device, stream));
    REQUIRE(cudaStreamSynchronize(stream));
}

static void check_back(const trial &t, const places &m, bool relative) {
    std::vector<unsigned char> first[2];
    for (int run = 0; run < 2; run++) {
        buffer_poison(m.d_qkv), buffer_poison(m.scratch);
        REQUIRE(cudaMemset(inside(m.d_relative), 0, m.d_relative.bytes));
        REQUIRE(cudaDeviceSynchronize());
        back(t, m, relative);
        std::vector<unsigned char> raw[2] = {buffer_bytes(m.d_qkv), buffer_bytes(m.d_relative)};
        for (int i = 0; i < 2; i++) {
            if (run && raw[i] != first[i]) failures++, printf("two runs differ\n");
            first[i] = raw[i];
        }
    }
    report(t, "d_qkv", error_of(t, buffer_values(m.d_qkv), t.d_qkv, 3 * t.heads.hidden),
           buffer_intact(m.d_qkv) && buffer_intact(m.scratch) && buffer_intact(m.out));
    if (!relative) return;
    report(t, "d_relative", error_of_all(buffer_values(m.d_relative), t.d_relative),
           buffer_intact(m.d_relative));
}

static void run_all(const trial &t, const places &m) {
    buffer_poison(m.out), buffer_poison(m.log_sums);
    REQUIRE(cudaDeviceSynchronize());
    REQUIRE(emb_cuda_train_attention(inside(m.out), (float *)inside(m.log_sums), inside(m.qkv),
                                     &t.heads, &t.drop, &t.b.batch, t.type, &device, stream));
    REQUIRE(cudaStreamSynchronize(stream));
    report(t, "out", error_of(t, buffer_values(m.out), t.out, t.heads.hidden),
           buffer_intact(m.out));
    report(t, "log_sums", error_of_all(buffer_values(m.log_sums), t.log_sums),
           buffer_intact(m.log_sums));
    check_back(t, m, false);
    if (t.heads.relative) check_back(t, m, true);
}

static void check(emb_dtype type, uint32_t heads, uint32_t head_dim, float share, bool relative,
                  const std::vector<uint32_t> &lengths) {
    trial t;
    uint32_t longest = *std::max_element(lengths.begin(), lengths.end());
    uint32_t hidden = heads * head_dim;
    t.type = type, t.longest = longest;
    t.heads = {hidden, heads, head_dim, longest + 3, NULL};
    t.drop = {share, 0x123456789abcdefull, NULL};
    t.b = batch_make(lengths, 100);
    t.qkv = random_values((size_t)t.b.tokens * 3 * hidden, 1.3f, type);
    t.d_out = random_values((size_t)t.b.tokens * hidden, 1, type);
    if (relative) t.relative = random_values(heads * (2 * longest + 5), 1, EMB_DTYPE_F32);
    t.heads.relative = relative ? t.relative.data() : NULL;
    for (size_t i = 0; i < lengths.size(); i++) t.rows.push_back((uint32_t)(100 + 7 * i));
    reference(t);
    places m = places_open(t);
    uint32_t capability = device.capability;
    run_all(t, m);
    device.capability = 80; /* the kernels of the cards before, too */
    if (capability != device.capability) run_all(t, m);
    device.capability = capability;
    places_close(m), batch_close(t.b);
}

static void check_all(bool small) {
    std::vector<uint32_t> few = {1, 17, 64}, some = {1, 17, 64, 65, 128, 127, 2, 100};
    std::vector<uint32_t> many = {1, 17, 64, 65, 128, 129, 200, 512, 3};
    for (emb_dtype type : {EMB_DTYPE_BF16, EMB_DTYPE_F16}) {
        for (uint32_t head_dim : {32u, 64u, 24u, 128u}) {
            for (float share : {0.0f, 0.1f}) {
                for (bool relative : {false, true}) {
                    if (small && (type == EMB_DTYPE_F16) != (share > 0)) continue;
                    check(type, 2, head_dim, share, relative, small ? few : some);
                    if (small && head_dim != 64) {
                        check(type, 1, head_dim, share, relative, {3, 150});
                    }
                    bool odd = head_dim == 24 || head_dim == 128;
                    if (small || (type == EMB_DTYPE_F16 && odd)) continue;
                    check(type, 3, head_dim, share, relative, many);
                }
            }
        }
    }
}

/* ---- bench ----------------------------------------------------------------------------------- */

static void print_time(const trial &t, const char *op, double us, double products) {
    double flop = 0;
    for (uint32_t n : t.b.lengths) flop += products * 2.0 * n * n * t.heads.hidden;
    printf("{\"bench\": \"attention %s\", \"type\": \"%s\", \"head_dim\": %u, \"length\": %u, "
           "\"tokens\": %u, \"as\": %u, \"dropout\": %.2f, \"relative\": %d, \"us\": %.2f, "
           "\"tflop_s\": %.0f}\n",
           op, TYPE_NAMES[t.type], t.heads.head_dim, t.longest, t.b.tokens, device.capability,
           t.drop.share, t.heads.relative != NULL, us, flop / us * 1e-6);
    fflush(stdout);
}

static void bench(emb_dtype type, uint32_t heads, uint32_t head_dim, float share, bool relative,
                  uint32_t length, uint32_t tokens) {
    trial t;
    uint32_t hidden = heads * head_dim;
    t.type = type, t.longest = length;
    t.heads = {hidden, heads, head_dim, length, NULL};
    t.drop = {share, 0x123456789abcdefull, NULL};
    t.b = batch_make(std::vector<uint32_t>(tokens / length, length), 100);
    t.qkv = random_values((size_t)tokens * 3 * hidden, 1.3f, type);
    t.d_out = random_values((size_t)tokens * hidden, 1, type);
    t.log_sums.resize((size_t)heads * tokens);
    t.rows.assign(tokens / length, 7);
    if (relative) t.relative = random_values(heads * (2 * length - 1), 1, EMB_DTYPE_F32);
    places m = places_open(t);
    float *log_sums = (float *)inside(m.log_sums);
    float *d_relative = relative ? (float *)inside(m.d_relative) : NULL;
    double us = op_time([&] {
        emb_cuda_attention(inside(m.out), inside(m.qkv), &t.heads, &t.b.batch, type, &device,
                           stream);
    });
    if (!(share > 0)) print_time(t, "inference", us, 2);
    us = op_time([&] {
        emb_cuda_train_attention(inside(m.out), log_sums, inside(m.qkv), &t.heads, &t.drop,
                                 &t.b.batch, type, &device, stream);
    });
    print_time(t, "forward", us, 2);
    us = op_time([&] {
        emb_cuda_train_attention_back(inside(m.d_qkv), d_relative, inside(m.scratch),
                                      inside(m.d_out), inside(m.out), log_sums, inside(m.qkv),
                                      &t.heads, &t.drop, t.longest, &t.b.batch, type, &device,
                                      stream);
    });
    print_time(t, "back", us, 5);
    places_close(m), batch_close(t.b);
}

static void bench_all() {
    for (float share : {0.0f, 0.1f}) {
        bench(EMB_DTYPE_BF16, 12, 32, share, false, 128, 16384);
        bench(EMB_DTYPE_BF16, 12, 32, share, false, 64, 16384);
        bench(EMB_DTYPE_BF16, 12, 32, share, false, 256, 16384);
        bench(EMB_DTYPE_BF16, 12, 64, share, false, 128, 16384);
        bench(EMB_DTYPE_BF16, 12, 64, share, true, 128, 16384);
        bench(EMB_DTYPE_BF16, 12, 64, share, false, 512, 16384);
        bench(EMB_DTYPE_BF16, 12, 64, share, true, 512, 16384);
    }
}

int main(int argc, char **argv) {
    bool small = argc > 1 && !strcmp(argv[1], "small");
    REQUIRE(emb_cuda_device_read(&device));
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    check_all(small);
    printf("{\"check\": \"all\", \"failed\": %d}\n", failures);
    if (argc > 1 && !strcmp(argv[1], "bench")) {
        uint32_t capability = device.capability;
        bench_all();
        device.capability = 80;
        if (capability != 80) bench_all();
    }
    return failures ? 1 : 0;
}
