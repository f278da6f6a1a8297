/* kernels.h - the functions of the .cu files: the launchers of the table of launch.h, which says
 * what each does, what those choose among, and what a device and cuBLASLt are opened with.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_KERNELS_KERNELS_H
#define EMB_BACKEND_CUDA_KERNELS_KERNELS_H

#include <stdbool.h>

#include "backend/cuda/kernels/launch.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The table of these launchers. */
extern const emb_cuda_launch emb_cuda_kernels;

/* Fills `device` for the current CUDA device. Gives 0 or a cudaError_t. */
int emb_cuda_device_read(emb_cuda_device *device);

/* ---- embed, norm, attention, pool ------------------------------------------------------------ */

int emb_cuda_prepare(const emb_cuda_batch *batch, void *stream);
int emb_cuda_embed(void *out, const emb_cuda_batch *batch, const emb_cuda_embedding *embedding,
                   uint32_t hidden, emb_dtype type, void *stream);
int emb_cuda_embed_codes(void *out, const emb_cuda_codes *codes, const float *smooth,
                         emb_dtype codes_type, const emb_cuda_batch *batch,
                         const emb_cuda_embedding *embedding, uint32_t hidden,
                         const emb_cuda_device *device, void *stream);

int emb_cuda_residual_norm(void *out, const void *in, const void *residual,
                           const emb_cuda_norm *norm, const emb_cuda_batch *batch, uint32_t hidden,
                           emb_dtype type, void *stream);
int emb_cuda_residual_norm_codes(void *out, const emb_cuda_codes *codes, const float *smooth,
                                 emb_dtype codes_type, const void *in, const void *residual,
                                 const emb_cuda_norm *norm, const emb_cuda_batch *batch,
                                 uint32_t hidden, const emb_cuda_device *device, void *stream);

int emb_cuda_attention(void *out, const void *qkv, const emb_cuda_heads *heads,
                       const emb_cuda_batch *batch, emb_dtype type, const emb_cuda_device *device,
                       void *stream);
/* 16-bit types and head_dim a multiple of 8 (on sm_75, up to 64). */
int emb_cuda_attention_mma(void *out, const void *qkv, const emb_cuda_heads *heads,
                           const emb_cuda_batch *batch, emb_dtype type,
                           const emb_cuda_device *device, void *stream);
/* The same bits by Hopper's warpgroup products: 16-bit types, head_dim 32 or 64. */
int emb_cuda_attention_wgmma(void *out, const void *qkv, const emb_cuda_heads *heads,
                             const emb_cuda_batch *batch, emb_dtype type,
                             const emb_cuda_device *device, void *stream);

int emb_cuda_pool(float *rows, const void *in, const emb_cuda_batch *batch, uint32_t hidden,
                  emb_cuda_pooling pooling, int normalize, emb_dtype type, void *stream);

/* ---- linear ---------------------------------------------------------------------------------- */

/* What AUTO stands for, by rows of W only. pairs: the product also has a kernel by pairs of
 * blocks. */
emb_cuda_tile emb_cuda_tile_for(uint32_t rows, uint32_t tokens, bool pairs,
                                const emb_cuda_device *device);
emb_cuda_tile emb_cuda_linear_tile(const emb_cuda_linear *linear, uint32_t tokens,
                                   const emb_cuda_device *device);
int emb_cuda_linear_run(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                        emb_cuda_tile tile, const emb_cuda_batch *batch,
                        const emb_cuda_device *device, void *stream);
int emb_cuda_linear_mma(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                        emb_cuda_tile tile, const emb_cuda_batch *batch, void *stream);
int emb_cuda_linear_f32(float *out, const float *in, const emb_cuda_linear *linear, int gelu,
                        emb_cuda_tile tile, const emb_cuda_batch *batch, void *stream);
int emb_cuda_linear_wgmma(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                          const emb_cuda_batch *batch, const emb_cuda_device *device, void *stream);

int emb_cuda_linear_norm(void *out, const void *in, const emb_cuda_linear *linear,
                         const void *residual, const emb_cuda_norm *norm, void *product,
                         emb_cuda_tile tile, uint32_t tokens, const emb_cuda_batch *batch,
                         const emb_cuda_device *device, void *stream);
int emb_cuda_linear_norm_wgmma(void *out, const void *in, const emb_cuda_linear *linear,
                               const void *residual, const emb_cuda_norm *norm,
                               const emb_cuda_batch *batch, const emb_cuda_device *device,
                               void *stream);

int emb_cuda_gelu(void *values, uint32_t cols, const emb_cuda_batch *batch, emb_dtype type,
                  void *stream);

/* Opens libcublasLt.so.13 (or the path in `name`, if not NULL). Gives 0, or -1 if it is not there,
 * or a cublasStatus_t. This is the only call here that allocates: inside the library. */
int emb_cuda_blas_open(emb_cuda_blas *blas, const char *name);
void emb_cuda_blas_close(emb_cuda_blas *blas);
int emb_cuda_blas_choose(emb_cuda_blas_choice *choice, const emb_cuda_blas *blas,
                         const emb_cuda_linear *linear, uint32_t tokens, uint32_t candidate);
int emb_cuda_blas_run(void *out, const void *in, const emb_cuda_linear *linear,
                      const emb_cuda_blas *blas, const emb_cuda_blas_choice *choice,
                      uint32_t tokens_max, void *stream);

/* ---- quantized ------------------------------------------------------------------------------- */

int emb_cuda_quantize(const emb_cuda_codes *out, const void *in, const float *smooth, uint32_t cols,
                      emb_dtype type, const emb_cuda_batch *batch, const emb_cuda_device *device,
                      void *stream);
int emb_cuda_smooth(void *out, const void *in, const float *smooth, uint32_t cols,
                    const emb_cuda_batch *batch, void *stream);

emb_cuda_tile emb_cuda_quantized_tile(const emb_cuda_quantized *linear, uint32_t tokens,
                                      const emb_cuda_device *device);
int emb_cuda_quantized_run(void *out, const emb_cuda_codes *codes, const void *in,
                           const emb_cuda_quantized *linear, int gelu, emb_cuda_tile tile,
                           const emb_cuda_batch *batch, const emb_cuda_device *device,
                           void *stream);
int emb_cuda_quantized_bounds(float *bounds, const emb_cuda_quantized *linear,
                              const emb_cuda_device *device, void *stream);
int emb_cuda_quantized_codes(const emb_cuda_codes *out, const emb_cuda_codes *codes,
                             const float *bounds, const emb_cuda_quantized *linear, int gelu,
                             emb_cuda_tile tile, const emb_cuda_batch *batch,
                             const emb_cuda_device *device, void *stream);

/* Where outputs go: F16 to `out`, or FP8 codes to `codes`, whose scales need `bounds`. */
typedef struct emb_cuda_quantized_out {
    void *out;
    emb_cuda_codes codes;
    const float *bounds;
} emb_cuda_quantized_out;

int emb_cuda_quantized_mma(const emb_cuda_quantized_out *out, const emb_cuda_codes *codes,
                           const emb_cuda_quantized *linear, int gelu, emb_cuda_tile tile,
                           const emb_cuda_batch *batch, void *stream);
int emb_cuda_quantized_wgmma(const emb_cuda_quantized_out *out, const emb_cuda_codes *codes,
                             const emb_cuda_quantized *linear, int gelu,
                             const emb_cuda_batch *batch, const emb_cuda_device *device,
                             void *stream);
int emb_cuda_int4_mma(void *out, const void *in, const emb_cuda_quantized *linear, int gelu,
                      emb_cuda_tile tile, const emb_cuda_batch *batch, void *stream);

#ifdef __cplusplus
}
#endif

#endif
