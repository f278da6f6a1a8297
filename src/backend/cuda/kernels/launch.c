/* launch.c - the module's table of launchers: the functions of the .cu files.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/kernels.h"

const emb_cuda_launch emb_cuda_kernels = {
    .prepare = emb_cuda_prepare,
    .embed = emb_cuda_embed,
    .embed_codes = emb_cuda_embed_codes,
    .residual_norm = emb_cuda_residual_norm,
    .residual_norm_codes = emb_cuda_residual_norm_codes,
    .linear_tile = emb_cuda_linear_tile,
    .linear_run = emb_cuda_linear_run,
    .linear_norm = emb_cuda_linear_norm,
    .gelu = emb_cuda_gelu,
    .blas_choose = emb_cuda_blas_choose,
    .blas_run = emb_cuda_blas_run,
    .attention = emb_cuda_attention,
    .pool = emb_cuda_pool,
    .quantize = emb_cuda_quantize,
    .smooth = emb_cuda_smooth,
    .quantized_tile = emb_cuda_quantized_tile,
    .quantized_run = emb_cuda_quantized_run,
    .quantized_bounds = emb_cuda_quantized_bounds,
    .quantized_codes = emb_cuda_quantized_codes,
};
