"""Changes to the tiny models whose vectors tools/make_golden.py wrote into variants.json, by
sentence-transformers. tests/models/models_variants.py compares many more with it directly.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import shutil

TEXTS = ["The Quick Brown fox", "ÀÉÎ café Naïve", "playing the guitar [MASK] near",
         "A man is playing the guitar near the river while the children sing old songs. " * 3, ""]
TOKENS, MODULE = "tokenizer_config.json", "sentence_bert_config.json"
POOL, SETTINGS = "1_Pooling/config.json", "config_sentence_transformers.json"
FILE = {"tokenizer_class": "PreTrainedTokenizerFast"}
CASED = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
         "strip_accents": None, "lowercase": False}
WORD = {"content": "the", "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": True, "special": False}

# name: {file: {key: value}, or a whole file in a list of one, or None to remove it}
VARIANTS = {
    "cased by tokenizer_config.json": {TOKENS: {"do_lower_case": False}},
    "tokenizer.json alone is cased": {"tokenizer.json": {"normalizer": CASED}},
    "tokenizer.json taken whole is cased": {"tokenizer.json": {"normalizer": CASED}, TOKENS: FILE},
    "a Sequence of one": {TOKENS: FILE, "tokenizer.json": {
        "normalizer": {"type": "Sequence", "normalizers": [CASED]}}},
    "do_lower_case of the module": {TOKENS: {"do_lower_case": False}, MODULE: {
        "do_lower_case": True}},
    "another separator": {TOKENS: {"sep_token": "[MASK]"}, "special_tokens_map.json": None},
    "an added token": {TOKENS: {"added_tokens_decoder": {"700": WORD}}},
    "vocab.txt": {"tokenizer.json": None, "added_tokens.json": [{"the": 9}]},
    "processing_kwargs": {MODULE: {"processing_kwargs": {"text": {"max_length": 9}}}},
    "processor_kwargs": {MODULE: {"processor_kwargs": {"model_max_length": 9}}},
    "another file of the module": {MODULE: None, "sentence_roberta_config.json": [
        {"max_seq_length": 9}]},
    "truncate_dim": {SETTINGS: {"truncate_dim": 5}},
    "cls alone": {POOL: [{"word_embedding_dimension": 32, "pooling_mode_cls_token": True}]},
    "a list of one pooling": {POOL: [{"embedding_dimension": 32, "pooling_mode": ["max"]}]},
    "no pooling is true": {POOL: {"pooling_mode_mean_tokens": False}},
    "prompts": {SETTINGS: {"prompts": {"query": None, "p": "the song: "},
                           "default_prompt_name": "p"}},
    "no modules.json": {"modules.json": None, SETTINGS: {"truncate_dim": 5}},
    "epsilon": {"config.json": {"layer_norm_eps": 0.01}},
}


def make(source, folder, changes):
    """Copies a model and changes its files."""
    shutil.copytree(source, folder)
    for name, change in changes.items():
        path = pathlib.Path(folder) / name
        if change is None:
            path.unlink()
            continue
        content = json.loads(path.read_text()) if path.exists() else {}
        content = change[0] if isinstance(change, list) else {**content, **change}
        path.write_text(json.dumps(content))
