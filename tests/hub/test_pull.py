#!/usr/bin/env python3
"""`embound pull` against a hub on loopback: whole, revisions, cuts, wrong bytes, refusals, locks.

SPDX-License-Identifier: Apache-2.0
"""
import concurrent.futures
import fcntl
import hashlib
import json
import os
import pathlib
import random
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from fake_hub import FakeHub, Repo, git_sha1, model_files  # noqa: E402
from support import program  # noqa: E402

NAME = "lab/tiny"
BERT, MPNET = program.TINY
WEIGHTS = "model.safetensors"
USELESS = {"README.md", "pytorch_model.bin", "onnx/model.onnx", ".gitattributes"}


def environment(hub, cache, **more):
    """Only what a pull may see."""
    kept = {k: v for k, v in os.environ.items()
            if not k.lower().endswith("_proxy") and not k.startswith(("HF_", "HUGGING", "TRANSF"))}
    kept.update(HF_ENDPOINT=hub.url(), HF_HUB_CACHE=str(cache), HOME="/nonexistent")
    kept.update({k: str(v) for k, v in more.items()})
    return {k: v for k, v in kept.items() if v}


def embound(*arguments, env, timeout=60, **more):
    """The program, finished."""
    return subprocess.run([str(program.PROGRAM), *map(str, arguments)], env=env, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout,
                          check=False, **more)


def folder_of(cache, name=NAME):
    """Of a model in the cache."""
    return pathlib.Path(cache) / ("models--" + name.replace("/", "--"))


def broken(cache):
    """Blobs whose name is not their checksum, links that lead nowhere: must be none, ever."""
    wrong = []
    for path in pathlib.Path(cache).glob("models--*/blobs/*"):
        data = path.read_bytes()
        if path.suffix != ".incomplete" and path.name not in (hashlib.sha256(data).hexdigest(),
                                                              git_sha1(data)):
            wrong.append(path)
    wrong += [p for p in pathlib.Path(cache).glob("models--*/snapshots/**/*")
              if p.is_symlink() and not p.exists()]
    return wrong


class Suite:
    """A hub with one model, a scratch folder, and the tally."""

    def __init__(self, tally, folder):
        self.tally, self.folder = tally, pathlib.Path(folder)
        self.files = model_files(BERT)
        self.hub = FakeHub()
        self.hub.repos[NAME] = Repo(self.files)

    def cache(self):
        """A new cache."""
        return pathlib.Path(tempfile.mkdtemp(dir=self.folder))

    def pull(self, cache, *arguments, name=NAME, env=None, **more):
        """One pull, finished."""
        done = embound("pull", name, *arguments, env=environment(self.hub, cache, **(env or {})),
                       **more)
        self.tally.expect(not broken(cache), f"half-written: {broken(cache)}")
        return done

    def expect(self, done, code, *words, what=""):
        """Its exit code, and words of its message."""
        shown = f"{what or ' '.join(done.args[1:])}: exit {done.returncode}: {done.stderr[:300]}"
        good = self.tally.expect(done.returncode == code, f"{shown}; wanted {code}")
        for word in words:
            good &= self.tally.expect(word in done.stderr, f"{shown}; the message lacks {word!r}")
        return good

    def is_whole(self, cache, name=NAME, files=None):
        """Whether the snapshot of main holds the files that are needed, and no others."""
        folder = folder_of(cache, name)
        commit = (folder / "refs" / "main").read_text()
        snapshot = folder / "snapshots" / commit
        there = {str(p.relative_to(snapshot)): p.read_bytes()
                 for p in snapshot.rglob("*") if p.is_file()}
        wanted = {p: d for p, d in (files or self.files).items() if p not in USELESS}
        leftover = [p for p in folder.rglob("*.incomplete")] + [p for p in folder.rglob("*.tmp")]
        return there == wanted and not leftover


def check_whole(suite):
    """A pull, a second one, use by name, JSON."""
    tally, cache = suite.tally, suite.cache()
    done = suite.pull(cache)
    suite.expect(done, 0)
    tally.expect(suite.is_whole(cache), "the snapshot")
    path = pathlib.Path(done.stdout.strip())
    tally.expect((path / "config.json").is_symlink(), f"a link in {path}")
    tally.expect((path / "1_Pooling/config.json").resolve().parent.name == "blobs", "a deep link")
    tally.expect(not done.stderr, f"standard error: {done.stderr}")
    gets = len(suite.hub.asked("hub")) + len(suite.hub.asked("store"))
    again = suite.pull(cache, "--json")
    suite.expect(again, 0)
    shown = json.loads(again.stdout)
    tally.expect(shown["bytes_fetched"] == 0 and shown["path"] == str(path), f"{shown}")
    tally.expect(shown["model"] == NAME and len(shown["commit"]) == 40, f"{shown}")
    tally.expect(len(suite.hub.asked("hub")) + len(suite.hub.asked("store")) == gets + 1,
                 "a second pull asks for the listing alone")
    env = environment(suite.hub, cache)
    for name in [NAME, NAME + "@main", f"{NAME}@{shown['commit']}"]:
        suite.expect(embound("plan", name, "--device", "cpu", env=env), 0)
    missing = embound("plan", "lab/other", "--device", "cpu", env=env)
    suite.expect(missing, 66, "embound pull lab/other")
    (path / WEIGHTS).unlink()
    part = embound("plan", NAME, "--device", "cpu", env=env)
    suite.expect(part, 66, "in part", f"embound pull {NAME}")
    suite.expect(suite.pull(cache), 0, what="a link that was lost")
    tally.expect(suite.is_whole(cache), "the link is back")
    moving = suite.pull(suite.cache(), "--progress", "always", env={"HF_HUB_ETAG_TIMEOUT": "3"})
    tally.expect("asking the hub" in moving.stderr, "a moving line")


def check_places(suite):
    """The variables that say where the cache is; copies instead of links; names."""
    tally = suite.tally
    for extra, below in [({"HF_HUB_CACHE": "", "HF_HOME": "{}"}, "hub"),
                         ({"HF_HUB_CACHE": "", "XDG_CACHE_HOME": "{}"}, "huggingface/hub"),
                         ({"HF_HUB_CACHE": "", "HOME": "{}"}, ".cache/huggingface/hub"),
                         ({"HF_HUB_CACHE": "~/x", "HOME": "{}"}, "x"),
                         ({"HF_HUB_CACHE": "", "HUGGINGFACE_HUB_CACHE": "{}"}, "")]:
        base = suite.cache()
        suite.expect(suite.pull(base, env={k: v.format(base) for k, v in extra.items()}), 0)
        tally.expect(suite.is_whole(base / below), f"{extra}")
    cache = suite.cache()
    for _ in range(2):
        done = suite.pull(cache, env={"HF_HUB_DISABLE_SYMLINKS": "1"})
        suite.expect(done, 0)
        tally.expect(suite.is_whole(cache), "without links")
        links = [p for p in folder_of(cache).rglob("*") if p.is_symlink()]
        tally.expect(not links, f"links: {links}")
    suite.hub.repos["sentence-transformers/mini"] = Repo(suite.files)
    suite.hub.repos["bare"] = Repo(suite.files)
    cache = suite.cache()
    suite.expect(suite.pull(cache, name="mini"), 0)
    tally.expect(suite.is_whole(cache, "sentence-transformers/mini"), "of sentence-transformers")
    env = environment(suite.hub, cache)
    suite.expect(embound("plan", "mini", "--device", "cpu", env=env), 0)
    for name in ["a/b/c", "../x", "a--b", "a/", "/etc", "", "a b", "x@", "x@../y", "x@a//b", "-x",
                 "x@-r", "é", "a/..", "." * 3, "n" * 300, "x@" + "r" * 300]:
        done = suite.pull(cache, "--", name=name) if not name.startswith("-") else \
            embound("pull", "--", name, env=env)
        suite.expect(done, 64)


def check_revisions(suite):
    """main, a branch with a slash, a tag, a commit; a new commit of main; none."""
    tally, repo = suite.tally, suite.hub.repos[NAME]
    other = suite.files | {"config_sentence_transformers.json": b"{}"}
    commit = repo.add(other, "refs/pr/1")
    cache = suite.cache()
    suite.expect(suite.pull(cache, name=NAME + "@refs/pr/1"), 0)
    snapshot = folder_of(cache) / "snapshots" / commit
    tally.expect((snapshot / "config_sentence_transformers.json").read_bytes() == b"{}", "pr/1")
    tally.expect((folder_of(cache) / "refs/refs/pr/1").read_text() == commit, "its ref")
    first = suite.hub.asked("hub", part="/api/")[0][2]
    tally.expect("refs%2Fpr%2F1" in first, f"one part of a path: {first}")
    before = len(suite.hub.asked("store"))
    suite.expect(suite.pull(cache, "--revision", "main"), 0)
    tally.expect(len(suite.hub.asked("store")) == before, "equal blobs are not fetched again")
    suite.expect(suite.pull(suite.cache(), "--revision", commit), 0)
    newer = repo.add(suite.files | {"vocab.txt": suite.files["vocab.txt"] + b"new\n"}, "main")
    suite.expect(suite.pull(cache), 0)
    tally.expect((folder_of(cache) / "refs/main").read_text() == newer, "main has moved")
    suite.expect(suite.pull(cache, "--revision", "nope"), 66, "no revision 'nope'")
    suite.expect(suite.pull(cache, "--revision", "0" * 40), 66, "no revision")


def check_shards(suite):
    """Shards and their index; shards beside a whole file; weights that are missing or pickled."""
    tally = suite.tally
    plain = {p: d for p, d in suite.files.items() if p != WEIGHTS}
    shards = {f"model-0000{i}-of-00002.safetensors": os.urandom(20000) for i in (1, 2)}
    shards["model.safetensors.index.json"] = b"{}"
    suite.hub.repos["lab/sharded"] = Repo(plain | shards)
    suite.hub.repos["lab/both"] = Repo(suite.files | shards)
    suite.hub.repos["lab/pickled"] = Repo(plain)
    index = {"model.safetensors.index.json": b"{}", "2_Dense/model.safetensors": b"x"}
    suite.hub.repos["lab/index"] = Repo(plain | index)
    suite.hub.repos["lab/parts"] = Repo({"1_Pooling/config.json": b"{}", WEIGHTS: b"x"})
    suite.hub.repos["lab/empty"] = Repo({"README.md": b"x"})
    suite.hub.repos["lab/other"] = Repo(suite.files | {"config.json": b'{"model_type":"gpt9"}'})
    cache = suite.cache()
    suite.pull(cache, name="lab/sharded")
    tally.expect(suite.is_whole(cache, "lab/sharded", plain | shards), "shards")
    suite.pull(cache, name="lab/both")
    there = {p.name for p in folder_of(cache, "lab/both").glob("snapshots/*/*")}
    tally.expect(WEIGHTS in there and not any("-of-" in p for p in there), f"both: {there}")
    suite.expect(suite.pull(cache, name="lab/pickled"), 64, "no safetensors", "pickled")
    suite.expect(suite.pull(cache, name="lab/index"), 64, "no safetensors")
    suite.expect(suite.pull(cache, name="lab/parts"), 64, "no config.json")
    suite.expect(suite.pull(cache, name="lab/empty"), 64, "no config.json")
    done = suite.pull(cache, name="lab/other")
    tally.expect(done.returncode in (64, 65) and "cannot use it" in done.stderr, done.stderr)
    suite.hub.repos["lab/adapter"] = Repo(suite.files | {
        "adapter_config.json": b"{}", "sentence_roberta_config.json": b"{}"})
    done = suite.pull(cache, name="lab/adapter")
    tally.expect("adapter_config.json: an adapter" in done.stderr, done.stderr)
    tally.expect(list(folder_of(cache, "lab/adapter").glob("snapshots/*/sentence_roberta*")),
                 "the file of the module under another name")
    hostile = suite.files | {"../../evil/config.json": b"x", "1_/../../config.json": b"x",
                             "/etc/config.json": b"x", "1_\n/config.json": b"x"}
    suite.hub.repos["lab/hostile"] = Repo(hostile)
    suite.expect(suite.pull(cache, name="lab/hostile"), 0, what="paths that lead elsewhere")
    tally.expect(suite.is_whole(cache, "lab/hostile", suite.files), "they are left out")


def check_lengths(suite):
    """Lengths from the listing, from the answers, from neither."""
    for suite.hub.sizes, suite.hub.lengths in [(True, False), (False, True)]:
        cache = suite.cache()
        suite.expect(suite.pull(cache), 0)
        suite.tally.expect(suite.is_whole(cache), "lengths")
    suite.hub.lengths = False
    suite.expect(suite.pull(suite.cache()), 65, "no length")


def check_token(suite):
    """Where the token comes from, and that it reaches no other host."""
    tally, hub = suite.tally, suite.hub
    hub.token = "hf_right"
    home = suite.cache()
    (home / "token").write_text("hf_right\n")
    for env in [{"HF_TOKEN": "hf_right"}, {"HUGGING_FACE_HUB_TOKEN": "hf_right"},
                {"HF_HOME": str(home)}, {"HF_TOKEN_PATH": str(home / "token")}]:
        del hub.requests[:]
        suite.expect(suite.pull(suite.cache(), env=env), 0, what=f"{list(env)}")
        tally.expect(all(r[3].get("Authorization") == "Bearer hf_right"
                         for r in hub.requests if r[0] == "hub"), "the hub is told")
        there = [r for r in hub.requests if r[0] == "store"]
        tally.expect(there and not any("Authorization" in r[3] or "hf_right" in str(r[3])
                                       for r in there), "the other host is not")
    def lead_away(handler, host):
        """The listing is said to be on the other host."""
        if host == "hub":
            handler.send_response(302)
            handler.send_header("Location", hub.url("store") + handler.path)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        return host == "hub"
    hub.fault = lead_away
    del hub.requests[:]
    suite.pull(suite.cache(), env={"HF_TOKEN": "hf_right"})
    tally.expect("Authorization" in hub.asked("hub")[0][3], "the hub is told")
    tally.expect("Authorization" not in hub.asked("store")[0][3], "whoever it leads to is not")
    hub.fault = None
    suite.expect(suite.pull(suite.cache()), 66, "no such model", "HF_TOKEN")
    suite.expect(suite.pull(suite.cache(), env={"HF_TOKEN": "hf_wrong"}), 66, "does not open it")
    off = {"HF_TOKEN": "hf_right", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    suite.expect(suite.pull(suite.cache(), env=off), 66)
    done = suite.pull(suite.cache(), env={"HF_TOKEN": "hf_a\r\nX: y"})
    suite.expect(done, 64, "one token")
    tally.expect("hf_a" not in done.stderr, "the token is not shown")


def check_refusals(suite):
    """Statuses of the hub, for ever and for a while."""
    tally, hub = suite.tally, suite.hub
    suite.expect(suite.pull(suite.cache(), name="lab/none"), 66, "no such model", "lab/none")
    for status, code, exit_code, words in [
            (401, "GatedRepo", 66, "gated"), (403, "GatedRepo", 66, "accept its terms"),
            (403, None, 66, "refuses access"), (404, None, 66, "no such model"),
            (418, None, 74, "418")]:
        hub.fault = lambda handler, host, s=status, c=code: handler.refuse(s, c) or True
        suite.expect(suite.pull(suite.cache()), exit_code, words, what=f"{status} {code}")

    def passing(status, times, **headers):
        """A fault that goes after so many requests."""
        left = [times]

        def fault(handler, host):
            left[0] -= 1
            return left[0] >= 0 and (handler.refuse(status, **headers) or True)
        return fault
    for status in (408, 429, 500, 503):
        hub.fault = passing(status, 2)
        cache = suite.cache()
        suite.expect(suite.pull(cache), 0, what=f"{status} twice")
        tally.expect(suite.is_whole(cache), f"{status} twice")
    hub.fault = passing(429, 1, Retry_After="1")
    began = time.monotonic()
    suite.expect(suite.pull(suite.cache()), 0, what="Retry-After: 1")
    tally.expect(time.monotonic() - began >= 1, "it waits as asked")
    hub.fault = passing(429, 9, Retry_After="7200")
    suite.expect(suite.pull(suite.cache()), 75, "7200 seconds")
    hub.fault = passing(503, 99)
    suite.expect(suite.pull(suite.cache()), 75, "answers 503")
    hub.fault = None


def check_lies(suite):
    """Wrong bytes, too many, too few, wrong headers, malformed listings, odd redirects."""
    tally, hub = suite.tally, suite.hub
    data = suite.files[WEIGHTS]
    flipped = data[:500] + bytes([data[500] ^ 1]) + data[501:]
    for name, sent, code, words in [
            (WEIGHTS, flipped, 65, "another checksum"), (WEIGHTS, data + b"x", 65, "more bytes"),
            (WEIGHTS, data[:-1], 75, "broke off"), ("vocab.txt", b"y" * 7211, 65, "checksum")]:
        hub.lie = {name: sent}
        cache = suite.cache()
        suite.expect(suite.pull(cache), code, words, what=f"{name} as {len(sent)} bytes")
        tally.expect(not list(folder_of(cache).glob("refs/*")), "no ref")
        hub.lie = {}
        suite.expect(suite.pull(cache), 0, what="and then the right bytes")
        tally.expect(suite.is_whole(cache), "after a lie")
    # a partial file with other bytes than the hub's is thrown away, and fetched anew
    cache = suite.cache()
    blobs = folder_of(cache) / "blobs"
    blobs.mkdir(parents=True)
    partial = blobs / (hashlib.sha256(data).hexdigest() + ".incomplete")
    for bad in [b"z" * 1000, data + b"more", flipped]:
        partial.write_bytes(bad)
        suite.expect(suite.pull(cache), 0, what="a partial file that is wrong")
        tally.expect(suite.is_whole(cache), "a partial file that is wrong")
        (blobs / hashlib.sha256(data).hexdigest()).unlink()

    def answer(body, status=200, **headers):
        """A fault that answers every request alike."""
        def fault(handler, host):
            handler.send_response(status)
            for key, value in headers.items():
                handler.send_header(key.replace("_", "-"), value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
            return True
        return fault
    for body in [b"", b"<html>", b"[]", b"{", b'{"sha":5}', b'{"sha":"abc","siblings":[]}',
                 b'{"siblings":[{"rfilename":"config.json"}]}', b'{"a":' * 100, b"\xff\xfe"]:
        hub.fault = answer(body)
        suite.expect(suite.pull(suite.cache()), 65, "malformed", what=f"{body[:20]}")
    for place in ["/again", "ftp://127.0.0.1/x", "FILE:///etc/passwd", "http://[bad", ""]:
        hub.fault = answer(b"", 302, Location=place)
        done = suite.pull(suite.cache())
        tally.expect(done.returncode in (74, 64), f"to {place}: {done.returncode} {done.stderr}")
    hub.fault = None


def check_cuts(suite):
    """The connection ends at 50 random bytes; then for good, and a later pull goes on there."""
    tally, hub, data = suite.tally, suite.hub, suite.files[WEIGHTS]
    draw = random.Random(7)
    def one(number):
        own = FakeHub()
        own.repos[NAME] = hub.repos[NAME]
        place = draw.randrange(len(data))
        cuts = []

        def fault(handler, host):
            if host != "store" or handler.command != "GET" or cuts:
                return False
            cuts.append(place)
            handler.cut(data, handler.begin(), place, number % 2)
            return True
        own.fault = fault
        cache = suite.cache()
        done = embound("pull", NAME, env=environment(own, cache))
        ranges = [r[3].get("Range") for r in own.asked("store", part=WEIGHTS)]
        own.close()
        good = done.returncode == 0 and suite.is_whole(cache) and not broken(cache)
        return good, place, ranges, done.stderr
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for good, place, ranges, message in pool.map(one, range(50)):
            tally.expect(good, f"cut at {place}: {message}")
            resumed = [r for r in ranges if r]
            tally.expect(place == 0 or len(resumed) >= 1 or place < 2000, f"{place}: {ranges}")
    place = draw.randrange(1, len(data))

    def fault(handler, host):
        if host != "store" or handler.command != "GET" or WEIGHTS not in handler.path:
            return False
        if handler.begin() >= place:
            handler.refuse(503)
        else:
            handler.cut(data, handler.begin(), place - handler.begin(), False)
        return True
    hub.fault = fault
    cache = suite.cache()
    suite.expect(suite.pull(cache), 75, "goes on from there")
    left = list(folder_of(cache).glob("blobs/*.incomplete"))
    tally.expect([p.stat().st_size for p in left] == [place], f"{place}: kept {left}")
    hub.fault = None
    del hub.requests[:]
    suite.expect(suite.pull(cache), 0)
    ranges = [r[3].get("Range") for r in hub.asked("store", part=WEIGHTS)]
    tally.expect(ranges == [f"bytes={place}-"], f"resumed at {place}: {ranges}")
    tally.expect(suite.is_whole(cache), "resumed")


def check_network(suite):
    """No host, no answer, no library, an address that is none."""
    cache = suite.cache()
    down = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    suite.expect(suite.pull(cache, env=down), 75, "no connection")
    suite.expect(suite.pull(cache, env={"HF_ENDPOINT": "http://no.such.host.invalid"}), 75,
                 "no connection")
    suite.expect(suite.pull(cache, env={"HF_ENDPOINT": "gopher://x"}), 64, "HF_ENDPOINT")
    suite.expect(suite.pull(cache, env={"EMB_CURL": "/nonexistent/libcurl.so"}), 64,
                 "apt-get install libcurl4")

    def silent(handler, host):
        """Takes the request and says nothing."""
        time.sleep(4)
        handler.close_connection = True
        return True
    suite.hub.fault = silent
    began = time.monotonic()
    done = suite.pull(cache, env={"HF_HUB_DOWNLOAD_TIMEOUT": "1"})
    suite.expect(done, 75, "broke off")
    suite.tally.expect(time.monotonic() - began < 30, "it does not wait for ever")
    suite.hub.fault = None


def check_proxy(suite):
    """A proxy that takes the connection and says nothing, one that is not there, one that refuses:
    soon said, with its variable, and never with its password."""
    cache = suite.cache()
    quick = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    with socket.create_server(("127.0.0.1", 0)) as deaf, \
            socket.create_server(("127.0.0.1", 0)) as rude:
        def refuse():
            while True:
                try:
                    taken, _ = rude.accept()
                except OSError:
                    return
                with taken:
                    taken.recv(4096)
                    taken.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        for server, endpoint, variable, word in [
                (deaf, "https://hub.invalid", "https_proxy", "timeout"),
                (deaf, "http://hub.invalid", "http_proxy", "slow"),
                (rude, "https://hub.invalid", "https_proxy", "407"),
                (None, "https://hub.invalid", "ALL_PROXY", "connect")]:
            port = server.getsockname()[1] if server else 9
            began = time.monotonic()
            done = suite.pull(cache, env={
                "HF_ENDPOINT": endpoint, variable: f"http://me:secret@127.0.0.1:{port}", **quick})
            suite.expect(done, 75, "no_proxy")
            message = done.stderr
            for wanted in (f"127.0.0.1:{port}", f"unset {variable}", word):
                suite.tally.expect(wanted in message, f"{variable}: no {wanted!r} in {message!r}")
            suite.tally.expect("secret" not in message, f"a password is shown: {message!r}")
            suite.tally.expect(time.monotonic() - began < 20, f"{variable}: not soon")
        rude.shutdown(socket.SHUT_RDWR)
    for host, listed in [("127.0.0.1", "127.0.0.1"), ("a.localhost", "x, .localhost"),
                         ("LOCALHOST", "*")]:  # no proxy is asked, so none is to blame
        done = suite.pull(cache, env={"HF_ENDPOINT": f"http://{host}:9", "no_proxy": listed,
                                      "http_proxy": "http://127.0.0.1:9", **quick})
        suite.expect(done, 75, "no connection")
        suite.tally.expect("proxy" not in done.stderr, f"{host}: {done.stderr!r}")


def check_tls(suite):
    """A certificate that nobody vouches for, one that is stated, a way from https to http."""
    key, certificate = suite.folder / "key.pem", suite.folder / "certificate.pem"
    made = shutil.which("openssl") and subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out",
         str(certificate)], capture_output=True, check=False).returncode == 0
    if not made:
        suite.tally.skip("TLS: openssl is not installed")
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    secure = {"HF_ENDPOINT": suite.hub.secure(context)}
    suite.expect(suite.pull(suite.cache(), env=secure), 74, "certificate")
    secure["SSL_CERT_FILE"] = str(certificate)
    suite.expect(suite.pull(suite.cache(), env=secure), 74, "from https to http", "refused")
    suite.tally.expect(not suite.hub.asked("store"), "nothing was asked for in the open")
    suite.hub.repos[NAME] = Repo({p: d for p, d in suite.files.items() if p not in USELESS} |
                                 {WEIGHTS: b"small", "tokenizer.json": b"{}"})
    done = suite.pull(suite.cache(), env=secure)
    suite.tally.expect("/snapshots/" in done.stdout, f"over TLS: {done.stderr}")


def check_offline(suite):
    """The three switches: nothing is asked, what is there is found."""
    tally, hub, cache = suite.tally, suite.hub, suite.cache()
    suite.expect(suite.pull(cache), 0)
    del hub.requests[:]
    for arguments, env in [(["--offline"], {}), ([], {"HF_HUB_OFFLINE": "1"}),
                           ([], {"TRANSFORMERS_OFFLINE": "YES"})]:
        done = suite.pull(cache, *arguments, env=env)
        suite.expect(done, 0)
        tally.expect("/snapshots/" in done.stdout, done.stdout)
        suite.expect(suite.pull(cache, *arguments, name="lab/none", env=env), 66, "offline")
    tally.expect(not hub.requests, f"nobody was asked: {hub.requests}")


def check_disk(suite):
    """A disk that is full half way; a cache that cannot be written; one that can be read only."""
    tally = suite.tally

    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
    cache = suite.cache()
    done = suite.pull(cache, preexec_fn=small)
    suite.expect(done, 74, "cannot write", "make room")
    tally.expect(not list(folder_of(cache).glob("refs/*")), "no ref")
    suite.expect(suite.pull(cache), 0)
    tally.expect(suite.is_whole(cache), "after room was made")
    blocked = suite.folder / "a-file"
    blocked.write_text("x")
    suite.expect(suite.pull(blocked / "cache"), 74, "cannot make the folder")
    if os.geteuid() != 0:
        tally.skip("a read-only cache: needs root, to become somebody else")
        return

    def nobody():
        os.setgid(65534)
        os.setuid(65534)
    os.chmod(suite.folder, 0o755)
    for path in [cache, *cache.rglob("*")]:
        if not path.is_symlink():
            os.chmod(path, 0o555 if path.is_dir() else 0o444)
    # the checkout may lie where only root may look
    theirs = {"executable": shutil.copy(program.PROGRAM, suite.folder), "preexec_fn": nobody,
              "cwd": "/"}
    suite.expect(suite.pull(cache, **theirs), 0, what="a whole model, read only")
    suite.hub.repos["lab/second"] = Repo(suite.files)
    done = suite.pull(cache, name="lab/second", **theirs)
    suite.expect(done, 74, "Permission denied", "HF_HUB_CACHE")


def check_at_once(suite):
    """Four pulls of one model: every file comes once. Killed ones leave partial files alone."""
    tally, hub, cache = suite.tally, suite.hub, suite.cache()
    hub.pause = 0.02
    command = [str(program.PROGRAM), "pull", NAME]
    env = environment(hub, cache)
    running = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
               for _ in range(4)]
    ended = [(p.communicate(timeout=60), p.returncode) for p in running]
    tally.expect(all(code == 0 for _, code in ended), f"at once: {ended}")
    tally.expect(suite.is_whole(cache), "at once")
    gets = [r[2].split("/")[-1].split("?")[0] for r in hub.asked("store")]
    tally.expect(sorted(gets) == sorted(set(gets)), f"fetched twice: {gets}")
    cache = suite.cache()
    env = environment(hub, cache)
    digest = hashlib.sha256(suite.files[WEIGHTS]).hexdigest()
    lock = cache / ".locks" / folder_of(cache).name / f"{digest}.lock"
    lock.parent.mkdir(parents=True)
    with open(lock, "w", encoding="ascii") as held:  # as the hub's own tools do it
        fcntl.flock(held, fcntl.LOCK_EX)
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        time.sleep(1)
        tally.expect(process.poll() is None and not hub.asked("store", part=digest)[1:],
                     "it waits for another program's lock")
    tally.expect(process.wait(60) == 0 and suite.is_whole(cache), "and goes on")
    draw = random.Random(3)
    cache = suite.cache()
    env = environment(hub, cache)
    for _ in range(12):
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.01, 0.3))
        process.kill()
        process.wait()
        tally.expect(not broken(cache), f"killed: {broken(cache)}")
    suite.expect(suite.pull(cache), 0, what="after 12 kills")
    tally.expect(suite.is_whole(cache), "after 12 kills")
    cache = suite.cache()  # what a kill between writing and renaming leaves
    left = folder_of(cache) / "refs" / "main.tmp"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    suite.expect(suite.pull(cache), 0, what="beside half a file")
    tally.expect(suite.is_whole(cache), "half a file is overwritten")


def main():
    """Runs every check."""
    tally = program.Tally()
    if not program.PROGRAM.exists():
        tally.skip(f"{program.PROGRAM} is not built")
        tally.end()
    def run(check):
        """One check with a hub of its own."""
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="embound-hub-") as folder:
            suite = Suite(tally, folder)
            check(suite)
            suite.hub.close()
        print(f"{check.__name__}: {time.monotonic() - began:.1f} s", flush=True)
    built = embound("pull", "x", env={"EMB_CURL": "/nonexistent"})
    if "built without" in built.stderr:
        tally.skip("built without pull")
        tally.end()
    run(check_disk)  # changes who its children are: not beside threads
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(run, [check_cuts, check_network, check_proxy, check_refusals, check_lies,
                            check_places, check_at_once, check_tls, check_whole, check_revisions,
                            check_shards, check_lengths, check_token, check_offline]))
    tally.end()


if __name__ == "__main__":
    main()
