#!/usr/bin/env python3
"""Writes a sentence-transformers directory of any BERT or MPNet shape with random weights.

    tools/make_random_model.py OUT --preset bert-base --dtype BF16 --tokenizer build/models/all-...
    tools/make_random_model.py --tiny     # rewrites tests/data/tiny-bert and tests/data/tiny-mpnet

Without --tokenizer the vocabulary is made from tools/tiny_vocabulary.txt, characters and affixes,
and filled up with unused entries. The same arguments give the same bytes. Standard library alone.

SPDX-License-Identifier: Apache-2.0"""
import argparse
import array
import json
import os
import random
import shutil
import statistics
import struct
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PRESETS = {
    "minilm-l6": {"layers": 6, "hidden": 384, "heads": 12, "intermediate": 1536, "vocab": 30522},
    "bert-base": {"layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "vocab": 30522},
    "mpnet-base": {"architecture": "mpnet", "layers": 12, "hidden": 768, "heads": 12,
                   "intermediate": 3072, "vocab": 30527, "positions": 514},
}
AFFIXES = ("s ed ing er est ly ness ment tion able less ful ism ist ity al ic ous ive ize en es th "
           "ation ings ers um us ine ogen osis itis ology gram graph ward wise").split()
OTHER_CHARACTERS = ("ßæøđħıłþðœαβγδεθλμπσωабвгдеиклмнопрстабוםשاלمन가한"
                    "中文日本人山水大小語東京あいうのはかな")
ENTRY_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


# ---- vocabulary and tokenizer ------------------------------------------------------------------

def vocabulary_words(cased):
    with open(os.path.join(ROOT, "tools", "tiny_vocabulary.txt"), encoding="utf-8") as file:
        words = file.read().split()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    if cased:
        letters += "ABCDEFGHIJKLMNOPQRSTUVWXYZäöüéèñçÄÖÜÉ"
        words += [word.capitalize() for word in words[::3]]
    punctuation = "".join(chr(code) for code in range(33, 127) if not chr(code).isalnum())
    entries = list(punctuation + "£§°«»–—’“”…€™" + letters + OTHER_CHARACTERS)
    entries += ["##" + letter for letter in letters + OTHER_CHARACTERS]
    entries += words + ["##" + affix for affix in AFFIXES]
    return list(dict.fromkeys(entries))


def make_vocabulary(architecture, size, cased):
    """Gives (entries in id order, special names); the specials stand where the real models' do."""
    if architecture == "bert":
        first, last = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], []
    else:
        first, last = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]"], ["<mask>"]
    entries = first + vocabulary_words(cased)
    if size < len(entries) + len(last):
        raise SystemExit(f"make_random_model: --vocab {size} is too small; "
                         f"at least {len(entries) + len(last)} without --tokenizer")
    entries += [f"[unused{n}]" for n in range(size - len(entries) - len(last))]
    return entries + last


def added_token(content, number, lstrip=False, normalized=False):
    return {"id": number, "content": content, "single_word": False, "lstrip": lstrip,
            "rstrip": False, "normalized": normalized, "special": True}


def bert_parts(ids):
    added = [added_token(name, ids[name])
             for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    cls, sep = {"id": "[CLS]", "type_id": 0}, {"id": "[SEP]", "type_id": 0}
    pair_sep = {"id": "[SEP]", "type_id": 1}
    single = [{"SpecialToken": cls}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": sep}]
    pair = single + [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": pair_sep}]
    tokens = {name: {"id": name, "ids": [ids[name]], "tokens": [name]}
              for name in ("[CLS]", "[SEP]")}
    post = {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}
    return added, post, None, None


def mpnet_parts(ids):
    """As the released MPNet file: <unk> is an added token, truncation and padding are on."""
    added = [added_token("<s>", 0), added_token("<pad>", 1), added_token("</s>", 2),
             added_token("<unk>", 3, normalized=True), added_token("[UNK]", ids["[UNK]"]),
             added_token("<mask>", ids["<mask>"], lstrip=True)]
    post = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
            "trim_offsets": True, "add_prefix_space": False}
    truncation = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
    padding = {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": None,
               "pad_id": 1, "pad_type_id": 0, "pad_token": "<pad>"}
    return added, post, truncation, padding


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.write("\n")


def write_tokenizer(folder, options):
    entries = make_vocabulary(options.architecture, options.vocab, options.cased)
    ids = {entry: number for number, entry in enumerate(entries)}
    parts = bert_parts if options.architecture == "bert" else mpnet_parts
    added, post, truncation, padding = parts(ids)
    write_json(os.path.join(folder, "tokenizer.json"), {
        "version": "1.0", "truncation": truncation, "padding": padding, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": not options.cased},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": post,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": ids}})
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as file:
        file.writelines(entry + "\n" for entry in entries)
    bert = options.architecture == "bert"
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]" if bert else "<s>",
             "sep_token": "[SEP]" if bert else "</s>", "pad_token": "[PAD]" if bert else "<pad>",
             "mask_token": "[MASK]" if bert else "<mask>"}
    write_json(os.path.join(folder, "special_tokens_map.json"), names)
    write_json(os.path.join(folder, "tokenizer_config.json"), {
        "do_lower_case": not options.cased, "tokenize_chinese_chars": True, "strip_accents": None,
        "model_max_length": options.positions - (0 if bert else 2),
        "tokenizer_class": "BertTokenizer" if bert else "MPNetTokenizer", **names})


def copy_tokenizer(folder, source):
    for name in ("tokenizer.json", "vocab.txt", "special_tokens_map.json", "tokenizer_config.json"):
        if os.path.exists(os.path.join(source, name)):
            shutil.copyfile(os.path.join(source, name), os.path.join(folder, name))
    with open(os.path.join(source, "tokenizer.json"), encoding="utf-8") as file:
        return 1 + max(json.load(file)["model"]["vocab"].values())


# ---- configuration -----------------------------------------------------------------------------

def write_configs(folder, options):
    bert = options.architecture == "bert"
    config = {"architectures": ["BertModel" if bert else "MPNetModel"],
              "model_type": options.architecture, "hidden_act": "gelu",
              "hidden_size": options.hidden, "intermediate_size": options.intermediate,
              "num_attention_heads": options.heads, "num_hidden_layers": options.layers,
              "max_position_embeddings": options.positions, "vocab_size": options.vocab,
              "layer_norm_eps": 1e-12 if bert else 1e-05, "attention_probs_dropout_prob": 0.1,
              "hidden_dropout_prob": 0.1, "initializer_range": 0.02}
    if bert:
        config.update({"pad_token_id": 0, "type_vocab_size": 2,
                       "position_embedding_type": "absolute"})
    else:
        config.update({"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
                       "relative_attention_num_buckets": 32})
    write_json(os.path.join(folder, "config.json"), config)
    write_json(os.path.join(folder, "sentence_bert_config.json"),
               {"max_seq_length": options.max_seq_length, "do_lower_case": False})
    write_json(os.path.join(folder, "config_sentence_transformers.json"),
               {"__version__": {"sentence_transformers": "2.0.0"}})
    kind = "sentence_transformers.models."
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules += [("2_Normalize", "Normalize")] if options.normalize else []
    write_json(os.path.join(folder, "modules.json"),
               [{"idx": index, "name": str(index), "path": path, "type": kind + name}
                for index, (path, name) in enumerate(modules)])
    os.makedirs(os.path.join(folder, "1_Pooling"), exist_ok=True)
    write_json(os.path.join(folder, "1_Pooling", "config.json"), {
        "word_embedding_dimension": options.hidden,
        "pooling_mode_cls_token": options.pooling == "cls",
        "pooling_mode_mean_tokens": options.pooling == "mean",
        "pooling_mode_max_tokens": options.pooling == "max",
        "pooling_mode_mean_sqrt_len_tokens": False})


# ---- weights -----------------------------------------------------------------------------------

def norm_tensors(name, hidden):
    return [(f"{name}.weight", [hidden], 1.0, 0.1), (f"{name}.bias", [hidden], 0.0, 0.1)]


def linear_tensors(name, rows, cols):
    return [(f"{name}.weight", [rows, cols], 0.0, cols ** -0.5), (f"{name}.bias", [rows], 0.0, 0.1)]


def list_tensors(options):
    """Gives (name, shape, mean, deviation) in file order, with the names that Hugging Face uses."""
    hidden, wide, bert = options.hidden, options.intermediate, options.architecture == "bert"
    tensors = [("embeddings.word_embeddings.weight", [options.vocab, hidden], 0.0, 1.0),
               ("embeddings.position_embeddings.weight", [options.positions, hidden], 0.0, 0.5)]
    if bert:
        tensors += [("embeddings.token_type_embeddings.weight", [2, hidden], 0.0, 0.3)]
    else:
        tensors += [("encoder.relative_attention_bias.weight", [32, options.heads], 0.0, 1.0)]
    tensors += norm_tensors("embeddings.LayerNorm", hidden)
    names = {True: ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm"),
             False: ("attn.q", "attn.k", "attn.v", "attn.o", "LayerNorm")}[bert]
    for layer in range(options.layers):
        place = f"encoder.layer.{layer}"
        for name in names[:4]:
            tensors += linear_tensors(f"{place}.attention.{name}", hidden, hidden)
        tensors += norm_tensors(f"{place}.attention.{names[4]}", hidden)
        tensors += linear_tensors(f"{place}.intermediate.dense", wide, hidden)
        tensors += linear_tensors(f"{place}.output.dense", hidden, wide)
        tensors += norm_tensors(f"{place}.output.LayerNorm", hidden)
    return tensors


def encode_values(values, dtype):
    """Gives floats as one array of the dtype's own entries."""
    floats = array.array("f", values)
    if dtype == "F32":
        return floats
    if dtype == "F16":
        return array.array("H", struct.pack(f"<{len(floats)}e", *floats))
    words = array.array("I", floats.tobytes())
    return array.array("H", ((word + 0x7FFF + ((word >> 16) & 1)) >> 16 for word in words))


class Drawer:
    """Draws normal values fast: 16 random bits choose one of 65,536 quantiles."""

    def __init__(self, seed, dtype):
        self.random = random.Random(seed)
        self.dtype = dtype
        normal = statistics.NormalDist()
        self.quantiles = [normal.inv_cdf((n + 0.5) / 65536) for n in range(65536)]
        self.tables = {}

    def draw(self, count, mean, deviation):
        table = self.tables.get((mean, deviation))
        if table is None:
            table = encode_values((mean + deviation * x for x in self.quantiles), self.dtype)
            self.tables[(mean, deviation)] = table
        picks = array.array("H", self.random.randbytes(2 * count))
        return array.array(table.typecode, map(table.__getitem__, picks)).tobytes()


def write_shard(path, tensors, options, drawer):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _, _ in tensors:
        end = offset + ENTRY_BYTES[options.dtype] * count_of(shape)
        header[name] = {"dtype": options.dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    positions = None
    if tensors[0][0] == "embeddings.word_embeddings.weight":
        # exporters of that time store this index too: readers must pass over it
        positions = struct.pack(f"<{options.positions}q", *range(options.positions))
        header["embeddings.position_ids"] = {"dtype": "I64", "shape": [1, options.positions],
                                             "data_offsets": [offset, offset + len(positions)]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for _, shape, mean, deviation in tensors:
            file.write(drawer.draw(count_of(shape), mean, deviation))
        file.write(positions or b"")


def count_of(shape):
    count = 1
    for dim in shape:
        count *= dim
    return count


def write_weights(folder, options):
    tensors, drawer = list_tensors(options), Drawer(options.seed, options.dtype)
    if options.shards == 1:
        write_shard(os.path.join(folder, "model.safetensors"), tensors, options, drawer)
        return
    each = -(-len(tensors) // options.shards)
    names = {}
    for shard in range(options.shards):
        file_name = f"model-{shard + 1:05d}-of-{options.shards:05d}.safetensors"
        part = tensors[shard * each:(shard + 1) * each]
        write_shard(os.path.join(folder, file_name), part, options, drawer)
        names.update({name: file_name for name, _, _, _ in part})
        if shard == 0:
            names["embeddings.position_ids"] = file_name
    total = sum(ENTRY_BYTES[options.dtype] * count_of(shape) for _, shape, _, _ in tensors)
    write_json(os.path.join(folder, "model.safetensors.index.json"),
               {"metadata": {"total_size": total + 8 * options.positions}, "weight_map": names})


def make(folder, options):
    os.makedirs(folder, exist_ok=True)
    if options.tokenizer:
        options.vocab = max(options.vocab or 0, copy_tokenizer(folder, options.tokenizer))
    else:
        write_tokenizer(folder, options)
    write_configs(folder, options)
    write_weights(folder, options)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", help="directory to write")
    parser.add_argument("--tiny", action="store_true", help="write the two committed models")
    parser.add_argument("--preset", choices=PRESETS, help="shape to start from")
    parser.add_argument("--architecture", choices=("bert", "mpnet"), default="bert")
    for name, value in (("layers", 2), ("hidden", 32), ("heads", 2), ("intermediate", 64),
                        ("vocab", 1000), ("positions", 512), ("max-seq-length", None)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dtype", choices=ENTRY_BYTES, default="F32")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--pooling", choices=("mean", "cls", "max"), default="mean")
    parser.add_argument("--no-normalize", dest="normalize", action="store_false")
    parser.add_argument("--cased", action="store_true")
    parser.add_argument("--tokenizer", metavar="DIR", help="copy this model's tokenizer")
    parser.add_argument("--seed", type=int, default=1)
    first, _ = parser.parse_known_args(arguments)
    if first.preset:
        parser.set_defaults(**PRESETS[first.preset])
    options = parser.parse_args(arguments)
    if options.max_seq_length is None:
        options.max_seq_length = options.positions - (2 if options.architecture == "mpnet" else 0)
    if options.hidden % options.heads:
        parser.error(f"--hidden {options.hidden} is not a multiple of --heads {options.heads}")
    if not options.out and not options.tiny:
        parser.error("OUT or --tiny is needed")
    return options


def main():
    if sys.byteorder != "little":
        raise SystemExit("make_random_model: this tool needs a little-endian machine")
    options = parse(sys.argv[1:])
    if not options.tiny:
        make(options.out, options)
        return
    data = os.path.join(ROOT, "tests", "data")
    make(os.path.join(data, "tiny-bert"),
         parse("x --hidden 32 --heads 2 --intermediate 64 --positions 128 --max-seq-length 64 "
               "--seed 11".split()))
    make(os.path.join(data, "tiny-mpnet"),
         parse("x --architecture mpnet --hidden 48 --heads 3 --intermediate 96 --positions 128 "
               "--dtype F16 --seed 12".split()))


if __name__ == "__main__":
    main()
