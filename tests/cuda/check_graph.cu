/* check_graph.cu - what recordings cost: bytes of the host and of the device per node, and the time
 * to launch one beside plain launches.
 *
 * The planner's constants (src/plan/plan.c, "A recording's nodes") come from here. Prints JSON
 * lines: growth after 1, 2, 4, ... graphs of a whole forward, instantiated and uploaded as at open.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "cuda/forward.cuh"

#define GRAPHS_MAX 64

static emb_cuda_device device;
static cudaStream_t stream;

/* Resident bytes of this process. */
static long long resident_bytes() {
    long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*s %lld", &pages) != 1) pages = 0;
    if (file) fclose(file);
    return pages * 4096;
}

static long long device_bytes() {
    size_t free_bytes, total_bytes;
    REQUIRE(cudaMemGetInfo(&free_bytes, &total_bytes));
    return (long long)(total_bytes - free_bytes);
}

static double now_us() {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec * 1e-3;
}

static cudaGraphExec_t record(const random_model &m, const activations &a, const batch &b,
                              size_t *nodes) {
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    forward(m, a, &b.batch, &device, NULL, stream);
    REQUIRE(cudaStreamEndCapture(stream, &graph));
    REQUIRE(cudaGraphGetNodes(graph, NULL, nodes));
    REQUIRE(cudaGraphInstantiate(&ready, graph, 0));
    REQUIRE(cudaGraphUpload(ready, stream));
    REQUIRE(cudaStreamSynchronize(stream));
    REQUIRE(cudaGraphDestroy(graph));
    return ready;
}

/* Median microseconds on the host's clock from the first launch to the last kernel's end. */
template <typename F> static double wall_time(F work) {
    std::vector<double> samples;
    for (int i = 0; i < 200; i++) {
        double began = now_us();
        work();
        REQUIRE(cudaStreamSynchronize(stream));
        samples.push_back(now_us() - began);
    }
    std::sort(samples.begin(), samples.end());
    return samples[samples.size() / 2];
}

static void measure(random_model &m) {
    static cudaGraphExec_t graphs[GRAPHS_MAX];
    model_open(m);
    batch b = batch_make(std::vector<uint32_t>(1, 128), m.vocabulary);
    activations a = activations_open(m, b.tokens, 1);
    forward(m, a, &b.batch, &device, NULL, stream); /* kernels are loaded before the first figure */
    REQUIRE(cudaStreamSynchronize(stream));
    long long device_before = device_bytes(), host_before = resident_bytes();
    size_t nodes = 0;
    for (int count = 1, made = 0; count <= GRAPHS_MAX; count *= 2) {
        while (made < count) graphs[made++] = record(m, a, b, &nodes);
        double total = (double)nodes * count;
        long long on_device = device_bytes() - device_before;
        long long on_host = resident_bytes() - host_before;
        printf("{\"check\": \"bytes of graphs\", \"model\": \"%s\", \"graphs\": %d, \"nodes\": "
               "%zu, \"device\": %lld, \"host\": %lld, \"device_per_node\": %.0f, "
               "\"host_per_node\": %.0f}\n",
               m.name, count, nodes, on_device, on_host, (double)on_device / total,
               (double)on_host / total);
    }
    double plain = wall_time([&] { forward(m, a, &b.batch, &device, NULL, stream); });
    double replayed = wall_time([&] { REQUIRE(cudaGraphLaunch(graphs[0], stream)); });
    printf("{\"bench\": \"one of 128, launched and done\", \"model\": \"%s\", \"plain_us\": %.1f, "
           "\"graph_us\": %.1f, \"device\": %lld, \"host\": %lld}\n",
           m.name, plain, replayed, device_bytes() - device_before, resident_bytes() - host_before);
    fflush(stdout);
    for (cudaGraphExec_t graph : graphs) REQUIRE(cudaGraphExecDestroy(graph));
    activations_close(a), batch_close(b);
}

int main() {
    random_model models[] = {{"L6", 6, 384, 12, 1536, 30522, 512, EMB_DTYPE_F16},
                             {"BERT-base", 12, 768, 12, 3072, 30522, 512, EMB_DTYPE_F16}};
    REQUIRE(emb_cuda_device_read(&device));
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (random_model &m : models) measure(m);
    REQUIRE(cudaDeviceSynchronize());
    return 0;
}
