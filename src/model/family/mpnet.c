/* mpnet.c - MPNet (Song et al. 2020), as Hugging Face saves it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "base/error.h"
#include "model/family/family.h"

enum { PAD = 1, DISTANCE = 128, BUCKETS_MAX = 1024 };

/* Rows of positions begin after the padding id. */
static const emb_family_count counts[] = {
    EMB_FAMILY_BERT_SIZES,
    EMB_FAMILY_NEEDS("max_position_embeddings", positions, PAD + 1 + 1, EMB_POSITIONS_MAX),
    EMB_FAMILY_TAKES("relative_attention_num_buckets", relative_buckets, 4, BUCKETS_MAX, 32),
    EMB_FAMILY_TAKES("pad_token_id", position_pad, 0, UINT32_MAX, PAD),
};

static const char *const tensors[EMB_TENSOR_ROLES] = {
    EMB_FAMILY_BERT_TENSORS,
    [EMB_TENSOR_RELATIVE] = "encoder.relative_attention_bias.weight",
    [EMB_TENSOR_QUERY] = "attention.attn.q.weight",
    [EMB_TENSOR_QUERY_BIAS] = "attention.attn.q.bias",
    [EMB_TENSOR_KEY] = "attention.attn.k.weight",
    [EMB_TENSOR_KEY_BIAS] = "attention.attn.k.bias",
    [EMB_TENSOR_VALUE] = "attention.attn.v.weight",
    [EMB_TENSOR_VALUE_BIAS] = "attention.attn.v.bias",
    [EMB_TENSOR_ATTENTION_OUT] = "attention.attn.o.weight",
    [EMB_TENSOR_ATTENTION_OUT_BIAS] = "attention.attn.o.bias",
    [EMB_TENSOR_ATTENTION_GAIN] = "attention.LayerNorm.weight",
    [EMB_TENSOR_ATTENTION_SHIFT] = "attention.LayerNorm.bias",
};

static const char *const prefixes[] = {"0.auto_model.", "mpnet.", NULL};

static emb_status finish(emb_shape *shape, emb_error *error) {
    if (shape->position_pad != PAD)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "\"pad_token_id\" is %" PRIu32 "; MPNet counts positions from id %d",
                             shape->position_pad, PAD);
    if (shape->relative_buckets % 2 != 0)
        return emb_error_set(error, EMB_BAD_FILE,
                             "\"relative_attention_num_buckets\" %" PRIu32 " is not even",
                             shape->relative_buckets);
    shape->relative_distance = DISTANCE;
    return EMB_OK;
}

const emb_family emb_family_mpnet = {
    .name = "mpnet",
    .counts = counts,
    .counts_count = sizeof counts / sizeof counts[0],
    .epsilon = "layer_norm_eps",
    .epsilon_fallback = 1e-12,
    .tensors = tensors,
    .layer = "encoder.layer.",
    .prefixes = prefixes,
    .parts = emb_family_bert_parts,
    .derived = emb_family_bert_derived,
    .layers = {.positions = EMB_POSITION_RELATIVE},
    .position_offset = PAD + 1,
    .tokenizer = "MPNetTokenizer",
    .finish = finish,
};
