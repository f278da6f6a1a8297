"""A real tritonserver with this build's backend, for tests and measurements: repositories, the
server's process, requests.

SPDX-License-Identifier: Apache-2.0
"""
import contextlib
import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support import program  # noqa: E402

BACKENDS = ("libtriton_embound.so", "batchstrategy.so")


def end_without_client():
    """Ends a suite as skipped where the clients, or NumPy, are missing."""
    if importlib.util.find_spec("tritonclient") and importlib.util.find_spec("numpy"):
        return
    print("skipped: no tritonclient here (make test-triton makes an environment)")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(77)


def server_program():
    """Where the package nvidia-pytriton has its server, or None."""
    found = importlib.util.find_spec("pytriton")
    if not found:
        return None
    path = pathlib.Path(found.submodule_search_locations[0]) / "tritonserver/bin/tritonserver"
    return path if path.exists() else None


def tensor(name, kind, dims, **more):
    """A tensor of a config.pbtxt."""
    fields = "".join(f" {k}: {v}" for k, v in more.items())
    return f'{{ name: "{name}" data_type: {kind} dims: {dims}{fields} }}'


def configuration(dim, /, batch=64, dynamic="", output="TYPE_FP32", ids="TYPE_INT32", group=None,
                  more="", backend="embound", **parameters):
    """The text of a config.pbtxt; `dynamic`: the inside of dynamic_batching, or None."""
    inputs = [tensor("TEXT", "TYPE_STRING", "[ 1 ]" if batch else "[ -1 ]", optional="true"),
              tensor("INPUT_IDS", ids, "[ -1 ]" if batch else "[ -1, -1 ]", optional="true",
                     allow_ragged_batch="true"),
              tensor("PROMPT_NAME", "TYPE_STRING", "[ 1 ]" if batch else "[ -1 ]",
                     optional="true")]
    lines = [f'backend: "{backend}"', f"max_batch_size: {batch}",
             f"input [ {', '.join(inputs)} ]",
             f"output [ {tensor('EMBEDDING', output, [dim] if batch else [-1, dim])} ]",
             f"instance_group [ {group or '{ kind: KIND_CPU count: 1 }'} ]", more]
    if dynamic is not None and batch:
        lines.append(f"dynamic_batching {{ {dynamic} }}")
    lines += [f'parameters {{ key: "{k}" value: {{ string_value: "{v}" }} }}'
              for k, v in parameters.items()]
    return "\n".join(lines) + "\n"


def add_model(repository, name, model, text, version=1):
    """Puts a model into a repository, its files by links."""
    folder = pathlib.Path(repository) / name / str(version)
    folder.mkdir(parents=True)
    for path in pathlib.Path(model).iterdir():
        (folder / path.name).symlink_to(path.resolve())
    (folder.parent / "config.pbtxt").write_text(text)
    return folder


def free_ports(count):
    """Ports of this machine that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Server:
    """A tritonserver in explicit mode, ended with the `with` block; `result` is its exit status."""

    def __init__(self, repository, *arguments, load=(), cores=None, environment=None,
                 backends=(), wait=30):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="embound-triton-"))
        self.http_port, self.grpc_port, self.metrics_port = free_ports(3)
        self.result, self.opened = None, []
        home = self.folder / "backends" / "embound"
        home.mkdir(parents=True)
        for name in BACKENDS:
            shutil.copy(program.BUILD / name, home / name)
        for folder in backends:
            (self.folder / "backends" / pathlib.Path(folder).name).symlink_to(folder)
        ports = [f"--{kind}-{what}={value}" for kind, port in (
            ("http", self.http_port), ("grpc", self.grpc_port), ("metrics", self.metrics_port))
            for what, value in (("address", "127.0.0.1"), ("port", port))]
        command = [str(server_program()), f"--model-repository={repository}",
                   f"--backend-directory={self.folder / 'backends'}", *ports,
                   "--model-control-mode=explicit", "--exit-timeout-secs=10",
                   "--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0",
                   *(f"--load-model={name}" for name in load), *arguments]
        if cores:
            command = ["taskset", "-c", cores, *command]
        self.log_path = self.folder / "log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL,
                                            env=dict(os.environ, **(environment or {})))
        self.wait_ready(wait)

    def wait_ready(self, seconds):
        """Until it answers, has ended, or the time is over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self.url("v2/health/ready"), timeout=5):
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("tritonserver is not ready:\n" + self.log()[-3000:])

    def url(self, path):
        """An address of its HTTP interface."""
        return f"http://127.0.0.1:{self.http_port}/{path}"

    def log(self):
        """What it has printed so far."""
        return self.log_path.read_text(errors="replace")

    def get(self, path):
        """The JSON at a path."""
        with urllib.request.urlopen(self.url(path), timeout=30) as answer:
            return json.load(answer)

    def post(self, path, body=None):
        """Posts JSON; gives the status and the text."""
        request = urllib.request.Request(self.url(path), json.dumps(body or {}).encode(),
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def load(self, name):
        """Loads (or loads anew) a model."""
        return self.post(f"v2/repository/models/{name}/load")

    def unload(self, name):
        """Unloads a model, and waits until it is gone."""
        answer = self.post(f"v2/repository/models/{name}/unload")
        until = time.monotonic() + 20
        while time.monotonic() < until:
            states = self.post("v2/repository/index")[1]
            if not any(m["name"] == name and m.get("state") in ("READY", "UNLOADING")
                       for m in json.loads(states)):
                break
            time.sleep(0.01)
        return answer

    def metrics(self, name, **labels):
        """Values of a metric, by its labels as text."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            text = answer.read().decode()
        found = dict(re.findall(rf"^{name}(\{{[^}}]*\}})? (\S+)$", text, re.M))
        return {k: float(v) for k, v in found.items()
                if all(f'{label}="{value}"' in k for label, value in labels.items())}

    def memory(self, key="VmHWM"):
        """A figure of its /proc status, in bytes."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{key}:\s+(\d+) kB", text, re.M).group(1)) * 1024

    def clients(self):
        """The modules tritonclient.http and .grpc, each with a client; the server does not end
        while one is connected, so they are closed before it."""
        import tritonclient.grpc
        import tritonclient.http
        if not self.opened:
            self.opened = [(module, module.InferenceServerClient(f"127.0.0.1:{port}"))
                           for module, port in ((tritonclient.http, self.http_port),
                                                (tritonclient.grpc, self.grpc_port))]
        return self.opened

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _module, client in self.opened:
            client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.result = self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.result = self.process.wait()
        if self.result:
            print(self.log()[-3000:])
        shutil.rmtree(self.folder)


def inputs(client, texts=None, ids=None, prompts=None, batch=True, wide=False):
    """Input tensors for either client (the modules tritonclient.http and .grpc)."""
    import numpy  # the environment of these tests has it
    made = []
    for name, strings in (("TEXT", texts), ("PROMPT_NAME", prompts)):
        if strings is None:
            continue
        array = numpy.array([s if isinstance(s, bytes) else s.encode() for s in strings],
                            dtype=object)
        array = array.reshape(-1, 1) if batch else array
        made.append(client.InferInput(name, list(array.shape), "BYTES"))
        made[-1].set_data_from_numpy(array)
    if ids is not None:
        longest = max(len(row) for row in ids)
        array = numpy.full((len(ids), longest), -1, dtype=numpy.int64 if wide else numpy.int32)
        for i, row in enumerate(ids):
            array[i, :len(row)] = row
        made.append(client.InferInput("INPUT_IDS", list(array.shape),
                                      "INT64" if wide else "INT32"))
        made[-1].set_data_from_numpy(array)
    return made


def library_vectors(model, texts, *arguments):
    """What `embound encode` gives for these texts."""
    import numpy
    with tempfile.TemporaryDirectory(prefix="embound-triton-") as folder:
        path = pathlib.Path(folder) / "in.jsonl"
        path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
        done = program.run("encode", model, "-i", path, "-o", f"{folder}/out.npy", "--quiet",
                           *arguments)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return numpy.load(f"{folder}/out.npy")


def library_ids(model, texts):
    """The token ids of each text, without special tokens."""
    with tempfile.TemporaryDirectory(prefix="embound-triton-") as folder:
        path = pathlib.Path(folder) / "in.jsonl"
        path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
        done = program.run("tokenize", model, "-i", path, "--no-specials")
        if done.returncode:
            raise RuntimeError(done.stderr)
        return [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
