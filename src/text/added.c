/* added.c - the tokens added to a vocabulary: ordered as in the reference, and numbered.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/sort.h"
#include "text/family.h"
#include "text/normalize/unicode.h"
#include "text/utf8.h"

static bool is_white(const char *bytes) {
    return emb_text_flags(emb_text_utf8_decode((const uint8_t *)bytes)) & EMB_TEXT_WHITE;
}

emb_status emb_text_added_put(emb_text_reading *reading, const emb_text_added *token,
                              emb_text_rank rank, uint32_t order, emb_error *error) {
    if (token->length == 0) return EMB_OK;
    uint32_t tail = emb_text_utf8_last((const uint8_t *)token->bytes, token->length);
    if (token->normalized && (is_white(token->bytes) || is_white(token->bytes + tail)))
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "the added token \"%s\" has white space at an end: remove it, or set "
                             "\"normalized\": false",
                             token->bytes);
    uint32_t place = reading->seen++;
    if (reading->counts) return EMB_OK;
    if (place >= reading->capacity)
        return emb_error_set(error, EMB_BAD_FILE, "the file changed while it was being read");
    emb_text_added *added = &reading->spec->added[place];
    *added = *token;
    added->id = EMB_TEXT_ID_NONE;
    added->rank = (uint8_t)rank;
    added->order = order;
    added->place = place;
    reading->spec->added_count = reading->seen;
    return EMB_OK;
}

static bool by_rank(const void *a, const void *b) {
    const emb_text_added *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank;
    return x->order != y->order ? x->order < y->order : x->place < y->place;
}

static bool by_bytes(const void *a, const void *b) {
    const emb_text_added *x = a, *y = b;
    int order = strcmp(x->bytes, y->bytes);
    return order ? order < 0 : x->place < y->place;
}

static bool by_place(const void *a, const void *b) {
    return ((const emb_text_added *)a)->place < ((const emb_text_added *)b)->place;
}

/* Afterwards `place` is the order of adding. */
void emb_text_added_unite(emb_text_spec *spec) {
    emb_text_added *added = spec->added;
    uint32_t kept = 0;
    emb_sort(added, spec->added_count, sizeof *added, by_rank);
    for (uint32_t i = 0; i < spec->added_count; i++) {
        /* of two listed under the same id the reference keeps the later one */
        if (i + 1 < spec->added_count && added[i].rank == EMB_TEXT_RANK_LISTED &&
            added[i + 1].rank == EMB_TEXT_RANK_LISTED && added[i].order == added[i + 1].order)
            continue;
        added[kept] = added[i];
        added[kept].place = kept;
        kept++;
    }
    spec->added_count = kept;
    emb_sort(added, kept, sizeof *added, by_bytes);
    kept = 0;
    for (uint32_t i = 0; i < spec->added_count; i++) {
        if (kept == 0 || strcmp(added[kept - 1].bytes, added[i].bytes) != 0) {
            added[kept++] = added[i];
        } else if (added[i].rank <= EMB_TEXT_RANK_LISTED) { /* adding it again changes its flags */
            uint32_t place = added[kept - 1].place;
            added[kept - 1] = added[i];
            added[kept - 1].place = place;
        }
    }
    spec->added_count = kept;
}

void emb_text_added_match(emb_text_spec *spec, const uint8_t *bytes, uint32_t length, uint32_t id) {
    uint32_t low = 0, high = length ? spec->added_count : 0;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        emb_text_added *added = &spec->added[middle];
        uint32_t common = added->length < length ? added->length : length;
        int order = (uint8_t)added->bytes[0] - bytes[0]; /* decides most comparisons */
        if (order == 0) order = memcmp(added->bytes, bytes, common);
        if (order == 0 && added->length == length) {
            added->id = id;
            return;
        }
        if (order < 0 || (order == 0 && added->length < length))
            low = middle + 1;
        else
            high = middle;
    }
}

/* Ignores the ids that the files state, as the reference does. A mask token or the like that is
 * only a default and has no row is left out: a text with it fails in the reference too. One that
 * the files list is later reported to have no row. */
void emb_text_added_number(emb_text_spec *spec, uint32_t rows) {
    uint32_t kept = 0, next_id = spec->vocabulary;
    emb_sort(spec->added, spec->added_count, sizeof *spec->added, by_place);
    for (uint32_t i = 0; i < spec->added_count; i++) {
        emb_text_added *added = &spec->added[i];
        if (added->id == EMB_TEXT_ID_NONE) added->id = next_id++;
        if (added->id >= rows && added->rank == EMB_TEXT_RANK_NAMED) continue;
        if (added->id >= spec->ids_end) spec->ids_end = added->id + 1;
        spec->added[kept++] = *added;
    }
    spec->added_count = kept;
}
