/* narrow_quantize_wgmma.cu - the u8 codes of GELU(codes * W^T + bias) in one kernel on Hopper, for
 * up to 1,536 rows of up to 384 columns; sm_90a alone.
 *
 * A cluster of eight blocks holds whole rows of 128 tokens, each block its own 192 columns, whose
 * part of W stays in shared memory; each loads an eighth of the input for all. They tell each other
 * the range of their part of a row, from which come scale and zero. Codes are those of the product
 * rounded to F16, then quantised.
 * Legend: M tokens, N rows of W (192 a block), K columns of W in steps of 128.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/codes.cuh"
#include "backend/cuda/linear_wgmma.cuh"

#define BLOCKS      8
#define STAGES      5
#define STEPS       3                 /* of K, at most */
#define STEP_CODES  128               /* of K */
#define SHARE       (TILE_M / BLOCKS) /* rows of the input that a block loads */
#define PART_COLS   64                /* columns a warp stages at once */
#define PART_STRIDE (PART_COLS + 16)  /* no two rows' pairs in one bank */
#define PART_BYTES  (16 * PART_STRIDE)

/* Where things lie in shared memory. Of columns: bias, scale, row sum of W, smooth. Spans: what the
 * blocks tell, for two tiles of each warpgroup, since another block may be a tile ahead. */
#define WEIGHT_AT    (STAGES * IN_BYTES)
#define PARTS_AT     (WEIGHT_AT + STEPS * WEIGHT_BYTES)
#define COLUMNS_AT   (PARTS_AT + 8 * PART_BYTES)
#define FACTOR_AT(i) ((i)*TILE_N * 4)
#define TOKENS_AT    (COLUMNS_AT + FACTOR_AT(4)) /* [2][scales, zeros][TILE_M] */
#define SPANS_AT     (TOKENS_AT + 4 * TILE_M * 4)
#define SPANS_BYTES  (BLOCKS * TILE_M * 8) /* of one tile */
typedef emb_ring<STAGES, 1, BLOCKS, SPANS_AT + 4 * SPANS_BYTES> ring;
#define TOLD_AT (ring::END) /* [group][tile even or odd] */
#define KEPT_AT (TOLD_AT + 32)
#define BYTES   (KEPT_AT + 8)

struct product {
    emb_codes_rule rule;
    const float *columns[4]; /* [N] each, as they lie in shared memory; NULL: ones */
    const float *token_scales;
    const int32_t *token_zeros;
    const uint32_t *counts;
    uint32_t N, K;
    int gelu;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* The tiles of a cluster: `first`, `first` + `step`, ... below `count`. */
struct schedule {
    uint32_t first, step, count, steps_k, rank;
};

/* One thread: this block's part of W, once. */
static __device__ __forceinline__ void load_weight(uint32_t base, const schedule &s,
                                                   const CUtensorMap *weight) {
    emb_barrier_expect(base + KEPT_AT, s.steps_k * WEIGHT_BYTES);
    for (uint32_t k = 0; k < s.steps_k; k++) {
        emb_tensor_load(base + WEIGHT_AT + k * WEIGHT_BYTES, weight, (int)(k * STEP_CODES),
                        (int)(s.rank * TILE_N), base + KEPT_AT);
    }
}

/* The same thread: shares of the input for all blocks. */
static __device__ __forceinline__ void load_tiles(uint32_t base, const schedule &s,
                                                  const CUtensorMap *in) {
    uint32_t stage = 0, phase = 1; /* the first wait on an empty stage passes at once */
    for (uint32_t tile = s.first; tile < s.count; tile += s.step) {
        for (uint32_t k = 0; k < s.steps_k; k++) {
            uint32_t full = base + ring::FULL_AT + stage * 8;
            emb_barrier_wait(base + ring::EMPTY_AT + stage * 8, phase);
            emb_barrier_expect(full, IN_BYTES);
            emb_tensor_share(base + stage * IN_BYTES + s.rank * SHARE * STEP_CODES, in,
                             (int)(k * STEP_CODES), (int)(tile * TILE_M + s.rank * SHARE), full,
                             (1 << BLOCKS) - 1);
            if (++stage == STAGES) stage = 0, phase ^= 1;
        }
    }
}

/* A warpgroup's scales and zeros of its tokens to shared memory. */
static __device__ __forceinline__ void load_tokens(uint32_t to, const product &p, uint32_t first_m,
                                                   uint32_t rows) {
    uint32_t thread = emb_thread() % 128, m = first_m + thread;
    if (m < rows) {
        emb_copy4(to + thread * 4, p.token_scales + m);
        emb_copy4(to + (TILE_M + thread) * 4, p.token_zeros + m);
    }
    emb_copy_commit();
}

static __device__ __forceinline__ void multiply(int32_t (&sums)[2][EMB_WGMMA_SUMS], uint32_t base,
                                                uint32_t steps, uint32_t place) {
    uint32_t stage = place % STAGES, phase = place / STAGES & 1;
    for (uint32_t k = 0; k < steps; k++) {
        emb_barrier_wait(base + ring::FULL_AT + stage * 8, phase);
        uint64_t a = emb_wgmma_operand(base + stage * IN_BYTES);
        uint64_t b = emb_wgmma_operand(base + WEIGHT_AT + k * WEIGHT_BYTES);
        emb_wgmma_fence();
#pragma unroll
        for (int i = 0; i < STEP_CODES / 32; i++) {
            emb_wgmma<emb_u8>(sums[0], a + 2 * i, b + 2 * i, k + i > 0);
            emb_wgmma<emb_u8>(sums[1], a + 2 * i + (64 * 128 >> 4), b + 2 * i, k + i > 0);
        }
        emb_wgmma_commit();
        emb_wgmma_wait<1>();
        if (k) emb_ring_release<ring>(base, stage ? stage - 1 : STAGES - 1);
        if (++stage == STAGES) stage = 0, phase ^= 1;
    }
}

/* What stands before and after is not mixed: a wait that is over long since, but whose loop the
 * compiler moves nothing across. */
static __device__ __forceinline__ void apart(uint32_t base) {
    emb_barrier_wait(base + KEPT_AT, 0);
}

/* Least and largest of a row, zero among them: of pairs of columns where nothing is smoothed. */
struct row_span {
    __half2 low2, high2;
    float low, high;
};

template <bool SMOOTH>
static __device__ __forceinline__ void widen(row_span &span, uint32_t packed, float2 smooth) {
    if (SMOOTH) {
        float2 v = emb_unpack<emb_f16>(packed);
        v.x = __fmul_rn(v.x, smooth.x), v.y = __fmul_rn(v.y, smooth.y);
        span.low = fminf(span.low, fminf(v.x, v.y));
        span.high = fmaxf(span.high, fmaxf(v.x, v.y));
    } else {
        __half2 v = *reinterpret_cast<__half2 *>(&packed);
        span.low2 = __hmin2(span.low2, v), span.high2 = __hmax2(span.high2, v);
    }
}

/* Outputs of 16 rows, rounded to F16 and packed in pairs; widens this thread's two rows' spans. */
template <bool SMOOTH>
static __device__ __forceinline__ void
round_outputs(uint32_t (&packed)[EMB_WGMMA_SUMS / 2], row_span *spans,
              const int32_t (&sums)[EMB_WGMMA_SUMS], uint32_t base, uint32_t columns,
              uint32_t tokens, int gelu) {
    float scale[2];
    int32_t zero[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        scale[i] = __uint_as_float(emb_shared_load(tokens + i * 32));
        zero[i] = (int32_t)emb_shared_load(tokens + TILE_M * 4 + i * 32);
    }
#pragma unroll
    for (int j = 0; j < TILE_N / 8; j++) {
        uint32_t at = columns + j * 32;
        if (j % 4 == 0) apart(base);
        float2 bias = emb_shared_load2(at), by = emb_shared_load2(at + FACTOR_AT(1));
        float2 sum = emb_shared_load2(at + FACTOR_AT(2)), smooth = make_float2(1, 1);
        if (SMOOTH) smooth = emb_shared_load2(at + FACTOR_AT(3));
        float v[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            v[i] = emb_code_value(sums[j * 4 + i], i % 2 ? by.y : by.x,
                                  __float_as_int(i % 2 ? sum.y : sum.x), i % 2 ? bias.y : bias.x,
                                  scale[i / 2], zero[i / 2]);
        }
        if (gelu) emb_gelu_fast(v);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            packed[j * 2 + i] = emb_pack<emb_f16>(v[2 * i], v[2 * i + 1]);
            widen<SMOOTH>(spans[i], packed[j * 2 + i], smooth);
        }
    }
}

/* Least and largest over a row's four threads. */
template <bool SMOOTH> static __device__ __forceinline__ float2 join_span(const row_span &s) {
    float low = SMOOTH ? s.low : fminf(__low2float(s.low2), __high2float(s.low2));
    float high = SMOOTH ? s.high : fmaxf(__low2float(s.high2), __high2float(s.high2));
#pragma unroll
    for (int step = 1; step < 4; step <<= 1) {
        low = fminf(low, __shfl_xor_sync(EMB_FULL_WARP, low, step));
        high = fmaxf(high, __shfl_xor_sync(EMB_FULL_WARP, high, step));
    }
    return make_float2(low, high);
}

/* Two values' codes. */
template <bool SMOOTH>
static __device__ __forceinline__ uint16_t code_pair(uint32_t packed, float factor, int32_t zero,
                                                     float2 smooth) {
    float2 v = emb_unpack<emb_f16>(packed);
    if (SMOOTH) v.x = __fmul_rn(v.x, smooth.x), v.y = __fmul_rn(v.y, smooth.y);
    return (uint16_t)emb_code_pair(v.x, v.y, factor, zero, 0);
}

static __device__ __forceinline__ void store2(uint32_t to, uint16_t v) {
    asm volatile("st.shared.b16 [%0], %1;" ::"r"(to), "h"(v) : "memory");
}

/* How a row's values become codes. */
struct row_range {
    float factor;
    int32_t zero;
};

/* Codes of 16 rows by way of shared memory, in pieces of 64 bytes a row. */
template <bool SMOOTH>
static __device__ __forceinline__ void
store_codes(const product &p, const uint32_t (&packed)[EMB_WGMMA_SUMS / 2], const row_range *ranges,
            uint32_t staged, uint32_t columns, uint32_t first_m, uint32_t first_n, uint32_t rows) {
    uint32_t lane = emb_thread() & 31, row = lane / 4, col = lane % 4 * 16;
    uint32_t to = staged + row * PART_STRIDE + lane % 4 * 2;
    uint32_t from = staged + row * PART_STRIDE + col;
    char *out = (char *)p.rule.codes.values + (uint64_t)(first_m + row) * p.N + first_n + col;
#pragma unroll
    for (int part = 0; part < TILE_N / PART_COLS; part++) {
#pragma unroll
        for (int j = 0; j < PART_COLS / 8; j++) {
            int group = part * (PART_COLS / 8) + j;
            float2 smooth = make_float2(1, 1);
            if (SMOOTH) smooth = emb_shared_load2(columns + group * 32 + FACTOR_AT(3));
#pragma unroll
            for (int i = 0; i < 2; i++) {
                store2(to + i * 8 * PART_STRIDE + j * 8,
                       code_pair<SMOOTH>(packed[group * 2 + i], ranges[i].factor, ranges[i].zero,
                                         smooth));
            }
        }
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint4 v = emb_shared_load16(from + i * 8 * PART_STRIDE);
            if (first_m + row + i * 8 < rows && first_n + part * PART_COLS + col < p.N) {
                emb_store16(out + (uint64_t)(i * 8) * p.N + part * PART_COLS, v);
            }
        }
        __syncwarp();
    }
}

/* A row's range over all blocks' parts. */
static __device__ __forceinline__ float2 whole_span(uint32_t at) {
    float2 span = emb_shared_load2(at);
#pragma unroll
    for (int b = 1; b < BLOCKS; b++) {
        float2 other = emb_shared_load2(at + b * TILE_M * 8);
        span.x = fminf(span.x, other.x), span.y = fmaxf(span.y, other.y);
    }
    return span;
}

/* Outputs, ranges, codes of one tile; the group's `turn`-th. */
template <bool SMOOTH>
static __device__ __forceinline__ void finish(int32_t (&sums)[2][EMB_WGMMA_SUMS], uint32_t base,
                                              const schedule &s, const product &p, uint32_t tile,
                                              uint32_t turn) {
    uint32_t thread = emb_thread(), group = thread / 128 - 1, lane = thread & 31, quad = lane & 3;
    uint32_t row = thread / 32 % 4 * 16 + lane / 4, columns = base + COLUMNS_AT + quad * 8;
    uint32_t tokens = base + TOKENS_AT + group * 2 * TILE_M * 4 + row * 4;
    uint32_t told = base + TOLD_AT + (group * 2 + turn % 2) * 8;
    uint32_t spans_at = base + SPANS_AT + (group * 2 + turn % 2) * SPANS_BYTES;
    uint32_t packed[2][EMB_WGMMA_SUMS / 2], told_row = row + quad / 2 * 64 + quad % 2 * 8;
    row_span spans[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        spans[i].low2 = spans[i].high2 = __float2half2_rn(0.0f);
        spans[i].low = spans[i].high = 0;
    }
    round_outputs<SMOOTH>(packed[0], spans, sums[0], base, columns, tokens, p.gelu);
    round_outputs<SMOOTH>(packed[1], spans + 2, sums[1], base, columns, tokens + 64 * 4, p.gelu);
    float2 mine = join_span<SMOOTH>(spans[0]); /* four rows a thread; each of the quad tells one */
#pragma unroll
    for (int i = 1; i < 4; i++) {
        float2 other = join_span<SMOOTH>(spans[i]);
        if (quad == i) mine = other;
    }
#pragma unroll
    for (uint32_t to = 0; to < BLOCKS; to++) {
        emb_cluster_store(spans_at + (s.rank * TILE_M + told_row) * 8, mine, told, to);
    }
    emb_barrier_wait_cluster(told, turn / 2 & 1);
    mine = whole_span(spans_at + told_row * 8);
    int32_t zero;
    float2 range = emb_code_range(mine.x, mine.y, &zero);
    uint32_t rows = *(const volatile uint32_t *)p.counts; /* not kept beside the sums */
    uint32_t first_m = tile * TILE_M, m = first_m + told_row;
    if (s.rank == 0 && m < rows) {
        float from = p.token_scales[m]; /* a NaN stays */
        p.rule.codes.scales[m] = from == from ? range.x : from;
        p.rule.codes.zeros[m] = zero;
    }
    row_range ranges[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        ranges[i].factor = __shfl_sync(EMB_FULL_WARP, range.y, (lane & 28) + i);
        ranges[i].zero = __shfl_sync(EMB_FULL_WARP, zero, (lane & 28) + i);
    }
    uint32_t staged = base + PARTS_AT + (thread / 32 - 4) * PART_BYTES;
    first_m += thread / 32 % 4 * 16;
    store_codes<SMOOTH>(p, packed[0], ranges, staged, columns, first_m, s.rank * TILE_N, rows);
    store_codes<SMOOTH>(p, packed[1], ranges + 2, staged, columns, first_m + 64, s.rank * TILE_N,
                        rows);
}

template <bool SMOOTH>
static __device__ __forceinline__ void
compute_tiles(uint32_t base, const schedule &s, const product &p, uint32_t rows, uint32_t group) {
    uint32_t steps = group * s.steps_k, turn = 0;
    emb_barrier_wait(base + KEPT_AT, 0);
    for (uint32_t tile = s.first + group * s.step; tile < s.count; tile += 2 * s.step) {
        /* zeros, or the sums of the last tile would be kept through its end, and other values
         * spilled for them */
        int32_t sums[2][EMB_WGMMA_SUMS] = {};
        emb_turn_wait(1 + (int)group, 256);
        if (threadIdx.x % 128 == 0) {
            emb_barrier_expect(base + TOLD_AT + (group * 2 + turn % 2) * 8, SPANS_BYTES);
        }
        load_tokens(base + TOKENS_AT + group * 2 * TILE_M * 4, p, tile * TILE_M, rows);
        multiply(sums, base, s.steps_k, steps);
        emb_turn_give(2 - (int)group, 256);
        emb_wgmma_wait<0>();
        emb_copy_wait<0>();
        emb_turn_wait(3 + (int)group, 128);
        emb_ring_release<ring>(base, (steps + s.steps_k - 1) % STAGES);
        finish<SMOOTH>(sums, base, s, p, tile, turn);
        steps += 2 * s.steps_k, turn++;
    }
}

/* Barriers, and the columns' factors. */
static __device__ __forceinline__ void set_up(uint32_t base, const product &p, uint32_t first_n) {
    uint32_t thread = threadIdx.x, n = first_n + thread;
    for (int i = 0; i < 4 && thread < TILE_N; i++) {
        float v = n >= p.N ? 0.0f : p.columns[i] ? p.columns[i][n] : 1.0f;
        emb_shared_store(base + COLUMNS_AT + FACTOR_AT(i) + thread * 4, __float_as_uint(v));
    }
    if (thread == 0) {
        emb_ring_init<ring>(base);
        for (uint32_t i = 0; i < 4; i++) emb_barrier_init(base + TOLD_AT + i * 8, 1);
        emb_barrier_init(base + KEPT_AT, 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    emb_cluster_sync();
}

#endif

template <bool SMOOTH>
static __global__ void __launch_bounds__(THREADS, 1)
    narrow_quantize_kernel(const __grid_constant__ CUtensorMap in,
                           const __grid_constant__ CUtensorMap weight, product p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(1024) unsigned char memory[];
    uint32_t base = emb_shared(memory), rows = p.counts[0];
    schedule s = {blockIdx.x / BLOCKS, gridDim.x / BLOCKS, (rows + TILE_M - 1) / TILE_M,
                  (p.K + STEP_CODES - 1) / STEP_CODES, emb_cluster_rank()};
    if (base & 1023) __trap();
    set_up(base, p, s.rank * TILE_N);
    if (threadIdx.x == 0) load_weight(base, s, &weight); /* it waits for no other kernel */
    emb_kernel_begin();
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == 0) load_tiles(base, s, &in);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        uint32_t group = threadIdx.x / 128 - 1;
        if (group == 1) emb_turn_give(1, 256); /* the first turn is group 0's */
        compute_tiles<SMOOTH>(base, s, p, rows, group);
    }
    emb_cluster_sync(); /* no block leaves while another may still reach into it */
#else
    __trap(); /* built without sm_90a: never a silent wrong answer */
#endif
}

/* ---- host ------------------------------------------------------------------------------------ */

template <bool SMOOTH>
static int run(const product &p, const emb_cuda_codes *codes, const emb_cuda_narrow *linear,
               const emb_cuda_pack *pack, const emb_cuda_device *device, cudaStream_t stream) {
    CUtensorMap in, weight;
    uint32_t tiles = (pack->tokens_max + TILE_M - 1) / TILE_M, clusters = 0;
    int status = emb_tensor_describe(&in, codes->values, pack->tokens_max, linear->cols, SHARE,
                                     STEP_CODES, EMB_CUDA_I8);
    if (!status) {
        status = emb_tensor_describe(&weight, linear->weight, linear->rows, linear->cols, TILE_N,
                                     STEP_CODES, EMB_CUDA_I8);
    }
    if (!status) {
        status = emb_cluster_count(&clusters, narrow_quantize_kernel<SMOOTH>, BLOCKS, THREADS,
                                   BYTES, device);
    }
    if (status) return status;
    return emb_launch<BLOCKS>(narrow_quantize_kernel<SMOOTH>,
                              dim3((tiles < clusters ? tiles : clusters) * BLOCKS), THREADS, BYTES,
                              pack, stream, in, weight, p);
}

int emb_cuda_narrow_quantize_wgmma(const emb_cuda_codes *out, const float *smooth,
                                   const emb_cuda_codes *codes, const emb_cuda_narrow *linear,
                                   int gelu, const emb_cuda_pack *pack,
                                   const emb_cuda_device *device, void *stream) {
    static_assert(BYTES <= 227 * 1024, "what a block may have");
    bool fits = linear->rows && linear->rows % 16 == 0 && linear->rows <= BLOCKS * TILE_N &&
                linear->cols && linear->cols % 16 == 0 && linear->cols <= STEPS * STEP_CODES;
    if (linear->type != EMB_CUDA_I8 || !fits) return cudaErrorInvalidValue;
    product p = {{*out, smooth, (uint32_t)EMB_CUDA_I8},
                 {linear->bias, (const float *)linear->scales, (const float *)linear->sums, smooth},
                 codes->scales,
                 codes->zeros,
                 pack->counts,
                 linear->rows,
                 linear->cols,
                 gelu};
    cudaStream_t s = (cudaStream_t)stream;
    return smooth ? run<true>(p, codes, linear, pack, device, s)
                  : run<false>(p, codes, linear, pack, device, s);
}
