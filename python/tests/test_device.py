"""Where a model computes: what is said of a GPU that is not used, EMB_DEVICE, other threads.

SPDX-License-Identifier: Apache-2.0
"""
import os
import subprocess
import sys

import pytest
from conftest import FAKE_GPU, FAKE_MODULE, TINY

pytestmark = pytest.mark.skipif(not FAKE_MODULE.exists(), reason="make everything")
OPEN = f"""
import embound, sys, threading
def made(**options):
    return embound.SentenceTransformer({str(TINY)!r}, **options)
"""


def python(source, **variables):
    """A program of its own with the fake GPU; gives (output, messages)."""
    done = subprocess.run([sys.executable, "-c", OPEN + source], text=True, capture_output=True,
                          timeout=120, env={**os.environ, **FAKE_GPU, **variables}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip(), done.stderr


def test_a_reason_is_told_once_at_the_users_line():
    _, messages = python("made()\nmade().encode('x')\nmade().open()", EMB_FAKE_DRIVER="none")
    assert messages.count("DeviceWarning") == 1 and "<string>:4: DeviceWarning" in messages
    assert "the NVIDIA driver finds no GPU" in messages


def test_a_warning_made_an_error_leaves_no_engine():
    said, _ = python("""
import warnings
warnings.simplefilter("error", embound.DeviceWarning)
try:
    made()
except embound.DeviceWarning as warning:
    print(warning)
print(made().encode("x").shape)
""", EMB_FAKE_DRIVER="none")
    assert "finds no GPU" in said and said.endswith("(32,)")


def test_what_is_quiet_is_in_the_log_of_who_asks():
    source = "import logging\nlogging.basicConfig(level='DEBUG')\nprint(made().device)"
    said, messages = python(source, CUDA_VISIBLE_DEVICES="")
    assert said == "cpu" and "DEBUG:embound:" in messages and "Warning" not in messages


@pytest.mark.parametrize("value,device", [
    ("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("auto", "cuda:0"), ("", "cuda:0")])
def test_emb_device_is_the_default(value, device):
    said, messages = python("print(made().device, made(device='cuda:0').device)",
                            EMB_DEVICE=value, EMB_FAKE_DEVICES="2")
    assert said == f"{device} cuda:0" and not messages


def test_emb_device_must_be_one():
    said, _ = python("""
try:
    made()
except embound.UnsupportedError as error:
    print(error)
""", EMB_DEVICE="tpu")
    assert said.startswith("EMB_DEVICE: device 'tpu'")


def test_emb_device_is_named_where_it_cannot_be_had():
    said, _ = python("""
for options in {}, {"device": "cuda"}:
    try:
        made(**options).encode("x")
    except embound.DeviceError as error:
        print(error)
m = made(device="cpu")
try:
    m.to("cuda").encode("x")
except embound.DeviceError as error:
    print(error)
""", EMB_DEVICE="cuda", EMB_FAKE_DRIVER="none")
    reason = "no usable CUDA device: the NVIDIA driver finds no GPU, or use device='cpu'"
    assert said.split("\n") == [f"EMB_DEVICE=cuda: {reason}", reason, reason]


def test_a_figure_for_a_gpu_on_the_cpu():
    source = "m = made(gpu_memory='1GiB', device={})\nprint(m.device, m.encode('x').shape)"
    for device, variables in (("'cpu'", {}), ("None", {"EMB_DEVICE": "cpu"})):
        said, messages = python(source.format(device), **variables)
        assert said == "cpu (32,)" and "gpu_memory bounds nothing" in messages
    said, messages = python("""
m = made(gpu_memory='1GiB', device='cuda').cpu()
print(m.device, m.plan()['device_bytes_max'], m.cuda().plan()['device_bytes_max'])
""")
    assert said == f"cpu 0 {1 << 30}" and not messages


def test_token_vectors_say_where_they_are_made():
    pytest.importorskip("torch")
    said, messages = python("""
m = made()
print(m.encode("x").shape, m.device)
print(len(m.encode("x", output_value="token_embeddings")), m.encode("x").shape, m.device)
""")
    assert said.split("\n") == ["(32,) cuda:0", "3 (32,) cuda:0"]
    assert messages.count("DeviceWarning") == 1 and "vectors of tokens" in messages


def test_after_fork_the_device_is_what_computes():
    said, messages = python("""
import os
m = made()
m.encode("x")
if os.fork() == 0:
    m.encode("x")
    print(m.device, m.dtype, m.plan()["device_reason"])
    sys.stdout.flush()
    os._exit(0)
os.wait()
print(m.device, m.encode("x").shape)
""")
    child, parent = said.split("\n")
    assert child.startswith("cpu f32 this process was forked") and parent == "cuda:0 (32,)"
    assert messages.count("DeviceWarning") == 1


def test_threads_may_plan_while_others_encode():
    said, _ = python("""
m = made()
expected = m.encode(["x"] * 300).tobytes()
wrong = []
def work(number):
    for _ in range(5):
        other = made(dtype="f16")
        if m.encode(["x"] * 300).tobytes() != expected or other.plan()["device"] != "cuda":
            wrong.append(number)
threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(wrong)
""", EMB_FAKE_JITTER="50")
    assert said == "[]"


def test_a_figure_for_a_gpu_is_none_for_the_cpus_work():
    said, _ = python("""
first, second = made(gpu_memory='2GiB'), made()
print(first.encode("x").shape, second.encode("x").shape, first.device, second.device)
for model in first, second, first:
    print(model._core.encode_tokens(["a b"], None)[0][0].shape, model.plan()["device"])
""")
    assert said.split("\n") == ["(32,) (32,) cuda:0 cuda:0"] + 3 * ["(4, 32) cpu"]


def test_reasons_in_other_encodings():
    said, messages = python("m = made()\nprint(ascii(m.plan()['device_reason']), m.device)",
                            CUDA_VISIBLE_DEVICES=os.fsdecode(b"9\351"))
    assert said.startswith("'CUDA_VISIBLE_DEVICES=9\\ufffd leaves no GPU") and said.endswith("cpu")
    assert messages.count("DeviceWarning") == 1


def test_who_hears_of_the_device_may_use_the_model():
    said, _ = python("""
import faulthandler, warnings
faulthandler.dump_traceback_later(60, exit=True)
m = made()
embound._errors._told.clear()
def show(*arguments, **named):
    print(m.plan()["device"], m.encode("x").shape)
warnings.resetwarnings()
warnings.showwarning = show
print(m.encode("x").shape)
""", EMB_FAKE_DRIVER="none")
    assert said.split("\n") == ["cpu (32,)", "(32,)"]


def test_what_bounds_no_gpu_is_not_in_the_account():
    said, _ = python("""
made(gpu_memory='1GiB', device='cuda').cpu().open()
m = made(gpu_memory='1GiB', device='cuda').cpu().open()
embound.trace_memory()
m.cuda().open()
embound.trace_memory()
""")
    assert said.count("bounded by gpu_memory") == 1
