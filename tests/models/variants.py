"""Model directories with one thing changed, for models_variants.py: a tiny BERT and a tiny MPNet of
transformers, with a vocabulary in which case, accents and added tokens show, and their variants.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import re
import shutil

import numpy
from safetensors.numpy import load_file, save_file

WORDS = ("the quick brown fox jumps over a lazy dog word and different end new tok newtok hello "
         "world Hello World HELLO Quick cafe café naive naïve strasse straße unk mask pad").split()
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?[]<>/_-:éàüñÉÜßı"
CHINESE = "北京天安门"
TEXTS = [
    "The quick brown fox.", "Ünïcödé Straße naïve café É", "北京天安门x北", "Hello WORLD HELLO",
    "word " * 80 + "and a different END", "newtok xnewtok NewTok", "", "[UNK] [unk] <mask> [MASK]",
    "a [PAD] b <s> [SEP] </s> [CLS]", "<one><two> <one>the", "x\tthe\x00 a\u200bb\r\nfox",
    "dom0 <dom7> <dom64>", "İstanbul KELVIN K ǅ", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
]
SPECIALS = {"bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
            "mpnet": ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]}
NAMES = {"bert": {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]",
                  "sep_token": "[SEP]", "mask_token": "[MASK]"},
         "mpnet": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>",
                   "unk_token": "[UNK]", "cls_token": "<s>", "sep_token": "</s>",
                   "mask_token": "<mask>"}}
ST = "sentence_transformers."


def vocabulary(family):
    """Tokens in order: special ones, letters alone and inside words, words and ends of words."""
    tokens = list(SPECIALS[family]) + list(LETTERS) + ["##" + c for c in LETTERS] + list(CHINESE)
    tokens += WORDS + ["##" + word for word in ("tok", "own", "er", "ld", "é", "bc")]
    return list(dict.fromkeys(tokens))


def put(folder, name, value):
    """Writes a JSON file."""
    path = pathlib.Path(folder) / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def get(folder, name):
    """Reads a JSON file; an absent one is empty."""
    path = pathlib.Path(folder) / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def tokenizer_json(family, tokens):
    """The file as transformers writes it."""
    listed = [{"id": tokens.index(t), "content": t, "single_word": False, "lstrip": t == "<mask>",
               "rstrip": False, "normalized": False, "special": True} for t in SPECIALS[family]]
    first, last = NAMES[family]["cls_token"], NAMES[family]["sep_token"]
    pair = {name: [token, tokens.index(token)] for name, token in (("sep", last), ("cls", first))}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": listed,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", **pair},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100,
                  "vocab": {token: i for i, token in enumerate(tokens)}}}


def make_base(folder, family):
    """A model directory as sentence-transformers of version 5 wrote it."""
    import torch
    import transformers
    tokens = vocabulary(family)
    torch.manual_seed(3)
    sizes = {"vocab_size": len(tokens), "hidden_size": 32, "num_hidden_layers": 2,
             "num_attention_heads": 4, "intermediate_size": 64}
    if family == "bert":
        config = transformers.BertConfig(max_position_embeddings=40, **sizes)
        model = transformers.BertModel(config)
    else:
        config = transformers.MPNetConfig(max_position_embeddings=42, **sizes)
        model = transformers.MPNetModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    put(folder, "tokenizer.json", tokenizer_json(family, tokens))
    names = NAMES[family]
    put(folder, "tokenizer_config.json", {
        "do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None,
        "model_max_length": 40, **names,
        "tokenizer_class": "BertTokenizer" if family == "bert" else "MPNetTokenizer"})
    put(folder, "special_tokens_map.json", names)
    put(folder, "modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": f"{ST}models.{kind}"} for i, path, kind in
        ((0, "", "Transformer"), (1, "1_Pooling", "Pooling"), (2, "2_Normalize", "Normalize"))])
    put(folder, "1_Pooling/config.json", {
        "word_embedding_dimension": 32, "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False, "pooling_mode_weightedmean_tokens": False,
        "pooling_mode_lasttoken": False, "include_prompt": True})
    put(folder, "sentence_bert_config.json", {"max_seq_length": 20, "do_lower_case": False})
    put(folder, "config_sentence_transformers.json", {
        "__version__": {"sentence_transformers": "5.1.0"}, "prompts": {}, "similarity_fn_name":
        "cosine", "default_prompt_name": None})


# ---- edits ---------------------------------------------------------------------------------------

def edit(name, **keys):
    """Sets keys of a file; "a.b" lies inside "a", None of the keyword ``without`` goes."""
    def change(folder):
        value = get(folder, name)
        for key in keys.pop("without", ()):
            value.pop(key, None)
        for key, new in keys.items():
            inner = value
            *path, last = key.split("__in__")
            for part in path:
                inner = inner.setdefault(part, {})
            inner[last] = new
        put(folder, name, value)
    return change


def replace(name, value):
    """Writes a whole file."""
    return lambda folder: put(folder, name, value)


def remove(*names):
    """Removes files."""
    def change(folder):
        for name in names:
            (pathlib.Path(folder) / name).unlink()
    return change


def both(*changes):
    """One edit after another."""
    def change(folder):
        for one in changes:
            one(folder)
    return change


def weights(change_tensors):
    """Changes tensors."""
    def change(folder):
        path = pathlib.Path(folder) / "model.safetensors"
        tensors = load_file(path)
        change_tensors(tensors)
        save_file(tensors, path, metadata={"format": "pt"})
    return change


def grow(rows):
    """More rows in the word embedding."""
    def change(folder):
        def more(tensors):
            key = "embeddings.word_embeddings.weight"
            new = numpy.random.default_rng(5).normal(size=(rows, 32)).astype(numpy.float32)
            tensors[key] = numpy.concatenate([tensors[key], new])
        weights(more)(folder)
        put(folder, "config.json", {**get(folder, "config.json"),
                                    "vocab_size": get(folder, "config.json")["vocab_size"] + rows})
    return change


def vocab_txt(folder):
    """vocab.txt in place of tokenizer.json."""
    words = get(folder, "tokenizer.json")["model"]["vocab"]
    text = "\n".join(sorted(words, key=words.get)) + "\n"
    (pathlib.Path(folder) / "vocab.txt").write_text(text, encoding="utf-8")
    (pathlib.Path(folder) / "tokenizer.json").unlink()


def added(content, number, **flags):
    """An added token as files have it."""
    return {"id": number, "content": content, "single_word": False, "lstrip": False,
            "rstrip": False, "normalized": True, "special": False, **flags}


def add_to_json(*tokens, **flags):
    """More added tokens in tokenizer.json, with rows."""
    def change(folder):
        value = get(folder, "tokenizer.json")
        size = len(value["model"]["vocab"])
        for i, token in enumerate(tokens):
            value["added_tokens"].append(added(token, size + i, **flags))
        put(folder, "tokenizer.json", value)
        grow(len(tokens))(folder)
    return change


def decoder(*tokens, start=0, **flags):
    """added_tokens_decoder in tokenizer_config.json, beside the special tokens."""
    def change(folder):
        family = get(folder, "config.json")["model_type"]
        size = len(vocabulary(family))
        listed = {str(vocabulary(family).index(t)): added(t, 0, special=True, normalized=False)
                  for t in SPECIALS[family]}
        for i, token in enumerate(tokens):
            listed[str(size + start + i)] = added(token, 0, **flags)
        for entry in listed.values():
            del entry["id"]
        edit("tokenizer_config.json", added_tokens_decoder=listed)(folder)
        grow(len(tokens))(folder)
    return change


def added_file(**tokens):
    """added_tokens.json, with rows."""
    def change(folder):
        size = len(vocabulary(get(folder, "config.json")["model_type"]))
        put(folder, "added_tokens.json", {token: size + i for token, i in tokens.items()})
        grow(len(tokens))(folder)
    return change


def part(name, **keys):
    """Sets keys of an object inside tokenizer.json."""
    def change(folder):
        value = get(folder, "tokenizer.json")
        value[name] = {**(value[name] or {}), **keys}
        put(folder, "tokenizer.json", value)
    return change


def template(*parts):
    """A post-processor of special tokens, by the first part of their names, and the text."""
    def change(folder):
        value = get(folder, "tokenizer.json")
        names = NAMES[get(folder, "config.json")["model_type"]]
        tokens = [part != "text" and names[f"{part}_token"] for part in parts]
        value["post_processor"] = {
            "type": "TemplateProcessing", "pair": [{"Sequence": {"id": i, "type_id": 0}}
                                                   for i in "AB"],
            "single": [{"SpecialToken": {"id": t, "type_id": 0}} if t else
                       {"Sequence": {"id": "A", "type_id": 0}} for t in tokens],
            "special_tokens": {t: {"id": t, "ids": [value["model"]["vocab"][t]], "tokens": [t]}
                               for t in tokens if t}}
        put(folder, "tokenizer.json", value)
    return change


def sequence(*kinds):
    """The normalizer inside a Sequence, with others."""
    def change(folder):
        value = get(folder, "tokenizer.json")
        value["normalizer"] = {"type": "Sequence", "normalizers":
                               [value["normalizer"], *({"type": kind} for kind in kinds)]}
        put(folder, "tokenizer.json", value)
    return change


def old_layout(folder):
    """The encoder's files in 0_Transformer."""
    inner = pathlib.Path(folder) / "0_Transformer"
    inner.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                 "special_tokens_map.json", "sentence_bert_config.json"):
        shutil.move(pathlib.Path(folder) / name, inner / name)
    value = get(folder, "modules.json")
    value[0]["path"] = "0_Transformer"
    put(folder, "modules.json", value)


def modules(change_list):
    """Changes the list of modules."""
    def change(folder):
        value = get(folder, "modules.json")
        put(folder, "modules.json", change_list(value) or value)
    return change


def saved(change_model=None, **options):
    """What sentence-transformers itself writes."""
    def change(folder):
        from sentence_transformers import SentenceTransformer
        model = SentenceTransformer(str(folder), device="cpu", **options)
        if change_model:
            change_model(model)
        model.save(str(folder) + ".saved")
        shutil.rmtree(folder)
        shutil.move(str(folder) + ".saved", folder)
    return change


FILE = edit("tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
CONFIG, TOKENS, MODULE = "config.json", "tokenizer_config.json", "sentence_bert_config.json"
SETTINGS, POOL, NORM = ("config_sentence_transformers.json", "1_Pooling/config.json",
                        "2_Normalize/config.json")


def tokenizer_variants():
    """Where the tokenizer's files differ from one another."""
    yield "case: tokenizer_config says cased", edit(TOKENS, do_lower_case=False)
    yield "case: tokenizer.json alone says cased", part("normalizer", lowercase=False)
    yield "case: tokenizer.json taken whole says cased", both(
        FILE, part("normalizer", lowercase=False))
    yield "case: not stated", edit(TOKENS, without=["do_lower_case"])
    yield "case: do_lower_case of the module, cased tokenizer", both(
        edit(TOKENS, do_lower_case=False), edit(MODULE, do_lower_case=True))
    yield "case: do_lower_case of the module", edit(MODULE, do_lower_case=True)
    yield "case: do_lower_case of the module, accents stripped", both(
        edit(TOKENS, do_lower_case=False, strip_accents=True), edit(MODULE, do_lower_case=True))
    yield "case: of the module, with an added token in capitals", both(
        edit(TOKENS, do_lower_case=False), edit(MODULE, do_lower_case=True),
        add_to_json("NewTok"))
    yield "accents: kept", edit(TOKENS, strip_accents=False)
    yield "accents: stripped, cased", edit(TOKENS, strip_accents=True, do_lower_case=False)
    yield "accents: tokenizer.json alone", part("normalizer", strip_accents=False)
    yield "chinese: not split", edit(TOKENS, tokenize_chinese_chars=False)
    yield "clean_text: tokenizer.json alone", part("normalizer", clean_text=False)
    yield "clean_text: tokenizer.json taken whole", both(FILE, part("normalizer", clean_text=False))
    for kind in ("BertTokenizer", "BertTokenizerFast", "MPNetTokenizer", "MPNetTokenizerFast",
                 "PreTrainedTokenizerFast", "TokenizersBackend", "DistilBertTokenizer",
                 "XLMRobertaTokenizer", "BertJapaneseTokenizer", "NoSuchTokenizer", None):
        yield f"class {kind}", edit(TOKENS, tokenizer_class=kind)
    yield "class in config.json", both(
        edit(TOKENS, without=["tokenizer_class"]), part("normalizer", lowercase=False),
        edit(CONFIG, tokenizer_class="PreTrainedTokenizerFast"))
    yield "no tokenizer_config.json", remove(TOKENS)
    yield "no special_tokens_map.json", remove("special_tokens_map.json")
    yield "neither", remove(TOKENS, "special_tokens_map.json")


def naming_variants():
    """vocab.txt, special tokens, and tokenizer.json against what the class builds."""
    yield "vocab.txt alone", vocab_txt
    yield "vocab.txt, nothing else", both(vocab_txt, remove(TOKENS, "special_tokens_map.json"))
    yield "vocab.txt, cased", both(vocab_txt, edit(TOKENS, do_lower_case=False))
    yield "vocab.txt, another separator", both(
        vocab_txt, edit(TOKENS, sep_token="end"), remove("special_tokens_map.json"))
    yield "map over config", both(edit(TOKENS, sep_token="end"))
    yield "map: another first token", edit("special_tokens_map.json", cls_token="hello")
    yield "map: an object", edit("special_tokens_map.json", mask_token={
        "content": "fox", "single_word": True, "lstrip": True, "rstrip": False,
        "normalized": False})
    yield "map: additional tokens", edit("special_tokens_map.json",
                                         additional_special_tokens=["fox", "new"])
    yield "config: additional tokens", edit(TOKENS, additional_special_tokens=["fox", "new"])
    yield "config: a token of its own", edit(TOKENS, fox_token="fox")
    yield "config: another unknown token", both(
        edit(TOKENS, unk_token="unk"), remove("special_tokens_map.json"))
    yield "config: no mask", both(
        edit(TOKENS, mask_token=None), remove("special_tokens_map.json"))
    yield "unknown token of tokenizer.json alone", part("model", unk_token="unk")
    yield "unknown token of tokenizer.json, taken whole", both(FILE, part("model", unk_token="unk"))
    yield "characters a word, alone", part("model", max_input_chars_per_word=4)
    yield "characters a word, taken whole", both(FILE, part("model", max_input_chars_per_word=4))
    yield "prefix, alone", part("model", continuing_subword_prefix="")
    yield "prefix, taken whole", both(FILE, part("model", continuing_subword_prefix=""))


def json_variants():
    """Parts of tokenizer.json, which count where it is taken whole."""
    yield "sequence of one", sequence()
    yield "sequence of one, taken whole", both(FILE, sequence())
    yield "sequence of two", sequence("Lowercase")
    yield "sequence of two, taken whole", both(FILE, sequence("NFC"))
    yield "another normalizer", lambda d: put(d, "tokenizer.json", {
        **get(d, "tokenizer.json"), "normalizer": {"type": "NFC"}})
    yield "no normalizer, taken whole", both(FILE, lambda d: put(d, "tokenizer.json", {
        **get(d, "tokenizer.json"), "normalizer": None}))
    yield "another pre-tokenizer", lambda d: put(d, "tokenizer.json", {
        **get(d, "tokenizer.json"), "pre_tokenizer": {"type": "WhitespaceSplit"}})
    yield "post-processor alone", part("post_processor", sep=["end", 60])
    yield "post-processor, taken whole", both(FILE, part("post_processor", sep=["end", 60]))
    for parts in ("cls mask text sep", "text sep sep", "cls text", "text"):
        yield f"template: {parts}", both(FILE, template(*parts.split()))
    yield "truncation and padding", lambda d: put(d, "tokenizer.json", {
        **get(d, "tokenizer.json"),
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst",
                       "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": 8,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}})
    yield "truncation on the left", lambda d: put(d, "tokenizer.json", {
        **get(d, "tokenizer.json"), "truncation": {"direction": "Left", "max_length": 4,
                                                   "strategy": "LongestFirst", "stride": 0}})
    yield "padding on the left", lambda d: put(d, "tokenizer.json", {
        **get(d, "tokenizer.json"),
        "padding": {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}})


def added_variants():
    """Added tokens in all their places."""
    yield "added: tokenizer.json", add_to_json("<one>", "<two>")
    yield "added: tokenizer.json, special", add_to_json("<one>", special=True, normalized=False)
    yield "added: tokenizer.json, whole words", add_to_json("newtok", single_word=True)
    yield "added: tokenizer.json, in capitals", add_to_json("NewTok")
    yield "added: tokenizer.json, taken whole", both(FILE, add_to_json("<one>", "NewTok"))
    yield "added: 65", add_to_json(*(f"<dom{i}>" for i in range(65)), special=True,
                                   normalized=False)
    yield "added: 2000", add_to_json(*(f"<dom{i}>" for i in range(2000)))
    yield "added: decoder", decoder("<one>", "newtok")
    yield "added: decoder, taken whole", both(FILE, decoder("<one>", "newtok"))
    yield "added: decoder, not normalised", decoder("<one>", "NewTok", normalized=False)
    yield "added: decoder with a gap", both(decoder("<one>", "<two>", start=3), grow(5))
    yield "added: decoder over tokenizer.json", both(add_to_json("<two>"), decoder("<one>"))
    yield "added: decoder and a map", both(
        decoder("<one>"), edit("special_tokens_map.json", cls_token="hello"))
    yield "added: decoder of words", lambda d: edit(TOKENS, added_tokens_decoder={
        "60": {"content": "fox", "lstrip": False, "rstrip": False, "normalized": False,
               "single_word": False, "special": False}})(d)
    yield "added: decoder, vocab.txt", both(vocab_txt, decoder("<one>", "newtok"))
    yield "added: file", added_file(newtok2=0)
    yield "added: file, vocab.txt", both(vocab_txt, added_file(**{"<one>": 0, "<two>": 1}))
    yield "added: file against tokenizer.json", both(add_to_json("<one>"), lambda d: put(
        d, "added_tokens.json", {"<two>": len(vocabulary(get(d, CONFIG)["model_type"]))}))
    yield "added: file, of a special name", both(
        vocab_txt, added_file(**{"<one>": 0}), edit("special_tokens_map.json", sep_token="<one>"))
    yield "added: an extra token with a row", both(
        edit(TOKENS, extra_special_tokens=["<one>"]), grow(1))
    yield "added: an extra token without a row", edit(TOKENS, extra_special_tokens=["<one>"])
    yield "added: a named token without a row", both(
        edit(TOKENS, mask_token="<one>"), remove("special_tokens_map.json"))


def module_variants():
    """The files of sentence-transformers."""
    yield "length: none", replace(MODULE, {})
    yield "length: no file", remove(MODULE)
    yield "length: null", edit(MODULE, max_seq_length=None)
    yield "length: of the tokenizer", both(replace(MODULE, {}), edit(TOKENS, model_max_length=9))
    yield "length: max_len", both(replace(MODULE, {}), edit(
        TOKENS, without=["model_max_length"], max_len=9))
    yield "length: processing_kwargs", edit(MODULE, processing_kwargs={
        "text": {"max_length": 9, "truncation": True}})
    yield "length: processing_kwargs, common", edit(MODULE, processing_kwargs={
        "common": {"max_length": 7}, "text": {"max_length": 9}})
    yield "length: no truncation", edit(MODULE, processing_kwargs={"text": {"truncation": False}})
    yield "length: tokenizer_args", edit(MODULE, tokenizer_args={"model_max_length": 9})
    yield "length: processor_kwargs", edit(MODULE, processor_kwargs={"model_max_length": 9})
    yield "length: query_length", edit(MODULE, query_length=9)
    yield "length: document_length", edit(MODULE, document_length=9)
    yield "length: another file", both(remove(MODULE), replace(
        "sentence_roberta_config.json", {"max_seq_length": 8}))
    yield "length: another file beside an empty one", both(replace(MODULE, {}), replace(
        "sentence_xlnet_config.json", {"max_seq_length": 8}))
    yield "side: left", edit(TOKENS, truncation_side="left")
    yield "inputs: as usual", edit(TOKENS, model_input_names=["input_ids", "attention_mask"])
    yield "inputs: no mask", edit(TOKENS, model_input_names=["input_ids"])
    yield "padding: left", edit(TOKENS, padding_side="left")
    yield "tokenizer_args: cased", edit(MODULE, tokenizer_args={"do_lower_case": False})
    yield "config_args: fewer layers", edit(MODULE, config_args={"num_hidden_layers": 1})
    yield "model_args", edit(MODULE, model_args={"attn_implementation": "eager"})
    yield "special tokens off", edit(MODULE, processing_kwargs={
        "text": {"add_special_tokens": False}})
    yield "modality_config", edit(MODULE, module_output_name="token_embeddings", modality_config={
        "text": {"method": "forward", "method_output_name": "last_hidden_state"}})
    yield "modality_config: pooler", edit(MODULE, module_output_name="token_embeddings",
                                          modality_config={"text": {
                                              "method": "forward", "method_output_name":
                                              ["hidden_states", 1]}})
    yield "modality_config: another name", edit(
        MODULE, module_output_name="sentence_embedding", modality_config={
            "text": {"method": "forward", "method_output_name": "pooler_output"}})
    yield "unknown key of the module", edit(MODULE, nova=1)


def pooling_variants():
    """The folders of the modules behind the encoder, and the list of modules."""
    for mode in ("cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken",
                 ["cls"], ["mean", "max"], [], "nova", None):
        yield f"pooling_mode {mode}", replace(POOL, {"embedding_dimension": 32,
                                                     "pooling_mode": mode})
    for mode in ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens",
                 "weightedmean_tokens", "lasttoken"):
        yield f"pooling: {mode} alone", replace(POOL, {"word_embedding_dimension": 32,
                                                       f"pooling_mode_{mode}": True})
    yield "pooling: none on", edit(POOL, pooling_mode_mean_tokens=False)
    yield "pooling: no key", replace(POOL, {"word_embedding_dimension": 32})
    yield "pooling: old and new", edit(POOL, pooling_mode="cls")
    yield "pooling: two", edit(POOL, pooling_mode_cls_token=True)
    yield "pooling: unknown key", edit(POOL, nova=True)
    yield "pooling: another width", edit(POOL, word_embedding_dimension=16)
    yield "pooling: include_prompt", both(edit(POOL, include_prompt=False), edit(
        SETTINGS, prompts={"q": "the fox "}, default_prompt_name="q"))
    yield "normalize: input", replace(NORM, {"module_input_name": "token_embeddings"})
    yield "normalize: output", replace(NORM, {"module_output_name": "other"})
    yield "normalize: both as usual", replace(NORM, {"module_input_name": "sentence_embedding",
                                                     "module_output_name": None, "nova": 1})
    yield "modules: two", modules(lambda m: m[:2])
    yield "modules: new names", modules(lambda m: [
        {**m[0], "type": ST + "base.modules.Transformer"},
        {**m[1], "type": ST + "sentence_transformer.modules.Pooling"},
        {**m[2], "type": ST + "base.modules.Normalize"}])
    yield "modules: same names", modules(lambda m: [{**one, "name": "x"} for one in m])
    yield "modules: order", modules(lambda m: [m[0], m[2], m[1]])
    yield "modules: normalised twice", modules(lambda m: m + [{**m[2], "name": "3"}])
    yield "modules: numbers", modules(lambda m: [{**one, "idx": 9 - one["idx"], "kwargs": ["task"]}
                                                 for one in m])
    yield "modules: unknown key", modules(lambda m: [{**one, "nova": 1} for one in m])
    yield "modules: none", remove("modules.json")
    yield "modules: none, with all else", both(remove("modules.json"), edit(
        SETTINGS, truncate_dim=5, prompts={"q": "fox "}, default_prompt_name="q"))
    yield "old layout", old_layout


def settings_variants():
    """config_sentence_transformers.json."""
    yield "prompts: default", edit(SETTINGS, prompts={"q": "the fox: "}, default_prompt_name="q")
    yield "prompts: null", edit(SETTINGS, prompts={"query": None, "a": "fox "},
                                default_prompt_name="query")
    yield "prompts: 17", edit(SETTINGS, prompts={f"p{i}": f"fox {i} " for i in range(17)},
                              default_prompt_name="p16")
    yield "prompts: 20000", edit(SETTINGS, prompts={f"p{i}": "fox " * 9 for i in range(20000)},
                                 default_prompt_name="p19999")
    yield "prompts: query by default", edit(SETTINGS, prompts={}, default_prompt_name="query")
    yield "prompts: an unknown default", edit(SETTINGS, prompts={}, default_prompt_name="nova")
    yield "prompts: a list", edit(SETTINGS, prompts=[])
    for dim in (16, 1, 32, 99, 0, None, -4, 2.5, "7"):
        yield f"truncate_dim {dim}", edit(SETTINGS, truncate_dim=dim)
    for name in ("dot", "dot_score", "maxsim", "euclidean", 3, None):
        yield f"similarity {name}", edit(SETTINGS, similarity_fn_name=name)
    yield "model_type", edit(SETTINGS, model_type="SentenceTransformer")
    yield "model_type: sparse", edit(SETTINGS, model_type="SparseEncoder")
    yield "requirements", edit(SETTINGS, requirements={"transformers": ">=4"})
    yield "unknown key of the settings", edit(SETTINGS, nova=[1])
    yield "saved again", saved()
    yield "saved with truncate_dim and prompts", saved(
        truncate_dim=16, prompts={"q": "the fox "}, default_prompt_name="q")
    yield "saved with another length", saved(lambda m: setattr(m, "max_seq_length", 8))


def weight_variants():
    """Weights that overflow, and names."""
    def scale(key, factor):
        return weights(lambda t: t.update({k: v * numpy.float32(factor) for k, v in t.items()
                                           if re.search(key, k)}))
    yield "overflow: words", scale("word_embeddings", 1e25)
    yield "overflow: attention", scale(r"\.(query|q)\.weight", 1e22)
    yield "overflow: values", scale(r"\.(value|v)\.weight", 1e37)
    yield "overflow: feed-forward", scale(r"intermediate\.dense\.weight", 1e25)
    yield "overflow: gain", scale(r"output\.LayerNorm\.weight|attention\.LayerNorm\.weight", 1e30)
    yield "prefix: bert. and mpnet.", lambda d: weights(lambda t: [
        t.update({f"{get(d, CONFIG)['model_type']}.{k}": t.pop(k)}) for k in list(t)])(d)
    yield "prefix: unknown", weights(lambda t: [t.update({"x." + k: t.pop(k)}) for k in list(t)])
    yield "gamma and beta", weights(lambda t: [
        t.update({k.replace("LayerNorm.weight", "LayerNorm.gamma")
                  .replace("LayerNorm.bias", "LayerNorm.beta"): t.pop(k)}) for k in list(t)])


def config_variants():
    """Values of config.json that mean something."""
    for name in ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python", "relu",
                 "silu", "tanh", "nova"):
        yield f"hidden_act {name}", edit(CONFIG, hidden_act=name)
    for eps in (1e-5, 1e-2, 0.0, 1.0):
        yield f"layer_norm_eps {eps}", edit(CONFIG, layer_norm_eps=eps)
    yield "is_decoder", edit(CONFIG, is_decoder=True)
    yield "fewer layers", edit(CONFIG, num_hidden_layers=1)
    yield "other heads", edit(CONFIG, num_attention_heads=2)
    yield "position_embedding_type", edit(CONFIG, position_embedding_type="relative_key")
    yield "pad_token_id 0", edit(CONFIG, pad_token_id=0)
    yield "pad_token_id null", edit(CONFIG, pad_token_id=None)
    yield "pad_token_id 3", edit(CONFIG, pad_token_id=3)
    yield "dtype float16", edit(CONFIG, dtype="float16")
    yield "auto_map", edit(CONFIG, auto_map={"AutoModel": "modeling.Model"})
    yield "model_type roberta", edit(CONFIG, model_type="roberta")
    yield "unknown key of config.json", edit(CONFIG, nova={"a": [1]})
    yield "adapter", replace("adapter_config.json", {"peft_type": "LORA"})


def all_variants():
    """Name and change of every variant."""
    yield "as it is", lambda folder: None
    for group in (tokenizer_variants, naming_variants, json_variants, added_variants,
                  module_variants, pooling_variants, settings_variants, weight_variants,
                  config_variants):
        yield from group()
