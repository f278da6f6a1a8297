/* attention_back_keys.cu - the backward pass of attention within longer chunks, for the keys and
 * values: a block of threads sums over all queries of the chunk for its keys of one head.
 *
 * Runs after attention_back_queries.cu, which leaves the dots of out and d_out.
 * Legend: U the unit that multiplies, emb_back_mma or emb_back_wgmma.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cuda/kernels/back_mma.cuh"
#include "train/cuda/kernels/back_wgmma.cuh"

#define BLOCK 64 /* queries brought at a time */

template <int D> struct shared {
    static constexpr int KEYS = EMB_BACK_ROWS<D>;
    unsigned char keys[KEYS * D * 2], values[KEYS * D * 2];
    unsigned char queries[2][BLOCK * D * 2], d_out[2][BLOCK * D * 2];
    emb_query_facts<BLOCK> facts[2];
};

template <typename T, int D>
static __device__ __forceinline__ void load_keys(shared<D> &s, const emb_attention_back<T> &p,
                                                 const emb_head_back<T> &h, uint32_t first) {
    constexpr int THREADS = EMB_BACK_THREADS<D>, KEYS = shared<D>::KEYS;
    uint32_t stride = 3 * p.hidden, count = min(h.count - first, (uint32_t)KEYS);
    const T *from = h.queries + (uint64_t)first * stride + p.hidden;
    emb_load_rows<T, D, THREADS, KEYS>(emb_shared(s.keys), from, stride, count, p.head_dim);
    emb_load_rows<T, D, THREADS, KEYS>(emb_shared(s.values), from + p.hidden, stride, count,
                                       p.head_dim);
}

/* Starts the copies of the queries from `first` on. */
template <typename T, int D, bool DROP>
static __device__ __forceinline__ void load_queries(shared<D> &s, const emb_attention_back<T> &p,
                                                    const emb_head_back<T> &h, uint32_t first,
                                                    uint32_t stage) {
    constexpr int THREADS = EMB_BACK_THREADS<D>;
    uint32_t count = min(h.count - first, (uint32_t)BLOCK), i = threadIdx.x, stride = 3 * p.hidden;
    const T *queries = h.queries + (uint64_t)first * stride;
    const T *d_out = h.d_out + (uint64_t)first * p.hidden;
    emb_load_rows<T, D, THREADS, BLOCK>(emb_shared(s.queries[stage]), queries, stride, count,
                                        p.head_dim);
    emb_load_rows<T, D, THREADS, BLOCK>(emb_shared(s.d_out[stage]), d_out, p.hidden, count,
                                        p.head_dim);
    if (i >= BLOCK) return;
    uint32_t place = i < count ? first + i : 0;
    emb_copy_float(&s.facts[stage].log_sums[i], h.log_sums + place, i < count);
    emb_copy_float(&s.facts[stage].dots[i], h.dots + place, i < count);
    if (DROP) s.facts[stage].keys[i] = emb_drop_row(h.drop, first + i);
}

/* Sums over the queries of a block for the warp's keys. */
template <typename U, typename T, int D, bool DROP>
static __device__ __forceinline__ void
sum_queries(float (&d_keys)[D / 8][4], float (&d_values)[D / 8][4], shared<D> &s,
            const typename U::template operands<D> &own, const emb_attention_back<T> &p,
            const emb_head_back<T> &h, uint32_t stage, uint32_t first_key, uint32_t first) {
    constexpr int STEP = U::STEP;
    uint32_t queries = emb_shared(s.queries[stage]), d_out = emb_shared(s.d_out[stage]);
    uint32_t count = min(h.count - first, (uint32_t)BLOCK);
    for (uint32_t row = 0; row < count; row += STEP) {
        float scores[STEP / 8][4], gradients[STEP / 8][4];
        uint32_t weights[STEP / 16][4], packed[STEP / 16][4];
        U::template multiply<T, D>(scores, gradients, own, queries, d_out, row);
        emb_key_pairs<T, DROP, STEP>(scores, gradients, p, h, s.facts[stage], first_key, row,
                                     first + row);
        emb_pack_operand<T, STEP>(weights, scores);
        emb_pack_operand<T, STEP>(packed, gradients);
        U::template add<T, D>(d_values, weights, d_out, row);
        U::template add<T, D>(d_keys, packed, queries, row);
        U::added(d_values);
        U::added(d_keys);
    }
}

template <typename U, typename T, int D, bool DROP>
static __device__ __forceinline__ void work(shared<D> &s, const emb_attention_back<T> &p,
                                            const emb_head_back<T> &h, uint32_t first_key) {
    uint32_t warp_row = (threadIdx.x >> 5) * 16, stride = 3 * p.hidden, stage = 0;
    bool idle = first_key + warp_row / U::PAD * U::PAD >= h.count; /* none of the unit's rows */
    float d_keys[D / 8][4] = {}, d_values[D / 8][4] = {};
    typename U::template operands<D> own;
    load_keys<T, D>(s, p, h, first_key);
    load_queries<T, D, DROP>(s, p, h, 0, 0);
    emb_copy_commit();
    for (uint32_t first = 0; first < h.count; first += BLOCK, stage ^= 1) {
        if (first + BLOCK < h.count) load_queries<T, D, DROP>(s, p, h, first + BLOCK, stage ^ 1);
        emb_copy_commit();
        emb_copy_wait<1>();
        U::publish();
        __syncthreads();
        if (first == 0) own.take(emb_shared(s.keys), emb_shared(s.values), warp_row);
        if (!idle) {
            sum_queries<U, T, D, DROP>(d_keys, d_values, s, own, p, h, stage, first_key + warp_row,
                                       first);
        }
        __syncthreads();
    }
    uint32_t rows = min(h.count - first_key, (uint32_t)shared<D>::KEYS);
    T *to = emb_head_gradient(p, h) + (uint64_t)first_key * stride + p.hidden;
    emb_stage_rows<T, D>(s.keys, d_keys, p.scale, warp_row);
    emb_stage_rows<T, D>(s.values, d_values, 1.0f, warp_row);
    __syncwarp();
    emb_write_rows<T, D>(to, stride, s.keys, warp_row, rows, p.head_dim);
    emb_write_rows<T, D>(to + p.hidden, stride, s.values, warp_row, rows, p.head_dim);
}

template <typename U, typename T, int D, bool DROP>
static __global__ void __launch_bounds__(EMB_BACK_THREADS<D>, EMB_BACK_RESIDENT<D>)
    keys_kernel(emb_attention_back<T> p) {
    if constexpr (U::RUNS) {
        extern __shared__ __align__(1024) unsigned char memory[];
        emb_kernel_begin();
        uint32_t number = blockIdx.x / p.heads, head = blockIdx.x % p.heads;
        if (number >= p.tiles[0].x) return;
        uint4 tile = p.tiles[1 + number];
        if (tile.y <= p.whole_max || tile.z % shared<D>::KEYS) return;
        emb_head_back<T> h = emb_head_back_make(p, tile.x, tile.y, tile.w, head, DROP);
        work<U, T, D, DROP>(*reinterpret_cast<shared<D> *>(memory), p, h, tile.z);
    } else {
        __trap(); /* refused before any launch */
    }
}

template <typename U, typename T, int D>
static int keys_launch(const emb_attention_back<T> &p, const emb_cuda_batch *batch,
                       cudaStream_t stream) {
    auto kernel = p.drop.limit ? keys_kernel<U, T, D, true> : keys_kernel<U, T, D, false>;
    uint32_t tiles = batch->tokens_max / EMB_CUDA_QUERY_ROWS + batch->chunks_max;
    return emb_launch(kernel, dim3(tiles * p.heads), EMB_BACK_THREADS<D>, sizeof(shared<D>), batch,
                      stream, p);
}

template <typename T>
int emb_attention_back_keys(const emb_attention_back<T> &p, const emb_cuda_batch *batch,
                            bool hopper, cudaStream_t stream) {
    if (p.head_dim > 64) return keys_launch<emb_back_mma, T, 128>(p, batch, stream);
    if (hopper) {
        if (p.head_dim <= 32) return keys_launch<emb_back_wgmma, T, 32>(p, batch, stream);
        return keys_launch<emb_back_wgmma, T, 64>(p, batch, stream);
    }
    if (p.head_dim <= 32) return keys_launch<emb_back_mma, T, 32>(p, batch, stream);
    return keys_launch<emb_back_mma, T, 64>(p, batch, stream);
}

template int emb_attention_back_keys(const emb_attention_back<emb_f16> &, const emb_cuda_batch *,
                                     bool, cudaStream_t);
template int emb_attention_back_keys(const emb_attention_back<emb_bf16> &, const emb_cuda_batch *,
                                     bool, cudaStream_t);
