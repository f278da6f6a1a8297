/* wrap.c - the special tokens around a chunk: the only place that knows where they go.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/assert.h"
#include "text/text.h"

uint32_t emb_text_wrap(const emb_specials *specials, uint32_t *ids, uint32_t count) {
    uint32_t before = specials->before, after = specials->after;
    EMB_ASSERT(before + after <= EMB_SPECIALS_MAX);
    memcpy(ids, specials->ids, before * sizeof *ids);
    memcpy(ids + before + count, specials->ids + before, after * sizeof *ids);
    return before + count + after;
}

uint32_t emb_text_chunk_min(const emb_specials *specials) {
    uint32_t count = specials->before + specials->after;
    return count ? count : 1;
}
