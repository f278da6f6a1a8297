/* wgmma.cuh - what only Hopper has: warpgroup products, bulk tensor copies, cluster barriers.
 *
 * Feeds the *_wgmma files, training's too; sm_90a. A product of 64 rows and 16 of K takes its
 * operands from shared memory, in the 128-byte (or 64-byte) swizzle that the tensor copies write,
 * its left one from registers where that saves the way through shared memory.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_KERNELS_WGMMA_CUH
#define EMB_BACKEND_CUDA_KERNELS_WGMMA_CUH

#include <cuda.h>

#include "backend/cuda/kernels/quantized/codes.cuh"

#define EMB_WGMMA_COLS 192
#define EMB_WGMMA_SUMS 96 /* f32 sums a thread holds of 64 x 192 outputs */

/* ---- barriers in shared memory --------------------------------------------------------------- */

static __device__ __forceinline__ void emb_barrier_init(uint32_t barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}
static __device__ __forceinline__ void emb_barrier_expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}
static __device__ __forceinline__ void emb_barrier_wait(uint32_t barrier, uint32_t phase) {
    uint32_t done;
    do {
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}\n"
                     : "=r"(done)
                     : "r"(barrier), "r"(phase)
                     : "memory");
    } while (!done);
}
/* The same wait for what other blocks of the cluster stored. */
static __device__ __forceinline__ void emb_barrier_wait_cluster(uint32_t barrier, uint32_t phase) {
    uint32_t done;
    do {
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}\n"
                     : "=r"(done)
                     : "r"(barrier), "r"(phase)
                     : "memory");
    } while (!done);
}
/* Arrives at a barrier of this block. */
static __device__ __forceinline__ void emb_barrier_arrive_here(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/* Stores eight bytes to the same place in block `rank` of the cluster; its barrier is signalled. */
static __device__ __forceinline__ void emb_cluster_store(uint32_t to, float2 v, uint32_t barrier,
                                                         uint32_t rank) {
    asm volatile("{\n.reg .b32 place, told;\nmapa.shared::cluster.u32 place, %0, %4;\n"
                 "mapa.shared::cluster.u32 told, %3, %4;\n"
                 "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [place], "
                 "{%1, %2}, [told];\n}\n" ::"r"(to),
                 "f"(v.x), "f"(v.y), "r"(barrier), "r"(rank)
                 : "memory");
}
/* Arrives at the barrier of the same place in block `rank` of the cluster. */
static __device__ __forceinline__ void emb_barrier_arrive(uint32_t barrier, uint32_t rank) {
    asm volatile("{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}\n" ::"r"(barrier),
                 "r"(rank)
                 : "memory");
}
static __device__ __forceinline__ uint32_t emb_cluster_rank() {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
/* threadIdx.x, read again, so that values derived from it take no registers during a product. */
static __device__ __forceinline__ uint32_t emb_thread() {
    uint32_t thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}
static __device__ __forceinline__ void emb_cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
}
static __device__ __forceinline__ void emb_turn_wait(int turn, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(turn), "r"(threads) : "memory");
}
static __device__ __forceinline__ void emb_turn_give(int turn, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(turn), "r"(threads) : "memory");
}

static __device__ __forceinline__ void emb_shared_store(uint32_t to, uint32_t v) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(v) : "memory");
}
static __device__ __forceinline__ uint32_t emb_shared_load(uint32_t from) {
    uint32_t v;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(from) : "memory");
    return v;
}
static __device__ __forceinline__ uint4 emb_shared_load16(uint32_t from) {
    uint4 v;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(from)
                 : "memory");
    return v;
}

static __device__ __forceinline__ float2 emb_shared_load2(uint32_t from) {
    float2 v;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(from) : "memory");
    return v;
}

/* Sixteen bytes in one store: the compiler makes four of some, which cost four times as much. */
static __device__ __forceinline__ void emb_store16(void *to, uint4 v) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z),
                 "r"(v.w)
                 : "memory");
}

/* Four bytes, as emb_copy16. */
static __device__ __forceinline__ void emb_copy4(uint32_t to, const void *from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}

/* What this thread wrote to shared memory is there for products and tensor copies that come after
 * the next barrier. */
static __device__ __forceinline__ void emb_shared_publish() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Four 8 x 8 matrices of 16-bit values, held as products leave them; lanes 8 i to 8 i + 7 name the
 * rows of matrix i. */
static __device__ __forceinline__ void emb_shared_store_matrix(uint32_t to,
                                                               const uint32_t (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to),
                 "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
}

/* ---- bulk tensor copies ---------------------------------------------------------------------- */

static __device__ __forceinline__ void emb_tensor_load(uint32_t to, const CUtensorMap *map, int col,
                                                       int row, uint32_t barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(to),
                 "l"(map), "r"(col), "r"(row), "r"(barrier)
                 : "memory");
}
/* To the same place in every block of `mask`, and signals each block's barrier. */
static __device__ __forceinline__ void emb_tensor_share(uint32_t to, const CUtensorMap *map,
                                                        int col, int row, uint32_t barrier,
                                                        uint16_t mask) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
                 "l"(map), "r"(col), "r"(row), "r"(barrier), "h"(mask)
                 : "memory");
}

/* ---- products -------------------------------------------------------------------------------- */

static __device__ __forceinline__ void emb_wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ __forceinline__ void emb_wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int PENDING> static __device__ __forceinline__ void emb_wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
/* Rows of COLS 16-bit values, or twice as many codes (64: swizzled by 128 bytes, 32: by 64), groups
 * of 8 rows follow one another. Serves rows along K as well as, for a transposed right operand,
 * rows of K. */
template <int COLS = 64>
static __device__ __forceinline__ uint64_t emb_wgmma_operand(uint32_t address) {
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)COLS << 32 |
           (uint64_t)(COLS == 64 ? 1 : 2) << 62;
}
/* Sums of a product that was waited for: nothing may read them earlier. */
template <int COUNT> static __device__ __forceinline__ void emb_wgmma_done(float (&d)[COUNT][4]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        asm volatile("" : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])::"memory");
    }
}

/* sums [64, 192] = a [64, 16] * b [192, 16]^T, plus what they were if `add`; of codes (codes.cuh)
 * a [64, 32] * b [192, 32]^T. */
template <typename T>
static __device__ __forceinline__ void emb_wgmma(float (&d)[EMB_WGMMA_SUMS], uint64_t a, uint64_t b,
                                                 int add);
template <typename T>
static __device__ __forceinline__ void emb_wgmma(int32_t (&d)[EMB_WGMMA_SUMS], uint64_t a,
                                                 uint64_t b, int add);
/* sums [64, 192] = a [16, 64]^T * b [16, 192], plus what they were if `add`: rows of K. */
template <typename T>
static __device__ __forceinline__ void emb_wgmma_turned(float (&d)[EMB_WGMMA_SUMS], uint64_t a,
                                                        uint64_t b, int add);

#define EMB_SUMS_F(v) "+f"(v)
#define EMB_SUMS_R(v) "+r"(v)
#define EMB_SUMS8(C, d, i)                                                                         \
    C(d[i]), C(d[i + 1]), C(d[i + 2]), C(d[i + 3]), C(d[i + 4]), C(d[i + 5]), C(d[i + 6]),         \
        C(d[i + 7])
#define EMB_SUMS32(C, d, i)                                                                        \
    EMB_SUMS8(C, d, i), EMB_SUMS8(C, d, i + 8), EMB_SUMS8(C, d, i + 16), EMB_SUMS8(C, d, i + 24)

/* T's product: NAME of the shape and types, sums of type S and constraint C, followed by FLAGS. */
#define EMB_WGMMA(CALL, T, S, C, NAME, FLAGS)                                                      \
    template <>                                                                                    \
    __device__ __forceinline__ void CALL<T>(S(&d)[EMB_WGMMA_SUMS], uint64_t a, uint64_t b,         \
                                            int add) {                                             \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %98, 0;\n"                                  \
                     "wgmma.mma_async.sync.aligned.m64n192" NAME " {"                              \
                     "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, " \
                     "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
                     "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, " \
                     "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, " \
                     "%62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, " \
                     "%77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, " \
                     "%92, %93, %94, %95"                                                          \
                     "}, %96, %97, p" FLAGS ";\n}\n"                                               \
                     : EMB_SUMS32(C, d, 0), EMB_SUMS32(C, d, 32), EMB_SUMS32(C, d, 64)             \
                     : "l"(a), "l"(b), "r"(add));                                                  \
    }

EMB_WGMMA(emb_wgmma, emb_f16, float, EMB_SUMS_F, "k16.f32.f16.f16", ", 1, 1, 0, 0")
EMB_WGMMA(emb_wgmma, emb_bf16, float, EMB_SUMS_F, "k16.f32.bf16.bf16", ", 1, 1, 0, 0")
EMB_WGMMA(emb_wgmma, emb_u8, int32_t, EMB_SUMS_R, "k32.s32.u8.s8", "")
EMB_WGMMA(emb_wgmma, emb_e4m3, float, EMB_SUMS_F, "k32.f32.e4m3.e4m3", ", 1, 1")
EMB_WGMMA(emb_wgmma_turned, emb_f16, float, EMB_SUMS_F, "k16.f32.f16.f16", ", 1, 1, 1, 1")
EMB_WGMMA(emb_wgmma_turned, emb_bf16, float, EMB_SUMS_F, "k16.f32.bf16.bf16", ", 1, 1, 1, 1")

#define EMB_SUMS4(d, i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define EMB_SUMS16(d, i)                                                                           \
    EMB_SUMS4(d, i), EMB_SUMS4(d, i + 1), EMB_SUMS4(d, i + 2), EMB_SUMS4(d, i + 3)
#define EMB_NAMES16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define EMB_NAMES32                                                                                \
    EMB_NAMES16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"

/* scores [64, 64] = a [64, 16] * b [64, 16]^T, plus what they were if `add`; or 32 columns. */
template <typename T>
static __device__ __forceinline__ void emb_wgmma_scores(float (&d)[8][4], uint64_t a, uint64_t b,
                                                        int add);
template <typename T>
static __device__ __forceinline__ void emb_wgmma_scores(float (&d)[4][4], uint64_t a, uint64_t b,
                                                        int add);
/* context [64, D] += a [64, 16], packed in registers, * b [16, D]. */
template <typename T>
static __device__ __forceinline__ void emb_wgmma_values(float (&d)[8][4], const uint32_t (&a)[4],
                                                        uint64_t b);
template <typename T>
static __device__ __forceinline__ void emb_wgmma_values(float (&d)[4][4], const uint32_t (&a)[4],
                                                        uint64_t b);

#define EMB_WGMMA_ATTENTION(T, NAME)                                                               \
    template <>                                                                                    \
    __device__ __forceinline__ void emb_wgmma_scores<T>(float(&d)[8][4], uint64_t a, uint64_t b,   \
                                                        int add) {                                 \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"                                  \
                     "wgmma.mma_async.sync.aligned.m64n64k16.f32." NAME "." NAME " {" EMB_NAMES32  \
                     "}, %32, %33, p, 1, 1, 0, 0;\n}\n"                                            \
                     : EMB_SUMS16(d, 0), EMB_SUMS16(d, 4)                                          \
                     : "l"(a), "l"(b), "r"(add));                                                  \
    }                                                                                              \
    template <>                                                                                    \
    __device__ __forceinline__ void emb_wgmma_scores<T>(float(&d)[4][4], uint64_t a, uint64_t b,   \
                                                        int add) {                                 \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"                                  \
                     "wgmma.mma_async.sync.aligned.m64n32k16.f32." NAME "." NAME " {" EMB_NAMES16  \
                     "}, %16, %17, p, 1, 1, 0, 0;\n}\n"                                            \
                     : EMB_SUMS16(d, 0)                                                            \
                     : "l"(a), "l"(b), "r"(add));                                                  \
    }                                                                                              \
    template <>                                                                                    \
    __device__ __forceinline__ void emb_wgmma_values<T>(float(&d)[8][4], const uint32_t(&a)[4],    \
                                                        uint64_t b) {                              \
        asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." NAME "." NAME " {" EMB_NAMES32  \
                     "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;\n"                                 \
                     : EMB_SUMS16(d, 0), EMB_SUMS16(d, 4)                                          \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                        \
    }                                                                                              \
    template <>                                                                                    \
    __device__ __forceinline__ void emb_wgmma_values<T>(float(&d)[4][4], const uint32_t(&a)[4],    \
                                                        uint64_t b) {                              \
        asm volatile("wgmma.mma_async.sync.aligned.m64n32k16.f32." NAME "." NAME " {" EMB_NAMES16  \
                     "}, {%16, %17, %18, %19}, %20, 1, 1, 1, 1;\n"                                 \
                     : EMB_SUMS16(d, 0)                                                            \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                        \
    }

EMB_WGMMA_ATTENTION(emb_f16, "f16")
EMB_WGMMA_ATTENTION(emb_bf16, "bf16")

/* ---- host ------------------------------------------------------------------------------------ */

/* Clusters of so many blocks that run at once: a part of the chip whose multiprocessors do not come
 * out even leaves some idle. Pairs always come out even. */
template <typename K>
static int emb_cluster_count(uint32_t *count, K kernel, uint32_t blocks, uint32_t threads,
                             uint32_t shared_bytes, const emb_cuda_device *device) {
    cudaLaunchAttribute attribute = {};
    cudaLaunchConfig_t config = {};
    int clusters = 0;
    *count = device->multiprocessors / blocks;
    if (blocks <= 2) return 0;
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = blocks;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    config.gridDim = dim3(*count * blocks), config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes, config.attrs = &attribute, config.numAttrs = 1;
    int status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      (int)shared_bytes);
    if (!status) status = cudaOccupancyMaxActiveClusters(&clusters, kernel, &config);
    if (!status && clusters < 1) status = cudaErrorNotSupported;
    if (!status && (uint32_t)clusters < *count) *count = (uint32_t)clusters;
    return status;
}

/* Describes [rows, cols] of 16-bit values, or codes, to the tensor copies, read in boxes of
 * box_rows x box_cols (of 128 bytes: swizzled by 128, of 64: by 64), zeros outside. */
static inline int emb_tensor_describe(CUtensorMap *map, const void *from, uint32_t rows,
                                      uint32_t cols, uint32_t box_rows, uint32_t box_cols,
                                      emb_dtype type) {
    typedef CUresult (*encode_call)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                                    const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                                    const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                                    CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
    void *encode = NULL;
    cudaDriverEntryPointQueryResult found;
    bool codes = type == EMB_DTYPE_INT8 || type == EMB_DTYPE_FP8;
    cuuint32_t value = codes ? 1 : 2;
    cuuint64_t sizes[2] = {cols, rows}, strides[1] = {(cuuint64_t)cols * value};
    cuuint32_t box[2] = {box_cols, box_rows}, steps[2] = {1, 1};
    CUtensorMapDataType data = codes                   ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                               : type == EMB_DTYPE_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                       : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    int status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000,
                                                  cudaEnableDefault, &found);
    if (status) return status;
    if (!encode) return cudaErrorNotSupported;
    CUresult result = ((encode_call)encode)(
        map, data, 2, (void *)from, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
        box_cols * value == 128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B,
        CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return result ? cudaErrorInvalidValue : 0;
}

#endif
