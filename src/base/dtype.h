/* dtype.h - names and sizes of the types that weights have.
 *
 * Only dtype.c spells out the names. All functions: any thread, never fail.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_DTYPE_H
#define EMB_BASE_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

#include "embound.h"

/* Bytes of one value of the types without scales. */
static inline uint64_t emb_dtype_bytes(emb_dtype dtype) {
    return dtype == EMB_DTYPE_F32 ? 4 : 2;
}

/* int8: a scale per row; int4: a scale and a zero per group of a row; fp8 (E4M3): a scale per row.
 */
static inline bool emb_dtype_quantized(emb_dtype dtype) {
    return dtype == EMB_DTYPE_INT8 || dtype == EMB_DTYPE_INT4 || dtype == EMB_DTYPE_FP8;
}

/* Where a row of int8 has its f32 scale: after its values. */
static inline uint64_t emb_dtype_scale_at(uint32_t cols) {
    return ((uint64_t)cols + 3) / 4 * 4;
}

/* Of one row of an embedding table; quantized types have int8 rows there. */
static inline uint64_t emb_dtype_row_bytes(emb_dtype dtype, uint32_t cols) {
    if (emb_dtype_quantized(dtype)) return emb_dtype_scale_at(cols) + sizeof(float);
    return cols * emb_dtype_bytes(dtype);
}

#endif
