/* support.h - the list of CUDA backends, and which of them a device has; plain C, without CUDA.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_SIZES_SUPPORT_H
#define EMB_BACKEND_CUDA_SIZES_SUPPORT_H

#include "backend/cuda/sizes/layout.h"

/* emb_backend.own: whose kernels multiply. cuBLASLt needs the bias in the products' dtype. */
typedef struct emb_cuda_own {
    emb_gemm gemm;
} emb_cuda_own;
static inline emb_gemm emb_cuda_gemm_of(const emb_backend *self) {
    return ((const emb_cuda_own *)self->own)->gemm;
}

/* As emb_backend.supports. */
const char *emb_cuda_supports_spec(const emb_backend *self, const emb_layer_spec *spec);

/* Every CUDA backend: numerics, dtype of the weights, whose kernels multiply. The sizes, the module
 * and the fake device each make a table of it. */
#define EMB_CUDA_ROWS(ROW)                                                                         \
    ROW("cuda-f32", EMB_DTYPE_F32, EMB_GEMM_OWN)                                                   \
    ROW("cuda-f32-cublaslt", EMB_DTYPE_F32, EMB_GEMM_CUBLASLT)                                     \
    ROW("cuda-sm75-f16", EMB_DTYPE_F16, EMB_GEMM_OWN)                                              \
    ROW("cuda-sm75-f16-cublaslt", EMB_DTYPE_F16, EMB_GEMM_CUBLASLT)                                \
    ROW("cuda-sm80-f16", EMB_DTYPE_F16, EMB_GEMM_OWN)                                              \
    ROW("cuda-sm80-f16-cublaslt", EMB_DTYPE_F16, EMB_GEMM_CUBLASLT)                                \
    ROW("cuda-sm80-bf16", EMB_DTYPE_BF16, EMB_GEMM_OWN)                                            \
    ROW("cuda-sm80-bf16-cublaslt", EMB_DTYPE_BF16, EMB_GEMM_CUBLASLT)                              \
    ROW("cuda-sm75-int8", EMB_DTYPE_INT8, EMB_GEMM_OWN)                                            \
    ROW("cuda-sm80-int8", EMB_DTYPE_INT8, EMB_GEMM_OWN)                                            \
    ROW("cuda-sm75-int4", EMB_DTYPE_INT4, EMB_GEMM_OWN)                                            \
    ROW("cuda-sm80-int4", EMB_DTYPE_INT4, EMB_GEMM_OWN)                                            \
    ROW("cuda-sm89-fp8", EMB_DTYPE_FP8, EMB_GEMM_OWN)                                              \
    ROW("cuda-sm90-fp8", EMB_DTYPE_FP8, EMB_GEMM_OWN)

/* The first fields of such a row: everything that planning needs. */
#define EMB_CUDA_SIZES(its_numerics, its_dtype, its_gemm)                                          \
    .name = "cuda", .numerics = its_numerics, .own = &(const emb_cuda_own){its_gemm},              \
    .dtype = its_dtype, .activation_bytes = (its_dtype) == EMB_DTYPE_F32 ? 4 : 2,                  \
    .tokens_knee = EMB_CUDA_TOKENS_KNEE, .lane_state_bytes = EMB_CUDA_STATE_BYTES,                 \
    .supports = emb_cuda_supports_spec, .linear_layout = emb_cuda_linear_layout,                   \
    .lane_layout = emb_cuda_lane_layout, .kept_place = emb_cuda_kept_place

/* The row for a device and dtype; NULL if it lacks the dtype. */
const emb_backend *emb_cuda_find(const emb_backend *rows, size_t count, uint32_t compute_capability,
                                 emb_dtype dtype, emb_gemm gemm);

/* Whether kernels built for these architectures, as CMake names them ("80-real,90a-real,
 * 90-virtual"), run on a GPU; true for words whose meaning only the build knew ("native"). */
bool emb_cuda_built_for(const char *architectures, uint32_t compute_capability);

#endif
