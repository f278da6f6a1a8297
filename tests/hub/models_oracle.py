#!/usr/bin/env python3
"""The hub's own Python package and embound read each other's cache (tools/oracle_env.sh gets it).

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from fake_hub import FakeHub, Repo, model_files  # noqa: E402
from support import program  # noqa: E402
from test_pull import NAME, USELESS, embound, environment, folder_of  # noqa: E402

PYTHON = program.ROOT / "build" / "venv-oracle" / "bin" / "python"

# What it finds in a cache that embound has written, without a network.
READ = """
import json, pathlib, sys
from huggingface_hub import (hf_hub_download, scan_cache_dir, snapshot_download,
                             try_to_load_from_cache)
name, files = sys.argv[1], json.loads(sys.argv[2])
found = {f: pathlib.Path(hf_hub_download(name, f)).read_bytes().hex() for f in files}
cached = [f for f in files if isinstance(try_to_load_from_cache(name, f), str)]
info = scan_cache_dir()
print(json.dumps({"found": found, "cached": cached, "warnings": [str(w) for w in info.warnings],
                  "snapshot": snapshot_download(name),
                  "repos": [[r.repo_id, sorted(f.file_name for v in r.revisions for f in v.files),
                             [sorted(v.refs) for v in r.revisions]] for r in info.repos]}))
"""
# What it brings itself; afterwards embound shall find it.
WRITE = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1]))
"""
# The same vectors through sentence-transformers, by the model's name.
ENCODE = """
import json, sys
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
print(json.dumps(model.encode(["bounded memory"])[0].tolist()))
"""


def python(script, *arguments, env):
    """Runs a script in the virtual environment of the oracles."""
    return subprocess.run([str(PYTHON), "-c", script, *arguments], env=env, text=True,
                          capture_output=True, timeout=150, check=False)


def check_reads_ours(tally, hub, cache, files):
    """huggingface_hub and sentence-transformers over a cache that embound wrote."""
    done = embound("pull", NAME, env=environment(hub, cache))
    tally.expect(done.returncode == 0, done.stderr)
    offline = environment(hub, cache, HF_HUB_OFFLINE=1)
    done = python(READ, NAME, json.dumps(sorted(files)), env=offline)
    if not tally.expect(done.returncode == 0, done.stderr[-800:]):
        return
    shown = json.loads(done.stdout)
    tally.expect(shown["found"] == {p: d.hex() for p, d in files.items()}, "the bytes")
    tally.expect(sorted(shown["cached"]) == sorted(files), f"cached: {shown['cached']}")
    tally.expect(shown["warnings"] == [], f"its scan warns: {shown['warnings']}")
    names = sorted(pathlib.PurePath(p).name for p in files)
    tally.expect(shown["repos"] == [[NAME, names, [["main"]]]], f"its scan: {shown['repos']}")
    tally.expect(pathlib.Path(shown["snapshot"]).parent == folder_of(cache) / "snapshots", "where")
    done = python(ENCODE, NAME, env=offline)
    if not tally.expect(done.returncode == 0, done.stderr[-800:]):
        return
    theirs = json.loads(done.stdout.splitlines()[-1])
    texts = pathlib.Path(cache) / "texts.txt"
    texts.write_text("bounded memory\n")
    done = embound("encode", NAME, "-i", texts, "-o", "-", "-q", env=offline)
    ours = json.loads(done.stdout)["embedding"]
    worst = max(abs(a - b) for a, b in zip(ours, theirs))
    tally.expect(len(ours) == len(theirs) and worst < 1e-4, f"vectors differ by {worst}")


def check_reads_theirs(tally, hub, cache):
    """embound over a cache that huggingface_hub wrote; nothing is fetched again."""
    env = environment(hub, cache)
    done = python(WRITE, NAME, env=env)
    if not tally.expect(done.returncode == 0, done.stderr[-800:]):
        return
    done = embound("info", NAME, "--json", "--device", "cpu", env=env)
    tally.expect(done.returncode == 0, done.stderr)
    del hub.requests[:]
    done = embound("pull", NAME, "--json", env=env)
    tally.expect(done.returncode == 0 and json.loads(done.stdout)["bytes_fetched"] == 0,
                 f"{done.stdout} {done.stderr}")
    tally.expect(not hub.asked("store"), "nothing is fetched again")
    done = embound("pull", NAME, "--offline", env=env)
    tally.expect(done.returncode == 0, done.stderr)


def main():
    """Both ways, each with a cache of its own."""
    tally = program.Tally()
    there = PYTHON.exists() and python("import huggingface_hub", env={}).returncode == 0
    if not program.PROGRAM.exists() or not there:
        tally.skip("huggingface_hub is not there (tools/oracle_env.sh)")
        tally.end()
    hub = FakeHub()
    everything = model_files(program.TINY[0])
    files = {p: d for p, d in everything.items() if p not in USELESS}
    hub.repos[NAME] = Repo(everything)
    with tempfile.TemporaryDirectory(prefix="embound-oracle-") as folder:
        check_reads_ours(tally, hub, pathlib.Path(folder) / "ours", files)
        check_reads_theirs(tally, hub, pathlib.Path(folder) / "theirs")
    hub.close()
    tally.end()


if __name__ == "__main__":
    main()
