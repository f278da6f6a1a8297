/* timing.cuh - graphs and their times, for the benches of tests/cuda.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CUDA_TIMING_CUH
#define TESTS_CUDA_TIMING_CUH

#include "cuda/support.cuh"

static cudaStream_t stream;

/* Median microseconds of one launch of a graph, from samples of `each` launches. */
static inline double graph_time(cudaGraphExec_t graph, int each) {
    cudaEvent_t start, stop;
    std::vector<double> samples;
    REQUIRE(cudaEventCreate(&start));
    REQUIRE(cudaEventCreate(&stop));
    for (int i = 0; i < 3; i++) REQUIRE(cudaGraphLaunch(graph, stream));
    for (int i = 0; i < 9; i++) {
        float ms = 0;
        REQUIRE(cudaEventRecord(start, stream));
        for (int j = 0; j < each; j++) REQUIRE(cudaGraphLaunch(graph, stream));
        REQUIRE(cudaEventRecord(stop, stream));
        REQUIRE(cudaEventSynchronize(stop));
        REQUIRE(cudaEventElapsedTime(&ms, start, stop));
        samples.push_back(ms * 1000.0 / each);
    }
    REQUIRE(cudaEventDestroy(start));
    REQUIRE(cudaEventDestroy(stop));
    std::sort(samples.begin(), samples.end());
    return samples[samples.size() / 2];
}

template <typename F> static cudaGraphExec_t capture(F work) {
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    work();
    REQUIRE(cudaStreamEndCapture(stream, &graph));
    REQUIRE(cudaGraphInstantiate(&ready, graph, 0));
    REQUIRE(cudaGraphDestroy(graph));
    return ready;
}

/* Microseconds of ten runs of one op, divided by ten. */
template <typename F> static double op_time(F work) {
    cudaGraphExec_t graph = capture([&] {
        for (int i = 0; i < 10; i++) work();
    });
    double us = graph_time(graph, 1) / 10;
    REQUIRE(cudaGraphExecDestroy(graph));
    return us;
}

static inline std::vector<uint32_t> ragged_lengths(uint32_t tokens, uint32_t low, uint32_t high) {
    std::vector<uint32_t> lengths;
    uint32_t sum = 0;
    while (sum < tokens) {
        uint32_t n = std::min(low + random_below(high - low + 1), tokens - sum);
        lengths.push_back(n);
        sum += n;
    }
    return lengths;
}

#endif
