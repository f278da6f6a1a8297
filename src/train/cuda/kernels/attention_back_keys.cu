/* attention_back_keys.cu - the backward pass of attention within longer chunks, for the keys and
 * values: a block of threads sums over all queries of the chunk for its keys of one head.
 *
 * Runs after attention_back_queries.cu, which leaves the dots of out and d_out.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cuda/kernels/back.cuh"

#define BLOCK 64 /* queries brought at a time */

template <int D> struct shared {
    static constexpr int KEYS = EMB_BACK_ROWS<D>;
    unsigned char keys[KEYS * D * 2], values[KEYS * D * 2];
    unsigned char queries[2][BLOCK * D * 2], d_out[2][BLOCK * D * 2];
    emb_query_facts<BLOCK> facts[2];
};

/* Starts the copies of the queries from `first` on. */
template <typename T, int D, bool DROP>
static __device__ __forceinline__ void load_queries(shared<D> &s, const emb_attention_back<T> &p,
                                                    const emb_head_back<T> &h, uint32_t first,
                                                    uint32_t stage) {
    constexpr int THREADS = EMB_BACK_THREADS<D>;
    uint32_t count = min(h.count - first, (uint32_t)BLOCK), i = threadIdx.x, stride = 3 * p.hidden;
    emb_load_rows<T, D, THREADS>(emb_shared(s.queries[stage]), h.queries + (uint64_t)first * stride,
                                 stride, count, p.head_dim);
    emb_load_rows<T, D, THREADS>(emb_shared(s.d_out[stage]), h.d_out + (uint64_t)first * p.hidden,
                                 p.hidden, count, p.head_dim);
    if (i >= BLOCK) return;
    uint32_t place = i < count ? first + i : 0;
    emb_copy_float(&s.facts[stage].log_sums[i], h.log_sums + place, i < count);
    emb_copy_float(&s.facts[stage].dots[i], h.dots + place, i < count);
    if (DROP) s.facts[stage].keys[i] = emb_drop_row(h.drop, first + i);
}

template <typename T, int D, bool DROP>
static __device__ __forceinline__ void work(shared<D> &s, const emb_attention_back<T> &p,
                                            const emb_head_back<T> &h, uint32_t first_key) {
    constexpr int THREADS = EMB_BACK_THREADS<D>;
    uint32_t warp_row = (threadIdx.x >> 5) * 16, stride = 3 * p.hidden, stage = 0;
    uint32_t rows = min(h.count - first_key, (uint32_t)shared<D>::KEYS);
    const T *from = h.queries + (uint64_t)first_key * stride + p.hidden;
    emb_key_rows<D, EMB_BACK_HELD<D>> own;
    emb_load_rows<T, D, THREADS>(emb_shared(s.keys), from, stride, rows, p.head_dim);
    emb_load_rows<T, D, THREADS>(emb_shared(s.values), from + p.hidden, stride, rows, p.head_dim);
    load_queries<T, D, DROP>(s, p, h, 0, 0);
    emb_copy_commit();
    for (uint32_t first = 0; first < h.count; first += BLOCK, stage ^= 1) {
        if (first + BLOCK < h.count) load_queries<T, D, DROP>(s, p, h, first + BLOCK, stage ^ 1);
        emb_copy_commit();
        emb_copy_wait<1>();
        __syncthreads();
        if (first == 0) own.begin(emb_shared(s.keys), emb_shared(s.values), warp_row, first_key);
        uint32_t count = min(h.count - first, (uint32_t)BLOCK);
        if (first_key + warp_row >= h.count) count = 0;
        for (uint32_t row = 0; row < count; row += 16) {
            uint32_t packed[4];
            emb_key_step<T, D, DROP>(own, packed, p, h, s.facts[stage],
                                     emb_shared(s.queries[stage]), emb_shared(s.d_out[stage]), row,
                                     first + row);
        }
        __syncthreads();
    }
    rows = min(h.count - first_key, (uint32_t)shared<D>::KEYS);
    T *to = emb_head_gradient(p, h) + (uint64_t)first_key * stride + p.hidden;
    emb_stage_rows<T, D>(s.keys, own.d_keys, p.scale, warp_row);
    emb_stage_rows<T, D>(s.values, own.d_values, 1.0f, warp_row);
    __syncwarp();
    emb_write_rows<T, D>(to, stride, s.keys, warp_row, rows, p.head_dim);
    emb_write_rows<T, D>(to + p.hidden, stride, s.values, warp_row, rows, p.head_dim);
}

template <typename T, int D, bool DROP>
static __global__ void __launch_bounds__(EMB_BACK_THREADS<D>, EMB_BACK_RESIDENT<D>)
    keys_kernel(emb_attention_back<T> p) {
#if __CUDA_ARCH__ >= 800
    extern __shared__ __align__(128) unsigned char memory[];
    emb_kernel_begin();
    uint32_t number = blockIdx.x / p.heads, head = blockIdx.x % p.heads;
    if (number >= p.tiles[0].x) return;
    uint4 tile = p.tiles[1 + number];
    if (tile.y <= p.whole_max || tile.z % shared<D>::KEYS) return;
    emb_head_back<T> h = emb_head_back_make(p, tile.x, tile.y, tile.w, head, DROP);
    work<T, D, DROP>(*reinterpret_cast<shared<D> *>(memory), p, h, tile.z);
#else
    __trap(); /* refused before any launch */
#endif
}

template <typename T, int D>
static int keys_launch(const emb_attention_back<T> &p, const emb_cuda_batch *batch,
                       cudaStream_t stream) {
    auto kernel = p.drop.limit ? keys_kernel<T, D, true> : keys_kernel<T, D, false>;
    uint32_t tiles = batch->tokens_max / EMB_CUDA_QUERY_ROWS + batch->chunks_max;
    return emb_launch(kernel, dim3(tiles * p.heads), EMB_BACK_THREADS<D>, sizeof(shared<D>), batch,
                      stream, p);
}

template <typename T>
int emb_attention_back_keys(const emb_attention_back<T> &p, const emb_cuda_batch *batch,
                            cudaStream_t stream) {
    if (p.head_dim <= 32) return keys_launch<T, 32>(p, batch, stream);
    if (p.head_dim <= 64) return keys_launch<T, 64>(p, batch, stream);
    return keys_launch<T, 128>(p, batch, stream);
}

template int emb_attention_back_keys(const emb_attention_back<emb_f16> &, const emb_cuda_batch *,
                                     cudaStream_t);
template int emb_attention_back_keys(const emb_attention_back<emb_bf16> &, const emb_cuda_batch *,
                                     cudaStream_t);
