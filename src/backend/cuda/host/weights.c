/* weights.c - uploads parameters to a device, in its kernels' form.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/host/module.h"
#include "backend/cuda/host/pack.h"
#include "backend/cuda/host/products.h"
#include "backend/cuda/kernels/kernels.h"

/* emb_cuda_uploaded reports a failure. */
static void put(void *to, const void *from, uint64_t bytes) {
    cudaMemcpy(to, from, bytes, cudaMemcpyDefault);
}

void emb_cuda_convert(const emb_backend *self, void *out, emb_dtype dtype, const float *in,
                      uint64_t rows, uint32_t cols) {
    (void)self;
    emb_cuda_pack_values(out, dtype, in, rows, cols, put);
}

void emb_cuda_linear_pack(const emb_backend *self, emb_linear *linear, uint32_t row0, uint32_t rows,
                          const float *values) {
    unsigned char *to = linear->packed;
    to += (uint64_t)row0 * linear->cols * emb_dtype_bytes(linear->dtype);
    emb_cuda_convert(self, to, linear->dtype, values, rows, linear->cols);
}

void emb_cuda_linear_pack_quantized(const emb_backend *self, emb_linear *linear, uint32_t row0,
                                    const emb_quantized_rows *rows) {
    (void)self;
    emb_cuda_pack_rows(linear, row0, rows, put);
}

/* Fills in the bounds of fp8's ffn_in, whose product writes codes directly.
 */
emb_status emb_cuda_layer_finish(const emb_backend *self, emb_layer *layer, uint32_t device,
                                 emb_error *error) {
    (void)self;
    emb_cuda_device about;
    const emb_linear *l = &layer->ffn_in;
    if (l->dtype != EMB_DTYPE_FP8) return EMB_OK;
    emb_cuda_quantized matrix = emb_cuda_quantized_of(l);
    int reason = cudaSetDevice((int)device);
    if (!reason) reason = emb_cuda_device_read(&about);
    if (!reason) reason = emb_cuda_kernels.quantized_bounds(l->bounds, &matrix, &about, NULL);
    if (!reason) return EMB_OK;
    return emb_cuda_failed(error, device, "bounding a matrix failed", (cudaError_t)reason);
}
