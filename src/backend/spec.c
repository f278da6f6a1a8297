/* spec.c - how a layer's specification differs from the layer that every backend computes.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/spec.h"

#include <stddef.h>

const char *emb_spec_beyond_bert(const emb_layer_spec *spec) {
    const struct {
        bool differs;
        const char *what;
    } parts[] = {
        {spec->norm != EMB_NORM_LAYER, "norms by the root of the mean square"},
        {spec->norm_place != EMB_NORM_POST, "norms in front of the blocks"},
        {spec->norm_plain, "norms without a shift"},
        {spec->norm_final, "a norm behind the last layer"},
        {spec->activation != EMB_ACTIVATION_GELU, "an activation other than GELU's erf form"},
        {spec->gated, "a gated feed-forward"},
        {spec->positions > EMB_POSITION_RELATIVE, "rotary positions or slopes"},
        {spec->mask != EMB_MASK_FULL, "attention to a part of the keys"},
        {spec->kv_heads != spec->heads, "fewer heads of keys than of queries"},
        {emb_spec_context(spec) != spec->hidden, "heads that are not as wide together as a layer"},
        {spec->attention_plain || spec->ffn_plain, "matrices without biases"},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i].differs) return parts[i].what;
    return NULL;
}
