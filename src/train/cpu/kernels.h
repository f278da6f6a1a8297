/* kernels.h - what training asks of an instruction set: products of any two matrices, and passes
 * over rows. The blocks (attention.c, ffn.c, ...) are written once in terms of these.
 *
 * All is f32. The order of every sum is fixed per instruction set: a thread takes rows, columns or
 * heads of what comes out, never a part of a sum.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CPU_KERNELS_H
#define EMB_TRAIN_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "embound.h"

/* Terms of a product that are summed in registers before they are added to c, and outputs side by
 * side: bounds emb_product.work. */
enum { EMB_TRAIN_DEPTH = 256, EMB_TRAIN_PANEL = 64 };

/* f32 values of a thread's own memory for products: a panel of b, turned; or a panel and a block of
 * a's rows, in bf16. */
enum { EMB_TRAIN_BLOCK_ROWS = 192 };
enum {
    EMB_TRAIN_WORK = EMB_TRAIN_DEPTH * EMB_TRAIN_PANEL + EMB_TRAIN_DEPTH * EMB_TRAIN_BLOCK_ROWS / 2
};

/* Values of a block of moments in 8 bits, at most. */
enum { EMB_TRAIN_BLOCK = 256 };

/* c [m, n] = a [m, k] * b [k, n] + bias, or c += a * b. Any of a and b may be given transposed:
 * a's element (i, p) is a[i * a_row + p * a_col], one of the two steps being 1. */
typedef struct emb_matmul {
    uint32_t m, n, k;
    const float *a;
    size_t a_row, a_col;
    const float *b; /* (p, j) is b[p * b_row + j], or b[j * b_row + p] if b_transposed */
    size_t b_row;
    bool b_transposed;
    float *c;
    size_t c_row;
    bool add;          /* to what c holds */
    const float *bias; /* NULL, or [n] */
    float *work;       /* [EMB_TRAIN_WORK] on a cache line */
} emb_matmul;

/* What one step of AdamW (Loshchilov and Hutter 2019) does to every value. */
typedef struct emb_adamw {
    float factor;       /* of the gradient: clipping */
    float beta1, beta2; /* of the moments */
    float keep;         /* of the value: 1 - rate * decay */
    float rate;         /* divided by 1 - beta1^step */
    float spread;       /* 1 / sqrt(1 - beta2^step) */
    float epsilon;
} emb_adamw;

/* What one step of SGD does to every value, as torch has it: g = factor * gradient + decay * value;
 * m = momentum * m + g; the value moves by rate times m, or by rate times (g + momentum * m). */
typedef struct emb_sgd {
    float factor, decay, momentum, rate;
    bool nesterov;
} emb_sgd;

typedef struct emb_train_kernels {
    const char *name;
    void (*matmul)(const emb_matmul *product);
    /* out = softmax(scale * scores + relative) over `count` values; relative may be NULL. Gives
     * the logarithm of the sum that it divides by. */
    float (*softmax)(float *out, const float *scores, const float *relative, uint32_t count,
                     float scale);
    /* out = e^(scale * scores + relative - log_sum): the same again, given what it gave. */
    void (*softmax_again)(float *out, const float *scores, const float *relative, uint32_t count,
                          float scale, float log_sum);
    /* out = p * (dp - dot): the gradient of the scores, before the scale. */
    void (*softmax_back)(float *out, const float *p, const float *dp, uint32_t count, float dot);
    float (*dot)(const float *a, const float *b, uint32_t count);
    /* out = GELU(in), the erf form. */
    void (*gelu)(float *out, const float *in, size_t count);
    /* d *= GELU'(in) */
    void (*gelu_back)(float *d, const float *in, size_t count);
    /* out = norm(z) of one row; moments [2] gets the mean and 1 / deviation. */
    void (*norm)(float *out, float *moments, const float *z, const float *gain, const float *shift,
                 uint32_t hidden, float epsilon);
    /* dz of one row from dout, given its moments. dz may equal dout. */
    void (*norm_back)(float *dz, const float *dout, const float *z, const float *moments,
                      const float *gain, uint32_t hidden);
    /* Adds one row's share to the gradients of gain and shift: dout times the normalised values,
     * and dout. `moments` are the row's, the others the same `count` columns of all. */
    void (*norm_gains)(float *d_gain, float *d_shift, const float *dout, const float *z,
                       const float *moments, uint32_t count);
    /* out = in, of which a share is dropped and the rest grows by as much; the places of the row
     * are numbered from 0 on. out may equal in. */
    void (*drop)(float *out, const float *in, uint32_t count, uint64_t key, float share);
    /* Moves values along their gradients; first and second moments are kept in m and v. */
    void (*adamw)(float *values, float *m, float *v, const float *gradients, size_t count,
                  const emb_adamw *step);
    /* The same with moments of 8 bits, for one block: m [count] is scale * sign * (|code| / 127)^4,
     * v [count] is scale * (code / 255)^4, scales [2] are those of m and v. */
    void (*adamw8)(float *values, int8_t *m, uint8_t *v, float *scales, const float *gradients,
                   size_t count, const emb_adamw *step);
    /* Moves values against their gradients; m is NULL where there is no momentum. */
    void (*sgd)(float *values, float *m, const float *gradients, size_t count, const emb_sgd *step);
    /* out [count] += each of so many rows of a, in their order */
    void (*add_rows)(float *out, const float *a, size_t a_row, uint32_t rows, uint32_t count);
    /* out += a */
    void (*add)(float *out, const float *a, size_t count);
} emb_train_kernels;

/* The fastest of them that a CPU with these features (a set of emb_cpu_feature) has, with products
 * of f32 or, rounded to bf16, summed in f32. NULL: it has none of that dtype. */
const emb_train_kernels *emb_train_kernels_of(uint32_t features, emb_dtype dtype);

extern const emb_train_kernels emb_train_ref, emb_train_avx2, emb_train_avx512;
extern const emb_train_kernels emb_train_avx512_bf16;

#endif
