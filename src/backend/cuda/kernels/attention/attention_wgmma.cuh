/* attention_wgmma.cuh - attention of a batch on Hopper's warpgroup products; sm_90a only.
 *
 * A work item is (chunk, 64 query rows, head), as in attention_mma.cuh, and its bits are the same.
 * Tensor copies bring the next block of keys and values (and the next item's queries) while the
 * warpgroup works on this one; operands never pass through registers, except the weights, which are
 * computed there. Several blocks per multiprocessor: one's softmax overlaps another's products.
 * Legend: D head_dim, 32 or 64.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_KERNELS_ATTENTION_ATTENTION_WGMMA_CUH
#define EMB_BACKEND_CUDA_KERNELS_ATTENTION_ATTENTION_WGMMA_CUH

#include "backend/cuda/kernels/attention/attention.cuh"
#include "backend/cuda/kernels/wgmma.cuh"

#define THREADS 128

/* Queries of this item and the next; keys, values and bias of this block and the next. */
template <int D> struct buffers {
    static constexpr int TILE = 64 * D * 2; /* bytes of 64 rows */
    static constexpr int KEYS_AT = 2 * TILE;
    static constexpr int BIAS_AT = 6 * TILE;
    static constexpr int BARRIERS_AT = BIAS_AT + 2 * 128 * 4;
    static constexpr int BYTES = 1024 + BARRIERS_AT + 2 * 8;
};

/* Blocks on a multiprocessor. */
template <int D, typename X> constexpr uint32_t RESIDENT = D == 32 ? 6 - X::FEWER_WGMMA : 4;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* A block's items: the current one and, read ahead, the next. */
struct walk {
    uint4 tile, next_tile; /* first token and length of the chunk, first query row */
    uint32_t tiles, number, head, next_number, next_head;
};

template <typename T>
static __device__ __forceinline__ void look_ahead(walk &w, const emb_attention<T> &p) {
    w.next_number = w.number + gridDim.x / p.heads, w.next_head = w.head + gridDim.x % p.heads;
    if (w.next_head >= p.heads) w.next_head -= p.heads, w.next_number++;
    if (w.next_number < w.tiles) w.next_tile = p.tiles[1 + w.next_number];
}

/* Starts the copies of a block's keys and values, and of the item's queries if the block is its
 * first. */
template <typename T, int D>
static __device__ __forceinline__ void load_block(const CUtensorMap *map, const emb_attention<T> &p,
                                                  uint32_t shared, const uint4 &tile, uint32_t head,
                                                  uint32_t block, uint32_t stage, uint32_t flip) {
    typedef buffers<D> B;
    uint32_t full = shared + B::BARRIERS_AT + stage * 8, at = shared + B::KEYS_AT;
    int col = (int)(head * D), row = (int)(tile.x + block * KEYS), width = (int)p.hidden;
    at += stage * 2 * B::TILE;
    emb_barrier_expect(full, (block ? 2 : 3) * B::TILE);
    if (!block) emb_tensor_load(shared + flip * B::TILE, map, col, (int)(tile.x + tile.z), full);
    emb_tensor_load(at, map, col + width, row, full);
    emb_tensor_load(at + B::TILE, map, col + 2 * width, row, full);
}

/* This thread's part of a block's bias: for query row r and key k it stands at k - r + ROWS - 1. */
template <typename T>
static __device__ __forceinline__ float read_bias(const emb_attention<T> &p, const uint4 &tile,
                                                  uint32_t head, uint32_t block) {
    int span = 2 * (int)p.relative_tokens - 1;
    int place = (int)(block * KEYS) - (int)tile.z + (int)threadIdx.x - (ROWS - 1) +
                (int)p.relative_tokens - 1;
    bool inside = place >= 0 && place < span;
    return inside ? p.relative[(int)head * span + place] * LOG2E : 0.0f;
}

/* Values past the chunk's end are another chunk's or undefined: weights of 0 would not hide a NaN.
 */
template <int D>
static __device__ __forceinline__ void clear_values(unsigned char *tile, uint32_t keys) {
    uint4 *pieces = reinterpret_cast<uint4 *>(tile);
    for (uint32_t i = keys * (D / 8) + threadIdx.x; i < 64 * (D / 8); i += THREADS) {
        pieces[i] = make_uint4(0, 0, 0, 0);
    }
    emb_shared_publish();
    __syncthreads();
}

template <typename T, int D>
static __device__ __forceinline__ void multiply_keys(float (&scores)[KEYS / 8][4], uint32_t queries,
                                                     uint32_t keys) {
    uint64_t a = emb_wgmma_operand<D>(queries), b = emb_wgmma_operand<D>(keys);
    emb_wgmma_fence();
#pragma unroll
    for (int d = 0; d < D / 16; d++) emb_wgmma_scores<T>(scores, a + 2 * d, b + 2 * d, d > 0);
    emb_wgmma_commit();
    emb_wgmma_wait<0>();
    emb_wgmma_done(scores);
}

template <typename T, int D>
static __device__ __forceinline__ void
multiply_values(float (&context)[D / 8][4], const float (&weights)[KEYS / 8][4], uint32_t values) {
    uint64_t b = emb_wgmma_operand<D>(values);
    uint32_t a[KEYS / 16][4];
#pragma unroll
    for (int n = 0; n < KEYS / 16; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *pair = &weights[2 * n + i / 2][i % 2 * 2];
            a[n][i] = emb_pack<T>(pair[0], pair[1]);
        }
    }
    emb_wgmma_fence();
#pragma unroll
    for (int n = 0; n < KEYS / 16; n++) emb_wgmma_values<T>(context, a[n], b + n * 2 * D);
    emb_wgmma_commit();
    emb_wgmma_wait<0>();
    emb_wgmma_done(context);
}

template <typename T, int D, bool RELATIVE, typename X>
static __device__ __forceinline__ void attend(const CUtensorMap *map, const emb_attention<T> &p,
                                              const typename X::params &x, unsigned char *memory,
                                              walk &w) {
    typedef buffers<D> B;
    uint32_t shared = emb_shared(memory), warp_row = (threadIdx.x >> 5) * 16;
    float *bias = reinterpret_cast<float *>(memory + B::BIAS_AT);
    uint32_t step = 0, flip = 0; /* blocks and items done */
    if (threadIdx.x == 0) load_block<T, D>(map, p, shared, w.tile, w.head, 0, 0, 0);
    if (RELATIVE) {
        bias[threadIdx.x] = read_bias(p, w.tile, w.head, 0);
        __syncthreads();
    }
    for (;; w.tile = w.next_tile, w.number = w.next_number, w.head = w.next_head, flip ^= 1) {
        float context[D / 8][4] = {}, largest[2] = {-1e30f, -1e30f}, sums[2] = {};
        X extra;
        look_ahead(w, p);
        extra.begin(x, w.tile, w.head, warp_row);
        for (uint32_t first = 0; first < w.tile.y; first += KEYS, step++) {
            uint32_t stage = step & 1, keys = min(w.tile.y - first, (uint32_t)KEYS);
            bool last = first + KEYS >= w.tile.y, more = !last || w.next_number < w.tiles;
            uint32_t block = last ? 0 : first / KEYS + 1, head = last ? w.next_head : w.head;
            uint4 tile = w.tile;
            if (last) tile = w.next_tile;
            float bias_ahead = 0;
            if (more && threadIdx.x == 0) {
                load_block<T, D>(map, p, shared, tile, head, block, stage ^ 1, flip ^ last);
            }
            if (RELATIVE && more) bias_ahead = read_bias(p, tile, head, block);
            uint32_t at = B::KEYS_AT + stage * 2 * B::TILE;
            emb_barrier_wait(shared + B::BARRIERS_AT + stage * 8, step >> 1 & 1);
            if (keys < KEYS) clear_values<D>(memory + at + B::TILE, keys);
            float scores[KEYS / 8][4];
            multiply_keys<T, D>(scores, shared + flip * B::TILE, shared + at);
            emb_attention_mask<RELATIVE>(scores, p.scale, bias + stage * 128, warp_row, keys);
            emb_attention_update_softmax<D>(scores, context, largest, sums,
                                            RELATIVE ? 1.0f : p.scale);
            extra.change(x, scores, first);
            multiply_values<T, D>(context, scores, shared + at + B::TILE);
            if (RELATIVE) bias[(stage ^ 1) * 128 + threadIdx.x] = bias_ahead;
            __syncthreads(); /* this stage may be written again */
        }
        uint32_t rows = min(w.tile.y - w.tile.z, (uint32_t)ROWS);
        T *out = p.out + (uint64_t)(w.tile.x + w.tile.z) * p.hidden + w.head * D;
        emb_attention_sums(sums);
        extra.end(x, largest, sums, RELATIVE ? 1.0f : p.scale, rows);
        emb_attention_finish<T, D>(p, context, sums, memory + flip * B::TILE, out, warp_row, rows);
        if (w.next_number >= w.tiles) break;
        emb_shared_publish();
        __syncthreads(); /* queries may be copied to where the output was staged */
    }
}

#endif

template <typename T, int D, bool RELATIVE, typename X>
static __global__ void __launch_bounds__(THREADS, RESIDENT<D, X>)
    attention_kernel(const __grid_constant__ CUtensorMap map, emb_attention<T> p,
                     typename X::params x) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ unsigned char raw[];
    unsigned char *memory = raw + (-emb_shared(raw) & 1023u);
    uint32_t barriers = emb_shared(memory) + buffers<D>::BARRIERS_AT;
    if (threadIdx.x == 0) {
        emb_barrier_init(barriers, 1);
        emb_barrier_init(barriers + 8, 1);
        emb_shared_publish();
    }
    __syncthreads();
    emb_kernel_begin();
    walk w;
    w.tiles = p.tiles[0].x, w.number = blockIdx.x / p.heads, w.head = blockIdx.x % p.heads;
    if (w.number >= w.tiles) return;
    w.tile = p.tiles[1 + w.number];
    attend<T, D, RELATIVE, X>(&map, p, x, memory, w);
#else
    __trap(); /* built without sm_90a: never a silent wrong answer */
#endif
}

/* ---- host ------------------------------------------------------------------------------------ */

template <typename T, int D, bool RELATIVE, typename X>
static int attention_launch(const CUtensorMap &map, const emb_attention<T> &p,
                            const typename X::params &x, const emb_cuda_batch *batch,
                            const emb_cuda_device *device, cudaStream_t stream) {
    constexpr int BYTES = buffers<D>::BYTES;
    uint32_t items = (batch->tokens_max / EMB_CUDA_QUERY_ROWS + batch->chunks_max) * p.heads;
    uint32_t blocks = device->multiprocessors * RESIDENT<D, X>;
    return emb_launch(attention_kernel<T, D, RELATIVE, X>, dim3(items < blocks ? items : blocks),
                      THREADS, BYTES, batch, stream, map, p, x);
}

template <typename T, int D, typename X>
static int attention_kind(const CUtensorMap &map, const emb_attention<T> &p,
                          const typename X::params &x, const emb_cuda_batch *batch,
                          const emb_cuda_device *device, cudaStream_t stream) {
    if (p.relative) return attention_launch<T, D, true, X>(map, p, x, batch, device, stream);
    return attention_launch<T, D, false, X>(map, p, x, batch, device, stream);
}

/* head_dim: 32 or 64. */
template <typename T, typename X>
static int attention_sized(void *out, const void *qkv, const emb_cuda_heads *heads,
                           const typename X::params &x, const emb_cuda_batch *batch, emb_dtype type,
                           const emb_cuda_device *device, cudaStream_t stream) {
    CUtensorMap map;
    emb_attention<T> p = emb_attention_make<T>(out, qkv, heads, batch);
    if (p.head_dim != 32 && p.head_dim != 64) return cudaErrorInvalidValue;
    int status =
        emb_tensor_describe(&map, qkv, batch->tokens_max, 3 * p.hidden, KEYS, p.head_dim, type);
    if (status) return status;
    if (p.head_dim == 32) return attention_kind<T, 32, X>(map, p, x, batch, device, stream);
    return attention_kind<T, 64, X>(map, p, x, batch, device, stream);
}

#endif
