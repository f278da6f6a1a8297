#!/usr/bin/env python3
"""Speed and latency of the backend in a real tritonserver, on one core, beside the library alone,
a backend that only echoes, and sentence-transformers in a Python backend; interleaved.

Run by build/venv-triton/bin/python after make test-triton and tools/oracle_env.sh. The server has
core 0, NVIDIA's perf_analyzer (from the package tritonclient 2.51) core 1. Prints JSON lines.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile

import numpy

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "triton"))
import triton_server  # noqa: E402
from support import program  # noqa: E402

ORACLE = ROOT / "build/venv-oracle"


def perf_analyzer(folder):
    """NVIDIA's load client, from the wheel; two of its libraries are those of the server's."""
    home = program.BUILD / "perf_analyzer"
    binary = home / "tritonclient-2.51.0.data/data/bin/perf_analyzer"
    if not binary.exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                        "--only-binary", ":all:", "-d", str(folder), "tritonclient==2.51.0"],
                       check=True)
        with zipfile.ZipFile(next(pathlib.Path(folder).glob("tritonclient-*.whl"))) as wheel:
            wheel.extractall(home)
        binary.chmod(0o755)
        libraries = triton_server.server_program().parents[3] / "nvidia_pytriton.libs"
        for name, pattern in (("libb64.so.0d", "libb64-*"), ("libcudart.so.12", "libcudart-*")):
            (home / name).symlink_to(next(libraries.glob(pattern)))
    return binary, dict(os.environ, LD_LIBRARY_PATH=str(home))


def load(client, server, model, data, concurrency, seconds):
    """Texts a second and median latency in ms, as perf_analyzer measures them."""
    binary, environment = client
    done = subprocess.run(
        ["taskset", "-c", "1", str(binary), "-m", model, "-i", "grpc", "-u",
         f"127.0.0.1:{server.grpc_port}", "-b", "1", "--input-data", str(data),
         "--concurrency-range", str(concurrency), "--measurement-interval", str(seconds * 1000),
         "--stability-percentage", "999", "--max-trials", "3"],
        env=environment, capture_output=True, text=True, timeout=300, check=False)
    rate = re.findall(r"Throughput: ([\d.]+) infer/sec", done.stdout)
    median = re.findall(r"p50 latency: (\d+) usec", done.stdout)
    if not rate or not median:
        raise RuntimeError(done.stdout[-1500:] + done.stderr[-1500:])
    return float(rate[-1]), int(median[-1]) / 1e3


def library_rate(model, texts, dtype):
    """Texts a second of the library on one core, without a server."""
    done = subprocess.run(["taskset", "-c", "0", str(program.PROGRAM), "bench", str(model), "-i",
                           str(texts), "--dtype", dtype, "--threads", "1", "--json"],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["texts_per_second"]


def library_latency(model, text, dtype):
    """Milliseconds of one text in the library, the median of many (bench/latency.c)."""
    binary = program.BUILD / "latency"
    if not binary.exists():
        subprocess.run(["cc", "-O2", "-std=gnu17", f"-I{ROOT}/include", "-o", str(binary),
                        str(ROOT / "bench/latency.c"), str(program.BUILD / "libembound.so"),
                        f"-Wl,-rpath,{program.BUILD}"], check=True)
    done = subprocess.run(["taskset", "-c", "0", str(binary), str(model), f"text:{text}", dtype,
                           "1"], input="2000\n", capture_output=True, text=True, check=True)
    return statistics.median(float(word) for word in done.stdout.split())


def python_backend(folder):
    """The server's Python backend with its stub for this Python beside it, as it wants them, and
    sentence-transformers, since the stub looks for modules there."""
    server = triton_server.server_program().parents[1]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = folder / "python"
    shutil.copytree(server / "backends/python", home)
    shutil.copy(server / "python_backend_stubs" / version / "triton_python_backend_stub", home)
    # this server's stub ends with NumPy 2: the one of these tests comes first
    older = pathlib.Path(numpy.__file__).resolve().parents[1].glob("numpy*")
    newer = next(ORACLE.resolve().glob("lib/python3.*/site-packages")).iterdir()
    for path in [*older, *(p for p in newer if not p.name.startswith("numpy"))]:
        if not (home / path.name).exists():
            (home / path.name).symlink_to(path)
    # it looks for its libraries beside the package
    libraries = server.parents[1] / "nvidia_pytriton.libs"
    return home, str(libraries)


def make_repository(folder, model, dtype, echo):
    """The three models; gives the repository and the echo backend's folder."""
    repository = folder / "repository"
    simple = ("max_batch_size: 64\n"
              'input [ { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] } ]\n'
              'output [ { name: "EMBEDDING" data_type: TYPE_FP32 dims: [ 384 ] } ]\n'
              "instance_group [ { kind: KIND_CPU count: 1 } ]\ndynamic_batching { }\n")
    parameter = 'parameters {{ key: "{}" value: {{ string_value: "{}" }} }}\n'
    rows = {"ours": 'backend: "embound"\n' + parameter.format("dtype", dtype) +
                    parameter.format("threads", 1),
            "echo": 'backend: "echo"\n', "python": 'backend: "python"\n'}
    for name, text in rows.items():
        (repository / name / "1").mkdir(parents=True)
        text += simple + parameter.format("model", model) if name != "echo" else simple
        (repository / name / "config.pbtxt").write_text(text)
    shutil.copy(ROOT / "bench/peers/triton_sentence_transformers.py",
                repository / "python/1/model.py")
    home = folder / "echo"
    home.mkdir()
    shutil.copy(echo, home / "libtriton_echo.so")
    return repository, home


def main():
    """Interleaves the rows, several rounds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default=ROOT / "build/models/all-MiniLM-L6-v2",
                        type=pathlib.Path)
    parser.add_argument("--texts", required=True, type=pathlib.Path, help="a sentence a line")
    parser.add_argument("--dtype", default="int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--reloads", type=int, default=0,
                        help="instead of speed: load and unload so often under load")
    options = parser.parse_args()
    if options.reloads:
        options.rounds = 0
    model = options.model.resolve()
    lines = [t for t in options.texts.read_text(encoding="utf-8").splitlines() if t][:4096]
    with tempfile.TemporaryDirectory(prefix="embound-triton-") as place:
        folder = pathlib.Path(place)
        client = perf_analyzer(folder)
        data, texts, one = (folder / name for name in ("data.json", "texts.txt", "one.json"))
        one.write_text(json.dumps({"data": [{"TEXT": lines[:1]}]}))
        data.write_text(json.dumps({"data": [{"TEXT": [t]} for t in lines]}))
        texts.write_text("\n".join(lines * 8) + "\n")
        python, libraries = python_backend(folder)
        repository, echo = make_repository(folder, model, options.dtype,
                                           program.BUILD / "tests/echo_backend.so")
        if options.reloads:
            reload_often(repository, echo, options.reloads)
        rows = {}
        for number in range(options.rounds):
            rows.setdefault("library", []).append(library_rate(model, texts, options.dtype))
            rows.setdefault("library_ms", []).append(library_latency(model, lines[0],
                                                                     options.dtype))
            for name in ("echo", "ours", "python"):
                if name == "python" and number:
                    continue
                with triton_server.Server(repository, load=[name], cores="0", wait=120,
                                          backends=[str(echo), str(python)],
                                          environment={"LD_LIBRARY_PATH": libraries,
                                                       "OMP_NUM_THREADS": "1"}) as server:
                    load(client, server, name, data, 64, 1)
                    rows.setdefault(name, []).append(
                        load(client, server, name, data, 64, options.seconds)[0])
                    rows.setdefault(name + "_ms", []).append(
                        load(client, server, name, one, 1, options.seconds)[1])
        if rows:
            report(rows, options)


def slope(samples):
    """Bytes a round by least squares; the first fifth, in which pools fill, is left out."""
    kept = samples[len(samples) // 5:]
    xs, ys = [x for x, _ in kept], [y for _, y in kept]
    middle = statistics.mean(xs)
    return (sum((x - middle) * y for x, y in kept) / sum((x - middle) ** 2 for x in xs)
            if len(set(ys)) > 1 else 0.0)


def reload_often(repository, echo, rounds):
    """Loads and unloads each model under load of two clients; gives RSS slopes and failures."""
    import server_lifecycle
    found = {}
    for name in ("echo", "ours"):
        with triton_server.Server(repository, backends=[str(echo)]) as server:
            server.load(name)
            module, client = server.clients()[1]
            want = client.infer(name, triton_server.inputs(module, texts=server_lifecycle.TEXTS))
            loads = [server_lifecycle.Load(server, name, want.as_numpy("EMBEDDING"))
                     for _ in range(2)]
            for one in loads:
                one.start()
            samples = []
            for number in range(rounds):
                server.unload(name)
                server.load(name)
                samples.append((number, server.memory("VmRSS")))
            for one in loads:
                one.ends.set()
                one.join()
            found[name] = {"rss_slope_bytes": round(slope(samples)),
                           "answered": sum(one.answered for one in loads),
                           "unavailable": sum(one.unavailable for one in loads),
                           "failed": [w for one in loads for w in one.wrong][:5]}
    print(json.dumps({"bench": "triton_reloads", "rounds": rounds, **found}))


def report(rows, options):
    """The medians, and the ratios that matter."""
    best = {k: statistics.median(v) for k, v in rows.items()}
    # what is left of the library's speed once the server's own work is done, on the same core
    possible = 1 / (1 / best["library"] + 1 / best["echo"])
    print(json.dumps({
        "bench": "triton", "model": options.model.name, "dtype": options.dtype,
        "texts_a_second": {k: round(v, 1) for k, v in best.items() if not k.endswith("_ms")},
        "median_ms": {k[:-3]: round(v, 4) for k, v in best.items() if k.endswith("_ms")},
        "share_of_possible": round(best["ours"] / possible, 3),
        "over_python": round(best["ours"] / best["python"], 2),
        "above_ms": round(best["ours_ms"] - best["echo_ms"] - best["library_ms"], 4),
        "rounds": rows}))


if __name__ == "__main__":
    main()
