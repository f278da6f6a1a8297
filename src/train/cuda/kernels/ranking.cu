/* ranking.cu - the ranking loss: each anchor's log of the sum over all candidates, by tiles that
 * never leave the registers (as Inf-CL does, arXiv 2410.17243).
 *
 * A block keeps its anchors in shared memory and streams the candidates past them, 128 at a time,
 * 64 columns a stage. Each thread has an online softmax of its own columns; they are put together
 * at the end. The order of every sum is the same for all shapes of tiles.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/device.cuh"
#include "train/cuda/kernels/ends.h"

#define THREADS 256
#define COLUMNS 128 /* candidates of a tile */
#define DEPTH   64  /* columns of vectors that a stage holds */
#define PIECES  (DEPTH / 8)
#define LOG2E   1.4426950408889634f
#define LN2     0.6931471805599453f

/* Warps stand two by four. */
template <int ROWS_, int STAGES_> struct shape {
    static constexpr int ROWS = ROWS_, STAGES = STAGES_;
    static constexpr int WARP_ROWS = ROWS / 2, WARP_COLUMNS = COLUMNS / 4;
    static constexpr int M = WARP_ROWS / 16, N = WARP_COLUMNS / 8;
    static constexpr int STAGE_BYTES = COLUMNS * DEPTH * 2, CHUNK_BYTES = ROWS * DEPTH * 2;
    /* a thread's part of the softmax, then the rows' own scores */
    static constexpr int MERGE_BYTES = ROWS * 4 * 8, OWN_BYTES = ROWS * 4;
    static_assert(MERGE_BYTES <= STAGES * STAGE_BYTES, "the merge takes the place of the stages");
};

template <typename S> static uint32_t shared_bytes(uint32_t width) {
    return width / DEPTH * S::CHUNK_BYTES + S::STAGES * S::STAGE_BYTES + S::OWN_BYTES;
}

template <typename T> struct ranking {
    float *losses, *log_sums;
    const T *a, *b;
    uint32_t anchors, candidates, width;
    float scale;
    int pair; /* the own candidate of anchor 0 */
};

/* 64 columns of ROWS rows from `first`; zeros past `count`. */
template <typename T, int ROWS>
static __device__ __forceinline__ void load_chunk(uint32_t to, const T *from, uint32_t first,
                                                  uint32_t count, uint32_t width, uint32_t chunk) {
    uint32_t piece = threadIdx.x % PIECES, row = threadIdx.x / PIECES;
    const T *source = from + (uint64_t)(first + row) * width + chunk * DEPTH + piece * 8;
#pragma unroll
    for (int i = 0; i < ROWS; i += THREADS / PIECES) {
        bool valid = first + row + i < count;
        emb_copy16(to + emb_swizzle<PIECES>(row + i, piece),
                   valid ? source + (uint64_t)i * width : from, valid);
    }
}

/* Where the next stage is read from. */
struct cursor {
    uint32_t tile, chunk, stage;
};

template <typename T, typename S>
static __device__ __forceinline__ void load_stage(cursor &c, uint32_t ring, const ranking<T> &p) {
    uint32_t first = c.tile * COLUMNS;
    if (first < p.candidates) {
        load_chunk<T, COLUMNS>(ring + c.stage * S::STAGE_BYTES, p.b, first, p.candidates, p.width,
                               c.chunk);
    }
    emb_copy_commit();
    if (++c.chunk == p.width / DEPTH) c.chunk = 0, c.tile++;
    if (++c.stage == S::STAGES) c.stage = 0;
}

template <typename T, typename S>
static __device__ __forceinline__ void multiply(float (&scores)[S::M][S::N][4], uint32_t own,
                                                uint32_t stage) {
    uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    uint32_t a_row = (warp >> 2) * S::WARP_ROWS + (lane & 15), a_piece = lane >> 4;
    uint32_t b_row = (warp & 3) * S::WARP_COLUMNS + ((lane >> 4) << 3) + (lane & 7);
    uint32_t b_piece = (lane >> 3) & 1;
#pragma unroll
    for (int k = 0; k < PIECES; k += 2) {
        uint32_t a[S::M][4], b[S::N / 2][4];
#pragma unroll
        for (int m = 0; m < S::M; m++) {
            emb_ldmatrix(a[m], own + emb_swizzle<PIECES>(a_row + m * 16, k + a_piece));
        }
#pragma unroll
        for (int n = 0; n < S::N / 2; n++) {
            emb_ldmatrix(b[n], stage + emb_swizzle<PIECES>(b_row + n * 16, k + b_piece));
        }
#pragma unroll
        for (int m = 0; m < S::M; m++) {
#pragma unroll
            for (int n = 0; n < S::N / 2; n++) {
                emb_mma<T>(scores[m][2 * n], a[m], b[n][0], b[n][1]);
                emb_mma<T>(scores[m][2 * n + 1], a[m], b[n][2], b[n][3]);
            }
        }
    }
}

/* A thread's largest score of each of its rows, and the sum relative to it. */
template <typename S> struct progress { float largest[S::M][2], sums[S::M][2]; };

/* Hides candidates past the end, and keeps the scores of pairs for the loss. */
template <typename S>
static __device__ __forceinline__ void look_at_edges(float (&scores)[S::M][S::N][4], float *own,
                                                     int first_pair, uint32_t first,
                                                     uint32_t candidates) {
    uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    uint32_t row = (warp >> 2) * S::WARP_ROWS + (lane >> 2);
    uint32_t column = first + (warp & 3) * S::WARP_COLUMNS + (lane & 3) * 2;
    bool pairs = (int)first < first_pair + S::ROWS && first_pair < (int)first + COLUMNS;
    if (!pairs && first + COLUMNS <= candidates) return;
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int n = 0; n < S::N; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                uint32_t r = row + m * 16 + (i >> 1) * 8, c = column + n * 8 + (i & 1);
                if (first_pair + (int)r == (int)c) own[r] = scores[m][n][i];
                if (c >= candidates) scores[m][n][i] = -INFINITY;
            }
        }
    }
}

/* One step of the online softmax; `scale` makes powers of 2 of the scores. */
template <typename S>
static __device__ __forceinline__ void
add_scores(progress<S> &state, const float (&scores)[S::M][S::N][4], float scale) {
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float top = state.largest[m][half], sum = 0;
#pragma unroll
            for (int n = 0; n < S::N; n++) {
                top = fmaxf(top, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
            }
            float keep = emb_power2((state.largest[m][half] - top) * scale);
            float offset = -top * scale;
            state.largest[m][half] = top;
#pragma unroll
            for (int n = 0; n < S::N; n++) {
                sum += emb_power2(fmaf(scores[m][n][2 * half], scale, offset)) +
                       emb_power2(fmaf(scores[m][n][2 * half + 1], scale, offset));
            }
            state.sums[m][half] = fmaf(state.sums[m][half], keep, sum);
        }
    }
}

static __device__ __forceinline__ float2 join(float2 a, float2 b, float scale) {
    float top = fmaxf(a.x, b.x);
    return make_float2(top, a.y * emb_power2((a.x - top) * scale) +
                                b.y * emb_power2((b.x - top) * scale));
}

/* Puts the threads' parts together, a row's four lanes and then its four warps, and writes. */
template <typename T, typename S>
static __device__ __forceinline__ void finish(const ranking<T> &p, const progress<S> &state,
                                              float2 *merge, const float *own, uint32_t first_row) {
    uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    float scale = p.scale * LOG2E;
    __syncthreads(); /* all have read the stages that were here */
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float2 part = make_float2(state.largest[m][half], state.sums[m][half]);
#pragma unroll
            for (int step = 1; step <= 2; step <<= 1) {
                float2 other = make_float2(__shfl_xor_sync(EMB_FULL_WARP, part.x, step),
                                           __shfl_xor_sync(EMB_FULL_WARP, part.y, step));
                part = lane & step ? join(other, part, scale) : join(part, other, scale);
            }
            uint32_t row = (warp >> 2) * S::WARP_ROWS + m * 16 + half * 8 + (lane >> 2);
            if ((lane & 3) == 0) merge[row * 4 + (warp & 3)] = part;
        }
    }
    __syncthreads();
    uint32_t row = threadIdx.x;
    if (row >= S::ROWS || first_row + row >= p.anchors) return;
    float2 whole = merge[row * 4];
    for (int i = 1; i < 4; i++) whole = join(whole, merge[row * 4 + i], scale);
    float log_sum = whole.x * p.scale + logf(whole.y);
    p.log_sums[first_row + row] = log_sum;
    p.losses[first_row + row] = log_sum - p.scale * own[row];
}

template <typename T, typename S>
static __global__ void __launch_bounds__(THREADS, S::ROWS == 128 ? 1 : 2)
    ranking_kernel(ranking<T> p) {
    extern __shared__ __align__(128) unsigned char memory[];
    emb_kernel_begin();
    uint32_t chunks = p.width / DEPTH, first_row = blockIdx.x * S::ROWS;
    uint32_t anchors = emb_shared(memory), ring = anchors + chunks * S::CHUNK_BYTES;
    unsigned char *after = memory + chunks * S::CHUNK_BYTES;
    float *own = reinterpret_cast<float *>(after + S::STAGES * S::STAGE_BYTES);
    if (threadIdx.x < S::ROWS) own[threadIdx.x] = 0;
    for (uint32_t c = 0; c < chunks; c++) {
        load_chunk<T, S::ROWS>(anchors + c * S::CHUNK_BYTES, p.a, first_row, p.anchors, p.width, c);
    }
    cursor ahead = {};
    for (int i = 0; i < S::STAGES - 1; i++) load_stage<T, S>(ahead, ring, p);
    progress<S> state;
    for (int m = 0; m < S::M; m++) {
        for (int half = 0; half < 2; half++) {
            state.largest[m][half] = -1e30f, state.sums[m][half] = 0;
        }
    }
    uint32_t stage = 0;
    for (uint32_t first = 0; first < p.candidates; first += COLUMNS) {
        float scores[S::M][S::N][4] = {};
        for (uint32_t c = 0; c < chunks; c++) {
            emb_copy_wait<S::STAGES - 2>();
            __syncthreads();
            load_stage<T, S>(ahead, ring, p);
            multiply<T, S>(scores, anchors + c * S::CHUNK_BYTES, ring + stage * S::STAGE_BYTES);
            if (++stage == S::STAGES) stage = 0;
        }
        look_at_edges<S>(scores, own, (int)first_row + p.pair, first, p.candidates);
        add_scores<S>(state, scores, p.scale * LOG2E);
    }
    emb_copy_wait<0>();
    finish<T, S>(p, state, reinterpret_cast<float2 *>(after), own, first_row);
}

template <typename T, typename S> static int launch(const ranking<T> &p, cudaStream_t stream) {
    const emb_cuda_batch none = {};
    return emb_launch(ranking_kernel<T, S>, dim3((p.anchors + S::ROWS - 1) / S::ROWS), THREADS,
                      shared_bytes<S>(p.width), &none, stream, p);
}

/* The tallest tiles that fit and still give every multiprocessor work. */
template <typename T>
static int choose(const ranking<T> &p, const emb_cuda_device *device, cudaStream_t stream) {
    typedef shape<128, 3> tall;
    typedef shape<64, 3> medium;
    typedef shape<32, 2> small;
    int ordinal = 0, room = 0;
    int status = cudaGetDevice(&ordinal);
    if (!status) {
        status = cudaDeviceGetAttribute(&room, cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal);
    }
    if (status) return status;
    uint32_t bytes = (uint32_t)room;
    bool many = p.anchors / tall::ROWS >= device->multiprocessors;
    if (many && shared_bytes<tall>(p.width) <= bytes) return launch<T, tall>(p, stream);
    if (shared_bytes<medium>(p.width) <= bytes) return launch<T, medium>(p, stream);
    if (shared_bytes<small>(p.width) <= bytes) return launch<T, small>(p, stream);
    return cudaErrorNotSupported;
}

int emb_cuda_train_ranking(float *losses, float *log_sums, const void *a, const void *b,
                           const emb_cuda_train_pairs *pairs, uint32_t width, float scale,
                           emb_dtype type, const emb_cuda_device *device, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (!width || width % DEPTH || width > EMB_CUDA_TRAIN_WIDTH_MAX) return cudaErrorNotSupported;
    if (type == EMB_DTYPE_BF16 && device->capability < 80) return cudaErrorNotSupported;
    uint32_t anchors = pairs->anchors, candidates = pairs->candidates;
    if (!anchors || !candidates) return cudaErrorInvalidValue;
    if (type == EMB_DTYPE_F16) {
        ranking<emb_f16> p = {
            losses, log_sums, (const emb_f16 *)a, (const emb_f16 *)b, anchors, candidates,
            width,  scale,    pairs->first};
        return choose(p, device, s);
    }
    if (type == EMB_DTYPE_BF16) {
        ranking<emb_bf16> p = {
            losses, log_sums, (const emb_bf16 *)a, (const emb_bf16 *)b, anchors, candidates,
            width,  scale,    pairs->first};
        return choose(p, device, s);
    }
    return cudaErrorInvalidValue;
}
