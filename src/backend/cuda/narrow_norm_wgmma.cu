/* narrow_norm_wgmma.cu - out = norm(residual + codes * W^T + bias) and its codes, in one kernel on
 * Hopper, for rows of 384; sm_90a alone.
 *
 * A warpgroup holds whole rows of 64 tokens, so nothing is exchanged; two of them take turns, and
 * the blocks of a pair share W as in narrow_wgmma.cu. What is rounded and the order of all sums are
 * those of the product followed by residual_norm_codes.
 * Legend: M tokens, N = 384 rows of W, K columns of W; tile 64 x 384, K in stages of 128.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/codes.cuh"
#include "backend/cuda/norm_wgmma.cuh"

#define PAIR        2
#define ROWS        64 /* of a tile */
#define COLS        (2 * TILE_N)
#define STAGE_CODES 128 /* of K */
#define CODE_BYTES  (ROWS * STAGE_CODES)
#define SPAN_BYTES  (CODE_BYTES + COLS * STAGE_CODES) /* of a stage */
#define BOX_BYTES   (ROWS * 128)                      /* 64 columns of the residual */
#define TILE_BYTES  (COLS / 64 * BOX_BYTES)

/* Where things lie in shared memory. Residual tiles become the output; BUFFERS of them: with 1 the
 * warpgroups have it in turn. Of columns: bias, scale, row sum of W, gain, shift, smooth. */
#define FACTOR_AT(i) ((i)*COLS * 4)
template <int STAGES_, int BUFFERS_> struct place {
    static constexpr int STAGES = STAGES_, BUFFERS = BUFFERS_;
    static constexpr int RESIDUAL_AT = STAGES * SPAN_BYTES;
    static constexpr int COLUMNS_AT = RESIDUAL_AT + BUFFERS * TILE_BYTES;
    static constexpr int TOKENS_AT = COLUMNS_AT + FACTOR_AT(6); /* [2][scales, zeros][ROWS] */
    typedef emb_ring<STAGES, PAIR, 1, TOKENS_AT + 4 * ROWS * 4> ring;
    static constexpr int LOADED_AT = ring::END; /* a barrier for each warpgroup */
    static constexpr int TAKEN_AT = LOADED_AT + 16;
    static constexpr int BYTES = TAKEN_AT + 16;
    static_assert(BYTES <= 227 * 1024, "what a block may have");
};

struct product {
    emb_f16 *out; /* [M, N] */
    emb_codes_rule rule;
    const float *columns[6]; /* [N] each, as they lie in shared memory; NULL: ones */
    const float *token_scales;
    const int32_t *token_zeros;
    const uint32_t *counts;
    float epsilon;
    uint32_t K;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* The pairs of tiles of a pair of blocks: `first`, `first` + `step`, ... below `count`. */
struct schedule {
    uint32_t first, step, count, steps_k, rank;
};

static __device__ __forceinline__ uint32_t tile_row(const schedule &s, uint32_t tile) {
    return (tile * PAIR + s.rank) * ROWS;
}

/* One thread: stages. Each block of a pair loads half of W for both. */
template <typename P>
static __device__ __forceinline__ void
load_tiles(uint32_t base, const schedule &s, const CUtensorMap *in, const CUtensorMap *weight) {
    uint32_t stage = 0, phase = 1; /* the first wait on an empty stage passes at once */
    for (uint32_t tile = s.first; tile < s.count; tile += s.step) {
        for (uint32_t k = 0; k < s.steps_k; k++) {
            uint32_t at = base + stage * SPAN_BYTES, full = base + P::ring::FULL_AT + stage * 8;
            emb_barrier_wait(base + P::ring::EMPTY_AT + stage * 8, phase);
            emb_barrier_expect(full, SPAN_BYTES);
            emb_tensor_load(at, in, (int)(k * STAGE_CODES), (int)tile_row(s, tile), full);
            emb_tensor_share(at + CODE_BYTES + s.rank * TILE_N * STAGE_CODES, weight,
                             (int)(k * STAGE_CODES), (int)(s.rank * TILE_N), full, 3);
            if (++stage == P::STAGES) stage = 0, phase ^= 1;
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
        uint32_t at = base + P::RESIDUAL_AT + buffer * TILE_BYTES;
        emb_barrier_wait(base + P::TAKEN_AT + buffer * 8, phase);
        emb_barrier_expect(loaded, TILE_BYTES);
        for (int i = 0; i < COLS / 64; i++) {
            emb_tensor_load(at + i * BOX_BYTES, residual, i * 64, (int)tile_row(s, tile), loaded);
        }
        group ^= 1;
        if (P::BUFFERS == 1 || group == 0) phase ^= 1;
    }
}

/* A warpgroup's scales and zeros of its tokens to shared memory. */
template <typename T>
static __device__ __forceinline__ void load_tokens(uint32_t to, const product &p, uint32_t first_m,
                                                   uint32_t rows) {
    uint32_t thread = emb_thread() % 128, m = first_m + thread;
    if (thread < ROWS && m < rows) {
        emb_copy4(to + thread * 4, p.token_scales + m);
        if (T::exact) emb_copy4(to + (ROWS + thread) * 4, p.token_zeros + m);
    }
    emb_copy_commit();
}

/* sums = one tile's product, its columns in two halves; else as emb_ring_multiply. */
template <typename T, typename P, typename S>
static __device__ __forceinline__ void multiply(S (&sums)[2][EMB_WGMMA_SUMS], uint32_t base,
                                                uint32_t steps, uint32_t place) {
    uint32_t stage = place % P::STAGES, phase = place / P::STAGES & 1;
    for (uint32_t k = 0; k < steps; k++) {
        uint32_t at = base + stage * SPAN_BYTES;
        emb_barrier_wait(base + P::ring::FULL_AT + stage * 8, phase);
        uint64_t a = emb_wgmma_operand(at), b = emb_wgmma_operand(at + CODE_BYTES);
        emb_wgmma_fence();
#pragma unroll
        for (int i = 0; i < STAGE_CODES / 32; i++) {
            emb_wgmma<T>(sums[0], a + 2 * i, b + 2 * i, k + i > 0);
            emb_wgmma<T>(sums[1], a + 2 * i, b + 2 * i + (TILE_N * STAGE_CODES >> 4), k + i > 0);
        }
        emb_wgmma_commit();
        emb_wgmma_wait<1>();
        if (k) emb_ring_release<typename P::ring>(base, stage ? stage - 1 : P::STAGES - 1);
        if (++stage == P::STAGES) stage = 0, phase ^= 1;
    }
}

/* A thread's two rows of a warp's sixteen. */
struct row_pair {
    float scale[2];
    int32_t zero[2];
};

template <typename T>
static __device__ __forceinline__ row_pair read_tokens(uint32_t tokens, uint32_t row) {
    row_pair r = {};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        r.scale[i] = __uint_as_float(emb_shared_load(tokens + (row + i * 8) * 4));
        if constexpr (T::exact) {
            r.zero[i] = (int32_t)emb_shared_load(tokens + (ROWS + row + i * 8) * 4);
        }
    }
    return r;
}

/* Turns a half's sums to what the norm is of: product, rounded, plus residual, whose pieces of 16 x
 * 16 come from where lanes' `pieces` say. Gives this thread's part of two rows' sums, in the order
 * of emb_norm_tree. `columns` is where this thread's first column of the half has its factors. */
template <typename T>
static __device__ __forceinline__ float2 add_residual(float (&x)[EMB_WGMMA_SUMS],
                                                      const typename T::sum (&sums)[EMB_WGMMA_SUMS],
                                                      uint32_t columns, const row_pair &rows,
                                                      const uint32_t (&pieces)[4], uint32_t half,
                                                      uint32_t loaded, uint32_t phase) {
    emb_row_sums row;
#pragma unroll
    for (int n = 0; n < TILE_N / 16; n++) {
        float pairs[4];
        uint32_t residual[4];
        if (n % 4 == 0) emb_keep_apart(loaded, phase);
        emb_ldmatrix(residual, pieces[n % 4] + (n / 4 + half * (TILE_N / 64)) * BOX_BYTES);
#pragma unroll
        for (int c = 0; c < 2; c++) {
            uint32_t at = columns + n * 64 + c * 32;
            float2 bias = emb_shared_load2(at), scale = emb_shared_load2(at + FACTOR_AT(1));
            float2 sum = make_float2(0, 0);
            if constexpr (T::exact) sum = emb_shared_load2(at + FACTOR_AT(2));
#pragma unroll
            for (int i = 0; i < 2; i++) { /* upper and lower row */
                int place = n * 8 + c * 4 + i * 2;
                float first = emb_code_value(sums[place], scale.x, __float_as_int(sum.x), bias.x,
                                             rows.scale[i], rows.zero[i]);
                float second = emb_code_value(sums[place + 1], scale.y, __float_as_int(sum.y),
                                              bias.y, rows.scale[i], rows.zero[i]);
                float2 y = emb_unpack<emb_f16>(emb_pack<emb_f16>(first, second));
                float2 r = emb_unpack<emb_f16>(residual[c * 2 + i]);
                x[place] = y.x + r.x, x[place + 1] = y.y + r.y;
                pairs[c * 2 + i] = x[place] + x[place + 1];
            }
        }
        emb_row_sums_add(row, n, pairs);
    }
    return make_float2(row.total[0], row.total[1]);
}

/* Least and largest of a row, zero among them. */
struct row_span {
    float low, high;
};

template <bool SMOOTH>
static __device__ __forceinline__ void widen(row_span &span, uint32_t packed, uint32_t smooth) {
    float2 v = emb_unpack<emb_f16>(packed);
    if (SMOOTH) {
        float2 by = emb_shared_load2(smooth);
        v.x = __fmul_rn(v.x, by.x), v.y = __fmul_rn(v.y, by.y);
    }
    span.low = fminf(span.low, fminf(v.x, v.y));
    span.high = fmaxf(span.high, fmaxf(v.x, v.y));
}

/* The norm of a half of 16 rows, packed to where the residual was; widens the rows' spans. */
template <bool SMOOTH>
static __device__ __forceinline__ void
store_norm(const float (&x)[EMB_WGMMA_SUMS], const float2 (&norm)[2], row_span (&spans)[2],
           uint32_t columns, const uint32_t (&pieces)[4], uint32_t half) {
#pragma unroll
    for (int j = 0; j < TILE_N / 8; j += 2) {
        uint32_t packed[4];
#pragma unroll
        for (int c = 0; c < 2; c++) {
            uint32_t at = columns + (j + c) * 32;
            float2 g = emb_shared_load2(at + FACTOR_AT(3));
            float2 b = emb_shared_load2(at + FACTOR_AT(4));
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const float *pair = &x[(j + c) * 4 + i * 2];
                packed[c * 2 + i] =
                    emb_pack<emb_f16>(fmaf(__fmul_rn(pair[0] - norm[i].x, norm[i].y), g.x, b.x),
                                      fmaf(__fmul_rn(pair[1] - norm[i].x, norm[i].y), g.y, b.y));
                widen<SMOOTH>(spans[i], packed[c * 2 + i], at + FACTOR_AT(5));
            }
        }
        emb_shared_store_matrix(pieces[j / 2 % 4] + (j / 8 + half * (TILE_N / 64)) * BOX_BYTES,
                                packed);
    }
}

/* What rows' codes are made with. */
struct row_range {
    float factor;
    int32_t zero;
};

/* Least and largest over a row's four threads; one of them writes the scale. `m` is the row. */
template <typename T>
static __device__ __forceinline__ row_range judge_span(row_span span, float2 norm,
                                                       const emb_codes_rule &rule, uint32_t m,
                                                       uint32_t rows) {
#pragma unroll
    for (int step = 1; step < 4; step <<= 1) {
        span.low = fminf(span.low, __shfl_xor_sync(EMB_FULL_WARP, span.low, step));
        span.high = fmaxf(span.high, __shfl_xor_sync(EMB_FULL_WARP, span.high, step));
    }
    row_range range = {0, 0};
    float2 r = T::exact ? emb_code_range(span.low, span.high, &range.zero)
                        : emb_fp8_range(fmaxf(span.high, -span.low));
    range.factor = r.y;
    if (emb_thread() % 4 == 0 && m < rows) {
        bool number = norm.x == norm.x && norm.y == norm.y;
        rule.codes.scales[m] = number ? r.x : __int_as_float(0x7fc00000);
        if (T::exact) rule.codes.zeros[m] = range.zero;
    }
    return range;
}

/* Eight values' codes. */
template <typename T, bool SMOOTH>
static __device__ __forceinline__ uint2 code_eight(uint4 v, const row_range &range,
                                                   uint32_t smooth) {
    uint32_t halves[4] = {v.x, v.y, v.z, v.w}, codes[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 y = emb_unpack<emb_f16>(halves[i]);
        if (SMOOTH) {
            float2 by = emb_shared_load2(smooth + i * 8);
            y.x = __fmul_rn(y.x, by.x), y.y = __fmul_rn(y.y, by.y);
        }
        codes[i] = T::exact
                       ? emb_code_pair(y.x, y.y, range.factor, range.zero, 0)
                       : emb_pack_fp8(__fmul_rn(y.x, range.factor), __fmul_rn(y.y, range.factor));
    }
    return make_uint2(codes[0] | codes[1] << 16, codes[2] | codes[3] << 16);
}

/* A warp's rows of a tile from shared memory to `out` and to codes, 64 columns at a time. */
template <typename T, bool SMOOTH>
static __device__ __forceinline__ void store_rows(const product &p, uint32_t tile, uint32_t smooth,
                                                  const row_range (&ranges)[2], uint32_t first_m,
                                                  uint32_t rows) {
    uint32_t thread = emb_thread(), lane = thread & 31, warp_row = thread / 32 % 4 * 16;
    bool coded = p.rule.type != 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t row = i * 4 + lane / 8, r = warp_row + row, m = first_m + r;
        uint32_t from = tile + r * 128 + ((lane % 8 ^ (r & 7)) << 4);
        row_range range; /* of this row: lanes 4 r to 4 r + 3 have it, r counted in eight */
        range.factor = __shfl_sync(EMB_FULL_WARP, ranges[i / 2].factor, (row & 7) * 4);
        range.zero = __shfl_sync(EMB_FULL_WARP, ranges[i / 2].zero, (row & 7) * 4);
        emb_f16 *to = p.out + (uint64_t)m * COLS + lane % 8 * 8;
        char *codes = (char *)p.rule.codes.values + (uint64_t)m * COLS + lane % 8 * 8;
#pragma unroll
        for (int box = 0; box < COLS / 64; box++) {
            uint4 v = emb_shared_load16(from + box * BOX_BYTES);
            if (m >= rows) continue;
            emb_store16(to + box * 64, v);
            if (!coded) continue;
            *reinterpret_cast<uint2 *>(codes + box * 64) =
                code_eight<T, SMOOTH>(v, range, smooth + (box * 64 + lane % 8 * 8) * 4);
        }
    }
}

/* Residual, norm, output and codes of one tile. */
template <typename T, typename P, bool SMOOTH>
static __device__ __forceinline__ void finish(typename T::sum (&sums)[2][EMB_WGMMA_SUMS],
                                              uint32_t base, const product &p, uint32_t first_m,
                                              uint32_t phase) {
    uint32_t thread = emb_thread(), group = thread / 128 - 1, lane = thread & 31;
    uint32_t row = thread / 32 % 4 * 16, buffer = group % P::BUFFERS, pieces[4];
    uint32_t loaded = base + P::LOADED_AT + group * 8;
    uint32_t tile = base + P::RESIDUAL_AT + buffer * TILE_BYTES;
    uint32_t columns = base + P::COLUMNS_AT + (lane & 3) * 8;
    float x[2][EMB_WGMMA_SUMS];
    row_pair tokens = read_tokens<T>(base + P::TOKENS_AT + group * 2 * ROWS * 4, row + lane / 4);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        pieces[i] = tile + (row + (lane & 15)) * 128 + (((i * 2 + lane / 16) ^ (lane & 7)) << 4);
    }
    float2 parts[2] = {
        add_residual<T>(x[0], sums[0], columns, tokens, pieces, 0, loaded, phase),
        add_residual<T>(x[1], sums[1], columns + TILE_N * 4, tokens, pieces, 1, loaded, phase)};
    float2 norm[2];
#pragma unroll
    for (int i = 0; i < 2; i++) { /* two rows a thread */
        emb_keep_apart(loaded, phase);
        float2 blocks[2] = {emb_judge_row(i ? parts[0].y : parts[0].x, &x[0][i * 2]),
                            emb_judge_row(i ? parts[1].y : parts[1].x, &x[1][i * 2])};
        norm[i] = emb_norm_merge<2>(blocks, p.epsilon);
    }
    row_span spans[2] = {{0, 0}, {0, 0}};
    store_norm<SMOOTH>(x[0], norm, spans, columns, pieces, 0);
    store_norm<SMOOTH>(x[1], norm, spans, columns + TILE_N * 4, pieces, 1);
    uint32_t rows = *(const volatile uint32_t *)p.counts; /* not kept beside the sums */
    row_range ranges[2] = {};
    if (p.rule.type) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            ranges[i] =
                judge_span<T>(spans[i], norm[i], p.rule, first_m + row + lane / 4 + i * 8, rows);
        }
    }
    __syncwarp();
    store_rows<T, SMOOTH>(p, tile, base + P::COLUMNS_AT + FACTOR_AT(5), ranges, first_m, rows);
    emb_shared_publish();
    __syncwarp();
    if (lane == 0) emb_barrier_arrive_here(base + P::TAKEN_AT + buffer * 8);
}

template <typename T, typename P, bool SMOOTH>
static __device__ __forceinline__ void
compute_tiles(uint32_t base, const schedule &s, const product &p, uint32_t rows, uint32_t group) {
    uint32_t steps = group * s.steps_k, phase = 0;
    for (uint32_t tile = s.first + group * s.step; tile < s.count; tile += 2 * s.step) {
        /* zeros, or the sums of the last tile would be kept through its end, and other values
         * spilled for them */
        typename T::sum sums[2][EMB_WGMMA_SUMS] = {};
        emb_turn_wait(1 + (int)group, 256);
        load_tokens<T>(base + P::TOKENS_AT + group * 2 * ROWS * 4, p, tile_row(s, tile), rows);
        multiply<T, P>(sums, base, s.steps_k, steps);
        emb_turn_give(2 - (int)group, 256);
        emb_wgmma_wait<0>();
        emb_copy_wait<0>();
        emb_turn_wait(3 + (int)group, 128);
        emb_ring_release<typename P::ring>(base, (steps + s.steps_k - 1) % P::STAGES);
        finish<T, P, SMOOTH>(sums, base, p, tile_row(s, tile), phase);
        steps += 2 * s.steps_k, phase ^= 1;
    }
}

/* Barriers, and the columns' factors. */
template <typename P>
static __device__ __forceinline__ void set_up(uint32_t base, const product &p) {
    uint32_t thread = threadIdx.x;
#pragma unroll
    for (int i = 0; i < 6; i++) {
        float v = p.columns[i] ? p.columns[i][thread] : 1.0f;
        emb_shared_store(base + P::COLUMNS_AT + FACTOR_AT(i) + thread * 4, __float_as_uint(v));
    }
    if (thread == 0) {
        emb_ring_init<typename P::ring>(base);
        for (uint32_t i = 0; i < 2; i++) {
            emb_barrier_init(base + P::LOADED_AT + i * 8, 1);
            emb_barrier_init(base + P::TAKEN_AT + i * 8, 4);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    emb_cluster_sync();
}

#endif

template <typename T, typename P, bool SMOOTH>
static __global__ void __launch_bounds__(THREADS, 1)
    narrow_norm_kernel(const __grid_constant__ CUtensorMap in,
                       const __grid_constant__ CUtensorMap weight,
                       const __grid_constant__ CUtensorMap residual, product p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    static_assert(THREADS == COLS, "a thread for each column");
    extern __shared__ __align__(1024) unsigned char memory[];
    uint32_t base = emb_shared(memory), rows = p.counts[0];
    schedule s = {blockIdx.x / PAIR, gridDim.x / PAIR, (rows + PAIR * ROWS - 1) / (PAIR * ROWS),
                  (p.K + STAGE_CODES - 1) / STAGE_CODES, emb_cluster_rank()};
    if (base & 1023) __trap();
    set_up<P>(base, p);
    emb_kernel_begin();
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == 0) load_tiles<P>(base, s, &in, &weight);
        if (threadIdx.x == 32) load_residuals<P>(base, s, &residual);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        uint32_t group = threadIdx.x / 128 - 1;
        if (group == 1) emb_turn_give(1, 256); /* the first turn is group 0's */
        compute_tiles<T, P, SMOOTH>(base, s, p, rows, group);
    }
    emb_cluster_sync(); /* no block leaves while another may still reach into it */
#else
    __trap(); /* built without sm_90a: never a silent wrong answer */
#endif
}

/* ---- host ------------------------------------------------------------------------------------ */

/* What a launch needs beside the sizes. */
typedef struct request {
    product p;
    const emb_cuda_codes *codes;
    const emb_cuda_narrow *linear;
    const void *residual;
    const emb_cuda_pack *pack;
    const emb_cuda_device *device;
    cudaStream_t stream;
} request;

template <typename T, typename P, bool SMOOTH> static int run(const request &r) {
    const emb_cuda_narrow *linear = r.linear;
    CUtensorMap in, weight, residual;
    uint32_t tokens = r.pack->tokens_max, resident = r.device->multiprocessors / PAIR;
    uint32_t tiles = (tokens + PAIR * ROWS - 1) / (PAIR * ROWS);
    int status = emb_tensor_describe(&in, r.codes->values, tokens, linear->cols, ROWS, STAGE_CODES,
                                     linear->type);
    if (!status) {
        status = emb_tensor_describe(&weight, linear->weight, linear->rows, linear->cols, TILE_N,
                                     STAGE_CODES, linear->type);
    }
    if (!status) {
        status = emb_tensor_describe(&residual, r.residual, tokens, linear->rows, ROWS, 64,
                                     EMB_CUDA_F16);
    }
    if (status) return status;
    return emb_launch<PAIR>(narrow_norm_kernel<T, P, SMOOTH>,
                            dim3((tiles < resident ? tiles : resident) * PAIR), THREADS, P::BYTES,
                            r.pack, r.stream, in, weight, residual, r.p);
}

/* Few steps: what follows the product counts, so each warpgroup has its residual by itself. */
template <typename T> static int run_sized(const request &r) {
    bool smooth = r.p.rule.smooth != NULL;
    if (r.linear->cols <= 768) {
        return smooth ? run<T, place<2, 2>, true>(r) : run<T, place<2, 2>, false>(r);
    }
    return smooth ? run<T, place<3, 1>, true>(r) : run<T, place<3, 1>, false>(r);
}

int emb_cuda_narrow_norm_wgmma(void *out, const emb_cuda_codes *out_codes, const float *smooth,
                               const emb_cuda_codes *codes, const emb_cuda_narrow *linear,
                               const void *residual, const emb_cuda_norm *norm,
                               const emb_cuda_pack *pack, const emb_cuda_device *device,
                               void *stream) {
    bool exact = linear->type == EMB_CUDA_I8;
    if (linear->rows != COLS || !linear->cols || linear->cols % 16) return cudaErrorInvalidValue;
    if (!exact && linear->type != EMB_CUDA_FP8) return cudaErrorInvalidValue;
    request r = {{}, codes, linear, residual, pack, device, (cudaStream_t)stream};
    r.p.out = (emb_f16 *)out;
    if (out_codes) r.p.rule = {*out_codes, smooth, (uint32_t)linear->type};
    const float *columns[6] = {linear->bias,
                               (const float *)linear->scales,
                               exact ? (const float *)linear->sums : NULL,
                               norm->gain,
                               norm->shift,
                               smooth};
    for (int i = 0; i < 6; i++) r.p.columns[i] = columns[i];
    r.p.token_scales = codes->scales, r.p.token_zeros = codes->zeros;
    r.p.counts = pack->counts, r.p.epsilon = norm->epsilon, r.p.K = linear->cols;
    return exact ? run_sized<emb_u8>(r) : run_sized<emb_e4m3>(r);
}
