#!/usr/bin/env python3
"""`embound triton-repo`: the fields that it writes, what it refuses, and what it leaves alone.

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import re
import resource
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support import program  # noqa: E402

MODEL = program.TINY[0]


def parameters(text):
    """The parameters of a config.pbtxt."""
    return dict(re.findall(r'key: "(\w+)" value: \{ string_value: "([^"]*)"', text))


def check_fields(tally, folder):
    """Defaults from the plan, and what is stated."""
    done = program.run("triton-repo", MODEL, "-o", folder, "--name", "plain")
    path = folder / "plain" / "config.pbtxt"
    tally.expect(done.returncode == 0 and str(path) in done.stdout, done.stderr)
    text = path.read_text()
    found = parameters(text)
    tally.expect((folder / "plain" / "1").is_dir(), "a version's folder")
    tally.expect(found["model"] == str(MODEL.resolve()), f"model: {found['model']}")
    tally.expect((found["dtype"], found["long"]) == ("f32", "chunk"), f"{found}")
    tally.expect(re.fullmatch(r"[\d.]+MiB", found["memory"]), f"memory: {found['memory']}")
    batch = int(re.search(r"^max_batch_size: (\d+)$", text, re.M)[1])
    queue = int(re.search(r"max_queue_size: (\d+)", text)[1])
    tally.expect(batch > 1 and queue == 8 * batch, f"batch {batch}, queue {queue}")
    tally.expect("dims: [ 32 ]" in text and "KIND_CPU count: 1" in text, text)
    stated = ["--memory", "8MiB", "--dtype", "int8", "--long", "error", "--dim", "16", "--threads",
              "1", "--output-dtype", "int8", "--max-batch-size", "7", "--queue-delay", "250"]
    done = program.run("triton-repo", MODEL, "-o", folder, "--name", "stated", *stated)
    text = (folder / "stated" / "config.pbtxt").read_text()
    found = parameters(text)
    tally.expect(done.returncode == 0, done.stderr)
    for key, value in (("memory", "8.0MiB"), ("dtype", "int8"), ("long", "error"), ("dim", "16"),
                       ("threads", "1")):
        tally.expect(found[key] == value, f"{key}: {found[key]}")
    for part in ("max_batch_size: 7\n", "TYPE_INT8 dims: [ 16 ]",
                 "max_queue_delay_microseconds: 250\n"):
        tally.expect(part in text, f"{part!r} is written")


def check_refused(tally, folder):
    """Each with its exit code and words; nothing is made."""
    (folder / "others").mkdir()
    (folder / "others" / "config.pbtxt").write_text("name: \"others\"\n")
    rows = [(["-o", folder, "--name", "a b"], 64, "letters, digits"),
            (["-o", folder, "--name", "../x"], 64, "letters, digits"),
            (["-o", folder, "--name", "plain"], 64, "--force"),
            (["-o", folder, "--name", "others", "--force"], 64, "not by triton-repo"),
            (["-o", folder, "--name", "new", "--memory", "1MiB"], 78, "the model needs"),
            (["-o", folder, "--name", "new", "--dtype", "int3"], 64, "--dtype"),
            (["-o", folder, "--name", "new", "--output-dtype", "f64"], 64, "--output-dtype"),
            (["-o", folder, "--name", "new", "--max-batch-size", "0"], 64, "--max-batch-size"),
            ([], 64, "-o is missing"),
            (["-o", folder / "plain" / "config.pbtxt", "--name", "new"], 74, "cannot be made")]
    for arguments, code, part in rows:
        done = program.run("triton-repo", MODEL, *arguments)
        tally.expect(done.returncode == code and part in done.stderr,
                     f"{arguments[2:]}: {done.returncode} {done.stderr}")
    # a disk without room
    done = program.run("triton-repo", MODEL, "-o", folder, "--name", "new", restore_signals=False,
                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    tally.expect(done.returncode == 74 and len(done.stderr) > 20,
                 f"no room: {done.returncode} {done.stderr}")
    done = program.run("triton-repo", folder / "nowhere", "-o", folder)
    tally.expect(done.returncode == 66, f"no model: {done.returncode} {done.stderr}")
    tally.expect(not (folder / "new").exists(), "what is refused leaves nothing")
    tally.expect((folder / "others/config.pbtxt").read_text() == "name: \"others\"\n",
                 "another's stays")
    before = (folder / "plain/config.pbtxt").read_text()
    done = program.run("triton-repo", MODEL, "-o", folder, "--name", "plain", "--force", "--dtype",
                       "bf16")
    tally.expect(done.returncode == 0, done.stderr)
    after = (folder / "plain/config.pbtxt").read_text()
    tally.expect(before != after and parameters(after)["dtype"] == "bf16", "--force replaces")


def main():
    """Runs all in one folder."""
    tally = program.Tally()
    with tempfile.TemporaryDirectory(prefix="embound-triton-repo-") as place:
        check_fields(tally, pathlib.Path(place))
        check_refused(tally, pathlib.Path(place))
    tally.end()


if __name__ == "__main__":
    main()
