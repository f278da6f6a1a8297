/* ranking_back.cu - the gradient of the ranking loss: scores are computed again tile by tile, made
 * the loss's gradient by them, and multiplied at once by the vectors they came from.
 *
 * A block owns rows of d (anchors or candidates) and streams all vectors of the other side past
 * them; the sums stay in registers. For scores each warp takes a tile and a part of the width; the
 * parts meet in shared memory. For the sums each warp takes an eighth of the columns.
 * Legend: W the width rounded up to 384, 768 or 1024 (columns past the width are zeros).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/device.cuh"
#include "train/cuda/kernels/ends.h"

#define THREADS 256
#define WARPS   8
#define LOG2E   1.4426950408889634f
/* Log2 of what the scores' gradients, at most 2, are multiplied by on the way: F16 would underflow
 * where there are many candidates. */
#define SPREAD 12

template <int W_, int ROWS_, int STREAM_, int STAGES_> struct shape {
    static constexpr int W = W_, ROWS = ROWS_, STREAM = STREAM_, STAGES = STAGES_;
    /* scores: a warp's tile of TILE_M x TILE_N, and in how many parts the width is taken */
    static constexpr int TILE_M = ROWS < 32 ? ROWS : 32;
    static constexpr int TILE_N = STREAM < 32 || (STREAM == 32 && ROWS > 16) ? 16 : 32;
    static constexpr int TILES_N = STREAM / TILE_N, TILES = ROWS / TILE_M * TILES_N;
    static constexpr int PARTS = WARPS / TILES;
    /* units of 16 x 8 of a tile, and how many of them a warp finishes */
    static constexpr int N = TILE_N / 8, UNITS = TILE_M / 16 * N;
    static constexpr int FINISHES = UNITS > PARTS ? UNITS / PARTS : 1;
    static_assert(TILES * PARTS == WARPS && FINISHES <= N, "a warp finishes units of 16 rows");
    /* sums: all rows, an eighth of the columns */
    static constexpr int SUMS_M = ROWS / 16, SUMS_N = W / WARPS / 16;
    /* shared memory */
    static constexpr int ROW_BYTES = W * 2;
    static constexpr int OWN_BYTES = ROWS * ROW_BYTES, STREAM_BYTES = STREAM * ROW_BYTES;
    static constexpr int PIECES = STREAM < 32 ? 4 : STREAM / 8; /* of a row of gradients */
    static constexpr int STREAM_AT = OWN_BYTES, PARTS_AT = STREAM_AT + STAGES * STREAM_BYTES;
    static constexpr int GRADIENTS_AT = PARTS_AT + ROWS * STREAM * PARTS * 4;
    static constexpr int OFFSETS_AT = GRADIENTS_AT + ROWS * PIECES * 16;
    static constexpr int BYTES = OFFSETS_AT + STREAM * 4;
};

/* What an architecture has at most of shared memory; larger shapes are not compiled for it. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define SHARED_MAX (227 * 1024)
#elif __CUDA_ARCH__ == 800
#define SHARED_MAX (163 * 1024)
#elif __CUDA_ARCH__ > 800
#define SHARED_MAX (99 * 1024)
#else
#define SHARED_MAX (64 * 1024)
#endif

/* Rows that own a gradient, and those that are streamed. Each side may have log sums: the score of
 * a pair is in the softmax of every side that has them. */
template <typename T> struct job {
    T *d; /* [own_count, width] */
    const T *own, *stream;
    const float *own_sums, *stream_sums; /* NULL, or of the first *_sums_count rows */
    uint32_t own_sums_count, stream_sums_count;
    uint32_t own_count, stream_count, width;
    float scale, factor; /* of scores, times log2 e; of what comes out */
    int shift;           /* owner i's pair is streamed row i + shift */
};

/* A row's term of the exponent; -inf where it has no softmax. */
static __device__ __forceinline__ float offset_of(const float *sums, uint32_t count,
                                                  uint32_t index) {
    return sums && index < count ? SPREAD - sums[index] * LOG2E : -INFINITY;
}

/* ROWS rows from `first`; zeros past `count` and past the width. */
template <typename T, typename S, int ROWS>
static __device__ __forceinline__ void load_rows(uint32_t to, const T *from, uint32_t first,
                                                 uint32_t count, uint32_t width) {
    uint32_t piece = threadIdx.x & 15, row = threadIdx.x >> 4;
    const T *source = from + (uint64_t)(first + row) * width + piece * 8;
    to += row * S::ROW_BYTES + ((piece ^ (row & 7)) << 4); /* as emb_swizzle */
#pragma unroll
    for (int r = 0; r < ROWS; r += 16) {
#pragma unroll
        for (int c = 0; c < S::W / 128; c++) {
            bool valid = first + row + r < count && c * 128 + piece * 8 < width;
            emb_copy16(to + r * S::ROW_BYTES + c * 256,
                       valid ? source + (uint64_t)r * width + c * 128 : from, valid);
        }
    }
    emb_copy_commit();
}

/* Where a warp is at work on the scores. */
struct score_place {
    uint32_t row, column, part; /* of its tile; which part of the width */
};

template <typename S> static __device__ __forceinline__ score_place place_of_warp() {
    uint32_t warp = threadIdx.x >> 5, tile = warp / S::PARTS;
    return {tile / S::TILES_N * S::TILE_M, tile % S::TILES_N * S::TILE_N, warp % S::PARTS};
}

/* scores = a warp's tile, over its part of the width: of every 64 columns some steps of 16, or all
 * of every other 64. */
template <typename T, typename S>
static __device__ __forceinline__ void multiply_scores(float (&scores)[S::UNITS][4], uint32_t own,
                                                       uint32_t stream, const score_place &at) {
    constexpr int STEPS = S::PARTS < 4 ? 4 / S::PARTS : 1, SKIP = S::PARTS > 4 ? S::PARTS / 4 : 1;
    uint32_t lane = threadIdx.x & 31, piece = at.part % 4 * STEPS * 2;
    own += (at.row + (lane & 15)) * S::ROW_BYTES;
    stream += (at.column + ((lane >> 4) << 3) + (lane & 7)) * S::ROW_BYTES;
    if (SKIP > 1) own += at.part / 4 * 128, stream += at.part / 4 * 128;
#pragma unroll
    for (int i = 0; i < S::UNITS; i++) {
        for (int k = 0; k < 4; k++) scores[i][k] = 0;
    }
#pragma unroll
    for (int q = 0; q < S::W / 64; q += SKIP) {
#pragma unroll
        for (int j = 0; j < STEPS; j++) {
            uint32_t a[S::TILE_M / 16][4], b[S::TILE_N / 16][4];
            uint32_t a_at = own + (((piece + 2 * j + (lane >> 4)) ^ (lane & 7)) << 4);
            uint32_t b_at = stream + (((piece + 2 * j + ((lane >> 3) & 1)) ^ (lane & 7)) << 4);
#pragma unroll
            for (int m = 0; m < S::TILE_M / 16; m++) {
                emb_ldmatrix(a[m], a_at + q * 128 + m * 16 * S::ROW_BYTES);
            }
#pragma unroll
            for (int n = 0; n < S::TILE_N / 16; n++) {
                emb_ldmatrix(b[n], b_at + q * 128 + n * 16 * S::ROW_BYTES);
            }
#pragma unroll
            for (int m = 0; m < S::TILE_M / 16; m++) {
#pragma unroll
                for (int n = 0; n < S::TILE_N / 16; n++) {
                    emb_mma<T>(scores[m * S::N + 2 * n], a[m], b[n][0], b[n][1]);
                    emb_mma<T>(scores[m * S::N + 2 * n + 1], a[m], b[n][2], b[n][3]);
                }
            }
        }
    }
}

/* Hands the units that other warps finish to them; a warp's own stay in its registers. */
template <typename S>
static __device__ __forceinline__ void give_parts(float4 *parts, float (&mine)[S::FINISHES][4],
                                                  const float (&scores)[S::UNITS][4],
                                                  const score_place &at) {
    uint32_t warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    float4 *to = parts + warp * S::UNITS * 32 + lane;
#pragma unroll
    for (int u = 0; u < S::UNITS; u++) {
        const float(&s)[4] = scores[u];
        if (u / S::FINISHES != at.part) {
            to[u * 32] = make_float4(s[0], s[1], s[2], s[3]);
            continue;
        }
        for (int i = 0; i < 4; i++) mine[u % S::FINISHES][i] = s[i];
    }
}

/* Adds the parts of a warp's units in the order of the parts. */
template <typename S>
static __device__ __forceinline__ void take_parts(float (&mine)[S::FINISHES][4],
                                                  const float4 *parts, const score_place &at) {
    uint32_t warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    const float4 *from = parts + (warp - at.part) * S::UNITS * 32 + lane;
#pragma unroll
    for (int f = 0; f < S::FINISHES; f++) {
        float sums[4] = {};
#pragma unroll
        for (int part = 0; part < S::PARTS; part++) {
            float4 s = make_float4(mine[f][0], mine[f][1], mine[f][2], mine[f][3]);
            if (part != at.part) {
                s = from[(part * S::UNITS + at.part * S::FINISHES + f) * 32];
            }
            sums[0] += s.x, sums[1] += s.y, sums[2] += s.z, sums[3] += s.w;
        }
        for (int i = 0; i < 4; i++) mine[f][i] = sums[i];
    }
}

/* What a thread finishes: rows `row` and `row` + 8 of the block, with their terms of the exponent;
 * columns from `column` of the tile on. */
struct finish_place {
    uint32_t row, column;
    float offsets[2];
};

/* Turns scores into the gradient by them, times 2^SPREAD. `first`: the tile's first row. */
template <typename T, typename S>
static __device__ __forceinline__ void
make_gradients(unsigned char *gradients, const float (&scores)[S::FINISHES][4], const job<T> &p,
               const finish_place &at, const float *offsets, uint32_t first_own, uint32_t first) {
    bool edge = first + S::STREAM > p.stream_count;
    int first_pair = (int)first_own + p.shift;
    bool pairs = (int)first < first_pair + S::ROWS && first_pair < (int)first + S::STREAM;
#pragma unroll
    for (int f = 0; f < S::FINISHES; f++) {
        uint32_t column = at.column + f * 8;
        float2 across = *reinterpret_cast<const float2 *>(offsets + column);
        float g[4] = {};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float s = scores[f][i] * p.scale, there = i & 1 ? across.y : across.x;
            if (p.own_sums) g[i] = emb_power2(s + at.offsets[i >> 1]);
            if (p.stream_sums) g[i] += emb_power2(s + there);
        }
        if (edge || pairs) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                uint32_t index = first + column + (i & 1);
                float here = at.offsets[i >> 1], there = i & 1 ? across.y : across.x;
                int softmaxes = (here != -INFINITY) + (there != -INFINITY);
                if ((int)index == first_pair + (int)at.row + (i >> 1) * 8)
                    g[i] -= softmaxes << SPREAD;
                if (index >= p.stream_count) g[i] = 0;
            }
        }
        unsigned char *to = gradients + (threadIdx.x & 3) * 4;
        *reinterpret_cast<uint32_t *>(to + emb_swizzle<S::PIECES>(at.row, column >> 3)) =
            emb_pack<T>(g[0], g[1]);
        *reinterpret_cast<uint32_t *>(to + emb_swizzle<S::PIECES>(at.row + 8, column >> 3)) =
            emb_pack<T>(g[2], g[3]);
    }
}

/* sums [ROWS, W / 8] += gradients [ROWS, STREAM] * a warp's columns of stream [STREAM, W]. */
template <typename T, typename S>
static __device__ __forceinline__ void add_vectors(float (&sums)[S::SUMS_M][2 * S::SUMS_N][4],
                                                   uint32_t gradients, uint32_t stream) {
    uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    uint32_t piece = warp * (S::W / 64) + (lane >> 4);
    stream += (lane & 15) * S::ROW_BYTES;
#pragma unroll
    for (int k = 0; k < S::STREAM / 16; k++) {
        uint32_t a[S::SUMS_M][4];
#pragma unroll
        for (int m = 0; m < S::SUMS_M; m++) {
            emb_ldmatrix(a[m], gradients + emb_swizzle<S::PIECES>(m * 16 + (lane & 15),
                                                                  2 * k + (lane >> 4)));
        }
#pragma unroll
        for (int n = 0; n < S::SUMS_N; n++) {
            uint32_t b[4];
            emb_ldmatrix_transposed(b, stream + k * 16 * S::ROW_BYTES +
                                           (((piece + 2 * n) ^ (lane & 7)) << 4));
#pragma unroll
            for (int m = 0; m < S::SUMS_M; m++) {
                emb_mma<T>(sums[m][2 * n], a[m], b[0], b[1]);
                emb_mma<T>(sums[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

template <typename T, typename S>
static __device__ __forceinline__ void
write_rows(const job<T> &p, const float (&sums)[S::SUMS_M][2 * S::SUMS_N][4], uint32_t first_own) {
    uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    uint32_t column = warp * (S::W / WARPS) + (lane & 3) * 2;
#pragma unroll
    for (int m = 0; m < S::SUMS_M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t row = first_own + m * 16 + half * 8 + (lane >> 2);
            if (row >= p.own_count) continue;
            T *to = p.d + (uint64_t)row * p.width + column;
#pragma unroll
            for (int n = 0; n < 2 * S::SUMS_N; n++) {
                const float *pair = &sums[m][n][2 * half];
                if (column + n * 8 >= p.width) continue;
                *reinterpret_cast<uint32_t *>(to + n * 8) =
                    emb_pack<T>(pair[0] * p.factor, pair[1] * p.factor);
            }
        }
    }
}

template <typename S> static __device__ __forceinline__ uint32_t stage_at(uint32_t tile) {
    return S::STREAM_AT + tile % S::STAGES * S::STREAM_BYTES;
}

template <typename T, typename S>
static __device__ __forceinline__ void run_tiles(const job<T> &p, unsigned char *memory) {
    uint32_t shared = emb_shared(memory), first_own = blockIdx.x * S::ROWS;
    uint32_t lane = threadIdx.x & 31;
    float4 *parts = reinterpret_cast<float4 *>(memory + S::PARTS_AT);
    float *offsets = reinterpret_cast<float *>(memory + S::OFFSETS_AT);
    float sums[S::SUMS_M][2 * S::SUMS_N][4] = {};
    score_place at = place_of_warp<S>();
    bool finishes = at.part * S::FINISHES < S::UNITS;
    uint32_t unit = at.part * S::FINISHES;
    finish_place own = {at.row + unit / S::N * 16 + (lane >> 2),
                        at.column + unit % S::N * 8 + (lane & 3) * 2};
    for (int i = 0; i < 2; i++) {
        uint32_t index = first_own + own.row + i * 8;
        own.offsets[i] = offset_of(p.own_sums, p.own_sums_count, index);
    }
    load_rows<T, S, S::ROWS>(shared, p.own, first_own, p.own_count, p.width);
    load_rows<T, S, S::STREAM>(shared + stage_at<S>(0), p.stream, 0, p.stream_count, p.width);
    for (uint32_t first = 0, tile = 0; first < p.stream_count; first += S::STREAM, tile++) {
        uint32_t here = shared + stage_at<S>(tile), next = first + S::STREAM;
        emb_copy_wait<0>();
        __syncthreads();
        if (S::STAGES > 1 && next < p.stream_count) {
            load_rows<T, S, S::STREAM>(shared + stage_at<S>(tile + 1), p.stream, next,
                                       p.stream_count, p.width);
        }
        if (threadIdx.x < S::STREAM) {
            offsets[threadIdx.x] =
                offset_of(p.stream_sums, p.stream_sums_count, first + threadIdx.x);
        }
        float mine[S::FINISHES][4];
        {
            float scores[S::UNITS][4];
            multiply_scores<T, S>(scores, shared, here, at);
            give_parts<S>(parts, mine, scores, at);
        }
        __syncthreads();
        if (finishes) {
            take_parts<S>(mine, parts, at);
            make_gradients<T, S>(memory + S::GRADIENTS_AT, mine, p, own, offsets, first_own, first);
        }
        __syncthreads();
        add_vectors<T, S>(sums, shared + S::GRADIENTS_AT, here);
        if (S::STAGES > 1 || next >= p.stream_count) continue;
        __syncthreads();
        load_rows<T, S, S::STREAM>(here, p.stream, next, p.stream_count, p.width);
    }
    write_rows<T, S>(p, sums, first_own);
}

template <typename T, typename S>
static __global__ void __launch_bounds__(THREADS, 1) ranking_back_kernel(job<T> p) {
    extern __shared__ __align__(128) unsigned char memory[];
    emb_kernel_begin();
    if constexpr (S::BYTES <= SHARED_MAX) {
        run_tiles<T, S>(p, memory);
    } else {
        __trap(); /* the launcher asks for more than this architecture has */
    }
}

/* ---- host ------------------------------------------------------------------------------------ */

template <typename T, typename S> static int launch(const job<T> &p, cudaStream_t stream) {
    const emb_cuda_batch none = {};
    return emb_launch(ranking_back_kernel<T, S>, dim3((p.own_count + S::ROWS - 1) / S::ROWS),
                      THREADS, S::BYTES, &none, stream, p);
}

/* The first shape that fits into `room` bytes. */
template <typename T, typename S>
static int launch_fitting(const job<T> &p, int room, cudaStream_t stream) {
    return S::BYTES <= room ? launch<T, S>(p, stream) : (int)cudaErrorNotSupported;
}
template <typename T, typename S, typename NEXT, typename... MORE>
static int launch_fitting(const job<T> &p, int room, cudaStream_t stream) {
    if (S::BYTES <= room) return launch<T, S>(p, stream);
    return launch_fitting<T, NEXT, MORE...>(p, room, stream);
}

template <typename T> static int choose(const job<T> &p, cudaStream_t stream) {
    int ordinal = 0, room = 0;
    int status = cudaGetDevice(&ordinal);
    if (!status) {
        status = cudaDeviceGetAttribute(&room, cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal);
    }
    if (status) return status;
    if (p.width <= 384) {
        return launch_fitting<T, shape<384, 64, 64, 2>, shape<384, 32, 32, 2>,
                              shape<384, 32, 16, 1>>(p, room, stream);
    }
    if (p.width <= 768) {
        return launch_fitting<T, shape<768, 64, 32, 2>, shape<768, 16, 16, 1>>(p, room, stream);
    }
    return launch_fitting<T, shape<1024, 32, 32, 2>, shape<1024, 16, 16, 1>>(p, room, stream);
}

template <typename T>
static job<T> job_make(void *d, int of_candidates, const void *a, const void *b,
                       const float *log_sums, const float *back_sums,
                       const emb_cuda_train_pairs *pairs, uint32_t width, float scale,
                       float factor) {
    job<T> p = {};
    p.d = (T *)d, p.width = width;
    p.own = (const T *)(of_candidates ? b : a), p.stream = (const T *)(of_candidates ? a : b);
    p.own_sums = of_candidates ? back_sums : log_sums;
    p.stream_sums = of_candidates ? log_sums : back_sums;
    p.own_count = of_candidates ? pairs->candidates : pairs->anchors;
    p.stream_count = of_candidates ? pairs->anchors : pairs->candidates;
    p.own_sums_count = of_candidates ? pairs->backs : pairs->anchors;
    p.stream_sums_count = of_candidates ? pairs->anchors : pairs->backs;
    p.shift = of_candidates ? -pairs->first : pairs->first;
    p.scale = scale * LOG2E, p.factor = factor * scale / (1 << SPREAD);
    return p;
}

int emb_cuda_train_ranking_back(void *d, int of_candidates, const void *a, const void *b,
                                const float *log_sums, const float *back_sums,
                                const emb_cuda_train_pairs *pairs, uint32_t width, float scale,
                                float weight, float grow, emb_dtype type,
                                const emb_cuda_device *device, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (!width || width % 64 || width > EMB_CUDA_TRAIN_WIDTH_MAX) return cudaErrorNotSupported;
    if (type == EMB_DTYPE_BF16 && device->capability < 80) return cudaErrorNotSupported;
    if (!pairs->anchors || !pairs->candidates) return cudaErrorInvalidValue;
    if (type == EMB_DTYPE_F16) {
        return choose(job_make<emb_f16>(d, of_candidates, a, b, log_sums, back_sums, pairs, width,
                                        scale, weight * grow),
                      s);
    }
    if (type == EMB_DTYPE_BF16) {
        return choose(job_make<emb_bf16>(d, of_candidates, a, b, log_sums, back_sums, pairs, width,
                                         scale, weight * grow),
                      s);
    }
    return cudaErrorInvalidValue;
}
