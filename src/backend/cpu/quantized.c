/* quantized.c - products of u8 activations and quantized weights: packing, and the walk over panels
 * and tiles, for any instruction set's emb_cpu_dot.
 *
 * A panel holds 64 rows of W as [cols / 4, 64, 4] s8; I4 keeps two such steps of four cols in one,
 * the first in the low halves, and is unpacked panel by panel, zeros subtracted. Sums are exact
 * integers, so that every instruction set has the same. A product may take a slice of the cols.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/cpu.h"

enum { PANEL = EMB_CPU_DOT_PANEL, STEP = 4, STEP_BYTES = PANEL * STEP };

/* ---- layout, packing ------------------------------------------------------------------------- */

static size_t groups_of(const emb_linear *linear) {
    return linear->dtype == EMB_DTYPE_INT4 ? emb_quantized_groups(linear->cols, linear->group) : 1;
}

/* The weights' sums are kept for slices of so many cols: those that products use, which are finer
 * for attention's matrix, recognised by rows equal to cols. */
static uint32_t kept_cols(const emb_linear *linear) {
    bool square = linear->rows == linear->cols && linear->cols % EMB_CPU_DOT_CONTEXT == 0;
    return square ? EMB_CPU_DOT_CONTEXT : emb_cpu_dot_slice(linear->cols);
}

static size_t slices_of(const emb_linear *linear) {
    return (linear->cols + kept_cols(linear) - 1) / kept_cols(linear);
}

/* Cols of an I4 panel: whole pairs of steps. */
static size_t paired_depth(uint32_t cols) {
    return emb_cpu_round_up(cols, 2 * STEP);
}

static size_t panel_bytes(const emb_linear *linear) {
    if (linear->dtype == EMB_DTYPE_INT4) return paired_depth(linear->cols) * PANEL / 2;
    return emb_cpu_dot_depth(linear->cols) * PANEL;
}

void emb_cpu_dot_layout(emb_linear *linear, emb_ledger *ledger) {
    uint64_t panels = emb_cpu_round_up(linear->rows, PANEL) / PANEL;
    uint64_t scales = panels * groups_of(linear);
    linear->smooth = NULL;
    linear->sums = NULL;
    linear->zeros = NULL;
    linear->packed = emb_ledger_take(ledger, panels, panel_bytes(linear));
    linear->scales = emb_ledger_take(ledger, scales * PANEL, sizeof(float));
    if (linear->dtype == EMB_DTYPE_INT4)
        linear->zeros = emb_ledger_take(ledger, scales * PANEL, 1);
    else
        linear->sums = emb_ledger_take(ledger, panels * slices_of(linear) * PANEL, sizeof(int32_t));
}

/* Lane `lane` of an int8 panel, and of the sums of its slices, from one row; NULL: no such row. */
static void pack_lane8(int8_t *panel, int32_t *sums, uint32_t lane, const int8_t *row,
                       uint32_t cols, uint32_t slice) {
    size_t depth = emb_cpu_dot_depth(cols), k = 0;
    for (size_t end = slice; k < depth; end += slice, sums += PANEL) {
        int32_t sum = 0;
        if (end >= cols) end = depth; /* what pads the row is no slice of its own */
        for (; k < end; k++) {
            int8_t value = row && k < cols ? row[k] : 0;
            panel[k / STEP * STEP_BYTES + lane * STEP + k % STEP] = value;
            sum += value;
        }
        sums[lane] = sum;
    }
}

/* The same for int4; what pads a row is its group's zero, which stands for 0. */
static void pack_lane4(uint8_t *panel, uint32_t lane, const int8_t *row, const uint8_t *zeros,
                       uint32_t cols, uint32_t group) {
    size_t depth = paired_depth(cols);
    for (size_t k = 0; k < depth; k++) {
        uint8_t padding = row ? zeros[(k < cols ? k : cols - 1) / group] : 0;
        uint8_t value = row && k < cols ? (uint8_t)row[k] : padding;
        uint8_t *at = panel + k / (2 * STEP) * STEP_BYTES + lane * STEP + k % STEP;
        *at = k / STEP % 2 ? (uint8_t)(*at | value << 4) : value;
    }
}

void emb_cpu_dot_pack(const emb_backend *self, emb_linear *linear, uint32_t row0,
                      const emb_quantized_rows *rows) {
    (void)self;
    size_t groups = groups_of(linear);
    uint32_t cols = linear->cols, end = (uint32_t)emb_cpu_round_up(rows->rows, PANEL);
    for (uint32_t r = 0; r < end; r++) {
        size_t panel = (row0 + r) / PANEL;
        uint32_t lane = r % PANEL;
        bool inside = r < rows->rows;
        const int8_t *row = inside ? rows->values + (size_t)r * cols : NULL;
        unsigned char *packed = (unsigned char *)linear->packed + panel * panel_bytes(linear);
        for (size_t g = 0; g < groups; g++) {
            size_t at = (panel * groups + g) * PANEL + lane;
            linear->scales[at] = inside ? rows->scales[r * groups + g] : 0.0f;
            if (linear->zeros) linear->zeros[at] = inside ? rows->zeros[r * groups + g] : 0;
        }
        if (linear->dtype == EMB_DTYPE_INT4)
            pack_lane4(packed, lane, row, inside ? rows->zeros + r * groups : NULL, cols,
                       linear->group);
        else
            pack_lane8((int8_t *)packed, linear->sums + panel * slices_of(linear) * PANEL, lane,
                       row, cols, kept_cols(linear));
    }
}

/* ---- walking --------------------------------------------------------------------------------- */

/* An unpacked panel, and the sums of its groups. */
size_t emb_cpu_dot_work(emb_dtype dtype, uint32_t cols) {
    if (dtype != EMB_DTYPE_INT4) return 0;
    size_t groups = emb_quantized_groups(cols, EMB_QUANTIZE_GROUP); /* none is smaller */
    return paired_depth(cols) * PANEL + groups * PANEL * sizeof(int32_t);
}

static uint32_t cols_of(const emb_cpu_product *p) {
    return p->cols ? p->cols : p->linear->cols;
}

static int32_t *work_sums(const emb_cpu_product *p) {
    return (int32_t *)((unsigned char *)p->work + paired_depth(cols_of(p)) * PANEL);
}

/* Unpacks a pair of int4 steps to two of int8, zeros subtracted; adds up the weights of each
 * output. */
static void unpack_pair(int8_t *out, int32_t *sums, const uint8_t *packed, const uint8_t *zeros) {
    int8_t spread[STEP_BYTES];
    for (size_t b = 0; b < STEP_BYTES; b++) spread[b] = (int8_t)zeros[b / STEP];
    for (size_t b = 0; b < STEP_BYTES; b++) {
        out[b] = (int8_t)((packed[b] & 15) - spread[b]);
        out[STEP_BYTES + b] = (int8_t)((packed[b] >> 4) - spread[b]);
    }
    for (size_t b = 0; b < STEP_BYTES; b++) sums[b / STEP] += out[b] + out[STEP_BYTES + b];
}

/* Unpacks the panel's wanted cols. */
static void unpack_panel(const emb_cpu_product *p, size_t panel) {
    const emb_linear *linear = p->linear;
    const uint8_t *packed = (const uint8_t *)linear->packed + panel * panel_bytes(linear);
    const uint8_t *zeros = linear->zeros + panel * groups_of(linear) * PANEL;
    packed += (size_t)p->col0 * PANEL / 2;
    zeros += (size_t)(p->col0 / linear->group) * PANEL;
    size_t pairs = paired_depth(cols_of(p)) / (2 * STEP);
    int8_t *out = p->work;
    int32_t *sums = work_sums(p);
    memset(sums, 0, emb_quantized_groups(cols_of(p), linear->group) * PANEL * sizeof *sums);
    for (size_t i = 0; i < pairs; i++, packed += STEP_BYTES, out += 2 * STEP_BYTES) {
        size_t group = i * 2 * STEP / linear->group;
        unpack_pair(out, sums + group * PANEL, packed, zeros + group * PANEL);
    }
}

/* One tile of an I4 product: group by group, each with its own exact sums. */
static void run_groups(const emb_cpu_dot *dot, emb_cpu_dot_tile *tile, const int8_t *panel,
                       int32_t *sums) {
    const emb_cpu_product *p = tile->product;
    const emb_linear *linear = p->linear;
    size_t first = tile->panel0 / PANEL * groups_of(linear) + p->col0 / linear->group;
    memset(tile->totals, 0, sizeof(float) * PANEL * tile->rows);
    for (size_t at = 0, g = 0; at < tile->depth; at += linear->group, g++) {
        size_t left = tile->depth - at;
        tile->scales = linear->scales + (first + g) * PANEL;
        tile->weight_sums = work_sums(p) + g * PANEL;
        dot->sum(sums, tile->rows, tile->in + at, p->in_stride, panel + at * PANEL,
                 left < linear->group ? left : linear->group, panel);
        dot->add_group(tile);
    }
    dot->finish_totals(tile);
}

/* Prefetches the outputs that a tile adds to, if all of them exceed L2. */
static void fetch_out(const emb_cpu_dot_tile *tile) {
    enum { NEAR_BYTES = 1 << 19 };
    const emb_cpu_product *p = tile->product;
    if (!p->add || p->rows * p->out_stride * sizeof(float) <= NEAR_BYTES) return;
    size_t first = tile->panel0 > p->column0 ? tile->panel0 - p->column0 : 0;
    const float *out = (const float *)p->out + tile->row0 * p->out_stride + first;
    for (uint32_t r = 0; r < tile->rows; r++, out += p->out_stride)
        for (size_t i = 0; i < PANEL; i += EMB_ALIGN / sizeof *out) __builtin_prefetch(out + i, 1);
}

static void run_tile(const emb_cpu_dot *dot, emb_cpu_dot_tile *tile, const int8_t *panel,
                     int32_t *sums) {
    const emb_cpu_product *p = tile->product;
    if (p->linear->dtype == EMB_DTYPE_INT4) {
        run_groups(dot, tile, panel, sums);
        return;
    }
    bool whole = tile->panel0 >= p->column0 && tile->panel0 + PANEL <= p->column0 + p->columns;
    fetch_out(tile);
    if (dot->whole && whole && !p->gelu && tile->depth <= EMB_CPU_DOT_WHOLE_COLS) {
        dot->whole(tile, panel);
        return;
    }
    dot->sum(sums, tile->rows, tile->in, p->in_stride, panel, tile->depth, tile->ahead);
    dot->finish(tile);
}

/* sums [64] of the weights over a panel's cols: a product with ones. */
static void sum_weights(const emb_cpu_dot *dot, int32_t *sums, const int8_t *panel, size_t depth) {
    enum { ONES = 256 };
    _Alignas(64) int32_t part[PANEL];
    uint8_t ones[ONES];
    memset(ones, 1, sizeof ones);
    memset(sums, 0, PANEL * sizeof *sums);
    for (size_t at = 0; at < depth; at += ONES) {
        size_t cols = depth - at < ONES ? depth - at : ONES;
        dot->sum(part, 1, ones, 0, panel + at * PANEL, cols, panel + at * PANEL);
        for (size_t i = 0; i < PANEL; i++) sums[i] += part[i];
    }
}

/* The same for an I8 panel: kept, if these are whole slices. */
static void find_weight_sums(const emb_cpu_dot *dot, emb_cpu_dot_tile *tile, int32_t *sums,
                             const int8_t *panel) {
    const emb_cpu_product *p = tile->product;
    const emb_linear *linear = p->linear;
    uint32_t slice = kept_cols(linear), end = p->col0 + cols_of(p);
    const int32_t *kept = linear->sums + tile->panel0 / PANEL * slices_of(linear) * PANEL;
    tile->weight_sums = sums;
    if (p->col0 % slice || (end % slice && end != linear->cols)) {
        sum_weights(dot, sums, panel, tile->depth);
        return;
    }
    kept += p->col0 / slice * PANEL;
    if (end - p->col0 <= slice) {
        tile->weight_sums = kept;
        return;
    }
    memcpy(sums, kept, PANEL * sizeof *sums);
    for (uint32_t col = p->col0 + slice; col < end; col += slice) {
        kept += PANEL;
        for (size_t i = 0; i < PANEL; i++) sums[i] += kept[i];
    }
}

/* The wanted cols of a panel. */
static const int8_t *panel_at(const emb_cpu_product *p, uint32_t panel0) {
    size_t at = panel0 / PANEL * panel_bytes(p->linear) + (size_t)p->col0 * PANEL;
    return (const int8_t *)p->linear->packed + at;
}

/* What tile i of a panel should fetch: the next panel, or another product's first. */
static const int8_t *ahead_of(const emb_cpu_dot_tile *tile, uint32_t i, const int8_t *panel) {
    const emb_cpu_product *p = tile->product;
    size_t at = i * tile->depth * PANEL / 2; /* half of what a tile reads of a panel */
    uint32_t after = tile->panel0 + PANEL;
    if (after < p->column0 + p->columns) return i < 2 ? panel_at(p, after) + at : panel;
    if (!p->next || at >= emb_cpu_dot_depth(cols_of(p->next)) * PANEL) return panel;
    return panel_at(p->next, p->next->column0) + at;
}

void emb_cpu_dot_product(const emb_cpu_dot *dot, const emb_cpu_product *p) {
    _Alignas(64) int32_t sums[EMB_CPU_DOT_ROWS * PANEL];
    _Alignas(64) float totals[EMB_CPU_DOT_ROWS * PANEL];
    _Alignas(64) int32_t pairs[PANEL], weight_sums[PANEL];
    /* tiles of equal size if possible: a tile of one row would be bound by latency */
    uint32_t tiles = (p->rows + EMB_CPU_DOT_ROWS - 1) / EMB_CPU_DOT_ROWS;
    uint32_t least = tiles ? p->rows / tiles : 0, more = p->rows - least * tiles;
    uint32_t end = p->column0 + p->columns;
    emb_cpu_dot_tile tile = {.product = p, .sums = sums, .totals = totals, .pairs = pairs};
    tile.depth = emb_cpu_dot_depth(cols_of(p));
    for (tile.panel0 = p->column0 / PANEL * PANEL; tile.panel0 < end; tile.panel0 += PANEL) {
        const int8_t *panel = p->work;
        bool unpacked = p->linear->dtype == EMB_DTYPE_INT4;
        if (unpacked) {
            unpack_panel(p, tile.panel0 / PANEL);
        } else {
            panel = panel_at(p, tile.panel0);
            tile.scales = p->linear->scales + tile.panel0;
            find_weight_sums(dot, &tile, weight_sums, panel);
        }
        tile.row0 = 0;
        for (uint32_t i = 0; i < tiles; i++, tile.row0 += tile.rows) {
            tile.rows = least + (i < more);
            tile.in = (const uint8_t *)p->in + tile.row0 * p->in_stride;
            tile.ahead = unpacked ? panel : ahead_of(&tile, i, panel);
            run_tile(dot, &tile, panel, sums);
        }
    }
}
