/* product_widen.c - products of f32 operands and bf16 weights, widened as they are loaded.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx2/tile.h"

EMB_AVX2_TILES(true)

void emb_cpu_avx2_product_widen(const emb_cpu_product *product) {
    size_t depth = product->linear->cols;
    emb_cpu_avx2_run(product, tiles, depth * EMB_AVX2_PANEL * sizeof(uint16_t));
}
