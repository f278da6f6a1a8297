/* ref.c - the kernels of training in plain C, for any CPU; and which kernels a CPU gets.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "backend/backend.h"
#include "train/cpu/kernels.h"
#include "train/cpu/random.h"

static void matmul(const emb_matmul *product) {
    for (uint32_t i = 0; i < product->m; i++) {
        float *c = product->c + i * product->c_row;
        for (uint32_t j = 0; j < product->n; j++)
            if (product->bias || !product->add) c[j] = product->bias ? product->bias[j] : 0.0f;
        const float *a = product->a + i * product->a_row;
        for (uint32_t j = 0; j < product->n && product->b_transposed; j++) {
            const float *b = product->b + j * product->b_row;
            float sum = 0.0f;
            for (uint32_t p = 0; p < product->k; p++) sum += a[p * product->a_col] * b[p];
            c[j] += sum;
        }
        for (uint32_t p = 0; p < product->k && !product->b_transposed; p++) {
            const float *b = product->b + p * product->b_row;
            float x = a[p * product->a_col];
            for (uint32_t j = 0; j < product->n; j++) c[j] += x * b[j];
        }
    }
}

static float logit(const float *scores, const float *relative, uint32_t i, float scale) {
    float value = scale * scores[i];
    return relative ? value + relative[i] : value;
}

static void softmax_again(float *out, const float *scores, const float *relative, uint32_t count,
                          float scale, float log_sum) {
    for (uint32_t i = 0; i < count; i++) out[i] = expf(logit(scores, relative, i, scale) - log_sum);
}

static float softmax(float *out, const float *scores, const float *relative, uint32_t count,
                     float scale) {
    float most = -INFINITY, sum = 0.0f;
    for (uint32_t i = 0; i < count; i++) most = fmaxf(most, logit(scores, relative, i, scale));
    for (uint32_t i = 0; i < count; i++) sum += expf(logit(scores, relative, i, scale) - most);
    softmax_again(out, scores, relative, count, scale, most + logf(sum));
    return most + logf(sum);
}

static void softmax_back(float *out, const float *p, const float *dp, uint32_t count, float dot) {
    for (uint32_t i = 0; i < count; i++) out[i] = p[i] * (dp[i] - dot);
}

static float dot(const float *a, const float *b, uint32_t count) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

static float cumulative(float x) {
    return 0.5f * erfcf(-x * (float)M_SQRT1_2);
}

static void gelu(float *out, const float *in, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] = in[i] * cumulative(in[i]);
}

/* GELU'(x) = Phi(x) + x phi(x) */
static void gelu_back(float *d, const float *in, size_t count) {
    const float norm = (float)(M_2_SQRTPI * M_SQRT1_2 / 2);
    for (size_t i = 0; i < count; i++)
        d[i] *= cumulative(in[i]) + in[i] * norm * expf(-0.5f * in[i] * in[i]);
}

static void norm(float *out, float *moments, const float *z, const float *gain, const float *shift,
                 uint32_t hidden, float epsilon) {
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < hidden; i++) sum += z[i];
    double mean = sum / hidden;
    for (uint32_t i = 0; i < hidden; i++) squares += (z[i] - mean) * (z[i] - mean);
    moments[0] = (float)mean;
    moments[1] = (float)(1 / sqrt(squares / hidden + epsilon));
    for (uint32_t i = 0; i < hidden; i++)
        out[i] = (z[i] - moments[0]) * moments[1] * gain[i] + shift[i];
}

/* With y = (z - mean) / deviation and g = dout * gain: dz = (g - mean(g) - y mean(g y)) / deviation
 */
static void norm_back(float *dz, const float *dout, const float *z, const float *moments,
                      const float *gain, uint32_t hidden) {
    double sum = 0, along = 0;
    for (uint32_t i = 0; i < hidden; i++) {
        double g = dout[i] * gain[i], y = (z[i] - moments[0]) * moments[1];
        sum += g;
        along += g * y;
    }
    float g_mean = (float)(sum / hidden), y_mean = (float)(along / hidden);
    for (uint32_t i = 0; i < hidden; i++) {
        float g = dout[i] * gain[i], y = (z[i] - moments[0]) * moments[1];
        dz[i] = (g - g_mean - y * y_mean) * moments[1];
    }
}

static void norm_gains(float *d_gain, float *d_shift, const float *dout, const float *z,
                       const float *moments, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        d_gain[i] += dout[i] * ((z[i] - moments[0]) * moments[1]);
        d_shift[i] += dout[i];
    }
}

static void adamw(float *values, float *m, float *v, const float *gradients, size_t count,
                  const emb_adamw *s) {
    for (size_t i = 0; i < count; i++) {
        float g = gradients[i] * s->factor;
        m[i] = s->beta1 * m[i] + (1 - s->beta1) * g;
        v[i] = s->beta2 * v[i] + (1 - s->beta2) * g * g;
        float moved = s->rate * m[i] / (sqrtf(v[i]) * s->spread + s->epsilon);
        values[i] = values[i] * s->keep - moved;
    }
}

static void adamw8(float *values, int8_t *m, uint8_t *v, float *scales, const float *gradients,
                   size_t count, const emb_adamw *s) {
    float first[EMB_TRAIN_BLOCK], second[EMB_TRAIN_BLOCK], most_m = 0, most_v = 0;
    for (size_t i = 0; i < count; i++) {
        float a = (float)m[i] / 127, b = (float)v[i] / 255;
        first[i] = scales[0] * a * fabsf(a) * (a * a);
        second[i] = scales[1] * (b * b) * (b * b);
    }
    adamw(values, first, second, gradients, count, s);
    for (size_t i = 0; i < count; i++) {
        most_m = fmaxf(most_m, fabsf(first[i]));
        most_v = fmaxf(most_v, second[i]);
    }
    scales[0] = most_m;
    scales[1] = most_v;
    float to_m = most_m > 0 ? 1 / most_m : 0, to_v = most_v > 0 ? 1 / most_v : 0;
    for (size_t i = 0; i < count; i++) {
        float a = sqrtf(sqrtf(fabsf(first[i]) * to_m)) * 127;
        m[i] = (int8_t)rintf(copysignf(a, first[i]));
        /* to the nearest: upwards the moments would grow with every step. But never 0, which would
         * make the next step huge */
        v[i] = (uint8_t)fmaxf(rintf(sqrtf(sqrtf(second[i] * to_v)) * 255), 1);
    }
}

static void sgd(float *values, float *m, const float *gradients, size_t count, const emb_sgd *s) {
    for (size_t i = 0; i < count; i++) {
        float g = gradients[i] * s->factor + s->decay * values[i];
        if (m) {
            m[i] = s->momentum * m[i] + g;
            g = s->nesterov ? g + s->momentum * m[i] : m[i];
        }
        values[i] -= s->rate * g;
    }
}

static void drop(float *out, const float *in, uint32_t count, uint64_t key, float share) {
    uint32_t limit = emb_random_limit(share);
    float scale = 1 / (1 - share);
    for (uint32_t i = 0; i < count; i++)
        out[i] = emb_random_bits(key, i) < limit ? 0.0f : in[i] * scale;
}

static void add_rows(float *out, const float *a, size_t a_row, uint32_t rows, uint32_t count) {
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t i = 0; i < count; i++) out[i] += a[r * a_row + i];
}

static void add(float *out, const float *a, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] += a[i];
}

const emb_train_kernels emb_train_ref = {
    .name = "ref",
    .matmul = matmul,
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
    .adamw8 = adamw8,
    .sgd = sgd,
    .drop = drop,
    .add_rows = add_rows,
    .add = add,
};

const emb_train_kernels *emb_train_kernels_of(uint32_t features, emb_dtype dtype) {
#ifdef EMB_X86
    const uint32_t bf16 = EMB_CPU_AVX512 | EMB_CPU_BF16 | EMB_CPU_BF16_FAST;
    if (dtype == EMB_DTYPE_BF16 && !(bf16 & ~features)) return &emb_train_avx512_bf16;
    if (dtype == EMB_DTYPE_F32 && features & EMB_CPU_AVX512) return &emb_train_avx512;
    if (dtype == EMB_DTYPE_F32 && features & EMB_CPU_AVX2) return &emb_train_avx2;
#endif
    (void)features;
    return dtype == EMB_DTYPE_F32 ? &emb_train_ref : NULL;
}
