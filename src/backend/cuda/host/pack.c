/* pack.c - rounds weights to a device's formats, piece by piece through small host buffers.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/host/pack.h"

#include <string.h>

#include "backend/cuda/kernels/launch.h"

enum { PIECE = 2048 }; /* 16-bit values at a time */

static uint16_t round_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static void put_halves(void *out, emb_dtype dtype, const float *in, uint64_t count,
                       emb_cuda_put put) {
    uint16_t halves[PIECE];
    for (uint64_t done = 0; done < count;) {
        uint64_t left = count - done, many = left < PIECE ? left : PIECE;
        for (uint64_t i = 0; i < many; i++)
            halves[i] =
                dtype == EMB_DTYPE_BF16 ? round_bf16(in[done + i]) : emb_quantize_f16(in[done + i]);
        put((uint16_t *)out + done, halves, many * sizeof *halves);
        done += many;
    }
}

/* Rows of int8, each followed by its scale. */
static void put_table(unsigned char *out, const float *in, uint64_t rows, uint32_t cols,
                      emb_cuda_put put) {
    enum { ROWS = 8 };
    _Alignas(4) unsigned char block[ROWS * (EMB_CUDA_HIDDEN_MAX + sizeof(float))];
    uint64_t row_bytes = emb_dtype_row_bytes(EMB_DTYPE_INT8, cols);
    for (uint64_t done = 0, many; done < rows; done += many) {
        many = rows - done < ROWS ? rows - done : ROWS;
        memset(block, 0, many * row_bytes);
        for (uint64_t r = 0; r < many; r++) {
            unsigned char *row = block + r * row_bytes;
            float scale;
            emb_quantized_rows one = {8, 1, cols, cols, (int8_t *)row, &scale, NULL};
            emb_quantize_rows(&one, in + (done + r) * cols, NULL);
            memcpy(row + emb_dtype_scale_at(cols), &scale, sizeof scale);
        }
        put(out + done * row_bytes, block, many * row_bytes);
    }
}

void emb_cuda_pack_values(void *out, emb_dtype dtype, const float *in, uint64_t rows, uint32_t cols,
                          emb_cuda_put put) {
    if (dtype == EMB_DTYPE_F32)
        put(out, in, rows * cols * sizeof *in);
    else if (emb_dtype_quantized(dtype))
        put_table(out, in, rows, cols, put);
    else
        put_halves(out, dtype, in, rows * cols, put);
}

/* Two codes per byte, the even column in the low half. */
static void put_int4(unsigned char *out, const int8_t *codes, uint64_t count, emb_cuda_put put) {
    unsigned char bytes[PIECE];
    for (uint64_t done = 0, many; done < count / 2; done += many) {
        many = count / 2 - done < PIECE ? count / 2 - done : PIECE;
        for (uint64_t i = 0; i < many; i++) {
            const int8_t *pair = codes + 2 * (done + i);
            bytes[i] = (unsigned char)(pair[0] | pair[1] << 4);
        }
        put(out + done, bytes, many);
    }
}

static void put_sums(int32_t *out, const emb_quantized_rows *rows, emb_cuda_put put) {
    int32_t sums[EMB_PACK_ROWS];
    for (uint32_t r = 0; r < rows->rows; r++) {
        sums[r] = 0;
        for (uint32_t c = 0; c < rows->cols; c++)
            sums[r] += rows->values[(size_t)r * rows->cols + c];
    }
    put(out, sums, rows->rows * sizeof *sums);
}

void emb_cuda_pack_rows(emb_linear *linear, uint32_t row0, const emb_quantized_rows *rows,
                        emb_cuda_put put) {
    unsigned char *packed = linear->packed;
    uint64_t first = (uint64_t)row0 * linear->cols, count = (uint64_t)rows->rows * linear->cols;
    if (linear->dtype == EMB_DTYPE_INT4) {
        uint64_t groups = emb_quantized_groups(linear->cols, linear->group);
        uint16_t *scales = (uint16_t *)(void *)linear->scales;
        put_int4(packed + first / 2, rows->values, count, put);
        put_halves(scales + row0 * groups, EMB_DTYPE_F16, rows->scales, rows->rows * groups, put);
        put(linear->zeros + row0 * groups, rows->zeros, rows->rows * groups);
        return;
    }
    put(packed + first, rows->values, count);
    put(linear->scales + row0, rows->scales, rows->rows * sizeof *rows->scales);
    if (linear->sums) put_sums(linear->sums + row0, rows, put);
}
