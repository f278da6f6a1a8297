/* keys_table.c - the keys of a model's files, after sentence-transformers 6.2 and transformers 5.23.
 *
 * docs/model_files.md is made from these lists and the modules'; tests/unit/test_model_keys.c
 * compares them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "model/keys.h"

#define READ(name, about)            {name, EMB_KEY_READ, NULL, about}
#define HARMLESS(name, about)        {name, EMB_KEY_HARMLESS, NULL, about}
#define LIMITED(name, values, about) {name, EMB_KEY_LIMITED, values, about}
#define INSIDE(name, about)          {name, EMB_KEY_INSIDE, NULL, about}

static const emb_key modules[] = {
    READ("type", "class of the module: Transformer, Pooling, Normalize, in this order"),
    READ("path", "its folder"),
    READ("name", "two modules may not have the same"),
    HARMLESS("idx", "the order of the list counts"),
    HARMLESS("kwargs", "names of arguments that encode would pass on"),
};

static const emb_key settings[] = {
    READ("prompts", "texts by name; null is an empty text"),
    READ("default_prompt_name", "prompt of every text that is given none"),
    READ("truncate_dim", "how many values of each vector are kept, where no other number is stated"),
    READ("similarity_fn_name", "by the Python package: cosine, dot, euclidean, manhattan; any other "
                               "name counts as none, which is cosine"),
    LIMITED("model_type", "\"SentenceTransformer\"", "kind of the model"),
    HARMLESS("__version__", "of the packages that saved the model"),
    HARMLESS("requirements", "versions of packages, which are not used"),
};

static const emb_key transformer[] = {
    READ("max_seq_length", "tokens of a text, special tokens included"),
    READ("do_lower_case", "true: texts are put in lower case before the tokenizer"),
    LIMITED("tokenizer_name_or_path", "null", "a tokenizer from elsewhere"),
    LIMITED("transformer_task", "\"feature-extraction\"", "what the encoder is used for"),
    INSIDE("model_args", "older name of model_kwargs"),
    HARMLESS("model_args.attn_implementation", "which kernels compute attention"),
    HARMLESS("model_args.dtype", "the dtype is stated at run time"),
    HARMLESS("model_args.torch_dtype", "the dtype is stated at run time"),
    HARMLESS("model_args.trust_remote_code", "no code of a model is run"),
    INSIDE("model_kwargs", "arguments for the encoder"),
    HARMLESS("model_kwargs.attn_implementation", "which kernels compute attention"),
    HARMLESS("model_kwargs.dtype", "the dtype is stated at run time"),
    HARMLESS("model_kwargs.torch_dtype", "the dtype is stated at run time"),
    HARMLESS("model_kwargs.trust_remote_code", "no code of a model is run"),
    INSIDE("tokenizer_args", "older name of processor_kwargs"),
    READ("tokenizer_args.model_max_length", "counts before max_seq_length"),
    HARMLESS("tokenizer_args.trust_remote_code", "no code of a model is run"),
    INSIDE("processor_kwargs", "arguments for the tokenizer"),
    READ("processor_kwargs.model_max_length", "counts before max_seq_length"),
    HARMLESS("processor_kwargs.trust_remote_code", "no code of a model is run"),
    INSIDE("config_args", "older name of config_kwargs"),
    HARMLESS("config_args.trust_remote_code", "no code of a model is run"),
    INSIDE("config_kwargs", "arguments for the configuration"),
    HARMLESS("config_kwargs.trust_remote_code", "no code of a model is run"),
    INSIDE("processing_kwargs", "arguments of each call of the tokenizer"),
    INSIDE("processing_kwargs.text", "for texts"),
    READ("processing_kwargs.text.max_length", "tokens of a text; counts before the others"),
    LIMITED("processing_kwargs.text.truncation", "true | \"longest_first\" | \"only_first\"",
            "how longer texts are cut"),
    LIMITED("processing_kwargs.text.padding", "true | \"longest\" | \"max_length\"",
            "how shorter texts are filled up"),
    LIMITED("processing_kwargs.text.add_special_tokens", "true", "[CLS] and [SEP]"),
    HARMLESS("processing_kwargs.text.return_tensors", "kind of the tokenizer's result"),
    HARMLESS("processing_kwargs.text.logits_to_keep", "of generating models"),
    INSIDE("processing_kwargs.common", "for texts and other inputs; counts before text"),
    READ("processing_kwargs.common.max_length", "tokens of a text"),
    LIMITED("processing_kwargs.common.truncation", "true | \"longest_first\" | \"only_first\"",
            "how longer texts are cut"),
    LIMITED("processing_kwargs.common.padding", "true | \"longest\" | \"max_length\"",
            "how shorter texts are filled up"),
    LIMITED("processing_kwargs.common.add_special_tokens", "true", "[CLS] and [SEP]"),
    HARMLESS("processing_kwargs.common.return_tensors", "kind of the tokenizer's result"),
    HARMLESS("processing_kwargs.audio", "of no text"),
    HARMLESS("processing_kwargs.image", "of no text"),
    HARMLESS("processing_kwargs.video", "of no text"),
    HARMLESS("processing_kwargs.chat_template", "of chats"),
    INSIDE("modality_config", "how each kind of input is computed"),
    INSIDE("modality_config.text", "texts"),
    LIMITED("modality_config.text.method", "\"forward\"", "the encoder's method"),
    LIMITED("modality_config.text.method_output_name", "\"last_hidden_state\"",
            "which of its results is pooled"),
    LIMITED("module_output_name", "\"token_embeddings\"", "what the encoder gives"),
    HARMLESS("unpad_inputs", "nothing is padded here"),
    LIMITED("query_length", "null", "another length for queries"),
    LIMITED("document_length", "null", "another length for documents"),
    LIMITED("query_expansion", "null", "of multi-vector models"),
    HARMLESS("cache_dir", "where downloads go"),
    HARMLESS("backend", "torch, onnx, openvino"),
};

static const emb_key config[] = {
    READ("model_type", "bert or mpnet"),
    READ("hidden_size", "width of a token's vector"),
    READ("num_hidden_layers", "layers"),
    READ("num_attention_heads", "heads of each layer"),
    READ("intermediate_size", "width inside the feed-forward network"),
    READ("vocab_size", "rows of the word embedding"),
    READ("max_position_embeddings", "rows of the position embedding"),
    READ("layer_norm_eps", "added to a variance"),
    READ("relative_attention_num_buckets", "MPNet: rows of the relative position bias"),
    READ("pad_token_id", "MPNet: must be 1"),
    READ("tokenizer_class", "where tokenizer_config.json states none"),
    LIMITED("hidden_act", "\"gelu\" | \"gelu_python\"", "activation: the erf form of gelu"),
    LIMITED("position_embedding_type", "\"absolute\" | null", "of older BERT models"),
    LIMITED("is_decoder", "false | null", "only encoders"),
    LIMITED("add_cross_attention", "false | null", "only encoders"),
    LIMITED("is_encoder_decoder", "false | null", "only encoders"),
    LIMITED("is_causal", "false | null", "only encoders"),
    LIMITED("use_bidirectional_attention", "true | null", "only encoders"),
    LIMITED("quantization_config", "null",
            "take the model's F32, F16 or BF16 weights; `embound quantize` makes 8 bits of them"),
    LIMITED("compression_config", "null", "take the model's F32, F16 or BF16 weights"),
    LIMITED("fusion_config", "null", "weights arranged otherwise"),
    LIMITED("pruned_heads", "{} | null", "heads that were taken out"),
    LIMITED("per_layer_config", "{} | null", "layers that differ"),
    LIMITED("auto_map", "null", "code of its own computes this model"),
    LIMITED("transformers_weights", "null", "weights in another file"),
    LIMITED("embedding_size", "null", "of other families"),
    HARMLESS("architectures", "what it was saved as: heads behind the encoder are left out"),
    HARMLESS("type_vocab_size", "BERT: row 0 is used, however many there are"),
    HARMLESS("attention_probs_dropout_prob", "of training"),
    HARMLESS("hidden_dropout_prob", "of training"),
    HARMLESS("classifier_dropout", "of training"),
    HARMLESS("initializer_range", "of training"),
    HARMLESS("gradient_checkpointing", "of training"),
    HARMLESS("dtype", "the dtype is stated at run time"),
    HARMLESS("torch_dtype", "the dtype is stated at run time"),
    HARMLESS("torchscript", "how torch runs"),
    HARMLESS("use_bfloat16", "how torch runs"),
    HARMLESS("use_cache", "of decoders"),
    HARMLESS("return_dict", "kind of the encoder's result"),
    HARMLESS("use_return_dict", "kind of the encoder's result"),
    HARMLESS("output_hidden_states", "kind of the encoder's result"),
    HARMLESS("output_attentions", "kind of the encoder's result"),
    HARMLESS("chunk_size_feed_forward", "how memory is saved"),
    HARMLESS("tie_word_embeddings", "of heads behind the encoder"),
    HARMLESS("tie_encoder_decoder", "of decoders"),
    HARMLESS("tie_last_hidden_states", "of models with a norm at the end"),
    HARMLESS("cross_attention_hidden_size", "of decoders"),
    HARMLESS("_name_or_path", "where it came from"),
    HARMLESS("name_or_path", "where it came from"),
    HARMLESS("transformers_version", "that saved it"),
    HARMLESS("_commit_hash", "where it came from"),
    HARMLESS("_attn_implementation", "which kernels compute attention"),
    HARMLESS("_attn_implementation_autoset", "which kernels compute attention"),
    HARMLESS("attn_implementation", "which kernels compute attention"),
    HARMLESS("bos_token_id", "the tokenizer says which"),
    HARMLESS("eos_token_id", "the tokenizer says which"),
    HARMLESS("sep_token_id", "the tokenizer says which"),
    HARMLESS("cls_token_id", "the tokenizer says which"),
    HARMLESS("mask_token_id", "the tokenizer says which"),
    HARMLESS("decoder_start_token_id", "of decoders"),
    HARMLESS("id2label", "of classifiers"),
    HARMLESS("label2id", "of classifiers"),
    HARMLESS("num_labels", "of classifiers"),
    HARMLESS("_num_labels", "of classifiers"),
    HARMLESS("problem_type", "of classifiers"),
    HARMLESS("finetuning_task", "of classifiers"),
    HARMLESS("task_specific_params", "of generation"),
    HARMLESS("prefix", "of generation"),
    HARMLESS("directionality", "of the first BERT"),
    HARMLESS("pooler_fc_size", "of the first BERT: its pooler is not used"),
    HARMLESS("pooler_num_attention_heads", "of the first BERT: its pooler is not used"),
    HARMLESS("pooler_num_fc_layers", "of the first BERT: its pooler is not used"),
    HARMLESS("pooler_size_per_head", "of the first BERT: its pooler is not used"),
    HARMLESS("pooler_type", "of the first BERT: its pooler is not used"),
    HARMLESS("position_biased_input", "of other families"),
    HARMLESS("sentence_transformers", "of classifiers"),
};

static const emb_key tokenizer_config[] = {
    READ("tokenizer_class",
         "BertTokenizer and MPNetTokenizer build themselves from this file and the vocabulary; "
         "PreTrainedTokenizerFast takes tokenizer.json as it stands; others are refused"),
    READ("do_lower_case", "true where not stated"),
    READ("strip_accents", "null: as do_lower_case"),
    READ("tokenize_chinese_chars", "true where not stated"),
    READ("model_max_length", "tokens of a text, where no other file says"),
    READ("max_len", "older name of model_max_length"),
    READ("added_tokens_decoder",
         "tokens by id; where it is there, special_tokens_map.json, added_tokens.json and the "
         "added_tokens of tokenizer.json do not count"),
    READ("extra_special_tokens", "more special tokens"),
    READ("additional_special_tokens", "older name of extra_special_tokens"),
    READ("bos_token", "a special token"),
    READ("eos_token", "a special token"),
    READ("unk_token", "stands for unknown words"),
    READ("sep_token", "behind every text"),
    READ("pad_token", "a special token"),
    READ("cls_token", "before every text"),
    READ("mask_token", "a special token"),
    HARMLESS("add_bos_token", "the classes put cls_token and sep_token"),
    HARMLESS("add_eos_token", "the classes put cls_token and sep_token"),
    READ("*_token", "a special token of this model"),
    LIMITED("truncation_side", "\"right\" | null", "which end of a long text is cut"),
    LIMITED("padding_side", "\"right\" | null",
            "padded on the left, BERT's vectors depend on the texts beside"),
    LIMITED("split_special_tokens", "false | null", "special tokens in a text"),
    LIMITED("chat_template", "null", "of chats"),
    LIMITED("auto_map", "null", "code of its own makes the tokens"),
    LIMITED("fast_tokenizer_files", "null | []", "another file than tokenizer.json"),
    LIMITED("init_inputs", "[] | null", "arguments of the class"),
    LIMITED("model_specific_special_tokens", "{} | null", "more special tokens"),
    LIMITED("processor_class", "null", "of models for images or sound"),
    HARMLESS("do_basic_tokenize", "of an older tokenizer"),
    HARMLESS("never_split", "of an older tokenizer"),
    HARMLESS("wordpieces_prefix", "of an older tokenizer"),
    HARMLESS("clean_text", "always done"),
    HARMLESS("add_prefix_space", "of other tokenizers"),
    HARMLESS("trim_offsets", "offsets are not used"),
    HARMLESS("clean_up_tokenization_spaces", "of decoding"),
    READ("model_input_names",
         "must hold attention_mask, without which vectors depend on the texts beside"),
    HARMLESS("name_or_path", "where it came from"),
    HARMLESS("special_tokens_map_file", "where it came from"),
    HARMLESS("tokenizer_file", "where it came from"),
    HARMLESS("vocab_file", "where it came from"),
    HARMLESS("is_local", "where it came from"),
    HARMLESS("local_files_only", "where it came from"),
    HARMLESS("_commit_hash", "where it came from"),
    HARMLESS("backend", "library behind the class"),
    HARMLESS("use_fast", "library behind the class"),
    HARMLESS("verbose", "warnings"),
    HARMLESS("max_length", "each call states it"),
    HARMLESS("stride", "each call states it"),
    HARMLESS("truncation", "each call states it"),
    HARMLESS("truncation_strategy", "each call states it"),
    HARMLESS("padding", "each call states it"),
    HARMLESS("pad_to_multiple_of", "nothing is padded here"),
    HARMLESS("pad_token_type_id", "nothing is padded here"),
    HARMLESS("return_token_type_ids", "kind of the tokenizer's result"),
    HARMLESS("errors", "of other tokenizers"),
    HARMLESS("from_slow", "how it was converted"),
};

static const emb_key special_tokens[] = {
    READ("bos_token", "as in tokenizer_config.json"),
    READ("eos_token", "as in tokenizer_config.json"),
    READ("unk_token", "as in tokenizer_config.json"),
    READ("sep_token", "as in tokenizer_config.json"),
    READ("pad_token", "as in tokenizer_config.json"),
    READ("cls_token", "as in tokenizer_config.json"),
    READ("mask_token", "as in tokenizer_config.json"),
    READ("extra_special_tokens", "as in tokenizer_config.json"),
    READ("additional_special_tokens", "as in tokenizer_config.json"),
    READ("*_token", "a special token of this model"),
};

static const emb_key tokenizer[] = {
    HARMLESS("version", "of the format"),
    INSIDE("truncation", "each call states it, all but the side"),
    LIMITED("truncation.direction", "\"Right\"", "which end of a long text is cut"),
    HARMLESS("truncation.max_length", "each call states it"),
    HARMLESS("truncation.strategy", "each call states it"),
    HARMLESS("truncation.stride", "each call states it"),
    INSIDE("padding", "nothing is padded here"),
    LIMITED("padding.direction", "\"Right\"",
            "padded on the left, BERT's vectors depend on the texts beside"),
    HARMLESS("padding.strategy", "each call states it"),
    HARMLESS("padding.pad_to_multiple_of", "each call states it"),
    HARMLESS("padding.pad_id", "nothing is padded here"),
    HARMLESS("padding.pad_type_id", "nothing is padded here"),
    HARMLESS("padding.pad_token", "nothing is padded here"),
    INSIDE("added_tokens", "tokens looked for in a text"),
    READ("added_tokens.id", "their order; the reference numbers those outside the vocabulary itself"),
    READ("added_tokens.content", "the token"),
    READ("added_tokens.single_word", "only where no word goes on"),
    READ("added_tokens.lstrip", "takes white space before it"),
    READ("added_tokens.rstrip", "takes white space behind it"),
    READ("added_tokens.normalized", "looked for in the normalised text"),
    READ("added_tokens.special", "not normalised where that is not stated"),
    READ("normalizer", "PreTrainedTokenizerFast: null, a BertNormalizer, or a Sequence of that alone"),
    READ("pre_tokenizer", "PreTrainedTokenizerFast: a BertPreTokenizer"),
    READ("post_processor", "PreTrainedTokenizerFast: up to eight special tokens around the text"),
    HARMLESS("decoder", "of decoding"),
    INSIDE("model", "the vocabulary"),
    READ("model.type", "WordPiece"),
    READ("model.vocab", "ids by token"),
    READ("model.unk_token", "PreTrainedTokenizerFast: stands for unknown words"),
    READ("model.continuing_subword_prefix", "PreTrainedTokenizerFast: of a word's later parts"),
    READ("model.max_input_chars_per_word", "PreTrainedTokenizerFast: longer words are unknown"),
};

static const emb_key shard_index[] = {
    READ("weight_map", "names of the weight files, each of which is looked through"),
    HARMLESS("metadata", "sizes"),
};

#define LIST(name, about, strict, keys)                                                            \
    { name, about, strict, keys, sizeof keys / sizeof *keys }

const emb_key_list emb_keys_modules =
    LIST("modules.json", "which modules there are", false, modules);
const emb_key_list emb_keys_settings = LIST(
    "config_sentence_transformers.json", "read where there is a modules.json", false, settings);
const emb_key_list emb_keys_transformer =
    LIST("sentence_bert_config.json",
         "arguments of the Transformer module, read where there is a modules.json; or the "
         "first with a key of sentence_roberta_config.json, sentence_distilbert_config.json, "
         "sentence_camembert_config.json, sentence_albert_config.json, "
         "sentence_xlm-roberta_config.json, sentence_xlnet_config.json",
         true, transformer);
const emb_key_list emb_keys_config =
    LIST("config.json", "the encoder, in the Transformer's folder", false, config);
const emb_key_list emb_keys_tokenizer_config =
    LIST("tokenizer_config.json", "the tokenizer", false, tokenizer_config);
const emb_key_list emb_keys_special_tokens =
    LIST("special_tokens_map.json", "read where tokenizer_config.json has no added_tokens_decoder",
         false, special_tokens);
const emb_key_list emb_keys_tokenizer =
    LIST("tokenizer.json", "the vocabulary; counts before vocab.txt", false, tokenizer);
const emb_key_list emb_keys_index = LIST("model.safetensors.index.json",
                                         "read where there is no model.safetensors", false,
                                         shard_index);

const emb_key_list *const emb_key_lists[] = {
    &emb_keys_modules,          &emb_keys_settings,       &emb_keys_transformer, &emb_keys_config,
    &emb_keys_tokenizer_config, &emb_keys_special_tokens, &emb_keys_tokenizer,   &emb_keys_index,
    NULL};
