"""A hub on loopback: the listing, the contract of `resolve`, a second host for large files, faults.

Large files are kept by their SHA-256 on the second host (another address of loopback), as the real
hub does; small ones by git's SHA-1 on the hub itself, behind a relative redirect.

SPDX-License-Identifier: Apache-2.0
"""
import hashlib
import http.server
import json
import socket
import struct
import threading
import time
import urllib.parse

LARGE = 15000  # bytes from which a file is on the second host


def git_sha1(data):
    """What git calls these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repo:
    """One model: its files, by revision."""

    def __init__(self, files):
        self.commits = {}  # commit -> {path: bytes}
        self.refs = {}
        self.add(files, "main")

    def add(self, files, ref):
        """A commit with these files, which `ref` then names."""
        seed = json.dumps(sorted((p, git_sha1(d)) for p, d in files.items())) + ref
        commit = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.refs[ref] = commit
        return commit


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the hub (api, resolve, resolve-cache) or as the store (sha256)."""

    hub = host = None  # of the class that make_handler gives
    protocol_version = "HTTP/1.1"
    timeout = 20

    def log_message(self, *_):
        """Says nothing."""

    def do_HEAD(self):
        """As GET, without the body."""
        self.do_GET()

    def do_GET(self):
        """Notes the request, lets a fault answer, else answers."""
        path = urllib.parse.urlsplit(self.path)
        self.hub.requests.append((self.host, self.command, self.path, dict(self.headers)))
        try:
            if self.hub.fault and self.hub.fault(self, self.host):
                return
            if self.host == "store":
                self.store(path.path)
            elif self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
                self.refuse(401, "RepoNotFound" if "Authorization" in self.headers else None)
            elif path.path.startswith("/api/models/"):
                self.api(path.path[len("/api/models/"):])
            else:
                self.resolve(path.path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def refuse(self, status, code=None, **headers):
        """An error, as the hub words it."""
        body = b'{"error":"no"}'
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, value):
        """A whole document."""
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def api(self, path):
        """ORG/NAME[/revision/REV | /tree/REV]"""
        parts = path.split("/", 3)
        repo = "/".join(parts[:2])
        what, revision = parts[2:] if len(parts) == 4 else ("revision", "main")
        if repo not in self.hub.repos:
            self.refuse(404, "RepoNotFound")
            return
        found = self.hub.find(repo, urllib.parse.unquote(revision))
        if not found:
            self.refuse(404, "RevisionNotFound")
            return
        commit, files = found
        if what == "tree":
            self.send_json([entry(p, d) for p, d in sorted(files.items())])
        else:
            sizes = "blobs=true" in self.path and self.hub.sizes
            self.send_json({"id": repo, "sha": commit, "private": False, "tags": [],
                            "siblings": [{"rfilename": p} | ({"size": len(d)} if sizes else {})
                                         for p, d in sorted(files.items())]})

    def resolve(self, path):
        """/ORG/NAME/resolve/REV/FILE and what its relative redirect leads to."""
        cached = path.startswith("/api/resolve-cache/")
        parts = path[len("/api/resolve-cache"):].split("/") if cached else path.split("/")
        repo = "/".join(parts[1:3])
        found = self.hub.find(repo, urllib.parse.unquote(parts[4])) if len(parts) > 5 else None
        if not found:
            self.refuse(404, "RevisionNotFound" if repo in self.hub.repos else "RepoNotFound")
            return
        commit, files = found
        name = "/".join(parts[5:])
        if name not in files:
            self.refuse(404, "EntryNotFound")
        elif len(files[name]) >= LARGE:
            self.lead_to_store(commit, name, files[name])
        elif not cached:
            self.send_response(307)
            self.send_header("Location", f"/api/resolve-cache/{repo}/resolve/{commit}/{name}")
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send_file(self.hub.lie.get(name, files[name]),
                           {"ETag": f'"{git_sha1(files[name])}"', "X-Repo-Commit": commit})

    def lead_to_store(self, commit, name, data):
        """302 to the other host, with the checksum and the length in headers."""
        digest = hashlib.sha256(data).hexdigest()
        body = b"Found. Redirecting"
        self.send_response(302)
        self.send_header("Location", f"{self.hub.url('store')}/{digest}/{name}?sig=secret")
        self.send_header("X-Repo-Commit", commit)
        self.send_header("X-Linked-Etag", f'"{digest}"')
        self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("ETag", f'"{git_sha1(data)}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def store(self, path):
        """/SHA256/NAME"""
        digest, name = path[1:].split("/", 1)
        for repo in self.hub.repos.values():
            for files in repo.commits.values():
                for data in files.values():
                    if hashlib.sha256(data).hexdigest() == digest:
                        self.send_file(self.hub.lie.get(name, data), {"ETag": '"multipart-7"'})
                        return
        self.refuse(404)

    def send_file(self, data, headers):
        """All of it, or from the byte that Range asks for."""
        begin = 0
        wanted = self.headers.get("Range")
        if wanted:
            begin = int(wanted[len("bytes="):].split("-")[0])
        if begin > len(data):
            self.refuse(416)
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command == "GET" or self.hub.lengths:
            self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        if self.command == "HEAD":
            return
        for at in range(begin, len(data), 16384):
            if self.hub.pause and self.host == "store":
                time.sleep(self.hub.pause)
            self.wfile.write(data[at:at + 16384])

    def cut(self, data, begin, count, hard):
        """Promises data from `begin` on and goes away after `count` bytes."""
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        self.wfile.write(data[begin:begin + count])
        self.wfile.flush()
        if hard:  # a reset instead of an end
            time.sleep(0.02)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                       struct.pack("ii", 1, 0))
        self.close_connection = True

    def begin(self):
        """The first byte that is asked for."""
        return int(self.headers.get("Range", "bytes=0-")[len("bytes="):].split("-")[0])


def make_handler(hub, host):
    """A handler class for one of the two servers."""
    return type("HostHandler", (Handler,), {"hub": hub, "host": host})


class QuietServer(http.server.ThreadingHTTPServer):
    """Clients that go away are what is tested: no word about them."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Says nothing."""


class FakeHub:
    """Two servers; `fault(handler, host)` may answer instead of them and then gives True."""

    def __init__(self):
        self.repos = {}
        self.requests = []  # (host, method, path, headers)
        self.fault = None
        self.lie = {}  # path in a repository -> what is sent instead
        self.token = None  # asked for everywhere on the hub
        self.sizes = True  # the listing says how long files are
        self.lengths = True  # so do the answers to HEAD
        self.pause = 0  # seconds before each 16 KiB of a large file
        self.servers = {}
        for name, address in [("hub", "127.0.0.1"), ("store", "127.0.0.2")]:
            server = QuietServer((address, 0), make_handler(self, name))
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            self.servers[name] = server

    def url(self, name="hub"):
        """Where one of the two is."""
        address, port = self.servers[name].server_address
        return f"http://{address}:{port}"

    def secure(self, context):
        """The hub speaks TLS from now on; the other host does not."""
        server = self.servers["hub"]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        return self.url().replace("http:", "https:")

    def close(self):
        """Ends both."""
        for server in self.servers.values():
            server.shutdown()
            server.server_close()

    def asked(self, host, method="GET", part=""):
        """The requests to a host whose path has that part."""
        return [r for r in list(self.requests)
                if r[0] == host and r[1] == method and part in r[2]]

    def find(self, repo, revision):
        """(commit, files), or None."""
        known = self.repos.get(repo)
        commit = known and (revision if revision in known.commits else known.refs.get(revision))
        return (commit, known.commits[commit]) if commit else None


def entry(path, data):
    """A file in the hub's tree listing."""
    shown = {"type": "file", "path": path, "size": len(data), "oid": git_sha1(data)}
    if len(data) >= LARGE:
        shown["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data),
                        "pointerSize": 130}
    return shown


def model_files(folder):
    """The files of a model on disk, and some that embound has no use for."""
    files = {str(p.relative_to(folder)): p.read_bytes()
             for p in sorted(folder.rglob("*")) if p.is_file()}
    return files | {"README.md": b"# a model\n", "pytorch_model.bin": b"pickle" * 5000,
                    "onnx/model.onnx": b"onnx" * 5000, ".gitattributes": b"x\n"}
