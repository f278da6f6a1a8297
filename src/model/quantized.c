/* quantized.c - matrices in 8 or 4 bits: which tensors they consist of, and reading their rows.
 *
 * Recognised only by the tensors' names and dtypes (docs/quantized_format.md). Reads with pread
 * through the caller's scratch; trusts no scale, zero or value of the file.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "model/files.h"

#define PIECE_COLS  2048 /* restored to f32 at a time */
#define PIECE_PARTS (PIECE_COLS / 32)
#define CODE_MAX    15
/* The scratch for any larger number of values has at least this, see emb_model_scratch_bytes. */
#define SCRATCH_BYTES_MIN (64u << 10)

static const char *const suffixes[EMB_PARTS] = {".scales", ".zeros", ".smooth"};

/* ---- binding --------------------------------------------------------------------------------- */

bool emb_model_quantizable(emb_tensor_role role) {
    return role == EMB_TENSOR_WORDS || role == EMB_TENSOR_QUERY || role == EMB_TENSOR_KEY ||
           role == EMB_TENSOR_VALUE || role == EMB_TENSOR_ATTENTION_OUT ||
           role == EMB_TENSOR_FFN_IN || role == EMB_TENSOR_FFN_OUT;
}

emb_quantized_part emb_quantized_cut(char *name) {
    size_t length = strlen(name);
    for (uint32_t i = 0; i < EMB_PARTS; i++) {
        size_t tail = strlen(suffixes[i]);
        if (length <= tail || strcmp(name + length - tail, suffixes[i]) != 0) continue;
        name[length - tail] = 0;
        return (emb_quantized_part)i;
    }
    return EMB_PARTS;
}

emb_status emb_quantized_bind(emb_tensor *slot, emb_quantized_part part,
                              const emb_tensor_header *tensor, uint8_t shard, emb_error *error) {
    emb_tensor_part *at = &slot->parts[part];
    const char *wanted = part == EMB_PART_ZEROS ? "U8" : "F32";
    if (at->rank)
        return emb_error_set(error, EMB_BAD_FILE,
                             "tensor \"%s\": the same tensor is there under another name or in "
                             "another shard",
                             tensor->name);
    if (strcmp(tensor->dtype, wanted) != 0)
        return emb_error_set(error, EMB_BAD_FILE,
                             "tensor \"%s\": \"dtype\" is \"%s\"; it must be \"%s\"", tensor->name,
                             tensor->dtype, wanted);
    if (tensor->rank < 1 || tensor->rank > 2 || tensor->dims[0] > UINT32_MAX ||
        tensor->dims[1] > UINT32_MAX)
        return emb_error_set(error, EMB_BAD_FILE,
                             "tensor \"%s\": \"shape\" has %u dimensions or is too large; one or "
                             "two are expected",
                             tensor->name, tensor->rank);
    *at = (emb_tensor_part){.offset = tensor->begin,
                            .dims = {(uint32_t)tensor->dims[0], (uint32_t)tensor->dims[1]},
                            .shard = shard,
                            .rank = (uint8_t)tensor->rank};
    return EMB_OK;
}

/* The part must exist, in the values' shard, in shape [first] or [first, second]. */
static emb_status check_part(const emb_tensor *slot, emb_quantized_part part, uint32_t first,
                             uint32_t second, const char *name, emb_error *error) {
    const emb_tensor_part *p = &slot->parts[part];
    uint8_t rank = second ? 2 : 1;
    if (!p->rank)
        return emb_error_set(error, EMB_BAD_FILE,
                             "tensor \"%s%s\" is missing: \"%s\" is quantized and needs it", name,
                             suffixes[part], name);
    if (p->shard != slot->shard)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "tensor \"%s%s\" is in another shard than its values", name,
                             suffixes[part]);
    if (p->rank == rank && p->dims[0] == first && (!second || p->dims[1] == second)) return EMB_OK;
    return emb_error_set(error, EMB_BAD_FILE,
                         second ? "tensor \"%s%s\": \"shape\" is not [%u, %u], which its values "
                                  "need"
                                : "tensor \"%s%s\": \"shape\" is not [%u], which its values need",
                         name, suffixes[part], first, second);
}

/* Values that share a scale, by the number of scales a row has; 0: neither 32 nor 64. */
static uint32_t group_of(uint32_t cols, uint32_t groups) {
    for (uint32_t group = 32; group <= 64; group += 32)
        if (emb_quantized_groups(cols, group) == groups) return group;
    return 0;
}

static emb_status check_int4(emb_tensor *slot, const char *name, emb_error *error) {
    const emb_tensor_part *scales = &slot->parts[EMB_PART_SCALES];
    uint32_t group = scales->rank == 2 ? group_of(slot->cols, scales->dims[1]) : 0;
    if (scales->rank && !group)
        return emb_error_set(error, EMB_BAD_FILE,
                             "tensor \"%s.scales\": \"shape\" is not [%u, %u] or [%u, %u]: a scale "
                             "for each 32 or 64 of %u values",
                             name, slot->rows, emb_quantized_groups(slot->cols, 32), slot->rows,
                             emb_quantized_groups(slot->cols, 64), slot->cols);
    slot->group = (uint16_t)group;
    uint32_t groups = scales->rank ? scales->dims[1] : 1;
    EMB_TRY(check_part(slot, EMB_PART_SCALES, slot->rows, groups, name, error));
    return check_part(slot, EMB_PART_ZEROS, slot->rows, groups, name, error);
}

emb_status emb_quantized_check(emb_tensor *slot, emb_tensor_role role, const char *name,
                               emb_error *error) {
    const emb_tensor_part *parts = slot->parts;
    bool int4 = slot->dtype == EMB_DTYPE_INT4, quantized = emb_dtype_quantized(slot->dtype);
    bool shares = role == EMB_TENSOR_KEY || role == EMB_TENSOR_VALUE; /* the query's factors */
    /* not fp8: the codes of the intermediate come out of a product, which knows no factors */
    bool scaled = slot->dtype == EMB_DTYPE_INT8 || int4;
    bool smooths = scaled && role != EMB_TENSOR_WORDS && !shares;
    const bool allowed[EMB_PARTS] = {quantized, int4, smooths};
    for (uint32_t i = 0; i < EMB_PARTS; i++)
        if (parts[i].rank && !allowed[i])
            return emb_error_set(error, EMB_BAD_FILE,
                                 "tensor \"%s%s\": \"%s\" is of a dtype or role that has none",
                                 name, suffixes[i], name);
    if (!quantized) return EMB_OK;
    if (parts[EMB_PART_SMOOTH].rank)
        EMB_TRY(check_part(slot, EMB_PART_SMOOTH, slot->cols, 0, name, error));
    if (int4) return check_int4(slot, name, error);
    return check_part(slot, EMB_PART_SCALES, slot->rows, 0, name, error);
}

/* ---- what is stored -------------------------------------------------------------------------- */

emb_dtype emb_model_stored_dtype(const emb_model_files *files) {
    return (emb_dtype)files->tensors[EMB_TENSOR_QUERY].dtype;
}

uint32_t emb_model_stored_group(const emb_model_files *files, emb_tensor_role role,
                                uint32_t layer) {
    const emb_tensor *t = emb_tensors_find(files, role, layer);
    return t ? t->group : 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* One tensor being read, and what its messages name. */
typedef struct reading {
    const emb_model_files *files;
    const emb_tensor *tensor;
    emb_tensor_role role;
    uint32_t layer, groups; /* scales in a row */
} reading;

static emb_status begin(reading *r, const emb_model_files *files, emb_tensor_role role,
                        uint32_t layer, emb_error *error) {
    const emb_tensor *t = emb_tensors_find(files, role, layer);
    *r = (reading){files, t, role, layer, 1};
    if (!t || !emb_dtype_quantized(t->dtype))
        return emb_error_set(error, EMB_INTERNAL, "no quantized tensor of role %d in layer %u",
                             (int)role, layer);
    if (t->group) r->groups = emb_quantized_groups(t->cols, t->group);
    return EMB_OK;
}

static emb_status read_at(const reading *r, void *out, size_t bytes, uint64_t offset,
                          emb_error *error) {
    const emb_tensor *t = r->tensor;
    return emb_file_read_at(r->files->descriptors[t->shard], out, bytes, offset,
                            r->files->shards[t->shard], error);
}

/* Scales `first` to first + count of the tensor. */
static emb_status read_scales(const reading *r, float *out, uint64_t first, size_t count,
                              emb_error *error) {
    EMB_TRY(
        read_at(r, out, count * 4, r->tensor->parts[EMB_PART_SCALES].offset + first * 4, error));
    for (size_t i = 0; i < count; i++)
        if (!(out[i] >= 0 && isfinite(out[i])))
            return emb_tensors_blame(r->files, r->role, r->layer, ".scales", first + i,
                                     "not a finite number of at least 0", error);
    return EMB_OK;
}

static emb_status read_zeros(const reading *r, uint8_t *out, uint64_t first, size_t count,
                             emb_error *error) {
    EMB_TRY(read_at(r, out, count, r->tensor->parts[EMB_PART_ZEROS].offset + first, error));
    for (size_t i = 0; i < count; i++)
        if (out[i] > CODE_MAX)
            return emb_tensors_blame(r->files, r->role, r->layer, ".zeros", first + i, "above 15",
                                     error);
    return EMB_OK;
}

static void unpack(int8_t *out, const uint8_t *packed, size_t count) {
    for (size_t i = 0; i < count; i++)
        out[i] = (int8_t)(i % 2 ? packed[i / 2] >> 4 : packed[i / 2] & 15);
}

/* Reads values [col0, col0 + count) of a row, or of several rows if they are contiguous; col0 is
 * even. int4 values go through scratch. */
static emb_status read_codes(const reading *r, int8_t *out, uint64_t row, uint32_t col0,
                             uint32_t count, void *scratch, emb_error *error) {
    const emb_tensor *t = r->tensor;
    if (t->dtype == EMB_DTYPE_INT4) {
        uint64_t stride = ((uint64_t)t->cols + 1) / 2;
        EMB_TRY(read_at(r, scratch, ((size_t)count + 1) / 2, t->offset + row * stride + col0 / 2,
                        error));
        unpack(out, scratch, count);
        return EMB_OK;
    }
    uint64_t first = row * t->cols + col0;
    EMB_TRY(read_at(r, out, count, t->offset + first, error));
    for (uint32_t i = 0; i < count; i++) {
        bool nan = t->dtype == EMB_DTYPE_FP8 && ((uint8_t)out[i] & 0x7F) == 0x7F;
        bool low = t->dtype == EMB_DTYPE_INT8 && out[i] == INT8_MIN;
        if (nan || low)
            return emb_tensors_blame(r->files, r->role, r->layer, "", first + i,
                                     nan ? "NaN" : "-128; -127 to 127 are used", error);
    }
    return EMB_OK;
}

emb_status emb_model_read_quantized(const emb_model_files *files, emb_tensor_role role,
                                    uint32_t layer, uint32_t row0, uint32_t rows,
                                    emb_quantized_rows *out, void *scratch, emb_error *error) {
    reading r;
    EMB_TRY(begin(&r, files, role, layer, error));
    const emb_tensor *t = r.tensor;
    if (row0 > t->rows || rows > t->rows - row0)
        return emb_error_set(error, EMB_INTERNAL, "rows %u to %u of %u in role %d", row0,
                             row0 + rows, t->rows, (int)role);
    bool int4 = t->dtype == EMB_DTYPE_INT4;
    out->bits = int4 ? 4 : 8;
    out->rows = rows;
    out->cols = t->cols;
    out->group = int4 ? t->group : t->cols;
    uint64_t first = (uint64_t)row0 * r.groups;
    size_t count = (size_t)rows * r.groups;
    EMB_TRY(read_scales(&r, out->scales, first, count, error));
    if (int4) EMB_TRY(read_zeros(&r, out->zeros, first, count, error));
    uint32_t step = !int4 ? rows : t->cols % 2 ? 1 : SCRATCH_BYTES_MIN * 2 / t->cols;
    if (step == 0) step = 1;
    for (uint32_t i = 0; i < rows; i += step) {
        uint32_t part = rows - i < step ? rows - i : step;
        EMB_TRY(read_codes(&r, out->values + (size_t)i * t->cols, row0 + i, 0, part * t->cols,
                           scratch, error));
    }
    return EMB_OK;
}

/* ---- as f32 ---------------------------------------------------------------------------------- */

/* A part of a row being restored to f32. */
typedef struct piece {
    float scales[PIECE_PARTS], smooth[PIECE_COLS];
    uint8_t zeros[PIECE_PARTS];
    int8_t codes[PIECE_COLS];
} piece;

static void restore_fp8(float *out, const piece *p, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        out[i] = p->scales[0] * emb_quantize_widen_fp8((uint8_t)p->codes[i]);
}

/* Reads factors [col0, col0 + count) of an input's columns. */
static emb_status read_factors(const reading *r, float *out, uint32_t col0, uint32_t count,
                               emb_error *error) {
    EMB_TRY(read_at(r, out, count * sizeof(float),
                    r->tensor->parts[EMB_PART_SMOOTH].offset + col0 * sizeof(float), error));
    for (uint32_t i = 0; i < count; i++)
        if (!(out[i] > 0 && isfinite(out[i])))
            return emb_tensors_blame(r->files, r->role, r->layer, ".smooth", (uint64_t)col0 + i,
                                     "not a finite number above 0", error);
    return EMB_OK;
}

/* smooth: where the factors are, or NULL. */
static emb_status restore(const reading *r, const reading *smooth, float *out, uint64_t row,
                          uint32_t col0, uint32_t count, void *scratch, emb_error *error) {
    piece p;
    const emb_tensor *t = r->tensor;
    bool int4 = t->dtype == EMB_DTYPE_INT4;
    uint64_t first = row * r->groups + (int4 ? col0 / t->group : 0);
    uint32_t parts = int4 ? emb_quantized_groups(count, t->group) : 1;
    EMB_TRY(read_scales(r, p.scales, first, parts, error));
    if (int4) EMB_TRY(read_zeros(r, p.zeros, first, parts, error));
    EMB_TRY(read_codes(r, p.codes, row, col0, count, scratch, error));
    emb_quantized_rows rows = {int4 ? 4 : 8, 1,        count,  int4 ? t->group : count,
                               p.codes,      p.scales, p.zeros};
    if (t->dtype == EMB_DTYPE_FP8)
        restore_fp8(out, &p, count);
    else
        emb_quantize_restore(out, &rows);
    if (!smooth) return EMB_OK;
    EMB_TRY(read_factors(smooth, p.smooth, col0, count, error));
    for (uint32_t i = 0; i < count; i++) out[i] *= p.smooth[i];
    return EMB_OK;
}

static emb_tensor_role smooth_role(emb_tensor_role role) {
    return role == EMB_TENSOR_KEY || role == EMB_TENSOR_VALUE ? EMB_TENSOR_QUERY : role;
}

emb_status emb_quantized_read_rows(const emb_model_files *files, emb_tensor_role role,
                                   uint32_t layer, uint32_t row0, uint32_t rows, float *out,
                                   void *scratch, emb_error *error) {
    reading r, smooth;
    EMB_TRY(begin(&r, files, role, layer, error));
    bool smooths = emb_model_has_smooth(files, role, layer);
    if (smooths) EMB_TRY(begin(&smooth, files, smooth_role(role), layer, error));
    uint32_t cols = r.tensor->cols;
    for (uint32_t i = 0; i < rows; i++) {
        for (uint32_t c = 0; c < cols; c += PIECE_COLS) {
            uint32_t count = cols - c < PIECE_COLS ? cols - c : PIECE_COLS;
            EMB_TRY(restore(&r, smooths ? &smooth : NULL, out + (size_t)i * cols + c, row0 + i, c,
                            count, scratch, error));
        }
    }
    return EMB_OK;
}

bool emb_model_has_smooth(const emb_model_files *files, emb_tensor_role role, uint32_t layer) {
    const emb_tensor *t = emb_tensors_find(files, smooth_role(role), layer);
    return t && t->parts[EMB_PART_SMOOTH].rank;
}

bool emb_model_smooths(const emb_model_files *files) {
    for (uint32_t i = 0; i < files->tensors_count; i++)
        if (files->tensors[i].parts[EMB_PART_SMOOTH].rank) return true;
    return false;
}

emb_status emb_model_read_smooth(const emb_model_files *files, emb_tensor_role role, uint32_t layer,
                                 float *out, emb_error *error) {
    reading r;
    EMB_TRY(begin(&r, files, smooth_role(role), layer, error));
    if (!r.tensor->parts[EMB_PART_SMOOTH].rank)
        return emb_error_set(error, EMB_INTERNAL, "no factors for role %d in layer %u", (int)role,
                             layer);
    return read_factors(&r, out, 0, r.tensor->cols, error);
}

emb_status emb_model_read_balance(const emb_model_files *files, uint32_t layer, float *factors,
                                  float *importance, void *scratch, emb_error *error) {
    uint32_t rank, rows, cols;
    EMB_TRY(emb_model_read_rows(files, EMB_TENSOR_ATTENTION_GAIN, layer, 0, 1, factors, scratch,
                                error));
    EMB_TRY(emb_model_read_rows(files, EMB_TENSOR_ATTENTION_SHIFT, layer, 0, 1, importance, scratch,
                                error));
    emb_model_tensor_shape(files, EMB_TENSOR_ATTENTION_GAIN, layer, &rank, &rows, &cols);
    emb_quantize_balance(factors, importance, factors, importance, cols);
    return EMB_OK;
}
