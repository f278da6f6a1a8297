#!/usr/bin/env python3
"""What a GPU run must survive and must not do, on a real device; JSON lines.

steady    10,000 batches through one engine: no driver call that takes memory, NVML's figure still
faults    every call of the CUDA driver failed in turn: clear message, exit code, valid rows
sanitize  the whole engine under compute-sanitizer's memcheck, racecheck and synccheck
monitor   `embound monitor` beside nvidia-smi while an engine works

usage: bench/gpu_faults.py STEP... --model DIR --texts DIR [--seconds N]
SPDX-License-Identifier: Apache-2.0
"""
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading

from gpu_common import (BUILD, DTYPE, FAKE, MIB, PROGRAM, ROOT, emit, lines_of, main, mib, plan,
                        run, write_lines)

SHIM = BUILD / "tests" / "driver_calls.so"
STEADY = BUILD / "tests" / "gpu_steady"
TINY = ROOT / "tests" / "data" / "tiny-bert"
TINY_MPNET = ROOT / "tests" / "data" / "tiny-mpnet"
TAKES = re.compile(r"Alloc|Create|Instantiate|LoadData|LoadFat|ModuleLoad|LibraryLoad|Register|"
                   r"AddressReserve|MemMap|Import|Upload|SetLimit|EnablePeer|GetModule|GetKernel|"
                   r"ModuleGetFunction")  # cuKernelGetFunction looks up what plain launches set
CODES = (69, 70, 71, 75)  # device, internal, system resource, try again


# ---- steady ------------------------------------------------------------------------------------

def steady_one(label, model, batches, extra, watch, clock):
    """One engine."""
    module = os.environ.get("EMB_CUDA_MODULE", str(BUILD / "libembound_cuda.so"))
    env = {**os.environ, "LD_PRELOAD": str(SHIM), "EMB_CUDA_MODULE": module}
    watch.report()
    with subprocess.Popen([str(STEADY), str(model), str(batches), DTYPE, *map(str, extra)],
                          env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        try:
            shown, messages = process.communicate(timeout=clock.left())
        except subprocess.TimeoutExpired:
            process.kill()
            shown, messages = "", "ended: the step's time is over"
        pid = process.pid
    seen = watch.report()
    if process.returncode or not shown:
        emit(check="steady", case=label, failed=messages.strip(), passed=False)
        return False
    line = json.loads(shown)
    changes = [(at, held) for at, who, held in seen["changes"]
               if who == pid and line["ready"] <= at <= line["done"]]
    calls = line["calls"] or {}
    taking = {name: number for name, number in calls.items() if TAKES.search(name)}
    counted = bool(calls) or bool(FAKE)
    polls = seen["processes"].get(str(pid))
    good = not changes and not taking and counted and line["batches"] == batches
    emit(check="steady", case=label, batches=batches, texts=line["texts"], tokens=line["tokens"],
         rung=line["rung"], seconds=round(line["done"] - line["ready"], 2),
         calls_after_ready=sum(calls.values()), kinds={k.split("#")[0]: v for k, v in
                                                       sorted(calls.items())},
         calls_that_take_memory=taking, device_bytes_planned=line["device_bytes"],
         device_bytes_nvml=polls, nvml_changes_after_ready=changes, polls=seen["polls"],
         gap=seen["gap"], passed=good)
    return good


def steady(options, _, watch, clock):
    """With resident weights, recorded and plain, and with streamed ones."""
    made = plan(options.model, "--device", "cuda", "--dtype", DTYPE)
    if "device_bytes_min" not in made:
        emit(check="steady", failed=made, passed=False)
        return False
    good = steady_one("full", options.model, options.count(10000), (), watch, clock)
    good &= steady_one("plain launches", options.model, options.count(10000), (0, "plain"), watch,
                       clock)
    return steady_one("smallest budget", options.model, options.count(1000),
                      (made["device_bytes_min"],), watch, clock) and good


# ---- faults ------------------------------------------------------------------------------------

def fault_run(texts, failing, report):
    """The finished encode to standard output with the N-th call failing; N = 0: none."""
    env = {"EMB_FAKE_FAIL": str(failing)} if FAKE else {
        "LD_PRELOAD": str(SHIM), "DRIVER_FAIL": str(failing), "DRIVER_CALLS": str(report)}
    return run("encode", TINY, "-i", texts, "-o", "-", "--output-format", "jsonl", "--device",
               "cuda", "--dtype", DTYPE, "--threads", 1, "--quiet", timeout=60, env=env)


def fault_order(report):
    """(number, name) of every call of a run that was not failed, those of each name's first and
    last use before the rest, which is spread evenly."""
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    names = {int(key.rsplit("#", 1)[1]): key.rsplit("#", 1)[0] for key in lines[-1]["functions"]}
    order = lines[-1]["order"]
    firsts, lasts = {}, {}
    for number, stub in enumerate(order, 1):
        firsts.setdefault(stub, number)
        lasts[stub] = number
    ends = sorted({*firsts.values(), *lasts.values()})
    rest = [n for n in range(1, len(order) + 1) if n not in set(ends)]
    step = 127 if len(rest) % 127 else 128
    spread = [rest[i * step % len(rest)] for i in range(len(rest))] if rest else []
    spread = list(dict.fromkeys(spread)) + [n for n in rest if n not in set(spread)]
    return [(n, names[order[n - 1]]) for n in ends + spread]


def fault_verdict(done, reference):
    """Why the end of a failed run is not clean; None if it is."""
    if done.returncode == 0:
        return None if done.stdout == reference else "exit 0 with other rows"
    if done.returncode == 124:
        return "hangs"
    if done.returncode < 0 or done.returncode >= 128:
        return f"killed: {done.returncode}"
    if done.returncode not in CODES:
        return f"exit {done.returncode}"
    if not done.stderr.strip():
        return "no message"
    return None if reference.startswith(done.stdout) else "rows that are not valid"


def faults(options, folder, _, clock):
    """Each call of the driver."""
    texts = write_lines(folder / "texts.txt",
                        lines_of(options.texts / "tiny.txt") * (1 if FAKE else 20))
    report = folder / "report"
    reference = fault_run(texts, 0, report)
    if reference.returncode:
        emit(check="faults", failed=reference.stderr.strip(), passed=False)
        return False
    order = [(n, "fake") for n in range(1, 20)] if FAKE else fault_order(report)

    def one(item):
        if clock.over(2):
            return item, None, None
        with tempfile.NamedTemporaryFile() as scratch:
            done = fault_run(texts, item[0], scratch.name)
        return item, done, fault_verdict(done, reference.stdout)

    tried, codes, bad = 0, {}, []
    with concurrent.futures.ThreadPoolExecutor(2 if FAKE else 8) as pool:
        for (number, name), done, why in pool.map(one, order):
            if done is None:
                continue
            tried += 1
            codes[done.returncode] = codes.get(done.returncode, 0) + 1
            if why:
                bad.append((number, name, why))
            if why and len(bad) <= 20:
                emit(check="faults", call=number, function=name, wrong=why,
                     message=done.stderr.strip()[:300])
    emit(check="faults", calls=len(order), tried=tried, functions=len({n for _, n in order}),
         exit_codes=codes, wrong=len(bad), passed=not bad and tried > 0)
    return not bad and tried > 0


# ---- sanitize ----------------------------------------------------------------------------------

def sanitize_one(case, tool_path, texts, folder, clock):
    """One run under one tool; gives whether nothing was found."""
    tool, model, dtype = case
    if clock.over(5):
        emit(check="sanitize", tool=tool, model=model.name, dtype=dtype, left_out="time")
        return False
    out = folder / f"{tool}-{model.name}-{dtype}.npy"
    command = [tool_path, "--tool", tool, "--error-exitcode", "9", str(PROGRAM), "encode",
               str(model), "-i", str(texts), "-o", str(out), "--device", "cuda", "--dtype", dtype,
               "--quiet"]
    try:
        done = subprocess.run(command, text=True, capture_output=True, check=False,
                              timeout=clock.left())
        code, shown = done.returncode, (done.stdout + done.stderr).strip().split("\n")
    except subprocess.TimeoutExpired:
        code, shown = 124, ["ended: the step's time is over"]
    emit(check="sanitize", tool=tool, model=model.name, dtype=dtype, exit=code,
         last=shown[-1][-200:], shown=shown[:12] if code else None, passed=code == 0)
    return code == 0


def sanitize(options, folder, _, clock):
    """compute-sanitizer over encode."""
    tool_path = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin")
    if not tool_path:
        emit(check="sanitize", skipped="no compute-sanitizer here")
        return None
    texts = write_lines(folder / "texts.txt", lines_of(options.texts / "tiny.txt")[:12])
    cases = [(tool, model, dtype) for tool in ("memcheck", "racecheck", "synccheck")
             for model, dtype in ((options.model, DTYPE), (TINY_MPNET, "f16"), (TINY_MPNET, "f32"),
                                  (TINY, "bf16"))]
    with concurrent.futures.ThreadPoolExecutor(max_workers=6) as pool:
        found = list(pool.map(lambda case: sanitize_one(case, tool_path, texts, folder, clock),
                              cases))
    return all(found)


# ---- monitor -----------------------------------------------------------------------------------

def feed(process, lines, stop):
    """Texts until told to stop."""
    try:
        while not stop.is_set():
            process.stdin.write(("\n".join(lines) + "\n").encode())
        process.stdin.close()
    except BrokenPipeError:
        pass


def smi():
    """nvidia-smi's figures of GPU 0; empty if it is not there."""
    command = ["nvidia-smi", "-i", "0", "--format=csv,noheader,nounits",
               "--query-gpu=memory.used,memory.total,power.draw,temperature.gpu,clocks.sm"]
    try:
        shown = subprocess.run(command, text=True, capture_output=True, check=False).stdout
        return [float(word) for word in shown.strip().split(",")]
    except (OSError, ValueError):
        return []


def check_report(report, figures, pid):
    """What is implausible about a report of the monitor, by name."""
    wrong, gpu = [], report["gpus"][0] if report["gpus"] else {}
    if not gpu:
        return ["no GPU"]
    if figures:
        used, total, _, temperature, _ = figures
        if abs(gpu["memory_total_bytes"] / MIB - total) > 1024:
            wrong.append(f"total {gpu['memory_total_bytes'] / MIB:.0f} MiB, nvidia-smi {total}")
        if abs(gpu["memory_used_bytes"] / MIB - used) > 700:
            wrong.append(f"used {gpu['memory_used_bytes'] / MIB:.0f} MiB, nvidia-smi {used}")
        if abs(gpu["temperature_celsius"] - temperature) > 15:
            wrong.append(f"temperature {gpu['temperature_celsius']}, nvidia-smi {temperature}")
    for key, low, high in (("utilization_percent", 0, 100), ("power_milliwatts", 10000, 1500000),
                           ("temperature_celsius", 10, 110), ("clock_sm_mhz", 100, 4000),
                           ("clock_memory_mhz", 100, 20000)):
        if gpu.get(key) is None or not low <= gpu[key] <= high:
            wrong.append(f"{key}: {gpu.get(key)}")
    if pid not in [process["pid"] for process in gpu["processes"]]:
        wrong.append(f"process {pid} is not among {gpu['processes']}")
    engines = [engine for engine in report["engines"] if engine["pid"] == pid]
    if not engines:
        return wrong + ["the engine is not shown"]
    observed, planned = engines[0]["device_bytes_observed"], engines[0]["device_bytes_planned"]
    if not observed or observed > planned:
        wrong.append(f"device bytes {observed} of {planned}")
    return wrong


def monitor(options, folder, _, clock):
    """Reports while an engine works."""
    env = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    engine = subprocess.Popen(
        [str(PROGRAM), "encode", str(options.model), "-i", "-", "-o", str(folder / "rows.npy"),
         "--status", "--quiet", "--device", "cuda", "--dtype", DTYPE], env=env,
        stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    stop = threading.Event()
    lines = lines_of(options.texts / ("tiny.txt" if FAKE else "abstracts.txt"))
    feeder = threading.Thread(target=feed, args=(engine, lines, stop))
    feeder.start()
    shown = folder / "embound" / f"{engine.pid}.json"  # where --status writes
    while not shown.exists() and engine.poll() is None and not clock.over(5):
        stop.wait(0.05)
    stop.wait(1)
    done = run("monitor", "--json", "--count", 5, "--interval", 0.5, timeout=clock.left(), env=env)
    figures = smi()
    stop.set()
    feeder.join()
    message = engine.stderr.read().decode().strip()
    code = engine.wait(timeout=60)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [check_report(report, figures, engine.pid) for report in reports]
    good = done.returncode == 0 and len(reports) == 5 and not any(wrong) and code == 0
    cards = [report["gpus"][0] for report in reports if report["gpus"]]
    emit(check="monitor", reports=len(reports), exit=done.returncode, nvidia_smi=figures or None,
         wrong=[w for w in wrong if w],
         busiest=max((card["utilization_percent"] or 0 for card in cards), default=None),
         used_mib=[mib(card["memory_used_bytes"]) for card in cards],
         last=reports[-1] if reports else done.stderr.strip(),
         failed=message if code else None, passed=good)
    return good


if __name__ == "__main__":
    main(__doc__, {"steady": steady, "faults": faults, "sanitize": sanitize, "monitor": monitor})
