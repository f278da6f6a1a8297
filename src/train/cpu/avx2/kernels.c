/* kernels.c - the kernels of training for the vectors of this folder.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cpu/kernels.h"

#include "train/cpu/avx2/vector.h"
#include "train/cpu/random.h"

#include "train/cpu/matmul_template.h"
#include "train/cpu/rows_template.h"

const emb_train_kernels emb_train_avx2 = EMB_TRAIN_KERNELS("avx2", matmul);
