/* linear_norm_wgmma.cu - out = norm(residual + in * W^T + bias) in one kernel on Hopper; sm_90a
 * alone.
 *
 * As linear_wgmma.cu, but the blocks of a cluster take the same 128 tokens, each its own 192
 * columns: together whole rows, whose sums they exchange. Each loads a share of the input for all.
 * What is rounded and the order of all sums are those of the product followed by residual_norm.
 * Legend: M tokens, N rows of W (192 per block of the cluster), K columns of W.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/linear_wgmma.cuh"

#define STAGES         3
#define RESIDUAL_BYTES (TILE_M * TILE_N * 2) /* of a tile: three boxes of 64 columns */
#define BOX_BYTES      (TILE_M * 64 * 2)

template <typename T> struct product {
    T *out; /* [M, N] */
    const uint32_t *counts;
    const float *bias, *gain, *shift; /* [N] */
    float epsilon;
    uint32_t K;
};

/* Where things lie in shared memory; each warpgroup has a residual tile and sums of its own. */
template <int BLOCKS> struct place {
    static constexpr int RESIDUAL_AT = STAGES * STAGE_BYTES;
    static constexpr int BIAS_AT = RESIDUAL_AT + 2 * RESIDUAL_BYTES;
    static constexpr int GAIN_AT = BIAS_AT + TILE_N * 4;
    static constexpr int SHIFT_AT = GAIN_AT + TILE_N * 4;
    static constexpr int SUMS_AT = SHIFT_AT + TILE_N * 4; /* [2][BLOCKS][TILE_M] of 8 bytes */
    static constexpr int SUMS_BYTES = BLOCKS * TILE_M * 8;
    typedef emb_ring<STAGES, BLOCKS, SUMS_AT + 2 * SUMS_BYTES> ring;
    static constexpr int LOADED_AT = ring::END; /* [2] barriers each */
    static constexpr int TAKEN_AT = LOADED_AT + 16;
    static constexpr int TOLD_AT = TAKEN_AT + 16;
    static constexpr int BYTES = TOLD_AT + 16;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* The tiles of a cluster: `first`, `first` + `step`, ... below `count`. */
struct schedule {
    uint32_t first, step, count, steps_k, rank;
};

/* One thread: stages of input (this block's share, to all blocks) and of this block's W. */
template <int BLOCKS>
static __device__ __forceinline__ void
load_tiles(uint32_t base, const schedule &s, const CUtensorMap *in, const CUtensorMap *weight) {
    typedef typename place<BLOCKS>::ring ring;
    constexpr uint32_t SHARE = TILE_M / BLOCKS;
    uint32_t stage = 0, phase = 1; /* the first wait on an empty stage passes at once */
    for (uint32_t tile = s.first; tile < s.count; tile += s.step) {
        for (uint32_t k = 0; k < s.steps_k; k++) {
            uint32_t at = base + stage * STAGE_BYTES, full = base + ring::FULL_AT + stage * 8;
            int col = (int)(k * TILE_K), row = (int)(tile * TILE_M + s.rank * SHARE);
            emb_barrier_wait(base + ring::EMPTY_AT + stage * 8, phase);
            emb_barrier_expect(full, STAGE_BYTES);
            emb_tensor_share(at + s.rank * SHARE * 128, in, col, row, full, (1 << BLOCKS) - 1);
            emb_tensor_load(at + IN_BYTES, weight, col, (int)(s.rank * TILE_N), full);
            if (++stage == STAGES) stage = 0, phase ^= 1;
        }
    }
}

/* Another thread: residual tiles, for each warpgroup in turn. */
template <int BLOCKS>
static __device__ __forceinline__ void load_residuals(uint32_t base, const schedule &s,
                                                      const CUtensorMap *residual) {
    typedef place<BLOCKS> P;
    uint32_t group = 0, phase = 1;
    for (uint32_t tile = s.first; tile < s.count; tile += s.step) {
        uint32_t at = base + P::RESIDUAL_AT + group * RESIDUAL_BYTES;
        uint32_t loaded = base + P::LOADED_AT + group * 8;
        emb_barrier_wait(base + P::TAKEN_AT + group * 8, phase);
        emb_barrier_expect(loaded, RESIDUAL_BYTES);
        for (int i = 0; i < TILE_N / 64; i++) {
            emb_tensor_load(at + i * BOX_BYTES, residual, (int)(s.rank * TILE_N + i * 64),
                            (int)(tile * TILE_M), loaded);
        }
        group ^= 1;
        if (group == 0) phase ^= 1;
    }
}

/* Adds what a row's four threads hold. */
static __device__ __forceinline__ float quad_sum(float v) {
    v += __shfl_xor_sync(EMB_FULL_WARP, v, 1);
    return v + __shfl_xor_sync(EMB_FULL_WARP, v, 2);
}

/* What stands before and after is not mixed: a wait that is over long since, but whose loop the
 * compiler moves nothing across. It would fetch all at once, for which there are no registers. */
static __device__ __forceinline__ void apart(uint32_t loaded, uint32_t phase) {
    emb_barrier_wait(loaded, phase);
}

/* Adds bias and residual to 16 rows, whose pieces of 16 x 16 come from where lanes' `pieces` say.
 * Gives this thread's part of two rows' sums, in the order of emb_norm_tree. */
template <typename T>
static __device__ __forceinline__ float2 add_residual(float (&sums)[EMB_WGMMA_SUMS], uint32_t bias,
                                                      const uint32_t (&pieces)[4], uint32_t half,
                                                      uint32_t loaded, uint32_t phase) {
    float total[2], four[2], two[2];
#pragma unroll
    for (int n = 0; n < TILE_N / 16; n++) {
        float2 add[2] = {emb_shared_load2(bias + n * 64), emb_shared_load2(bias + n * 64 + 32)};
        float pairs[4];
        uint32_t residual[4];
        if (n % 4 == 0) apart(loaded, phase);
        emb_ldmatrix(residual, pieces[n % 4] + n / 4 * BOX_BYTES + half * BOX_BYTES / 2);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float *x = &sums[n * 8 + i * 2];
            float2 y = emb_unpack<T>(emb_pack<T>(x[0] + add[i / 2].x, x[1] + add[i / 2].y));
            float2 r = emb_unpack<T>(residual[i]);
            x[0] = y.x + r.x, x[1] = y.y + r.y;
            pairs[i] = x[0] + x[1];
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float sum = pairs[i] + pairs[i + 2];
            sum = n % 2 ? two[i] + sum : sum;
            two[i] = sum;
            if (n % 4 == 1) four[i] = sum;
            if (n % 4 == 3) sum = four[i] + sum, total[i] = n < 4 ? sum : total[i] + sum;
        }
    }
    return make_float2(total[0], total[1]);
}

/* Mean of a block's 192 columns of one row and the sum of squares about it; `sum` is this thread's
 * part of the row's sum and `v` its first value. */
static __device__ __forceinline__ float2 judge_row(float sum, const float *v) {
    float mean = __fmul_rn(quad_sum(sum), 1.0f / EMB_NORM_BLOCK);
    return make_float2(mean, quad_sum(emb_norm_tree([&](int j) {
                           float first = v[4 * j] - mean, second = v[4 * j + 1] - mean;
                           return fmaf(second, second, __fmul_rn(first, first));
                       })));
}

/* The norm of 16 rows, packed to where the residual was. */
template <typename T>
static __device__ __forceinline__ void store_norm(const float (&sums)[EMB_WGMMA_SUMS], float2 upper,
                                                  float2 lower, uint32_t gain,
                                                  const uint32_t (&pieces)[4], uint32_t half) {
    constexpr int SHIFT = TILE_N * 4; /* behind the gains */
#pragma unroll
    for (int j = 0; j < TILE_N / 8; j += 2) {
        uint32_t packed[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *pair = &sums[j * 4 + i * 2];
            float2 row = i & 1 ? lower : upper;
            float2 g = emb_shared_load2(gain + (j + i / 2) * 32);
            float2 b = emb_shared_load2(gain + SHIFT + (j + i / 2) * 32);
            packed[i] = emb_pack<T>(fmaf(__fmul_rn(pair[0] - row.x, row.y), g.x, b.x),
                                    fmaf(__fmul_rn(pair[1] - row.x, row.y), g.y, b.y));
        }
        emb_shared_store_matrix(pieces[j / 2 % 4] + j / 8 * BOX_BYTES + half * BOX_BYTES / 2,
                                packed);
    }
}

/* A warp's rows of a tile from shared memory to `out`, 128 bytes at a time. */
template <typename T>
static __device__ __forceinline__ void store_rows(T *out, uint32_t tile, uint32_t width,
                                                  uint32_t first_m, uint32_t rows) {
    uint32_t thread = emb_thread(), lane = thread & 31, warp_row = thread / 32 % 4 * 16;
    int left = (int)(rows - first_m - warp_row - lane / 8);
    T *to = out + (uint64_t)(first_m + warp_row + lane / 8) * width + lane % 8 * 8;
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int i = 0; i < 16; i += 4) {
            uint32_t r = half * 64 + warp_row + i + lane / 8;
            uint32_t from = tile + r * 128 + ((lane % 8 ^ (r & 7)) << 4);
#pragma unroll
            for (int box = 0; box < TILE_N / 64; box++) {
                uint4 v = emb_shared_load16(from + box * BOX_BYTES);
                if (half * 64 + i < left) {
                    *reinterpret_cast<uint4 *>(to + (uint64_t)(half * 64 + i) * width + box * 64) =
                        v;
                }
            }
        }
    }
}

/* Residual, norm, output of one tile. */
template <typename T, int BLOCKS>
static __device__ __forceinline__ void finish(float (&sums)[2][EMB_WGMMA_SUMS], uint32_t base,
                                              const product<T> &p, uint32_t first_m, uint32_t rows,
                                              uint32_t phase) {
    typedef place<BLOCKS> P;
    uint32_t thread = emb_thread(), group = thread / 128 - 1, rank = emb_cluster_rank();
    uint32_t lane = thread & 31, quad = lane & 3, row = thread / 32 % 4 * 16;
    uint32_t tile = base + P::RESIDUAL_AT + group * RESIDUAL_BYTES, pieces[4];
    uint32_t loaded = base + P::LOADED_AT + group * 8;
    uint32_t told = base + P::TOLD_AT + group * 8, bias = base + P::BIAS_AT + quad * 8;
    uint32_t sums_at = base + P::SUMS_AT + group * P::SUMS_BYTES + (row + lane / 4) * 8;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        pieces[i] = tile + (row + (lane & 15)) * 128 + (((i * 2 + lane / 16) ^ (lane & 7)) << 4);
    }
    float2 parts[2] = {add_residual<T>(sums[0], bias, pieces, 0, loaded, phase),
                       add_residual<T>(sums[1], bias, pieces, 1, loaded, phase)};
    float2 mine = judge_row(parts[0].x, &sums[0][0]);
#pragma unroll
    for (int i = 1; i < 4; i++) { /* four rows a thread; each of the quad tells one */
        apart(loaded, phase);
        float2 other = judge_row(i % 2 ? parts[i / 2].y : parts[i / 2].x, &sums[i / 2][i % 2 * 2]);
        if (quad == i) mine = other;
    }
    uint32_t told_row = quad / 2 * 64 + quad % 2 * 8;
#pragma unroll
    for (int to = 0; to < BLOCKS; to++) {
        emb_cluster_store(sums_at + (rank * TILE_M + told_row) * 8, mine, told, to);
    }
    emb_barrier_wait_cluster(told, phase);
    float2 norm[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 blocks[BLOCKS];
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
            blocks[b] = emb_shared_load2(sums_at + (b * TILE_M + i / 2 * 64 + i % 2 * 8) * 8);
        }
        norm[i] = emb_norm_merge<BLOCKS>(blocks, p.epsilon);
    }
    store_norm<T>(sums[0], norm[0], norm[1], bias + P::GAIN_AT - P::BIAS_AT, pieces, 0);
    store_norm<T>(sums[1], norm[2], norm[3], bias + P::GAIN_AT - P::BIAS_AT, pieces, 1);
    __syncwarp();
    store_rows<T>(p.out + rank * TILE_N, tile, BLOCKS * TILE_N, first_m, rows);
    emb_shared_publish();
    __syncwarp();
    if (lane == 0) emb_barrier_arrive_here(base + P::TAKEN_AT + group * 8);
}

template <typename T, int BLOCKS>
static __device__ __forceinline__ void compute_tiles(uint32_t base, const schedule &s,
                                                     const product<T> &p, uint32_t rows,
                                                     uint32_t group) {
    typedef typename place<BLOCKS>::ring ring;
    uint32_t steps = group * s.steps_k, phase = 0;
    for (uint32_t tile = s.first + group * s.step; tile < s.count; tile += 2 * s.step) {
        float sums[2][EMB_WGMMA_SUMS];
        emb_turn_wait(1 + (int)group, 256);
        if (threadIdx.x % 128 == 0) {
            emb_barrier_expect(base + place<BLOCKS>::TOLD_AT + group * 8,
                               place<BLOCKS>::SUMS_BYTES);
        }
        emb_ring_multiply<T, ring>(sums, base, s.steps_k, steps);
        emb_turn_give(2 - (int)group, 256);
        emb_wgmma_wait<0>();
        emb_turn_wait(3 + (int)group, 128);
        emb_ring_release<ring>(base, (steps + s.steps_k - 1) % STAGES);
        finish<T, BLOCKS>(sums, base, p, tile * TILE_M, rows, phase);
        steps += 2 * s.steps_k, phase ^= 1;
    }
}

/* Barriers, and this block's part of bias, gain and shift. */
template <typename T, int BLOCKS>
static __device__ __forceinline__ void set_up(uint32_t base, const product<T> &p, uint32_t rank) {
    typedef place<BLOCKS> P;
    uint32_t thread = threadIdx.x;
    if (thread < TILE_N) {
        uint32_t col = rank * TILE_N + thread;
        emb_shared_store(base + P::BIAS_AT + thread * 4, __float_as_uint(p.bias[col]));
        emb_shared_store(base + P::GAIN_AT + thread * 4, __float_as_uint(p.gain[col]));
        emb_shared_store(base + P::SHIFT_AT + thread * 4, __float_as_uint(p.shift[col]));
    }
    if (thread == 0) {
        emb_ring_init<typename P::ring>(base);
        for (uint32_t i = 0; i < 2; i++) {
            emb_barrier_init(base + P::LOADED_AT + i * 8, 1);
            emb_barrier_init(base + P::TAKEN_AT + i * 8, 4);
            emb_barrier_init(base + P::TOLD_AT + i * 8, 1);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    emb_cluster_sync();
}

#endif

template <typename T, int BLOCKS>
static __global__ void __launch_bounds__(THREADS, 1)
    linear_norm_kernel(const __grid_constant__ CUtensorMap in,
                       const __grid_constant__ CUtensorMap weight,
                       const __grid_constant__ CUtensorMap residual, product<T> p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(1024) unsigned char memory[];
    uint32_t rows = p.counts[0], base = emb_shared(memory);
    schedule s = {blockIdx.x / BLOCKS, gridDim.x / BLOCKS, (rows + TILE_M - 1) / TILE_M,
                  (p.K + TILE_K - 1) / TILE_K, emb_cluster_rank()};
    if (base & 1023) __trap();
    set_up<T, BLOCKS>(base, p, s.rank);
    emb_kernel_begin();
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == 0) load_tiles<BLOCKS>(base, s, &in, &weight);
        if (threadIdx.x == 32) load_residuals<BLOCKS>(base, s, &residual);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        uint32_t group = threadIdx.x / 128 - 1;
        if (group == 1) emb_turn_give(1, 256); /* the first turn is group 0's */
        compute_tiles<T, BLOCKS>(base, s, p, rows, group);
    }
    emb_cluster_sync(); /* no block leaves while another may still reach into it */
#else
    __trap(); /* built without sm_90a: never a silent wrong answer */
#endif
}

/* ---- host ------------------------------------------------------------------------------------ */

/* Operands described; what is left are the grid and the launch. */
typedef struct operands {
    CUtensorMap in, weight, residual;
} operands;

/* Clusters that run at once: processors that a part of the chip has left over stay out. */
template <typename T, int BLOCKS> static int count_clusters(const emb_cuda_device *device) {
    cudaLaunchAttribute attribute = {};
    cudaLaunchConfig_t config = {};
    int clusters = 0;
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = BLOCKS;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    config.gridDim = dim3(device->multiprocessors / BLOCKS * BLOCKS), config.blockDim = THREADS;
    config.dynamicSmemBytes = place<BLOCKS>::BYTES;
    config.attrs = &attribute, config.numAttrs = 1;
    int status =
        cudaFuncSetAttribute(linear_norm_kernel<T, BLOCKS>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize, place<BLOCKS>::BYTES);
    if (!status) {
        status = cudaOccupancyMaxActiveClusters(&clusters, linear_norm_kernel<T, BLOCKS>, &config);
    }
    return status ? 0 : clusters;
}

template <typename T, int BLOCKS>
static int run(void *out, const operands &o, const emb_cuda_linear *linear,
               const emb_cuda_norm *norm, const emb_cuda_pack *pack, const emb_cuda_device *device,
               cudaStream_t stream) {
    product<T> p = {(T *)out,    pack->counts,  linear->bias, norm->gain,
                    norm->shift, norm->epsilon, linear->cols};
    uint32_t tiles = (pack->tokens_max + TILE_M - 1) / TILE_M;
    uint32_t clusters = (uint32_t)count_clusters<T, BLOCKS>(device);
    if (clusters == 0) return cudaErrorNotSupported;
    return emb_launch<BLOCKS>(linear_norm_kernel<T, BLOCKS>,
                              dim3((tiles < clusters ? tiles : clusters) * BLOCKS), THREADS,
                              place<BLOCKS>::BYTES, pack, stream, o.in, o.weight, o.residual, p);
}

template <typename T>
static int run_sized(void *out, const operands &o, const emb_cuda_linear *linear,
                     const emb_cuda_norm *norm, const emb_cuda_pack *pack,
                     const emb_cuda_device *device, cudaStream_t stream) {
    if (linear->rows == 2 * TILE_N) {
        return run<T, 2>(out, o, linear, norm, pack, device, stream);
    }
    return run<T, 4>(out, o, linear, norm, pack, device, stream);
}

int emb_cuda_linear_norm_wgmma(void *out, const void *in, const emb_cuda_linear *linear,
                               const void *residual, const emb_cuda_norm *norm,
                               const emb_cuda_pack *pack, const emb_cuda_device *device,
                               void *stream) {
    operands o;
    uint32_t blocks = linear->rows / TILE_N, tokens = pack->tokens_max;
    emb_cuda_type type = linear->type;
    if (linear->rows % TILE_N || (blocks != 2 && blocks != 4) || linear->cols % 8 ||
        linear->cols <= STAGES * TILE_K) { /* more steps than stages: sums of one tile at a time */
        return cudaErrorInvalidValue;
    }
    int status =
        emb_tensor_describe(&o.in, in, tokens, linear->cols, TILE_M / blocks, TILE_K, type);
    if (!status) {
        status = emb_tensor_describe(&o.weight, linear->weight, linear->rows, linear->cols, TILE_N,
                                     TILE_K, type);
    }
    if (!status) {
        status = emb_tensor_describe(&o.residual, residual, tokens, linear->rows, TILE_M, 64, type);
    }
    if (status) return status;
    cudaStream_t s = (cudaStream_t)stream;
    if (type == EMB_CUDA_F16) {
        return run_sized<emb_f16>(out, o, linear, norm, pack, device, s);
    }
    if (type == EMB_CUDA_BF16) {
        return run_sized<emb_bf16>(out, o, linear, norm, pack, device, s);
    }
    return cudaErrorInvalidValue;
}
