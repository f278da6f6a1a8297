/* attention_mma.cu - attention of packed chunks on tensor cores, for 16-bit types, sm_75 and up.
 *
 * A work item is (chunk, 64 query rows, head); its four warps hold 16 rows each and walk the keys
 * of the chunk in blocks of 64 with an online softmax, so no score ever leaves the registers.
 * Blocks start at the chunk's first key: what stands beside a chunk cannot reach its result.
 * Legend: D head_dim rounded up to 32, 64 or 128 (columns past head_dim are zeros).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/device.cuh"

#define THREADS 128
#define ROWS    EMB_CUDA_TILE_ROWS
#define KEYS    64
#define LOG2E   1.4426950408889634f

/* What a kernel needs to know. */
template <typename T> struct attention {
    T *out;       /* [tokens, hidden] */
    const T *qkv; /* [tokens, 3 * hidden] */
    const uint4 *tiles;
    const float *relative;
    uint32_t hidden, heads, head_dim, relative_tokens;
    float scale; /* of a score, times log2 e */
};

template <int D> struct buffers {
    static constexpr int STAGES = D <= 64 ? 2 : 1;
    static constexpr int PIECES = D / 8;
    static constexpr int TILE = 64 * D * 2; /* bytes of 64 rows */
    static constexpr int BIAS = TILE * (1 + 2 * STAGES);
    static constexpr int BYTES = BIAS + 128 * 4;
};

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

/* scores [16, 64] = queries [16, D] * keys [64, D]^T; groups of 16 keys past `keys` stay as they
 * are. */
template <typename T, int D>
static __device__ __forceinline__ void multiply_keys(float (&scores)[KEYS / 8][4],
                                                     const uint32_t (&queries)[D / 16][4],
                                                     uint32_t tile, uint32_t keys) {
    uint32_t lane = threadIdx.x & 31;
    uint32_t row = ((lane >> 4) << 3) + (lane & 7), piece = (lane >> 3) & 1;
#pragma unroll
    for (int n = 0; n < KEYS / 16; n++) {
        if (n * 16 >= keys) continue;
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
            uint32_t b[4];
            emb_ldmatrix(b, tile + emb_swizzle<D / 8>(row + n * 16, 2 * d + piece));
            emb_mma<T>(scores[2 * n], queries[d], b[0], b[1]);
            emb_mma<T>(scores[2 * n + 1], queries[d], b[2], b[3]);
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

/* Adds the bias to the scaled scores and hides keys past the chunk. A thread holds columns
 * 2 * (lane % 4) + {0, 1} of each group of 8, of rows lane / 4 and lane / 4 + 8. */
template <bool RELATIVE>
static __device__ __forceinline__ void mask(float (&scores)[KEYS / 8][4], float scale,
                                            const float *bias, uint32_t warp_row, uint32_t keys) {
    uint32_t lane = threadIdx.x & 31, row = warp_row + (lane >> 2);
    if (!RELATIVE && keys == KEYS) return;
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t key = n * 8 + (lane & 3) * 2 + (i & 1), r = row + (i >> 1) * 8;
            if (RELATIVE) scores[n][i] = fmaf(scores[n][i], scale, bias[key + ROWS - 1 - r]);
            if (key >= keys) scores[n][i] = -INFINITY;
        }
    }
}

static __device__ __forceinline__ float power2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Turns scores into weights relative to the largest score so far; rescales what came before.
 * `scale` makes powers of 2 of the scores. */
template <int D>
static __device__ __forceinline__ void soften(float (&scores)[KEYS / 8][4],
                                              float (&context)[D / 8][4], float (&largest)[2],
                                              float (&sums)[2], float scale) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float top = largest[half];
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
            top = fmaxf(top, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
        }
        top = fmaxf(top, __shfl_xor_sync(EMB_FULL_WARP, top, 1));
        top = fmaxf(top, __shfl_xor_sync(EMB_FULL_WARP, top, 2));
        float keep = power2((largest[half] - top) * scale), sum = 0, offset = -top * scale;
        largest[half] = top;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; i++) {
                scores[n][i] = power2(fmaf(scores[n][i], scale, offset));
                sum += scores[n][i];
            }
        }
        sums[half] = fmaf(sums[half], keep, sum);
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            context[d][2 * half] *= keep;
            context[d][2 * half + 1] *= keep;
        }
    }
}

/* Divides by the sums and writes a warp's 16 rows, by way of its own rows of the query tile. */
template <typename T, int D>
static __device__ __forceinline__ void finish(const attention<T> &p, float (&context)[D / 8][4],
                                              float (&sums)[2], T *staged, T *out,
                                              uint32_t warp_row, uint32_t rows) {
    uint32_t lane = threadIdx.x & 31, row = warp_row + (lane >> 2);
    unsigned char *tile = reinterpret_cast<unsigned char *>(staged);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = sums[half];
        sum += __shfl_xor_sync(EMB_FULL_WARP, sum, 1);
        sum += __shfl_xor_sync(EMB_FULL_WARP, sum, 2);
        float factor = 1.0f / sum;
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            *reinterpret_cast<uint32_t *>(tile + emb_swizzle<D / 8>(row + half * 8, d) +
                                          (lane & 3) * 4) =
                emb_pack<T>(context[d][2 * half] * factor, context[d][2 * half + 1] * factor);
        }
    }
    __syncwarp();
    constexpr int PIECES = D / 8, STEP = 32 / PIECES;
    uint32_t piece = lane % PIECES;
#pragma unroll
    for (int i = 0; i < 16; i += STEP) {
        uint32_t r = warp_row + i + lane / PIECES;
        if (r < rows && piece * 8 < p.head_dim) {
            *reinterpret_cast<uint4 *>(out + (uint64_t)r * p.hidden + piece * 8) =
                *reinterpret_cast<const uint4 *>(tile + emb_swizzle<PIECES>(r, piece));
        }
    }
}

/* The bias of query row r and key k of this block is bias[k - r + ROWS - 1]. */
template <typename T>
static __device__ __forceinline__ void load_bias(float *bias, const attention<T> &p, uint32_t head,
                                                 uint32_t first_row, uint32_t first_key) {
    int span = 2 * (int)p.relative_tokens - 1;
    int place = (int)first_key - (int)first_row + (int)threadIdx.x - (ROWS - 1) +
                (int)p.relative_tokens - 1;
    bool inside = place >= 0 && place < span;
    bias[threadIdx.x] = inside ? p.relative[(int)head * span + place] * LOG2E : 0.0f;
}

template <typename T, int D, bool RELATIVE>
static __device__ __forceinline__ void attend(const attention<T> &p, unsigned char *memory,
                                              uint4 tile, uint32_t head) {
    typedef buffers<D> B;
    uint32_t stride = 3 * p.hidden, shared = emb_shared(memory), length = tile.y;
    const T *base = p.qkv + (uint64_t)tile.x * stride + head * p.head_dim;
    float *bias = reinterpret_cast<float *>(memory + B::BIAS);
    uint32_t rows = min(length - tile.z, (uint32_t)ROWS), blocks = (length + KEYS - 1) / KEYS;
    uint32_t warp_row = (threadIdx.x >> 5) * 16, lane = threadIdx.x & 31;
    load_rows<T, D>(shared, base + (uint64_t)tile.z * stride, stride, rows, p.head_dim);
    float context[D / 8][4] = {}, largest[2] = {-1e30f, -1e30f}, sums[2] = {};
    uint32_t queries[D / 16][4];
    for (uint32_t block = 0; block < blocks + B::STAGES - 1; block++) {
        if (block < blocks) { /* keys and values of this block set out */
            uint32_t key = block * KEYS, at = shared + B::TILE * (1 + 2 * (block % B::STAGES));
            const T *from = base + (uint64_t)key * stride + p.hidden;
            load_rows<T, D>(at, from, stride, length - key, p.head_dim);
            load_rows<T, D>(at + B::TILE, from + p.hidden, stride, length - key, p.head_dim);
        }
        emb_copy_commit();
        if (block + 1 < (uint32_t)B::STAGES) continue;
        uint32_t now = block - (B::STAGES - 1), keys = min(length - now * KEYS, (uint32_t)KEYS);
        uint32_t at = shared + B::TILE * (1 + 2 * (now % B::STAGES));
        if (RELATIVE) load_bias<T>(bias, p, head, tile.z, now * KEYS);
        emb_copy_wait<B::STAGES - 1>();
        __syncthreads();
        if (warp_row < rows) {
            if (now == 0) {
#pragma unroll
                for (int d = 0; d < D / 16; d++) {
                    emb_ldmatrix(queries[d], shared + emb_swizzle<D / 8>(warp_row + (lane & 15),
                                                                         2 * d + (lane >> 4)));
                }
            }
            float scores[KEYS / 8][4] = {};
            multiply_keys<T, D>(scores, queries, at, keys);
            mask<RELATIVE>(scores, p.scale, bias, warp_row, keys);
            soften<D>(scores, context, largest, sums, RELATIVE ? 1.0f : p.scale);
            multiply_values<T, D>(context, scores, at + B::TILE, keys);
        }
        __syncthreads();
    }
    if (warp_row < rows) {
        T *out = p.out + (uint64_t)(tile.x + tile.z) * p.hidden + head * p.head_dim;
        finish<T, D>(p, context, sums, reinterpret_cast<T *>(memory), out, warp_row, rows);
    }
    __syncthreads();
}

template <typename T, int D, bool RELATIVE>
static __global__ void __launch_bounds__(THREADS) attention_kernel(attention<T> p) {
    extern __shared__ __align__(128) unsigned char memory[];
    emb_kernel_begin();
    uint32_t items = p.tiles[0].x * p.heads;
    for (uint32_t item = blockIdx.x; item < items; item += gridDim.x) {
        attend<T, D, RELATIVE>(p, memory, p.tiles[1 + item / p.heads], item % p.heads);
    }
}

template <typename T, int D, bool RELATIVE>
static int attention_launch(const attention<T> &p, const emb_cuda_pack *pack,
                            const emb_cuda_device *device, cudaStream_t stream) {
    constexpr int BYTES = buffers<D>::BYTES;
    uint32_t items = (pack->tokens_max / EMB_CUDA_TILE_ROWS + pack->chunks_max) * p.heads;
    int resident = 0; /* blocks of a multiprocessor: one wave of them walks all items */
    int status = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        &resident, attention_kernel<T, D, RELATIVE>, THREADS, BYTES);
    if (status) return status;
    uint32_t blocks = device->multiprocessors * (resident > 0 ? (uint32_t)resident : 1u);
    return emb_launch(attention_kernel<T, D, RELATIVE>, dim3(items < blocks ? items : blocks),
                      THREADS, BYTES, pack, stream, p);
}

template <typename T, int D>
static int attention_kind(const attention<T> &p, const emb_cuda_pack *pack,
                          const emb_cuda_device *device, cudaStream_t stream) {
    if (p.relative) return attention_launch<T, D, true>(p, pack, device, stream);
    return attention_launch<T, D, false>(p, pack, device, stream);
}

template <typename T>
static int attention_sized(void *out, const void *qkv, const emb_cuda_heads *heads,
                           const emb_cuda_pack *pack, const emb_cuda_device *device,
                           cudaStream_t stream) {
    attention<T> p = {
        (T *)out,        (const T *)qkv,         (const uint4 *)pack->tiles,
        heads->relative, heads->hidden,          heads->heads,
        heads->head_dim, heads->relative_tokens, LOG2E / sqrtf((float)heads->head_dim)};
    if (p.head_dim <= 32) return attention_kind<T, 32>(p, pack, device, stream);
    if (p.head_dim <= 64) return attention_kind<T, 64>(p, pack, device, stream);
    return attention_kind<T, 128>(p, pack, device, stream);
}

int emb_cuda_attention_mma(void *out, const void *qkv, const emb_cuda_heads *heads,
                           const emb_cuda_pack *pack, emb_cuda_type type,
                           const emb_cuda_device *device, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (type == EMB_CUDA_F16) return attention_sized<emb_f16>(out, qkv, heads, pack, device, s);
    if (type == EMB_CUDA_BF16) return attention_sized<emb_bf16>(out, qkv, heads, pack, device, s);
    return cudaErrorInvalidValue;
}
