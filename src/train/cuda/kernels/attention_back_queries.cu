/* attention_back_queries.cu - the backward pass of attention within longer chunks, for the queries,
 * and for the bias: a block of threads sums over all keys of the chunk for its queries of one head.
 *
 * Leaves the dots of out and d_out for attention_back_keys.cu. With a gradient of the bias a block
 * works on a run of tiles and adds up, in their order, the diagonals of the scores' gradients in a
 * row of its own; at the end the rows of all blocks are added in the order of the blocks.
 * Legend: U the unit that multiplies, emb_back_mma or emb_back_wgmma.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cuda/kernels/back_mma.cuh"
#include "train/cuda/kernels/back_wgmma.cuh"

#define BLOCK 64 /* keys brought at a time */

template <int D> struct shared {
    static constexpr int QUERIES = EMB_BACK_ROWS<D>;
    unsigned char queries[QUERIES * D * 2], d_out[QUERIES * D * 2];
    unsigned char keys[2][BLOCK * D * 2], values[2][BLOCK * D * 2];
    float dots[QUERIES];
    unsigned char gradients[QUERIES * BLOCK * 2]; /* [queries, keys], only for those of the bias */
};

template <typename T, int D>
static __device__ __forceinline__ void load_queries(shared<D> &s, const emb_attention_back<T> &p,
                                                    const emb_head_back<T> &h, uint32_t first) {
    constexpr int THREADS = EMB_BACK_THREADS<D>, ROWS = shared<D>::QUERIES;
    uint32_t stride = 3 * p.hidden, count = min(h.count - first, (uint32_t)ROWS);
    uint64_t at = (uint64_t)first * p.hidden;
    emb_load_rows<T, D, THREADS, ROWS>(emb_shared(s.queries), h.queries + 3 * at, stride, count,
                                       p.head_dim);
    emb_load_rows<T, D, THREADS, ROWS>(emb_shared(s.d_out), h.d_out + at, p.hidden, count,
                                       p.head_dim);
    emb_dot_rows<T, D, THREADS, ROWS>(s.dots, h.out + at, h.d_out + at, p.hidden, count,
                                      p.head_dim);
}

template <typename T, int D>
static __device__ __forceinline__ void load_keys(shared<D> &s, const emb_attention_back<T> &p,
                                                 const emb_head_back<T> &h, uint32_t first,
                                                 uint32_t stage) {
    constexpr int THREADS = EMB_BACK_THREADS<D>;
    uint32_t count = min(h.count - first, (uint32_t)BLOCK), stride = 3 * p.hidden;
    const T *from = h.queries + (uint64_t)first * stride + p.hidden;
    emb_load_rows<T, D, THREADS, BLOCK>(emb_shared(s.keys[stage]), from, stride, count, p.head_dim);
    emb_load_rows<T, D, THREADS, BLOCK>(emb_shared(s.values[stage]), from + p.hidden, stride, count,
                                        p.head_dim);
}

template <typename T, bool DROP>
static __device__ __forceinline__ void begin(emb_query_rows &own, const float *dots,
                                             const emb_head_back<T> &h, uint32_t warp_row,
                                             uint32_t first_query) {
    uint32_t row = warp_row + ((threadIdx.x & 31) >> 2);
    own.first = first_query + warp_row;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        uint32_t query = first_query + row + half * 8;
        own.offsets[half] = query < h.count ? -h.log_sums[query] * LOG2E : 0.0f;
        own.dots[half] = dots[row + half * 8];
        if (DROP) own.keys[half] = emb_drop_row(h.drop, query);
    }
}

/* Sums over the keys of a block for the warp's queries. */
template <typename U, typename T, int D, bool DROP>
static __device__ __forceinline__ void
sum_keys(float (&d_queries)[D / 8][4], shared<D> &s, const typename U::template operands<D> &tiles,
         const emb_query_rows &own, const emb_attention_back<T> &p, const emb_head_back<T> &h,
         uint32_t stage, uint32_t warp_row, uint32_t first) {
    constexpr int STEP = U::STEP;
    uint32_t keys = emb_shared(s.keys[stage]), values = emb_shared(s.values[stage]);
    uint32_t count = min(h.count - first, (uint32_t)BLOCK);
    for (uint32_t row = 0; row < count; row += STEP) {
        float scores[STEP / 8][4], gradients[STEP / 8][4];
        uint32_t packed[STEP / 16][4];
        U::template multiply<T, D>(scores, gradients, tiles, keys, values, row);
        emb_query_pairs<T, DROP, STEP>(scores, gradients, p, h, own, first + row);
        emb_pack_operand<T, STEP>(packed, gradients);
        U::template add<T, D>(d_queries, packed, keys, row);
        if (p.partial) emb_store_operand<BLOCK / 8, STEP>(s.gradients, packed, warp_row, row);
        U::added(d_queries);
    }
}

/* sums[key - query] += the gradients of the pairs so far apart, a thread each. */
template <typename T, int D>
static __device__ __forceinline__ void
add_diagonals(float *sums, const shared<D> &s, uint32_t queries, uint32_t keys, int first_apart) {
    for (int i = (int)threadIdx.x; i < shared<D>::QUERIES + BLOCK - 1; i += EMB_BACK_THREADS<D>) {
        int apart = i - (shared<D>::QUERIES - 1), end = min((int)queries, (int)keys - apart);
        float sum = 0;
#pragma unroll 4
        for (int q = max(0, -apart); q < end; q++) {
            uint32_t k = (uint32_t)(q + apart);
            sum += emb_from(*reinterpret_cast<const T *>(
                s.gradients + emb_swizzle<BLOCK / 8>((uint32_t)q, k / 8) + k % 8 * 2));
        }
        if (apart > -(int)queries && apart < (int)keys) sums[first_apart + apart] += sum;
    }
}

template <typename U, typename T, int D, bool DROP>
static __device__ __forceinline__ void work(shared<D> &s, const emb_attention_back<T> &p,
                                            const emb_head_back<T> &h, float *diagonals,
                                            uint32_t first_query) {
    uint32_t warp_row = (threadIdx.x >> 5) * 16, stride = 3 * p.hidden, stage = 0;
    uint32_t rows = min(h.count - first_query, (uint32_t)shared<D>::QUERIES);
    bool idle = warp_row / U::PAD * U::PAD >= rows; /* none of the unit's rows */
    float d_queries[D / 8][4] = {};
    typename U::template operands<D> tiles;
    emb_query_rows own;
    load_queries<T, D>(s, p, h, first_query);
    load_keys<T, D>(s, p, h, 0, 0);
    emb_copy_commit();
    for (uint32_t first = 0; first < h.count; first += BLOCK, stage ^= 1) {
        if (first + BLOCK < h.count) load_keys<T, D>(s, p, h, first + BLOCK, stage ^ 1);
        emb_copy_commit();
        emb_copy_wait<1>();
        U::publish();
        __syncthreads();
        if (first == 0) {
            tiles.take(emb_shared(s.queries), emb_shared(s.d_out), warp_row);
            begin<T, DROP>(own, s.dots, h, warp_row, first_query);
            if (threadIdx.x < rows) h.dots[first_query + threadIdx.x] = s.dots[threadIdx.x];
        }
        if (!idle) {
            sum_keys<U, T, D, DROP>(d_queries, s, tiles, own, p, h, stage, warp_row, first);
        }
        __syncthreads();
        if (!p.partial) continue;
        add_diagonals<T, D>(diagonals, s, rows, min(h.count - first, (uint32_t)BLOCK),
                            (int)first - (int)first_query);
    }
    rows = min(h.count - first_query, (uint32_t)shared<D>::QUERIES);
    T *to = emb_head_gradient(p, h) + (uint64_t)first_query * stride;
    emb_stage_rows<T, D>(s.queries, d_queries, p.scale, warp_row);
    __syncwarp();
    emb_write_rows<T, D>(to, stride, s.queries, warp_row, rows, p.head_dim);
    __syncthreads(); /* the next tile's rows may be brought */
}

template <typename U, typename T, int D, bool DROP>
static __global__ void __launch_bounds__(EMB_BACK_THREADS<D>, EMB_BACK_RESIDENT<D>)
    queries_kernel(emb_attention_back<T> p) {
    if constexpr (U::RUNS) {
        extern __shared__ __align__(1024) unsigned char memory[];
        emb_kernel_begin();
        uint32_t part = blockIdx.x / p.heads, head = blockIdx.x % p.heads, tiles = p.tiles[0].x;
        uint32_t first = part, end = min(part + 1, tiles), span = 2 * p.relative_tokens - 1;
        float *diagonals = NULL;
        if (p.partial) {
            first = (uint32_t)((uint64_t)tiles * part / p.groups);
            end = (uint32_t)((uint64_t)tiles * (part + 1) / p.groups);
            diagonals = p.partial + (uint64_t)blockIdx.x * span;
            for (uint32_t i = threadIdx.x; i < span; i += EMB_BACK_THREADS<D>) diagonals[i] = 0;
            diagonals += p.relative_tokens - 1;
            __syncthreads();
        }
        for (uint32_t number = first; number < end; number++) {
            uint4 tile = p.tiles[1 + number];
            if (tile.y <= p.whole_max || tile.z % shared<D>::QUERIES) continue;
            emb_head_back<T> h = emb_head_back_make(p, tile.x, tile.y, tile.w, head, DROP);
            work<U, T, D, DROP>(*reinterpret_cast<shared<D> *>(memory), p, h, diagonals, tile.z);
        }
    } else {
        __trap(); /* refused before any launch */
    }
}

static __global__ void __launch_bounds__(256)
    relative_kernel(float *d_relative, const float *partial, uint32_t groups, uint32_t count) {
    emb_kernel_begin();
    uint32_t i = blockIdx.x * 256 + threadIdx.x;
    if (i >= count) return;
    float sum = d_relative[i];
    for (uint32_t g = 0; g < groups; g++) sum += partial[(uint64_t)g * count + i];
    d_relative[i] = sum;
}

template <typename U, typename T, int D>
static int queries_launch(const emb_attention_back<T> &p, float *d_relative,
                          const emb_cuda_batch *batch, cudaStream_t stream) {
    auto kernel = p.drop.limit ? queries_kernel<U, T, D, true> : queries_kernel<U, T, D, false>;
    uint32_t tiles = batch->tokens_max / EMB_CUDA_QUERY_ROWS + batch->chunks_max;
    uint32_t bytes = sizeof(shared<D>), count = p.heads * (2 * p.relative_tokens - 1);
    if (!d_relative) {
        return emb_launch(kernel, dim3(tiles * p.heads), EMB_BACK_THREADS<D>,
                          bytes - sizeof(shared<D>::gradients), batch, stream, p);
    }
    int status =
        emb_launch(kernel, dim3(p.groups * p.heads), EMB_BACK_THREADS<D>, bytes, batch, stream, p);
    if (status) return status;
    return emb_launch(relative_kernel, dim3((count + 255) / 256), 256, 0, batch, stream, d_relative,
                      p.partial, p.groups, count);
}

template <typename T>
int emb_attention_back_queries(const emb_attention_back<T> &p, float *d_relative,
                               const emb_cuda_batch *batch, bool hopper, cudaStream_t stream) {
    if (p.head_dim > 64) return queries_launch<emb_back_mma, T, 128>(p, d_relative, batch, stream);
    if (hopper) {
        if (p.head_dim > 32) {
            return queries_launch<emb_back_wgmma, T, 64>(p, d_relative, batch, stream);
        }
        return queries_launch<emb_back_wgmma, T, 32>(p, d_relative, batch, stream);
    }
    if (p.head_dim <= 32) return queries_launch<emb_back_mma, T, 32>(p, d_relative, batch, stream);
    return queries_launch<emb_back_mma, T, 64>(p, d_relative, batch, stream);
}

template int emb_attention_back_queries(const emb_attention_back<emb_f16> &, float *,
                                        const emb_cuda_batch *, bool, cudaStream_t);
template int emb_attention_back_queries(const emb_attention_back<emb_bf16> &, float *,
                                        const emb_cuda_batch *, bool, cudaStream_t);
