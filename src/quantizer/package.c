/* package.c - the quantized model's weights' file, in its directory.
 *
 * The file is laid out before any of it is written: a header, then all f32 tensors, then
 * f16, then bytes. docs/quantized_format.md describes it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "package/growing.h"
#include "quantizer/quantizer.h"

#define LAYER_ROLES (EMB_TENSOR_ROLES - EMB_TENSOR_QUERY)

/* ---- the weights' file ----------------------------------------------------------------------- */

static uint32_t slots_of(const emb_shape *shape) {
    return EMB_TENSOR_QUERY + shape->layers * LAYER_ROLES;
}

static uint64_t *offset_of(const emb_package *out, emb_tensor_role role, uint32_t layer,
                           uint32_t part) {
    uint32_t slot = (uint32_t)role + (role < EMB_TENSOR_QUERY ? 0 : layer * LAYER_ROLES);
    return &out->offsets[slot * EMB_PACKAGE_PARTS + part];
}

/* One tensor of the file. */
typedef struct entry {
    const char *dtype;
    uint32_t rank, dims[2];
    uint64_t bytes;
} entry;

static void describe_values(entry *e, const emb_package *out, emb_tensor_role role, uint32_t rank,
                            uint32_t rows, uint32_t cols) {
    static const char *const names[] = {[EMB_DTYPE_F16] = "F16",
                                        [EMB_DTYPE_INT8] = "I8",
                                        [EMB_DTYPE_INT4] = "U8",
                                        [EMB_DTYPE_FP8] = "F8_E4M3"};
    emb_dtype dtype = emb_quantized_as(out->dtype, role);
    *e = (entry){"F32", rank, {rank == 2 ? rows : cols, cols}, (uint64_t)rows * cols * 4};
    if (!emb_model_quantizable(role)) return;
    e->dtype = names[dtype];
    if (dtype == EMB_DTYPE_INT4) e->dims[1] = (cols + 1) / 2;
    e->bytes = (uint64_t)rows * e->dims[1] * (dtype == EMB_DTYPE_F16 ? 2 : 1);
}

/* Describes a part of a tensor; false if there is none. */
static bool describe(entry *e, const emb_package *out, emb_tensor_role role, uint32_t layer,
                     uint32_t part) {
    uint32_t rank, rows, cols;
    if (!emb_model_tensor_shape(out->model->files, role, layer, &rank, &rows, &cols)) return false;
    emb_dtype dtype = emb_quantized_as(out->dtype, role);
    bool words = role == EMB_TENSOR_WORDS, four = dtype == EMB_DTYPE_INT4;
    bool shares = role == EMB_TENSOR_KEY || role == EMB_TENSOR_VALUE;
    uint32_t groups = four ? emb_quantized_groups(cols, out->group) : 1;
    if (part == EMB_PACKAGE_VALUES) {
        describe_values(e, out, role, rank, rows, cols);
        return true;
    }
    if (!emb_model_quantizable(role) || !emb_dtype_quantized(dtype)) return false;
    if (part == EMB_PACKAGE_SMOOTH) {
        *e = (entry){"F32", 1, {cols, 0}, (uint64_t)cols * 4};
        bool balanced = out->balanced && emb_int4_balances(role);
        return (out->smooth || balanced) && !words && !shares;
    }
    uint32_t size = part == EMB_PACKAGE_SCALES ? 4 : 1;
    *e = (entry){
        size == 4 ? "F32" : "U8", four ? 2 : 1, {rows, groups}, (uint64_t)rows * groups * size};
    return part == EMB_PACKAGE_SCALES || four;
}

static emb_status put_tensor(emb_package *out, emb_growing *file, emb_tensor_role role,
                             uint32_t layer, uint32_t part, const entry *e, uint64_t data,
                             emb_error *error) {
    static const char *const suffixes[EMB_PACKAGE_PARTS] = {"", ".scales", ".zeros", ".smooth"};
    char name[256], dims[32];
    emb_model_tensor_name(name, sizeof name, out->model->files, role, layer);
    snprintf(dims, sizeof dims, e->rank == 2 ? "%u,%u" : "%u", e->dims[0], e->dims[1]);
    return emb_growing_put(file, error,
                           ",\"%s%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%" PRIu64
                           ",%" PRIu64 "]}",
                           name, suffixes[part], e->dtype, dims, data, data + e->bytes);
}

/* The dtype's order in the file: the widest first, so that all are aligned. */
static uint32_t turn_of(const char *dtype) {
    return strcmp(dtype, "F32") == 0 ? 0 : strcmp(dtype, "F16") == 0 ? 1 : 2;
}

/* Writes the header's entries of every tensor, in the file's order. */
static emb_status put_tensors(emb_package *out, emb_growing *file, uint64_t *data,
                              emb_error *error) {
    uint32_t slots = slots_of(&out->model->shape);
    for (uint32_t i = 0; i < 3 * slots * EMB_PACKAGE_PARTS; i++) {
        uint32_t turn = i / (slots * EMB_PACKAGE_PARTS);
        uint32_t part = i % EMB_PACKAGE_PARTS, slot = i / EMB_PACKAGE_PARTS % slots;
        uint32_t layer = slot < EMB_TENSOR_QUERY ? 0 : (slot - EMB_TENSOR_QUERY) / LAYER_ROLES;
        emb_tensor_role role = (emb_tensor_role)(slot - layer * LAYER_ROLES);
        entry e;
        if (!describe(&e, out, role, layer, part)) continue;
        if (turn != turn_of(e.dtype)) continue;
        EMB_TRY(put_tensor(out, file, role, layer, part, &e, *data, error));
        *offset_of(out, role, layer, part) = *data;
        *data += e.bytes;
    }
    return EMB_OK;
}

static emb_status put_header(emb_package *out, emb_growing *file, uint64_t *data,
                             emb_error *error) {
    EMB_TRY(emb_growing_put(file, error,
                            "{\"__metadata__\":{\"format\":\"pt\",\"quantized\":\"%s\"}",
                            emb_dtype_name(out->dtype)));
    EMB_TRY(put_tensors(out, file, data, error));
    return emb_growing_put(file, error, "}");
}

/* Makes the tensors' offsets relative to the file. */
static emb_status write_header(emb_package *out, emb_error *error) {
    unsigned char head[8];
    uint64_t data = 0;
    emb_growing measured = {-1, out->weights, 8}, file = {out->descriptor, out->weights, 8};
    EMB_TRY(put_header(out, &measured, &data, error));
    uint64_t padded = (measured.at + 7) / 8 * 8;
    for (uint32_t i = 0; i < 8; i++) head[i] = (unsigned char)((padded - 8) >> 8 * i);
    EMB_TRY(emb_file_write_at(file.descriptor, head, sizeof head, 0, out->weights, error));
    data = 0;
    EMB_TRY(put_header(out, &file, &data, error));
    EMB_TRY(emb_growing_put(&file, error, "%*s", (int)(padded - file.at), ""));
    for (uint32_t i = 0; i < slots_of(&out->model->shape) * EMB_PACKAGE_PARTS; i++)
        out->offsets[i] += padded;
    out->bytes = padded + data;
    return EMB_OK;
}

void emb_package_layout(emb_package *out, const emb_shape *shape, uint32_t cols_max,
                        emb_ledger *ledger) {
    out->offsets = emb_ledger_take(ledger, (uint64_t)slots_of(shape) * EMB_PACKAGE_PARTS,
                                   sizeof *out->offsets);
    out->packed = emb_ledger_take(ledger, EMB_QUANTIZER_ROWS, ((uint64_t)cols_max + 1) / 2);
    emb_directory_layout(&out->directory, ledger);
}

emb_status emb_package_write(emb_package *out, emb_tensor_role role, uint32_t layer, uint32_t part,
                             uint64_t first_byte, const void *bytes, size_t count,
                             emb_error *error) {
    return emb_file_write_at(out->descriptor, bytes, count,
                             *offset_of(out, role, layer, part) + first_byte, out->weights, error);
}

static size_t pack(unsigned char *out, const int8_t *codes, uint32_t rows, uint32_t cols) {
    size_t at = 0;
    for (uint32_t r = 0; r < rows; r++) {
        const int8_t *row = codes + (size_t)r * cols;
        for (uint32_t c = 0; c < cols; c += 2) {
            int high = c + 1 < cols ? row[c + 1] : 0;
            out[at++] = (unsigned char)(row[c] | high << 4);
        }
    }
    return at;
}

emb_status emb_package_write_rows(emb_package *out, emb_tensor_role role, uint32_t layer,
                                  uint32_t row0, const emb_quantized_rows *rows, emb_error *error) {
    uint32_t groups = rows->bits == 4 ? emb_quantized_groups(rows->cols, rows->group) : 1;
    size_t scales = (size_t)rows->rows * groups, bytes = (size_t)rows->rows * rows->cols;
    uint64_t stride = rows->cols;
    const void *values = rows->values;
    if (rows->bits == 4) {
        stride = (stride + 1) / 2;
        bytes = pack(out->packed, rows->values, rows->rows, rows->cols);
        values = out->packed;
        EMB_TRY(emb_package_write(out, role, layer, EMB_PACKAGE_ZEROS, (uint64_t)row0 * groups,
                                  rows->zeros, scales, error));
    }
    EMB_TRY(emb_package_write(out, role, layer, EMB_PACKAGE_SCALES,
                              (uint64_t)row0 * groups * sizeof(float), rows->scales,
                              scales * sizeof(float), error));
    return emb_package_write(out, role, layer, EMB_PACKAGE_VALUES, row0 * stride, values, bytes,
                             error);
}

/* ---- the directory --------------------------------------------------------------------------- */

static const emb_directory_maker maker = {"quantize", "embound_quantization.json"};

emb_status emb_package_open(emb_package *out, const char *directory, emb_error *error) {
    char name[EMB_DIRECTORY_PATH];
    const char *folder = emb_model_files_transformer(out->model->files);
    out->directory.maker = &maker;
    out->directory.files = out->model->files;
    out->directory.overwrite = out->overwrite;
    EMB_TRY(emb_directory_open(&out->directory, directory, error));
    snprintf(name, sizeof name, "%s%s%s", folder, *folder ? "/" : "", "model.safetensors");
    EMB_TRY(emb_directory_create(&out->directory, &out->descriptor, out->weights, name, error));
    return write_header(out, error);
}

emb_status emb_package_commit(emb_package *out, const char *marker, emb_error *error) {
    int descriptor = out->descriptor;
    out->descriptor = -1;
    EMB_TRY(emb_file_finish(descriptor, out->weights, error));
    return emb_directory_commit(&out->directory, marker, error);
}

void emb_package_abort(emb_package *out) {
    emb_file_close(out->descriptor);
    out->descriptor = -1;
    emb_directory_abort(&out->directory);
}
