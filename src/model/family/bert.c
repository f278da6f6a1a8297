/* bert.c - BERT (Devlin et al. 2018), as Hugging Face saves it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "model/family/family.h"

static const emb_family_count counts[] = {
    EMB_FAMILY_BERT_SIZES,
    EMB_FAMILY_NEEDS("max_position_embeddings", positions, 1, EMB_POSITIONS_MAX),
};

static const char *const tensors[EMB_TENSOR_ROLES] = {
    EMB_FAMILY_BERT_TENSORS,
    [EMB_TENSOR_TOKEN_TYPES] = "embeddings.token_type_embeddings.weight",
    [EMB_TENSOR_QUERY] = "attention.self.query.weight",
    [EMB_TENSOR_QUERY_BIAS] = "attention.self.query.bias",
    [EMB_TENSOR_KEY] = "attention.self.key.weight",
    [EMB_TENSOR_KEY_BIAS] = "attention.self.key.bias",
    [EMB_TENSOR_VALUE] = "attention.self.value.weight",
    [EMB_TENSOR_VALUE_BIAS] = "attention.self.value.bias",
    [EMB_TENSOR_ATTENTION_OUT] = "attention.output.dense.weight",
    [EMB_TENSOR_ATTENTION_OUT_BIAS] = "attention.output.dense.bias",
    [EMB_TENSOR_ATTENTION_GAIN] = "attention.output.LayerNorm.weight",
    [EMB_TENSOR_ATTENTION_SHIFT] = "attention.output.LayerNorm.bias",
};

static const char *const prefixes[] = {"0.auto_model.", "bert.", NULL};

const char *const emb_family_bert_parts[] = {"encoder.", "embeddings.", NULL};
const char *const emb_family_bert_derived[] = {"embeddings.position_ids",
                                               "embeddings.token_type_ids", NULL};

const emb_family emb_family_bert = {
    .name = "bert",
    .counts = counts,
    .counts_count = sizeof counts / sizeof counts[0],
    .epsilon = "layer_norm_eps",
    .epsilon_fallback = 1e-12,
    .tensors = tensors,
    .layer = "encoder.layer.",
    .prefixes = prefixes,
    .parts = emb_family_bert_parts,
    .derived = emb_family_bert_derived,
    .token_types = true,
    .tokenizer = "BertTokenizer",
};
