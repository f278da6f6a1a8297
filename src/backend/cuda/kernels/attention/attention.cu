/* attention.cu - attention of a batch in plain f32 arithmetic, and the choice of kernel.
 *
 * For f32, and for head sizes that are not a multiple of 16 bytes. A work item is (chunk, 64 query
 * rows, head); a warp holds 8 rows. Scores: a lane owns a key; context: a lane owns columns. Blocks
 * of 32 keys start at the chunk's first key, with an online softmax.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/device.cuh"

#define THREADS   256
#define ROWS      EMB_CUDA_QUERY_ROWS
#define WARP_ROWS 8
#define KEYS      32

struct attention {
    void *out;       /* [tokens, hidden] */
    const void *qkv; /* [tokens, 3 * hidden] */
    const uint4 *tiles;
    const float *relative;
    uint32_t hidden, heads, head_dim, relative_tokens;
    float scale;
};

/* What a block keeps in shared memory; D is head_dim rounded up to a multiple of 32. */
template <int D> struct buffers {
    float queries[ROWS][D];
    float rows[KEYS][D + 4]; /* keys, then values, of a block */
    float weights[ROWS][KEYS];
};

template <typename T, int D>
static __device__ void load_rows(float *to, uint32_t to_stride, const T *from, uint32_t stride,
                                 uint32_t rows, uint32_t count, uint32_t head_dim) {
    for (uint32_t i = threadIdx.x; i < rows * D; i += THREADS) {
        uint32_t row = i / D, col = i % D;
        bool valid = row < count && col < head_dim;
        to[row * to_stride + col] = valid ? emb_from(from[(uint64_t)row * stride + col]) : 0.0f;
    }
}

static __device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        v = fmaxf(v, __shfl_xor_sync(EMB_FULL_WARP, v, step));
    }
    return v;
}

/* Scores of a warp's rows against the key of this lane. */
template <int D>
static __device__ __forceinline__ void score(float (&scores)[WARP_ROWS], const buffers<D> &b,
                                             uint32_t warp_row, uint32_t lane) {
#pragma unroll 4
    for (int d = 0; d < D; d += 4) {
        float4 key = *reinterpret_cast<const float4 *>(&b.rows[lane][d]);
#pragma unroll
        for (int r = 0; r < WARP_ROWS; r++) {
            float4 query = *reinterpret_cast<const float4 *>(&b.queries[warp_row + r][d]);
            scores[r] = fmaf(query.x, key.x, scores[r]);
            scores[r] = fmaf(query.y, key.y, scores[r]);
            scores[r] = fmaf(query.z, key.z, scores[r]);
            scores[r] = fmaf(query.w, key.w, scores[r]);
        }
    }
}

/* The running state of a warp's rows; `largest` and `sums` are the same in every lane. */
template <int D> struct progress {
    float context[WARP_ROWS][D / 32], largest[WARP_ROWS], sums[WARP_ROWS];
};

/* Scores to weights in shared memory, rescaling what was summed before. */
template <int D>
static __device__ __forceinline__ void
update_softmax(progress<D> &state, float (&scores)[WARP_ROWS], buffers<D> &b, const attention &p,
               uint32_t head, uint32_t first_row, uint32_t warp_row, uint32_t key, bool valid) {
    uint32_t lane = threadIdx.x & 31;
    const float *bias = p.relative + (uint64_t)head * (2 * p.relative_tokens - 1);
#pragma unroll
    for (int r = 0; r < WARP_ROWS; r++) {
        float value = scores[r] * p.scale;
        int place = (int)key - (int)(first_row + warp_row + r) + (int)p.relative_tokens - 1;
        if (p.relative && valid && place >= 0) value += bias[place];
        if (!valid) value = -INFINITY;
        float top = fmaxf(state.largest[r], warp_max(value));
        float keep = expf(state.largest[r] - top), weight = expf(value - top);
        state.largest[r] = top;
        state.sums[r] = fmaf(state.sums[r], keep, emb_warp_sum(weight));
#pragma unroll
        for (int i = 0; i < D / 32; i++) state.context[r][i] *= keep;
        b.weights[warp_row + r][lane] = weight;
    }
}

template <int D>
static __device__ __forceinline__ void gather(progress<D> &state, const buffers<D> &b,
                                              uint32_t warp_row, uint32_t lane) {
#pragma unroll 2
    for (int key = 0; key < KEYS; key += 4) {
        float value[4][D / 32];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            for (int i = 0; i < D / 32; i++) value[k][i] = b.rows[key + k][lane + 32 * i];
        }
#pragma unroll
        for (int r = 0; r < WARP_ROWS; r++) {
            float4 weight = *reinterpret_cast<const float4 *>(&b.weights[warp_row + r][key]);
            for (int i = 0; i < D / 32; i++) {
                float sum = fmaf(weight.x, value[0][i], state.context[r][i]);
                sum = fmaf(weight.y, value[1][i], sum);
                sum = fmaf(weight.z, value[2][i], sum);
                state.context[r][i] = fmaf(weight.w, value[3][i], sum);
            }
        }
    }
}

template <typename T, int D>
static __device__ void finish(const attention &p, const progress<D> &state, uint32_t first,
                              uint32_t head, uint32_t warp_row, uint32_t rows) {
    uint32_t lane = threadIdx.x & 31;
#pragma unroll
    for (int r = 0; r < WARP_ROWS; r++) {
        if (warp_row + r >= rows) continue;
        T *out = (T *)p.out + (uint64_t)(first + warp_row + r) * p.hidden + head * p.head_dim;
        for (int i = 0; i < D / 32; i++) {
            uint32_t col = lane + 32 * i;
            if (col < p.head_dim) out[col] = emb_to<T>(state.context[r][i] / state.sums[r]);
        }
    }
}

template <typename T, int D>
static __device__ void attend(const attention &p, buffers<D> &b, uint4 tile, uint32_t head) {
    uint32_t stride = 3 * p.hidden, length = tile.y, rows = min(length - tile.z, (uint32_t)ROWS);
    const T *base = (const T *)p.qkv + (uint64_t)tile.x * stride + head * p.head_dim;
    uint32_t lane = threadIdx.x & 31, warp_row = (threadIdx.x >> 5) * WARP_ROWS;
    load_rows<T, D>(&b.queries[0][0], D, base + (uint64_t)tile.z * stride, stride, ROWS, rows,
                    p.head_dim);
    progress<D> state;
#pragma unroll
    for (int r = 0; r < WARP_ROWS; r++) {
        for (int i = 0; i < D / 32; i++) state.context[r][i] = 0;
        state.largest[r] = -1e30f, state.sums[r] = 0;
    }
    for (uint32_t key = 0; key < length; key += KEYS) {
        const T *from = base + (uint64_t)key * stride + p.hidden;
        load_rows<T, D>(&b.rows[0][0], D + 4, from, stride, KEYS, length - key, p.head_dim);
        __syncthreads();
        float scores[WARP_ROWS] = {};
        if (warp_row < rows) {
            score<D>(scores, b, warp_row, lane);
            update_softmax<D>(state, scores, b, p, head, tile.z, warp_row, key + lane,
                              key + lane < length);
        }
        __syncthreads();
        load_rows<T, D>(&b.rows[0][0], D + 4, from + p.hidden, stride, KEYS, length - key,
                        p.head_dim);
        __syncthreads();
        if (warp_row < rows) gather<D>(state, b, warp_row, lane);
        __syncthreads();
    }
    finish<T, D>(p, state, tile.x + tile.z, head, warp_row, rows);
}

template <typename T, int D>
static __global__ void __launch_bounds__(THREADS, 1) attention_kernel(attention p) {
    extern __shared__ __align__(16) unsigned char memory[];
    emb_kernel_begin();
    uint32_t items = p.tiles[0].x * p.heads;
    for (uint32_t item = blockIdx.x; item < items; item += gridDim.x) {
        attend<T, D>(p, *reinterpret_cast<buffers<D> *>(memory), p.tiles[1 + item / p.heads],
                     item % p.heads);
    }
}

template <typename T, int D>
static int attention_launch(const attention &p, const emb_cuda_batch *batch,
                            const emb_cuda_device *device, cudaStream_t stream) {
    constexpr int BYTES = (int)sizeof(buffers<D>);
    uint32_t items = (batch->tokens_max / EMB_CUDA_QUERY_ROWS + batch->chunks_max) * p.heads;
    uint32_t resident = device->multiprocessors * 4;
    uint32_t blocks = items < resident ? items : resident;
    return emb_launch(attention_kernel<T, D>, dim3(blocks), THREADS, BYTES, batch, stream, p);
}

template <typename T>
static int attention_plain(void *out, const void *qkv, const emb_cuda_heads *heads,
                           const emb_cuda_batch *batch, const emb_cuda_device *device,
                           cudaStream_t stream) {
    attention p = {out,
                   qkv,
                   (const uint4 *)batch->query_tiles,
                   heads->relative,
                   heads->hidden,
                   heads->heads,
                   heads->head_dim,
                   heads->relative_tokens,
                   1.0f / sqrtf((float)heads->head_dim)};
    if (p.head_dim <= 32) return attention_launch<T, 32>(p, batch, device, stream);
    if (p.head_dim <= 64) return attention_launch<T, 64>(p, batch, device, stream);
    return attention_launch<T, 128>(p, batch, device, stream);
}

int emb_cuda_attention(void *out, const void *qkv, const emb_cuda_heads *heads,
                       const emb_cuda_batch *batch, emb_dtype type, const emb_cuda_device *device,
                       void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (!heads->head_dim || heads->head_dim > EMB_CUDA_HEAD_DIM_MAX || !heads->heads) {
        return cudaErrorInvalidValue;
    }
    if (heads->hidden != heads->heads * heads->head_dim) return cudaErrorInvalidValue;
    if (type == EMB_DTYPE_F32) return attention_plain<float>(out, qkv, heads, batch, device, s);
    if (type == EMB_DTYPE_BF16 && device->capability < 80) return cudaErrorNotSupported;
    bool hopper = device->capability == 90 && (heads->head_dim == 32 || heads->head_dim == 64);
    if (hopper) return emb_cuda_attention_wgmma(out, qkv, heads, batch, type, device, stream);
    bool fits = device->capability >= 80 || heads->head_dim <= 64; /* in shared memory */
    if (heads->head_dim % 8 == 0 && fits) {
        return emb_cuda_attention_mma(out, qkv, heads, batch, type, device, stream);
    }
    if (type == EMB_DTYPE_F16) return attention_plain<emb_f16>(out, qkv, heads, batch, device, s);
    if (type == EMB_DTYPE_BF16) return attention_plain<emb_bf16>(out, qkv, heads, batch, device, s);
    return cudaErrorInvalidValue;
}
