/* classify.c - which of 64 bytes bound words, are punctuation, or need the general path.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/wordpiece/tables.h"

#ifdef EMB_X86
#include <immintrin.h>
#endif

void emb_wordpiece_classify_portable(emb_wordpiece_masks *out, const uint8_t *bytes,
                                     const emb_wordpiece_byte_sets *sets) {
    emb_wordpiece_masks masks = {0, 0, 0};
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t low = bytes[i] & 15, high = bytes[i] >> 4;
        uint64_t other = high >> 3;
        high &= 7;
        masks.boundary |= (other | (sets->boundary[low] >> high & 1)) << i;
        masks.mark |= (~other & (uint64_t)(sets->mark[low] >> high & 1)) << i;
        masks.stop |= (other | (sets->stop[low] >> high & 1)) << i;
    }
    *out = masks;
}

#ifdef EMB_X86

/* A byte is in the set `rows` if the row of its low half has the bit of its high half. Bytes above
 * 0x7F have no bit; they are added by their sign. */
__attribute__((target("avx2"))) static uint32_t members_avx2(__m256i low, __m256i bit,
                                                             const uint8_t *rows) {
    __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)rows));
    __m256i hit = _mm256_and_si256(_mm256_shuffle_epi8(table, low), bit);
    return ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(hit, _mm256_setzero_si256()));
}

__attribute__((target("avx2"))) void
emb_wordpiece_classify_avx2(emb_wordpiece_masks *out, const uint8_t *bytes,
                            const emb_wordpiece_byte_sets *sets) {
    const __m256i bits = _mm256_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0, 1,
                                          2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i half = _mm256_set1_epi8(15);
    uint64_t boundary = 0, mark = 0, stop = 0;
    for (uint32_t part = 0; part < 2; part++) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(bytes + 32 * part));
        __m256i low = _mm256_and_si256(v, half);
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(v, 4), half);
        __m256i bit = _mm256_shuffle_epi8(bits, high);
        uint32_t other = (uint32_t)_mm256_movemask_epi8(v);
        boundary |= (uint64_t)(members_avx2(low, bit, sets->boundary) | other) << 32 * part;
        mark |= (uint64_t)members_avx2(low, bit, sets->mark) << 32 * part;
        stop |= (uint64_t)(members_avx2(low, bit, sets->stop) | other) << 32 * part;
    }
    out->boundary = boundary;
    out->mark = mark;
    out->stop = stop;
}

#define AVX512 __attribute__((target("avx512f,avx512bw")))

AVX512 static uint64_t members_avx512(__m512i low, __m512i bit, const uint8_t *rows) {
    __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)rows));
    return _mm512_test_epi8_mask(_mm512_shuffle_epi8(table, low), bit);
}

AVX512 void emb_wordpiece_classify_avx512(emb_wordpiece_masks *out, const uint8_t *bytes,
                                          const emb_wordpiece_byte_sets *sets) {
    const __m512i bits =
        _mm512_broadcast_i32x4(_mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m512i half = _mm512_set1_epi8(15);
    __m512i v = _mm512_loadu_si512(bytes);
    __m512i low = _mm512_and_si512(v, half);
    __m512i bit = _mm512_shuffle_epi8(bits, _mm512_and_si512(_mm512_srli_epi16(v, 4), half));
    uint64_t other = _mm512_movepi8_mask(v);
    out->boundary = members_avx512(low, bit, sets->boundary) | other;
    out->mark = members_avx512(low, bit, sets->mark);
    out->stop = members_avx512(low, bit, sets->stop) | other;
}

#endif

emb_wordpiece_classify emb_wordpiece_classify_select(void) {
#ifdef EMB_X86
    /* these also check that the operating system saves the wide registers */
    if (__builtin_cpu_supports("avx512bw")) return emb_wordpiece_classify_avx512;
    if (__builtin_cpu_supports("avx2")) return emb_wordpiece_classify_avx2;
#endif
    return emb_wordpiece_classify_portable;
}
