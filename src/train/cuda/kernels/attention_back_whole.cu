/* attention_back_whole.cu - the backward pass of attention within chunks of up to 128 tokens: a
 * block of threads does a chunk and head at once, with everything in shared memory.
 *
 * Each of its eight warps sums over all queries for 16 keys, and leaves the gradients of the scores
 * in shared memory; from there each multiplies those of 16 queries with all keys.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cuda/kernels/back.cuh"

#define THREADS 256
#define ROWS    128

template <int D> struct shared {
    unsigned char queries[ROWS * D * 2], keys[ROWS * D * 2], values[ROWS * D * 2],
        d_out[ROWS * D * 2];
    unsigned char gradients[ROWS * ROWS * 2]; /* [keys, queries] of the scores */
    emb_query_facts<ROWS> facts;
};

template <typename T, int D, bool DROP>
static __device__ __forceinline__ void load_chunk(shared<D> &s, const emb_attention_back<T> &p,
                                                  const emb_head_back<T> &h) {
    uint32_t stride = 3 * p.hidden, padded = emb_round16(h.count);
    emb_load_rows<T, D, THREADS>(emb_shared(s.queries), h.queries, stride, h.count, p.head_dim);
    emb_load_rows<T, D, THREADS>(emb_shared(s.keys), h.queries + p.hidden, stride, h.count,
                                 p.head_dim);
    emb_load_rows<T, D, THREADS>(emb_shared(s.values), h.queries + 2 * p.hidden, stride, h.count,
                                 p.head_dim);
    emb_load_rows<T, D, THREADS>(emb_shared(s.d_out), h.d_out, p.hidden, h.count, p.head_dim);
    emb_copy_commit();
    emb_dot_rows<T, D, THREADS>(s.facts.dots, h.out, h.d_out, p.hidden, h.count, p.head_dim);
    for (uint32_t i = threadIdx.x; i < padded; i += THREADS) {
        s.facts.log_sums[i] = i < h.count ? h.log_sums[i] : 0.0f;
        if (DROP) s.facts.keys[i] = emb_drop_row(h.drop, i);
    }
    emb_copy_wait<0>();
}

/* d_queries [16, D] of the warp's queries = gradients^T * keys. */
template <typename T, int D>
static __device__ __forceinline__ void
multiply_gradients(float (&d_queries)[D / 8][4], shared<D> &s, uint32_t warp_row, uint32_t count) {
    uint32_t lane = threadIdx.x & 31;
    uint32_t row = ((lane >> 4) << 3) + (lane & 7), piece = warp_row / 8 + ((lane >> 3) & 1);
    uint32_t keys = emb_shared(s.keys), gradients = emb_shared(s.gradients);
    for (uint32_t k = 0; k < count; k += 16) {
        uint32_t a[4];
        emb_ldmatrix_transposed(a, gradients + emb_swizzle<ROWS / 8>(row + k, piece));
        emb_add_rows<T, D>(d_queries, a, keys, k);
    }
}

template <typename T, int D, bool DROP>
static __device__ __forceinline__ void work(shared<D> &s, const emb_attention_back<T> &p,
                                            const emb_head_back<T> &h) {
    uint32_t lane = threadIdx.x & 31, warp_row = (threadIdx.x >> 5) * 16, stride = 3 * p.hidden;
    bool idle = warp_row >= h.count;
    emb_key_rows<D, EMB_BACK_HELD<D>> own;
    if (!idle) {
        own.begin(emb_shared(s.keys), emb_shared(s.values), warp_row, 0);
        for (uint32_t query = 0; query < h.count; query += 16) {
            uint32_t packed[4];
            emb_key_step<T, D, DROP>(own, packed, p, h, s.facts, emb_shared(s.queries),
                                     emb_shared(s.d_out), query, query);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                uint32_t key = warp_row + (lane >> 2) + (i & 1) * 8, piece = query / 8 + i / 2;
                *reinterpret_cast<uint32_t *>(s.gradients + emb_swizzle<ROWS / 8>(key, piece) +
                                              (lane & 3) * 4) = packed[i];
            }
        }
        emb_stage_rows<T, D>(s.values, own.d_values, 1.0f, warp_row);
    }
    __syncthreads();
    if (idle) return;
    float d_queries[D / 8][4] = {};
    T *to = emb_head_gradient(p, h);
    emb_stage_rows<T, D>(s.queries, own.d_keys, p.scale, warp_row);
    multiply_gradients<T, D>(d_queries, s, warp_row, h.count);
    emb_stage_rows<T, D>(s.d_out, d_queries, p.scale, warp_row);
    __syncwarp();
    emb_write_rows<T, D>(to, stride, s.d_out, warp_row, h.count, p.head_dim);
    emb_write_rows<T, D>(to + p.hidden, stride, s.queries, warp_row, h.count, p.head_dim);
    emb_write_rows<T, D>(to + 2 * p.hidden, stride, s.values, warp_row, h.count, p.head_dim);
}

template <typename T, int D, bool DROP>
static __global__ void __launch_bounds__(THREADS, 2) whole_kernel(emb_attention_back<T> p) {
#if __CUDA_ARCH__ >= 800
    extern __shared__ __align__(128) unsigned char memory[];
    shared<D> &s = *reinterpret_cast<shared<D> *>(memory);
    emb_kernel_begin();
    uint32_t chunk = blockIdx.x / p.heads, head = blockIdx.x % p.heads;
    if (chunk >= p.counts[1]) return;
    uint32_t start = p.starts[chunk], count = p.starts[chunk + 1] - start;
    if (count > p.whole_max) return;
    emb_head_back<T> h = emb_head_back_make(p, start, count, chunk, head, DROP);
    load_chunk<T, D, DROP>(s, p, h);
    __syncthreads();
    work<T, D, DROP>(s, p, h);
#else
    __trap(); /* refused before any launch */
#endif
}

template <typename T, int D>
static int whole_launch(const emb_attention_back<T> &p, const emb_cuda_batch *batch,
                        cudaStream_t stream) {
    auto kernel = p.drop.limit ? whole_kernel<T, D, true> : whole_kernel<T, D, false>;
    return emb_launch(kernel, dim3(batch->chunks_max * p.heads), THREADS, sizeof(shared<D>), batch,
                      stream, p);
}

template <typename T>
int emb_attention_back_whole(const emb_attention_back<T> &p, const emb_cuda_batch *batch,
                             cudaStream_t stream) {
    if (p.head_dim <= 32) return whole_launch<T, 32>(p, batch, stream);
    return whole_launch<T, 64>(p, batch, stream);
}

template int emb_attention_back_whole(const emb_attention_back<emb_f16> &, const emb_cuda_batch *,
                                      cudaStream_t);
template int emb_attention_back_whole(const emb_attention_back<emb_bf16> &, const emb_cuda_batch *,
                                      cudaStream_t);
