/* check_quantized.cu - quantized ops against references: codes and int8 products to the bit.
 *
 * Each group of cases runs in a process of its own, so that a crash or a hang of one hides no
 * other; NAME runs that group alone, `small` few cases of all in one process, for
 * compute-sanitizer. Prints the first differences and JSON lines; exits 1 if a check failed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <sys/wait.h>
#include <unistd.h>

#include "backend/cuda/kernels/kernels.h"
#include "cuda/support.cuh"

#define GROUP_SECONDS 25
#define SPARE         70 /* rows of a bucket past its batch */

static emb_cuda_device device;
static bool small;
static int failures, cases;
static double worst; /* of what is allowed, where that is not 0 */

/* ---- judging --------------------------------------------------------------------------------- */

/* Differences of one comparison. */
typedef struct differences {
    char what[200];
    size_t count, columns;
    uint32_t row0, row1, col0, col1;
} differences;

static differences compare(const char *what, size_t columns) {
    differences d = {{0}, 0, columns, ~0u, 0, ~0u, 0};
    snprintf(d.what, sizeof d.what, "%s", what);
    return d;
}

static void differ(differences &d, size_t at, double wanted, double got) {
    uint32_t row = (uint32_t)(at / d.columns), col = (uint32_t)(at % d.columns);
    d.row0 = std::min(d.row0, row), d.row1 = std::max(d.row1, row);
    d.col0 = std::min(d.col0, col), d.col1 = std::max(d.col1, col);
    if (d.count++ < 6)
        printf("  %s [%u, %u]: wanted %.9g got %.9g\n", d.what, row, col, wanted, got);
}

static void judge(const differences &d) {
    cases++;
    if (!d.count) return;
    failures++;
    printf("  %s: %zu differ, rows %u to %u, columns %u to %u\n", d.what, d.count, d.row0, d.row1,
           d.col0, d.col1);
    fflush(stdout);
}

static void judge_true(const char *what, bool right) {
    cases++;
    if (right) return;
    failures++;
    printf("  %s\n", what);
    fflush(stdout);
}

/* Bytes that must be the same. */
static void judge_bytes(const char *what, const std::vector<unsigned char> &got,
                        const std::vector<unsigned char> &wanted, size_t columns) {
    differences d = compare(what, columns);
    for (size_t i = 0; i < wanted.size(); i++) {
        if (got[i] != wanted[i]) differ(d, i, wanted[i], got[i]);
    }
    judge(d);
}

/* Whether all from `first` on is as buffer_open left it, and both guards. */
static void judge_untouched(const char *what, const buffer &b, size_t first) {
    std::vector<unsigned char> raw = buffer_bytes(b);
    bool kept = buffer_intact(b);
    for (size_t i = first; i < raw.size(); i++) kept = kept && raw[i] == 0xff;
    char text[220];
    snprintf(text, sizeof text, "%s: rows past the batch or guards were written", what);
    judge_true(text, kept);
}

static float half_value(const std::vector<unsigned char> &raw, size_t at) {
    __half h;
    memcpy((void *)&h, &raw[2 * at], 2);
    return __half2float(h);
}

template <typename V> static std::vector<V> buffer_as(const buffer &b) {
    std::vector<unsigned char> raw = buffer_bytes(b);
    std::vector<V> v(raw.size() / sizeof(V));
    memcpy((void *)v.data(), raw.data(), v.size() * sizeof(V));
    return v;
}

/* ---- references ------------------------------------------------------------------------------ */

static double gelu(double x) {
    return 0.5 * x * (1 + erf(x / sqrt(2.0)));
}

static double fp8_value(unsigned code) {
    unsigned exponent = code >> 3 & 15, mantissa = code & 7;
    double most = exponent ? ldexp(8 + mantissa, (int)exponent - 10) : ldexp(mantissa, -9);
    return code & 128 ? -most : most;
}

/* The nearest E4M3, ties to the even code; NaN is 0x7f. */
static unsigned char fp8_code(float value) {
    static double values[127];
    if (value != value) return 0x7f;
    for (unsigned code = 0; code < 127 && values[126] == 0; code++) values[code] = fp8_value(code);
    double most = fabs(value);
    unsigned above = (unsigned)(std::lower_bound(values, values + 126, most) - values);
    unsigned below = above ? above - 1 : 0, best = above;
    double up = values[above] - most, down = most - values[below];
    if (above && (down < up || (down == up && below % 2 == 0))) best = below;
    return (unsigned char)(best | (signbit(value) ? 128 : 0));
}

typedef struct row_codes {
    std::vector<unsigned char> codes;
    float scale;
    int32_t zero;
} row_codes;

/* As the CPU's: backend/cpu/ref/dot.c and base/quantize.c. */
static row_codes quantize_row(const float *in, const float *smooth, uint32_t cols, emb_dtype type) {
    std::vector<float> x(in, in + cols);
    row_codes row = {std::vector<unsigned char>(cols), 0, 0};
    float low = 0, high = 0;
    bool number = true;
    for (uint32_t i = 0; i < cols; i++) {
        if (smooth) x[i] *= smooth[i];
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        number = number && x[i] == x[i];
    }
    float most = type == EMB_DTYPE_INT8 ? high - low : std::max(high, -low), factor = 0;
    float top = type == EMB_DTYPE_INT8 ? 255.0f : 448.0f;
    if (type == EMB_DTYPE_INT8 ? most > 1e-30f : most >= 1e-30f) {
        row.scale = most / top, factor = top / most;
        if (type == EMB_DTYPE_INT8 && low < 0) row.zero = (int32_t)rintf(-low * factor);
    }
    for (uint32_t i = 0; i < cols; i++) {
        float v = x[i] * factor;
        if (type == EMB_DTYPE_FP8) {
            row.codes[i] = fp8_code(v);
        } else {
            int32_t q = (v == v ? (int32_t)rintf(v) : 0) + row.zero;
            row.codes[i] = (unsigned char)std::min(std::max(q, 0), 255);
        }
    }
    if (!number) row.scale = NAN;
    return row;
}

/* ---- codes ----------------------------------------------------------------------------------- */

typedef struct code_buffers {
    buffer values, scales, zeros;
    emb_cuda_codes codes;
} code_buffers;

static code_buffers codes_open(size_t rows, uint32_t cols) {
    code_buffers c;
    c.values = buffer_open(rows * cols, EMB_DTYPE_INT8);
    c.scales = buffer_open(rows, EMB_DTYPE_F32);
    c.zeros = buffer_open(rows, EMB_DTYPE_F32);
    c.codes.values = inside(c.values);
    c.codes.scales = (float *)inside(c.scales);
    c.codes.zeros = (int32_t *)inside(c.zeros);
    return c;
}
static void codes_close(code_buffers &c) {
    buffer_close(c.values), buffer_close(c.scales), buffer_close(c.zeros);
}

/* Rows that are easy to get wrong, then random ones. */
static std::vector<float> awkward_rows(uint32_t tokens, uint32_t cols) {
    std::vector<float> x = random_values((size_t)tokens * cols, 1, EMB_DTYPE_F16, 0.1f);
    for (uint32_t i = 0; i < cols; i++) {
        float rows[] = {0.0f, fabsf(x[i]) + 0.01f, -fabsf(x[i]) - 0.01f, x[i] * 20000,
                        x[i] * 1e-6f};
        for (uint32_t t = 0; t < 5; t++) x[(size_t)t * cols + i] = rounded(rows[t], EMB_DTYPE_F16);
    }
    x[5 * (size_t)cols + cols - 1] = NAN;
    x[6 * (size_t)cols] = 60000;
    return x;
}

static void judge_codes(const char *what, const code_buffers &c, const std::vector<float> &x,
                        const float *smooth, uint32_t tokens, uint32_t cols, emb_dtype type) {
    std::vector<unsigned char> got = buffer_bytes(c.values);
    std::vector<float> scales = buffer_as<float>(c.scales);
    std::vector<int32_t> zeros = buffer_as<int32_t>(c.zeros);
    differences d = compare(what, cols), side = compare("scales or zeros", 1);
    for (uint32_t t = 0; t < tokens; t++) {
        row_codes row = quantize_row(&x[(size_t)t * cols], smooth, cols, type);
        bool number = row.scale == row.scale;
        if (number ? scales[t] != row.scale : scales[t] == scales[t])
            differ(side, t, row.scale, scales[t]);
        if (type == EMB_DTYPE_INT8 && zeros[t] != row.zero) differ(side, t, row.zero, zeros[t]);
        for (uint32_t i = 0; i < cols && number; i++) {
            size_t at = (size_t)t * cols + i;
            if (got[at] != row.codes[i]) differ(d, at, row.codes[i], got[at]);
        }
    }
    judge(d), judge(side);
    judge_untouched(what, c.values, (size_t)tokens * cols);
    judge_untouched(what, c.scales, 4 * (size_t)tokens);
    judge_untouched(what, c.zeros, type == EMB_DTYPE_INT8 ? 4 * (size_t)tokens : 0);
}

static void check_quantize(emb_dtype type) {
    for (uint32_t cols : {16u, 48u, 384u, 400u, 768u, 1536u, 1552u, 3072u, 4096u, 6144u}) {
        uint32_t tokens = 37;
        batch b = batch_open(tokens + SPARE, 1);
        batch_fill(b, {tokens}, std::vector<uint32_t>(), 10);
        std::vector<float> x = awkward_rows(tokens, cols);
        std::vector<float> smooth = random_values(cols, 0.2f, EMB_DTYPE_F32, 1);
        buffer in = buffer_from(x, EMB_DTYPE_F16), by = buffer_copy(smooth);
        for (int smoothed = 0; smoothed < 2; smoothed++) {
            code_buffers c = codes_open(tokens + SPARE, cols);
            char what[100];
            snprintf(what, sizeof what, "quantize %s of %u columns%s", TYPE_NAMES[type], cols,
                     smoothed ? ", smoothed" : "");
            REQUIRE(emb_cuda_quantize(&c.codes, inside(in), smoothed ? (float *)inside(by) : NULL,
                                      cols, type, &b.batch, &device, NULL));
            judge_codes(what, c, x, smoothed ? smooth.data() : NULL, tokens, cols, type);
            codes_close(c);
        }
        buffer out = buffer_open((size_t)(tokens + SPARE) * cols, EMB_DTYPE_F16);
        REQUIRE(
            emb_cuda_smooth(inside(out), inside(in), (float *)inside(by), cols, &b.batch, NULL));
        std::vector<unsigned char> got = buffer_bytes(out);
        differences d = compare("smooth", cols);
        for (size_t i = 0; i < x.size(); i++) {
            float wanted = rounded(x[i] * smooth[i % cols], EMB_DTYPE_F16), v = half_value(got, i);
            if (v != wanted && (v == v || wanted == wanted)) differ(d, i, wanted, v);
        }
        judge(d);
        judge_untouched("smooth", out, 2 * x.size());
        for (buffer *y : {&in, &by, &out}) buffer_close(*y);
        batch_close(b);
    }
}

/* What an op wrote beside its output, against a pass of its own over that output. */
static void judge_beside(const char *what, const buffer &out, const code_buffers &c,
                         const float *smooth, uint32_t cols, emb_dtype type, const batch &b) {
    code_buffers own = codes_open(b.batch.tokens_max, cols);
    REQUIRE(
        emb_cuda_quantize(&own.codes, inside(out), smooth, cols, type, &b.batch, &device, NULL));
    judge_bytes(what, buffer_bytes(c.values), buffer_bytes(own.values), cols);
    judge_bytes("scales beside", buffer_bytes(c.scales), buffer_bytes(own.scales), 4);
    judge_bytes("zeros beside", buffer_bytes(c.zeros), buffer_bytes(own.zeros), 4);
    judge_true("guards of codes",
               buffer_intact(c.values) && buffer_intact(c.scales) && buffer_intact(c.zeros));
    codes_close(own);
}

static void check_norm(emb_dtype type) {
    for (uint32_t hidden : {32u, 48u, 384u, 768u, 1024u, 1536u}) {
        uint32_t tokens = 41;
        batch b = batch_open(tokens + SPARE, 1);
        batch_fill(b, {tokens}, std::vector<uint32_t>(), 10);
        size_t count = (size_t)(tokens + SPARE) * hidden;
        buffer in = buffer_from(random_values(count, 1, EMB_DTYPE_F16), EMB_DTYPE_F16);
        buffer residual = buffer_from(random_values(count, 2, EMB_DTYPE_F16, 5), EMB_DTYPE_F16);
        buffer gain = buffer_copy(random_values(hidden, 0.2f, EMB_DTYPE_F32, 1));
        buffer shift = buffer_copy(random_values(hidden, 0.2f, EMB_DTYPE_F32));
        buffer smooth = buffer_copy(random_values(hidden, 0.2f, EMB_DTYPE_F32, 1));
        buffer out = buffer_open(count, EMB_DTYPE_F16), alone = buffer_open(count, EMB_DTYPE_F16);
        emb_cuda_norm norm = {(float *)inside(gain), (float *)inside(shift), 1e-5f};
        REQUIRE(emb_cuda_residual_norm(inside(alone), inside(in), inside(residual), &norm, &b.batch,
                                       hidden, EMB_DTYPE_F16, NULL));
        for (int smoothed = 0; smoothed < 2; smoothed++) {
            const float *by = smoothed ? (float *)inside(smooth) : NULL;
            code_buffers c = codes_open(tokens + SPARE, hidden);
            REQUIRE(emb_cuda_residual_norm_codes(inside(out), &c.codes, by, type, inside(in),
                                                 inside(residual), &norm, &b.batch, hidden, &device,
                                                 NULL));
            judge_bytes("residual_norm_codes' output", buffer_bytes(out), buffer_bytes(alone),
                        2 * hidden);
            judge_beside("residual_norm_codes", out, c, by, hidden, type, b);
            codes_close(c);
        }
        for (buffer *y : {&in, &residual, &gain, &shift, &smooth, &out, &alone}) buffer_close(*y);
        batch_close(b);
    }
}

static void check_embed(emb_dtype type) {
    for (uint32_t hidden : {32u, 48u, 384u, 768u, 1024u, 1536u}) {
        uint32_t tokens = 50, vocabulary = 77;
        batch b = batch_open(tokens + SPARE, 2);
        batch_fill(b, {20, 30}, std::vector<uint32_t>(), vocabulary);
        size_t count = (size_t)(tokens + SPARE) * hidden, stride = hidden + 4;
        std::vector<unsigned char> rows(vocabulary * stride);
        std::vector<float> wide((size_t)vocabulary * hidden);
        for (uint32_t r = 0; r < vocabulary; r++) {
            float scale = 0.01f + 0.001f * (float)r;
            memcpy(&rows[r * stride + hidden], &scale, 4);
            for (uint32_t i = 0; i < hidden; i++) {
                int8_t code = (int8_t)((int)random_below(255) - 127);
                rows[r * stride + i] = (unsigned char)code;
                wide[(size_t)r * hidden + i] = scale * (float)code;
            }
        }
        buffer table = buffer_copy(rows), words = buffer_copy(wide);
        buffer positions = buffer_copy(random_values(64 * (size_t)hidden, 1, EMB_DTYPE_F32));
        buffer gain = buffer_copy(random_values(hidden, 0.2f, EMB_DTYPE_F32, 1));
        buffer shift = buffer_copy(random_values(hidden, 0.2f, EMB_DTYPE_F32));
        buffer smooth = buffer_copy(random_values(hidden, 0.2f, EMB_DTYPE_F32, 1));
        buffer out = buffer_open(count, EMB_DTYPE_F16), exact = buffer_open(count, EMB_DTYPE_F32);
        emb_cuda_embedding e = {inside(words), (float *)inside(positions), (float *)inside(gain),
                                (float *)inside(shift), 1e-12f};
        REQUIRE(emb_cuda_embed(inside(exact), &b.batch, &e, hidden, EMB_DTYPE_F32, NULL));
        std::vector<float> wanted = buffer_as<float>(exact);
        e.words = inside(table);
        for (int with = 0; with < 2; with++) {
            code_buffers c = codes_open(tokens + SPARE, hidden);
            buffer_poison(out);
            REQUIRE(with ? emb_cuda_embed_codes(inside(out), &c.codes, (float *)inside(smooth),
                                                type, &b.batch, &e, hidden, &device, NULL)
                         : emb_cuda_embed(inside(out), &b.batch, &e, hidden, EMB_DTYPE_INT8, NULL));
            std::vector<unsigned char> got = buffer_bytes(out);
            differences d = compare("embed of int8 words", hidden);
            for (size_t i = 0; i < (size_t)tokens * hidden; i++) {
                float v = half_value(got, i), w = rounded(wanted[i], EMB_DTYPE_F16);
                if (v != w) differ(d, i, w, v);
            }
            judge(d);
            judge_untouched("embed of int8 words", out, 2 * (size_t)tokens * hidden);
            if (with) judge_beside("embed_codes", out, c, (float *)inside(smooth), hidden, type, b);
            codes_close(c);
        }
        for (buffer *y : {&table, &words, &positions, &gain, &shift, &smooth, &out, &exact}) {
            buffer_close(*y);
        }
        batch_close(b);
    }
}

/* ---- products -------------------------------------------------------------------------------- */

/* One product on the host and on the device. */
typedef struct trial {
    emb_dtype type;
    uint32_t tokens, N, K;
    std::vector<unsigned char> in, weight; /* codes, one a byte */
    std::vector<float> in16, wide;         /* I4: the input, the matrix as products see it */
    std::vector<float> token_scales, scales, bias;
    std::vector<int32_t> token_zeros, sums;
    std::vector<uint8_t> zeros;
    emb_cuda_quantized linear;
    code_buffers codes;
    std::vector<buffer> held;
} trial;

template <typename V> static void *hold(trial &t, const std::vector<V> &v) {
    t.held.push_back(buffer_copy(v));
    return inside(t.held.back());
}

/* Codes that are not NaN. */
static unsigned char random_fp8() {
    unsigned code = random_below(256);
    return (unsigned char)((code & 127) > 119 ? code - 16 : code);
}

static void fill_codes(trial &t, bool extreme) {
    bool fp8 = t.type == EMB_DTYPE_FP8;
    for (unsigned char &c : t.in) {
        c = fp8 ? random_fp8() : extreme ? 255 : (unsigned char)random_below(256);
    }
    for (unsigned char &c : t.weight) {
        int code = extreme ? 127 : (int)random_below(255) - 127;
        c = fp8 ? random_fp8() : (unsigned char)(int8_t)code;
    }
    for (uint32_t m = 0; m < t.tokens; m++) {
        t.token_scales.push_back(0.001f + 0.0001f * (float)random_below(100));
        t.token_zeros.push_back(extreme ? 0 : (int32_t)random_below(256));
    }
    for (uint32_t n = 0; n < t.N; n++) {
        int32_t sum = 0;
        for (uint32_t k = 0; k < t.K; k++) sum += (int8_t)t.weight[(size_t)n * t.K + k];
        t.sums.push_back(sum);
        t.scales.push_back(0.002f + 1e-5f * (float)random_below(100));
    }
    std::vector<unsigned char> rows = t.in;
    rows.resize((size_t)(t.tokens + SPARE) * t.K, 0xff);
    std::vector<float> scales = t.token_scales;
    scales.resize(t.tokens + SPARE, NAN);
    std::vector<int32_t> zeros = t.token_zeros;
    zeros.resize(t.tokens + SPARE, 1 << 30);
    t.codes.codes.values = hold(t, rows);
    t.codes.codes.scales = (float *)hold(t, scales);
    t.codes.codes.zeros = fp8 ? NULL : (int32_t *)hold(t, zeros);
    t.linear.weight = hold(t, t.weight);
    t.linear.scales = hold(t, t.scales);
    t.linear.sums = fp8 ? NULL : (int32_t *)hold(t, t.sums);
}

static void fill_int4(trial &t) {
    size_t groups = t.K / t.linear.group;
    std::vector<unsigned char> packed(t.weight.size() / 2);
    std::vector<__half> scales16;
    for (size_t i = 0; i < t.weight.size(); i++) {
        t.weight[i] = (unsigned char)random_below(16);
        packed[i / 2] = (unsigned char)(packed[i / 2] | t.weight[i] << (i % 2 * 4));
    }
    for (size_t g = 0; g < t.N * groups; g++) {
        t.scales.push_back(rounded(0.005f + 1e-4f * (float)random_below(100), EMB_DTYPE_F16));
        scales16.push_back(__float2half_rn(t.scales.back()));
        t.zeros.push_back((uint8_t)random_below(16));
    }
    for (size_t i = 0; i < t.weight.size(); i++) {
        size_t group = i / t.linear.group;
        t.wide.push_back(
            rounded(t.scales[group] * (float)(t.weight[i] - t.zeros[group]), EMB_DTYPE_F16));
    }
    t.in16 = random_values((size_t)t.tokens * t.K, 1, EMB_DTYPE_F16);
    t.linear.weight = hold(t, packed);
    t.linear.scales = hold(t, scales16);
    t.linear.zeros = (uint8_t *)hold(t, t.zeros);
}

static trial trial_open(emb_dtype type, uint32_t tokens, uint32_t N, uint32_t K, bool extreme) {
    trial t;
    t.type = type, t.tokens = tokens, t.N = N, t.K = K;
    t.linear = {NULL, NULL, NULL, NULL, NULL, N, K, K % 64 || N % 16 ? 32u : 64u, type};
    t.weight.resize((size_t)N * K);
    t.held.reserve(16);
    if (type == EMB_DTYPE_INT4) {
        fill_int4(t);
    } else {
        t.in.resize((size_t)tokens * K);
        fill_codes(t, extreme);
    }
    t.bias = random_values(N, 0.5f, EMB_DTYPE_F32);
    t.linear.bias = (float *)hold(t, t.bias);
    return t;
}
static void trial_close(trial &t) {
    for (buffer &b : t.held) buffer_close(b);
}

/* What output (m, n) is before GELU; int8: to the last bit of f32. */
static double output_of(const trial &t, size_t m, size_t n) {
    const unsigned char *w = &t.weight[n * t.K];
    if (t.type == EMB_DTYPE_INT8) {
        int32_t sum = 0;
        for (uint32_t k = 0; k < t.K; k++) sum += t.in[m * t.K + k] * (int8_t)w[k];
        float scaled = (float)(sum - t.token_zeros[m] * t.sums[n]) * t.scales[n];
        return fmaf(scaled, t.token_scales[m], t.bias[n]);
    }
    double sum = 0;
    if (t.type == EMB_DTYPE_FP8) {
        static double values[256];
        for (unsigned c = 0; c < 256 && values[1] == 0; c++) values[255 - c] = fp8_value(255 - c);
        for (uint32_t k = 0; k < t.K; k++) sum += values[t.in[m * t.K + k]] * values[w[k]];
        return sum * t.scales[n] * t.token_scales[m] + t.bias[n];
    }
    for (uint32_t k = 0; k < t.K; k++) sum += (double)t.wide[n * t.K + k] * t.in16[m * t.K + k];
    return sum + t.bias[n];
}

/* Outputs that are looked at: all if they are few, else each 1-in-so-many and whole edges. */
static std::vector<size_t> places(const trial &t) {
    size_t all = (size_t)t.tokens * t.N, most = (small ? 1000000u : 6000000u) / t.K;
    std::vector<size_t> at;
    for (size_t i = 0; i < all && all <= most; i++) at.push_back(i);
    for (size_t i = 0; i < most && all > most; i++) {
        size_t m = i % 4 ? random_below(t.tokens) : t.tokens - 1 - random_below(3) % t.tokens;
        at.push_back(m * t.N + (i % 5 ? random_below(t.N) : t.N - 1 - random_below(8)));
    }
    return at;
}

static void judge_product(const char *what, const trial &t, const std::vector<size_t> &at,
                          const std::vector<double> &wanted, const std::vector<unsigned char> &got,
                          int with_gelu) {
    differences d = compare(what, t.N);
    double squares = 0;
    for (double w : wanted) squares += w * w / (double)wanted.size();
    double relative = t.type == EMB_DTYPE_FP8 ? 2e-3 : 6e-4;
    double absolute = 2e-5 + (t.type == EMB_DTYPE_FP8 ? 8e-3 : 6e-4) * sqrt(squares);
    for (size_t i = 0; i < at.size(); i++) {
        double v = half_value(got, at[i]), w = with_gelu ? gelu(wanted[i]) : wanted[i];
        if (t.type == EMB_DTYPE_INT8 && !with_gelu) {
            w = rounded((float)w, EMB_DTYPE_F16);
            if (v != w) differ(d, at[i], w, v);
            continue;
        }
        double off = fabs(v - w) / (relative * fabs(w) + absolute);
        if (off > worst) worst = off;
        if (!(off <= 1)) differ(d, at[i], w, v);
    }
    judge(d);
}

/* The tiles that this device has for a type. */
static std::vector<int> tiles_of(emb_dtype type) {
    if (device.capability != 90 || type == EMB_DTYPE_INT4) return {1, 2, 3, 0};
    if (type == EMB_DTYPE_FP8) return {4, 0};
    return {1, 2, 3, 4, 0};
}

static void check_product(emb_dtype type, uint32_t tokens, uint32_t N, uint32_t K,
                          bool extreme = false) {
    trial t = trial_open(type, tokens, N, K, extreme);
    batch b = batch_open(tokens + SPARE, 1);
    batch_fill(b, {tokens}, std::vector<uint32_t>(), 10);
    buffer out = buffer_open((size_t)(tokens + SPARE) * N, EMB_DTYPE_F16), in = {};
    if (type == EMB_DTYPE_INT4) {
        std::vector<float> rows = t.in16;
        rows.resize((size_t)(tokens + SPARE) * K, NAN);
        in = buffer_from(rows, EMB_DTYPE_F16);
    }
    std::vector<size_t> at = places(t);
    std::vector<double> wanted;
    for (size_t i : at) wanted.push_back(output_of(t, i / N, i % N));
    for (int with_gelu = 0; with_gelu < 2; with_gelu++) {
        std::vector<unsigned char> first;
        for (int tile : tiles_of(type)) {
            char what[120];
            snprintf(what, sizeof what, "%s product of %u x %u x %u, tile %d%s", TYPE_NAMES[type],
                     tokens, N, K, tile, with_gelu ? ", GELU" : "");
            buffer_poison(out);
            REQUIRE(
                emb_cuda_quantized_run(inside(out), type == EMB_DTYPE_INT4 ? NULL : &t.codes.codes,
                                       type == EMB_DTYPE_INT4 ? inside(in) : NULL, &t.linear,
                                       with_gelu, (emb_cuda_tile)tile, &b.batch, &device, NULL));
            std::vector<unsigned char> got = buffer_bytes(out);
            judge_product(what, t, at, wanted, got, with_gelu);
            judge_untouched(what, out, 2 * (size_t)tokens * N);
            if (!first.empty()) judge_bytes(what, got, first, 2 * N);
            first = got;
        }
    }
    buffer_close(out), batch_close(b), trial_close(t);
    if (in.base) buffer_close(in);
}

static void check_products(emb_dtype type) {
    uint32_t shapes[][2] = {{8, 16},     {32, 32},    {24, 48},    {104, 80},   {144, 144},
                            {200, 400},  {384, 384},  {1152, 384}, {1536, 384}, {384, 1536},
                            {2304, 768}, {768, 3072}, {3072, 768}};
    for (auto &shape : shapes) {
        uint32_t K = type == EMB_DTYPE_INT4 ? (shape[1] + 31) / 32 * 32 : shape[1];
        for (uint32_t tokens : {1u, 17u, 64u, 129u, 300u}) {
            if (small && (tokens > 129 || shape[0] * K > 150000)) continue;
            check_product(type, tokens, shape[0], K);
        }
    }
    if (type == EMB_DTYPE_INT8) check_product(type, 130, 200, 3072, true);
}

/* Outputs as codes: within a step of E4M3, scales as the bound has them, all tiles alike. */
static void check_coded_product(emb_dtype type, uint32_t tokens, uint32_t N, uint32_t K) {
    trial t = trial_open(type, tokens, N, K, false);
    batch b = batch_open(tokens + SPARE, 1);
    batch_fill(b, {tokens}, std::vector<uint32_t>(), 10);
    buffer made = buffer_open(2, EMB_DTYPE_F32);
    REQUIRE(emb_cuda_quantized_bounds((float *)inside(made), &t.linear, &device, NULL));
    std::vector<float> bounds = buffer_as<float>(made);
    double rows_most = 0, bias_most = 0;
    for (uint32_t n = 0; n < N; n++) {
        double sum = 0;
        for (uint32_t k = 0; k < K; k++) sum += fabs(fp8_value(t.weight[(size_t)n * K + k]));
        rows_most = std::max(rows_most, sum * t.scales[n]);
        bias_most = std::max(bias_most, (double)fabsf(t.bias[n]));
    }
    judge_true("bound of rows", fabs(bounds[0] / rows_most - 1) < 1e-5);
    judge_true("bound of the bias", fabs(bounds[1] - bias_most) < 1e-6);
    std::vector<unsigned char> first;
    std::vector<size_t> at = places(t);
    for (int tile : tiles_of(type)) {
        char what[120];
        snprintf(what, sizeof what, "coded product of %u x %u x %u, tile %d", tokens, N, K, tile);
        code_buffers out = codes_open(tokens + SPARE, N);
        REQUIRE(emb_cuda_quantized_codes(&out.codes, &t.codes.codes, (float *)inside(made),
                                         &t.linear, 1, (emb_cuda_tile)tile, &b.batch, &device,
                                         NULL));
        std::vector<unsigned char> got = buffer_bytes(out.values);
        std::vector<float> scales = buffer_as<float>(out.scales);
        differences d = compare(what, N), side = compare("scales of a coded product", 1);
        for (uint32_t m = 0; m < tokens; m++) {
            float w = fmaf(t.token_scales[m] * 448.0f, bounds[0], bounds[1]) / 448.0f;
            if (scales[m] != w) differ(side, m, w, scales[m]);
        }
        for (size_t i : at) {
            double v = fp8_value(got[i]) * scales[i / N], w = gelu(output_of(t, i / N, i % N));
            double off = fabs(v - w) / (0.07 * fabs(w) + 0.002 * scales[i / N] + 0.02);
            if (off > worst) worst = off;
            if (!(off <= 1)) differ(d, i, w, v);
        }
        judge(d), judge(side);
        judge_untouched(what, out.values, (size_t)tokens * N);
        judge_untouched(what, out.scales, 4 * (size_t)tokens);
        if (!first.empty()) judge_bytes(what, got, first, N);
        first = got;
        codes_close(out);
    }
    buffer_close(made), batch_close(b), trial_close(t);
}

static void check_coded(emb_dtype type) {
    uint32_t shapes[][2] = {{16, 16}, {32, 32}, {208, 400}, {384, 384}, {1536, 384}, {3072, 768}};
    for (auto &shape : shapes) {
        for (uint32_t tokens : {1u, 17u, 129u, 300u}) {
            if (small && (tokens > 129 || shape[0] * shape[1] > 150000)) continue;
            check_coded_product(type, tokens, shape[0], shape[1]);
        }
    }
    if (!small) check_coded_product(type, 20011, 1536, 384);
}

/* Many tiles a block. */
static void check_long(emb_dtype type) {
    if (small) return;
    check_product(type, 30011, 1152, 384);
    check_product(type, 20000, 384, 1536);
    check_product(type, 9000, 2304, 768);
}

/* ---- groups ---------------------------------------------------------------------------------- */

typedef struct group {
    const char *name;
    void (*run)(emb_dtype type);
    emb_dtype type;
} group;

static const group groups[] = {{"int8-products", check_products, EMB_DTYPE_INT8},
                               {"int8-long", check_long, EMB_DTYPE_INT8},
                               {"fp8-products", check_products, EMB_DTYPE_FP8},
                               {"fp8-long", check_long, EMB_DTYPE_FP8},
                               {"fp8-coded", check_coded, EMB_DTYPE_FP8},
                               {"int4-products", check_products, EMB_DTYPE_INT4},
                               {"int4-long", check_long, EMB_DTYPE_INT4},
                               {"int8-quantize", check_quantize, EMB_DTYPE_INT8},
                               {"fp8-quantize", check_quantize, EMB_DTYPE_FP8},
                               {"int8-norm", check_norm, EMB_DTYPE_INT8},
                               {"fp8-norm", check_norm, EMB_DTYPE_FP8},
                               {"int8-embed", check_embed, EMB_DTYPE_INT8},
                               {"fp8-embed", check_embed, EMB_DTYPE_FP8}};

static void run_group(const group &g) {
    REQUIRE(emb_cuda_device_read(&device));
    if (g.type == EMB_DTYPE_FP8 && device.capability < 89) return;
    cases = failures = 0, worst = 0;
    g.run(g.type);
    REQUIRE(cudaDeviceSynchronize());
    printf("{\"check\": \"%s\", \"cases\": %d, \"failed\": %d, \"worst_of_allowed\": %.3f}\n",
           g.name, cases, failures, worst);
    fflush(stdout);
}

/* A group in a process of its own. */
static pid_t start_group(const char *program, const group &g) {
    pid_t child = fork();
    if (child) return child;
    alarm(GROUP_SECONDS);
    execl("/proc/self/exe", program, g.name, (char *)NULL);
    _exit(127);
}

int main(int argc, char **argv) {
    int bad = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    small = argc > 1 && !strcmp(argv[1], "small");
    if (argc > 1) {
        for (const group &g : groups) {
            if (!small && strcmp(argv[1], g.name)) continue;
            run_group(g);
            bad += failures > 0;
        }
        if (small) printf("{\"check\": \"all\", \"failed\": %d}\n", bad);
        return bad ? 1 : 0;
    }
    const size_t count = sizeof groups / sizeof groups[0];
    pid_t children[count];
    for (size_t i = 0; i < count; i += 4) { /* four at once */
        for (size_t j = i; j < std::min(count, i + 4); j++) {
            children[j] = start_group(argv[0], groups[j]);
        }
        for (size_t j = i; j < std::min(count, i + 4); j++) {
            int status = 0;
            waitpid(children[j], &status, 0);
            if (WIFSIGNALED(status)) {
                printf("{\"check\": \"%s\", \"signal\": %d}\n", groups[j].name, WTERMSIG(status));
            } else if (WEXITSTATUS(status) > 1) {
                printf("{\"check\": \"%s\", \"status\": %d}\n", groups[j].name,
                       WEXITSTATUS(status));
            }
            fflush(stdout);
            bad += status != 0;
        }
    }
    printf("{\"check\": \"all\", \"failed\": %d}\n", bad);
    return bad ? 1 : 0;
}
