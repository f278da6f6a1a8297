/* kernels.c - the kernels of training for the vectors of this folder.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cpu/kernels.h"

#include "train/cpu/avx512/matmul_bf16.h"
#include "train/cpu/avx512/vector.h"
#include "train/cpu/random.h"

#define EMB_TRAIN_MANY_REGISTERS
#include "train/cpu/matmul_template.h"
#include "train/cpu/rows_template.h"

const emb_train_kernels emb_train_avx512 = EMB_TRAIN_KERNELS("avx512", matmul);
const emb_train_kernels emb_train_avx512_bf16 =
    EMB_TRAIN_KERNELS("avx512-bf16", emb_train_avx512_matmul_bf16);
