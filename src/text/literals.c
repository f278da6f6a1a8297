/* literals.c - finds added tokens in the bytes that a stage of a tokenizer holds back.
 *
 * The list is sorted by bytes, so that literals with a common prefix are adjacent.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/literals.h"

#include <string.h>

#include "base/sort.h"
#include "text/normalize/unicode.h"
#include "text/utf8.h"

static bool by_bytes(const void *a, const void *b) {
    const emb_text_literal *x = a, *y = b;
    int order = memcmp(x->bytes, y->bytes, x->length < y->length ? x->length : y->length);
    return order ? order < 0 : x->length < y->length;
}

const emb_text_literal *emb_text_literals_sort(emb_text_literals *literals, uint32_t count) {
    emb_sort(literals->list, count, sizeof *literals->list, by_bytes);
    for (uint32_t i = 0; i < count; i++) literals->first[literals->list[i].bytes[0]] = 1;
    for (uint32_t i = 1; i < count; i++)
        if (!by_bytes(&literals->list[i - 1], &literals->list[i])) return &literals->list[i];
    return NULL;
}

/* The first of the literals [low, high), which agree in `at` bytes, whose next byte is not below
 * `byte`. */
static uint32_t first_not_below(const emb_text_literal *list, uint32_t low, uint32_t high,
                                uint32_t at, uint32_t byte) {
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        bool below = list[middle].length == at || list[middle].bytes[at] < byte;
        if (below)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_word(const uint8_t *bytes) {
    return emb_text_flags(emb_text_utf8_decode(bytes)) & EMB_TEXT_WORD;
}

emb_text_found emb_text_literals_find(const emb_text_literals *literals, const uint8_t *bytes,
                                      uint32_t n, bool final, bool after_word, uint32_t *length,
                                      uint32_t *id) {
    const emb_text_literal *best = NULL, *list = literals->list;
    uint32_t low = 0, high = literals->count, at = 0;
    for (; at < n && low < high; at++) {
        low = first_not_below(list, low, high, at, bytes[at]);
        high = first_not_below(list, low, high, at, bytes[at] + 1u);
        if (low < high && list[low].length == at + 1) best = &list[low];
    }
    if (!final && low < high && list[high - 1].length > n) return EMB_TEXT_FOUND_MORE;
    *length = best ? best->length : emb_text_utf8_length(bytes[0]);
    if (!best) return EMB_TEXT_FOUND_TEXT;
    *id = best->id;
    if (!best->single_word) return EMB_TEXT_FOUND_TOKEN;
    if (best->length == n && !final) return EMB_TEXT_FOUND_MORE;
    bool alone = !after_word && (best->length == n || !is_word(bytes + best->length));
    return alone ? EMB_TEXT_FOUND_TOKEN : EMB_TEXT_FOUND_TEXT;
}

bool emb_text_ends_in_word(const uint8_t *bytes, uint32_t length) {
    return is_word(bytes + emb_text_utf8_last(bytes, length));
}
