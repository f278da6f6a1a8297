/* gradients_wgmma.cu - partial sums of d_out^T * in on Hopper's warpgroup products; sm_90a only.
 *
 * A pair of blocks computes two parts, 128 or 192 x 192, beside or above one another; of what both
 * need each loads half for both. Tensor copies bring 64 tokens of either operand a stage, as they
 * lie: the products take both operands turned. One warp loads, warpgroups compute 64 x 192 each.
 * Legend: M rows of the weight, N its columns; A is d_out, B is in.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/wgmma.cuh"
#include "train/cuda/kernels/gradients.cuh"

#define STEP  64              /* tokens of a stage */
#define BOX   (STEP * 64 * 2) /* bytes of 64 columns of a stage */
#define BOXES 3               /* of B */

/* Constant sizes: GROUPS boxes of A, each of which a warpgroup multiplies by B. */
template <int GROUPS_, bool BESIDE_> struct shape {
    static constexpr int GROUPS = GROUPS_, THREADS = (GROUPS + 1) * 128;
    static constexpr bool BESIDE = BESIDE_; /* the pair shares A, else B */
    static constexpr int STAGES = GROUPS == 2 ? 5 : 4, STAGE_BYTES = (GROUPS + BOXES) * BOX;
    static constexpr int SUMS_AT = STAGES * STAGE_BYTES; /* of columns, 64 of each warp */
    static constexpr int FULL_AT = SUMS_AT + GROUPS * 4 * 64 * 4, EMPTY_AT = FULL_AT + STAGES * 8;
    static constexpr int BYTES = 1024 + EMPTY_AT + STAGES * 8;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* Rows of tokens, 64 columns of each: boxes follow one another. */
static __device__ __forceinline__ uint64_t operand(uint32_t address) {
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(BOX >> 4) << 16 |
           (uint64_t)(8 * 128 >> 4) << 32 | (uint64_t)1 << 62;
}

/* A position in the ring. */
template <int STAGES> struct ring_place {
    uint32_t stage, phase;

    __device__ __forceinline__ void next() {
        if (++stage == STAGES) stage = 0, phase ^= 1;
    }
};

/* ---- loading --------------------------------------------------------------------------------- */

/* Starts the copies of one operand's boxes; if SHARED of this block's half of the tokens, for both
 * blocks. */
template <int COUNT, bool SHARED>
static __device__ __forceinline__ void load_boxes(uint32_t to, const CUtensorMap *map, uint32_t col,
                                                  uint32_t token, uint32_t full, uint32_t rank) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        if (SHARED) {
            emb_tensor_share(to + i * BOX + rank * (BOX / 2), map, (int)col + i * 64,
                             (int)(token + rank * (STEP / 2)), full, 3);
        } else {
            emb_tensor_load(to + i * BOX, map, (int)col + i * 64, (int)token, full);
        }
    }
}

template <typename S>
static __device__ __forceinline__ void
load(uint32_t base, const CUtensorMap *d_out, const CUtensorMap *in, const emb_gradient_plan &p,
     const emb_gradient_split &s, uint32_t worker, uint32_t rank) {
    ring_place<S::STAGES> place = {0, 1}; /* the first wait on an empty stage passes at once */
    uint32_t end = emb_gradient_begin(s, worker + 1);
    for (uint32_t unit = emb_gradient_begin(s, worker); unit < end;) {
        emb_gradient_piece piece = emb_gradient_piece_at(s, unit, end);
        emb_gradient_place at = emb_gradient_place_of(p, s, worker, piece, rank);
        for (uint32_t step = piece.first; step < piece.last; step++, place.next()) {
            uint32_t a = base + place.stage * S::STAGE_BYTES, b = a + S::GROUPS * BOX;
            uint32_t full = base + S::FULL_AT + place.stage * 8;
            emb_barrier_wait(base + S::EMPTY_AT + place.stage * 8, place.phase);
            emb_barrier_expect(full, S::STAGE_BYTES);
            load_boxes<S::GROUPS, S::BESIDE>(a, d_out, at.m, step * STEP, full, rank);
            load_boxes<BOXES, !S::BESIDE>(b, in, at.n, step * STEP, full, rank);
        }
        unit += piece.last - piece.first;
    }
}

/* ---- computing ------------------------------------------------------------------------------- */

/* Zeros the tokens of a stage from `first` on: what lies there may be NaNs. */
template <int GROUPS> static __device__ __forceinline__ void clear(uint32_t stage, uint32_t first) {
    uint32_t row = threadIdx.x / 8, piece = threadIdx.x % 8;
    for (uint32_t token = first + row; token < STEP; token += GROUPS * 16) {
#pragma unroll
        for (int i = 0; i < GROUPS + BOXES; i++) {
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
template <typename S>
static __device__ __forceinline__ void release(uint32_t base, uint32_t stage) {
    uint32_t thread = threadIdx.x % 128;
    if (thread < 2) emb_barrier_arrive(base + S::EMPTY_AT + stage * 8, thread);
}

/* Sums of a piece of a tile; the last stage is neither waited for nor released. */
template <typename T, typename S>
static __device__ __forceinline__ void
multiply_piece(float (&sums)[EMB_WGMMA_SUMS], float (&columns)[8], uint32_t base,
               ring_place<S::STAGES> &place, const emb_gradient_plan &p,
               const emb_gradient_piece &piece, const emb_gradient_place &at, uint32_t tokens,
               uint32_t group) {
    uint32_t columns_n = p.tiles_n() * p.parts_n, turn = piece.first % columns_n;
    for (uint32_t step = piece.first; step < piece.last; step++) {
        uint32_t stage = base + place.stage * S::STAGE_BYTES;
        emb_barrier_wait(base + S::FULL_AT + place.stage * 8, place.phase);
        if ((step + 1) * STEP > tokens) clear<S::GROUPS>(stage, tokens - step * STEP);
        uint64_t a = operand(stage + group * BOX), b = operand(stage + S::GROUPS * BOX);
        emb_wgmma_fence();
#pragma unroll
        for (int i = 0; i < STEP / 16; i++) {
            emb_wgmma_turned<T>(sums, a + i * (16 * 128 >> 4), b + i * (16 * 128 >> 4),
                                step > piece.first || i > 0);
        }
        emb_wgmma_commit();
        if (p.d_bias && turn == at.column) {
            add_columns<T>(columns, stage + group * BOX);
            emb_turn_wait(2 + (int)group, 128); /* all have read, before one of them releases */
        }
        if (++turn == columns_n) turn = 0;
        emb_wgmma_wait<1>();
        if (step > piece.first) release<S>(base, place.stage ? place.stage - 1 : S::STAGES - 1);
        place.next();
    }
}

template <typename T, typename S>
static __device__ __forceinline__ void compute(uint32_t base, const emb_gradient_plan &p,
                                               const emb_gradient_split &s, uint32_t worker,
                                               uint32_t rank, uint32_t tokens) {
    ring_place<S::STAGES> place = {0, 0};
    uint32_t end = emb_gradient_begin(s, worker + 1), group = threadIdx.x / 128;
    float columns[8] = {};
    for (uint32_t unit = emb_gradient_begin(s, worker); unit < end;) {
        float sums[EMB_WGMMA_SUMS];
        emb_gradient_piece piece = emb_gradient_piece_at(s, unit, end);
        emb_gradient_place at = emb_gradient_place_of(p, s, worker, piece, rank);
        multiply_piece<T, S>(sums, columns, base, place, p, piece, at, tokens, group);
        emb_wgmma_wait<0>();
        release<S>(base, place.stage ? place.stage - 1 : S::STAGES - 1);
#pragma unroll
        for (int i = 0; i < EMB_WGMMA_SUMS; i += 4) {
            asm volatile(""
                         : "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]));
            float4 v = make_float4(sums[i], sums[i + 1], sums[i + 2], sums[i + 3]);
            emb_gradient_store(p, at, threadIdx.x / 32 * 16, i * 2, v);
        }
        if (p.d_bias) {
            store_columns(at.bias + group * 64, columns, base + S::SUMS_AT + group * 4 * 64 * 4,
                          group);
        }
        unit += piece.last - piece.first;
    }
}

static __device__ __forceinline__ void prefetch_map(const CUtensorMap *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

#endif

template <typename T, typename S>
static __global__ void __launch_bounds__(S::THREADS, 1)
    gradients_kernel(const __grid_constant__ CUtensorMap d_out,
                     const __grid_constant__ CUtensorMap in, emb_gradient_plan p,
                     const uint32_t *counts) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ unsigned char memory[];
    uint32_t base = (emb_shared(memory) + 1023) & ~1023u, rank = emb_cluster_rank();
    if (threadIdx.x == 0) {
        prefetch_map(&d_out), prefetch_map(&in);
        for (uint32_t i = 0; i < S::STAGES; i++) {
            emb_barrier_init(base + S::FULL_AT + i * 8, 1);
            emb_barrier_init(base + S::EMPTY_AT + i * 8, 2 * S::GROUPS);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    emb_cluster_sync();
    emb_kernel_begin();
    uint32_t tokens = counts[0], worker = blockIdx.x / 2;
    emb_gradient_split s = emb_gradient_divide(p, tokens);
    if (worker >= s.workers) return; /* both of the pair */
    if (threadIdx.x >= S::GROUPS * 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == S::GROUPS * 128) load<S>(base, &d_out, &in, p, s, worker, rank);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(S::GROUPS == 2 ? 240 : 160));
        compute<T, S>(base, p, s, worker, rank, tokens);
    }
    emb_cluster_sync(); /* no block leaves while the other may still reach into it */
#else
    __trap(); /* built without sm_90a: never a silent wrong answer */
#endif
}

/* ---- host ------------------------------------------------------------------------------------ */

template <typename T, typename S>
static int launch(const emb_gradient_plan &p, const void *d_out, const void *in,
                  const emb_cuda_batch *batch, emb_dtype type, cudaStream_t stream) {
    CUtensorMap d_out_map, in_map;
    uint32_t tokens = batch->tokens_max, half = STEP / 2;
    int status =
        emb_tensor_describe(&d_out_map, d_out, tokens, p.rows, S::BESIDE ? half : STEP, 64, type);
    if (!status) {
        status =
            emb_tensor_describe(&in_map, in, tokens, p.cols, S::BESIDE ? STEP : half, 64, type);
    }
    if (status) return status;
    return emb_launch<2>(gradients_kernel<T, S>, dim3(2 * p.workers_max), S::THREADS, S::BYTES,
                         batch, stream, d_out_map, in_map, p, batch->counts);
}

template <typename T>
static int launch_shape(const emb_gradient_plan &p, const void *d_out, const void *in,
                        const emb_cuda_batch *batch, emb_dtype type, cudaStream_t stream) {
    bool beside = p.parts_n > 1, high = p.part_m == 192;
    auto run = high     ? beside ? launch<T, shape<3, true>> : launch<T, shape<3, false>>
                   : beside ? launch<T, shape<2, true>>
                        : launch<T, shape<2, false>>;
    return run(p, d_out, in, batch, type, stream);
}

int emb_cuda_gradients_wgmma(const emb_gradient_plan &plan, const void *d_out, const void *in,
                             const emb_cuda_batch *batch, emb_dtype type, cudaStream_t stream) {
    if (type == EMB_DTYPE_F16) {
        return launch_shape<emb_f16>(plan, d_out, in, batch, type, stream);
    }
    return launch_shape<emb_bf16>(plan, d_out, in, batch, type, stream);
}
