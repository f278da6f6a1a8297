/* product_f32.c - products of f32 operands and f32 weights.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/tile.h"

EMB_AVX512_TILES(false)

void emb_cpu_avx512_product_f32(const emb_cpu_product *product) {
    size_t depth = product->linear->cols;
    emb_cpu_avx512_walk walk = {tiles, depth, depth * EMB_AVX512_PANEL * sizeof(float), 4};
    emb_cpu_avx512_run(product, &walk);
}
