/* matmul_bf16.h - products of operands that are rounded to bf16.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CPU_AVX512_MATMUL_BF16_H
#define EMB_TRAIN_CPU_AVX512_MATMUL_BF16_H

#include "train/cpu/kernels.h"

/* As emb_train_kernels.matmul; a and b are rounded to bf16 to the nearest, sums are f32. Needs
 * AVX512_BF16. */
void emb_train_avx512_matmul_bf16(const emb_matmul *product);

#endif
