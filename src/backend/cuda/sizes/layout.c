/* layout.c - books a CUDA backend's device memory; plain C, so that any machine can plan for a
 * card.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/sizes/layout.h"

#include <string.h>

#include "backend/backend.h"
#include "backend/cuda/kernels/launch.h"
#include "backend/cuda/sizes/support.h"

static void *cut(uintptr_t *end, uint64_t count, uint64_t size) {
    const uint64_t align = EMB_ALIGN;
    uintptr_t start = *end;
    *end += (count * size + align - 1) / align * align;
    return (void *)start;
}

uint64_t emb_cuda_indices_cut(emb_cuda_lane *lane, uint32_t tokens, uint32_t chunks, void *base) {
    uintptr_t end = (uintptr_t)base;
    lane->indices = cut(&end, emb_index_words(tokens, chunks), sizeof(uint32_t));
    lane->starts = lane->indices + EMB_INDEX_HEAD;
    lane->ids = lane->indices + emb_index_ids(chunks);
    lane->positions = cut(&end, tokens, sizeof(uint32_t));
    lane->query_tiles = cut(&end, emb_cuda_query_tiles_words(tokens, chunks), sizeof(uint32_t));
    return end - (uintptr_t)base;
}

/* No less than the cut above takes: 4 bytes of indices, 4 of positions and 1/4 of work list for a
 * token, 8 of indices and 16 of work list for a chunk, and less than 512 - 63 for the first of each
 * and for rounding up. */
uint64_t emb_cuda_kept_place(const emb_backend *self, uint32_t tokens, uint32_t tiles,
                             uint32_t chunk_tokens_min) {
    (void)self;
    uint64_t of_chunks = (24 * (uint64_t)tokens + chunk_tokens_min - 1) / chunk_tokens_min;
    uint64_t bytes = 9 * (uint64_t)tokens + of_chunks + 512 * (uint64_t)tiles;
    return (bytes + EMB_ALIGN - 1) / EMB_ALIGN * EMB_ALIGN;
}

/* The context and the codes of I8 or FP8. FP8 has no codes of the context, and makes those of the
 * intermediate while it reads the feed-forward's input. */
static void cut_context(emb_cuda_lane *lane, uintptr_t *end, const emb_layer_spec *shape,
                        emb_dtype dtype, uint32_t tokens) {
    const uint64_t rows = (uint64_t)tokens * shape->hidden;
    uintptr_t behind = *end;
    lane->inner_codes = cut(&behind, (uint64_t)tokens * shape->intermediate, 1);
    if (dtype == EMB_DTYPE_INT8) cut(end, rows, 1);
    lane->context = cut(end, rows, sizeof(uint16_t));
    lane->middle_codes = lane->context;
    if (*end < behind) *end = behind;
    if (dtype == EMB_DTYPE_FP8) lane->middle_codes = cut(end, rows, 1);
}

/* The codes needed besides or instead of f16 values; `wide` is cut last, so that codes end it. */
static void cut_codes(emb_cuda_lane *lane, uintptr_t *end, const emb_layer_spec *shape,
                      emb_dtype dtype, uint32_t tokens) {
    const uint64_t value = sizeof(uint16_t), rows = (uint64_t)tokens * shape->hidden;
    cut_context(lane, end, shape, dtype, tokens);
    lane->code_scales = cut(end, tokens, sizeof(float));
    lane->inner_scales = cut(end, tokens, sizeof(float));
    lane->code_zeros = cut(end, tokens, sizeof(int32_t));
    lane->inner_zeros = cut(end, tokens, sizeof(int32_t));
    uintptr_t behind = *end;
    lane->wide = cut(end, 3 * rows, value);
    lane->layer_codes = cut(end, rows, 1);
    if (dtype == EMB_DTYPE_FP8) return;
    cut(&behind, (uint64_t)tokens * shape->intermediate, value);
    if (*end < behind) *end = behind;
}

uint64_t emb_cuda_lane_cut(emb_cuda_lane *lane, const emb_layer_spec *shape, emb_dtype dtype,
                           uint32_t tokens, uint32_t chunks, void *base) {
    uintptr_t end = (uintptr_t)base;
    uint64_t value = emb_dtype_bytes(dtype), rows = (uint64_t)tokens * shape->hidden;
    uint64_t wide =
        shape->intermediate > 3 * shape->hidden ? shape->intermediate : 3 * (uint64_t)shape->hidden;
    memset(lane, 0, sizeof *lane);
    end += emb_cuda_indices_cut(lane, tokens, chunks, base);
    if (dtype == EMB_DTYPE_INT8 || dtype == EMB_DTYPE_FP8) {
        cut_codes(lane, &end, shape, dtype, tokens);
        return end - (uintptr_t)base;
    }
    lane->wide = cut(&end, tokens * wide, value);
    lane->context = cut(&end, rows, value);
    if (!emb_dtype_quantized(dtype)) lane->projected = cut(&end, rows, value);
    return end - (uintptr_t)base;
}

bool emb_cuda_linear_fits(uint32_t rows, uint32_t cols, emb_dtype dtype, uint32_t group) {
    return rows % 8 == 0 && cols % emb_cuda_cols_step(dtype) == 0 &&
           (dtype != EMB_DTYPE_INT4 || cols % group == 0);
}

/* The packed form of a quantized matrix, as emb_cuda_quantized has it. */
static void quantized_layout(emb_linear *linear, emb_ledger *ledger) {
    uint64_t rows = linear->rows, cols = linear->cols;
    linear->sums = NULL;
    linear->zeros = NULL;
    linear->bounds = NULL;
    if (linear->dtype == EMB_DTYPE_INT4) {
        uint64_t groups = emb_quantized_groups(linear->cols, linear->group);
        linear->packed = emb_ledger_take(ledger, rows, cols / 2);
        linear->scales = emb_ledger_take(ledger, rows * groups, sizeof(uint16_t)); /* f16 */
        linear->zeros = emb_ledger_take(ledger, rows, groups);
        return;
    }
    linear->packed = emb_ledger_take(ledger, rows, cols);
    linear->scales = emb_ledger_take(ledger, rows, sizeof(float));
    if (linear->dtype == EMB_DTYPE_INT8)
        linear->sums = emb_ledger_take(ledger, rows, sizeof(int32_t));
    if (linear->dtype == EMB_DTYPE_FP8) linear->bounds = emb_ledger_take(ledger, 2, sizeof(float));
}

void emb_cuda_linear_layout(const emb_backend *self, emb_linear *linear, uint32_t rows,
                            uint32_t cols, emb_dtype dtype, emb_ledger *ledger) {
    bool typed = emb_cuda_gemm_of(self) == EMB_GEMM_CUBLASLT && dtype != EMB_DTYPE_F32;
    linear->rows = rows;
    linear->cols = cols;
    linear->dtype = dtype;
    if (emb_dtype_quantized(dtype))
        quantized_layout(linear, ledger);
    else
        linear->packed = emb_ledger_take(ledger, (uint64_t)rows * cols, emb_dtype_bytes(dtype));
    linear->bias = emb_ledger_take(ledger, rows, sizeof(float));
    linear->bias_typed = typed ? emb_ledger_take(ledger, rows, emb_dtype_bytes(dtype)) : NULL;
}

void emb_cuda_lane_layout(const emb_backend *self, emb_lane_scratch *lane,
                          const emb_layer_spec *shape, uint32_t tokens, emb_ledger *ledger) {
    emb_cuda_lane cut;
    memset(lane, 0, sizeof *lane);
    lane->tokens_max = tokens;
    lane->chunk_tokens_min = shape->chunk_tokens_min;
    uint32_t chunks = emb_chunks_max(tokens, shape->chunk_tokens_min);
    lane->memory = emb_ledger_take(
        ledger, 1, emb_cuda_lane_cut(&cut, shape, self->dtype, tokens, chunks, NULL));
}
