/* rows.c - passes over rows with AVX-512: softmax, GELU and the norm, and their gradients; the
 * table of kernels.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cpu/avx512/rows.h"

#include <math.h>

#include "backend/cpu/avx512/avx512.h"
#include "train/cpu/random.h"

EMB_INLINE __m512 load(const float *in, size_t i, size_t count) {
    return _mm512_maskz_loadu_ps(emb_avx512_lanes(i, count), in + i);
}

EMB_INLINE void store(float *out, size_t i, size_t count, __m512 values) {
    _mm512_mask_storeu_ps(out + i, emb_avx512_lanes(i, count), values);
}

/* scale * scores + relative, of which those past the end are minus infinity. */
EMB_INLINE __m512 logits(const float *scores, const float *relative, size_t i, size_t count,
                         __m512 scale) {
    __m512 value = _mm512_mul_ps(load(scores, i, count), scale);
    if (relative) value = _mm512_add_ps(value, load(relative, i, count));
    return _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), emb_avx512_lanes(i, count), value);
}

static float softmax(float *out, const float *scores, const float *relative, uint32_t count,
                     float scale) {
    __m512 by = _mm512_set1_ps(scale), highest = _mm512_set1_ps(-INFINITY);
    for (size_t i = 0; i < count; i += 16)
        highest = _mm512_max_ps(highest, logits(scores, relative, i, count, by));
    float most = _mm512_reduce_max_ps(highest);
    __m512 base = _mm512_set1_ps(most), sum = _mm512_setzero_ps();
    for (size_t i = 0; i < count; i += 16) {
        __m512 value = _mm512_sub_ps(logits(scores, relative, i, count, by), base);
        value = _mm512_maskz_mov_ps(emb_avx512_lanes(i, count), emb_avx512_exp(value));
        sum = _mm512_add_ps(sum, value);
        store(out, i, count, value);
    }
    float total = _mm512_reduce_add_ps(sum);
    __m512 factor = _mm512_set1_ps(1.0f / total);
    for (size_t i = 0; i < count; i += 16)
        store(out, i, count, _mm512_mul_ps(load(out, i, count), factor));
    return most + logf(total);
}

static void softmax_again(float *out, const float *scores, const float *relative, uint32_t count,
                          float scale, float log_sum) {
    __m512 by = _mm512_set1_ps(scale), base = _mm512_set1_ps(log_sum);
    for (size_t i = 0; i < count; i += 16) {
        __m512 value = _mm512_sub_ps(logits(scores, relative, i, count, by), base);
        /* rounding may put the largest a little above 0, where the polynomial still holds */
        store(out, i, count, emb_avx512_exp(value));
    }
}

static void softmax_back(float *out, const float *p, const float *dp, uint32_t count, float dot) {
    __m512 all = _mm512_set1_ps(dot);
    for (size_t i = 0; i < count; i += 16)
        store(out, i, count,
              _mm512_mul_ps(load(p, i, count), _mm512_sub_ps(load(dp, i, count), all)));
}

static float dot(const float *a, const float *b, uint32_t count) {
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = 0; i < count; i += 16)
        sum = _mm512_fmadd_ps(load(a, i, count), load(b, i, count), sum);
    return _mm512_reduce_add_ps(sum);
}

static void gelu(float *out, const float *in, size_t count) {
    for (size_t i = 0; i < count; i += 16)
        store(out, i, count, emb_avx512_gelu(load(in, i, count)));
}

/* GELU'(x) = Phi(x) + x phi(x); Phi is 1 - tail(|x|) above 0, tail below. */
static void gelu_back(float *d, const float *in, size_t count) {
    const __m512 half = _mm512_set1_ps(-0.5f), norm = _mm512_set1_ps(0.398942280f);
    for (size_t i = 0; i < count; i += 16) {
        __m512 x = load(in, i, count), tail = emb_avx512_gelu_tail(_mm512_abs_ps(x));
        __mmask16 above = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
        __m512 cumulative = _mm512_mask_sub_ps(tail, above, _mm512_set1_ps(1.0f), tail);
        __m512 density = emb_avx512_exp(_mm512_mul_ps(half, _mm512_mul_ps(x, x)));
        density = _mm512_mul_ps(_mm512_mul_ps(norm, x), density);
        store(d, i, count,
              _mm512_mul_ps(load(d, i, count), _mm512_add_ps(cumulative, density)));
    }
}

static void norm(float *out, float *moments, const float *z, const float *gain, const float *shift,
                 uint32_t hidden, float epsilon) {
    __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (size_t i = 0; i < hidden; i += 16) sum = _mm512_add_ps(sum, load(z, i, hidden));
    float mean = _mm512_reduce_add_ps(sum) / (float)hidden;
    __m512 middle = _mm512_set1_ps(mean);
    for (size_t i = 0; i < hidden; i += 16) {
        __mmask16 mask = emb_avx512_lanes(i, hidden);
        __m512 away = _mm512_maskz_sub_ps(mask, load(z, i, hidden), middle);
        squares = _mm512_fmadd_ps(away, away, squares);
    }
    float inverse = 1.0f / sqrtf(_mm512_reduce_add_ps(squares) / (float)hidden + epsilon);
    __m512 factor = _mm512_set1_ps(inverse);
    for (size_t i = 0; i < hidden; i += 16) {
        __m512 value = _mm512_mul_ps(_mm512_sub_ps(load(z, i, hidden), middle), factor);
        store(out, i, hidden,
              _mm512_fmadd_ps(value, load(gain, i, hidden), load(shift, i, hidden)));
    }
    moments[0] = mean;
    moments[1] = inverse;
}

/* With y = (z - mean) / deviation and g = dout * gain: dz = (g - mean(g) - y mean(g y)) / deviation
 */
static void norm_back(float *dz, const float *dout, const float *z, const float *moments,
                      const float *gain, uint32_t hidden) {
    __m512 mean = _mm512_set1_ps(moments[0]), inverse = _mm512_set1_ps(moments[1]);
    __m512 sum = _mm512_setzero_ps(), along = _mm512_setzero_ps();
    for (size_t i = 0; i < hidden; i += 16) {
        __m512 g = _mm512_mul_ps(load(dout, i, hidden), load(gain, i, hidden));
        __m512 y = _mm512_mul_ps(_mm512_sub_ps(load(z, i, hidden), mean), inverse);
        sum = _mm512_add_ps(sum, g);
        along = _mm512_fmadd_ps(g, y, along);
    }
    __m512 g_mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)hidden);
    __m512 y_mean = _mm512_set1_ps(_mm512_reduce_add_ps(along) / (float)hidden);
    for (size_t i = 0; i < hidden; i += 16) {
        __m512 g = _mm512_mul_ps(load(dout, i, hidden), load(gain, i, hidden));
        __m512 y = _mm512_mul_ps(_mm512_sub_ps(load(z, i, hidden), mean), inverse);
        __m512 value = _mm512_fnmadd_ps(y, y_mean, _mm512_sub_ps(g, g_mean));
        store(dz, i, hidden, _mm512_mul_ps(value, inverse));
    }
}

static void norm_gains(float *d_gain, float *d_shift, const float *dout, const float *z,
                       const float *moments, uint32_t count) {
    __m512 mean = _mm512_set1_ps(moments[0]), inverse = _mm512_set1_ps(moments[1]);
    for (size_t i = 0; i < count; i += 16) {
        __m512 d = load(dout, i, count);
        __m512 y = _mm512_mul_ps(_mm512_sub_ps(load(z, i, count), mean), inverse);
        store(d_gain, i, count, _mm512_fmadd_ps(d, y, load(d_gain, i, count)));
        store(d_shift, i, count, _mm512_add_ps(d, load(d_shift, i, count)));
    }
}

static void adamw(float *values, float *m, float *v, const float *gradients, size_t count,
                  const emb_adamw *s) {
    const __m512 factor = _mm512_set1_ps(s->factor), keep = _mm512_set1_ps(s->keep);
    const __m512 beta1 = _mm512_set1_ps(s->beta1), rest1 = _mm512_set1_ps(1 - s->beta1);
    const __m512 beta2 = _mm512_set1_ps(s->beta2), rest2 = _mm512_set1_ps(1 - s->beta2);
    const __m512 rate = _mm512_set1_ps(s->rate), spread = _mm512_set1_ps(s->spread);
    const __m512 epsilon = _mm512_set1_ps(s->epsilon);
    for (size_t i = 0; i < count; i += 16) {
        __m512 g = _mm512_mul_ps(load(gradients, i, count), factor);
        __m512 first = _mm512_mul_ps(beta1, load(m, i, count));
        __m512 second = _mm512_mul_ps(beta2, load(v, i, count));
        first = _mm512_fmadd_ps(rest1, g, first);
        second = _mm512_fmadd_ps(rest2, _mm512_mul_ps(g, g), second);
        __m512 width = _mm512_fmadd_ps(_mm512_sqrt_ps(second), spread, epsilon);
        __m512 moved = _mm512_div_ps(_mm512_mul_ps(rate, first), width);
        store(m, i, count, first);
        store(v, i, count, second);
        store(values, i, count, _mm512_fmsub_ps(load(values, i, count), keep, moved));
    }
}

/* As emb_random_bits. */
EMB_INLINE __m512i random_bits(__m512i low, __m512i high, __m512i i) {
    __m512i x = _mm512_xor_si512(low, _mm512_mullo_epi32(i, _mm512_set1_epi32((int)0x9e3779b9u)));
    x = _mm512_xor_si512(x, _mm512_srli_epi32(x, 16));
    x = _mm512_mullo_epi32(x, _mm512_set1_epi32((int)0x85ebca6bu));
    x = _mm512_xor_si512(x, _mm512_srli_epi32(x, 13));
    x = _mm512_mullo_epi32(_mm512_add_epi32(x, high), _mm512_set1_epi32((int)0xc2b2ae35u));
    return _mm512_xor_si512(x, _mm512_srli_epi32(x, 16));
}

static void drop(float *out, const float *in, uint32_t count, uint64_t key, float share) {
    const __m512i low = _mm512_set1_epi32((int)(uint32_t)key);
    const __m512i high = _mm512_set1_epi32((int)(uint32_t)(key >> 32));
    const __m512i limit = _mm512_set1_epi32((int)emb_random_limit(share));
    const __m512 scale = _mm512_set1_ps(1 / (1 - share));
    __m512i i = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (size_t at = 0; at < count; at += 16, i = _mm512_add_epi32(i, _mm512_set1_epi32(16))) {
        __mmask16 stays = _mm512_cmpge_epu32_mask(random_bits(low, high, i), limit);
        store(out, at, count, _mm512_maskz_mul_ps(stays, load(in, at, count), scale));
    }
}

static void add(float *out, const float *a, size_t count) {
    for (size_t i = 0; i < count; i += 16)
        store(out, i, count, _mm512_add_ps(load(out, i, count), load(a, i, count)));
}

const emb_train_kernels emb_train_avx512 = {
    .name = "avx512",
    .matmul = emb_train_avx512_matmul,
    .softmax = softmax,
    .softmax_again = softmax_again,
    .softmax_back = softmax_back,
    .dot = dot,
    .gelu = gelu,
    .gelu_back = gelu_back,
    .norm = norm,
    .norm_back = norm_back,
    .norm_gains = norm_gains,
    .adamw = adamw,
    .drop = drop,
    .add = add,
};
