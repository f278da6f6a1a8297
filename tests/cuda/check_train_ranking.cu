/* check_train_ranking.cu - the ranking loss and its gradients against references in double
 * precision, in every shape of tiles that fits the device, then its times.
 *
 * `small` runs few cases, for compute-sanitizer; `bench` the times, with some rows of the large
 * cases checked. Prints JSON lines; exits 1 if a check failed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/device.cuh"
#include "cuda/train_support.cuh"

/* The kernels' own files, for the shapes that their launchers would not choose here. */
namespace forward {
#include "train/cuda/kernels/ranking.cu"
}
#undef PIECES
namespace back {
#include "train/cuda/kernels/ranking_back.cu"
}

static emb_cuda_device device;
static int room; /* of shared memory */
static bool small;

/* ---- a case and its reference ---------------------------------------------------------------- */

struct problem {
    uint32_t anchors, candidates, width;
    float scale, weight, grow;
    emb_dtype type;
    std::vector<float> a, b; /* units, rounded to the type */
};

/* Units of which each candidate resembles its anchor. */
static problem problem_make(uint32_t anchors, uint32_t candidates, uint32_t width, emb_dtype type) {
    problem p = {anchors, candidates, width, 20, 0.5f / (float)anchors, 1, type, {}, {}};
    if (type == EMB_DTYPE_F16) p.grow = 1024;
    p.a = random_values((size_t)anchors * width, 1, EMB_DTYPE_F32);
    p.b = random_values((size_t)candidates * width, 1, EMB_DTYPE_F32);
    for (size_t i = 0; i < (size_t)std::min(anchors, candidates) * width; i++) {
        p.b[i] = 0.3f * p.b[i] + 0.1f * p.a[i];
    }
    for (std::vector<float> *rows : {&p.a, &p.b}) {
        for (size_t at = 0; at < rows->size(); at += width) {
            double squares = 0;
            for (uint32_t i = 0; i < width; i++)
                squares += (double)(*rows)[at + i] * (*rows)[at + i];
            for (uint32_t i = 0; i < width; i++) {
                (*rows)[at + i] = rounded((*rows)[at + i] / (float)sqrt(squares), type);
            }
        }
    }
    return p;
}

static double multiply(const float *a, const float *b, uint32_t width) {
    double sum = 0;
    for (uint32_t i = 0; i < width; i++) sum += (double)a[i] * b[i];
    return sum;
}

static double log_sum_of(const double *scores, size_t count, size_t step) {
    double top = -INFINITY, sum = 0;
    for (size_t i = 0; i < count; i++) top = std::max(top, scores[i * step]);
    for (size_t i = 0; i < count; i++) sum += exp(scores[i * step] - top);
    return top + log(sum);
}

/* Losses and log sums of anchors, log sums of the first candidates, and all gradients. */
struct answer {
    std::vector<double> losses, log_sums, back_sums, d_a, d_b;
};

static answer answer_of(const problem &p, bool symmetric) {
    size_t n = p.anchors, m = p.candidates, w = p.width;
    std::vector<double> scores(n * m);
    answer r;
    for (size_t i = 0; i < n * m; i++) {
        scores[i] = p.scale * multiply(&p.a[i / m * w], &p.b[i % m * w], p.width);
    }
    for (size_t i = 0; i < n; i++) {
        r.log_sums.push_back(log_sum_of(&scores[i * m], m, 1));
        r.losses.push_back(r.log_sums[i] - (i < m ? scores[i * m + i] : 0));
    }
    for (size_t j = 0; j < n && symmetric; j++) {
        r.back_sums.push_back(log_sum_of(&scores[j], n, m));
    }
    r.d_a.assign(n * w, 0), r.d_b.assign(m * w, 0);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < m; j++) {
            double g = exp(scores[i * m + j] - r.log_sums[i]) - (i == j);
            if (symmetric && j < n) g += exp(scores[i * m + j] - r.back_sums[j]) - (i == j);
            g *= (double)p.weight * p.scale * p.grow;
            for (size_t k = 0; k < w; k++) {
                r.d_a[i * w + k] += g * p.b[j * w + k];
                r.d_b[j * w + k] += g * p.a[i * w + k];
            }
        }
    }
    return r;
}

/* ---- checks ---------------------------------------------------------------------------------- */

/* What a shape of tiles of the gradients' kernel is checked with. */
typedef int (*back_call)(void *d, int of_candidates, const void *a, const void *b,
                         const float *log_sums, const float *back_sums, const problem &p);

static emb_cuda_train_pairs pairs_of(const problem &p) {
    return {p.anchors, p.candidates, 0, p.anchors};
}

static int call_chosen(void *d, int of_candidates, const void *a, const void *b,
                       const float *log_sums, const float *back_sums, const problem &p) {
    emb_cuda_train_pairs pairs = pairs_of(p);
    return emb_cuda_train_ranking_back(d, of_candidates, a, b, log_sums, back_sums, &pairs, p.width,
                                       p.scale, p.weight, p.grow, p.type, &device, NULL);
}

template <typename T, typename S>
static int call_shape(void *d, int of_candidates, const void *a, const void *b,
                      const float *log_sums, const float *back_sums, const problem &p) {
    emb_cuda_train_pairs pairs = pairs_of(p);
    back::job<T> j = back::job_make<T>(d, of_candidates, a, b, log_sums, back_sums, &pairs, p.width,
                                       p.scale, p.weight * p.grow);
    return back::launch<T, S>(j, NULL);
}

template <typename T, typename S>
static int sums_shape(float *losses, float *log_sums, const void *a, const void *b,
                      const problem &p) {
    forward::ranking<T> r = {
        losses, log_sums, (const T *)a, (const T *)b, p.anchors, p.candidates, p.width, p.scale, 0};
    return forward::launch<T, S>(r, NULL);
}

struct verdicts {
    verdict losses, sums, d_a, d_b, repeat;
};

/* What 16-bit gradients of scores leave of precision, beside the rounding of d: half a step of the
 * largest, times a unit's largest value, which is some five times the root mean square of d where
 * many rows of d are small. */
static double slack(emb_dtype type) {
    return type == EMB_DTYPE_F16 ? 2.5e-3 : 2e-2;
}

static void check_back(verdicts &v, const problem &p, const answer &r, bool symmetric,
                       const buffer &a, const buffer &b, back_call call) {
    std::vector<float> sums(r.log_sums.begin(), r.log_sums.end());
    std::vector<float> across(r.back_sums.begin(), r.back_sums.end());
    across.resize(p.anchors);
    buffer s = buffer_from(sums, EMB_DTYPE_F32), t = buffer_from(across, EMB_DTYPE_F32);
    buffer d_a = buffer_open(r.d_a.size() + 3 * p.width, p.type);
    buffer d_b = buffer_open(r.d_b.size() + 3 * p.width, p.type);
    const float *back_sums = symmetric ? floats(t) : NULL;
    std::vector<unsigned char> bits[2];
    for (int turn = 0; turn < (small ? 1 : 2); turn++) {
        buffer_poison(d_a), buffer_poison(d_b);
        REQUIRE(call(inside(d_a), 0, inside(a), inside(b), floats(s), back_sums, p));
        REQUIRE(call(inside(d_b), 1, inside(a), inside(b), floats(s), back_sums, p));
        bits[turn] = buffer_bytes(d_a);
        std::vector<unsigned char> more = buffer_bytes(d_b);
        bits[turn].insert(bits[turn].end(), more.begin(), more.end());
    }
    double floor = 1e-5 * (double)p.weight * p.scale * p.grow; /* one anchor alone: all is 0 */
    judge(v.d_a, d_a, r.d_a, half_step(p.type), slack(p.type), floor);
    judge(v.d_b, d_b, r.d_b, half_step(p.type), slack(p.type), floor);
    if (!small) judge_true(v.repeat, bits[0] == bits[1]);
    for (buffer *each : {&s, &t, &d_a, &d_b}) buffer_close(*each);
}

template <typename T, typename S>
static void check_sums_shape(verdicts &v, const problem &p, const answer &r, const buffer &a,
                             const buffer &b, const std::vector<unsigned char> &chosen) {
    if ((int)forward::shared_bytes<S>(p.width) > room) return;
    buffer losses = buffer_open(p.anchors, EMB_DTYPE_F32);
    buffer sums = buffer_open(p.anchors, EMB_DTYPE_F32);
    REQUIRE((sums_shape<T, S>(floats(losses), floats(sums), inside(a), inside(b), p)));
    judge(v.losses, losses, r.losses, 1e-5, 2e-5, 1e-5);
    judge(v.sums, sums, r.log_sums, 1e-5, 1e-5);
    judge_true(v.repeat, buffer_bytes(sums) == chosen);
    buffer_close(losses), buffer_close(sums);
}

template <typename T, typename S>
static void check_back_shape(verdicts &v, const problem &p, const answer &r, bool symmetric,
                             const buffer &a, const buffer &b) {
    if (S::BYTES > room || p.width > S::W) return;
    check_back(v, p, r, symmetric, a, b, call_shape<T, S>);
}

template <typename T> static void check_problem(verdicts &v, const problem &p, bool shapes) {
    buffer a = buffer_from(p.a, p.type), b = buffer_from(p.b, p.type);
    buffer losses = buffer_open(p.anchors, EMB_DTYPE_F32);
    buffer sums = buffer_open(p.anchors, EMB_DTYPE_F32);
    emb_cuda_train_pairs pairs = pairs_of(p);
    for (int symmetric = 0; symmetric <= (p.candidates >= p.anchors); symmetric++) {
        answer r = answer_of(p, symmetric);
        buffer_poison(losses), buffer_poison(sums);
        REQUIRE(emb_cuda_train_ranking(floats(losses), floats(sums), inside(a), inside(b), &pairs,
                                       p.width, p.scale, p.type, &device, NULL));
        judge(v.losses, losses, r.losses, 1e-5, 2e-5, 1e-5);
        judge(v.sums, sums, r.log_sums, 1e-5, 1e-5);
        check_back(v, p, r, symmetric, a, b, call_chosen);
        if (!shapes) continue;
        std::vector<unsigned char> chosen = buffer_bytes(sums);
        check_sums_shape<T, forward::shape<128, 3>>(v, p, r, a, b, chosen);
        check_sums_shape<T, forward::shape<64, 3>>(v, p, r, a, b, chosen);
        check_sums_shape<T, forward::shape<32, 2>>(v, p, r, a, b, chosen);
        check_back_shape<T, back::shape<384, 64, 64, 2>>(v, p, r, symmetric, a, b);
        check_back_shape<T, back::shape<384, 32, 32, 2>>(v, p, r, symmetric, a, b);
        check_back_shape<T, back::shape<384, 32, 16, 1>>(v, p, r, symmetric, a, b);
        check_back_shape<T, back::shape<768, 64, 32, 2>>(v, p, r, symmetric, a, b);
        check_back_shape<T, back::shape<768, 16, 16, 1>>(v, p, r, symmetric, a, b);
        check_back_shape<T, back::shape<1024, 32, 32, 2>>(v, p, r, symmetric, a, b);
        check_back_shape<T, back::shape<1024, 16, 16, 1>>(v, p, r, symmetric, a, b);
    }
    for (buffer *each : {&a, &b, &losses, &sums}) buffer_close(*each);
}

static void check_ranking(emb_dtype type) {
    verdicts v = {{"ranking losses", type},
                  {"ranking log sums", type},
                  {"ranking d anchors", type},
                  {"ranking d candidates", type},
                  {"ranking bits", type}};
    static const uint32_t sizes[][3] = {
        {35, 70, 64},  {65, 130, 384},  {1, 1, 64},      {3, 7, 128},     {70, 70, 1024},
        {33, 97, 512}, {200, 200, 384}, {129, 300, 768}, {130, 257, 960}, {100, 40, 192}};
    for (size_t i = 0; i < (small ? 1u : sizeof sizes / sizeof sizes[0]); i++) {
        problem p = problem_make(sizes[i][0], sizes[i][1], sizes[i][2], type);
        if (type == EMB_DTYPE_F16) check_problem<emb_f16>(v, p, true);
        if (type == EMB_DTYPE_BF16) check_problem<emb_bf16>(v, p, true);
    }
    for (const verdict &each : {v.losses, v.sums, v.d_a, v.d_b, v.repeat}) report(each);
}

/* ---- times ----------------------------------------------------------------------------------- */

/* A few rows of a large case, from the log sums that the device found. */
static void check_rows(verdicts &v, const problem &p, const buffer &sums, const buffer &d_a,
                       const buffer &d_b) {
    std::vector<float> log_sums = buffer_values(sums), got_a = buffer_values(d_a);
    std::vector<float> got_b = buffer_values(d_b);
    size_t n = p.anchors, m = p.candidates, w = p.width;
    for (size_t row = 0; row < std::min(n, m); row += std::min(n, m) / 3) {
        std::vector<double> scores(m), of_a(w), of_b(w);
        double factor = (double)p.weight * p.scale * p.grow, worst = 0, squares = 0;
        for (size_t j = 0; j < m; j++) {
            scores[j] = p.scale * multiply(&p.a[row * w], &p.b[j * w], p.width);
        }
        double log_sum = log_sum_of(scores.data(), m, 1);
        judge_true(v.sums, fabs(log_sum - log_sums[row]) < 2e-5 * fabs(log_sum));
        for (size_t j = 0; j < m; j++) {
            double g = factor * (exp(scores[j] - log_sum) - (j == row));
            for (size_t k = 0; k < w; k++) of_a[k] += g * p.b[j * w + k];
        }
        for (size_t i = 0; i < n; i++) {
            double s = p.scale * multiply(&p.a[i * w], &p.b[row * w], p.width);
            double g = factor * (exp(s - log_sums[i]) - (i == row));
            for (size_t k = 0; k < w; k++) of_b[k] += g * p.a[i * w + k];
        }
        for (size_t k = 0; k < w; k++) {
            worst = std::max(worst, fabs(got_a[row * w + k] - of_a[k]));
            worst = std::max(worst, fabs(got_b[row * w + k] - of_b[k]));
            squares += (of_a[k] * of_a[k] + of_b[k] * of_b[k]) / (2.0 * (double)w);
        }
        v.d_a.error = std::max(v.d_a.error, worst / sqrt(squares));
        judge_true(v.d_a, worst < 3 * (half_step(p.type) + slack(p.type)) * sqrt(squares));
    }
}

static void bench(uint32_t n, uint32_t width, emb_dtype type, bool check) {
    problem p = problem_make(n, n, width, type);
    emb_cuda_train_pairs pairs = pairs_of(p);
    buffer a = buffer_from(p.a, type), b = buffer_from(p.b, type);
    buffer d_a = buffer_open(p.a.size(), type), d_b = buffer_open(p.b.size(), type);
    buffer losses = buffer_open(n, EMB_DTYPE_F32), sums = buffer_open(n, EMB_DTYPE_F32);
    auto forward_half = [&] {
        REQUIRE(emb_cuda_train_ranking(floats(losses), floats(sums), inside(a), inside(b), &pairs,
                                       width, p.scale, type, &device, NULL));
    };
    auto anchors_half = [&] {
        REQUIRE(call_chosen(inside(d_a), 0, inside(a), inside(b), floats(sums), NULL, p));
    };
    auto candidates_half = [&] {
        REQUIRE(call_chosen(inside(d_b), 1, inside(a), inside(b), floats(sums), NULL, p));
    };
    double operations = 2.0 * n * (double)n * width * 1e-9;
    double sums_ms = event_ms(forward_half), anchors_ms = event_ms(anchors_half);
    double candidates_ms = event_ms(candidates_half);
    double all_ms = event_ms([&] { forward_half(), anchors_half(), candidates_half(); });
    printf(
        "{\"bench\": \"ranking\", \"type\": \"%s\", \"n\": %u, \"width\": %u, \"sums_ms\": %.4f, "
        "\"anchors_ms\": %.4f, \"candidates_ms\": %.4f, \"all_ms\": %.4f, \"tflops\": [%.1f, "
        "%.1f, %.1f, %.1f]}\n",
        TYPE_NAMES[type], n, width, sums_ms, anchors_ms, candidates_ms, all_ms,
        operations / sums_ms, 2 * operations / anchors_ms, 2 * operations / candidates_ms,
        5 * operations / all_ms);
    fflush(stdout);
    if (check) {
        verdicts v = {{"", type}, {"large log sums", type}, {"large gradients", type}, {}, {}};
        check_rows(v, p, sums, d_a, d_b);
        report(v.sums), report(v.d_a);
    }
    for (buffer *each : {&a, &b, &d_a, &d_b, &losses, &sums}) buffer_close(*each);
}

int main(int argc, char **argv) {
    small = argc > 1 && !strcmp(argv[1], "small");
    REQUIRE(emb_cuda_device_read(&device));
    REQUIRE(cudaDeviceGetAttribute(&room, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    if (argc > 1 && !strcmp(argv[1], "bench")) {
        bench(1024, 384, EMB_DTYPE_BF16, true);
        bench(8192, 384, EMB_DTYPE_BF16, false);
        bench(65536, 384, EMB_DTYPE_BF16, true);
        bench(65536, 384, EMB_DTYPE_F16, true);
        bench(16384, 768, EMB_DTYPE_BF16, false);
        bench(16384, 1024, EMB_DTYPE_BF16, false);
        bench(131072, 384, EMB_DTYPE_BF16, false);
        return failures ? 1 : 0;
    }
    check_ranking(EMB_DTYPE_F16);
    if (device.capability >= 80) check_ranking(EMB_DTYPE_BF16);
    printf("{\"check\": \"all\", \"failed\": %d}\n", failures);
    return failures ? 1 : 0;
}
