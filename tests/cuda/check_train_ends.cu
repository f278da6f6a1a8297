/* check_train_ends.cu - training's embedding, pooling, units, optimiser and conversions against
 * references in double precision, on awkward shapes.
 *
 * Outputs stand between guards; rows past a batch must stay as they were; a second run must give
 * the same bits. `small` runs few cases, for compute-sanitizer; `bench` gives times instead. Prints
 * JSON lines; exits 1 if a check failed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cuda/train_support.cuh"

static bool small;

static std::vector<uint32_t> some_lengths() {
    std::vector<uint32_t> lengths = {1, 2, 3, 7, 64, 65, 128};
    for (int i = 0; i < (small ? 3 : 90); i++) lengths.push_back(1 + random_below(150));
    return lengths;
}

/* Ids of which some are frequent, side by side as in vocabularies. */
static std::vector<uint32_t> skewed_ids(uint32_t tokens, uint32_t vocabulary) {
    std::vector<uint32_t> ids(tokens);
    for (uint32_t &id : ids) id = random_below(3) ? random_below(vocabulary) : 5 + random_below(4);
    return ids;
}

static batch skewed_batch(uint32_t vocabulary) {
    std::vector<uint32_t> lengths = some_lengths();
    uint32_t tokens = 0;
    for (uint32_t n : lengths) tokens += n;
    batch b = batch_open(tokens + 5, (uint32_t)lengths.size() + 2);
    batch_fill(b, lengths, skewed_ids(tokens, vocabulary), vocabulary);
    return b;
}

/* ---- embedding ------------------------------------------------------------------------------- */

static void check_embed(emb_dtype type) {
    verdict sums = {"train embed sum", type}, norms = {"train embed", type};
    const uint32_t vocabulary = 99, positions = 160;
    for (uint32_t hidden : {32u, 48u, 384u, 768u, 1024u, 1536u}) {
        batch b = skewed_batch(vocabulary);
        std::vector<float> words = random_values((size_t)vocabulary * hidden, 1, EMB_DTYPE_F32);
        std::vector<float> places = random_values((size_t)positions * hidden, 1, EMB_DTYPE_F32);
        std::vector<float> kinds = random_values(hidden, 1, EMB_DTYPE_F32);
        std::vector<float> gain = random_values(hidden, 0.2f, EMB_DTYPE_F32, 1);
        std::vector<float> shift = random_values(hidden, 0.2f, EMB_DTYPE_F32);
        buffer w = buffer_from(words, EMB_DTYPE_F32), p = buffer_from(places, EMB_DTYPE_F32);
        buffer k = buffer_from(kinds, EMB_DTYPE_F32), g = buffer_from(gain, EMB_DTYPE_F32);
        buffer s = buffer_from(shift, EMB_DTYPE_F32);
        buffer x = buffer_open((size_t)(b.tokens + 3) * hidden, type);
        buffer sum = buffer_open((size_t)(b.tokens + 3) * hidden, type);
        for (int with = 0; with < 2; with++) {
            std::vector<double> wanted, normed;
            for (size_t t = 0, c = 0; t < b.tokens; t++) {
                while (t >= b.starts[c + 1]) c++;
                std::vector<double> row(hidden);
                double mean = 0, variance = 0;
                for (uint32_t i = 0; i < hidden; i++) {
                    float at = places[(t - b.starts[c]) * hidden + i] + (with ? kinds[i] : 0);
                    row[i] = rounded(words[(size_t)b.ids[t] * hidden + i] + at, type);
                    mean += row[i] / hidden;
                }
                wanted.insert(wanted.end(), row.begin(), row.end());
                for (double v : row) variance += (v - mean) * (v - mean) / hidden;
                for (uint32_t i = 0; i < hidden; i++) {
                    normed.push_back((row[i] - mean) / sqrt(variance + 1e-12) * gain[i] + shift[i]);
                }
            }
            buffer_poison(x), buffer_poison(sum);
            REQUIRE(emb_cuda_train_embed(inside(x), inside(sum), &b.batch, floats(w), floats(p),
                                         with ? floats(k) : NULL, floats(g), floats(s), 1e-12f,
                                         hidden, type, NULL));
            judge(sums, sum, wanted, 0, 0);
            judge(norms, x, normed, half_step(type), 1e-5);
        }
        for (buffer *each : {&w, &p, &k, &g, &s, &x, &sum}) buffer_close(*each);
        batch_close(b);
    }
    report(sums), report(norms);
}

/* The order that the host hands over, in device memory. */
struct words_order {
    buffer tokens, groups, ids, count;
    emb_train_cuda_words order;
};

static words_order order_make(const batch &b) {
    std::vector<uint32_t> tokens(b.tokens), groups, ids;
    for (uint32_t t = 0; t < b.tokens; t++) tokens[t] = t;
    std::stable_sort(tokens.begin(), tokens.end(),
                     [&](uint32_t i, uint32_t j) { return b.ids[i] < b.ids[j]; });
    for (uint32_t t = 0; t < b.tokens; t++) {
        uint32_t id = b.ids[tokens[t]];
        if (ids.empty() || ids.back() != id) groups.push_back(t), ids.push_back(id);
    }
    groups.push_back(b.tokens);
    words_order o = {buffer_copy(tokens), buffer_copy(groups), buffer_copy(ids),
                     buffer_copy(std::vector<uint32_t>{(uint32_t)ids.size()})};
    o.order = {(const uint32_t *)inside(o.tokens), (const uint32_t *)inside(o.groups),
               (const uint32_t *)inside(o.ids), (const uint32_t *)inside(o.count)};
    return o;
}

static void check_embed_back(emb_dtype type) {
    verdict words = {"train embed back words", type}, places = {"positions", type};
    verdict kinds = {"token types", type};
    const uint32_t vocabulary = 99, positions = 160;
    for (uint32_t hidden : {32u, 48u, 384u, 768u, 1536u}) {
        batch b = skewed_batch(vocabulary);
        words_order o = order_make(b);
        std::vector<float> d = random_values((size_t)b.tokens * hidden, 1, type);
        std::vector<float> w = random_values((size_t)vocabulary * hidden, 1, EMB_DTYPE_F32);
        std::vector<float> p = random_values((size_t)positions * hidden, 1, EMB_DTYPE_F32);
        std::vector<float> k = random_values(hidden, 1, EMB_DTYPE_F32);
        std::vector<double> wanted_w(w.begin(), w.end()), wanted_p(p.begin(), p.end());
        std::vector<double> wanted_k(k.begin(), k.end());
        for (size_t t = 0, c = 0; t < b.tokens; t++) {
            while (t >= b.starts[c + 1]) c++;
            for (uint32_t i = 0; i < hidden; i++) {
                wanted_w[(size_t)b.ids[t] * hidden + i] += d[t * hidden + i];
                wanted_p[(t - b.starts[c]) * hidden + i] += d[t * hidden + i];
                wanted_k[i] += d[t * hidden + i];
            }
        }
        buffer d_sum = buffer_from(d, type);
        buffer partials = buffer_open((size_t)positions * hidden, EMB_DTYPE_F32);
        std::vector<unsigned char> bits[2];
        for (int turn = 0; turn < 2; turn++) {
            buffer dw = buffer_from(w, EMB_DTYPE_F32), dp = buffer_from(p, EMB_DTYPE_F32);
            buffer dk = buffer_from(k, EMB_DTYPE_F32);
            REQUIRE(emb_cuda_train_embed_back(floats(dw), floats(dp), floats(dk), floats(partials),
                                              inside(d_sum), &b.batch, &o.order, positions, hidden,
                                              type, NULL));
            judge(words, dw, wanted_w, 1e-6, 1e-6);
            judge(places, dp, wanted_p, 1e-6, 1e-6);
            judge(kinds, dk, wanted_k, 2e-6, 2e-6);
            bits[turn] = buffer_bytes(dw);
            for (buffer *each : {&dw, &dp, &dk}) buffer_close(*each);
        }
        judge_true(words, bits[0] == bits[1]);
        for (buffer *each : {&d_sum, &partials, &o.tokens, &o.groups, &o.ids, &o.count}) {
            buffer_close(*each);
        }
        batch_close(b);
    }
    report(words), report(places), report(kinds);
}

/* ---- pooling --------------------------------------------------------------------------------- */

/* A chunk's pooled vector, its length, and for maxima the tokens they come from. */
struct pooled {
    std::vector<double> vector;
    std::vector<uint32_t> from;
    double length;
};

static pooled pool_chunk(const float *in, uint32_t tokens, uint32_t hidden, int pooling) {
    pooled p = {std::vector<double>(hidden), std::vector<uint32_t>(hidden), 0};
    for (uint32_t i = 0; i < hidden; i++) {
        double sum = 0;
        for (uint32_t t = 0; t < tokens; t++) {
            sum += in[(size_t)t * hidden + i] / (double)tokens;
            if (in[(size_t)t * hidden + i] > in[(size_t)p.from[i] * hidden + i]) p.from[i] = t;
        }
        if (pooling == EMB_CUDA_POOL_CLS) sum = in[i];
        if (pooling == EMB_CUDA_POOL_MAX) sum = in[(size_t)p.from[i] * hidden + i];
        p.vector[i] = sum;
        p.length += sum * sum;
    }
    p.length = sqrt(p.length);
    return p;
}

static void check_pool_case(verdict &forward, verdict &back, const batch &b, uint32_t hidden,
                            int pooling, int normalize) {
    emb_dtype type = forward.type;
    size_t chunks = b.lengths.size();
    std::vector<float> x = random_values((size_t)b.tokens * hidden, 1, type);
    std::vector<float> given = random_values(chunks * hidden, 1, type);
    std::vector<double> wanted(chunks * hidden), d_wanted((size_t)b.tokens * hidden);
    for (size_t c = 0; c < chunks; c++) {
        uint32_t tokens = b.lengths[c];
        pooled p = pool_chunk(&x[(size_t)b.starts[c] * hidden], tokens, hidden, pooling);
        size_t row = (chunks - 1 - c) * hidden; /* batch_fill's targets */
        double length = normalize ? p.length : 1, along = 0;
        for (uint32_t i = 0; i < hidden; i++) {
            wanted[row + i] = p.vector[i] / length;
            along += p.vector[i] * given[row + i] / (length * length);
        }
        for (uint32_t i = 0; i < hidden; i++) {
            double g = given[row + i];
            if (normalize) g = (g - along * p.vector[i]) / length;
            for (uint32_t t = 0; t < tokens; t++) {
                double share = pooling == EMB_CUDA_POOL_MEAN  ? 1.0 / tokens
                               : pooling == EMB_CUDA_POOL_CLS ? t == 0
                                                              : t == p.from[i];
                d_wanted[(size_t)(b.starts[c] + t) * hidden + i] = share * g;
            }
        }
    }
    buffer in = buffer_from(x, type), dv = buffer_from(given, type);
    buffer vectors = buffer_open(chunks * hidden, type);
    buffer d = buffer_open((size_t)(b.tokens + 3) * hidden, type);
    REQUIRE(emb_cuda_train_pool(inside(vectors), inside(in), &b.batch, hidden,
                                (emb_cuda_pooling)pooling, normalize, type, NULL));
    judge(forward, vectors, wanted, half_step(type), 1e-5);
    REQUIRE(emb_cuda_train_pool_back(inside(d), inside(dv), inside(in), &b.batch, hidden,
                                     (emb_cuda_pooling)pooling, normalize, type, NULL));
    judge(back, d, d_wanted, half_step(type), 1e-5);
    for (buffer *each : {&in, &dv, &vectors, &d}) buffer_close(*each);
}

static void check_pool(emb_dtype type) {
    verdict forward = {"train pool", type}, back = {"train pool back", type};
    for (uint32_t hidden : {32u, 48u, 384u, 768u, 1536u}) {
        batch b = skewed_batch(99);
        for (int each = 0; each < 6; each++) {
            check_pool_case(forward, back, b, hidden, each / 2, each % 2);
        }
        batch_close(b);
    }
    report(forward), report(back);
}

static void check_units(emb_dtype type) {
    verdict forward = {"units", type}, lengths = {"lengths", type}, back = {"units back", type};
    for (uint32_t width : {8u, 64u, 384u, 768u, 1000u, 1536u}) {
        const uint32_t rows = 37;
        std::vector<float> x = random_values((size_t)rows * width, 2, type);
        std::vector<float> g = random_values((size_t)rows * width, 1, type);
        std::vector<double> wanted, wanted_lengths, d_wanted;
        for (uint32_t r = 0; r < rows; r++) {
            double squares = 0, along = 0;
            for (uint32_t i = 0; i < width; i++) squares += pow(x[r * width + i], 2);
            double length = sqrt(squares);
            wanted_lengths.push_back(length);
            for (uint32_t i = 0; i < width; i++) {
                wanted.push_back(x[r * width + i] / length);
                along += rounded((float)wanted.back(), type) * g[r * width + i];
            }
            for (uint32_t i = 0; i < width; i++) {
                double unit = rounded((float)wanted[r * width + i], type);
                d_wanted.push_back((g[r * width + i] - along * unit) / length);
            }
        }
        buffer v = buffer_from(x, type), d = buffer_from(g, type);
        buffer l = buffer_open(rows, EMB_DTYPE_F32);
        REQUIRE(emb_cuda_train_units(inside(v), floats(l), rows, width, type, NULL));
        judge(forward, v, wanted, half_step(type), 1e-5);
        judge(lengths, l, wanted_lengths, 1e-6, 0);
        REQUIRE(
            emb_cuda_train_units_back(inside(d), inside(v), floats(l), rows, width, type, NULL));
        judge(back, d, d_wanted, half_step(type), 1e-3);
        for (buffer *each : {&v, &d, &l}) buffer_close(*each);
    }
    report(forward), report(lengths), report(back);
}

/* ---- optimiser ------------------------------------------------------------------------------- */

static const emb_adamw STEP = {0.7f, 0.9f, 0.999f, 0.9998f, 0.02f, 1.3f, 1e-8f};

/* As train/cpu/ref.c. */
static void adamw(float *value, float *m, float *v, float gradient) {
    float g = gradient * STEP.factor;
    *m = STEP.beta1 * *m + (1 - STEP.beta1) * g;
    *v = STEP.beta2 * *v + (1 - STEP.beta2) * g * g;
    *value = *value * STEP.keep - STEP.rate * *m / (sqrtf(*v) * STEP.spread + STEP.epsilon);
}

static void check_adamw() {
    verdict values = {"adamw", EMB_DTYPE_F32}, moments = {"adamw moments", EMB_DTYPE_F32};
    for (size_t count : {1u, 3u, 4u, 1027u, 300000u}) {
        std::vector<float> x = random_values(count, 1, EMB_DTYPE_F32), m = x, v = x;
        std::vector<float> g = random_values(count, 1, EMB_DTYPE_F32);
        for (float &each : v) each *= each;
        buffer bx = buffer_from(x, EMB_DTYPE_F32), bm = buffer_from(m, EMB_DTYPE_F32);
        buffer bv = buffer_from(v, EMB_DTYPE_F32), bg = buffer_from(g, EMB_DTYPE_F32);
        for (size_t i = 0; i < count; i++) adamw(&x[i], &m[i], &v[i], g[i]);
        REQUIRE(emb_cuda_train_adamw(floats(bx), floats(bm), floats(bv), floats(bg), count, &STEP,
                                     NULL));
        judge(values, bx, std::vector<double>(x.begin(), x.end()), 1e-6, 1e-6);
        judge(moments, bm, std::vector<double>(m.begin(), m.end()), 1e-6, 1e-6);
        judge(moments, bv, std::vector<double>(v.begin(), v.end()), 1e-6, 1e-6);
        for (buffer *each : {&bx, &bm, &bv, &bg}) buffer_close(*each);
    }
    report(values), report(moments);
}

/* One block as train/cpu/ref.c has it. */
static void adamw8(float *values, int8_t *m, uint8_t *v, float *scales, const float *gradients) {
    float first[EMB_TRAIN_BLOCK], second[EMB_TRAIN_BLOCK], most_m = 0, most_v = 0;
    for (int i = 0; i < EMB_TRAIN_BLOCK; i++) {
        float a = (float)m[i] / 127, b = (float)v[i] / 255;
        first[i] = scales[0] * a * fabsf(a) * (a * a);
        second[i] = scales[1] * (b * b) * (b * b);
        adamw(&values[i], &first[i], &second[i], gradients[i]);
        most_m = fmaxf(most_m, fabsf(first[i])), most_v = fmaxf(most_v, second[i]);
    }
    scales[0] = most_m, scales[1] = most_v;
    float to_m = most_m > 0 ? 1 / most_m : 0, to_v = most_v > 0 ? 1 / most_v : 0;
    for (int i = 0; i < EMB_TRAIN_BLOCK; i++) {
        float a = sqrtf(sqrtf(fabsf(first[i]) * to_m)) * 127;
        m[i] = (int8_t)rintf(copysignf(a, first[i]));
        v[i] = (uint8_t)ceilf(sqrtf(sqrtf(second[i] * to_v)) * 254.99f);
    }
}

/* Codes may differ by one where a value lies between two: few of them. */
template <typename V>
static void judge_codes(verdict &v, const buffer &got, const std::vector<V> &wanted) {
    std::vector<unsigned char> raw = buffer_bytes(got);
    size_t differ = 0;
    bool near = true;
    for (size_t i = 0; i < wanted.size(); i++) {
        int off = abs((int)(V)raw[i] - (int)wanted[i]);
        differ += off > 0, near = near && off <= 1;
    }
    judge_true(v, near && differ * 1000 <= wanted.size() && buffer_intact(got));
}

static void check_adamw8() {
    verdict values = {"adamw8", EMB_DTYPE_F32}, codes = {"adamw8 codes", EMB_DTYPE_INT8};
    for (size_t blocks : {1u, 7u, 300u}) {
        size_t count = blocks * EMB_TRAIN_BLOCK;
        std::vector<float> x = random_values(count, 1, EMB_DTYPE_F32), scales(2 * blocks, 0.0f);
        std::vector<int8_t> m(count, 0);
        std::vector<uint8_t> v(count, 0);
        buffer bx = buffer_from(x, EMB_DTYPE_F32), bs = buffer_from(scales, EMB_DTYPE_F32);
        buffer bm = buffer_copy(m), bv = buffer_copy(v);
        for (int step = 0; step < 3; step++) { /* each from the codes of the reference */
            std::vector<float> g = random_values(count, 1, EMB_DTYPE_F32);
            if (step == 2) std::fill(g.begin(), g.begin() + EMB_TRAIN_BLOCK, 0.0f);
            buffer bg = buffer_from(g, EMB_DTYPE_F32);
            REQUIRE(cudaMemcpy(inside(bm), m.data(), count, cudaMemcpyHostToDevice));
            REQUIRE(cudaMemcpy(inside(bv), v.data(), count, cudaMemcpyHostToDevice));
            for (size_t i = 0; i < blocks; i++) {
                size_t at = i * EMB_TRAIN_BLOCK;
                adamw8(&x[at], &m[at], &v[at], &scales[2 * i], &g[at]);
            }
            REQUIRE(emb_cuda_train_adamw8(floats(bx), (int8_t *)inside(bm), (uint8_t *)inside(bv),
                                          floats(bs), floats(bg), count, &STEP, NULL));
            judge(values, bx, std::vector<double>(x.begin(), x.end()), 3e-6, 3e-6);
            judge(values, bs, std::vector<double>(scales.begin(), scales.end()), 3e-6, 3e-6);
            judge_codes(codes, bm, m);
            judge_codes(codes, bv, v);
            buffer_close(bg);
        }
        for (buffer *each : {&bx, &bs, &bm, &bv}) buffer_close(*each);
    }
    report(values), report(codes);
}

static void check_sgd() {
    verdict v = {"sgd", EMB_DTYPE_F32};
    for (size_t count : {1u, 3u, 4u, 1027u, 300000u}) {
        for (int kind = 0; kind < 3; kind++) { /* plain, momentum, Nesterov */
            emb_sgd step = {0.7f, 0.01f, 0.9f, 0.05f, kind == 2};
            std::vector<float> x = random_values(count, 1, EMB_DTYPE_F32), m = x;
            std::vector<float> g = random_values(count, 1, EMB_DTYPE_F32);
            buffer bx = buffer_from(x, EMB_DTYPE_F32), bm = buffer_from(m, EMB_DTYPE_F32);
            buffer bg = buffer_from(g, EMB_DTYPE_F32);
            for (size_t i = 0; i < count; i++) { /* as train/cpu/ref.c */
                float d = g[i] * step.factor + step.decay * x[i];
                if (kind) {
                    m[i] = step.momentum * m[i] + d;
                    d = kind == 2 ? d + step.momentum * m[i] : m[i];
                }
                x[i] -= step.rate * d;
            }
            REQUIRE(emb_cuda_train_sgd(floats(bx), kind ? floats(bm) : NULL, floats(bg), count,
                                       &step, NULL));
            judge(v, bx, std::vector<double>(x.begin(), x.end()), 1e-6, 1e-6);
            judge(v, bm, std::vector<double>(m.begin(), m.end()), 1e-6, 1e-6);
            for (buffer *each : {&bx, &bm, &bg}) buffer_close(*each);
        }
    }
    report(v);
}

static double device_double(const buffer &b) {
    double value = 0;
    std::vector<unsigned char> raw = buffer_bytes(b);
    memcpy(&value, raw.data(), sizeof value);
    return value;
}

static void check_sums() {
    verdict v = {"sums", EMB_DTYPE_F32};
    buffer partials = buffer_open(2 * EMB_CUDA_TRAIN_PARTIALS, EMB_DTYPE_F32);
    buffer out = buffer_open(2, EMB_DTYPE_F32);
    for (size_t count : {1u, 2u, 5u, 1023u, 1025u, 131072u, 3000003u}) {
        std::vector<float> x = random_values(count, 1, EMB_DTYPE_F32);
        buffer b = buffer_from(x, EMB_DTYPE_F32);
        double sum = 0, squares = 0;
        for (float each : x) sum += each, squares += (double)each * each;
        REQUIRE(emb_cuda_train_sum((double *)inside(out), floats(b), (uint32_t)count, NULL));
        judge_true(v, fabs(device_double(out) - sum) <= 1e-9 * count);
        for (float odd : {0.0f, INFINITY, NAN}) {
            x[count / 2] = odd ? odd : x[count / 2];
            REQUIRE(cudaMemcpy(inside(b), x.data(), 4 * count, cudaMemcpyHostToDevice));
            REQUIRE(emb_cuda_train_square_sum((double *)inside(out), (double *)inside(partials),
                                              floats(b), count, NULL));
            double got = device_double(out);
            if (odd == 0) judge_true(v, fabs(got - squares) <= 1e-6 * squares);
            if (odd != 0) judge_true(v, odd == odd ? got == INFINITY : got != got);
        }
        buffer_close(b);
    }
    buffer_close(partials), buffer_close(out);
    report(v);
}

static void check_convert(emb_dtype type) {
    verdict v = {"conversions", type};
    const uint32_t shapes[][2] = {{8, 8}, {64, 64}, {72, 200}, {384, 1536}, {1000, 40}};
    for (auto &shape : shapes) {
        uint32_t rows = shape[0], cols = shape[1];
        size_t count = (size_t)rows * cols, odd = count - 3;
        std::vector<float> x = random_values(count, 1, EMB_DTYPE_F32);
        std::vector<double> straight, across;
        for (float each : x) straight.push_back(rounded(each, type));
        for (size_t i = 0; i < count; i++) across.push_back(straight[i % rows * cols + i / rows]);
        buffer in = buffer_from(x, EMB_DTYPE_F32), out = buffer_open(count, type);
        buffer turned = buffer_open(count, type), wide = buffer_open(count, EMB_DTYPE_F32);
        REQUIRE(
            emb_cuda_train_narrow(inside(out), inside(turned), floats(in), rows, cols, type, NULL));
        judge(v, out, straight, 0, 0);
        judge(v, turned, across, 0, 0);
        buffer_poison(out);
        REQUIRE(emb_cuda_train_narrow(inside(out), NULL, floats(in), rows, cols, type, NULL));
        judge(v, out, straight, 0, 0);
        buffer_poison(turned);
        REQUIRE(emb_cuda_train_narrow_values(inside(turned), floats(in), odd, type, NULL));
        straight.resize(odd);
        judge(v, turned, straight, 0, 0);
        REQUIRE(emb_cuda_train_widen(floats(wide), inside(out), odd, type, NULL));
        judge(v, wide, straight, 0, 0);
        for (buffer *each : {&in, &out, &turned, &wide}) buffer_close(*each);
    }
    report(v);
}

/* ---- times ----------------------------------------------------------------------------------- */

static void print_time(const char *name, double ms, double bytes) {
    printf("{\"bench\": \"%s\", \"us\": %.1f, \"gb_per_s\": %.0f}\n", name, ms * 1000,
           bytes / ms * 1e-6);
    fflush(stdout);
}

/* 65,536 tokens of 128 a chunk, as a tile of a large batch; and 33 million parameters. */
static void bench_ends() {
    const uint32_t hidden = 384, vocabulary = 30522, positions = 512, chunks = 512;
    const emb_dtype type = EMB_DTYPE_BF16;
    std::vector<uint32_t> lengths(chunks, 128);
    batch b = batch_open(128 * chunks, chunks);
    batch_fill(b, lengths, skewed_ids(128 * chunks, vocabulary), vocabulary);
    words_order o = order_make(b);
    size_t values = (size_t)b.tokens * hidden, table = (size_t)vocabulary * hidden;
    buffer words = buffer_from(random_values(table, 1, EMB_DTYPE_F32), EMB_DTYPE_F32);
    buffer places = buffer_from(random_values(positions * hidden, 1, EMB_DTYPE_F32), EMB_DTYPE_F32);
    buffer partials = buffer_open(positions * hidden, EMB_DTYPE_F32);
    buffer x = buffer_from(random_values(values, 1, type), type), sum = buffer_open(values, type);
    buffer vectors = buffer_open(chunks * hidden, type);
    double embed = event_ms([&] {
        REQUIRE(emb_cuda_train_embed(inside(x), inside(sum), &b.batch, floats(words),
                                     floats(places), floats(places), floats(places), floats(places),
                                     1e-12f, hidden, type, NULL));
    });
    print_time("train embed", embed, 8.0 * values);
    double back = event_ms([&] {
        REQUIRE(emb_cuda_train_embed_back(floats(words), floats(places), floats(places),
                                          floats(partials), inside(x), &b.batch, &o.order,
                                          positions, hidden, type, NULL));
    });
    print_time("train embed back", back, 4.0 * values);
    double pool = event_ms([&] {
        REQUIRE(emb_cuda_train_pool(inside(vectors), inside(x), &b.batch, hidden,
                                    EMB_CUDA_POOL_MEAN, 1, type, NULL));
    });
    print_time("train pool", pool, 2.0 * values);
    double pool_back = event_ms([&] {
        REQUIRE(emb_cuda_train_pool_back(inside(sum), inside(vectors), inside(x), &b.batch, hidden,
                                         EMB_CUDA_POOL_MEAN, 1, type, NULL));
    });
    print_time("train pool back", pool_back, 4.0 * values);
}

static void bench_optimiser() {
    const size_t count = (size_t)33 << 20;
    const uint32_t rows = 11264, cols = 3072;
    std::vector<float> some = random_values(count, 0.01f, EMB_DTYPE_F32);
    buffer x = buffer_from(some, EMB_DTYPE_F32), g = buffer_from(some, EMB_DTYPE_F32);
    buffer m = buffer_from(some, EMB_DTYPE_F32), v = buffer_open(count, EMB_DTYPE_F32);
    buffer out = buffer_open(2 + 2 * EMB_CUDA_TRAIN_PARTIALS, EMB_DTYPE_F32);
    REQUIRE(cudaMemset(inside(v), 0, v.bytes));
    double *partials = (double *)inside(out) + 1;
    double square_sum = event_ms([&] {
        REQUIRE(emb_cuda_train_square_sum((double *)inside(out), partials, floats(g), count, NULL));
    });
    print_time("square sum", square_sum, 4.0 * count);
    double full = event_ms([&] {
        REQUIRE(
            emb_cuda_train_adamw(floats(x), floats(m), floats(v), floats(g), count, &STEP, NULL));
    });
    print_time("adamw", full, 28.0 * count);
    double narrow = event_ms([&] {
        REQUIRE(emb_cuda_train_narrow(inside(m), inside(v), floats(x), rows, cols, EMB_DTYPE_BF16,
                                      NULL));
    });
    print_time("narrow and transpose", narrow, 8.0 * rows * cols);
    REQUIRE(cudaMemset(inside(m), 0, m.bytes));
    REQUIRE(cudaMemset(inside(v), 0, v.bytes));
    double eight = event_ms([&] {
        REQUIRE(emb_cuda_train_adamw8(floats(x), (int8_t *)inside(m), (uint8_t *)inside(m) + count,
                                      floats(v), floats(g), count, &STEP, NULL));
    });
    print_time("adamw8", eight, 16.0 * count);
}

int main(int argc, char **argv) {
    small = argc > 1 && !strcmp(argv[1], "small");
    if (argc > 1 && !strcmp(argv[1], "bench")) {
        bench_ends();
        bench_optimiser();
        return 0;
    }
    for (emb_dtype type : {EMB_DTYPE_F16, EMB_DTYPE_BF16}) {
        check_embed(type);
        check_embed_back(type);
        check_pool(type);
        check_units(type);
        check_convert(type);
    }
    check_adamw();
    check_adamw8();
    check_sgd();
    check_sums();
    printf("{\"check\": \"all\", \"failed\": %d}\n", failures);
    return failures ? 1 : 0;
}
