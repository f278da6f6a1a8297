/* embed.cu - what comes before the first layer: positions, the attention work list, embed + norm.
 *
 * One block scans the chunks, so that the work list is dense and in the order of the chunks; the
 * other blocks write positions. Embedding takes one warp per token and one read of each row.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/quantized/codes.cuh"

#define PREPARE_THREADS 1024
#define EMBED_WARPS     4

int emb_cuda_device_read(emb_cuda_device *device) {
    int ordinal = 0, count = 0, major = 0, minor = 0;
    int status = cudaGetDevice(&ordinal);
    if (!status) {
        status = cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, ordinal);
    }
    if (!status) {
        status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal);
    }
    if (!status) {
        status = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal);
    }
    device->multiprocessors = (uint32_t)count;
    device->capability = (uint32_t)(major * 10 + minor);
    return status;
}

/* Sum over the threads before this one; `total` is over all. Holds two barriers. */
static __device__ uint32_t block_scan(uint32_t value, uint32_t *warp_sums, uint32_t *total) {
    uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5, sum = value;
    for (int step = 1; step < 32; step <<= 1) {
        uint32_t below = __shfl_up_sync(EMB_FULL_WARP, sum, step);
        if (lane >= (uint32_t)step) sum += below;
    }
    __syncthreads();
    if (lane == 31) warp_sums[warp] = sum;
    __syncthreads();
    uint32_t before = 0, all = 0;
    for (uint32_t i = 0; i < PREPARE_THREADS / 32; i++) {
        uint32_t warp_sum = warp_sums[i];
        if (i < warp) before += warp_sum;
        all += warp_sum;
    }
    *total = all;
    return before + sum - value;
}

/* Item 0 holds the count; a chunk of n tokens has ceil(n / 64) <= n / 64 + 1 items. */
static __device__ void make_tiles(uint4 *tiles, const uint32_t *starts, uint32_t chunks) {
    __shared__ uint32_t warp_sums[PREPARE_THREADS / 32];
    uint32_t made = 0;
    for (uint32_t first = 0; first < chunks; first += PREPARE_THREADS) {
        uint32_t chunk = first + threadIdx.x, start = 0, length = 0, total = 0;
        if (chunk < chunks) {
            start = starts[chunk];
            length = starts[chunk + 1] - start;
        }
        uint32_t count = (length + EMB_CUDA_QUERY_ROWS - 1) / EMB_CUDA_QUERY_ROWS;
        uint32_t place = made + block_scan(count, warp_sums, &total);
        for (uint32_t i = 0; i < count; i++) {
            tiles[1 + place + i] = make_uint4(start, length, i * EMB_CUDA_QUERY_ROWS, chunk);
        }
        made += total;
    }
    if (threadIdx.x == 0) tiles[0] = make_uint4(made, 0, 0, 0);
}

static __global__ void __launch_bounds__(PREPARE_THREADS)
    prepare_kernel(uint4 *tiles, uint32_t *positions, const uint32_t *starts,
                   const uint32_t *counts) {
    emb_kernel_begin();
    uint32_t chunks = counts[1];
    if (blockIdx.x == 0) {
        make_tiles(tiles, starts, chunks);
        return;
    }
    uint32_t lane = threadIdx.x & 31;
    uint32_t warp = (blockIdx.x - 1) * (PREPARE_THREADS / 32) + (threadIdx.x >> 5);
    uint32_t warps = (gridDim.x - 1) * (PREPARE_THREADS / 32);
    for (uint32_t chunk = warp; chunk < chunks; chunk += warps) {
        uint32_t start = starts[chunk], length = starts[chunk + 1] - start;
        for (uint32_t i = lane; i < length; i += 32) positions[start + i] = i;
    }
}

int emb_cuda_prepare(const emb_cuda_batch *batch, void *stream) {
    uint32_t per_block = PREPARE_THREADS / 32;
    uint32_t blocks = 1 + (batch->chunks_max + per_block - 1) / per_block;
    if (blocks > 129) blocks = 129;
    return emb_launch(prepare_kernel, dim3(blocks), PREPARE_THREADS, 0, batch, (cudaStream_t)stream,
                      (uint4 *)batch->query_tiles, batch->positions, batch->starts, batch->counts);
}

/* Eight columns of a word's row. */
template <typename T>
static __device__ __forceinline__ void load_word(float (&x)[8], const T *words, uint64_t id,
                                                 uint32_t hidden, uint32_t col) {
    emb_load8(x, words + id * hidden + col);
}
/* The row's scale follows its codes. */
static __device__ __forceinline__ void load_word(float (&x)[8], const int8_t *words, uint64_t id,
                                                 uint32_t hidden, uint32_t col) {
    const int8_t *row = words + id * (hidden + sizeof(float));
    float scale = *reinterpret_cast<const float *>(row + hidden);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        char4 codes = reinterpret_cast<const char4 *>(row + col)[i];
        x[4 * i] = __fmul_rn(scale, (float)(signed char)codes.x);
        x[4 * i + 1] = __fmul_rn(scale, (float)(signed char)codes.y);
        x[4 * i + 2] = __fmul_rn(scale, (float)(signed char)codes.z);
        x[4 * i + 3] = __fmul_rn(scale, (float)(signed char)codes.w);
    }
}

/* One warp per token; a lane holds VECTORS groups of eight columns. */
template <typename T, typename W, int VECTORS, bool CODES>
static __global__ void __launch_bounds__(32 * EMBED_WARPS)
    embed_kernel(T *out, const W *words, const uint32_t *ids, const uint32_t *indices,
                 const uint32_t *counts, const float *positions, emb_cuda_norm norm,
                 uint32_t hidden, emb_codes_rule rule) {
    emb_kernel_begin();
    uint32_t lane = threadIdx.x & 31, token = blockIdx.x * EMBED_WARPS + (threadIdx.x >> 5);
    if (token >= counts[0]) return;
    uint64_t id = ids[token];
    const float *position = positions + (uint64_t)indices[token] * hidden;
    float x[VECTORS][8], sum = 0;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        uint32_t col = (v * 32 + lane) * 8;
        float add[8] = {};
        for (int i = 0; i < 8; i++) x[v][i] = 0;
        if (col < hidden) {
            load_word(x[v], words, id, hidden, col);
            emb_load8(add, position + col);
        }
        for (int i = 0; i < 8; i++) sum += x[v][i] += add[i];
    }
    emb_norm_row<T, VECTORS>(out + (uint64_t)token * hidden, x, emb_warp_sum(sum), norm, hidden);
    if constexpr (CODES) {
        emb_round<T>(x);
        emb_codes_row<256, VECTORS>(rule, token, x, hidden);
    }
}

template <typename T, typename W, bool CODES>
static int embed_run(void *out, const emb_cuda_batch *batch, const emb_cuda_embedding *embedding,
                     uint32_t hidden, const emb_codes_rule &rule, cudaStream_t stream) {
    if (hidden == 0 || hidden % 8 || hidden > EMB_CUDA_HIDDEN_MAX) return cudaErrorInvalidValue;
    emb_cuda_norm norm = {embedding->gain, embedding->shift, embedding->epsilon};
    uint32_t blocks = (batch->tokens_max + EMBED_WARPS - 1) / EMBED_WARPS;
    void (*kernel)(T *, const W *, const uint32_t *, const uint32_t *, const uint32_t *,
                   const float *, emb_cuda_norm, uint32_t, emb_codes_rule) =
        hidden <= 512    ? embed_kernel<T, W, 2, CODES>
        : hidden <= 1024 ? embed_kernel<T, W, 4, CODES>
                         : embed_kernel<T, W, 6, CODES>;
    return emb_launch(kernel, dim3(blocks), 32 * EMBED_WARPS, 0, batch, stream, (T *)out,
                      (const W *)embedding->words, batch->ids, batch->positions, batch->counts,
                      embedding->positions, norm, hidden, rule);
}

int emb_cuda_embed(void *out, const emb_cuda_batch *batch, const emb_cuda_embedding *embedding,
                   uint32_t hidden, emb_dtype type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    emb_codes_rule none = {};
    switch (type) {
    case EMB_DTYPE_F32:
        return embed_run<float, float, false>(out, batch, embedding, hidden, none, s);
    case EMB_DTYPE_BF16:
        return embed_run<emb_bf16, emb_bf16, false>(out, batch, embedding, hidden, none, s);
    case EMB_DTYPE_F16:
        return embed_run<emb_f16, emb_f16, false>(out, batch, embedding, hidden, none, s);
    case EMB_DTYPE_INT8:
        return embed_run<emb_f16, int8_t, false>(out, batch, embedding, hidden, none, s);
    default:
        return cudaErrorInvalidValue;
    }
}

int emb_cuda_embed_codes(void *out, const emb_cuda_codes *codes, const float *smooth,
                         emb_dtype codes_type, const emb_cuda_batch *batch,
                         const emb_cuda_embedding *embedding, uint32_t hidden,
                         const emb_cuda_device *device, void *stream) {
    if (!codes) return emb_cuda_embed(out, batch, embedding, hidden, EMB_DTYPE_INT8, stream);
    int status = emb_codes_judge(codes_type, hidden, EMB_CUDA_HIDDEN_MAX, device);
    if (status) return status;
    emb_codes_rule rule = {*codes, smooth, (uint32_t)codes_type};
    return embed_run<emb_f16, int8_t, true>(out, batch, embedding, hidden, rule,
                                            (cudaStream_t)stream);
}
