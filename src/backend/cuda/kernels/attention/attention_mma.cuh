/* attention_mma.cuh - attention of a batch on tensor cores, for 16-bit types, sm_75 and up.
 *
 * A work item is (chunk, 64 query rows, head); its four warps hold 16 rows each and walk the keys
 * of the chunk in blocks of 64 with an online softmax, so no score ever leaves the registers.
 * Blocks start at the chunk's first key, so other chunks cannot affect the result.
 * Legend: D head_dim rounded up to 32, 64 or 128 (columns past head_dim are zeros).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_KERNELS_ATTENTION_ATTENTION_MMA_CUH
#define EMB_BACKEND_CUDA_KERNELS_ATTENTION_ATTENTION_MMA_CUH

#include "backend/cuda/kernels/attention/attention.cuh"

#define THREADS 128

/* Queries of this item and the next, keys and values of this block and the next, the bias. */
template <int D> struct buffers {
    static constexpr int TILE = 64 * D * 2; /* bytes of 64 rows */
    static constexpr int KEYS_AT = 2 * TILE;
    static constexpr int BIAS_AT = 6 * TILE;
    static constexpr int BYTES = BIAS_AT + 128 * 4;
};

/* One block of keys of one work item. `flip`: the buffer that has the item's queries. */
struct cursor {
    uint4 tile; /* first token and length of the chunk, first query row */
    uint32_t item, block, flip;
};

template <typename T>
static __device__ __forceinline__ void step(cursor &c, const emb_attention<T> &p, uint32_t items) {
    if (++c.block * KEYS < c.tile.y) return;
    c.block = 0, c.flip ^= 1, c.item += gridDim.x;
    if (c.item < items) c.tile = p.tiles[1 + c.item / p.heads];
}

/* 64 rows of one head from token `first`; zeros past `count` rows and past head_dim. */
template <typename T, int D>
static __device__ __forceinline__ void load_rows(uint32_t to, const T *from, uint32_t stride,
                                                 uint32_t count, uint32_t head_dim) {
    constexpr int PIECES = D / 8, STEP = THREADS / PIECES;
    uint32_t piece = threadIdx.x % PIECES, row = threadIdx.x / PIECES;
#pragma unroll
    for (int i = 0; i < 64; i += STEP) {
        bool valid = row + i < count && piece * 8 < head_dim;
        emb_copy16(to + emb_swizzle<PIECES>(row + i, piece),
                   valid ? from + (uint64_t)(row + i) * stride + piece * 8 : from, valid);
    }
}

/* scores [16, 64] = a warp's 16 rows of the query tile * keys [64, D]^T; groups of 16 keys past
 * `keys` are left as they are. Queries are read again for each block, to save registers. */
template <typename T, int D>
static __device__ __forceinline__ void multiply_keys(float (&scores)[KEYS / 8][4], uint32_t queries,
                                                     uint32_t warp_row, uint32_t tile,
                                                     uint32_t keys) {
    uint32_t lane = threadIdx.x & 31;
    uint32_t row = ((lane >> 4) << 3) + (lane & 7), piece = (lane >> 3) & 1;
#pragma unroll
    for (int d = 0; d < D / 16; d++) {
        uint32_t a[4];
        emb_ldmatrix(a, queries + emb_swizzle<D / 8>(warp_row + (lane & 15), 2 * d + (lane >> 4)));
#pragma unroll
        for (int n = 0; n < KEYS / 16; n++) {
            if (n * 16 >= keys) continue;
            uint32_t b[4];
            emb_ldmatrix(b, tile + emb_swizzle<D / 8>(row + n * 16, 2 * d + piece));
            emb_mma<T>(scores[2 * n], a, b[0], b[1]);
            emb_mma<T>(scores[2 * n + 1], a, b[2], b[3]);
        }
    }
}

/* context [16, D] += weights [16, 64] * values [64, D]. */
template <typename T, int D>
static __device__ __forceinline__ void multiply_values(float (&context)[D / 8][4],
                                                       const float (&weights)[KEYS / 8][4],
                                                       uint32_t tile, uint32_t keys) {
    uint32_t lane = threadIdx.x & 31, row = lane & 15, piece = lane >> 4;
#pragma unroll
    for (int n = 0; n < KEYS / 16; n++) {
        if (n * 16 >= keys) continue;
        uint32_t a[4] = {emb_pack<T>(weights[2 * n][0], weights[2 * n][1]),
                         emb_pack<T>(weights[2 * n][2], weights[2 * n][3]),
                         emb_pack<T>(weights[2 * n + 1][0], weights[2 * n + 1][1]),
                         emb_pack<T>(weights[2 * n + 1][2], weights[2 * n + 1][3])};
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
            uint32_t b[4];
            emb_ldmatrix_transposed(b, tile + emb_swizzle<D / 8>(row + n * 16, 2 * d + piece));
            emb_mma<T>(context[2 * d], a, b[0], b[1]);
            emb_mma<T>(context[2 * d + 1], a, b[2], b[3]);
        }
    }
}

/* The bias of query row r and key k of this block is bias[k - r + ROWS - 1]. */
template <typename T>
static __device__ __forceinline__ void load_bias(float *bias, const emb_attention<T> &p,
                                                 uint32_t head, uint32_t first_row,
                                                 uint32_t first_key) {
    int span = 2 * (int)p.relative_tokens - 1;
    int place = (int)first_key - (int)first_row + (int)threadIdx.x - (ROWS - 1) +
                (int)p.relative_tokens - 1;
    bool inside = place >= 0 && place < span;
    bias[threadIdx.x] = inside ? p.relative[(int)head * span + place] * LOG2E : 0.0f;
}

/* Starts the copies for a cursor: keys and values to `stage`, queries if they are new. */
template <typename T, int D>
static __device__ __forceinline__ void load_block(const cursor &c, const emb_attention<T> &p,
                                                  uint32_t shared, uint32_t stage) {
    constexpr uint32_t TILE = buffers<D>::TILE;
    uint32_t stride = 3 * p.hidden, key = c.block * KEYS, left = c.tile.y - key;
    const T *base = p.qkv + (uint64_t)c.tile.x * stride + c.item % p.heads * p.head_dim;
    const T *from = base + (uint64_t)key * stride + p.hidden;
    uint32_t at = shared + buffers<D>::KEYS_AT + stage * 2 * TILE;
    if (c.block == 0) {
        load_rows<T, D>(shared + c.flip * TILE, base + (uint64_t)c.tile.z * stride, stride,
                        c.tile.y - c.tile.z, p.head_dim);
    }
    load_rows<T, D>(at, from, stride, left, p.head_dim);
    load_rows<T, D>(at + TILE, from + p.hidden, stride, left, p.head_dim);
}

/* A warp's state for its 16 query rows. */
template <int D, typename X> struct progress {
    float context[D / 8][4], largest[2], sums[2];
    X extra;
};

template <int D, typename X> static __device__ __forceinline__ void begin(progress<D, X> &state) {
#pragma unroll
    for (int d = 0; d < D / 8; d++) {
        for (int i = 0; i < 4; i++) state.context[d][i] = 0;
    }
    state.largest[0] = state.largest[1] = -1e30f;
    state.sums[0] = state.sums[1] = 0;
}

/* Blocks of keys follow one another across work items; the next one is always being copied. */
template <typename T, int D, bool RELATIVE, typename X>
static __global__ void __launch_bounds__(THREADS, D == 32   ? 5 - X::FEWER_MMA
                                                  : D == 64 ? 4
                                                            : 2)
    attention_kernel(emb_attention<T> p, typename X::params x) {
    extern __shared__ __align__(128) unsigned char memory[];
    typedef buffers<D> B;
    emb_kernel_begin();
    uint32_t items = p.tiles[0].x * p.heads, shared = emb_shared(memory);
    uint32_t warp_row = (threadIdx.x >> 5) * 16, stage = 0;
    float *bias = reinterpret_cast<float *>(memory + B::BIAS_AT);
    if (blockIdx.x >= items) return;
    cursor now = {p.tiles[1 + blockIdx.x / p.heads], blockIdx.x, 0, 0}, ahead = now;
    progress<D, X> state;
    load_block<T, D>(ahead, p, shared, stage);
    emb_copy_commit();
    for (step(ahead, p, items); now.item < items; step(now, p, items), step(ahead, p, items)) {
        uint32_t rows = min(now.tile.y - now.tile.z, (uint32_t)ROWS), head = now.item % p.heads;
        uint32_t left = now.tile.y - now.block * KEYS, keys = min(left, (uint32_t)KEYS);
        uint32_t at = shared + B::KEYS_AT + stage * 2 * B::TILE;
        if (ahead.item < items) load_block<T, D>(ahead, p, shared, stage ^ 1);
        emb_copy_commit();
        if (RELATIVE) load_bias<T>(bias, p, head, now.tile.z, now.block * KEYS);
        emb_copy_wait<1>();
        __syncthreads();
        if (warp_row < rows) {
            if (now.block == 0) {
                begin(state);
                state.extra.begin(x, now.tile, head, warp_row);
            }
            float scores[KEYS / 8][4] = {};
            multiply_keys<T, D>(scores, shared + now.flip * B::TILE, warp_row, at, keys);
            emb_attention_mask<RELATIVE>(scores, p.scale, bias, warp_row, keys);
            emb_attention_update_softmax<D>(scores, state.context, state.largest, state.sums,
                                            RELATIVE ? 1.0f : p.scale);
            state.extra.change(x, scores, now.block * KEYS);
            multiply_values<T, D>(state.context, scores, at + B::TILE, keys);
            if (left <= KEYS) {
                emb_attention_sums(state.sums);
                state.extra.end(x, state.largest, state.sums, RELATIVE ? 1.0f : p.scale, rows);
                T *out = p.out + (uint64_t)(now.tile.x + now.tile.z) * p.hidden;
                emb_attention_finish<T, D>(p, state.context, state.sums,
                                           memory + now.flip * B::TILE, out + head * p.head_dim,
                                           warp_row, rows);
            }
        }
        __syncthreads();
        stage ^= 1;
    }
}

template <typename T, int D, bool RELATIVE, typename X>
static int attention_launch(const emb_attention<T> &p, const typename X::params &x,
                            const emb_cuda_batch *batch, const emb_cuda_device *device,
                            cudaStream_t stream) {
    constexpr int BYTES = buffers<D>::BYTES;
    uint32_t items = (batch->tokens_max / EMB_CUDA_QUERY_ROWS + batch->chunks_max) * p.heads;
    int resident = 0; /* blocks of a multiprocessor: one wave of them walks all items */
    int status = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        &resident, attention_kernel<T, D, RELATIVE, X>, THREADS, BYTES);
    if (status) return status;
    uint32_t blocks = device->multiprocessors * (resident > 0 ? (uint32_t)resident : 1u);
    return emb_launch(attention_kernel<T, D, RELATIVE, X>, dim3(items < blocks ? items : blocks),
                      THREADS, BYTES, batch, stream, p, x);
}

template <typename T, int D, typename X>
static int attention_kind(const emb_attention<T> &p, const typename X::params &x,
                          const emb_cuda_batch *batch, const emb_cuda_device *device,
                          cudaStream_t stream) {
    if (p.relative) return attention_launch<T, D, true, X>(p, x, batch, device, stream);
    return attention_launch<T, D, false, X>(p, x, batch, device, stream);
}

template <typename T, typename X>
static int attention_sized(void *out, const void *qkv, const emb_cuda_heads *heads,
                           const typename X::params &x, const emb_cuda_batch *batch,
                           const emb_cuda_device *device, cudaStream_t stream) {
    emb_attention<T> p = emb_attention_make<T>(out, qkv, heads, batch);
    if (p.head_dim <= 32) return attention_kind<T, 32, X>(p, x, batch, device, stream);
    if (p.head_dim <= 64) return attention_kind<T, 64, X>(p, x, batch, device, stream);
    return attention_kind<T, 128, X>(p, x, batch, device, stream);
}

#endif
