#!/usr/bin/env python3
"""monitor and --status: GPUs of a fake NVML, engines by their files, folders that are refused.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

from common import BERT, expect_exit, program, read_jsonl, ready, run

NVML = program.BUILD / "tests" / "fake_nvml.so"
CUDA = program.BUILD / "tests" / "libembound_fake_cuda.so"
MIB = program.MIB


def surroundings(folder, nvml="no such library", fake="", **more):
    """Environment with its own folder for status files."""
    return {**os.environ, "XDG_RUNTIME_DIR": str(folder), "EMB_NVML": str(nvml),
            "EMB_FAKE_NVML": str(fake), **more}


def monitor(*arguments, env):
    """The finished program."""
    return run("monitor", *arguments, env=env)


def reports(env, count=1, interval="0.05"):
    """Reports of monitor --json, and the exit code."""
    done = monitor("--json", "--count", count, "--interval", interval, env=env)
    return read_jsonl(done.stdout), done.returncode


class Engine:
    """An encode with --status that runs as long as its input is held open."""

    def __init__(self, env, output, *options, status="--status"):
        self.process = subprocess.Popen(
            [str(program.PROGRAM), "encode", str(BERT), "-i", "-", "-o", str(output), "--quiet",
             status, *options], env=env, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        self.pid = self.process.pid

    def feed(self, texts):
        """Sends texts."""
        self.process.stdin.write("".join(t + "\n" for t in texts).encode())
        self.process.stdin.flush()

    def appears(self, folder, seconds=20):
        """Waits for the status file."""
        path, end = pathlib.Path(folder) / "embound" / f"{self.pid}.json", time.time() + seconds
        while not path.exists() and time.time() < end and self.process.poll() is None:
            time.sleep(0.02)
        return path

    def finish(self):
        """Ends the input; gives the exit code."""
        self.process.stdin.close()
        self.process.stderr.read()
        return self.process.wait(timeout=60)


def check_gpus(tally, folder):
    """What NVML says, in lines and as JSON."""
    me = os.getpid()
    env = surroundings(folder, NVML, me)
    found, code = reports(env, 2)
    tally.expect(code == 0 and len(found) == 2, f"exit {code}, {len(found)} reports")
    first, second = found[0]["gpus"]
    mine = pathlib.Path(f"/proc/{me}/comm").read_text().strip()
    tally.expect(first == {
        "index": 0, "name": 'Fake "A" 4000', "utilization_percent": 97,
        "memory_used_bytes": 1096 * MIB, "memory_total_bytes": 4096 * MIB,
        "power_milliwatts": 123456, "temperature_celsius": 61, "clock_sm_mhz": 1200,
        "clock_memory_mhz": 2600, "throttle": ["power cap", "thermal limit", "another reason"],
        "processes": [{"pid": me, "device_bytes": 540 * MIB, "name": mine},
                      {"pid": 4000000000, "device_bytes": None, "name": "?"}]}, f"{first}")
    tally.expect(second["name"] == "Fake B", f"{second}")
    tally.expect([v for k, v in second.items() if k not in ("index", "name")] == [None] * 9,
                 f"what a card does not say: {second}")
    tally.expect(found[0]["engines"] == [] and found[0]["nvml_error"] is None, "no engines")
    tally.expect(0.045 <= found[1]["time"] - found[0]["time"] < 5, "interval")
    lines = monitor("--count", "1", env=env).stdout.decode().splitlines()
    for words in ('gpu 0  Fake "A" 4000', "97 %", "1096 of 4096 MiB", "123 W", "61 C",
                  "sm 1200 MHz", "memory 2600 MHz", "throttled by power cap, thermal limit"):
        tally.expect(words in lines[0], f"{words!r} is not in {lines[0]!r}")
    tally.expect(lines[1].split() == ["process", str(me), "540", "MiB", mine], f"{lines[1]}")
    tally.expect(lines[2].split() == ["process", "4000000000", "-", "MiB", "?"], f"{lines[2]}")
    tally.expect("gpu 1  Fake B    - %" in lines[3] and len(lines) == 5, f"{lines[3:]}")


def check_nothing(tally, folder):
    """Neither GPU nor engine."""
    for name, fake, words in [("no such library", "", ["no such library"]),
                              (NVML, "none", ["knows of no GPU"]),
                              (NVML, "broken", ["Driver Not Loaded"]), (CUDA, "", ["not NVML"])]:
        for form in [], ["--json"]:
            done = monitor(*form, env=surroundings(folder, name, fake))
            expect_exit(tally, done, 69, "nothing to show", "--status", *words)
            tally.expect(done.stdout == b"", "nothing on standard output")


def check_engine(tally, folder):
    """An engine from its beginning to its end, without a GPU."""
    env = surroundings(folder)
    engine = Engine(env, folder / "e.npy")
    path = engine.appears(folder)
    tally.expect(path.stat().st_mode & 0o777 == 0o600, "mode of the file")
    tally.expect(path.parent.stat().st_mode & 0o777 == 0o700, "mode of the folder")
    engine.feed(["the cat sat on the mat"] * 700)
    seen, end = {}, time.time() + 20
    while seen.get("texts", 0) < 500 and time.time() < end:
        engine.feed(["the moon looked slowly"] * 50)
        time.sleep(0.1)
        seen = reports(env)[0][0]["engines"][0]
    tally.expect(seen["pid"] == engine.pid and seen["model"] == BERT.name, f"{seen}")
    tally.expect(seen["device"] == "cpu" and seen["dtype"] == "f32", f"{seen}")
    tally.expect(seen["texts"] >= 500 and seen["tokens"] >= 6 * seen["texts"], f"{seen}")
    tally.expect(seen["tokens_per_second"] > 0 and seen["age_seconds"] < 10, f"{seen}")
    # that the peak stays below the plan is for tests/memory, which know of sanitizers
    tally.expect(0 < seen["host_bytes_now"] <= seen["host_bytes_peak"], f"{seen}")
    plan = json.loads(run("plan", BERT, "--json", env=env).stdout)["host_bytes"]
    tally.expect(abs(seen["host_bytes_planned"] - plan) < MIB, f"planned {plan}: {seen}")
    tally.expect(seen["device_bytes_planned"] == 0 and seen["device_bytes_observed"] is None,
                 f"{seen}")
    done = monitor("--count", "1", env=env)
    line = done.stdout.decode()
    expect_exit(tally, done, 0, "no GPU is shown")
    tally.expect(f"engine {engine.pid}  {BERT.name}  f32 on cpu  host " in line
                 and "MiB planned" in line and "tokens/s" in line and "device" not in line, line)
    tally.expect(monitor("--count", "1", "--quiet", env=env).stderr == b"", "--quiet")
    os.utime(path, (time.time() - 60, time.time() - 60))
    line = monitor("--count", "1", env=env).stdout.decode()
    tally.expect("silent for 60 s" in line or not path.stat().st_mtime < time.time() - 50, line)
    tally.expect(engine.finish() == 0 and not list(path.parent.iterdir()), "the file is removed")
    tally.expect(monitor(env=env).returncode == 69, "after its end")


def check_device(tally, folder):
    """What is planned on a GPU beside what NVML sees of it."""
    if not CUDA.exists():
        tally.skip(f"{CUDA} is not built")
        return
    env = surroundings(folder, NVML, **program.FAKE_GPU)
    engine = Engine(env, folder / "d.npy", "--device", "cuda", "--dtype", "f32")
    engine.appears(folder)
    env["EMB_FAKE_NVML"] = str(engine.pid)
    seen = reports(env)[0][0]["engines"]
    tally.expect(seen and seen[0]["device"] == "cuda" and seen[0]["device_bytes_planned"] > 0
                 and seen[0]["device_bytes_observed"] == 540 * MIB, f"{seen}")
    text = monitor("--count", "1", env=env).stdout.decode()
    tally.expect("  device 540 of " in text and f"(engine, {BERT.name})" in text, text)
    tally.expect(engine.finish() == 0, "encode on the fake device")


def check_stops(tally, folder):
    """Signals and failures leave no file; monitor ends with its reader."""
    env = surroundings(folder)
    for number, count in [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)]:
        engine = Engine(env, folder / "s.npy")
        path = engine.appears(folder)
        for _ in range(count):
            engine.process.send_signal(number)
        code = engine.process.wait(timeout=60)
        tally.expect(code == 128 + number and not list(path.parent.iterdir()),
                     f"signal {number} x {count}: exit {code}, {list(path.parent.iterdir())}")
        engine.process.stdin.close()
        engine.process.stderr.close()
    engine = Engine(env, folder / "s.npy")
    path = engine.appears(folder)
    arguments = [str(program.PROGRAM), "monitor", "--json", "--interval", "0.1"]
    with subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE) as watcher:
        tally.expect(json.loads(watcher.stdout.readline())["engines"], "first report")
        watcher.send_signal(signal.SIGINT)
        tally.expect(watcher.wait(timeout=20) == 130, "SIGINT")
    arguments[-1] = "600"
    with subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as watcher:
        watcher.stdout.readline()
        watcher.stdout.close()  # in the middle of ten minutes
        tally.expect(watcher.wait(timeout=20) == 74 and watcher.stderr.read().count(b"\n") == 0,
                     "the reader went away")
    with open("/dev/full", "wb") as full:
        done = run("monitor", "--quiet", "--count", "1", stdout=full, env=env)
    expect_exit(tally, done, 74)
    engine.process.kill()
    engine.finish()
    tally.expect(path.exists(), "a killed process leaves its file")
    (path.parent / f".{engine.pid}.json").write_text("{")
    tally.expect(monitor(env=env).returncode == 69 and not list(path.parent.iterdir()),
                 "and monitor removes it")


def check_files(tally, folder):
    """Files that say nothing, of processes that are others, of other versions."""
    env = surroundings(folder)
    place = folder / "embound"
    place.mkdir(mode=0o700, exist_ok=True)
    me = os.getpid()
    fields = pathlib.Path(f"/proc/{me}/stat").read_text().rsplit(")", 1)[1].split()
    good = {"pid": me, "started": int(fields[19]), "model": "m\u00e9\n\"x\"", "device": "cpu",
            "dtype": "f32", "texts": 5, "a later field": [{"x": [1, None]}]}
    mine = place / f"{me}.json"
    for text in ["", "{", "[]", "null", '{"pid":"x"}', '{"pid":-1}', '{"texts":1e99}',
                 "\xff" * 9000, json.dumps({**good, "pid": 1}),
                 json.dumps({**good, "model": "m" * 500})]:
        mine.write_text(text, encoding="latin-1")
        tally.expect(monitor(env=env).returncode == 69 and mine.exists(), f"file {text[:40]!r}")
    (place / "notes.txt").write_text("not ours")
    (place / "0.json").write_text("{}")
    (place / "99999999999999999999.json").write_text("{}")
    mine.write_text(json.dumps(good))
    found, code = reports(env)
    tally.expect(code == 0 and found[0]["engines"][0]["model"] == good["model"]
                 and found[0]["engines"][0]["texts"] == 5, f"{found}")
    mine.write_text(json.dumps({**good, "started": int(fields[19]) + 1}))
    tally.expect(monitor(env=env).returncode == 69 and not mine.exists(),
                 "a number that went to another process")
    target = folder / "target.json"
    target.write_text(json.dumps(good))
    mine.symlink_to(target)
    tally.expect(monitor(env=env).returncode == 69 and target.exists(), "a link for a file")
    mine.unlink()
    tally.expect(len(list(place.iterdir())) == 3, "foreign files stay")


def check_folders(tally, folder):
    """Folders that --status refuses; where the file goes without XDG_RUNTIME_DIR."""
    texts = folder / "t.txt"
    texts.write_text("one\ntwo\n")
    place, aside = folder / "embound", folder / "aside"
    aside.mkdir(mode=0o700)

    def encode(env, *options):
        return run("encode", BERT, "-i", texts, "-o", folder / "o.npy", *options, env=env)

    place.symlink_to(aside)
    expect_exit(tally, encode(surroundings(folder), "--status"), 74, "--status", "link")
    tally.expect(not (folder / "o.npy").exists() and not list(aside.iterdir()), "nothing written")
    expect_exit(tally, encode(surroundings(folder)), 0)
    place.unlink()
    place.write_text("a file")
    expect_exit(tally, encode(surroundings(folder), "--status"), 74, "--status", "no folder")
    place.unlink()
    place.mkdir()
    place.chmod(0o777)
    expect_exit(tally, encode(surroundings(folder), "--status"), 74, "written by others")
    place.rmdir()
    if os.geteuid() == 0:
        place.mkdir(mode=0o700)
        os.chown(place, 65534, 65534)
        expect_exit(tally, encode(surroundings(folder), "--status"), 74, "another user")
        place.rmdir()
    else:
        tally.skip("a folder of another user: not root")
    shared = pathlib.Path(f"/tmp/embound-{os.geteuid()}")
    for runtime in ("", "relative", str(folder / "absent")):
        env = surroundings(runtime)
        engine = Engine(env, folder / "o.npy")
        path, end = shared / f"{engine.pid}.json", time.time() + 20
        while not path.exists() and time.time() < end:
            time.sleep(0.02)
        found = [e["pid"] for e in reports(surroundings(folder))[0][0]["engines"]]
        tally.expect(engine.pid in found, f"XDG_RUNTIME_DIR={runtime!r}: {found}")
        tally.expect(engine.finish() == 0 and not path.exists(), "removed from /tmp")
    pairs = folder / "p.csv"
    pairs.write_text("score,sentence1,sentence2\n1,a cat,a dog\n3,moon,river\n5,mat,mat\n")
    env = surroundings(folder)
    expect_exit(tally, run("eval", BERT, "-i", pairs, "--against", BERT, "--status", env=env), 0)
    expect_exit(tally, run("bench", BERT, "-i", texts, "--repeat", "2", "--status", env=env), 0)
    tally.expect(place.is_dir() and not list(place.iterdir()), "eval and bench clean up")


def check_options(tally, folder):
    """What the options refuse."""
    env = surroundings(folder, NVML)
    for value in ("0", "-1", "abc", "1x", "nan", "inf", "1e9", "0.01"):
        expect_exit(tally, monitor("--interval", value, env=env), 64, "--interval", "seconds")
    for value in ("0", "-1", "1.5", "4294967296"):
        expect_exit(tally, monitor("--count", value, env=env), 64, "--count")
    expect_exit(tally, monitor(BERT, env=env), 64, "options alone")
    expect_exit(tally, monitor("--memory", "1GiB", env=env), 64, "--memory")
    expect_exit(tally, run("search", BERT, "--status", "x", env=env), 64, "--status")
    shown = monitor("--help", env=env)
    tally.expect(shown.returncode == 0 and b"--interval" in shown.stdout, "help")


def main():
    """Runs the checks."""
    tally = program.Tally()
    if ready(tally) and NVML.exists():
        for check in (check_gpus, check_nothing, check_engine, check_device, check_stops,
                      check_files, check_folders, check_options):
            with tempfile.TemporaryDirectory(prefix="embound-monitor-") as folder:
                check(tally, pathlib.Path(folder))
    elif not NVML.exists():
        tally.skip(f"{NVML} is not built")
    tally.end()


if __name__ == "__main__":
    main()
