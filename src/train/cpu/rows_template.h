/* rows_template.h - passes over rows, for the vectors that the including file names: softmax, GELU
 * and the norm with their gradients, dropout, AdamW, SGD.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CPU_ROWS_TEMPLATE_H
#define EMB_TRAIN_CPU_ROWS_TEMPLATE_H

#include <math.h>

/* scale * scores + relative, of which those past the end are minus infinity. */
EMB_INLINE vec logits(const float *scores, const float *relative, size_t i, size_t count,
                      vec scale) {
    vec value = v_load(scores + i, count - i) * scale;
    if (relative) value = value + v_load(relative + i, count - i);
    return v_first(count - i, value, v_all(-INFINITY));
}

static float softmax(float *out, const float *scores, const float *relative, uint32_t count,
                     float scale) {
    vec by = v_all(scale), highest = v_all(-INFINITY), sum = v_all(0.0f);
    for (size_t i = 0; i < count; i += LANES)
        highest = v_max(highest, logits(scores, relative, i, count, by));
    float most = v_highest(highest);
    vec base = v_all(most);
    for (size_t i = 0; i < count; i += LANES) {
        vec value = v_exp(logits(scores, relative, i, count, by) - base);
        sum = sum + v_first(count - i, value, v_all(0.0f));
        v_store(out + i, count - i, value);
    }
    float total = v_sum(sum);
    vec factor = v_all(1.0f / total);
    for (size_t i = 0; i < count; i += LANES)
        v_store(out + i, count - i, v_load(out + i, count - i) * factor);
    return most + logf(total);
}

/* Rounding may put the largest a little above 0, where the polynomial of v_exp still holds. */
static void softmax_again(float *out, const float *scores, const float *relative, uint32_t count,
                          float scale, float log_sum) {
    vec by = v_all(scale), base = v_all(log_sum);
    for (size_t i = 0; i < count; i += LANES)
        v_store(out + i, count - i, v_exp(logits(scores, relative, i, count, by) - base));
}

static void softmax_back(float *out, const float *p, const float *dp, uint32_t count, float dot) {
    vec all = v_all(dot);
    for (size_t i = 0; i < count; i += LANES)
        v_store(out + i, count - i, v_load(p + i, count - i) * (v_load(dp + i, count - i) - all));
}

static float dot(const float *a, const float *b, uint32_t count) {
    vec sum = v_all(0.0f);
    for (size_t i = 0; i < count; i += LANES)
        sum = v_fma(v_load(a + i, count - i), v_load(b + i, count - i), sum);
    return v_sum(sum);
}

static void gelu(float *out, const float *in, size_t count) {
    for (size_t i = 0; i < count; i += LANES)
        v_store(out + i, count - i, v_gelu(v_load(in + i, count - i)));
}

/* GELU'(x) = Phi(x) + x phi(x); Phi is 1 - tail(|x|) above 0, tail below. */
static void gelu_back(float *d, const float *in, size_t count) {
    const vec half = v_all(-0.5f), norm = v_all(0.398942280f), one = v_all(1.0f);
    for (size_t i = 0; i < count; i += LANES) {
        vec x = v_load(in + i, count - i), tail = v_gelu_tail(v_abs(x));
        vec cumulative = v_above(x, one - tail, tail);
        vec density = norm * x * v_exp(half * (x * x));
        v_store(d + i, count - i, v_load(d + i, count - i) * (cumulative + density));
    }
}

static void norm(float *out, float *moments, const float *z, const float *gain, const float *shift,
                 uint32_t hidden, float epsilon) {
    vec sum = v_all(0.0f), squares = v_all(0.0f);
    for (size_t i = 0; i < hidden; i += LANES) sum = sum + v_load(z + i, hidden - i);
    moments[0] = v_sum(sum) / (float)hidden;
    vec mean = v_all(moments[0]);
    for (size_t i = 0; i < hidden; i += LANES) {
        vec away = v_first(hidden - i, v_load(z + i, hidden - i) - mean, v_all(0.0f));
        squares = v_fma(away, away, squares);
    }
    moments[1] = 1.0f / sqrtf(v_sum(squares) / (float)hidden + epsilon);
    vec inverse = v_all(moments[1]);
    for (size_t i = 0; i < hidden; i += LANES) {
        size_t left = hidden - i;
        vec value = (v_load(z + i, left) - mean) * inverse;
        v_store(out + i, left, v_fma(value, v_load(gain + i, left), v_load(shift + i, left)));
    }
}

/* With y = (z - mean) / deviation and g = dout * gain: dz = (g - mean(g) - y mean(g y)) / deviation
 */
static void norm_back(float *dz, const float *dout, const float *z, const float *moments,
                      const float *gain, uint32_t hidden) {
    vec mean = v_all(moments[0]), inverse = v_all(moments[1]);
    vec sum = v_all(0.0f), along = v_all(0.0f);
    for (size_t i = 0; i < hidden; i += LANES) {
        size_t left = hidden - i;
        vec g = v_load(dout + i, left) * v_load(gain + i, left);
        vec y = (v_load(z + i, left) - mean) * inverse;
        sum = sum + g;
        along = v_fma(g, y, along);
    }
    vec g_mean = v_all(v_sum(sum) / (float)hidden), y_mean = v_all(v_sum(along) / (float)hidden);
    for (size_t i = 0; i < hidden; i += LANES) {
        size_t left = hidden - i;
        vec g = v_load(dout + i, left) * v_load(gain + i, left);
        vec y = (v_load(z + i, left) - mean) * inverse;
        v_store(dz + i, left, (g - g_mean - y * y_mean) * inverse);
    }
}

static void norm_gains(float *d_gain, float *d_shift, const float *dout, const float *z,
                       const float *moments, uint32_t count) {
    vec mean = v_all(moments[0]), inverse = v_all(moments[1]);
    for (size_t i = 0; i < count; i += LANES) {
        size_t left = count - i;
        vec d = v_load(dout + i, left), y = (v_load(z + i, left) - mean) * inverse;
        v_store(d_gain + i, left, v_fma(d, y, v_load(d_gain + i, left)));
        v_store(d_shift + i, left, d + v_load(d_shift + i, left));
    }
}

static void adamw(float *values, float *m, float *v, const float *gradients, size_t count,
                  const emb_adamw *s) {
    const vec factor = v_all(s->factor), keep = v_all(s->keep), rate = v_all(s->rate);
    const vec beta1 = v_all(s->beta1), rest1 = v_all(1 - s->beta1);
    const vec beta2 = v_all(s->beta2), rest2 = v_all(1 - s->beta2);
    const vec spread = v_all(s->spread), epsilon = v_all(s->epsilon);
    for (size_t i = 0; i < count; i += LANES) {
        size_t left = count - i;
        vec g = v_load(gradients + i, left) * factor;
        vec first = v_fma(rest1, g, beta1 * v_load(m + i, left));
        vec second = v_fma(rest2, g * g, beta2 * v_load(v + i, left));
        vec moved = rate * first / v_fma(v_sqrt(second), spread, epsilon);
        v_store(m + i, left, first);
        v_store(v + i, left, second);
        v_store(values + i, left, v_load(values + i, left) * keep - moved);
    }
}

static void adamw8(float *values, int8_t *m, uint8_t *v, float *scales, const float *gradients,
                   size_t count, const emb_adamw *s) {
    float first[EMB_TRAIN_BLOCK], second[EMB_TRAIN_BLOCK];
    const vec scale_m = v_all(scales[0]), scale_v = v_all(scales[1]);
    for (size_t i = 0; i < count; i += LANES) {
        vec a = v_load_s8(m + i, count - i) * v_all(1.0f / 127);
        vec b = v_load_u8(v + i, count - i) * v_all(1.0f / 255);
        v_store(first + i, count - i, scale_m * a * v_abs(a) * (a * a));
        v_store(second + i, count - i, scale_v * (b * b) * (b * b));
    }
    adamw(values, first, second, gradients, count, s);
    vec most_m = v_all(0.0f), most_v = v_all(0.0f);
    for (size_t i = 0; i < count; i += LANES) {
        most_m = v_max(most_m, v_abs(v_load(first + i, count - i)));
        most_v = v_max(most_v, v_load(second + i, count - i));
    }
    scales[0] = v_highest(most_m);
    scales[1] = v_highest(most_v);
    const vec to_m = v_all(scales[0] > 0 ? 1 / scales[0] : 0);
    const vec to_v = v_all(scales[1] > 0 ? 1 / scales[1] : 0);
    for (size_t i = 0; i < count; i += LANES) {
        vec a = v_load(first + i, count - i), b = v_load(second + i, count - i);
        vec code = v_sqrt(v_sqrt(v_abs(a) * to_m)) * v_all(127.0f);
        v_store_s8(m + i, count - i, v_above(a, code, v_all(0.0f) - code));
        /* to the nearest: upwards the moments would grow with every step. But never 0, which would
         * make the next step huge */
        v_store_u8(v + i, count - i, v_max(v_sqrt(v_sqrt(b * to_v)) * v_all(255.0f), v_all(1.0f)));
    }
}

static void sgd(float *values, float *m, const float *gradients, size_t count, const emb_sgd *s) {
    const vec factor = v_all(s->factor), decay = v_all(s->decay), back = v_all(-s->rate);
    const vec momentum = v_all(s->momentum);
    for (size_t i = 0; i < count; i += LANES) {
        size_t left = count - i;
        vec value = v_load(values + i, left);
        vec g = v_fma(decay, value, v_load(gradients + i, left) * factor);
        if (m) {
            vec moved = v_fma(momentum, v_load(m + i, left), g);
            v_store(m + i, left, moved);
            g = s->nesterov ? v_fma(momentum, moved, g) : moved;
        }
        v_store(values + i, left, v_fma(back, g, value));
    }
}

/* As emb_random_bits. */
EMB_INLINE vec_bits random_bits(vec_bits low, vec_bits high, vec_bits i) {
    vec_bits x = v_bits_xor(low, v_bits_mul(i, v_bits_all(0x9e3779b9u)));
    x = v_bits_mul(v_bits_xor(x, v_bits_right(x, 16)), v_bits_all(0x85ebca6bu));
    x = v_bits_add(v_bits_xor(x, v_bits_right(x, 13)), high);
    x = v_bits_mul(x, v_bits_all(0xc2b2ae35u));
    return v_bits_xor(x, v_bits_right(x, 16));
}

static void drop(float *out, const float *in, uint32_t count, uint64_t key, float share) {
    const vec_bits low = v_bits_all((uint32_t)key), high = v_bits_all((uint32_t)(key >> 32));
    const vec_bits limit = v_bits_all(emb_random_limit(share));
    const vec scale = v_all(1 / (1 - share));
    vec_bits place = v_bits_count();
    for (size_t i = 0; i < count; i += LANES, place = v_bits_add(place, v_bits_all(LANES))) {
        vec stays = v_from(random_bits(low, high, place), limit, v_load(in + i, count - i) * scale);
        v_store(out + i, count - i, stays);
    }
}

/* A few rows at a time, side by side: out is loaded and stored once for all of them. */
static void add_rows(float *out, const float *a, size_t a_row, uint32_t rows, uint32_t count) {
    enum { ROWS = 8 };
    for (uint32_t first = 0; first < rows; first += ROWS, a += ROWS * a_row) {
        uint32_t some = rows - first < ROWS ? rows - first : ROWS;
        for (size_t i = 0; i < count; i += LANES) {
            vec sum = v_load(out + i, count - i);
            for (uint32_t r = 0; r < some; r++) sum = sum + v_load(a + r * a_row + i, count - i);
            v_store(out + i, count - i, sum);
        }
    }
}

static void add(float *out, const float *a, size_t count) {
    for (size_t i = 0; i < count; i += LANES)
        v_store(out + i, count - i, v_load(out + i, count - i) + v_load(a + i, count - i));
}

/* The table of what this file makes, with products by that function. */
#define EMB_TRAIN_KERNELS(its_name, its_matmul)                                                    \
    {                                                                                              \
        .name = (its_name), .matmul = (its_matmul), .softmax = softmax,                            \
        .softmax_again = softmax_again, .softmax_back = softmax_back, .dot = dot, .gelu = gelu,    \
        .gelu_back = gelu_back, .norm = norm, .norm_back = norm_back, .norm_gains = norm_gains,    \
        .adamw = adamw, .adamw8 = adamw8, .sgd = sgd, .drop = drop, .add_rows = add_rows,          \
        .add = add                                                                                 \
    }

#endif
