/* cublaslt.cu - products by cuBLASLt, opened at run time: no workspace, K never split.
 *
 * Descriptors live on the stack; an algorithm is chosen once per (rows, cols, type) and used for
 * every number of tokens, so that a row's bits do not depend on the batch around it. GELU follows
 * in gelu.cu: the library's own epilogue has only the approximate form for some types.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <cublasLt.h>
#include <dlfcn.h>
#include <string.h>

#include "backend/cuda/kernels/kernels.h"

#define CANDIDATES_MAX 64

enum call {
    CALL_CREATE,
    CALL_DESTROY,
    CALL_MATMUL,
    CALL_HEURISTIC,
    CALL_ALGO_GET,
    CALL_DESC_INIT,
    CALL_DESC_SET,
    CALL_LAYOUT_INIT,
    CALL_PREFERENCE_INIT,
    CALL_PREFERENCE_SET,
    CALLS
};

static const char *const CALL_NAMES[CALLS] = {"cublasLtCreate",
                                              "cublasLtDestroy",
                                              "cublasLtMatmul",
                                              "cublasLtMatmulAlgoGetHeuristic",
                                              "cublasLtMatmulAlgoConfigGetAttribute",
                                              "cublasLtMatmulDescInit_internal",
                                              "cublasLtMatmulDescSetAttribute",
                                              "cublasLtMatrixLayoutInit_internal",
                                              "cublasLtMatmulPreferenceInit_internal",
                                              "cublasLtMatmulPreferenceSetAttribute"};

#define CALL(blas, name, which) ((decltype(&name))(blas)->calls[which])

/* The descriptors of one product. */
typedef struct description {
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatrixLayoutOpaque_t weight, in, out;
} description;

int emb_cuda_blas_open(emb_cuda_blas *blas, const char *name) {
    memset(blas, 0, sizeof *blas);
    blas->library = dlopen(name ? name : "libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
    if (!blas->library) return -1;
    for (int i = 0; i < CALLS; i++) {
        blas->calls[i] = dlsym(blas->library, CALL_NAMES[i]);
        if (!blas->calls[i]) return -1;
    }
    return (int)CALL(blas, cublasLtCreate, CALL_CREATE)((cublasLtHandle_t *)&blas->handle);
}

/* The library stays loaded: the driver may still know its threads and kernels. */
void emb_cuda_blas_close(emb_cuda_blas *blas) {
    if (blas->handle) CALL(blas, cublasLtDestroy, CALL_DESTROY)((cublasLtHandle_t)blas->handle);
    blas->handle = NULL;
}

static cudaDataType data_type(emb_dtype type) {
    return type == EMB_DTYPE_F32 ? CUDA_R_32F : type == EMB_DTYPE_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

/* Column-major as the library sees it: out^T [rows, tokens] = W [rows, cols] * in^T. */
static int describe(description *d, const emb_cuda_blas *blas, const emb_cuda_linear *linear,
                    uint32_t tokens) {
    auto init = CALL(blas, cublasLtMatmulDescInit_internal, CALL_DESC_INIT);
    auto set = CALL(blas, cublasLtMatmulDescSetAttribute, CALL_DESC_SET);
    auto layout = CALL(blas, cublasLtMatrixLayoutInit_internal, CALL_LAYOUT_INIT);
    cudaDataType type = data_type(linear->type);
    cublasOperation_t transposed = CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const void *bias = linear->bias;
    uint64_t rows = linear->rows, cols = linear->cols;
    cublasLtMatmulDesc_t product = &d->product;
    int status = init(product, sizeof d->product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (!status) {
        status = set(product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
    }
    if (!status) {
        status = set(product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    }
    if (!status) {
        status = set(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    }
    if (!status) status = layout(&d->weight, sizeof d->weight, type, cols, rows, (int64_t)cols);
    if (!status) status = layout(&d->in, sizeof d->in, type, cols, tokens, (int64_t)cols);
    if (!status) status = layout(&d->out, sizeof d->out, type, rows, tokens, (int64_t)rows);
    return status;
}

/* Whether an algorithm sums each output over all of K without splitting it. */
static bool is_whole(const emb_cuda_blas *blas, const cublasLtMatmulAlgo_t *algorithm) {
    auto get = CALL(blas, cublasLtMatmulAlgoConfigGetAttribute, CALL_ALGO_GET);
    int32_t splits = 0;
    uint32_t reduction = 0;
    size_t written = 0;
    int status = get(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits, sizeof splits, &written);
    if (!status) {
        status = get(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &reduction, sizeof reduction,
                     &written);
    }
    return !status && splits <= 1 && reduction == CUBLASLT_REDUCTION_SCHEME_NONE;
}

int emb_cuda_blas_choose(emb_cuda_blas_choice *choice, const emb_cuda_blas *blas,
                         const emb_cuda_linear *linear, uint32_t tokens, uint32_t candidate) {
    static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof choice->algorithm, "algorithm's size");
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t found[CANDIDATES_MAX];
    description d;
    size_t workspace = 0;
    int count = 0, status = describe(&d, blas, linear, tokens);
    if (!status) {
        status = CALL(blas, cublasLtMatmulPreferenceInit_internal,
                      CALL_PREFERENCE_INIT)(&preference, sizeof preference);
    }
    if (!status) {
        status = CALL(blas, cublasLtMatmulPreferenceSetAttribute, CALL_PREFERENCE_SET)(
            &preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    }
    if (!status) {
        status = CALL(blas, cublasLtMatmulAlgoGetHeuristic,
                      CALL_HEURISTIC)((cublasLtHandle_t)blas->handle, &d.product, &d.weight, &d.in,
                                      &d.out, &d.out, &preference, CANDIDATES_MAX, found, &count);
    }
    if (status) return status;
    for (int i = 0; i < count; i++) {
        if (found[i].state || found[i].workspaceSize || !is_whole(blas, &found[i].algo)) continue;
        if (candidate--) continue;
        memcpy(choice->algorithm, &found[i].algo, sizeof choice->algorithm);
        choice->rows = linear->rows, choice->cols = linear->cols, choice->type = linear->type;
        return 0;
    }
    return -1;
}

int emb_cuda_blas_run(void *out, const void *in, const emb_cuda_linear *linear,
                      const emb_cuda_blas *blas, const emb_cuda_blas_choice *choice,
                      uint32_t tokens_max, void *stream) {
    description d;
    cublasLtMatmulAlgo_t algorithm;
    float one = 1, zero = 0;
    if (choice->rows != linear->rows || choice->cols != linear->cols ||
        choice->type != linear->type) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    memcpy(&algorithm, choice->algorithm, sizeof algorithm);
    int status = describe(&d, blas, linear, tokens_max);
    if (status) return status;
    return (int)CALL(blas, cublasLtMatmul, CALL_MATMUL)(
        (cublasLtHandle_t)blas->handle, &d.product, &one, linear->weight, &d.weight, in, &d.in,
        &zero, out, &d.out, out, &d.out, &algorithm, NULL, 0, (cudaStream_t)stream);
}
