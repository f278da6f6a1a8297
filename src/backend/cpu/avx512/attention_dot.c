/* attention_dot.c - softmax(q k^T) v of one head in products of bytes: the walk of attention.c with
 * queries, keys, weights and values in 8 bits, exact integer sums, and the softmax in f32.
 *
 * Scales are a head's and a chunk's own. Keys and values lie around the middle of each of their
 * dims: what the middle of the keys adds to a query's scores is the same for all keys, so that the
 * softmax does not see it; the values' is added at the end. Lanes hold queries in falling order,
 * because ascending distances are then ascending addresses.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/avx512.h"

#define LOG2_E 1.44269504f

enum { KEYS = EMB_CPU_DOT_KEYS, TILE_ROWS = 8, LANES = 16 };

/* One tile of queries and its state. Rows of the matrices are `width` lanes wide. */
typedef struct query_tile {
    const emb_cpu_attention *a;
    uint32_t query0, queries; /* in this tile */
    size_t steps;             /* of four dims */
    size_t stride;            /* dims in whole vectors: of values */
    float score_scale;        /* of an integer score: to powers of two */
    uint32_t *columns;        /* [steps, width] four s8 of queries */
    int32_t *scores;          /* [KEYS, width]; f32 with relative */
    uint32_t *weights;        /* [KEYS / 4, width] four u8 of keys */
    float *sums;              /* [dims in eights, width] weighted values */
    uint32_t *values8;        /* [tokens / 4, stride] four s8 of keys */
    float *middles, *factors; /* [stride]: value = s8 * factor + middle */
    __m512 highest[2], total[2];
} query_tile;

/* ---- products -------------------------------------------------------------------------------- */

/* Eight rows of four bytes a step, each broadcast, times vectors of queries. */
typedef struct byte_tile {
    const void *rows;
    size_t row_stride, step_stride; /* bytes */
    const uint32_t *lanes;
    size_t steps;
} byte_tile;

#define CLEAR(z)           "vpxord %%zmm" #z ", %%zmm" #z ", %%zmm" #z "\n\t"
#define CLEAR4(a, b, c, d) CLEAR(a) CLEAR(b) CLEAR(c) CLEAR(d)
/* AT&T order: signed, unsigned, sum */
#define DOT_ROWS(row, lanes, sum)  "vpdpbusd %%zmm" #lanes ", %%zmm" #row ", %%zmm" #sum "\n\t"
#define DOT_LANES(row, lanes, sum) "vpdpbusd %%zmm" #row ", %%zmm" #lanes ", %%zmm" #sum "\n\t"
#define SPREAD(row, x)             "vpbroadcastd " row ", %%zmm" #x "\n\t"

#define ROW_A "(%[a])"
#define ROW_B "(%[a],%[stride])"
#define ROW_C "(%[a],%[stride],2)"
#define ROW_D "(%[b])"
#define ROW_E "(%[b],%[stride])"
#define ROW_F "(%[b],%[stride],2)"
#define ROW_G "(%[c])"
#define ROW_H "(%[c],%[stride])"

#define ONE(dot, row, x, sum)         SPREAD(row, x) dot(x, 28, sum)
#define TWO(dot, row, x, left, right) SPREAD(row, x) dot(x, 28, left) dot(x, 29, right)

#define ALL_ONE(dot)                                                                               \
    ONE(dot, ROW_A, 24, 0)                                                                         \
    ONE(dot, ROW_B, 25, 1)                                                                         \
    ONE(dot, ROW_C, 26, 2)                                                                         \
    ONE(dot, ROW_D, 27, 3)                                                                         \
    ONE(dot, ROW_E, 24, 4) ONE(dot, ROW_F, 25, 5) ONE(dot, ROW_G, 26, 6) ONE(dot, ROW_H, 27, 7)

#define ALL_TWO(dot)                                                                               \
    TWO(dot, ROW_A, 24, 0, 1)                                                                      \
    TWO(dot, ROW_B, 25, 2, 3)                                                                      \
    TWO(dot, ROW_C, 26, 4, 5)                                                                      \
    TWO(dot, ROW_D, 27, 6, 7)                                                                      \
    TWO(dot, ROW_E, 24, 8, 9)                                                                      \
    TWO(dot, ROW_F, 25, 10, 11) TWO(dot, ROW_G, 26, 12, 13) TWO(dot, ROW_H, 27, 14, 15)

#define STORE(at, z) "vmovdqa64 %%zmm" #z ", " #at "(%[out])\n\t"
#define STORE8                                                                                     \
    STORE(0, 0)                                                                                    \
    STORE(64, 1) STORE(128, 2) STORE(192, 3) STORE(256, 4) STORE(320, 5) STORE(384, 6) STORE(448, 7)
#define STORE16                                                                                    \
    STORE8 STORE(512, 8) STORE(576, 9) STORE(640, 10) STORE(704, 11) STORE(768, 12) STORE(832, 13) \
        STORE(896, 14) STORE(960, 15)

#define LOOP(loads, dots, lanes_bytes)                                                             \
    ".p2align 4\n"                                                                                 \
    "1:\n\t" loads dots "add %[step], %[a]\n\t"                                                    \
    "add %[step], %[b]\n\t"                                                                        \
    "add %[step], %[c]\n\t"                                                                        \
    "add $" #lanes_bytes ", %[lanes]\n\t"                                                          \
    "dec %[steps]\n\t"                                                                             \
    "jnz 1b\n\t"

#define LOAD_ONE "vmovdqa64 (%[lanes]), %%zmm28\n\t"
#define LOAD_TWO LOAD_ONE "vmovdqa64 64(%[lanes]), %%zmm29\n\t"

#define TILE(name, clear, loads, dots, lanes_bytes, store)                                         \
    static void name(int32_t *out, const byte_tile *t) {                                           \
        const char *a = t->rows, *b = a + 3 * t->row_stride, *c = a + 6 * t->row_stride;           \
        const uint32_t *lanes = t->lanes;                                                          \
        size_t steps = t->steps;                                                                   \
        __asm__ volatile(                                                                          \
            clear LOOP(loads, dots, lanes_bytes) store                                             \
            : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [lanes] "+r"(lanes), [steps] "+r"(steps)      \
            : [stride] "r"(t->row_stride), [step] "r"(t->step_stride), [out] "r"(out)              \
            : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",      \
              "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm24",       \
              "xmm25", "xmm26", "xmm27", "xmm28", "xmm29");                                        \
    }

#define CLEAR8  CLEAR4(0, 1, 2, 3) CLEAR4(4, 5, 6, 7)
#define CLEAR16 CLEAR8 CLEAR4(8, 9, 10, 11) CLEAR4(12, 13, 14, 15)

/* rows u8, queries s8 */
TILE(score_one, CLEAR8, LOAD_ONE, ALL_ONE(DOT_ROWS), 64, STORE8)
TILE(score_two, CLEAR16, LOAD_TWO, ALL_TWO(DOT_ROWS), 128, STORE16)
/* rows s8, weights u8 */
TILE(gather_one, CLEAR8, LOAD_ONE, ALL_ONE(DOT_LANES), 64, STORE8)
TILE(gather_two, CLEAR16, LOAD_TWO, ALL_TWO(DOT_LANES), 128, STORE16)

/* ---- once a head ----------------------------------------------------------------------------- */

/* What 16 dims range over. */
typedef struct dim_range {
    __m512 middle, width, highest; /* highest: magnitude */
    bool finite;
} dim_range;

static dim_range range_of(const float *in, size_t stride, uint32_t tokens, __mmask16 mask) {
    emb_avx512_range range = emb_avx512_range_none();
    for (uint32_t j = 0; j < tokens; j++)
        emb_avx512_range_widen(&range, _mm512_maskz_loadu_ps(mask, in + j * stride));
    __m512 low = _mm512_castsi512_ps(range.low), high = _mm512_castsi512_ps(range.high);
    return (dim_range){_mm512_mul_ps(_mm512_add_ps(low, high), _mm512_set1_ps(0.5f)),
                       _mm512_sub_ps(high, low), _mm512_max_ps(high, _mm512_abs_ps(low)),
                       emb_avx512_range_finite(&range)};
}

/* 1 / x, or 0 where nothing differs from the middle. */
EMB_INLINE __m512 inverse(__m512 x) {
    __mmask16 usable = _mm512_cmp_ps_mask(x, _mm512_set1_ps(1e-30f), _CMP_GT_OQ);
    return _mm512_maskz_div_ps(usable, _mm512_set1_ps(1.0f), x);
}

/* 16 values to s8. */
EMB_INLINE __m128i round_bytes(__m512 value, __m512 middle, __m512 factor) {
    value = _mm512_mul_ps(_mm512_sub_ps(value, middle), factor);
    return _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(value));
}

void emb_cpu_avx512_attention_bytes(emb_cpu_codes *codes, const float *in, size_t stride,
                                    uint32_t tokens, uint32_t head_dim, bool keys) {
    __m512 widest = _mm512_setzero_ps(), none = widest;
    bool finite = true;
    for (uint32_t d = 0; d < head_dim; d += LANES) {
        dim_range r = range_of(in + d, stride, tokens, emb_avx512_lanes(d, head_dim));
        widest = _mm512_max_ps(widest, keys ? r.width : r.highest);
        finite = finite && r.finite;
    }
    float steps = keys ? 254.0f : 127.0f, top = _mm512_reduce_max_ps(widest);
    __m512 factor = _mm512_mul_ps(inverse(_mm512_set1_ps(top)), _mm512_set1_ps(steps));
    const __m128i sign = keys ? _mm_set1_epi8((char)0x80) : _mm_setzero_si128();
    codes->widest = finite ? top / steps : NAN;
    for (uint32_t d = 0; d < head_dim; d += LANES) {
        __mmask16 mask = emb_avx512_lanes(d, head_dim);
        __m512 middle = keys ? range_of(in + d, stride, tokens, mask).middle : none;
        for (uint32_t j = 0; j < tokens; j++) {
            __m512 value = _mm512_maskz_loadu_ps(mask, in + j * stride + d);
            _mm_store_si128((__m128i *)(codes->values + j * codes->stride + d),
                            _mm_xor_si128(round_bytes(value, middle, factor), sign));
        }
    }
}

/* Four tokens' bytes of each dim in one word; tokens that pad the last four are 0. */
static void write_values(query_tile *t, uint32_t d, __m512 middle, __m512 factor) {
    const emb_cpu_attention *a = t->a;
    __mmask16 mask = emb_avx512_lanes(d, a->head_dim);
    const __m512i byte = _mm512_set1_epi32(255);
    for (uint32_t j = 0; j < a->tokens; j += 4) {
        __m512i words = _mm512_setzero_si512();
        for (uint32_t i = 3; i < 4; i--) {
            words = _mm512_slli_epi32(words, 8);
            if (j + i >= a->tokens) continue;
            __m512 value = _mm512_maskz_loadu_ps(mask, a->values + (j + i) * a->stride + d);
            value = _mm512_mul_ps(_mm512_sub_ps(value, middle), factor);
            words = _mm512_or_si512(words, _mm512_and_si512(_mm512_cvtps_epi32(value), byte));
        }
        _mm512_store_si512(t->values8 + (size_t)j / 4 * t->stride + d, words);
    }
}

/* Gives whether queries, keys and values are all finite. */
static bool begin_head(query_tile *t) {
    const emb_cpu_attention *a = t->a;
    bool finite = true;
    for (uint32_t d = 0; d < a->head_dim; d += LANES) {
        dim_range r =
            range_of(a->values + d, a->stride, a->tokens, emb_avx512_lanes(d, a->head_dim));
        finite = finite && r.finite;
        __m512 factor = _mm512_mul_ps(inverse(r.width), _mm512_set1_ps(254.0f));
        _mm512_store_ps(t->middles + d, r.middle);
        _mm512_store_ps(t->factors + d, _mm512_mul_ps(r.width, _mm512_set1_ps(1.0f / 254.0f)));
        write_values(t, d, r.middle, factor);
    }
    t->score_scale = a->query_codes.widest * a->key_codes.widest * a->scale * LOG2_E;
    return finite && !isnan(t->score_scale);
}

/* ---- a tile of queries ----------------------------------------------------------------------- */

/* Four dims a word: rows of queries become columns. */
EMB_INLINE void load_queries(query_tile *t, const int vectors) {
    const emb_cpu_codes *codes = &t->a->query_codes;
    for (int v = 0; v < vectors; v++) {
        for (size_t s = 0; s < t->steps; s += 16) {
            __mmask16 mask = emb_avx512_lanes(s, t->stride / 4);
            __m512 m[16];
            for (uint32_t q = 0; q < 16; q++) {
                uint32_t number = 16 * (uint32_t)v + q;
                size_t row = t->query0 + (number < t->queries ? number : t->queries - 1);
                const uint8_t *query = codes->values + row * codes->stride + 4 * s;
                m[15 - q] = _mm512_castsi512_ps(_mm512_maskz_loadu_epi32(mask, query));
            }
            emb_avx512_transpose(m);
            for (size_t i = s; i < t->steps && i < s + 16; i++)
                _mm512_store_ps(t->columns + (i * (size_t)vectors + (size_t)v) * 16, m[i - s]);
        }
    }
}

EMB_INLINE void score_block(query_tile *t, const int vectors, uint32_t key0, uint32_t count) {
    const emb_cpu_codes *keys = &t->a->key_codes;
    byte_tile tile = {.row_stride = keys->stride, .step_stride = 4, .lanes = t->columns};
    tile.steps = t->steps;
    for (uint32_t j = 0; j < count; j += TILE_ROWS) {
        tile.rows = keys->values + (key0 + j) * keys->stride;
        (vectors > 1 ? score_two : score_one)(t->scores + (size_t)j * 16 * vectors, &tile);
    }
}

/* Scores to f32, as powers of two, with relative[j - i] added. */
EMB_INLINE void add_relative(query_tile *t, const int vectors, uint32_t key0, uint32_t count) {
    __m512 scale = _mm512_set1_ps(t->score_scale), log2_e = _mm512_set1_ps(LOG2_E);
    for (int v = 0; v < vectors; v++) {
        /* lane l is query 15 - l; lanes without a query may lie outside the table */
        uint32_t inside = emb_avx512_lanes(16 * (size_t)v, t->queries);
        __mmask16 mask = (__mmask16)(0xffffu << (16 - __builtin_popcount(inside)));
        ptrdiff_t at = (ptrdiff_t)key0 - (ptrdiff_t)(t->query0 + 16 * (uint32_t)v) - 15;
        for (uint32_t j = 0; j < count; j++) {
            int32_t *scores = t->scores + ((size_t)j * vectors + v) * 16;
            __m512 bias = _mm512_maskz_loadu_ps(mask, t->a->relative + at + j);
            __m512 score = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(scores)), scale);
            _mm512_store_ps(scores, _mm512_fmadd_ps(bias, log2_e, score));
        }
    }
}

/* 2^x times 255 to the nearest integer, for x * 2^23 + its logarithm: exponent and position
 * between two powers come out of one rounding; own minimax fit, within 1.8e-3. */
EMB_INLINE __m512i weight_of(__m512 x) {
    const __m512i mantissa = _mm512_set1_epi32(0x007fffff), one = _mm512_set1_epi32(0x3f800000);
    __m512i t = _mm512_max_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(-(100 << 23)));
    /* (t & mantissa) | one */
    __m512 m = _mm512_castsi512_ps(_mm512_ternarylogic_epi32(t, mantissa, one, 0xea));
    __m512 p = _mm512_fmadd_ps(m, _mm512_set1_ps(0.33718476f), _mm512_set1_ps(-0.01672774f));
    p = _mm512_fmadd_ps(p, m, _mm512_set1_ps(0.68126653f));
    __m512i bits = _mm512_add_epi32(_mm512_castps_si512(p), _mm512_andnot_si512(mantissa, t));
    return _mm512_cvtps_epi32(_mm512_castsi512_ps(bits));
}

/* Four vectors of weights as one of words. */
EMB_INLINE __m512i pack_weights(const __m512i *w) {
    const __m512i order =
        _mm512_broadcast_i32x4(_mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
    __m512i low = _mm512_packs_epi32(w[0], w[1]), high = _mm512_packs_epi32(w[2], w[3]);
    return _mm512_shuffle_epi8(_mm512_packus_epi16(low, high), order);
}

EMB_INLINE __m512 read_score(const int32_t *at, const bool ready) {
    __m512i bits = _mm512_load_si512(at);
    return ready ? _mm512_castsi512_ps(bits) : _mm512_cvtepi32_ps(bits);
}

/* The highest of the scores as powers of two. */
EMB_INLINE __m512 highest_score(const query_tile *t, const int32_t *scores, size_t row,
                                uint32_t count, const bool ready) {
    if (ready) {
        __m512 highest = _mm512_load_ps(scores);
        for (uint32_t j = 1; j < count; j++)
            highest = _mm512_max_ps(highest, _mm512_load_ps(scores + j * row));
        return highest;
    }
    __m512i highest = _mm512_load_si512(scores);
    for (uint32_t j = 1; j < count; j++)
        highest = _mm512_max_epi32(highest, _mm512_load_si512(scores + j * row));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(highest), _mm512_set1_ps(t->score_scale));
}

/* Weights of `keys` keys, up to four; those that lack are 0. Gives their sum. */
EMB_INLINE __m512i weigh(uint32_t *out, const int32_t *scores, size_t row, const uint32_t keys,
                         __m512 scale, __m512 base, const bool ready) {
    __m512i w[4], total = _mm512_setzero_si512();
    EMB_CPU_UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        w[i] = _mm512_setzero_si512();
        if (i < keys)
            w[i] = weight_of(_mm512_fmadd_ps(read_score(scores + i * row, ready), scale, base));
        total = _mm512_add_epi32(total, w[i]);
    }
    _mm512_store_si512(out, pack_weights(w));
    return total;
}

/* Scores to weights under the new maximum; gives by how much what came before fades. */
EMB_INLINE void soften(query_tile *t, const int vectors, uint32_t count, __m512 *fade,
                       const bool ready) {
    const float one = 8388608.0f, full = 7.99435344f; /* 2^23; log2(255) */
    __m512 scale = _mm512_set1_ps(ready ? one : t->score_scale * one);
    size_t row = 16 * (size_t)vectors;
    for (int v = 0; v < vectors; v++) {
        const int32_t *scores = t->scores + 16 * v;
        __m512 highest = _mm512_max_ps(t->highest[v], highest_score(t, scores, row, count, ready));
        __m512 base =
            _mm512_mul_ps(_mm512_sub_ps(_mm512_set1_ps(full), highest), _mm512_set1_ps(one));
        __m512i total = _mm512_setzero_si512();
        uint32_t *weights = t->weights + 16 * v, j = 0;
        for (; j + 4 <= count; j += 4)
            total = _mm512_add_epi32(
                total, weigh(weights + j / 4 * row, scores + j * row, row, 4, scale, base, ready));
        if (j < count)
            total = _mm512_add_epi32(total, weigh(weights + j / 4 * row, scores + j * row, row,
                                                  count - j, scale, base, ready));
        /* nothing came before the first block: its maximum is minus infinity */
        __m512 change = _mm512_sub_ps(t->highest[v], highest);
        fade[v] = emb_avx512_power(_mm512_max_ps(_mm512_set1_ps(-200.0f), change));
        t->total[v] = _mm512_fmadd_ps(t->total[v], fade[v], _mm512_cvtepi32_ps(total));
        t->highest[v] = highest;
    }
}

/* sums = sums * fade + weights * values */
EMB_INLINE void gather_block(query_tile *t, const int vectors, uint32_t key0, uint32_t count,
                             const __m512 *fade) {
    _Alignas(64) int32_t exact[TILE_ROWS * 2 * LANES];
    byte_tile tile = {.row_stride = 4, .lanes = t->weights, .steps = (count + 3) / 4};
    tile.step_stride = 4 * t->stride;
    for (uint32_t d = 0; d < t->a->head_dim; d += TILE_ROWS) {
        tile.rows = t->values8 + (size_t)key0 / 4 * t->stride + d;
        (vectors > 1 ? gather_two : gather_one)(exact, &tile);
        float *sums = t->sums + (size_t)d * 16 * vectors;
        for (int i = 0; i < TILE_ROWS * vectors; i++) {
            __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(exact + 16 * i));
            if (key0) sum = _mm512_fmadd_ps(_mm512_load_ps(sums + 16 * i), fade[i % vectors], sum);
            _mm512_store_ps(sums + 16 * i, sum);
        }
    }
}

EMB_INLINE void write_queries(query_tile *t, const int vectors) {
    const emb_cpu_attention *a = t->a;
    for (int v = 0; v < vectors; v++) {
        __m512 factor = _mm512_div_ps(_mm512_set1_ps(1.0f), t->total[v]);
        for (uint32_t d0 = 0; d0 < a->head_dim; d0 += 16) {
            __m512 m[16];
            emb_avx512_queries(m, t->sums, vectors, v, d0, a->head_dim, factor);
            __mmask16 mask = emb_avx512_lanes(d0, a->head_dim);
            __m512 scale = _mm512_load_ps(t->factors + d0);
            __m512 middle = _mm512_load_ps(t->middles + d0);
            for (uint32_t q = 0; q < 16 && 16 * (uint32_t)v + q < t->queries; q++) {
                size_t row = t->query0 + 16 * (uint32_t)v + q;
                emb_avx512_store(a->out, (ptrdiff_t)(row * a->out_stride + d0), mask,
                                 _mm512_fmadd_ps(m[15 - q], scale, middle), false);
            }
        }
    }
}

EMB_INLINE void attend(query_tile *t, const int vectors) {
    const emb_cpu_attention *a = t->a;
    load_queries(t, vectors);
    for (int v = 0; v < vectors; v++) {
        t->highest[v] = _mm512_set1_ps(-INFINITY);
        t->total[v] = _mm512_setzero_ps();
    }
    for (uint32_t key0 = 0; key0 < a->tokens; key0 += KEYS) {
        uint32_t left = a->tokens - key0, count = left < KEYS ? left : KEYS;
        __m512 fade[2];
        score_block(t, vectors, key0, count);
        if (a->relative) {
            add_relative(t, vectors, key0, count);
            soften(t, vectors, count, fade, true);
        } else {
            soften(t, vectors, count, fade, false);
        }
        gather_block(t, vectors, key0, count, fade);
    }
    write_queries(t, vectors);
}

/* What is not finite spreads to all that look at it, as sums would spread it. */
static void write_nan(const emb_cpu_attention *a) {
    for (uint32_t q = 0; q < a->tokens; q++)
        for (uint32_t d = 0; d < a->head_dim; d++) ((float *)a->out)[q * a->out_stride + d] = NAN;
}

void emb_cpu_avx512_attention_dot(const emb_cpu_attention *a) {
    size_t dim = a->head_dim;
    query_tile t = {.a = a, .steps = (dim + 3) / 4, .stride = emb_cpu_round_up(dim, LANES)};
    t.scores = (int32_t *)a->work;
    t.weights = (uint32_t *)t.scores + (size_t)KEYS * EMB_CPU_QUERY_TILE;
    t.columns = t.weights + (size_t)KEYS / 4 * EMB_CPU_QUERY_TILE;
    t.sums = (float *)(t.columns + t.stride / 4 * EMB_CPU_QUERY_TILE);
    t.middles = t.sums + t.stride * EMB_CPU_QUERY_TILE;
    t.factors = t.middles + t.stride;
    t.values8 = (uint32_t *)(t.factors + t.stride);
    if (!begin_head(&t)) {
        write_nan(a);
        return;
    }
    for (uint32_t query = 0; query < a->tokens; query += t.queries) {
        uint32_t left = a->tokens - query;
        t.query0 = query;
        t.queries = left < EMB_CPU_QUERY_TILE ? left : EMB_CPU_QUERY_TILE;
        if (left > 16)
            attend(&t, 2);
        else
            attend(&t, 1);
    }
}
