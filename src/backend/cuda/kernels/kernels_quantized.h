/* kernels_quantized.h - launchers of quantised products: activations as bytes, matrices as int8,
 * int4 or fp8 (E4M3).
 *
 * As in kernels.h: 0 or a cudaError_t, captured in graphs, nothing allocated, rows past the batch
 * untouched. Activations between operations are F16.
 * int8: sums are exact in int32; out = f32(sum - zero * row sum) * row scale * token scale + bias,
 * one expression, so that every tile has the same bits.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_KERNELS_KERNELS_QUANTIZED_H
#define EMB_BACKEND_CUDA_KERNELS_KERNELS_QUANTIZED_H

#include "backend/cuda/kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EMB_CUDA_CODES_COLS_MAX 6144 /* that emb_cuda_quantize takes */

/* Activations as bytes: value = scale * (code - zero). */
typedef struct emb_cuda_codes {
    void *values;   /* [tokens_max, cols] u8 or E4M3, 16-byte aligned; cols a multiple of 16 */
    float *scales;  /* [tokens_max] */
    int32_t *zeros; /* [tokens_max], 0 to 255; not used by FP8 */
} emb_cuda_codes;

/* Quantises F16 `in` [tokens, cols], times `smooth` [cols] if that is not NULL. `type` I8: u8 by
 * the token's range, zero within it; FP8: by its largest magnitude, which becomes 448.
 * cols: a multiple of 16, at most EMB_CUDA_CODES_COLS_MAX. FP8: cudaErrorNotSupported before sm_89.
 */
int emb_cuda_quantize(const emb_cuda_codes *out, const void *in, const float *smooth, uint32_t cols,
                      emb_dtype type, const emb_cuda_pack *pack, const emb_cuda_device *device,
                      void *stream);

/* F16 out [tokens, cols] = in * smooth; `out` may be `in`. cols: a multiple of 8. */
int emb_cuda_smooth(void *out, const void *in, const float *smooth, uint32_t cols,
                    const emb_cuda_pack *pack, void *stream);

/* A quantised matrix on the device. value = scale * code (I8, FP8) or scale * (code - zero) (I4) */
typedef struct emb_cuda_narrow {
    const void *weight;   /* I8, FP8: [rows, cols] bytes; I4: [rows, cols / 2], the low half of a
                             byte is the even column; 16-byte aligned */
    const void *scales;   /* I8, FP8: f32 [rows], 16-byte aligned; I4: f16 [rows, cols / group] */
    const int32_t *sums;  /* I8: [rows], of the codes of a row, 16-byte aligned; else NULL */
    const uint8_t *zeros; /* I4: [rows, cols / group], 0 to 15; else NULL */
    const float *bias;    /* [rows], 16-byte aligned */
    uint32_t rows;        /* a multiple of 8 */
    uint32_t cols;        /* a multiple of 16; I4: of 32 and of group */
    uint32_t group;       /* I4: 32 or 64 */
    emb_dtype type;
} emb_cuda_narrow;

/* What AUTO stands for. FP8 on Hopper: always PAIR, for its sums differ in bits from the others'.
 * I4 has no PAIR. */
emb_cuda_tile emb_cuda_narrow_tile(const emb_cuda_narrow *linear, uint32_t tokens,
                                   const emb_cuda_device *device);

/* F16 out [tokens, rows] = in * W^T + bias, then GELU if `gelu`. I8, FP8: `codes` [tokens, cols]
 * are the input and `in` is NULL; I4: F16 `in` is, and `codes` is NULL. All tiles that a device has
 * for a type give identical bits; cudaErrorNotSupported for one that it has not. */
int emb_cuda_narrow_run(void *out, const emb_cuda_codes *codes, const void *in,
                        const emb_cuda_narrow *linear, int gelu, emb_cuda_tile tile,
                        const emb_cuda_pack *pack, const emb_cuda_device *device, void *stream);

/* emb_cuda_residual_norm of F16, and the codes of what it wrote, as by emb_cuda_quantize, with the
 * same bits as the two calls. `codes` NULL: no codes. hidden: a multiple of 16. */
int emb_cuda_residual_norm_codes(void *out, const emb_cuda_codes *codes, const float *smooth,
                                 emb_dtype codes_type, const void *in, const void *residual,
                                 const emb_cuda_norm *norm, const emb_cuda_pack *pack,
                                 uint32_t hidden, const emb_cuda_device *device, void *stream);

/* emb_cuda_embed of I8 words and the codes of what it wrote, in the same way. */
int emb_cuda_embed_codes(void *out, const emb_cuda_codes *codes, const float *smooth,
                         emb_dtype codes_type, const emb_cuda_pack *pack,
                         const emb_cuda_embedding *embedding, uint32_t hidden,
                         const emb_cuda_device *device, void *stream);

/* ---- FP8 alone: outputs as codes, without a pass of their own ----------------------------------
 */

/* Device floats that bound an FP8 matrix's outputs: reach[0] the largest sum of magnitudes of a
 * row, reach[1] the largest magnitude of the bias. Made once, after the matrix is there. */
int emb_cuda_narrow_reach(float *reach, const emb_cuda_narrow *linear,
                          const emb_cuda_device *device, void *stream);

/* emb_cuda_narrow_run whose outputs are codes: a token's scale is so that no output can pass 448,
 * from what `codes` says of the token and `reach` of the matrix. E4M3 can afford that this is more
 * than the largest output. All of `out` and `codes` lie apart. rows: a multiple of 16. */
int emb_cuda_narrow_codes(const emb_cuda_codes *out, const emb_cuda_codes *codes,
                          const float *reach, const emb_cuda_narrow *linear, int gelu,
                          emb_cuda_tile tile, const emb_cuda_pack *pack,
                          const emb_cuda_device *device, void *stream);

/* ---- what the calls above chose beneath them ---------------------------------------------------
 */

/* Where outputs go: F16 to `out`, or FP8 codes to `codes`, whose scales need `reach`. */
typedef struct emb_cuda_narrow_out {
    void *out;
    emb_cuda_codes codes;
    const float *reach;
} emb_cuda_narrow_out;

int emb_cuda_narrow_mma(const emb_cuda_narrow_out *out, const emb_cuda_codes *codes,
                        const emb_cuda_narrow *linear, int gelu, emb_cuda_tile tile,
                        const emb_cuda_pack *pack, void *stream);
int emb_cuda_narrow_wgmma(const emb_cuda_narrow_out *out, const emb_cuda_codes *codes,
                          const emb_cuda_narrow *linear, int gelu, const emb_cuda_pack *pack,
                          const emb_cuda_device *device, void *stream);
int emb_cuda_int4_mma(void *out, const void *in, const emb_cuda_narrow *linear, int gelu,
                      emb_cuda_tile tile, const emb_cuda_pack *pack, void *stream);

#ifdef __cplusplus
}
#endif

#endif
