/* product_widen.c - products of f32 operands and bf16 weights, widened as they are loaded.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/tile.h"

EMB_AVX512_TILES(true)

void emb_cpu_avx512_product_widen(const emb_cpu_product *product) {
    size_t depth = product->linear->cols;
    emb_cpu_avx512_walk walk = {tiles, depth, depth * EMB_AVX512_PANEL * sizeof(uint16_t), 4};
    emb_cpu_avx512_run(product, &walk);
}
