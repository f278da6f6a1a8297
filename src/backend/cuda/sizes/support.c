/* support.c - which GPUs, dtypes and models have kernels, and the numerics_id of each; plain C, so
 * that any machine can plan for a card.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "backend/cuda/kernels/launch.h"
#include "backend/cuda/sizes/support.h"
#include "base/error.h"

/* Attention's f16 products sum in another order on sm_75, fp8 products on sm_90. */
static const char *quantized_numerics(uint32_t compute_capability, emb_dtype dtype) {
    bool old = compute_capability < 80;
    if (dtype == EMB_DTYPE_INT8) return old ? "cuda-sm75-int8" : "cuda-sm80-int8";
    if (dtype == EMB_DTYPE_INT4) return old ? "cuda-sm75-int4" : "cuda-sm80-int4";
    if (compute_capability < EMB_CUDA_FP8_CAPABILITY) return NULL;
    return compute_capability == 90 ? "cuda-sm90-fp8" : "cuda-sm89-fp8";
}

static const char *numerics_of(uint32_t compute_capability, emb_dtype dtype, emb_gemm gemm) {
    bool own = gemm == EMB_GEMM_OWN;
    if (emb_dtype_quantized(dtype))
        return own ? quantized_numerics(compute_capability, dtype) : NULL;
    if (dtype == EMB_DTYPE_F32) return own ? "cuda-f32" : "cuda-f32-cublaslt";
    if (compute_capability >= 80 && dtype == EMB_DTYPE_BF16)
        return own ? "cuda-sm80-bf16" : "cuda-sm80-bf16-cublaslt";
    if (dtype != EMB_DTYPE_F16) return NULL;
    if (compute_capability < 80) return own ? "cuda-sm75-f16" : "cuda-sm75-f16-cublaslt";
    return own ? "cuda-sm80-f16" : "cuda-sm80-f16-cublaslt";
}

const emb_backend *emb_cuda_find(const emb_backend *rows, size_t count, uint32_t compute_capability,
                                 emb_dtype dtype, emb_gemm gemm) {
    const char *numerics = numerics_of(compute_capability, dtype, gemm);
    for (size_t i = 0; numerics && i < count; i++)
        if (strcmp(rows[i].numerics, numerics) == 0) return &rows[i];
    return NULL;
}

#define SIZES(numerics, dtype, gemm) {EMB_CUDA_SIZES(numerics, dtype, gemm)},
static const emb_backend sizes[] = {EMB_CUDA_ROWS(SIZES)};

const char *emb_cuda_supports_spec(const emb_backend *self, const emb_layer_spec *spec) {
    (void)self;
    return emb_spec_beyond_bert(spec);
}

static emb_status refuse_dtype(uint32_t compute_capability, emb_dtype dtype, emb_gemm gemm,
                               emb_error *error) {
    if (compute_capability < EMB_CUDA_CAPABILITY)
        return emb_error_set(error, EMB_UNSUPPORTED, "compute capability 7.5 or newer is needed");
    if (gemm == EMB_GEMM_CUBLASLT && emb_dtype_quantized(dtype))
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "cuBLASLt has no products for int8, int4 and fp8 here");
    if (dtype == EMB_DTYPE_FP8)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "fp8 needs compute capability 8.9 or newer, f16 does not");
    return emb_error_set(error, EMB_UNSUPPORTED,
                         "bf16 needs compute capability 8.0 or newer, f16 does not");
}

emb_status emb_cuda_supports_shape(uint32_t compute_capability, emb_dtype dtype, emb_gemm gemm,
                                   const emb_layer_spec *shape, emb_error *error) {
    const uint32_t group = EMB_QUANTIZE_GROUP; /* the planner checks a model's own group */
    if (compute_capability < EMB_CUDA_CAPABILITY || !numerics_of(compute_capability, dtype, gemm))
        return refuse_dtype(compute_capability, dtype, gemm, error);
    if (shape->hidden > EMB_CUDA_HIDDEN_MAX)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "the model's hidden size is %u, and at most %u has kernels",
                             shape->hidden, EMB_CUDA_HIDDEN_MAX);
    if (shape->head_dim > EMB_CUDA_HEAD_DIM_MAX || shape->head_dim % 8)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "a head of the model has %u values, and multiples of 8 up to %u have "
                             "kernels",
                             shape->head_dim, EMB_CUDA_HEAD_DIM_MAX);
    if (!emb_cuda_linear_fits(shape->intermediate, shape->hidden, dtype, group) ||
        !emb_cuda_linear_fits(shape->hidden, shape->intermediate, dtype, group))
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "the model's hidden size is %u and its intermediate size %u, and "
                             "multiples of %u have kernels",
                             shape->hidden, shape->intermediate, emb_cuda_cols_step(dtype));
    return EMB_OK;
}

const emb_backend *emb_cuda_sizes(uint32_t compute_capability, emb_dtype dtype, emb_gemm gemm,
                                  const emb_layer_spec *shape) {
    if (emb_cuda_supports_shape(compute_capability, dtype, gemm, shape, NULL) != EMB_OK)
        return NULL;
    return emb_cuda_find(sizes, sizeof sizes / sizeof sizes[0], compute_capability, dtype, gemm);
}

bool emb_cuda_built_for(const char *architectures, uint32_t compute_capability) {
    for (const char *at = architectures; *at; at += *at == ',') {
        char *end;
        unsigned long built = strtoul(at, &end, 10);
        if (end == at) return true;
        bool exactly = *end == 'a', family = *end == 'f'; /* of one architecture, or its family */
        bool binary = family || strncmp(end + exactly, "-real", 5) == 0;
        bool same_major = compute_capability / 10 == built / 10;
        if (exactly ? compute_capability == built
                    : compute_capability >= built && (same_major || !binary))
            return true;
        at = end + strcspn(end, ",");
    }
    return false;
}
