/* norm_back.cu - the norm behind a block, forwards and back: one warp per token, one pass over the
 * activations.
 *
 * Back, a warp takes tokens in turn with all others and keeps its sums for gain and shift in
 * registers; a block leaves its warps' sums as one partial, and a second kernel adds those in
 * order.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/device.cuh"
#include "train/cuda/kernels/gradients.h"

#define WARPS      8
#define THREADS    (32 * WARPS)
#define ADD_COLS   32
#define ADD_AHEAD  16 /* partials of a sum that are loaded before the first is added */
#define NORM_WARPS 4

/* ---- forwards -------------------------------------------------------------------------------- */

template <typename T, int VECTORS>
static __global__ void __launch_bounds__(32 * NORM_WARPS)
    norm_kernel(T *out, const T *in, const uint32_t *counts, emb_cuda_norm norm, uint32_t hidden) {
    emb_kernel_begin();
    uint32_t lane = threadIdx.x & 31, token = blockIdx.x * NORM_WARPS + (threadIdx.x >> 5);
    if (token >= counts[0]) return;
    uint64_t row = (uint64_t)token * hidden;
    float x[VECTORS][8] = {}, sum = 0;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        uint32_t col = (v * 32 + lane) * 8;
        if (col < hidden) emb_load8(x[v], in + row + col);
        for (int i = 0; i < 8; i++) sum += x[v][i];
    }
    emb_norm_row<T, VECTORS>(out + row, x, emb_warp_sum(sum), norm, hidden);
}

template <typename T>
static int norm_run(void *out, const void *in, const emb_cuda_norm *norm, uint32_t hidden,
                    const emb_cuda_batch *batch, cudaStream_t stream) {
    void (*kernel)(T *, const T *, const uint32_t *, emb_cuda_norm, uint32_t) =
        hidden <= 512    ? norm_kernel<T, 2>
        : hidden <= 1024 ? norm_kernel<T, 4>
                         : norm_kernel<T, 6>;
    return emb_launch(kernel, dim3((batch->tokens_max + NORM_WARPS - 1) / NORM_WARPS),
                      32 * NORM_WARPS, 0, batch, stream, (T *)out, (const T *)in, batch->counts,
                      *norm, hidden);
}

/* ---- back ------------------------------------------------------------------------------------ */

/* WIDTH neighbouring values, 4 or 8, as they lie in memory. */
template <typename T, int WIDTH> struct raw_values { uint32_t words[WIDTH * sizeof(T) / 4]; };

template <typename T, int WIDTH>
static __device__ __forceinline__ void load_raw(raw_values<T, WIDTH> &v, const T *from) {
    constexpr int WORDS = WIDTH * sizeof(T) / 4;
    if constexpr (WORDS == 2) {
        uint2 raw = *reinterpret_cast<const uint2 *>(from);
        v.words[0] = raw.x, v.words[1] = raw.y;
    } else {
#pragma unroll
        for (int i = 0; i < WORDS; i += 4) {
            uint4 raw =
                *reinterpret_cast<const uint4 *>(reinterpret_cast<const uint32_t *>(from) + i);
            v.words[i] = raw.x, v.words[i + 1] = raw.y;
            v.words[i + 2] = raw.z, v.words[i + 3] = raw.w;
        }
    }
}

template <typename T, int WIDTH>
static __device__ __forceinline__ void store_raw(T *to, const raw_values<T, WIDTH> &v) {
    constexpr int WORDS = WIDTH * sizeof(T) / 4;
    if constexpr (WORDS == 2) {
        *reinterpret_cast<uint2 *>(to) = make_uint2(v.words[0], v.words[1]);
    } else {
#pragma unroll
        for (int i = 0; i < WORDS; i += 4) {
            *reinterpret_cast<uint4 *>(reinterpret_cast<uint32_t *>(to) + i) =
                make_uint4(v.words[i], v.words[i + 1], v.words[i + 2], v.words[i + 3]);
        }
    }
}

/* Two neighbouring values; `pair` is constant. */
template <typename T, int WIDTH>
static __device__ __forceinline__ float2 pair_of(const raw_values<T, WIDTH> &v, int pair) {
    if constexpr (sizeof(T) == 4) {
        return make_float2(__uint_as_float(v.words[2 * pair]),
                           __uint_as_float(v.words[2 * pair + 1]));
    } else {
        return emb_unpack<T>(v.words[pair]);
    }
}
template <typename T, int WIDTH>
static __device__ __forceinline__ void set_pair(raw_values<T, WIDTH> &v, int pair, float2 to) {
    if constexpr (sizeof(T) == 4) {
        v.words[2 * pair] = __float_as_uint(to.x), v.words[2 * pair + 1] = __float_as_uint(to.y);
    } else {
        v.words[pair] = emb_pack<T>(to.x, to.y);
    }
}

/* As many as an H200 holds at once; the same on every device, for they decide the order of the
 * sums. A multiple of WARPS * ADD_AHEAD. */
static __host__ __device__ uint32_t blocks_of(uint32_t hidden) {
    return hidden <= 512 ? 384 : hidden <= 768 ? 256 : 128;
}

struct norm_back_task {
    float *partials;   /* [blocks_of(hidden), 2, hidden] */
    const float *gain; /* [hidden] */
    const uint32_t *counts;
    float epsilon;
    uint32_t hidden;
};

/* A warp's row: VECTORS times WIDTH columns a lane. */
template <typename T, int VECTORS, int WIDTH, bool ADDS> struct norm_row {
    raw_values<T, WIDTH> x[VECTORS], d[VECTORS], more[ADDS ? VECTORS : 1];
};

template <typename T, int VECTORS, int WIDTH, bool ADDS>
static __device__ __forceinline__ void load_row(norm_row<T, VECTORS, WIDTH, ADDS> &row, const T *d,
                                                const T *more, const T *sum, uint64_t at,
                                                uint32_t hidden) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        uint32_t col = (v * 32 + (threadIdx.x & 31)) * WIDTH;
        row.x[v] = {}, row.d[v] = {};
        if (col >= hidden) continue;
        load_raw<T, WIDTH>(row.x[v], sum + at + col);
        load_raw<T, WIDTH>(row.d[v], d + at + col);
        if (ADDS) load_raw<T, WIDTH>(row.more[v], more + at + col);
    }
}

/* d += more, rounded to the type, as what would write it and read it again. */
template <typename T, int VECTORS, int WIDTH>
static __device__ __forceinline__ void add_more(norm_row<T, VECTORS, WIDTH, true> &row,
                                                uint32_t hidden) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        if ((v * 32 + (threadIdx.x & 31)) * WIDTH >= hidden) continue;
#pragma unroll
        for (int i = 0; i < WIDTH / 2; i++) {
            float2 d = pair_of<T, WIDTH>(row.d[v], i), more = pair_of<T, WIDTH>(row.more[v], i);
            set_pair<T, WIDTH>(row.d[v], i, make_float2(d.x + more.x, d.y + more.y));
        }
    }
}

/* Mean of a row, and one over its deviation. */
template <typename T, int VECTORS, int WIDTH, bool ADDS>
static __device__ __forceinline__ float2 moments(const norm_row<T, VECTORS, WIDTH, ADDS> &row,
                                                 const norm_back_task &task) {
    float sum = 0, squares = 0;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
#pragma unroll
        for (int i = 0; i < WIDTH / 2; i++) {
            float2 x = pair_of<T, WIDTH>(row.x[v], i);
            sum += x.x + x.y;
        }
    }
    float mean = emb_warp_sum(sum) / (float)task.hidden;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        if ((v * 32 + (threadIdx.x & 31)) * WIDTH >= task.hidden) continue;
#pragma unroll
        for (int i = 0; i < WIDTH / 2; i++) {
            float2 x = pair_of<T, WIDTH>(row.x[v], i);
            squares = fmaf(x.x - mean, x.x - mean, squares);
            squares = fmaf(x.y - mean, x.y - mean, squares);
        }
    }
    float variance = emb_warp_sum(squares) / (float)task.hidden;
    return make_float2(mean, 1.0f / sqrtf(variance + task.epsilon) + emb_not_overflown(variance));
}

/* The gain of a block in shared memory, so laid that a warp reads it without bank conflicts. */
template <int VECTORS, int WIDTH> struct shared_gain { float4 values[VECTORS][WIDTH / 4][32]; };

template <int VECTORS, int WIDTH>
static __device__ __forceinline__ void load_gain(shared_gain<VECTORS, WIDTH> &gain,
                                                 const norm_back_task &task) {
    for (uint32_t i = threadIdx.x; i < VECTORS * WIDTH * 8; i += THREADS) {
        uint32_t col = i * 4, lane = col / WIDTH % 32;
        float4 v = make_float4(0, 0, 0, 0);
        if (col < task.hidden) v = *reinterpret_cast<const float4 *>(task.gain + col);
        gain.values[col / WIDTH / 32][col % WIDTH / 4][lane] = v;
    }
    __syncthreads();
}

/* One pair of columns of a row; away is minus mean times factor. */
struct norm_pair {
    float2 d, y, g;

    __device__ __forceinline__ norm_pair(float2 x, float2 d_, float2 gain, float factor, float away)
        : d(d_) {
        y = make_float2(fmaf(x.x, factor, away), fmaf(x.y, factor, away));
        g = make_float2(d.x * gain.x, d.y * gain.y);
    }
};

/* With y = (x - mean) * factor and g = d * gain: d = (g - mean(g) - y * mean(g * y)) * factor. What
 * d was, times y and by itself, is added to the gradients of gain and shift. */
template <typename T, int VECTORS, int WIDTH, bool ADDS>
static __device__ __forceinline__ void
back_row(T *out, norm_row<T, VECTORS, WIDTH, ADDS> &row, float2 (&d_gain)[VECTORS][WIDTH / 2],
         float2 (&d_shift)[VECTORS][WIDTH / 2], const shared_gain<VECTORS, WIDTH> &gain,
         const norm_back_task &task) {
    float2 moment = moments<T, VECTORS, WIDTH, ADDS>(row, task);
    float away = -moment.x * moment.y, sum = 0, along = 0;
    uint32_t lane = threadIdx.x & 31;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        if ((v * 32 + lane) * WIDTH >= task.hidden) continue;
#pragma unroll
        for (int i = 0; i < WIDTH / 2; i++) {
            float4 four = gain.values[v][i / 2][lane];
            norm_pair p(pair_of<T, WIDTH>(row.x[v], i), pair_of<T, WIDTH>(row.d[v], i),
                        i % 2 ? make_float2(four.z, four.w) : make_float2(four.x, four.y), moment.y,
                        away);
            d_gain[v][i].x = fmaf(p.d.x, p.y.x, d_gain[v][i].x);
            d_gain[v][i].y = fmaf(p.d.y, p.y.y, d_gain[v][i].y);
            d_shift[v][i].x += p.d.x, d_shift[v][i].y += p.d.y;
            sum += p.g.x + p.g.y;
            along = fmaf(p.g.x, p.y.x, fmaf(p.g.y, p.y.y, along));
        }
    }
    sum = emb_warp_sum(sum) / (float)task.hidden;
    along = emb_warp_sum(along) / (float)task.hidden;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        uint32_t col = (v * 32 + lane) * WIDTH;
        if (col >= task.hidden) continue;
#pragma unroll
        for (int i = 0; i < WIDTH / 2; i++) {
            float4 four = gain.values[v][i / 2][lane];
            norm_pair p(pair_of<T, WIDTH>(row.x[v], i), pair_of<T, WIDTH>(row.d[v], i),
                        i % 2 ? make_float2(four.z, four.w) : make_float2(four.x, four.y), moment.y,
                        away);
            set_pair<T, WIDTH>(row.d[v], i,
                               make_float2((p.g.x - sum - p.y.x * along) * moment.y,
                                           (p.g.y - sum - p.y.y * along) * moment.y));
        }
        store_raw<T, WIDTH>(out + col, row.d[v]);
    }
}

/* Adds the warps' sums in order, a vector of every lane at a time, and writes them to `out` [2,
 * hidden]. */
template <int VECTORS, int WIDTH>
static __device__ __forceinline__ void
add_warps(float *out, const float2 (&d_gain)[VECTORS][WIDTH / 2],
          const float2 (&d_shift)[VECTORS][WIDTH / 2], uint32_t hidden) {
    constexpr uint32_t COLS = 32 * WIDTH;
    __shared__ float2 shared[2][WARPS][COLS / 2];
    uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < WIDTH / 2; i++) {
            shared[0][warp][lane * (WIDTH / 2) + i] = d_gain[v][i];
            shared[1][warp][lane * (WIDTH / 2) + i] = d_shift[v][i];
        }
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < COLS; i += THREADS) {
            uint32_t which = i / (COLS / 2), col = v * COLS + i % (COLS / 2) * 2;
            float2 sum = make_float2(0, 0);
            for (int w = 0; w < WARPS; w++) {
                float2 next = shared[which][w][i % (COLS / 2)];
                sum.x += next.x, sum.y += next.y;
            }
            if (col >= hidden) continue;
            *reinterpret_cast<float2 *>(out + which * hidden + col) = sum;
        }
    }
}

template <typename T, int VECTORS, int WIDTH, bool ADDS>
static __global__ void __launch_bounds__(THREADS)
    norm_back_kernel(T *d, const T *more, const T *sum, norm_back_task task) {
    /* the next row is loaded before this one is waited for, if registers hold both */
    constexpr bool AHEAD = sizeof(T) == 2 || VECTORS * WIDTH <= 24;
    __shared__ shared_gain<VECTORS, WIDTH> gain;
    emb_kernel_begin();
    uint32_t tokens = task.counts[0], token = blockIdx.x * WARPS + (threadIdx.x >> 5);
    uint32_t turn = gridDim.x * WARPS;
    float2 d_gain[VECTORS][WIDTH / 2] = {}, d_shift[VECTORS][WIDTH / 2] = {};
    norm_row<T, VECTORS, WIDTH, ADDS> next;
    if (AHEAD && token < tokens) {
        load_row<T, VECTORS, WIDTH, ADDS>(next, d, more, sum, (uint64_t)token * task.hidden,
                                          task.hidden);
    }
    load_gain<VECTORS, WIDTH>(gain, task);
    for (; token < tokens; token += turn) {
        uint64_t at = (uint64_t)token * task.hidden, after = at + (uint64_t)turn * task.hidden;
        norm_row<T, VECTORS, WIDTH, ADDS> row = next;
        if (!AHEAD) {
            load_row<T, VECTORS, WIDTH, ADDS>(row, d, more, sum, at, task.hidden);
        } else if (token + turn < tokens) {
            load_row<T, VECTORS, WIDTH, ADDS>(next, d, more, sum, after, task.hidden);
        }
        if constexpr (ADDS) add_more<T, VECTORS, WIDTH>(row, task.hidden);
        back_row<T, VECTORS, WIDTH, ADDS>(d + at, row, d_gain, d_shift, gain, task);
    }
    add_warps<VECTORS, WIDTH>(task.partials + (uint64_t)blockIdx.x * 2 * task.hidden, d_gain,
                              d_shift, task.hidden);
}

/* Adds the blocks' partials of ADD_COLS columns; a warp takes every eighth block. */
static __global__ void __launch_bounds__(THREADS)
    add_kernel(float *d_gain, float *d_shift, const float *partials, uint32_t hidden) {
    __shared__ float sums[WARPS][ADD_COLS];
    emb_kernel_begin();
    uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    uint32_t col = blockIdx.x * ADD_COLS + lane; /* of gain and shift side by side */
    uint32_t blocks = col < 2 * hidden ? blocks_of(hidden) : 0;
    float sum = 0;
    for (uint32_t b = warp; b < blocks; b += WARPS * ADD_AHEAD) {
        const float *from = partials + (uint64_t)b * 2 * hidden + col;
        float all[ADD_AHEAD];
#pragma unroll
        for (int i = 0; i < ADD_AHEAD; i++) all[i] = from[(uint64_t)i * WARPS * 2 * hidden];
#pragma unroll
        for (int i = 0; i < ADD_AHEAD; i++) sum += all[i];
    }
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp || col >= 2 * hidden) return;
    for (int i = 1; i < WARPS; i++) sum += sums[i][lane];
    *(col < hidden ? d_gain + col : d_shift + col - hidden) += sum;
}

template <typename T, bool ADDS>
static int norm_back_run(void *d, const void *more, float *d_gain, float *d_shift, const void *sum,
                         const norm_back_task &task, const emb_cuda_batch *batch,
                         cudaStream_t stream) {
    uint32_t hidden = task.hidden;
    auto kernel = hidden <= 256    ? norm_back_kernel<T, 2, 4, ADDS>
                  : hidden <= 384  ? norm_back_kernel<T, 3, 4, ADDS>
                  : hidden <= 512  ? norm_back_kernel<T, 4, 4, ADDS>
                  : hidden <= 768  ? norm_back_kernel<T, 3, 8, ADDS>
                  : hidden <= 1024 ? norm_back_kernel<T, 4, 8, ADDS>
                                   : norm_back_kernel<T, 6, 8, ADDS>;
    int status = emb_launch(kernel, dim3(blocks_of(hidden)), THREADS, 0, batch, stream, (T *)d,
                            (const T *)more, (const T *)sum, task);
    if (status) return status;
    return emb_launch(add_kernel, dim3((2 * hidden + ADD_COLS - 1) / ADD_COLS), THREADS, 0, batch,
                      stream, d_gain, d_shift, (const float *)task.partials, hidden);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static bool takes(uint32_t hidden) {
    return hidden && hidden % 8 == 0 && hidden <= EMB_CUDA_HIDDEN_MAX;
}

int emb_cuda_train_norm(void *out, const void *sum, const emb_cuda_norm *norm, uint32_t hidden,
                        const emb_cuda_batch *batch, emb_dtype type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (!takes(hidden)) return cudaErrorInvalidValue;
    if (!batch->tokens_max) return 0;
    if (type == EMB_DTYPE_F32) return norm_run<float>(out, sum, norm, hidden, batch, s);
    if (type == EMB_DTYPE_BF16) return norm_run<emb_bf16>(out, sum, norm, hidden, batch, s);
    if (type == EMB_DTYPE_F16) return norm_run<emb_f16>(out, sum, norm, hidden, batch, s);
    return cudaErrorNotSupported;
}

uint64_t emb_cuda_train_norm_bytes(uint32_t hidden) {
    return (uint64_t)blocks_of(hidden) * 2 * hidden * sizeof(float);
}

int emb_cuda_train_norm_back(void *d, const void *more, float *d_gain, float *d_shift,
                             float *partials, const void *sum, const float *gain, float epsilon,
                             uint32_t hidden, const emb_cuda_batch *batch, emb_dtype type,
                             void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    norm_back_task task = {partials, gain, batch->counts, epsilon, hidden};
    if (!takes(hidden)) return cudaErrorInvalidValue;
    auto run = type == EMB_DTYPE_F32
                   ? more ? norm_back_run<float, true> : norm_back_run<float, false>
               : type == EMB_DTYPE_BF16
                   ? more ? norm_back_run<emb_bf16, true> : norm_back_run<emb_bf16, false>
               : type == EMB_DTYPE_F16
                   ? more ? norm_back_run<emb_f16, true> : norm_back_run<emb_f16, false>
                   : NULL;
    return run ? run(d, more, d_gain, d_shift, sum, task, batch, s) : cudaErrorNotSupported;
}
