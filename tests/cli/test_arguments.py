#!/usr/bin/env python3
"""Arguments of every command: what is refused, with which exit code and message; help; plan.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from common import BERT, MPNET, expect_exit, program, ready, run

COMMANDS = ["plan", "encode", "tokenize", "search", "eval", "info", "bench", "monitor",
            "pull", "train"]

# (arguments after `plan MODEL`, words of the message)
BAD_PLAN = [
    (["--memory", "0"], "--memory '0'"), (["--memory", "-1"], "not negative"),
    (["--memory", "1e99"], "not a unit"), (["--memory", "10GB "], "not a unit"),
    (["--memory", ""], "empty"), (["--memory", "GB"], "not a number"),
    (["--memory", "1..5GB"], "digits"), (["--memory", "5XB"], "not a unit"),
    (["--memory", "9999999999999TB"], "more than any machine"),
    (["--memory", "0.0000001KiB"], "no work"), (["--memory"], "value is missing"),
    (["--gpu-memory", "ten"], "--gpu-memory 'ten'"), (["--threads", "0"], "from 1 to"),
    (["--threads", "two"], "--threads 'two'"), (["--threads", "99999999999999999999"], "from 1"),
    (["--dim", "-3"], "--dim '-3'"), (["--dim", "0"], "from 1"), (["--max-length", "x"], "from 1"),
    (["--dtype", "f64"], "use f32, bf16"), (["--pooling", "sum"], "use mean, cls, max"),
    (["--long", "late"], "use chunk"), (["--long", "never"], "use chunk, truncate, error"),
    (["--device", "tpu"], "use auto, cpu, cuda"), (["--device", "cuda:x"], "cuda:"),
    (["--device", "cuda:"], "use auto"), (["--device", "cuda:1,,2"], "cuda:N,N"),
    (["--device", "cuda:0,0"], "each GPU once"), (["--device", "cuda:0x"], "cuda:"),
    (["--normalize=yes"], "takes no value"), (["--frobnicate"], "not an option"),
    (["-i", "x"], "no meaning for this command"), (["--prompt", "x"], "no meaning"),
    (["another"], "only MODEL"), (["-x"], "not an option"),
    (["--dim", "33"], "dim"), (["--chunk-tokens", "129"], "128"), (["--max-length", "2"], ""),
    (["--dtype", "fp8"], ""),
]


def check_usage(tally):
    """No command, unknown commands, help, version."""
    expect_exit(tally, run(), 64, "usage: embound COMMAND")
    expect_exit(tally, run("frobnicate"), 64, "frobnicate", "embound --help")
    expect_exit(tally, run("--frobnicate"), 64, "command comes first")
    expect_exit(tally, run("help", "frobnicate"), 64, "'frobnicate' is not a command")
    expect_exit(tally, run("serve", env={"PATH": "/nonexistent"}), 64, "embound-serve")
    version = run("--version")
    tally.expect(re.fullmatch(rb"embound \d+\.\d+\.\d+\n", version.stdout), "--version")
    for arguments in [["--help"], ["-h"], ["help"]]:
        done = run(*arguments)
        tally.expect(done.returncode == 0 and b"encode" in done.stdout, f"{arguments}")
    for command in COMMANDS:
        model = [] if command == "monitor" else [BERT]
        for arguments in [[command, "--help"], ["help", command], [command, "-h"],
                          [command, *model, "--json", "--help"]]:
            done = run(*arguments)
            usage = f"usage: embound {command} ".encode()
            tally.expect(done.returncode == 0 and done.stdout.startswith(usage), f"{arguments}")
        if command not in ("info", "monitor"):
            expect_exit(tally, run(command), 64, "MODEL is missing")
        expect_exit(tally, run(command, *model, "--frobnicate"), 64, "--frobnicate")


def check_every_option_documented(tally):
    """Each long option of each command's help is in the manual and in what shells are given."""
    manual = (program.BUILD / "docs" / "embound.1").read_text()
    manual = re.sub(r"Fl -([a-z])", r"--\1", manual)  # mdoc's options
    fish = run("help", "--completion", "fish").stdout.decode()
    zsh = run("help", "--completion", "zsh").stdout.decode()
    for command in COMMANDS:
        shown = run(command, "--help").stdout.decode()
        options = re.findall(r"^ {2}(?:-\w, | {4})(--[a-z-]+)", shown, re.M)
        tally.expect("--help" in options, f"{command} --help lists {options}")
        ours = zsh[zsh.index(f"\n{command})\n"):].split(";;")[0]
        for option in options:
            there = re.search(rf"_from[a-z -]* {command}\b[^']*' -l {option[2:]}\b", fish)
            tally.expect(there, f"fish: {command} {option}")
            tally.expect(re.search(rf"{option}['\[}}]", ours), f"zsh: {command} {option}")
            tally.expect(f"{option}\n" in manual or f"{option} " in manual, f"manual: {option}")


def complete(words):
    """What bash is given for the last of these words."""
    script = (f"source /dev/stdin; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
              "_embound; echo \"${COMPREPLY[@]}\"")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False,
                          input=run("help", "--completion", "bash").stdout.decode(), timeout=60)
    return done.stdout.split() if done.returncode == 0 else [done.stderr]


def check_completion(tally):
    """What bash completes, and that each shell can read its file."""
    for words, wanted in [(["embound", "enc"], ["encode"]),
                          (["embound", "help", "to"], ["tokenize"]),
                          (["embound", "plan", "m", "--dt"], ["--dtype"]),
                          (["embound", "plan", "m", "--dtype", "bf"], ["bf16"]),
                          (["embound", "quantize", "m", "--dtype", ""], ["int8", "int4", "fp8"]),
                          (["embound", "plan", "m", "-m", "9"], ["96MiB"]),
                          (["embound", "encode", "-o", "READ"], ["README.md"])]:
        got = complete(words)
        tally.expect(got == wanted, f"{words}: {got}, wanted {wanted}")
    expect_exit(tally, run("help", "--completion"), 64, "bash, zsh or fish")
    expect_exit(tally, run("help", "--completion", "tcsh"), 64, "bash, zsh or fish")
    for shell in ["bash", "zsh", "fish"]:
        if not shutil.which(shell):
            tally.skip(f"{shell} is not installed")
            continue
        text = run("help", "--completion", shell).stdout
        with tempfile.NamedTemporaryFile() as file:
            file.write(text)
            file.flush()
            done = subprocess.run([shell, "-n", file.name], capture_output=True, check=False)
        tally.expect(done.returncode == 0 and not done.stderr, f"{shell} -n: {done.stderr}")
    page = str(program.BUILD / "docs" / "embound.1")
    if shutil.which("mandoc"):
        done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", page], capture_output=True,
                              text=True, check=False)
        tally.expect(done.returncode == 0, f"mandoc: {done.stdout}")
    else:
        tally.skip("mandoc is not installed")


def check_external(tally, folder):
    """Commands that are programs of their own, beside embound or on PATH."""
    script = folder / "embound-greet"
    script.write_text("#!/bin/sh\necho \"$0 says $*\"\nexit 7\n")
    script.chmod(0o755)
    done = run("greet", "a b", "c", env={"PATH": f"{folder}:/bin"})
    expect_exit(tally, done, 7)
    tally.expect(b"says a b c" in done.stdout, f"greet: {done.stdout}")
    expect_exit(tally, run("../greet", env={"PATH": str(folder)}), 64)


def check_models(tally, folder):
    """MODEL: missing, not a model, and found in the hub cache."""
    expect_exit(tally, run("plan", folder / "nothing"), 66, "nothing")
    (folder / "empty").mkdir()
    done = run("plan", folder / "empty")
    tally.expect(done.returncode in (65, 66) and b"config.json" in done.stderr,
                 f"empty model: {done.returncode} {done.stderr}")
    base = folder / "hub" / "models--some--tiny"
    (base / "refs").mkdir(parents=True)
    (base / "snapshots").mkdir()
    (base / "refs" / "main").write_text("abc123")
    os.symlink(BERT, base / "snapshots" / "abc123")
    found = run("plan", "some/tiny", "--json", env={"HF_HUB_CACHE": str(folder / "hub")})
    expect_exit(tally, found, 0)
    missing = run("plan", "some/other", env={"HF_HUB_CACHE": str(folder / "hub")})
    expect_exit(tally, missing, 66, "some/other")


def check_plan(tally, folder):
    """The plan as a table and as JSON; its numbers add up; a minimum that is named works."""
    for model in [BERT, MPNET]:
        done = run("plan", model, "--json")
        if not expect_exit(tally, done, 0):
            continue
        plan = json.loads(done.stdout)
        items = sum(i["bytes"] for r in plan["regions"] for i in r["items"])
        tally.expect(items == plan["host_bytes"] == sum(r["bytes"] for r in plan["regions"]),
                     f"{model.name}: items {items}, total {plan['host_bytes']}")
        for key in ["rung", "rung_name", "lanes", "tokens_per_tile", "tokens_per_pass", "dim",
                    "chunk_tokens_max", "host_bytes_min", "host_bytes_knee", "numerics_id"]:
            tally.expect(plan.get(key), f"{model.name}: plan lacks {key}")
        tally.expect(plan["fits"] is True, "fits")
        table = run("plan", model, "--memory", "1GiB").stdout.decode()
        for words in ["MiB", "budget", "1024.00", "it fits", "tokens per tile", "tokens per pass",
                      "longest chunk", "smallest that works", "full speed"]:
            tally.expect(words in table, f"{model.name}: the table lacks {words!r}")
        small = run("plan", model, "--memory", "1MiB")
        expect_exit(tally, small, 78, "1.0MiB", "--memory ")
        minimum = re.search(r"--memory (\S+)", small.stderr.decode())
        tally.expect(minimum and run("plan", model, "--memory", minimum[1]).returncode == 0,
                     f"{model.name}: the minimum that was named does not work")
        small = run("plan", model, "--memory", "1MiB", "--json")
        tally.expect(json.loads(small.stdout)["fits"] is False and small.returncode == 78, "json")
        texts = folder / "texts.txt"
        texts.write_text("one\ntwo words\n")
        for _ in range(3):
            done = run("encode", model, "-i", texts, "-o", folder / "o.npy", "--memory",
                       minimum[1] if minimum else "1")
            expect_exit(tally, done, 0)
        expect_exit(tally, run("encode", model, "-i", texts, "-o", folder / "p.npy", "--memory",
                               "1MiB"), 78, "--memory")
        tally.expect(not (folder / "p.npy").exists(), "an output in spite of exit 78")


def check_machine_files(tally, folder):
    """Cards that are not here: what does not fit says whose memory it is, what cannot run why."""
    path = folder / "machine.json"
    run("info", "--save-machine", path)
    machine = json.loads(path.read_text())
    gpu = {"name": "card", "index": 0, "compute_capability": 75, "memory_bytes": 1 << 30,
           "context_bytes": 2 << 30, "host_bytes": 1 << 27}
    for changes, gpu_changes, code, reasons in [
            ({}, {}, 78, ["the memory of the GPU is too small", "which needs 2"]),
            ({"memory_bytes": 4096}, None, 78, ["the memory of this machine is too small"]),
            ({}, {"compute_capability": 61}, 64, ["'card'", "6.1", "7.5", "cpu"])]:
        devices = [] if gpu_changes is None else [{**gpu, **gpu_changes}]
        path.write_text(json.dumps({**machine, **changes, "devices": devices}))
        done = run("plan", BERT, "--machine", path, "--device", "cuda" if devices else "cpu")
        expect_exit(tally, done, code, *reasons)


def check_sizes(tally):
    """The same budget written in several ways."""
    for text, size in [("20MiB", 20 << 20), ("20M", 20 << 20), ("20mib", 20 << 20),
                       ("20MB", 20_000_000), ("0.5GB", 500_000_000), ("1.25g", 5 << 28),
                       ("20971520", 20 << 20), ("20480KiB", 20 << 20), ("20971520B", 20 << 20),
                       ("auto", 0)]:
        done = run("plan", BERT, "--json", "--memory", text)
        found = json.loads(done.stdout or b"{}").get("host_bytes_max")
        tally.expect(found == size, f"--memory {text}: {found}, wanted {size} {done.stderr}")
    for text, shown in [("10", "10 bytes"), ("1000K", "1024000 bytes"), ("1MiB", "1.0MiB"),
                        ("1.25MiB", "1.25MiB"), ("1200KB", "1.144MiB")]:
        expect_exit(tally, run("plan", BERT, "-m", text), 78, f"a budget of {shown} is too small")
    plan = json.loads(run("plan", BERT, "--json").stdout)
    near = run("plan", BERT, "-m", str(plan["host_bytes_min"] - (64 << 10)))
    stated, least = re.findall(r"([\d.]+)MiB", near.stderr.decode()) or ("0", "0")
    tally.expect(near.returncode == 78 and float(stated) < float(least), f"near: {near.stderr}")
    done = run("plan", BERT, "--json", "--memory=20MiB", "-t1")
    tally.expect(json.loads(done.stdout)["lanes"] == 1, "-t1")


def check_bad(tally):
    """Every bad value is refused as usage, with words that help."""
    for arguments, words in BAD_PLAN:
        expect_exit(tally, run("plan", BERT, *arguments), 64, words)
    done = run("plan", BERT, "--device", "cuda")
    tally.expect(done.returncode in (0, 69), f"--device cuda: {done.returncode}")
    for arguments, words in [
            (["encode", BERT], "no input"), (["encode", BERT, "-i", "x"], "no output"),
            (["encode", BERT, "-i", "/dev/null", "-o", "x.bin"], "--output-format"),
            (["encode", BERT, "-i", "-", "-i", "-", "-o", "-"], "once"),
            (["encode", BERT, "-i", "/dev/null", "-o", "-", "--output-format", "npy"], ".npy"),
            (["encode", BERT, "-i", "/dev/null", "-o", "-", "--progress", "x"], "auto"),
            (["encode", BERT, "-i", "/dev/null", "-o", "-", "--prompt-name", "zz"], "zz"),
            (["encode", BERT, "-i", "/dev/null", "-o", "-", "--prompt", "a", "--prompt-name", "b"],
             "one of them"),
            (["encode", BERT, "-i", "/dev/null", "-o", "-", "--input-format", "xml"], "txt"),
            (["tokenize", BERT], "no input"), (["search", BERT, "query"], "--index"),
            (["search", BERT, "--index", "x.npy"], "no query"),
            (["search", BERT, "--index", "x.npy", "-k", "0", "q"], "from 1"),
            (["search", BERT, "--index", "x.npy", "--score", "l2", "q"], "cosine, dot"),
            (["eval", BERT], "one table"), (["eval", BERT, "-i", "-"], "name a file"),
            (["encode", BERT, "-i", "/dev/null", "-o", "-", "-o", "x.npy"], "one output"),
            (["encode", BERT, "-i", "-", "-o", "-", "--column", "text"], "--column"),
            (["encode", BERT, "-i", "-", "-o", "-", "--no-header"], "--no-header"),
            (["tokenize", BERT, "-i", "-", "--input-format", "jsonl", "--no-quotes"],
             "--no-quotes"),
            (["tokenize", BERT, "-i", "-", "--input-format", "csv", "--field", "t"], "--field"),
            (["tokenize", BERT, "-i", "-", "--field", "t"], "--field"),
            (["bench", BERT, "-i", "-", "--repeat", "2"], "once"),
            (["bench", BERT, "--repeat", "0"], "from 1")]:
        expect_exit(tally, run(*arguments), 64, words)


def check_devices(tally, folder, machine):
    """How many GPUs a plan takes, and what --dtype auto is on which device."""
    path = folder / "gpus.json"
    gpu = {"name": "one", "index": 0, "compute_capability": 90, "memory_bytes": 8 << 30,
           "context_bytes": 400 << 20, "host_bytes": 100 << 20}
    plan = ["plan", BERT, "--json", "--machine", path]

    old = {key: value for key, value in machine.items() if key != "cpu_features"}

    def dtype_and_device(devices, *options, features="avx2 avx512 vnni bf16 bf16_fast"):
        path.write_text(json.dumps({**machine, "cpu_features": features, "devices": devices}))
        done = run(*plan, *options)
        expect_exit(tally, done, 0)
        found = json.loads(done.stdout or b"{}")
        return found.get("dtype"), found.get("device")

    for devices, options, wanted in [
            ([gpu], ["--device", "cuda"], ("f16", "cuda")), ([gpu], [], ("f16", "cuda")),
            ([gpu], ["--device", "cpu"], ("bf16", "cpu")), ([], [], ("bf16", "cpu")),
            ([gpu], ["--device", "cuda:all"], ("f16", "cuda"))]:
        found = dtype_and_device(devices, "--dtype", "auto", *options)
        tally.expect(found == wanted, f"--dtype auto {options}, {len(devices)} GPUs: {found}")
    for features in "avx2 avx512 vnni", "avx2 avx512 vnni bf16":
        found = dtype_and_device([], "--dtype", "auto", features=features)
        tally.expect(found == ("f32", "cpu"), f"--dtype auto, {features}: {found}")
    # has_bf16 of an earlier file: none, fast, slower than f32's
    for has, wanted in enumerate([("bf16", "int8"), ("bf16dot", "attention8-int8"),
                                  ("bf16", "attention8-int8")]):
        path.write_text(json.dumps({**old, "isa": "avx512", "has_bf16": has}))
        for dtype, kernels in zip(("bf16", "int8"), wanted):
            done = run(*plan, "--dtype", dtype)
            found = json.loads(done.stdout or b"{}").get("numerics_id")
            tally.expect(found == f"bert-avx512-{kernels}.2", f"{dtype}, {has}: {found}")
    for wrong, words in [({"isa": "avx2", "has_bf16": 3}, "has_bf16 is 3"),
                         ({"isa": "sse9", "has_bf16": 0}, "isa 'sse9'"),
                         ({"cpu_features": "avx2 sse9"}, "'avx2 sse9' has an unknown name"),
                         ({}, "cpu_features is missing")]:
        path.write_text(json.dumps({**old, **wrong}))
        expect_exit(tally, run(*plan), 65, words)
    two = [gpu, {**gpu, "name": "two", "index": 1}]
    tally.expect(dtype_and_device(two, "--device", "cuda") == ("f16", "cuda"), "two GPUs")
    for device, wanted in [("cuda", [0]), ("cuda:1", [1]), ("cuda:1,0", [1, 0]),
                           ("cuda:all", [0, 1])]:
        done = run(*plan, "--device", device)
        expect_exit(tally, done, 0)
        found = json.loads(done.stdout or b"{}")
        tally.expect(found.get("devices") == wanted, f"{device}: {found.get('devices')}")
        tally.expect(found["regions"][-1]["devices"] == len(wanted) and
                     found["lanes"] == 2 * len(wanted), f"{device}: lanes {found['lanes']}")
    expect_exit(tally, run(*plan, "--device", "cuda:2"), 69, "no GPU of that index")
    expect_exit(tally, run(*plan, "--device", "cuda:0,0"), 64, "each GPU once")
    dtype_and_device([gpu, {**two[1], "compute_capability": 80}], "--device", "cuda:1")
    expect_exit(tally, run(*plan, "--device", "cuda:all"), 64, "compute capability")
    for options in ("full",), ("off",), ("full", "-q"):
        done = run("plan", BERT, "--device", "cpu", "--autotune", *options)
        expect_exit(tally, done, 0)
        said = b"--autotune full has no effect" in done.stderr
        tally.expect(said == (options == ("full",)), f"--autotune {options} on a CPU")
    done = run("plan", BERT, "--device", "cpu", "--graphs", "on")
    expect_exit(tally, done, 64, "graphs is stated for --device cpu")
    done = run("info", "--device", "cuda:0,1")
    tally.expect(done.returncode in (0, 69), f"info of two GPUs: {done.returncode} {done.stderr}")


def check_machine(tally, folder):
    """info, --save-machine and plan --machine."""
    done = run("info", BERT)
    for words in [b"Machine", b"cores", b"kernels", b"cuda", b"tiny-bert", b"mean pooling"]:
        tally.expect(words in done.stdout, f"info lacks {words}")
    expect_exit(tally, run("info", BERT, "--json"), 0)
    info = json.loads(run("info", BERT, "--json").stdout)
    tally.expect(info["model"]["dim"] == 32 and info["machine"]["cores"] > 0, "info --json")
    tally.expect("model" not in json.loads(run("info", "--json").stdout), "info without MODEL")
    machine = folder / "machine.json"
    expect_exit(tally, run("info", "--save-machine", machine), 0)
    saved = json.loads(machine.read_text())
    saved["cores"] = 7
    machine.write_text(json.dumps(saved))
    plan = run("plan", BERT, "--json", "--machine", machine)
    if expect_exit(tally, plan, 0):
        tally.expect(json.loads(plan.stdout)["lanes"] == 7, "the plan is not for that machine")
    check_devices(tally, folder, saved)
    (folder / "bad.json").write_text('{"cores": }')
    expect_exit(tally, run("plan", BERT, "--machine", folder / "bad.json"), 65, "bad.json")
    expect_exit(tally, run("plan", BERT, "--machine", folder / "none.json"), 66, "none.json")
    expect_exit(tally, run("info", "--save-machine", folder / "no" / "m.json"), 73, "m.json")
    expect_exit(tally, run("info", env={"EMB_CPU": "z80"}), 64, "EMB_CPU")


def main():
    """All of it."""
    tally = program.Tally()
    if ready(tally):
        with tempfile.TemporaryDirectory(prefix="embound-cli-") as name:
            folder = pathlib.Path(name)
            check_usage(tally)
            check_every_option_documented(tally)
            check_completion(tally)
            check_external(tally, folder)
            check_models(tally, folder)
            check_plan(tally, folder)
            check_machine_files(tally, folder)
            check_sizes(tally)
            check_bad(tally)
            check_machine(tally, folder)
    tally.end()


if __name__ == "__main__":
    main()
