/* product_f32.c - products of f32 operands and f32 weights.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx2/tile.h"

EMB_AVX2_TILES(false)

void emb_cpu_avx2_product_f32(const emb_cpu_product *product) {
    size_t depth = product->linear->cols;
    emb_cpu_avx2_run(product, tiles, depth * EMB_AVX2_PANEL * sizeof(float));
}
