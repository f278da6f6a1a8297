/* train_support.cuh - what the checks of training's kernels share: judging against a reference.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CUDA_TRAIN_SUPPORT_CUH
#define TESTS_CUDA_TRAIN_SUPPORT_CUH

#include "cuda/support.cuh"
#include "train/cuda/kernels/ends.h"

static int failures;

static inline float *floats(const buffer &b) {
    return (float *)inside(b);
}

/* The largest relative error of rounding to the type, and a little. */
static inline double half_step(emb_dtype type) {
    return type == EMB_DTYPE_F16 ? 5e-4 : type == EMB_DTYPE_BF16 ? 3.95e-3 : 1e-6;
}

/* A group of cases: the worst error, as a share of what is allowed, and relative to the root mean
 * square of what was wanted. */
typedef struct verdict {
    const char *name;
    emb_dtype type;
    double worst, error;
    int cases, bad;
} verdict;

static inline void report(const verdict &v) {
    printf("{\"check\": \"%s\", \"type\": \"%s\", \"cases\": %d, \"failed\": %d, "
           "\"worst_of_allowed\": %.3f, \"largest_error\": %.3g}\n",
           v.name, TYPE_NAMES[v.type], v.cases, v.bad, v.worst, v.error);
    fflush(stdout);
    failures += v.bad;
}

static inline void judge_true(verdict &v, bool right) {
    v.cases++, v.bad += !right;
}

/* Judges `out` against `wanted`: each value may be off by `relative` of itself and `absolute` of
 * the root mean square, and by `floor`; values past `wanted` must be poison, guards as they were.
 */
static inline void judge(verdict &v, const buffer &out, const std::vector<double> &wanted,
                         double relative, double absolute, double floor = 0) {
    std::vector<float> got = buffer_values(out);
    double squares = 0;
    bool bad = !buffer_intact(out);
    for (double w : wanted) squares += w * w;
    double least = out.type == EMB_DTYPE_F16 ? 3.1e-8 : 1e-37; /* below the normal values */
    double mean = sqrt(squares / (double)wanted.size()) + 1e-30;
    for (size_t i = 0; i < wanted.size(); i++) {
        double off = fabs(got[i] - wanted[i]);
        double share =
            off == 0 ? 0 : off / (relative * fabs(wanted[i]) + absolute * mean + floor + least);
        if (!(share <= 1)) bad = true;
        if (share > v.worst || share != share) v.worst = share;
        if (mean > 1e-12) v.error = std::max(v.error, off / mean);
    }
    for (size_t i = wanted.size(); i < got.size(); i++) bad = bad || got[i] == got[i];
    judge_true(v, !bad);
}

/* Median milliseconds of five runs after one. */
template <typename F> static inline double event_ms(F work) {
    cudaEvent_t start, stop;
    std::vector<float> samples(5);
    REQUIRE(cudaEventCreate(&start));
    REQUIRE(cudaEventCreate(&stop));
    work();
    for (float &ms : samples) {
        REQUIRE(cudaEventRecord(start));
        work();
        REQUIRE(cudaEventRecord(stop));
        REQUIRE(cudaEventSynchronize(stop));
        REQUIRE(cudaEventElapsedTime(&ms, start, stop));
    }
    REQUIRE(cudaEventDestroy(start));
    REQUIRE(cudaEventDestroy(stop));
    std::sort(samples.begin(), samples.end());
    return samples[samples.size() / 2];
}

#endif
