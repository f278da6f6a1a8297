/* linear_norm_wgmma.cu - out = norm(residual + in * W^T + bias) in one kernel on Hopper; sm_90a
 * alone.
 *
 * As linear_wgmma.cu, but the blocks of a cluster take the same 128 tokens, each its own 192
 * columns: together whole rows, whose sums they exchange. Each loads a share of the input for all.
 * What is rounded and the order of all sums are those of the product followed by residual_norm.
 * Legend: M tokens, N rows of W (192 per block of the cluster), K columns of W.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/linear/linear_wgmma.cuh"

#define RESIDUAL_BYTES (TILE_M * TILE_N * 2) /* of a tile: three boxes of 64 columns */
#define BOX_BYTES      (TILE_M * 64 * 2)

template <typename T> struct product {
    T *out; /* [M, N] */
    const uint32_t *counts;
    const float *bias, *gain, *shift; /* [N] */
    float epsilon;
    uint32_t K;
};

/* Where things lie in shared memory. BLOCKS make a row of `out`, ROWS of them a cluster. Residual
 * tiles become the output; BUFFERS of them: with 1 the warpgroups have it in turn. */
template <int ROWS_, int BLOCKS_, int STAGES_, int BUFFERS_> struct place {
    static constexpr int ROWS = ROWS_, BLOCKS = BLOCKS_, STAGES = STAGES_, BUFFERS = BUFFERS_;
    static constexpr int RESIDUAL_AT = STAGES * STAGE_BYTES;
    static constexpr int BIAS_AT = RESIDUAL_AT + BUFFERS * RESIDUAL_BYTES;
    static constexpr int GAIN_AT = BIAS_AT + TILE_N * 4;
    static constexpr int SHIFT_AT = GAIN_AT + TILE_N * 4;
    static constexpr int SUMS_AT = SHIFT_AT + TILE_N * 4; /* [2][BLOCKS][TILE_M] of 8 bytes */
    static constexpr int SUMS_BYTES = BLOCKS * TILE_M * 8;
    typedef emb_ring<STAGES, ROWS, BLOCKS, SUMS_AT + 2 * SUMS_BYTES> ring;
    static constexpr int LOADED_AT = ring::END; /* a barrier for each warpgroup */
    static constexpr int TOLD_AT = LOADED_AT + 16;
    static constexpr int TAKEN_AT = TOLD_AT + 16;
    static constexpr int BYTES = TAKEN_AT + 16;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* A row's sums, in the order of emb_norm_tree: a thread holds two values of each group of eight
 * columns, in two rows; its quad holds the groups. */

/* Adds what a row's four threads hold. */
static __device__ __forceinline__ float emb_quad_sum(float v) {
    v += __shfl_xor_sync(EMB_FULL_WARP, v, 1);
    return v + __shfl_xor_sync(EMB_FULL_WARP, v, 2);
}

/* A scheduling barrier: waits for something long complete, across whose loop the compiler moves
 * nothing. Else it would load everything at once, and run out of registers. */
static __device__ __forceinline__ void emb_keep_apart(uint32_t loaded, uint32_t phase) {
    emb_barrier_wait(loaded, phase);
}

/* This thread's part of two rows' sums, while groups of 16 columns come in order. */
struct emb_row_sums {
    float total[2], four[2], two[2];
};

/* Adds columns [16 n, 16 n + 16): `pairs` are sums of two, upper and lower row of the first eight
 * columns, then of the second. */
static __device__ __forceinline__ void emb_row_sums_add(emb_row_sums &s, int n,
                                                        const float (&pairs)[4]) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float sum = pairs[i] + pairs[i + 2];
        sum = n % 2 ? s.two[i] + sum : sum;
        s.two[i] = sum;
        if (n % 4 == 1) s.four[i] = sum;
        if (n % 4 == 3) sum = s.four[i] + sum, s.total[i] = n < 4 ? sum : s.total[i] + sum;
    }
}

/* Mean of 192 columns of one row and the sum of squares about it; `sum` is this thread's part of
 * the row's sum and `v` its first value. */
static __device__ __forceinline__ float2 emb_judge_row(float sum, const float *v) {
    float mean = __fmul_rn(emb_quad_sum(sum), 1.0f / EMB_NORM_BLOCK);
    return make_float2(mean, emb_quad_sum(emb_norm_tree([&](int j) {
                           float first = v[4 * j] - mean, second = v[4 * j + 1] - mean;
                           return fmaf(second, second, __fmul_rn(first, first));
                       })));
}

/* The tiles of this block: `first`, `first` + `step`, ... below `count`, which is the cluster's, so
 * that all of its blocks take part to the end; its columns. */
struct schedule {
    uint32_t first, step, count, steps_k, col;
};

/* One thread: stages. */
template <typename RING>
static __device__ __forceinline__ void
load_tiles(uint32_t base, const schedule &s, const CUtensorMap *in, const CUtensorMap *weight) {
    emb_ring_place place = {0, 1}; /* the first wait on an empty stage passes at once */
    for (uint32_t tile = s.first; tile < s.count; tile += s.step) {
        for (uint32_t k = 0; k < s.steps_k; k++) {
            emb_ring_load<RING>(base, place, in, weight, (int)(k * TILE_K), (int)(tile * TILE_M),
                                (int)s.col);
        }
    }
}

/* Another thread: residual tiles, for the warpgroups in turn. */
template <typename P>
static __device__ __forceinline__ void load_residuals(uint32_t base, const schedule &s,
                                                      const CUtensorMap *residual) {
    uint32_t group = 0, phase = 1;
    for (uint32_t tile = s.first; tile < s.count; tile += s.step) {
        uint32_t buffer = group % P::BUFFERS, loaded = base + P::LOADED_AT + group * 8;
        uint32_t at = base + P::RESIDUAL_AT + buffer * RESIDUAL_BYTES;
        emb_barrier_wait(base + P::TAKEN_AT + buffer * 8, phase);
        emb_barrier_expect(loaded, RESIDUAL_BYTES);
        for (int i = 0; i < TILE_N / 64; i++) {
            emb_tensor_load(at + i * BOX_BYTES, residual, (int)s.col + i * 64, (int)(tile * TILE_M),
                            loaded);
        }
        group ^= 1;
        if (P::BUFFERS == 1 || group == 0) phase ^= 1;
    }
}

/* Adds bias and residual to 16 rows, whose pieces of 16 x 16 come from where lanes' `pieces` say.
 * Gives this thread's part of two rows' sums, in the order of emb_norm_tree. */
template <typename T>
static __device__ __forceinline__ float2 add_residual(float (&sums)[EMB_WGMMA_SUMS], uint32_t bias,
                                                      const uint32_t (&pieces)[4], uint32_t half,
                                                      uint32_t loaded, uint32_t phase) {
    emb_row_sums row;
#pragma unroll
    for (int n = 0; n < TILE_N / 16; n++) {
        float2 add[2] = {emb_shared_load2(bias + n * 64), emb_shared_load2(bias + n * 64 + 32)};
        float pairs[4];
        uint32_t residual[4];
        if (n % 4 == 0) emb_keep_apart(loaded, phase);
        emb_ldmatrix(residual, pieces[n % 4] + n / 4 * BOX_BYTES + half * BOX_BYTES / 2);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float *x = &sums[n * 8 + i * 2];
            float2 y = emb_unpack<T>(emb_pack<T>(x[0] + add[i / 2].x, x[1] + add[i / 2].y));
            float2 r = emb_unpack<T>(residual[i]);
            x[0] = y.x + r.x, x[1] = y.y + r.y;
            pairs[i] = x[0] + x[1];
        }
        emb_row_sums_add(row, n, pairs);
    }
    return make_float2(row.total[0], row.total[1]);
}

/* The norm of 16 rows, packed to where the residual was. */
template <typename T>
static __device__ __forceinline__ void store_norm(const float (&sums)[EMB_WGMMA_SUMS], float2 upper,
                                                  float2 lower, uint32_t gain,
                                                  const uint32_t (&pieces)[4], uint32_t half) {
    constexpr int SHIFT = TILE_N * 4; /* after the gains */
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
template <typename T, typename P>
static __device__ __forceinline__ void finish(float (&sums)[2][EMB_WGMMA_SUMS], uint32_t base,
                                              const product<T> &p, uint32_t first_m,
                                              uint32_t phase) {
    constexpr uint32_t BLOCKS = P::BLOCKS;
    uint32_t thread = emb_thread(), group = thread / 128 - 1, rank = emb_cluster_rank();
    uint32_t lane = thread & 31, quad = lane & 3, row = thread / 32 % 4 * 16, col = rank % BLOCKS;
    uint32_t buffer = group % P::BUFFERS, loaded = base + P::LOADED_AT + group * 8, pieces[4];
    uint32_t tile = base + P::RESIDUAL_AT + buffer * RESIDUAL_BYTES;
    uint32_t told = base + P::TOLD_AT + group * 8, bias = base + P::BIAS_AT + quad * 8;
    uint32_t sums_at = base + P::SUMS_AT + group * P::SUMS_BYTES + (row + lane / 4) * 8;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        pieces[i] = tile + (row + (lane & 15)) * 128 + (((i * 2 + lane / 16) ^ (lane & 7)) << 4);
    }
    float2 parts[2] = {add_residual<T>(sums[0], bias, pieces, 0, loaded, phase),
                       add_residual<T>(sums[1], bias, pieces, 1, loaded, phase)};
    float2 mine = emb_judge_row(parts[0].x, &sums[0][0]);
#pragma unroll
    for (int i = 1; i < 4; i++) { /* four rows a thread; each of the quad tells one */
        emb_keep_apart(loaded, phase);
        float2 other =
            emb_judge_row(i % 2 ? parts[i / 2].y : parts[i / 2].x, &sums[i / 2][i % 2 * 2]);
        if (quad == i) mine = other;
    }
    uint32_t told_row = quad / 2 * 64 + quad % 2 * 8;
#pragma unroll
    for (uint32_t to = 0; to < BLOCKS; to++) {
        emb_cluster_store(sums_at + (col * TILE_M + told_row) * 8, mine, told, rank - col + to);
    }
    emb_barrier_wait_cluster(told, phase);
    float2 norm[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 blocks[BLOCKS];
#pragma unroll
        for (uint32_t b = 0; b < BLOCKS; b++) {
            blocks[b] = emb_shared_load2(sums_at + (b * TILE_M + i / 2 * 64 + i % 2 * 8) * 8);
        }
        norm[i] = emb_norm_merge<BLOCKS>(blocks, p.epsilon);
    }
    uint32_t rows = *(const volatile uint32_t *)p.counts; /* not kept beside the sums */
    store_norm<T>(sums[0], norm[0], norm[1], bias + P::GAIN_AT - P::BIAS_AT, pieces, 0);
    store_norm<T>(sums[1], norm[2], norm[3], bias + P::GAIN_AT - P::BIAS_AT, pieces, 1);
    __syncwarp();
    store_rows<T>(p.out + col * TILE_N, tile, BLOCKS * TILE_N, first_m, rows);
    emb_shared_publish();
    __syncwarp();
    if (lane == 0) emb_barrier_arrive_here(base + P::TAKEN_AT + buffer * 8);
}

template <typename T, typename P>
static __device__ __forceinline__ void compute_tiles(uint32_t base, const schedule &s,
                                                     const product<T> &p, uint32_t group) {
    uint32_t steps = group * s.steps_k, phase = 0;
    for (uint32_t tile = s.first + group * s.step; tile < s.count; tile += 2 * s.step) {
        float sums[2][EMB_WGMMA_SUMS];
        emb_turn_wait(1 + (int)group, 256);
        if (threadIdx.x % 128 == 0) {
            emb_barrier_expect(base + P::TOLD_AT + group * 8, P::SUMS_BYTES);
        }
        emb_ring_multiply<T, typename P::ring>(sums, base, s.steps_k, steps);
        emb_turn_give(2 - (int)group, 256);
        emb_wgmma_wait<0>();
        emb_turn_wait(3 + (int)group, 128);
        emb_ring_release<typename P::ring>(base, (steps + s.steps_k - 1) % P::STAGES);
        finish<T, P>(sums, base, p, tile * TILE_M, phase);
        steps += 2 * s.steps_k, phase ^= 1;
    }
}

/* Barriers, and this block's part of bias, gain and shift. */
template <typename T, typename P>
static __device__ __forceinline__ void set_up(uint32_t base, const product<T> &p, uint32_t col) {
    uint32_t thread = threadIdx.x;
    if (thread < TILE_N) {
        emb_shared_store(base + P::BIAS_AT + thread * 4, __float_as_uint(p.bias[col + thread]));
        emb_shared_store(base + P::GAIN_AT + thread * 4, __float_as_uint(p.gain[col + thread]));
        emb_shared_store(base + P::SHIFT_AT + thread * 4, __float_as_uint(p.shift[col + thread]));
    }
    if (thread == 0) {
        emb_ring_init<typename P::ring>(base);
        for (uint32_t i = 0; i < 2; i++) {
            emb_barrier_init(base + P::LOADED_AT + i * 8, 1);
            emb_barrier_init(base + P::TOLD_AT + i * 8, 1);
            emb_barrier_init(base + P::TAKEN_AT + i * 8, 4);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    emb_cluster_sync();
}

#endif

template <typename T, typename P>
static __global__ void __launch_bounds__(THREADS, 1)
    linear_norm_kernel(const __grid_constant__ CUtensorMap in,
                       const __grid_constant__ CUtensorMap weight,
                       const __grid_constant__ CUtensorMap residual, product<T> p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(1024) unsigned char memory[];
    uint32_t base = emb_shared(memory), rank = emb_cluster_rank();
    uint32_t tiles = (p.counts[0] + TILE_M - 1) / TILE_M, first = blockIdx.x / P::ring::BLOCKS;
    schedule s = {first * P::ROWS + rank / P::BLOCKS, gridDim.x / P::BLOCKS,
                  (tiles + P::ROWS - 1) / P::ROWS * P::ROWS, (p.K + TILE_K - 1) / TILE_K,
                  rank % P::BLOCKS * TILE_N};
    if (base & 1023) __trap();
    set_up<T, P>(base, p, s.col);
    emb_kernel_begin();
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == 0) load_tiles<typename P::ring>(base, s, &in, &weight);
        if (threadIdx.x == 32) load_residuals<P>(base, s, &residual);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        uint32_t group = threadIdx.x / 128 - 1;
        if (group == 1) emb_turn_give(1, 256); /* the first turn is group 0's */
        compute_tiles<T, P>(base, s, p, group);
    }
    emb_cluster_sync(); /* no block leaves while another may still reach into it */
#else
    __trap(); /* built without sm_90a: never a silent wrong answer */
#endif
}

/* ---- host ------------------------------------------------------------------------------------ */

/* What a launch needs besides the sizes. */
typedef struct request {
    void *out;
    const void *in, *residual;
    const emb_cuda_linear *linear;
    const emb_cuda_norm *norm;
    const emb_cuda_batch *batch;
    const emb_cuda_device *device;
    cudaStream_t stream;
} request;

template <typename T, typename P> static int run(const request &r) {
    const emb_cuda_linear *linear = r.linear;
    CUtensorMap in, weight, residual;
    uint32_t tokens = r.batch->tokens_max, clusters = 0;
    uint32_t tiles = (tokens + P::ROWS * TILE_M - 1) / (P::ROWS * TILE_M);
    product<T> p = {(T *)r.out,    r.batch->counts, linear->bias, r.norm->gain,
                    r.norm->shift, r.norm->epsilon, linear->cols};
    int status = emb_tensor_describe(&in, r.in, tokens, linear->cols, P::ring::IN_SHARE, TILE_K,
                                     linear->type);
    if (!status) {
        status = emb_tensor_describe(&weight, linear->weight, linear->rows, linear->cols,
                                     P::ring::WEIGHT_SHARE, TILE_K, linear->type);
    }
    if (!status) {
        status = emb_tensor_describe(&residual, r.residual, tokens, linear->rows, TILE_M, 64,
                                     linear->type);
    }
    if (!status) {
        status = emb_cluster_count(&clusters, linear_norm_kernel<T, P>, P::ring::BLOCKS, THREADS,
                                   P::BYTES, r.device);
    }
    if (status) return status;
    return emb_launch<P::ring::BLOCKS>(
        linear_norm_kernel<T, P>, dim3((tiles < clusters ? tiles : clusters) * P::ring::BLOCKS),
        THREADS, P::BYTES, r.batch, r.stream, in, weight, residual, p);
}

/* Few steps: what follows the product counts, so each warpgroup has its residual by itself. Many
 * tiles: two rows share W. Seen with `bench_forward ops`. */
template <typename T> static int run_sized(const request &r) {
    if (r.linear->rows == 2 * TILE_N) {
        if (r.linear->cols <= 768) return run<T, place<1, 2, 3, 2>>(r);
        return run<T, place<1, 2, 4, 1>>(r);
    }
    if (r.batch->tokens_max < 24576) return run<T, place<1, 4, 4, 1>>(r);
    return run<T, place<2, 4, 4, 1>>(r);
}

int emb_cuda_linear_norm_wgmma(void *out, const void *in, const emb_cuda_linear *linear,
                               const void *residual, const emb_cuda_norm *norm,
                               const emb_cuda_batch *batch, const emb_cuda_device *device,
                               void *stream) {
    request r = {out, in, residual, linear, norm, batch, device, (cudaStream_t)stream};
    /* more steps than stages: then no block can be a tile ahead with its sums */
    bool fits = linear->cols % 8 == 0 && linear->cols > 4 * TILE_K;
    if (!fits || (linear->rows != 2 * TILE_N && linear->rows != 4 * TILE_N)) {
        return cudaErrorInvalidValue;
    }
    if (linear->type == EMB_DTYPE_F16) return run_sized<emb_f16>(r);
    if (linear->type == EMB_DTYPE_BF16) return run_sized<emb_bf16>(r);
    return cudaErrorInvalidValue;
}
