/* gradients_wgmma.cu - partial sums of d_out^T * in on Hopper's warpgroup products; sm_90a only.
 *
 * A pair of blocks computes two parts of 128 x 192 beside or above one another; what both need each
 * loads half of for both. Tensor copies bring 64 tokens of either operand a stage, as they lie: the
 * products take both operands turned. One warp loads, two warpgroups compute 64 x 192 each.
 * Legend: M rows of the weight, N its columns; A is d_out, B is in.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/wgmma.cuh"
#include "train/cuda/kernels/gradients.cuh"

#define THREADS     288
#define GROUPS      2
#define STEP        64              /* tokens of a stage */
#define BOX         (STEP * 64 * 2) /* bytes of 64 columns of a stage */
#define A_BOXES     (EMB_GRADIENT_WGMMA_M / 64)
#define B_BOXES     (EMB_GRADIENT_WGMMA_N / 64)
#define STAGE_BYTES ((A_BOXES + B_BOXES) * BOX)
#define STAGES      5
#define SUMS_AT     (STAGES * STAGE_BYTES) /* of columns: 64 of each warp that computes */
#define FULL_AT     (SUMS_AT + 8 * 64 * 4)
#define EMPTY_AT    (FULL_AT + STAGES * 8)
#define BYTES       (1024 + EMPTY_AT + STAGES * 8)

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* Rows of tokens, 64 columns of each: boxes follow one another. */
static __device__ __forceinline__ uint64_t operand(uint32_t address) {
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(BOX >> 4) << 16 |
           (uint64_t)(8 * 128 >> 4) << 32 | (uint64_t)1 << 62;
}

/* A position in the ring. */
struct ring_place {
    uint32_t stage, phase;

    __device__ __forceinline__ void next() {
        if (++stage == STAGES) stage = 0, phase ^= 1;
    }
};

/* ---- loading --------------------------------------------------------------------------------- */

/* Starts the copies of a stage. A box above the other block's is this block's own, and so is B's
 * beside the other's; the rest is shared. */
template <bool BESIDE>
static __device__ __forceinline__ void
load_stage(uint32_t base, const ring_place &place, const CUtensorMap *d_out, const CUtensorMap *in,
           const emb_gradient_place &at, int token, uint32_t rank) {
    uint32_t a = base + place.stage * STAGE_BYTES, b = a + A_BOXES * BOX;
    uint32_t full = base + FULL_AT + place.stage * 8;
    emb_barrier_wait(base + EMPTY_AT + place.stage * 8, place.phase);
    emb_barrier_expect(full, STAGE_BYTES);
    if (BESIDE) { /* one box of A for both */
        emb_tensor_share(a + rank * BOX, d_out, (int)(at.m + rank * 64), token, full, 3);
    } else {
#pragma unroll
        for (int i = 0; i < A_BOXES; i++) {
            emb_tensor_load(a + i * BOX, d_out, (int)at.m + i * 64, token, full);
        }
    }
#pragma unroll
    for (int i = 0; i < B_BOXES; i++) {
        int col = (int)at.n + i * 64;
        if (BESIDE) {
            emb_tensor_load(b + i * BOX, in, col, token, full);
        } else { /* half of the tokens for both */
            emb_tensor_share(b + i * BOX + rank * (BOX / 2), in, col,
                             token + (int)rank * (STEP / 2), full, 3);
        }
    }
}

template <bool BESIDE>
static __device__ __forceinline__ void
load(uint32_t base, const CUtensorMap *d_out, const CUtensorMap *in, const emb_gradient_plan &p,
     const emb_gradient_split &s, uint32_t worker, uint32_t rank) {
    ring_place place = {0, 1}; /* the first wait on an empty stage passes at once */
    uint32_t end = emb_gradient_begin(s, worker + 1);
    for (uint32_t unit = emb_gradient_begin(s, worker); unit < end;) {
        emb_gradient_piece piece = emb_gradient_piece_at(s, unit, end);
        emb_gradient_place at = emb_gradient_place_of(p, s, worker, piece, rank);
        for (uint32_t step = piece.first; step < piece.last; step++, place.next()) {
            load_stage<BESIDE>(base, place, d_out, in, at, (int)(step * STEP), rank);
        }
        unit += piece.last - piece.first;
    }
}

/* ---- computing ------------------------------------------------------------------------------- */

/* Zeros the tokens of a stage from `first` on: what lies there may be NaNs. */
static __device__ __forceinline__ void clear(uint32_t stage, uint32_t first) {
    uint32_t row = threadIdx.x / 8, piece = threadIdx.x % 8;
    for (uint32_t token = first + row; token < STEP; token += GROUPS * 16) {
#pragma unroll
        for (int i = 0; i < A_BOXES + B_BOXES; i++) {
            asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(stage + i * BOX +
                                                                          token * 128 + piece * 16),
                         "r"(0)
                         : "memory");
        }
    }
    emb_shared_publish();
    emb_turn_wait(1, GROUPS * 128);
}

/* Adds a box to the sums of its columns: a thread has every 16th token of eight. */
template <typename T>
static __device__ __forceinline__ void add_columns(float (&columns)[8], uint32_t box) {
    uint32_t piece = threadIdx.x % 8, row = threadIdx.x / 8 % 16;
    uint32_t at = box + row * 128 + ((piece ^ (row & 7)) << 4);
#pragma unroll
    for (int i = 0; i < STEP / 16; i++) {
        uint4 v = emb_shared_load16(at + i * 16 * 128);
        uint32_t raw[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float2 pair = emb_unpack<T>(raw[j]);
            columns[2 * j] += pair.x, columns[2 * j + 1] += pair.y;
        }
    }
}

/* A warpgroup's sums of 64 columns to `out`. */
static __device__ __forceinline__ void store_columns(float *out, float (&columns)[8],
                                                     uint32_t shared, uint32_t group) {
    uint32_t lane = threadIdx.x & 31, warp = threadIdx.x / 32 % 4, thread = threadIdx.x % 128;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        float v = columns[j];
        v += __shfl_xor_sync(EMB_FULL_WARP, v, 8);
        v += __shfl_xor_sync(EMB_FULL_WARP, v, 16);
        if (lane < 8) emb_shared_store(shared + (warp * 64 + lane * 8 + j) * 4, __float_as_uint(v));
        columns[j] = 0;
    }
    emb_turn_wait(2 + (int)group, 128);
    if (thread < 64) {
        float sum = 0;
        for (int i = 0; i < 4; i++) {
            sum += __uint_as_float(emb_shared_load(shared + (i * 64 + thread) * 4));
        }
        out[thread] = sum;
    }
    emb_turn_wait(2 + (int)group, 128);
}

/* Both blocks of the pair may load into a stage again. */
static __device__ __forceinline__ void release(uint32_t base, uint32_t stage) {
    uint32_t thread = threadIdx.x % 128;
    if (thread < 2) emb_barrier_arrive(base + EMPTY_AT + stage * 8, thread);
}

/* Sums of a piece of a tile; the last stage is neither waited for nor released. */
template <typename T>
static __device__ __forceinline__ void
multiply_piece(float (&sums)[EMB_WGMMA_SUMS], float (&columns)[8], uint32_t base, ring_place &place,
               const emb_gradient_plan &p, const emb_gradient_piece &piece,
               const emb_gradient_place &at, uint32_t tokens, uint32_t group) {
    uint32_t columns_n = p.tiles_n() * p.parts_n, turn = piece.first % columns_n;
    for (uint32_t step = piece.first; step < piece.last; step++) {
        uint32_t stage = base + place.stage * STAGE_BYTES;
        emb_barrier_wait(base + FULL_AT + place.stage * 8, place.phase);
        if ((step + 1) * STEP > tokens) clear(stage, tokens - step * STEP);
        uint64_t a = operand(stage + group * BOX), b = operand(stage + A_BOXES * BOX);
        emb_wgmma_fence();
#pragma unroll
        for (int i = 0; i < STEP / 16; i++) {
            emb_wgmma_turned<T>(sums, a + i * (16 * 128 >> 4), b + i * (16 * 128 >> 4),
                                step > piece.first || i > 0);
        }
        emb_wgmma_commit();
        if (p.d_bias && turn == at.column) add_columns<T>(columns, stage + group * BOX);
        if (++turn == columns_n) turn = 0;
        emb_wgmma_wait<1>();
        if (step > piece.first) release(base, place.stage ? place.stage - 1 : STAGES - 1);
        place.next();
    }
}

template <typename T>
static __device__ __forceinline__ void compute(uint32_t base, const emb_gradient_plan &p,
                                               const emb_gradient_split &s, uint32_t worker,
                                               uint32_t rank, uint32_t tokens) {
    ring_place place = {0, 0};
    uint32_t end = emb_gradient_begin(s, worker + 1), group = threadIdx.x / 128;
    float columns[8] = {};
    for (uint32_t unit = emb_gradient_begin(s, worker); unit < end;) {
        float sums[EMB_WGMMA_SUMS];
        emb_gradient_piece piece = emb_gradient_piece_at(s, unit, end);
        emb_gradient_place at = emb_gradient_place_of(p, s, worker, piece, rank);
        multiply_piece<T>(sums, columns, base, place, p, piece, at, tokens, group);
        emb_wgmma_wait<0>();
        release(base, place.stage ? place.stage - 1 : STAGES - 1);
        uint32_t row = group * 64 + threadIdx.x / 32 % 4 * 16 + (threadIdx.x & 31) / 4;
        uint32_t col = threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < EMB_WGMMA_SUMS; i += 4) {
            asm volatile(""
                         : "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]));
            emb_gradient_store(p, at, row, col + i * 2, sums[i], sums[i + 1]);
            emb_gradient_store(p, at, row + 8, col + i * 2, sums[i + 2], sums[i + 3]);
        }
        if (p.d_bias) {
            store_columns(at.bias + group * 64, columns, base + SUMS_AT + group * 4 * 64 * 4,
                          group);
        }
        unit += piece.last - piece.first;
    }
}

#endif

template <typename T, bool BESIDE>
static __global__ void __launch_bounds__(THREADS, 1)
    gradients_kernel(const __grid_constant__ CUtensorMap d_out,
                     const __grid_constant__ CUtensorMap in, emb_gradient_plan p,
                     const uint32_t *counts) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ unsigned char memory[];
    uint32_t base = (emb_shared(memory) + 1023) & ~1023u, rank = emb_cluster_rank();
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < STAGES; i++) {
            emb_barrier_init(base + FULL_AT + i * 8, 1);
            emb_barrier_init(base + EMPTY_AT + i * 8, 2 * GROUPS);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    emb_cluster_sync();
    emb_kernel_begin();
    uint32_t tokens = counts[0], worker = blockIdx.x / 2;
    emb_gradient_split s = emb_gradient_divide(p, tokens);
    if (worker >= s.workers) return; /* both of the pair */
    if (threadIdx.x >= GROUPS * 128) {
        if (threadIdx.x == GROUPS * 128) load<BESIDE>(base, &d_out, &in, p, s, worker, rank);
    } else {
        compute<T>(base, p, s, worker, rank, tokens);
    }
    __syncwarp();
    emb_cluster_sync(); /* no block leaves while the other may still reach into it */
#else
    __trap(); /* built without sm_90a: never a silent wrong answer */
#endif
}

/* ---- host ------------------------------------------------------------------------------------ */

template <typename T, bool BESIDE>
static int launch(const emb_gradient_plan &p, const void *d_out, const void *in,
                  const emb_cuda_batch *batch, emb_dtype type, cudaStream_t stream) {
    CUtensorMap d_out_map, in_map;
    uint32_t tokens = batch->tokens_max;
    int status = emb_tensor_describe(&d_out_map, d_out, tokens, p.rows, STEP, 64, type);
    if (!status) {
        status =
            emb_tensor_describe(&in_map, in, tokens, p.cols, BESIDE ? STEP : STEP / 2, 64, type);
    }
    if (status) return status;
    return emb_launch<2>(gradients_kernel<T, BESIDE>, dim3(2 * p.workers_max), THREADS, BYTES,
                         batch, stream, d_out_map, in_map, p, batch->counts);
}

int emb_cuda_gradients_wgmma(const emb_gradient_plan &plan, const void *d_out, const void *in,
                             const emb_cuda_batch *batch, emb_dtype type, cudaStream_t stream) {
    if (type == EMB_DTYPE_F16) {
        return plan.parts_n > 1 ? launch<emb_f16, true>(plan, d_out, in, batch, type, stream)
                                : launch<emb_f16, false>(plan, d_out, in, batch, type, stream);
    }
    return plan.parts_n > 1 ? launch<emb_bf16, true>(plan, d_out, in, batch, type, stream)
                            : launch<emb_bf16, false>(plan, d_out, in, batch, type, stream);
}
