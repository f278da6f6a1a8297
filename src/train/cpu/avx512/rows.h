/* rows.h - the declarations of this folder.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CPU_AVX512_ROWS_H
#define EMB_TRAIN_CPU_AVX512_ROWS_H

#include "train/cpu/kernels.h"

void emb_train_avx512_matmul(const emb_matmul *product);

#endif
