#!/usr/bin/env python3
"""What runs where, cell by cell: matrix.tsv says what each must give, this runs it and compares.

A cell is a surface (c, cli, python), what happened before, a device and a budget. On the fake
device (--fake) a fake driver and module play machines without a GPU, full cards and old ones; on a
card the rows of torch and cupy run where these import, and a process of its own fills the card.
Peaks are NVML's, read from another process. Prints one JSON line for each cell, with `passed`.

    matrix.py [--fake] [--surfaces c,cli,python] [--before NAME,...] [--model DIR] [--jobs N]

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import os
import pathlib
import queue
import re
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "bench"))
from gpu_common import Watch, emit  # noqa: E402
from support import program  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
MIB = program.MIB
CARD = 4096  # MiB, of the fake one
# MiB that others leave: less than a context; a context, but no plan (None: the card's context and
# 14); a plan, on the fake card a smaller one than at ease
FULL = {"fake": {"full": 5, "little": 14, "tight": 35},
        "card": {"full": 300, "little": None, "tight": 900}}
PLAYED = {  # machines that the fake driver and module play
    "no-driver": {"LD_LIBRARY_PATH": ""}, "no-gpu": {"EMB_FAKE_DRIVER": "none"},
    "broken-driver": {"EMB_FAKE_DRIVER": "803"}, "old-driver": {"EMB_FAKE_DRIVER": "old"},
    "old-card": {"EMB_FAKE_CAPABILITY": "61"}, "other-build": {"EMB_FAKE_BUILT": "80"},
    "two-cards": {"EMB_FAKE_DEVICES": "2"},
    "hidden": {"CUDA_VISIBLE_DEVICES": "99"}, "hidden-on-purpose": {"CUDA_VISIBLE_DEVICES": ""},
    "no-module": {"EMB_CUDA_MODULE": "/nowhere/libembound_cuda.so"}}
STATUS = {"cuda": "EMB_OK", "cpu": "EMB_OK", "budget": ("EMB_BUDGET", "BudgetError", 78),
          "device": ("EMB_DEVICE", "DeviceError", 69)}


def rows_of(path=HERE / "matrix.tsv"):
    """The table as dicts, without its head and its comments."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines()
             if line and not line.startswith("#")]
    names = lines[0].split("\t")
    return [dict(zip(names, line.split("\t"))) for line in lines[1:]]


class Server:
    """matrix_case.py, with one environment for all of its cells."""

    def __init__(self, python, model, environment):
        self.process = subprocess.Popen(
            [python, str(HERE / "matrix_case.py"), str(model)], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, case):
        """What came of one cell; {} if its process died."""
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        found = {}
        for line in self.process.stdout:
            if not line.strip():
                break
            found = json.loads(line)
        return found

    def close(self):
        """Ends it."""
        self.process.stdin.close()
        self.process.wait()


class Filler:
    """Leaves so many MiB of the card, until it is closed; needs torch."""

    SOURCE = """
import sys, torch
torch.zeros(1).cuda()
block = torch.empty(torch.cuda.mem_get_info()[0] - (int(sys.argv[1]) << 20), dtype=torch.uint8,
                    device="cuda")
print("ready", flush=True)
sys.stdin.read()
"""

    def __init__(self, left):
        self.process = subprocess.Popen([sys.executable, "-c", self.SOURCE, str(left)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self.process.stdout.readline().strip() == "ready"

    def close(self):
        """Gives the memory back."""
        self.process.stdin.close()
        self.process.wait()


class Matrix:
    """The cells of one machine, and what they share."""

    def __init__(self, options, watch, folder, counts):
        self.options, self.watch, self.folder, self.counts = options, watch, folder, counts
        self.texts = folder / "texts.txt"
        self.texts.write_text("one text\ntwo\n", encoding="utf-8")
        self.base = {**os.environ}
        self.module = {"EMB_CUDA_MODULE": str(program.BUILD / "libembound_cuda.so"), **self.base}
        self.servers = {}

    def environment(self, before):
        """Of the cell's process, beyond the base."""
        added = dict(PLAYED.get(before, {}))
        left = FULL["fake"].get(before)
        if self.options.fake and left:
            added["EMB_FAKE_OTHERS"] = str((CARD - left) * MIB)
        return added

    def python(self, row, added):
        """Through the package."""
        before = row["before"] if row["before"] == "no-driver" else ""
        if before not in self.servers:  # a library path must be there from the start
            environment = {**self.base, **(added if before else {})}
            self.servers[before] = Server(sys.executable, self.options.model, environment)
        found = self.servers[before].ask({**row, "environment": added})
        return found or {"status": "no answer", "said": "the process died"}

    def c(self, row, added):
        """Through the library."""
        done = subprocess.run([str(program.BUILD / "tests" / "matrix_case"),
                               str(self.options.model), row["before"], row["device"],
                               row["budget"]], env={**self.module, **added}, text=True,
                              capture_output=True, check=False, timeout=120)
        try:
            return json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            return {"status": f"exit {done.returncode}", "said": done.stderr.strip()}

    def cli(self, row, added):
        """Through the command line: plan tells, encode works."""
        environment = {**self.base, **added}
        device = ("--device", row["device"])
        name, least = ("--memory", "host_bytes_min") if row["device"] == "cpu" else (
            "--gpu-memory", "device_bytes_min")
        stated, fits = 0, row["budget"] == "fits"
        if row["budget"] != "none":
            plan = program.run("plan", self.options.model, *device, "--json", env=environment)
            made = json.loads(plan.stdout) if plan.returncode == 0 else {}
            known = made.get(least) if made.get("device") == "cuda" or name == "--memory" else None
            stated = (1024 if fits else 1) * MIB if not known else (
                known + 8 * MIB if fits else known - MIB)
        budget = (name, stated) if stated else ()
        planned = program.run("plan", self.options.model, *device, *budget, "--json",
                              env=environment)
        encode = ["encode", self.options.model, *device, *budget, "-q", "-i", self.texts, "-o",
                  self.folder / "rows.npy"]
        with subprocess.Popen([program.PROGRAM, *map(str, encode)], env=environment, text=True,
                              stderr=subprocess.PIPE) as done:
            said = planned.stderr + done.stderr.read()
        made = json.loads(planned.stdout) if planned.returncode == 0 else {}
        return {"status": "EMB_OK" if done.returncode == 0 else done.returncode, "pid": done.pid,
                "said": said.strip(), "device": made.get("device"),
                "dtype": made.get("dtype"), "planned": made.get("device_bytes", 0),
                "stated": stated if name == "--gpu-memory" else 0,
                "plan_exit": planned.returncode}

    def wrong(self, row, found, peak):
        """What is not as the table says; empty if all is."""
        wanted = STATUS[row["result"]]
        wrong = []
        if found.get("status") not in (wanted if isinstance(wanted, tuple) else (wanted,)):
            wrong.append("status")
        said = found.get("said") or ""
        if row["says"] == "-" and said:
            wrong.append("not silent")
        if row["says"] != "-" and not re.search(row["says"], said, re.S):
            wrong.append("message")
        if wanted == "EMB_OK" and (found.get("device"), found.get("dtype")) != (
                row["result"], row["dtype"]):
            wrong.append("device or dtype")
        if row["result"] == "cuda":
            if peak > (found.get("stated") or found.get("planned", 0)):
                wrong.append("peak")
            if peak == 0 and not self.options.fake:
                wrong.append("peak not seen")
        return wrong

    def cell(self, row):
        """Runs one, and compares."""
        self.watch.report()
        found = getattr(self, row["surface"])(row, self.environment(row["before"]))
        if "skipped" in found:
            self.counts.add(**row, skipped=found["skipped"])
            return
        peak = self.watch.report()["processes"].get(str(found.get("pid")), 0)
        wrong = self.wrong(row, found, peak)
        self.counts.add(**row, found=found, nvml_peak=peak, wrong=wrong or None, passed=not wrong)

    def close(self):
        """Ends the servers."""
        for server in self.servers.values():
            server.close()


def wanted_rows(options):
    """Of the table, in its order."""
    machine = "fake" if options.fake else "card"
    names = options.before.split(",") if options.before else None
    return [row for row in rows_of() if row["where"] in ("both", machine) and
            row["surface"] in options.surfaces.split(",") and
            (names is None or row["before"] in names)]


class Counts:
    """What came of all cells."""

    def __init__(self):
        self.lock = threading.Lock()
        self.of = {True: 0, False: 0, None: 0}

    def add(self, **line):
        """One more; prints it."""
        with self.lock:
            self.of[line.get("passed")] += 1
            emit(check="matrix", **line)


def work(options, rows, counts):
    """Takes rows until none is left, with a watch and servers of its own."""
    with tempfile.TemporaryDirectory(prefix="embound-matrix-") as name, Watch() as watch:
        matrix = Matrix(options, watch, pathlib.Path(name), counts)
        try:
            while True:
                matrix.cell(rows.get_nowait())
        except queue.Empty:
            pass
        finally:
            matrix.close()


def run_rows(options, rows, counts):
    """Several at a time: what a cell's process holds is its own."""
    waiting = queue.SimpleQueue()
    for row in rows:
        waiting.put(row)
    workers = [threading.Thread(target=work, args=(options, waiting, counts))
               for _ in range(min(options.jobs, len(rows)))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def context_mib(model):
    """Of this card, as a plan states it."""
    done = program.run("plan", model, "--device", "cuda", "--json")
    made = json.loads(done.stdout)
    return max(item["bytes"] for item in made["regions"][2]["items"]
               if item["name"] == "CUDA context") // MIB


def run_filled(options, rows, counts):
    """Of a card that is filled; one at a time, as each takes of the rest."""
    left = FULL["card"][rows[0]["before"]] or context_mib(options.model) + 14
    filler = Filler(left)
    if filler.ready:
        run_rows(argparse.Namespace(**{**vars(options), "jobs": 1}), rows, counts)
    else:
        counts.add(before=rows[0]["before"], skipped="the card cannot be filled without torch")
    filler.close()


def main(arguments=None):
    """Gives how many cells passed, failed, were skipped."""
    parser = argparse.ArgumentParser(description="See the head of the file.")
    parser.add_argument("--fake", action="store_true")
    parser.add_argument("--surfaces", default="c,cli,python")
    parser.add_argument("--before", default="")
    parser.add_argument("--model", type=pathlib.Path, default=program.TINY[0])
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    counts, rows = Counts(), wanted_rows(options)
    with tempfile.TemporaryDirectory(prefix="embound-held-") as held:
        if options.fake:
            nvml = program.BUILD / "tests" / "fake_nvml.so"
            os.environ.update(program.FAKE_GPU, EMB_NVML=str(nvml), EMB_FAKE_NVML=held,
                              EMB_FAKE_HELD=held, EMB_FAKE_GROWTH=str(2 * MIB))
        filled = [] if options.fake else [row for row in rows if row["before"] in FULL["card"]]
        run_rows(options, [row for row in rows if row not in filled], counts)
        for name in FULL["card"]:
            same = [row for row in filled if row["before"] == name]
            if same:
                run_filled(options, same, counts)
    passed, failed, skipped = counts.of[True], counts.of[False], counts.of[None]
    emit(check="matrix", cells=passed + failed, held=passed, skipped=skipped,
         passed=failed == 0 and passed > 0)
    return passed, failed, skipped


if __name__ == "__main__":
    sys.exit(main()[1] > 0)
