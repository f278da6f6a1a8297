/* linear_wgmma.cu - out = in * W^T + bias (and GELU) on Hopper's warpgroup products; sm_90a alone.
 *
 * Persistent blocks in pairs: both take the same columns, each its own 128 tokens, and each loads
 * half of W's tile for both. One warp loads; two warpgroups compute whole tiles in turn, so that
 * one finishes (bias, GELU, stores) while the other multiplies. K is added in steps of 16 in order.
 * Legend: M tokens, N rows of W, K columns of W; tile 128 x 192, K in stages of 64.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/wgmma.cuh"

#define TILE_M      128
#define TILE_N      EMB_WGMMA_COLS
#define TILE_K      64
#define STAGES      5
#define THREADS     384
#define PAIR        2
#define IN_BYTES    (TILE_M * TILE_K * 2)
#define HALF_BYTES  (TILE_N / PAIR * TILE_K * 2)
#define STAGE_BYTES (IN_BYTES + PAIR * HALF_BYTES)
#define OUT_COLS    64             /* columns a warp stages at once */
#define OUT_STRIDE  (OUT_COLS + 8) /* values */
#define OUT_BYTES   (16 * OUT_STRIDE * 2)
#define BYTES       (1024 + STAGES * STAGE_BYTES + 8 * OUT_BYTES + 2 * TILE_N * 4 + 2 * STAGES * 8)

template <typename T> struct product {
    T *out;            /* [M, N] */
    const float *bias; /* [N] */
    const uint32_t *counts;
    uint32_t N, K;
    int gelu;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* Where things lie in shared memory, as offsets from its first multiple of 1,024. */
#define OUT_AT   (STAGES * STAGE_BYTES)
#define BIAS_AT  (OUT_AT + 8 * OUT_BYTES)
#define FULL_AT  (BIAS_AT + 2 * TILE_N * 4)
#define EMPTY_AT (FULL_AT + STAGES * 8)

/* The tiles of a pair of blocks: `first`, `first` + `step`, ... below `count`. */
struct schedule {
    uint32_t first, step, count, tiles_n, steps_k, rank;
};

static __device__ __forceinline__ void
load_tiles(uint32_t base, const schedule &s, const CUtensorMap *in, const CUtensorMap *weight) {
    uint32_t stage = 0, phase = 1; /* the first wait on an empty stage passes at once */
    for (uint32_t tile = s.first; tile < s.count; tile += s.step) {
        int row = (int)((tile / s.tiles_n * PAIR + s.rank) * TILE_M);
        int col = (int)(tile % s.tiles_n * TILE_N + s.rank * (TILE_N / PAIR));
        for (uint32_t k = 0; k < s.steps_k; k++) {
            uint32_t at = base + stage * STAGE_BYTES, full = base + FULL_AT + stage * 8;
            emb_barrier_wait(base + EMPTY_AT + stage * 8, phase);
            emb_barrier_expect(full, STAGE_BYTES);
            emb_tensor_load(at, in, (int)(k * TILE_K), row, full);
            emb_tensor_share(at + IN_BYTES + s.rank * HALF_BYTES, weight, (int)(k * TILE_K), col,
                             full, (1 << PAIR) - 1);
            if (++stage == STAGES) stage = 0, phase ^= 1;
        }
    }
}

/* Tells both blocks' loaders that this warpgroup is done with a stage. */
static __device__ __forceinline__ void release(uint32_t base, uint32_t stage) {
    uint32_t thread = threadIdx.x % 128;
    if (thread < PAIR) emb_barrier_arrive(base + EMPTY_AT + stage * 8, thread);
}

/* sums = one tile's product; `place` counts stages from the first tile of the block. */
template <typename T>
static __device__ __forceinline__ void multiply(float (&sums)[2][EMB_WGMMA_SUMS], uint32_t base,
                                                uint32_t steps, uint32_t place) {
    uint32_t stage = place % STAGES, phase = place / STAGES & 1;
    for (uint32_t k = 0; k < steps; k++) {
        uint32_t at = base + stage * STAGE_BYTES;
        emb_barrier_wait(base + FULL_AT + stage * 8, phase);
        uint64_t a = emb_wgmma_operand(at), b = emb_wgmma_operand(at + IN_BYTES);
        emb_wgmma_fence();
#pragma unroll
        for (int i = 0; i < TILE_K / 16; i++) {
            emb_wgmma<T>(sums[0], a + 2 * i, b + 2 * i, k + i > 0);
            emb_wgmma<T>(sums[1], a + 2 * i + (64 * 128 >> 4), b + 2 * i, k + i > 0);
        }
        emb_wgmma_commit();
        emb_wgmma_wait<1>();
        if (k) release(base, stage ? stage - 1 : STAGES - 1);
        if (++stage == STAGES) stage = 0, phase ^= 1;
    }
}

/* A warpgroup's bias of a tile to shared memory. */
static __device__ __forceinline__ void load_bias(uint32_t to, const float *bias, uint32_t first_n,
                                                 uint32_t N) {
    uint32_t col = threadIdx.x % 128 * 2;
    float2 v = make_float2(0, 0);
    if (col >= TILE_N) return;
    if (first_n + col < N) v = *reinterpret_cast<const float2 *>(bias + first_n + col);
    emb_shared_store(to + col * 4, __float_as_uint(v.x));
    emb_shared_store(to + col * 4 + 4, __float_as_uint(v.y));
}

/* Bias and GELU, then by way of shared memory, so that rows leave in pieces of 128 bytes. */
template <typename T, bool GELU>
static __device__ __forceinline__ void finish(float (&sums)[2][EMB_WGMMA_SUMS], const product<T> &p,
                                              uint32_t staged, uint32_t bias, uint32_t first_m,
                                              uint32_t first_n, uint32_t rows) {
    uint32_t lane = threadIdx.x & 31, row = lane >> 2, col = (lane & 3) * 2;
    uint32_t bias_at = bias + col * 4;
    uint32_t to = staged + (row * OUT_STRIDE + col) * 2;
    uint32_t from = staged + (lane / 8 * OUT_STRIDE + lane % 8 * 8) * 2;
#pragma unroll
    for (int part = 0; part < TILE_N / OUT_COLS; part++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
#pragma unroll
            for (int j = 0; j < OUT_COLS / 8; j++) {
                float2 bias = emb_shared_load2(bias_at + (part * OUT_COLS + j * 8) * 4);
                const float *sum = &sums[half][(part * (OUT_COLS / 8) + j) * 4];
                float v[4] = {sum[0] + bias.x, sum[1] + bias.y, sum[2] + bias.x, sum[3] + bias.y};
#pragma unroll
                for (int i = 0; GELU && i < 4; i++) v[i] = emb_gelu_fast(v[i]);
                emb_shared_store(to + j * 16, emb_pack<T>(v[0], v[1]));
                emb_shared_store(to + 16 * OUT_STRIDE + j * 16, emb_pack<T>(v[2], v[3]));
            }
            __syncwarp();
#pragma unroll
            for (int i = 0; i < 4; i++) {
                uint32_t r = i * 4 + lane / 8, m = first_m + half * 64 + r;
                uint32_t n = first_n + part * OUT_COLS + lane % 8 * 8;
                uint4 v = emb_shared_load16(from + i * 4 * OUT_STRIDE * 2);
                if (m < rows && n < p.N) {
                    *reinterpret_cast<uint4 *>(p.out + (uint64_t)m * p.N + n) = v;
                }
            }
            __syncwarp();
        }
    }
}

template <typename T>
static __device__ __forceinline__ void compute_tiles(uint32_t base, const schedule &s,
                                                     const product<T> &p, uint32_t rows,
                                                     uint32_t group) {
    uint32_t place = group * s.steps_k;
    for (uint32_t tile = s.first + group * s.step; tile < s.count; tile += 2 * s.step) {
        float sums[2][EMB_WGMMA_SUMS];
        emb_turn_wait(1 + (int)group, 256);
        multiply<T>(sums, base, s.steps_k, place);
        emb_turn_give(2 - (int)group, 256);
        uint32_t bias = base + BIAS_AT + group * TILE_N * 4, n = tile % s.tiles_n * TILE_N;
        load_bias(bias, p.bias, n, p.N);
        emb_wgmma_wait<0>();
        emb_turn_wait(3 + (int)group, 128);
        release(base, (place + s.steps_k - 1) % STAGES);
        uint32_t warp = threadIdx.x / 32 - 4;
        uint32_t m = (tile / s.tiles_n * PAIR + s.rank) * TILE_M + warp % 4 * 16;
        uint32_t staged = base + OUT_AT + warp * OUT_BYTES;
        if (p.gelu) {
            finish<T, true>(sums, p, staged, bias, m, n, rows);
        } else {
            finish<T, false>(sums, p, staged, bias, m, n, rows);
        }
        place += 2 * s.steps_k;
    }
}

#endif

template <typename T>
static __global__ void __launch_bounds__(THREADS, 1)
    linear_kernel(const __grid_constant__ CUtensorMap in,
                  const __grid_constant__ CUtensorMap weight, product<T> p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ unsigned char memory[];
    uint32_t rows = p.counts[0], base = (emb_shared(memory) + 1023) & ~1023u;
    uint32_t tiles_n = (p.N + TILE_N - 1) / TILE_N;
    schedule s = {blockIdx.x / PAIR,
                  gridDim.x / PAIR,
                  (rows + PAIR * TILE_M - 1) / (PAIR * TILE_M) * tiles_n,
                  tiles_n,
                  (p.K + TILE_K - 1) / TILE_K,
                  emb_cluster_rank()};
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < STAGES; i++) {
            emb_barrier_init(base + FULL_AT + i * 8, 1);
            emb_barrier_init(base + EMPTY_AT + i * 8, PAIR);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    emb_cluster_sync();
    emb_kernel_begin();
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == 0) load_tiles(base, s, &in, &weight);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        uint32_t group = threadIdx.x / 128 - 1;
        if (group == 1) emb_turn_give(1, 256); /* the first turn is group 0's */
        compute_tiles(base, s, p, rows, group);
    }
    emb_cluster_sync(); /* neither block leaves while the other may still reach into it */
#else
    __trap(); /* built without sm_90a: never a silent wrong answer */
#endif
}

/* ---- host ------------------------------------------------------------------------------------ */

typedef CUresult (*encode_call)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                                const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                                const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* Describes [rows, cols] of 16-bit values, read in boxes of box_rows x 64, zeros outside. */
static int describe(CUtensorMap *map, encode_call encode, const void *from, uint32_t rows,
                    uint32_t cols, uint32_t box_rows, emb_cuda_type type) {
    cuuint64_t sizes[2] = {cols, rows}, strides[1] = {(cuuint64_t)cols * 2};
    cuuint32_t box[2] = {TILE_K, box_rows}, steps[2] = {1, 1};
    CUtensorMapDataType data =
        type == EMB_CUDA_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    CUresult status = encode(map, data, 2, (void *)from, sizes, strides, box, steps,
                             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return status ? cudaErrorInvalidValue : 0;
}

template <typename T>
static int linear_launch(void *out, const CUtensorMap &in, const CUtensorMap &weight,
                         const emb_cuda_linear *linear, int gelu, const emb_cuda_pack *pack,
                         const emb_cuda_device *device, cudaStream_t stream) {
    product<T> p = {(T *)out, linear->bias, pack->counts, linear->rows, linear->cols, gelu};
    uint32_t pairs = (pack->tokens_max + PAIR * TILE_M - 1) / (PAIR * TILE_M);
    uint32_t tiles = pairs * ((linear->rows + TILE_N - 1) / TILE_N);
    uint32_t resident = device->multiprocessors / PAIR, blocks = tiles;
    if (blocks > resident) blocks = resident;
    return emb_launch<PAIR>(linear_kernel<T>, dim3(blocks * PAIR), THREADS, BYTES, pack, stream, in,
                            weight, p);
}

int emb_cuda_linear_wgmma(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                          const emb_cuda_pack *pack, const emb_cuda_device *device, void *stream) {
    void *encode = NULL;
    cudaDriverEntryPointQueryResult found;
    CUtensorMap in_map, weight_map;
    emb_cuda_type type = linear->type;
    if (linear->rows % 8 || linear->cols % 8 || !linear->rows || !linear->cols) {
        return cudaErrorInvalidValue;
    }
    int status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000,
                                                  cudaEnableDefault, &found);
    if (!status && !encode) status = cudaErrorNotSupported;
    if (!status) {
        status = describe(&in_map, (encode_call)encode, in, pack->tokens_max, linear->cols, TILE_M,
                          type);
    }
    if (!status) {
        status = describe(&weight_map, (encode_call)encode, linear->weight, linear->rows,
                          linear->cols, TILE_N / PAIR, type);
    }
    if (status) return status;
    cudaStream_t s = (cudaStream_t)stream;
    if (type == EMB_CUDA_F16) {
        return linear_launch<emb_f16>(out, in_map, weight_map, linear, gelu, pack, device, s);
    }
    if (type == EMB_CUDA_BF16) {
        return linear_launch<emb_bf16>(out, in_map, weight_map, linear, gelu, pack, device, s);
    }
    return cudaErrorInvalidValue;
}
