/* products.c - a layer's four products: by own kernels, or by cuBLASLt where the plan says so.
 *
 * The library is opened with the lane; an algorithm is chosen once per product, for one number of
 * tokens whatever the tile, so that neither bucket nor budget decides about bits.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <stdio.h>

#include "backend/cuda/host/module.h"
#include "base/error.h"
#include "base/process.h"

#define CHOICE_TOKENS 16384 /* that algorithms are chosen for */
#define LIBRARY       "libcublasLt.so.13"

static emb_status open_library(emb_cuda_blas *blas, uint32_t device, emb_error *error) {
    int status = emb_cuda_blas_open(blas, NULL);
    if (status == 0) return EMB_OK;
    const char *reason = blas->library ? NULL : dlerror();
    if (status > 0 || blas->library)
        return emb_error_set(error, EMB_DEVICE,
                             "CUDA device %u: %s cannot be used (status %d); use another version, "
                             "or own products (--gemm own)",
                             device, LIBRARY, status);
    return emb_error_set(error, EMB_DEVICE,
                         "no cuBLASLt: looked for %s in the library path (%.120s); install it, or "
                         "use own products (--gemm own)",
                         LIBRARY, reason ? reason : "not found");
}

emb_status emb_cuda_products_open(emb_lane_scratch *scratch, emb_error *error) {
    emb_cuda_state *state = scratch->state;
    return open_library(&state->blas, state->index, error);
}

void emb_cuda_products_close(emb_cuda_state *state) {
    emb_cuda_blas_close(&state->blas);
}

/* Keeps the lane's first failure, in the library's own numbers. */
static bool noted(emb_cuda_state *state, int status) {
    if (status != 0 && state->failure == cudaSuccess) {
        state->failure = cudaErrorUnknown;
        state->blas_status = status;
    }
    return status != 0;
}

static void run_library(emb_cuda_view *v, emb_cuda_product which, void *out, const void *in,
                        const emb_linear *linear, int gelu) {
    emb_cuda_state *state = v->state;
    emb_cuda_blas_choice *choice = &state->choices[which];
    const void *bias = linear->bias_narrow ? linear->bias_narrow : linear->bias;
    emb_cuda_linear weights = {linear->packed, bias, linear->rows, linear->cols, v->type};
    /* while lanes are warmed, so before ready */
    if (!choice->rows &&
        noted(state, emb_cuda_blas_choose(choice, &state->blas, &weights, CHOICE_TOKENS, 0)))
        return;
    if (noted(state, emb_cuda_blas_run(out, in, &weights, &state->blas, choice, v->pack.tokens_max,
                                       state->stream)))
        return;
    if (gelu)
        emb_cuda_note(state, emb_cuda_gelu(out, linear->rows, &v->pack, v->type, state->stream));
}

void emb_cuda_product_run(emb_cuda_view *v, emb_cuda_product which, void *out, const void *in,
                          const emb_linear *linear) {
    int gelu = which == EMB_CUDA_FFN_IN;
    if (v->state->blas.handle) {
        run_library(v, which, out, in, linear, gelu);
        return;
    }
    emb_cuda_linear weights = {linear->packed, linear->bias, linear->rows, linear->cols, v->type};
    const emb_cuda_device *device = &v->state->device;
    emb_cuda_tile tile = emb_cuda_tuned_tile(v, which);
    if (tile == EMB_CUDA_TILE_AUTO)
        tile = emb_cuda_linear_tile(&weights, emb_cuda_tuning_tokens(v), device);
    emb_cuda_note(v->state, emb_cuda_linear_run(out, in, &weights, gelu, tile, &v->pack, device,
                                                v->state->stream));
}

/* ---- probe ----------------------------------------------------------------------------------- */

/* One small product with everything zero: so that the library has loaded what it loads at first. */
static int try_product(const emb_cuda_blas *blas) {
    enum { SIZE = 128 };
    emb_cuda_blas_choice choice;
    unsigned char *memory = NULL;
    size_t bytes = (size_t)SIZE * SIZE * sizeof(float);
    cudaStream_t stream = NULL; /* the device's default */
    int status = cudaMalloc((void **)&memory, 4 * bytes);
    if (!status) status = cudaMemsetAsync(memory, 0, 4 * bytes, stream);
    emb_cuda_linear weights = {memory, (const float *)(void *)(memory + bytes), SIZE, SIZE,
                               EMB_DTYPE_F16};
    if (!status) status = emb_cuda_blas_choose(&choice, blas, &weights, SIZE, 0);
    if (!status)
        status = emb_cuda_blas_run(memory + 2 * bytes, memory + 3 * bytes, &weights, blas, &choice,
                                   SIZE, stream);
    if (!status) status = cudaStreamSynchronize(stream);
    cudaFree(memory);
    return status;
}

emb_status emb_cuda_products_probe(uint64_t *host_bytes, uint32_t device, emb_error *error) {
    emb_cuda_blas blas;
    uint64_t before, after, peak;
    emb_process_memory(&before, &peak);
    EMB_TRY(open_library(&blas, device, error));
    int status = cudaSetDevice((int)device);
    if (!status) status = try_product(&blas);
    emb_process_memory(&after, &peak);
    emb_cuda_blas_close(&blas);
    if (status)
        return emb_error_set(error, EMB_DEVICE,
                             "CUDA device %u: %s cannot multiply (status %d); use own products "
                             "(--gemm own)",
                             device, LIBRARY, status);
    *host_bytes = after > before ? after - before : 0;
    return EMB_OK;
}
