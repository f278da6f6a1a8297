#!/usr/bin/env python3
"""Model directories with one thing changed, beside sentence-transformers: for each the same vectors
(cosine 0.99999, same length and shape, same rows not finite), or a refusal; never silently others.

Two families of tiny models; first the variants of variants.py, then every key of every file that
docs/model_files.md lists, with a value that the reference takes. Needs build/venv-oracle
(tools/oracle_env.sh), no real weights. Arguments take the variants whose names hold one of them.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import re
import shutil
import sys
import tempfile
import warnings

import real  # pylint: disable=unused-import  # the paths of what follows
import reference
from support import program

COSINE_MIN = 0.99999
DOCUMENT = program.ROOT / "docs" / "model_files.md"
OTHERS = (True, 7, "other", ["other"], {"a": 1}, 0.25, False, None)


def reference_vectors(folder, texts):
    """What sentence-transformers gives, or its words of refusal."""
    import numpy
    from sentence_transformers import SentenceTransformer
    try:
        model = SentenceTransformer(str(folder), device="cpu")
        return numpy.asarray(model.encode(texts, show_progress_bar=False), dtype=float)
    except Exception as error:  # pylint: disable=broad-except  # whatever it is, it refuses
        return f"{type(error).__name__}: {str(error)[:80]}"


def our_vectors(folder, source):
    """What the program gives, or its words of refusal."""
    import numpy
    out = source.with_name("out.npy")
    out.unlink(missing_ok=True)
    done = program.run("encode", folder, "-i", source, "-o", out, "--quiet", "--long", "truncate",
                       "--dtype", "f32")
    if done.returncode in (0, 65) and out.exists():
        return numpy.load(out).astype(float)
    return done.stderr.strip().removeprefix("embound: ").replace(str(folder) + "/", "")


def verdict(wanted, found):
    """A word and whether it is no silent difference."""
    import numpy
    if isinstance(found, str):
        named = re.search(r"\.json|\.safetensors|vocab\.txt", found)
        return f"refused: {found[:150]}", bool(named)
    if isinstance(wanted, str):
        return f"only here; the reference: {wanted}", True
    if wanted.shape != found.shape:
        return f"SHAPE {wanted.shape} against {found.shape}", False
    bad = ~numpy.isfinite(wanted).all(axis=1)
    if (bad != ~numpy.isfinite(found).all(axis=1)).any():
        return f"NOT FINITE rows {bad.sum()} against another {(bad).tolist()}", False
    wanted, found = wanted[~bad], found[~bad]
    lengths = numpy.linalg.norm(wanted, axis=1), numpy.linalg.norm(found, axis=1)
    cosines = (wanted * found).sum(axis=1) / numpy.maximum(lengths[0] * lengths[1], 1e-30)
    ratio = numpy.abs(lengths[1] / numpy.maximum(lengths[0], 1e-30) - 1).max(initial=0)
    least = cosines.min(initial=1)
    word = f"cosine {least:.6f}, {bad.sum()} rows not finite"
    return word, bool(least >= COSINE_MIN and ratio < 1e-3)


def reference_keys(scratch):
    """Keys by file: what the reference's configuration classes have, what its modules take, what
    its tokenizers take and write."""
    import dataclasses
    import inspect
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertTokenizer, MPNetConfig, MPNetTokenizer

    def parameters(function):
        names = inspect.signature(function).parameters
        return {name for name in names if name not in ("self", "args", "kwargs", "vocab")}
    keys = {name: set() for name in (
        "config.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json",
        "modules.json", "config_sentence_transformers.json")}
    for kind in (BertConfig, MPNetConfig):
        keys["config.json"] |= set(kind().to_dict())
        keys["config.json"] |= {field.name for field in dataclasses.fields(kind)}
    keys["sentence_bert_config.json"] = (parameters(Transformer.__init__) | set(
        Transformer.config_keys)) - {"model_name_or_path"}
    keys["1_Pooling/config.json"] = parameters(Pooling.__init__) | set(Pooling.config_keys)
    keys["2_Normalize/config.json"] = set(Normalize.config_keys)
    for kind in (BertTokenizer, MPNetTokenizer):
        keys["tokenizer_config.json"] |= parameters(kind.__init__)
    for family in ("bert", "mpnet"):
        folder = scratch / f"{family}.saved"
        model = SentenceTransformer(str(scratch / family), device="cpu", truncate_dim=8)
        model.save(str(folder))
        for name in keys:
            path = folder / name
            content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            keys[name] |= set(content if isinstance(content, dict) else content[0])
    return keys


def listed_keys(everything=False):
    """(file, key, rule) of docs/model_files.md, of files that hold one object."""
    name = None
    for line in DOCUMENT.read_text(encoding="utf-8").split("\n"):
        if line.startswith("### "):
            name = line[4:]
        key = re.match(r"\| `([^`*]+)` \| ([^|]+) \|", line)
        skipped = name in ("modules.json", "model.safetensors.index.json", None) or (
            key and "holds keys" in key[2])
        if key and (everything or not skipped):
            yield name, key[1], key[2].strip()


def with_key(folder, name, key, value):
    """Sets a key; "a.b" lies inside "a", whose other keys stay."""
    import variants
    content = variants.get(folder, name)
    inner = content
    *path, last = key.split(".")
    for part in path:
        if not isinstance(inner.get(part), dict):
            inner[part] = {}
        inner = inner[part]
    if last in inner and inner[last] == value:
        return False
    inner[last] = value
    variants.put(folder, name, content)
    return True


class Suite:
    """The models, the texts, and what came out."""

    def __init__(self, tally, scratch):
        import variants
        self.tally, self.scratch, self.texts = tally, scratch, variants.TEXTS
        self.counts = {}
        self.source = scratch / "texts.jsonl"
        self.source.write_text("".join(json.dumps({"text": t}) + "\n" for t in self.texts))
        for family in ("bert", "mpnet"):
            variants.make_base(scratch / family, family)

    def copy(self, family):
        """A fresh copy of a base model."""
        folder = self.scratch / "variant"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.scratch / family, folder)
        return folder

    def report(self, name, wanted, found):
        """Prints and counts one variant."""
        word, good = verdict(wanted, found)
        kind = "refused" if isinstance(found, str) else "only here" if isinstance(wanted, str) \
            else "same" if good else "SILENT"
        self.counts[kind] = self.counts.get(kind, 0) + 1
        print(f"{name:58} {word}", flush=True)
        self.tally.expect(good, f"{name}: {word}")

    def named(self, only):
        """The variants of variants.py."""
        import variants
        for name, change in variants.all_variants():
            for family in ("bert", "mpnet"):
                if only and not any(part in f"{family}: {name}" for part in only):
                    continue
                folder = self.copy(family)
                change(folder)
                self.report(f"{family}: {name}", reference_vectors(folder, self.texts),
                            our_vectors(folder, self.source))

    def keys(self, only):
        """Every key listed, with the first value that the reference takes."""
        for index, (name, key, rule) in enumerate(listed_keys()):
            family = ("bert", "mpnet")[index % 2]
            if only and not any(part in f"{name}: {key}" for part in only):
                continue
            for value in OTHERS:
                folder = self.copy(family)
                if not with_key(folder, name, key, value):
                    continue
                wanted = reference_vectors(folder, self.texts)
                if not isinstance(wanted, str):
                    break
            self.report(f"{family}: {name}: {key} = {json.dumps(value)} ({rule[:8]})", wanted,
                        our_vectors(folder, self.source))


    def nothing_is_missing(self):
        """Every key that the reference's classes take or write stands in the document."""
        known = {}
        for name, key, _ in listed_keys(everything=True):
            known.setdefault(name, set()).add(key)
        for name, keys in reference_keys(self.scratch).items():
            missing = sorted(key for key in keys if key not in known[name]
                             and not (key.endswith("_token") and "token" in name))
            self.tally.expect(not missing, f"{name}: not in {DOCUMENT.name}: {missing}")


def main():
    """Compares every variant."""
    reference.enter_oracle_env()
    tally = program.Tally()
    warnings.filterwarnings("ignore")
    import transformers
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    import torch
    torch.set_num_threads(1)
    only = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="embound-variants-") as scratch:
        suite = Suite(tally, pathlib.Path(scratch))
        suite.named(only)
        suite.keys(only)
        suite.nothing_is_missing()
        print(", ".join(f"{count} {kind}" for kind, count in sorted(suite.counts.items())))
    tally.end()


if __name__ == "__main__":
    main()
