#!/usr/bin/env python3
"""train --lora: over models of every dtype, the same bits for any number of threads and after a
resume; the adapters' directory as PEFT has it; what is refused.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import struct
import tempfile

from common import BERT, MPNET, expect_exit, leftovers, program, read_jsonl, ready, run
from test_train import groups, pairs, weights, write

BASE = ("--batch-size", 8, "--learning-rate", "1e-2", "--lora", 4)


def read_tensors(path):
    """{name: (shape, bytes)} and the dtypes of a safetensors file."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    found = {}
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        found[name] = (tensor["shape"], data[8 + length + begin:8 + length + end])
    return found, {tensor["dtype"] for tensor in header.values()}


def check_dtypes(tally, folder, source):
    """Over f32, f16 and quantized models it learns, in fewer bytes than training all takes."""
    rated = write(folder / "pairs.csv", pairs(60), ["score", "sentence1", "sentence2"])
    for model in [BERT, MPNET]:
        bases = [model]
        for dtype in ["int8", "int4", "fp8"]:
            bases.append(folder / f"{model.name}-{dtype}")
            expect_exit(tally, run("quantize", model, "-o", bases[-1], "--dtype", dtype), 0)
        whole = run("train", model, "-i", source, "-o", folder / "whole", "--force", "--steps", 2,
                    "--batch-size", 8, "--json")
        all_of_it = json.loads(whole.stdout)["host_bytes_planned"]
        for base in bases:
            out, log = folder / "out", folder / "log"
            how = ["train", base, "-i", source, "-o", out, *BASE, "--epochs", 3, "--force"]
            done = run(*how, "--log", log, "--eval", rated, "--json", "--lora-targets", "all")
            if not expect_exit(tally, done, 0, what=base.name):
                continue
            said = json.loads(done.stdout)
            tally.expect(said["loss_last"] < 0.8 * said["loss_first"], f"{base.name}: {said}")
            tally.expect(said["host_bytes_planned"] < all_of_it, f"{base.name}: {said}")
            tally.expect(said["host_bytes_peak"] <= said["host_bytes_planned"], f"{said}")
            tally.expect(len(read_jsonl(log.read_bytes())) > 6, "lines of the log")
            _, kinds = read_tensors(out / "model.safetensors")
            tally.expect(kinds == {"F32"}, f"{base.name}: written as {kinds}")
            done = run("eval", out, rated, "--json", stdin=b"")
            again = json.loads(done.stdout) if expect_exit(tally, done, 0) else {}
            found = again.get("spearman", -1)
            tally.expect(abs(found - said["spearman_after"]) < 0.05,
                         f"{base.name}: {found} as written, {said['spearman_after']} in training")


def check_bits(tally, folder, source):
    """Any number of threads, and a training that was stopped and resumed: the same bits."""
    base = folder / "int8"
    expect_exit(tally, run("quantize", BERT, "-o", base, "--dtype", "int8"), 0)
    for model in [BERT, base]:
        found = set()
        for threads in [1, 2, 3]:
            done = run("train", model, "-i", source, "-o", folder / "out", *BASE, "--steps", 6,
                       "-t", threads, "--force", "-q", "--dropout", "0.1")
            expect_exit(tally, done, 0)
            found.add(weights(folder / "out"))
        tally.expect(len(found) == 1, f"{model.name}: bits by threads")
        state = folder / f"{model.name}.state"
        how = ("train", model, "-i", source, "-o", folder / "out", *BASE, "--steps", 6, "--force",
               "-q", "--dropout", "0.1", "--checkpoint", state)
        expect_exit(tally, run(*how), 0)
        tally.expect(weights(folder / "out") in found, "with a checkpoint")
        expect_exit(tally, run(*how, "--resume"), 0)
        tally.expect(weights(folder / "out") in found, "resumed at its end")
        for options in [("--lora-alpha", 3), ("--lora-targets", "key")]:
            expect_exit(tally, run(*how, "--resume", *options), 65, "other adapters")


def check_adapter(tally, folder, source):
    """Shapes, names and settings; what the model written with them differs in."""
    targets = {"query": "attention.self.query", "ffn.out": "output.dense"}
    how = ("train", BERT, "-i", source, *BASE, "--lora-alpha", 6, "--steps", 4, "-q",
           "--lora-targets", ",".join(targets))
    adapter, merged = folder / "adapter", folder / "merged"
    expect_exit(tally, run(*how, "-o", adapter, "--adapter-only"), 0)
    expect_exit(tally, run(*how, "-o", merged), 0)
    names = sorted(path.name for path in adapter.iterdir())
    tally.expect(names == ["adapter_config.json", "adapter_model.safetensors",
                           "embound_training.json"], f"{names}")
    config = json.loads((adapter / "adapter_config.json").read_text())
    tally.expect(config["peft_type"] == "LORA" and config["r"] == 4 and config["lora_alpha"] == 6
                 and config["task_type"] == "FEATURE_EXTRACTION", f"{config}")
    tensors, _ = read_tensors(adapter / "adapter_model.safetensors")
    modules = [f"encoder.layer.{n}.{tail}" for n in range(2) for tail in targets.values()]
    wanted = {f"base_model.model.{m}.lora_{x}.weight" for m in modules for x in "AB"}
    tally.expect(set(tensors) == wanted and config["target_modules"] == modules, f"{set(tensors)}")
    tally.expect(tensors["base_model.model.encoder.layer.0.output.dense.lora_A.weight"][0] ==
                 [4, 64], "the shape of A")
    before, _ = read_tensors(BERT / "model.safetensors")
    after, _ = read_tensors(merged / "model.safetensors")
    changed = {name for name in after if after[name] != before[name]}
    tally.expect(changed == {f"{module}.weight" for module in modules}, f"{changed}")
    expect_exit(tally, run(*how, "-o", adapter, "--adapter-only"), 64, "--force")


def check_refused(tally, folder, source):
    """Options that contradict one another; quantized models without adapters."""
    quantized = folder / "int8"
    expect_exit(tally, run("quantize", BERT, "-o", quantized, "--dtype", "int8"), 0)
    done = run("train", quantized, "-i", source, "-o", folder / "none")
    expect_exit(tally, done, 64, "quantized", "--lora")
    for options, words in [(("--lora-alpha", 3), "need --lora"), (("--adapter-only",), "--lora R"),
                           (("--lora-targets", "all"), "need --lora"),
                           (("--lora", 4, "--lora-targets", "query,values"), "'values' is none"),
                           (("--lora", 4, "--lora-targets", "key,"), "'' is none"),
                           (("--lora", 4, "--lora-alpha", 0), "--lora-alpha must be above 0"),
                           (("--lora-alpha", 0), "need --lora"),
                           (("--lora", 40), "at most 32"), (("--lora", 0), "--lora")]:
        done = run("train", BERT, "-i", source, "-o", folder / "none", *options)
        expect_exit(tally, done, 64, words, what=str(options))
    tally.expect(not (folder / "none").exists() and not leftovers(folder), "something was written")


def main():
    """All of it, in a folder of its own."""
    tally = program.Tally()
    if ready(tally):
        for check in (check_dtypes, check_bits, check_adapter, check_refused):
            with tempfile.TemporaryDirectory(prefix="embound-lora-") as name:
                folder = pathlib.Path(name)
                source = write(folder / "groups.csv", groups(60, 2), ["anchor", "positive"])
                check(tally, folder, source)
    tally.end()


if __name__ == "__main__":
    main()
