"""What the benches on a GPU share: running the program with its peaks read from outside, plans,
texts made on the spot, the peer in a process of its own, JSON lines, a clock for each step.

EMB_BUILD is the build folder; $OUT gets a copy of every line. A step ends on its own before its
seconds are over: what was left out is said.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import make_texts  # noqa: E402

BUILD = pathlib.Path(os.environ.get("EMB_BUILD") or ROOT / "build")
PROGRAM = BUILD / "embound"
PEAK = BUILD / "tests" / "peak"
PEER = ROOT / "bench" / "peers" / "gpu_peer.py"
PEER_PYTHON = os.environ.get("EMB_PEER_PYTHON") or sys.executable
FAKE = os.environ.get("EMB_FAKE_HELD")  # rehearsal: the fake device's memory is the host's
DTYPE = "f32" if FAKE else "f16"
CHUNK = 60 if FAKE else 512  # longest chunk in tokens
MIB = 1 << 20
FAKE_CONTEXT = 10 * MIB  # of tests/cuda/fake_module.c: entered, never taken
SLACK = (16 if FAKE else 4) * MIB  # the fake takes nothing of what a driver takes on the host


def emit(**line):
    """Prints one JSON line, and keeps it in $OUT."""
    text = json.dumps(line)
    print(text, flush=True)
    if os.environ.get("OUT"):
        with open(pathlib.Path(os.environ["OUT"]) / "accept.jsonl", "a", encoding="utf-8") as file:
            file.write(text + "\n")


def mib(size):
    """Bytes as MiB with one decimal."""
    return None if size is None else round(size / MIB, 1)


class Clock:
    """Seconds that a step may take."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        """Seconds; at least one, so that what runs is not refused."""
        return max(1.0, self.end - time.monotonic())

    def over(self, wanted=0.0):
        """Whether fewer seconds are left than wanted."""
        return time.monotonic() + wanted > self.end


class Watch:
    """bench/gpu_watch.py in a process of its own."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, str(ROOT / "bench" / "gpu_watch.py")],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.report()

    def report(self):
        """What was seen since the last report."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def device_peak(report, before=None):
    """The most bytes that a single process held, none of those before; 0 if NVML shows none."""
    earlier = before["processes"] if before else {}
    return max((size for pid, size in report["processes"].items() if pid not in earlier), default=0)


def run(*arguments, timeout, env=None):
    """The finished program; exit status 124 if it had to be ended."""
    try:
        return subprocess.run([str(PROGRAM), *map(str, arguments)], text=True, capture_output=True,
                              check=False, timeout=timeout, env={**os.environ, **(env or {})})
    except subprocess.TimeoutExpired as ended:
        return subprocess.CompletedProcess(ended.cmd, 124, "", f"ended after {timeout:.0f} s")


class Run:
    """One encode: exit status, message, statistics, peaks of device and host, seconds."""

    def __init__(self, model, texts, out, options, watch, clock):
        with tempfile.TemporaryDirectory() as name:
            stats, peak = pathlib.Path(name) / "stats.json", pathlib.Path(name) / "peak"
            command = [str(PROGRAM), "encode", str(model), "-i", str(texts), "-o", str(out),
                       "--quiet", "--stats", str(stats), *map(str, options)]
            if PEAK.exists():
                command = [str(PEAK), str(peak), *command]
            before = watch.report() if watch else None
            began = time.monotonic()
            try:
                done = subprocess.run(command, text=True, capture_output=True, check=False,
                                      timeout=clock.left())
                self.code, self.message = done.returncode, done.stderr.strip()
            except subprocess.TimeoutExpired:
                self.code, self.message = 124, "ended: the step's time is over"
            self.seconds = time.monotonic() - began
            self.seen = watch.report() if watch else None
            self.stats = json.loads(stats.read_text()) if self.code == 0 else {}
            self.host_peak = self.stats.get("host_bytes_peak", 0)
            if peak.exists():
                self.host_peak = int(peak.read_text().split()[1])
        self.device_peak = device_peak(self.seen, before) if watch else 0
        if FAKE:
            self.host_peak -= self.device_peak - FAKE_CONTEXT

    @property
    def tokens_per_second(self):
        """Rounded; 0 if it failed."""
        return round(self.stats.get("tokens_per_second", 0))

    @property
    def texts_per_second(self):
        """Rounded; 0 if it failed."""
        return round(self.stats.get("texts_per_second", 0))


def best_of(count, model, texts, out, options, watch, clock):
    """The fastest of several runs, with the highest peaks of all; a failed one at once."""
    best, peaks = None, [0, 0]
    for _ in range(count):
        if best and clock.over(best.seconds):
            break
        now = Run(model, texts, out, options, watch, clock)
        if now.code:
            return now
        peaks = [max(peaks[0], now.host_peak), max(peaks[1], now.device_peak)]
        if not best or now.tokens_per_second > best.tokens_per_second:
            best = now
    best.host_peak, best.device_peak = peaks
    return best


def plan(model, *options, timeout=60):
    """The plan as a dict; {"failed": message} if there is none."""
    done = run("plan", model, "--json", *options, timeout=timeout)
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        return {"failed": done.stderr.strip() or f"exit {done.returncode}"}


def context_of(made):
    """Device bytes of a plan that are the context's; what it may grow by is not among them."""
    return sum(item["bytes"] for region in made["regions"] if region["kind"] == "device"
               for item in region["items"] if item["name"] == "CUDA context")


def options_known(*names):
    """Which of these options this build has."""
    shown = run("encode", "--help", timeout=30).stdout
    return [name for name in names if name in shown]


def same_bytes(a, b):
    """Whether two files are equal."""
    with open(a, "rb") as one, open(b, "rb") as two:
        while True:
            left, right = one.read(MIB), two.read(MIB)
            if left != right:
                return False
            if not left:
                return True


def npy_rows(path):
    """The rows of an .npy as bytes."""
    raw = path.read_bytes()
    return raw[10 + int.from_bytes(raw[8:10], "little"):]


def within(planned, peak):
    """(never above, within 2 % + 4 MiB)."""
    return peak <= planned, planned - peak <= 0.02 * planned + SLACK


# ---- texts -------------------------------------------------------------------------------------

def lines_of(path):
    """Lines of a text file."""
    return pathlib.Path(path).read_text(encoding="utf-8").rstrip("\n").split("\n")


def write_lines(path, lines):
    """One text a line; gives the path."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def long_texts(abstracts, path, count, parts=2):
    """Texts of several neighbouring abstracts each: more than 512 tokens."""
    lines = lines_of(abstracts)
    return write_lines(path, [" ".join(lines[(i * parts + j) % len(lines)] for j in range(parts))
                              for i in range(count)])


def short_texts(sentences, path, count):
    """Sentences, from the second round on with a word of another one behind: none is the same."""
    lines = lines_of(sentences)
    words = [line.split()[0] if line.split() else "a" for line in lines]
    return write_lines(path, [lines[i % len(lines)] + (
        f" {words[i * 7919 % len(lines)]} {i // len(lines)}" if i >= len(lines) else "")
        for i in range(count)])


def giant_text(abstracts, words):
    """One line of so many words."""
    all_words = " ".join(lines_of(abstracts)).split()
    return " ".join((all_words * (words // len(all_words) + 1))[:words])


# ---- peer --------------------------------------------------------------------------------------

def peer(model, texts, watch, clock, *, tokens, batches, dtype, limit, cap=0, repeat=2):
    """sentence-transformers over the first `limit` texts with each batch size in turn; gives the
    lines of bench/peers/gpu_peer.py, each with the device peak of that batch size."""
    command = [PEER_PYTHON, str(PEER), str(model), str(texts), "--tokens", tokens, "--dtype", dtype,
               "--batches", ",".join(map(str, batches)), "--limit", limit, "--cap", cap,
               "--repeat", repeat, "--seconds", round(clock.left())]
    lines, before = [], watch.report()
    with tempfile.TemporaryFile("w+") as messages, \
            subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE,
                             stderr=messages, text=True) as process:
        for text in process.stdout:
            peak = device_peak(watch.report(), before)
            lines.append({**json.loads(text), "device_mib_nvml": mib(peak)})
        process.wait()
        messages.seek(0)
        shown = messages.read().strip().split("\n")
    if process.returncode:
        lines.append({"skipped" if not lines else "ended": shown[-1]})
    return lines


def fastest(lines):
    """The peer's best line; None if nothing ran, or if time left some out: one might be faster."""
    if any(line.get("left_out") or line.get("ended") for line in lines):
        return None
    good = [line for line in lines if line.get("texts_per_second")]
    return max(good, key=lambda line: line["texts_per_second"], default=None)


# ---- the front ---------------------------------------------------------------------------------

def check(options):
    """Ends if something that every step needs is missing; without --texts some are made up."""
    needed = [(PROGRAM, "make"), (options.model and options.model / "config.json", "--model DIR")]
    if options.texts:
        needed.append((options.texts / "abstracts.txt", "--texts DIR"))
    for path, how in needed:
        if not path or not path.exists():
            sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {path or 'the model'} is missing ({how})")
    if not options.texts:
        options.texts = make_texts.MADE
        make_texts.write_folder(options.texts)


def parse(doc, steps):
    """Arguments that every bench here has; steps maps a name to a function."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("steps", nargs="+", choices=[*steps, "all"], metavar="STEP",
                        help=", ".join(steps))
    parser.add_argument("--model", type=pathlib.Path, help="all-MiniLM-L6-v2")
    parser.add_argument("--mpnet", type=pathlib.Path, help="a model of mpnet's shape")
    parser.add_argument("--bert", type=pathlib.Path, help="a model of BERT-base's shape")
    parser.add_argument("--texts", type=pathlib.Path, help="folder with abstracts.txt, sts.txt, "
                        "mixed.txt, tiny.txt (default: made up, tools/make_texts.py)")
    parser.add_argument("--seconds", type=float, default=300, help="for each step")
    parser.add_argument("--scale", type=float, default=1, help="of the numbers of texts and rounds")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    check(options)
    options.count = lambda number, least=3: max(least, int(number * options.scale))
    return options


def main(doc, steps):
    """Runs the steps that are named."""
    options = parse(doc, steps)
    failed = False
    with Watch() as watch, tempfile.TemporaryDirectory(prefix="embound-gpu-") as name:
        for step in steps if "all" in options.steps else options.steps:
            folder = pathlib.Path(name) / step
            folder.mkdir()
            began = time.monotonic()
            verdict = steps[step](options, folder, watch, Clock(options.seconds))
            failed |= verdict is False
            emit(step=step, passed=verdict, seconds=round(time.monotonic() - began, 1))
    sys.exit(1 if failed else 0)
