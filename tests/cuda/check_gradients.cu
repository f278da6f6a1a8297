/* check_gradients.cu - the kernels of a backward pass (train/cuda/kernels) against references in
 * double precision, then their times.
 *
 * What lies past a batch is NaNs and must stay as it was; partial sums start as NaNs between
 * guards. Every case runs twice and in a larger bucket: same bits. `small` runs few cases, for
 * compute-sanitizer; `races` so without Hopper's kernels, for racecheck, which does not see that
 * one block of a cluster waits for another's arrivals. `bench` times, over sets of operands that
 * exceed the L2 together. Prints JSON lines; exits 1 if a check failed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cuda/timing.cuh"
#include "train/cuda/kernels/gradients.h"

static emb_cuda_device device;
static bool small;
static int failures;

/* ---- judging --------------------------------------------------------------------------------- */

typedef struct verdict {
    const char *name;
    emb_dtype type;
    double worst, allowed; /* the largest error as a share of the root mean square */
    int cases, bad;
} verdict;

static void report(const verdict &v) {
    bool failed = v.bad || !(v.worst <= v.allowed);
    printf("{\"check\": \"%s\", \"type\": \"%s\", \"cases\": %d, \"failed\": %d, \"worst\": %.2e, "
           "\"allowed\": %.2e}\n",
           v.name, TYPE_NAMES[v.type], v.cases, v.bad + (failed && !v.bad), v.worst, v.allowed);
    fflush(stdout);
    failures += failed;
}

/* Counts a difference from `wanted` as a share of the root mean square plus `relative` times what
 * is wanted; what lies past it must be NaNs still. */
static void judge(verdict &v, const std::vector<float> &got, const std::vector<double> &wanted,
                  double relative) {
    double squares = 0, worst = 0;
    for (double w : wanted) squares += w * w;
    double root = sqrt(squares / (double)wanted.size()) + 1e-30;
    for (size_t i = 0; i < wanted.size(); i++) {
        double off = fmax(fabs(got[i] - wanted[i]) - relative * fabs(wanted[i]), 0) / root;
        if (off > worst || got[i] != got[i]) worst = got[i] != got[i] ? NAN : off;
    }
    for (size_t i = wanted.size(); i < got.size(); i++) v.bad += got[i] == got[i];
    if (worst > v.worst || worst != worst) v.worst = worst;
    v.cases++;
}

static void judge_same(verdict &v, const std::vector<float> &a, const std::vector<float> &b) {
    v.cases++, v.bad += memcmp(a.data(), b.data(), a.size() * 4) != 0;
}

/* Rounding of the result, half a step of the type. */
static double step_of(emb_dtype type) {
    return type == EMB_DTYPE_F32 ? 1e-6 : type == EMB_DTYPE_F16 ? 5e-4 : 4e-3;
}

static std::vector<emb_dtype> types() {
    std::vector<emb_dtype> all = {EMB_DTYPE_F32, EMB_DTYPE_F16};
    if (device.capability >= 80) all.push_back(EMB_DTYPE_BF16);
    return all;
}

/* A batch of which the kernels here see but the number of tokens. */
static batch counted(uint32_t tokens, uint32_t tokens_max) {
    batch b = batch_open(tokens_max, 1);
    upload(b.batch.counts, {tokens, 1});
    b.tokens = tokens;
    return b;
}

/* ---- gradients of weights -------------------------------------------------------------------- */

template <typename T>
static __global__ void reference_kernel(double *out, double *bias, const T *d_out, const T *in,
                                        uint32_t rows, uint32_t cols, uint32_t tokens) {
    uint32_t col = blockIdx.x * 32 + threadIdx.x % 32, row = blockIdx.y * 8 + threadIdx.x / 32;
    if (col >= cols || row >= rows) return;
    double sum = 0, column = 0;
    for (uint32_t t = 0; t < tokens; t++) {
        double d = (double)(float)d_out[(uint64_t)t * rows + row];
        sum += d * (double)(float)in[(uint64_t)t * cols + col];
        column += d;
    }
    out[(uint64_t)row * cols + col] = sum;
    if (col == 0) bias[row] = column;
}

/* Random values of a 16-bit type on the device: a float's worth of a hash of the place. */
template <typename T> static __global__ void random_kernel(T *out, uint64_t count, uint32_t seed) {
    uint64_t i = (uint64_t)blockIdx.x * 256 + threadIdx.x;
    if (i >= count) return;
    uint32_t h = (uint32_t)i * 2654435761u + seed;
    h = (h ^ h >> 15) * 2246822519u, h = (h ^ h >> 13) * 3266489917u, h ^= h >> 16;
    out[i] = (T)(((float)h * (1.0f / 2147483648.0f) - 1.0f) * 1.7320508f);
}

static void random_fill(const buffer &b, uint64_t count, uint32_t seed) {
    uint32_t blocks = (uint32_t)((count + 255) / 256);
    if (!blocks) return;
    if (b.type == EMB_DTYPE_F16) {
        random_kernel<<<blocks, 256>>>((__half *)inside(b), count, seed);
    } else if (b.type == EMB_DTYPE_BF16) {
        random_kernel<<<blocks, 256>>>((__nv_bfloat16 *)inside(b), count, seed);
    } else {
        random_kernel<<<blocks, 256>>>((float *)inside(b), count, seed);
    }
    REQUIRE(cudaGetLastError());
}

struct weight_case {
    uint32_t rows, cols, tokens, tokens_max;
};

/* d_weight and d_bias after one call, both [1] before. */
static std::vector<float> weight_run(verdict &v, const weight_case &c, const buffer &d_out,
                                     const buffer &in, uint32_t tokens_max, bool with_bias,
                                     const emb_cuda_device &as) {
    size_t weights = (size_t)c.rows * c.cols;
    std::vector<float> ones(weights + c.rows, 1.0f);
    batch b = counted(c.tokens, tokens_max);
    buffer out = buffer_from(ones, EMB_DTYPE_F32);
    uint64_t bytes = emb_cuda_train_gradients_bytes(c.rows, c.cols, tokens_max, &as);
    buffer partials = buffer_open(bytes, EMB_DTYPE_INT8);
    float *at = (float *)inside(out);
    REQUIRE(emb_cuda_train_gradients(at, with_bias ? at + weights : NULL, inside(d_out), inside(in),
                                     c.rows, c.cols, (float *)inside(partials), &b.batch, v.type,
                                     &as, NULL));
    REQUIRE(cudaDeviceSynchronize());
    std::vector<float> got = buffer_values(out);
    v.bad += !buffer_intact(out) || !buffer_intact(partials);
    buffer_close(out), buffer_close(partials), batch_close(b);
    return got;
}

template <typename T>
static void check_weight(verdict &v, const weight_case &c, const emb_cuda_device &as) {
    size_t weights = (size_t)c.rows * c.cols;
    buffer d_out = buffer_open((size_t)c.tokens_max * c.rows, v.type);
    buffer in = buffer_open((size_t)c.tokens_max * c.cols, v.type);
    random_fill(d_out, (uint64_t)c.tokens * c.rows, random_bits());
    random_fill(in, (uint64_t)c.tokens * c.cols, random_bits());
    double *memory;
    REQUIRE(cudaMalloc((void **)&memory, (weights + c.rows) * sizeof(double)));
    reference_kernel<<<dim3((c.cols + 31) / 32, (c.rows + 7) / 8), 256>>>(
        memory, memory + weights, (const T *)inside(d_out), (const T *)inside(in), c.rows, c.cols,
        c.tokens);
    std::vector<double> wanted(weights + c.rows);
    REQUIRE(cudaMemcpy(wanted.data(), memory, wanted.size() * 8, cudaMemcpyDeviceToHost));
    for (double &w : wanted) w += 1;
    std::vector<float> got = weight_run(v, c, d_out, in, c.tokens_max, true, as);
    judge(v, got, wanted, 1e-6);
    judge_same(v, got, weight_run(v, c, d_out, in, c.tokens_max, true, as));
    if (c.tokens < c.tokens_max)
        judge_same(v, got, weight_run(v, c, d_out, in, c.tokens, true, as));
    std::vector<float> plain = weight_run(v, c, d_out, in, c.tokens_max, false, as);
    for (size_t i = 0; i < c.rows; i++) v.bad += plain[weights + i] != 1.0f;
    plain.resize(weights), got.resize(weights);
    judge_same(v, got, plain);
    REQUIRE(cudaFree(memory));
    buffer_close(d_out), buffer_close(in);
}

static void check_weights(emb_dtype type, const char *name, const emb_cuda_device &as) {
    verdict v = {name, type, 0, 2e-4, 0, 0};
    std::vector<weight_case> cases = {{8, 8, 1, 1},           {32, 48, 0, 100},
                                      {32, 48, 37, 100},      {144, 48, 200, 256},
                                      {104, 200, 63, 64},     {48, 392, 65, 130},
                                      {384, 384, 511, 600},   {136, 1000, 1000, 2000},
                                      {1536, 384, 333, 1000}, {384, 1536, 2049, 2300}};
    if (!small) {
        std::vector<weight_case> more = {
            {384, 384, 2048, 16384},   {1152, 384, 16384, 16384}, {1536, 384, 16001, 16384},
            {384, 1536, 40001, 65536}, {768, 768, 5555, 6000},    {2304, 768, 3003, 16384},
            {3072, 768, 4097, 4097},   {768, 3072, 2111, 8192},   {4096, 2048, 1500, 1600},
            {1536, 384, 65535, 65536}, {3072, 1024, 128, 128},    {512, 512, 700, 1000},
            {6144, 192, 3001, 3100}};
        cases.insert(cases.end(), more.begin(), more.end());
    }
    for (const weight_case &c : cases) {
        if (type == EMB_DTYPE_F16) {
            check_weight<__half>(v, c, as);
        } else {
            check_weight<__nv_bfloat16>(v, c, as);
        }
    }
    report(v);
}

/* ---- GELU ------------------------------------------------------------------------------------ */

static void check_gelu(emb_dtype type) {
    verdict v = {"gelu back", type, 0, type == EMB_DTYPE_F32 ? 2e-6 : 1e-5, 0, 0};
    for (uint32_t cols : {8u, 48u, 1536u, 3072u}) {
        uint32_t tokens = cols == 8 ? 4097 : 37;
        batch b = counted(tokens, tokens + 3);
        size_t count = (size_t)tokens * cols, all = count + 3 * cols;
        std::vector<float> x(all, NAN), d(all, NAN);
        std::vector<double> after(count), back(count);
        for (size_t i = 0; i < count; i++) {
            x[i] = rounded(random_value(i % 16 ? 1.5f : 12.0f), type);
            d[i] = rounded(random_value(1), type);
            double below = 0.5 * erfc(-x[i] / sqrt(2.0));
            after[i] = x[i] * below;
            back[i] = d[i] * (below + x[i] * exp(-0.5 * x[i] * x[i]) / sqrt(2 * M_PI));
        }
        buffer before = buffer_from(x, type), grad = buffer_from(d, type);
        buffer out = buffer_open(all, type);
        REQUIRE(emb_cuda_train_gelu_back(inside(grad), inside(out), inside(before), cols, &b.batch,
                                         type, NULL));
        std::vector<float> got = buffer_values(grad), other = buffer_values(out);
        judge(v, got, back, step_of(type)), judge(v, other, after, step_of(type));
        buffer again = buffer_from(d, type);
        REQUIRE(emb_cuda_train_gelu_back(inside(again), inside(before), inside(before), cols,
                                         &b.batch, type, NULL));
        got.resize(count), other.resize(count);
        judge_same(v, got, buffer_values(again)), judge_same(v, other, buffer_values(before));
        for (buffer *y : {&before, &grad, &out, &again}) {
            v.bad += !buffer_intact(*y);
            buffer_close(*y);
        }
        batch_close(b);
    }
    report(v);
}

template <typename T>
static __global__ void product_kernel(float *out, const T *in, const T *weight, uint32_t rows,
                                      uint32_t cols, uint32_t tokens) {
    uint32_t row = blockIdx.x * 32 + threadIdx.x % 32, token = blockIdx.y * 8 + threadIdx.x / 32;
    if (row >= rows || token >= tokens) return;
    double sum = 0;
    for (uint32_t i = 0; i < cols; i++) {
        sum += (double)(float)in[(uint64_t)token * cols + i] *
               (double)(float)weight[(uint64_t)row * cols + i];
    }
    out[(uint64_t)token * rows + row] = (float)sum;
}

static std::vector<float> product(const buffer &in, const buffer &weight, uint32_t rows,
                                  uint32_t cols, uint32_t tokens) {
    buffer out = buffer_open((size_t)tokens * rows, EMB_DTYPE_F32);
    dim3 grid((rows + 31) / 32, (tokens + 7) / 8);
    if (in.type == EMB_DTYPE_F16) {
        product_kernel<<<grid, 256>>>((float *)inside(out), (const __half *)inside(in),
                                      (const __half *)inside(weight), rows, cols, tokens);
    } else {
        product_kernel<<<grid, 256>>>((float *)inside(out), (const __nv_bfloat16 *)inside(in),
                                      (const __nv_bfloat16 *)inside(weight), rows, cols, tokens);
    }
    REQUIRE(cudaGetLastError());
    std::vector<float> got = buffer_values(out);
    buffer_close(out);
    return got;
}

/* The product and the way back through GELU. */
static void check_linear_gelu(emb_dtype type) {
    verdict v = {"product and gelu back", type, 0, 2e-4, 0, 0};
    const uint32_t cases[][3] = {{48, 32, 37},      {384, 136, 65},  {1536, 384, 1},
                                 {1536, 384, 300},  {200, 72, 1000}, {3072, 768, 777},
                                 {1536, 384, 20000}};
    for (auto &c : cases) {
        uint32_t rows = c[0], cols = c[1], tokens = c[2], tokens_max = tokens + 3;
        if (small && tokens > 1000) continue;
        size_t count = (size_t)tokens * rows, all = (size_t)tokens_max * rows;
        batch b = counted(tokens, tokens_max);
        std::vector<float> x = random_values(count, 1.5f, type);
        x.resize(all, NAN);
        buffer before = buffer_from(x, type), d = buffer_open(all, type);
        buffer out = buffer_open(all, type), d_out = buffer_open((size_t)tokens_max * cols, type);
        buffer weight =
            buffer_from(random_values((size_t)rows * cols, 1 / sqrtf((float)cols), type), type);
        buffer zeros = buffer_from(std::vector<float>(rows, 0), EMB_DTYPE_F32);
        random_fill(d_out, (uint64_t)tokens * cols, random_bits());
        emb_cuda_linear linear = {inside(weight), (float *)inside(zeros), rows, cols, type};
        REQUIRE(emb_cuda_train_linear_gelu_back(inside(d), inside(out), inside(before),
                                                inside(d_out), &linear, &b.batch, &device, NULL));
        std::vector<float> sums = product(d_out, weight, rows, cols, tokens);
        std::vector<double> back(count), after(count);
        for (size_t i = 0; i < count; i++) {
            double below = 0.5 * erfc(-x[i] / sqrt(2.0));
            after[i] = x[i] * below;
            back[i] = sums[i] * (below + x[i] * exp(-0.5 * x[i] * x[i]) / sqrt(2 * M_PI));
        }
        /* elsewhere the product is rounded before it goes back */
        judge(v, buffer_values(d), back, step_of(type) * (device.capability == 90 ? 1 : 2));
        judge(v, buffer_values(out), after, step_of(type));
        for (buffer *y : {&before, &d, &out, &d_out, &weight, &zeros}) {
            v.bad += !buffer_intact(*y);
            buffer_close(*y);
        }
        batch_close(b);
    }
    report(v);
}

/* ---- norm ------------------------------------------------------------------------------------ */

struct norm_case {
    std::vector<float> x, d, gain, shift;         /* x and d with NaNs past the batch */
    std::vector<double> out, dx, d_gain, d_shift; /* what is wanted; the last two from 1 on */
};

static norm_case norm_make(uint32_t tokens, uint32_t hidden, uint32_t tokens_max, emb_dtype type) {
    size_t count = (size_t)tokens * hidden;
    norm_case c = {random_values(count, 2, type, 0.7f), random_values(count, 1, type)};
    c.gain = random_values(hidden, 0.2f, EMB_DTYPE_F32, 1);
    c.shift = random_values(hidden, 0.2f, EMB_DTYPE_F32);
    c.out.resize(count), c.dx.resize(count);
    c.d_gain.assign(hidden, 1), c.d_shift.assign(hidden, 1);
    for (size_t t = 0; t < tokens; t++) {
        const float *x = &c.x[t * hidden], *d = &c.d[t * hidden];
        double mean = 0, variance = 0, sum = 0, along = 0;
        for (uint32_t i = 0; i < hidden; i++) mean += x[i] / (double)hidden;
        for (uint32_t i = 0; i < hidden; i++) variance += (x[i] - mean) * (x[i] - mean) / hidden;
        double factor = 1 / sqrt(variance + 1e-5);
        for (uint32_t i = 0; i < hidden; i++) {
            double y = (x[i] - mean) * factor, g = (double)d[i] * c.gain[i];
            c.out[t * hidden + i] = y * c.gain[i] + c.shift[i];
            sum += g / hidden, along += g * y / hidden;
            c.d_gain[i] += d[i] * y, c.d_shift[i] += d[i];
        }
        for (uint32_t i = 0; i < hidden; i++) {
            double y = (x[i] - mean) * factor, g = (double)d[i] * c.gain[i];
            c.dx[t * hidden + i] = (g - sum - y * along) * factor;
        }
    }
    c.x.resize((size_t)tokens_max * hidden, NAN), c.d.resize((size_t)tokens_max * hidden, NAN);
    return c;
}

static void check_norm_case(verdict &v, verdict &sums, uint32_t tokens, uint32_t hidden) {
    emb_dtype type = v.type;
    uint32_t tokens_max = tokens + 5;
    norm_case c = norm_make(tokens, hidden, tokens_max, type);
    batch b = counted(tokens, tokens_max);
    buffer x = buffer_from(c.x, type), gain = buffer_from(c.gain, EMB_DTYPE_F32);
    buffer shift = buffer_from(c.shift, EMB_DTYPE_F32), out = buffer_open(c.x.size(), type);
    emb_cuda_norm norm = {(float *)inside(gain), (float *)inside(shift), 1e-5f};
    REQUIRE(emb_cuda_train_norm(inside(out), inside(x), &norm, hidden, &b.batch, type, NULL));
    judge(v, buffer_values(out), c.out, step_of(type));
    std::vector<float> first[2];
    for (int turn = 0; turn < 2; turn++) {
        buffer d = buffer_from(c.d, type);
        buffer grads = buffer_from(std::vector<float>(2 * hidden, 1.0f), EMB_DTYPE_F32);
        buffer partials = buffer_open(emb_cuda_train_norm_bytes(hidden), EMB_DTYPE_INT8);
        float *at = (float *)inside(grads);
        REQUIRE(emb_cuda_train_norm_back(
            inside(d), NULL, at, at + hidden, (float *)inside(partials), inside(x),
            (float *)inside(gain), 1e-5f, hidden, &b.batch, type, NULL));
        std::vector<float> dx = buffer_values(d), got = buffer_values(grads);
        if (turn) {
            judge_same(v, dx, first[0]), judge_same(sums, got, first[1]);
        } else {
            std::vector<double> both = c.d_gain;
            both.insert(both.end(), c.d_shift.begin(), c.d_shift.end());
            judge(v, dx, c.dx, step_of(type)), judge(sums, got, both, 1e-6);
        }
        first[0] = dx, first[1] = got;
        for (buffer *y : {&d, &grads, &partials}) {
            v.bad += !buffer_intact(*y);
            buffer_close(*y);
        }
    }
    for (buffer *y : {&x, &gain, &shift, &out}) {
        v.bad += !buffer_intact(*y);
        buffer_close(*y);
    }
    batch_close(b);
}

static void check_norm(emb_dtype type) {
    verdict v = {"norm, forwards and back", type, 0, 1e-5, 0, 0};
    verdict sums = {"norm, gain and shift", type, 0, 1e-5, 0, 0};
    for (uint32_t hidden : {8u, 48u, 256u, 384u, 392u, 512u, 768u, 1024u, 1536u}) {
        check_norm_case(v, sums, 37, hidden);
    }
    check_norm_case(v, sums, 1, 384);
    if (!small) check_norm_case(v, sums, 5001, 384), check_norm_case(v, sums, 3000, 768);
    report(v), report(sums);
}

/* ---- times ----------------------------------------------------------------------------------- */

/* Sets of operands, so that what a run reads was not just read: over 200 MB together. */
static std::vector<buffer> operand_sets(uint64_t count, emb_dtype type) {
    std::vector<buffer> sets;
    uint64_t bytes = count * type_bytes(type);
    for (uint64_t sum = 0; sum < 200000000; sum += bytes) {
        sets.push_back(buffer_open(count, type));
        random_fill(sets.back(), count, random_bits());
    }
    return sets;
}
static void sets_close(std::vector<buffer> &sets) {
    for (buffer &b : sets) buffer_close(b);
}

static void bench_weights(emb_dtype type, uint32_t rows, uint32_t cols, uint32_t tokens) {
    std::vector<buffer> d_out = operand_sets((uint64_t)tokens * rows, type);
    std::vector<buffer> in = operand_sets((uint64_t)tokens * cols, type);
    batch b = counted(tokens, tokens);
    buffer out =
        buffer_from(std::vector<float>((size_t)(rows + 1) * cols + rows, 0), EMB_DTYPE_F32);
    float *at = (float *)inside(out);
    double us[2];
    uint64_t bytes = 0;
    for (int portable = 0; portable < 2; portable++) {
        emb_cuda_device as = device;
        if (portable && as.capability >= 80) as.capability = 80;
        bytes = emb_cuda_train_gradients_bytes(rows, cols, tokens, &as);
        buffer partials = buffer_open(bytes, EMB_DTYPE_INT8);
        size_t turn = 0;
        us[portable] = op_time([&] {
            REQUIRE(emb_cuda_train_gradients(
                at, at + (size_t)rows * cols, inside(d_out[turn % d_out.size()]),
                inside(in[turn % in.size()]), rows, cols, (float *)inside(partials), &b.batch, type,
                &as, stream));
            turn++;
        });
        buffer_close(partials);
    }
    double work = 2e-6 * rows * cols * tokens;
    printf(
        "{\"bench\": \"gradients\", \"type\": \"%s\", \"rows\": %u, \"cols\": %u, \"tokens\": %u, "
        "\"us\": %.1f, \"tflops\": %.0f, \"portable_us\": %.1f, \"portable_tflops\": %.0f}\n",
        TYPE_NAMES[type], rows, cols, tokens, us[0], work / us[0], us[1], work / us[1]);
    fflush(stdout);
    buffer_close(out), batch_close(b), sets_close(d_out), sets_close(in);
}

static void print_bytes(const char *name, emb_dtype type, uint32_t cols, uint32_t tokens, double us,
                        double bytes) {
    printf("{\"bench\": \"%s\", \"type\": \"%s\", \"cols\": %u, \"tokens\": %u, \"us\": %.1f, "
           "\"gb_per_s\": %.0f}\n",
           name, TYPE_NAMES[type], cols, tokens, us, bytes / us * 1e-3);
    fflush(stdout);
}

static void bench_rows(emb_dtype type, uint32_t cols, uint32_t tokens) {
    uint64_t count = (uint64_t)tokens * cols;
    std::vector<buffer> x = operand_sets(count, type), d = operand_sets(count, type);
    std::vector<buffer> other = operand_sets(count, type);
    batch b = counted(tokens, tokens);
    size_t turn = 0, sets = x.size();
    double bytes = (double)count * type_bytes(type);
    double us = op_time([&] {
        size_t i = turn++ % sets;
        REQUIRE(emb_cuda_train_gelu_back(inside(d[i]), inside(other[i]), inside(x[i]), cols,
                                         &b.batch, type, stream));
    });
    print_bytes("gelu back", type, cols, tokens, us, 4 * bytes);
    us = op_time([&] {
        size_t i = turn++ % sets;
        REQUIRE(cudaMemcpyAsync(inside(other[i]), inside(x[i]), (size_t)bytes,
                                cudaMemcpyDeviceToDevice, stream));
    });
    print_bytes("copy", type, cols, tokens, us, 2 * bytes);
    if (cols <= EMB_CUDA_HIDDEN_MAX) {
        buffer gain = buffer_from(std::vector<float>(4 * cols, 1.0f), EMB_DTYPE_F32);
        buffer partials = buffer_open(emb_cuda_train_norm_bytes(cols), EMB_DTYPE_INT8);
        float *at = (float *)inside(gain);
        emb_cuda_norm norm = {at, at + cols, 1e-5f};
        us = op_time([&] {
            size_t i = turn++ % sets;
            REQUIRE(emb_cuda_train_norm(inside(other[i]), inside(x[i]), &norm, cols, &b.batch, type,
                                        stream));
        });
        print_bytes("norm", type, cols, tokens, us, 2 * bytes);
        us = op_time([&] {
            size_t i = turn++ % sets;
            REQUIRE(emb_cuda_train_norm_back(inside(d[i]), NULL, at + 2 * cols, at + 3 * cols,
                                             (float *)inside(partials), inside(x[i]), at, 1e-5f,
                                             cols, &b.batch, type, stream));
        });
        print_bytes("norm back", type, cols, tokens, us, 3 * bytes);
        buffer_close(gain), buffer_close(partials);
    }
    batch_close(b), sets_close(x), sets_close(d), sets_close(other);
}

static void bench_linear_gelu(emb_dtype type, uint32_t rows, uint32_t cols, uint32_t tokens) {
    uint64_t count = (uint64_t)tokens * rows;
    std::vector<buffer> before = operand_sets(count, type), d = operand_sets(count, type);
    std::vector<buffer> out = operand_sets(count, type);
    std::vector<buffer> d_out = operand_sets((uint64_t)tokens * cols, type);
    buffer weight = buffer_open((size_t)rows * cols, type);
    random_fill(weight, (uint64_t)rows * cols, 1);
    buffer zeros = buffer_from(std::vector<float>(rows, 0), EMB_DTYPE_F32);
    emb_cuda_linear linear = {inside(weight), (float *)inside(zeros), rows, cols, type};
    batch b = counted(tokens, tokens);
    size_t turn = 0, sets = before.size();
    double us[2];
    us[0] = op_time([&] {
        size_t i = turn++ % sets;
        REQUIRE(emb_cuda_train_linear_gelu_back(inside(d[i]), inside(out[i]), inside(before[i]),
                                                inside(d_out[i]), &linear, &b.batch, &device,
                                                stream));
    });
    us[1] = op_time([&] {
        size_t i = turn++ % sets;
        REQUIRE(emb_cuda_linear_run(inside(d[i]), inside(d_out[i]), &linear, 0, EMB_CUDA_TILE_AUTO,
                                    &b.batch, &device, stream));
        REQUIRE(emb_cuda_train_gelu_back(inside(d[i]), inside(out[i]), inside(before[i]), rows,
                                         &b.batch, type, stream));
    });
    printf("{\"bench\": \"product and gelu back\", \"type\": \"%s\", \"rows\": %u, \"cols\": %u, "
           "\"tokens\": %u, \"us\": %.1f, \"apart_us\": %.1f}\n",
           TYPE_NAMES[type], rows, cols, tokens, us[0], us[1]);
    fflush(stdout);
    for (std::vector<buffer> *s : {&before, &d, &out, &d_out}) sets_close(*s);
    buffer_close(weight), buffer_close(zeros), batch_close(b);
}

static void bench() {
    for (uint32_t tokens : {2048u, 16384u, 65536u}) {
        bench_linear_gelu(EMB_DTYPE_BF16, 1536, 384, tokens);
        bench_linear_gelu(EMB_DTYPE_BF16, 3072, 768, tokens);
    }
    const uint32_t shapes[][2] = {{384, 384}, {1152, 384}, {1536, 384}, {384, 1536},
                                  {768, 768}, {2304, 768}, {3072, 768}, {768, 3072}};
    for (uint32_t tokens : {2048u, 16384u, 65536u}) {
        for (auto &shape : shapes) bench_weights(EMB_DTYPE_BF16, shape[0], shape[1], tokens);
    }
    bench_weights(EMB_DTYPE_F16, 1536, 384, 16384);
    for (uint32_t cols : {384u, 768u, 1536u, 3072u}) bench_rows(EMB_DTYPE_BF16, cols, 16384);
    bench_rows(EMB_DTYPE_BF16, 384, 65536), bench_rows(EMB_DTYPE_BF16, 1536, 65536);
}

int main(int argc, char **argv) {
    bool races = argc > 1 && !strcmp(argv[1], "races");
    small = races || (argc > 1 && !strcmp(argv[1], "small"));
    REQUIRE(emb_cuda_device_read(&device));
    if (races && device.capability > 80) device.capability = 80;
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    if (argc > 1 && !strcmp(argv[1], "bench")) {
        bench();
        return 0;
    }
    for (emb_dtype type : types()) {
        check_gelu(type);
        check_norm(type);
        if (type == EMB_DTYPE_F32) continue;
        emb_cuda_device portable = {device.multiprocessors, 80};
        if (device.capability > 80) check_weights(type, "gradients, portable", portable);
        check_linear_gelu(type);
        check_weights(type, "gradients", device);
    }
    REQUIRE(cudaDeviceSynchronize());
    printf("{\"check\": \"all\", \"sm\": %u, \"failed\": %d}\n", device.capability, failures);
    return failures ? 1 : 0;
}
