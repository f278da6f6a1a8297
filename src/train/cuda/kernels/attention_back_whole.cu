/* attention_back_whole.cu - the backward pass of attention within chunks of up to 128 tokens: a
 * block of threads does a chunk and head at once, with everything in shared memory.
 *
 * Each of its eight warps sums over all queries for 16 keys, and leaves the gradients of the scores
 * in shared memory; from there each multiplies those of 16 queries with all keys.
 * Legend: U the unit that multiplies, emb_back_mma or emb_back_wgmma.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cuda/kernels/back_mma.cuh"
#include "train/cuda/kernels/back_wgmma.cuh"

/* ROWS, the most tokens of a chunk, is 64 or 128; a block has twice as many threads. */
template <int D, int ROWS> struct shared {
    unsigned char queries[ROWS * D * 2], keys[ROWS * D * 2], values[ROWS * D * 2],
        d_out[ROWS * D * 2];
    unsigned char gradients[ROWS * ROWS * 2]; /* [keys, queries] of the scores */
    emb_query_facts<ROWS> facts;
};

template <typename T, int D, int ROWS, bool DROP>
static __device__ __forceinline__ void
load_chunk(shared<D, ROWS> &s, const emb_attention_back<T> &p, const emb_head_back<T> &h) {
    constexpr int THREADS = 2 * ROWS;
    uint32_t stride = 3 * p.hidden, dim = p.head_dim, i = threadIdx.x;
    float log_sum = i < h.count ? h.log_sums[i] : 0.0f;
    const T *keys = h.queries + p.hidden, *values = keys + p.hidden;
    emb_load_rows<T, D, THREADS, ROWS>(emb_shared(s.queries), h.queries, stride, h.count, dim);
    emb_load_rows<T, D, THREADS, ROWS>(emb_shared(s.keys), keys, stride, h.count, dim);
    emb_load_rows<T, D, THREADS, ROWS>(emb_shared(s.values), values, stride, h.count, dim);
    emb_load_rows<T, D, THREADS, ROWS>(emb_shared(s.d_out), h.d_out, p.hidden, h.count, dim);
    emb_copy_commit();
    emb_dot_rows<T, D, THREADS, ROWS>(s.facts.dots, h.out, h.d_out, p.hidden, h.count, dim);
    if (i >= ROWS) return;
    s.facts.log_sums[i] = log_sum;
    if (DROP) s.facts.keys[i] = emb_drop_row(h.drop, i);
}

/* Sums over all queries for the warp's keys. */
template <typename U, typename T, int D, int ROWS, bool DROP>
static __device__ __forceinline__ void sum_queries(shared<D, ROWS> &s,
                                                   const emb_attention_back<T> &p,
                                                   const emb_head_back<T> &h, uint32_t warp_row) {
    constexpr int STEP = U::STEP;
    uint32_t queries = emb_shared(s.queries), d_out = emb_shared(s.d_out);
    float d_keys[D / 8][4] = {}, d_values[D / 8][4] = {};
    typename U::template operands<D> own;
    own.take(emb_shared(s.keys), emb_shared(s.values), warp_row);
    for (uint32_t query = 0; query < h.count; query += STEP) {
        float scores[STEP / 8][4], gradients[STEP / 8][4];
        uint32_t weights[STEP / 16][4], packed[STEP / 16][4];
        U::template multiply<T, D>(scores, gradients, own, queries, d_out, query);
        emb_key_pairs<T, DROP, STEP>(scores, gradients, p, h, s.facts, warp_row, query, query);
        emb_pack_operand<T, STEP>(weights, scores);
        emb_pack_operand<T, STEP>(packed, gradients);
        U::template add<T, D>(d_values, weights, d_out, query);
        U::template add<T, D>(d_keys, packed, queries, query);
        emb_store_operand<ROWS / 8, STEP>(s.gradients, packed, warp_row, query);
        U::added(d_values);
        U::added(d_keys);
    }
    U::barrier(); /* values are overwritten */
    emb_stage_rows<T, D>(s.values, d_values, 1.0f, warp_row);
    __syncthreads();
    emb_stage_rows<T, D>(s.queries, d_keys, p.scale, warp_row);
}

/* d_queries [16, D] of the warp's queries = gradients^T * keys. */
template <typename U, typename T, int D, int ROWS>
static __device__ __forceinline__ void sum_keys(float (&d_queries)[D / 8][4], shared<D, ROWS> &s,
                                                uint32_t warp_row, uint32_t count) {
    constexpr int STEP = U::STEP;
    uint32_t lane = threadIdx.x & 31;
    uint32_t row = ((lane >> 4) << 3) + (lane & 7), piece = warp_row / 8 + ((lane >> 3) & 1);
    uint32_t keys = emb_shared(s.keys), gradients = emb_shared(s.gradients);
    for (uint32_t key = 0; key < count; key += STEP) {
        uint32_t a[STEP / 16][4];
#pragma unroll
        for (int n = 0; n < STEP / 16; n++) {
            emb_ldmatrix_transposed(a[n],
                                    gradients + emb_swizzle<ROWS / 8>(row + key + n * 16, piece));
        }
        U::template add<T, D>(d_queries, a, keys, key);
        U::added(d_queries);
    }
}

template <typename U, typename T, int D, int ROWS, bool DROP>
static __device__ __forceinline__ void work(shared<D, ROWS> &s, const emb_attention_back<T> &p,
                                            const emb_head_back<T> &h) {
    uint32_t warp_row = (threadIdx.x >> 5) * 16, stride = 3 * p.hidden;
    if (warp_row / U::PAD * U::PAD >= h.count) { /* none of the unit's rows */
        U::barrier();
        __syncthreads();
        return;
    }
    sum_queries<U, T, D, ROWS, DROP>(s, p, h, warp_row);
    float d_queries[D / 8][4] = {};
    sum_keys<U, T, D, ROWS>(d_queries, s, warp_row, h.count);
    T *to = emb_head_gradient(p, h);
    emb_stage_rows<T, D>(s.d_out, d_queries, p.scale, warp_row);
    __syncwarp();
    emb_write_rows<T, D>(to, stride, s.d_out, warp_row, h.count, p.head_dim);
    emb_write_rows<T, D>(to + p.hidden, stride, s.queries, warp_row, h.count, p.head_dim);
    emb_write_rows<T, D>(to + 2 * p.hidden, stride, s.values, warp_row, h.count, p.head_dim);
}

template <typename U, typename T, int D, int ROWS, bool DROP>
static __global__ void __launch_bounds__(2 * ROWS, 256 / ROWS)
    whole_kernel(emb_attention_back<T> p) {
    if constexpr (U::RUNS) {
        extern __shared__ __align__(1024) unsigned char memory[];
        shared<D, ROWS> &s = *reinterpret_cast<shared<D, ROWS> *>(memory);
        emb_kernel_begin();
        uint32_t chunk = blockIdx.x / p.heads, head = blockIdx.x % p.heads;
        uint32_t start = p.starts[chunk], count = p.starts[chunk + 1] - start;
        if (chunk >= p.counts[1] || count > ROWS || count <= (ROWS == 64 ? 0 : 64)) return;
        emb_head_back<T> h = emb_head_back_make(p, start, count, chunk, head, DROP);
        load_chunk<T, D, ROWS, DROP>(s, p, h);
        emb_copy_wait<0>();
        U::publish();
        __syncthreads();
        work<U, T, D, ROWS, DROP>(s, p, h);
    } else {
        __trap(); /* refused before any launch */
    }
}

template <typename U, typename T, int D, int ROWS>
static int whole_launch(const emb_attention_back<T> &p, const emb_cuda_batch *batch,
                        cudaStream_t stream) {
    auto kernel =
        p.drop.limit ? whole_kernel<U, T, D, ROWS, true> : whole_kernel<U, T, D, ROWS, false>;
    return emb_launch(kernel, dim3(batch->chunks_max * p.heads), 2 * ROWS, sizeof(shared<D, ROWS>),
                      batch, stream, p);
}

template <typename U, typename T, int D>
static int whole_sized(const emb_attention_back<T> &p, uint32_t chunk_tokens_max,
                       const emb_cuda_batch *batch, cudaStream_t stream) {
    int status = whole_launch<U, T, D, 64>(p, batch, stream);
    if (status || chunk_tokens_max <= 64) return status;
    return whole_launch<U, T, D, 128>(p, batch, stream);
}

template <typename T>
int emb_attention_back_whole(const emb_attention_back<T> &p, uint32_t chunk_tokens_max,
                             const emb_cuda_batch *batch, bool hopper, cudaStream_t stream) {
    uint32_t longest = chunk_tokens_max;
    if (hopper) {
        if (p.head_dim <= 32) return whole_sized<emb_back_wgmma, T, 32>(p, longest, batch, stream);
        return whole_sized<emb_back_wgmma, T, 64>(p, longest, batch, stream);
    }
    if (p.head_dim <= 32) return whole_sized<emb_back_mma, T, 32>(p, longest, batch, stream);
    return whole_sized<emb_back_mma, T, 64>(p, longest, batch, stream);
}

template int emb_attention_back_whole(const emb_attention_back<emb_f16> &, uint32_t,
                                      const emb_cuda_batch *, bool, cudaStream_t);
template int emb_attention_back_whole(const emb_attention_back<emb_bf16> &, uint32_t,
                                      const emb_cuda_batch *, bool, cudaStream_t);
