# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: a server with a person and a model, peers, and measuring."""
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import struct
import subprocess
import time

from support import oci, process
from support.server import Directories, Server, build_directory

TICK = os.sysconf("SC_CLK_TCK")
NS = "bench"
MODEL = "bench/model"
median = statistics.median


def helper(name):
    return build_directory() / "tests" / "bench" / name


def cpu_seconds(pid):
    """User and system time of a process, all its threads."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_kib(pid, what):
    """VmRSS or VmHWM."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(what + ":"))


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def child(command, **kwargs):
    """A process that ends with the block, and with us."""
    one = subprocess.Popen(command, preexec_fn=process.die_with_parent(15), **kwargs)
    try:
        yield one
    finally:
        if one.stdin:
            one.stdin.close()
        else:
            one.terminate()
        try:
            one.wait(10)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()


class Rig:
    """A running server; .http is a contributor and auditor of its namespace, .token theirs."""

    def __init__(self, postgres=None, options=()):
        self._directories = Directories()
        self.base = self._directories.base
        self.server = Server(self._directories.new(), postgres=postgres, options=options)

    def __enter__(self):
        try:
            self.server.start()
            self._person()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.server.kill()
        self._directories.remove()

    def _person(self):
        admin = self.server.client(self.server.admin_token)
        made = admin.ok("POST", "/api/v1/users", json={
            "name": "bench", "roles": [f"contributor@{NS}", "auditor"]})
        self.token = self.server.client().ok("POST", "/api/v1/login", json={
            "invite": made["invite"]})["token"]
        self.http = self.server.client(self.token)

    def version(self, model=MODEL):
        """One more small version of the model."""
        repo = oci.Repository(self.http, model)
        header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
        weights = struct.pack("<Q", len(header)) + header + os.urandom(8)
        layer = oci.descriptor(weights, "application/vnd.cncf.model.weight.v1.raw",
                               annotations={"org.cncf.model.filepath": "w.safetensors"})
        data = oci.manifest(layers=[layer])
        for blob in (b"{}", weights):
            repo.push(blob)
        repo.put_manifest(oci.digest(data), data)
        return self.http.ok("POST", f"/api/v1/models/{model}/versions",
                            json={"digest": oci.digest(data)})


def curl(*args):
    """Wall seconds of one curl, which must succeed; (seconds, its output)."""
    start = time.monotonic()
    done = subprocess.run(["curl", "-sSf", "--noproxy", "*", *map(str, args)], capture_output=True,
                          check=False)
    seconds = time.monotonic() - start
    if done.returncode:
        raise RuntimeError(f"curl {args}: {done.stderr.decode()}")
    return seconds, done.stdout.decode()


def random_file(path, size):
    with open(path, "wb") as f:
        left = size
        while left > 0:
            left -= f.write(os.urandom(min(left, 1 << 24)))
    return path


def stamp(path):
    """Makes a file unlike what was sent before; its digest."""
    with open(path, "r+b") as f:
        f.write(os.urandom(16))
    with open(path, "rb") as f:
        hasher = hashlib.sha256()
        while data := f.read(1 << 22):
            hasher.update(data)
    return "sha256:" + hasher.hexdigest()


@contextlib.contextmanager
def nginx(files):
    """nginx over static files of a folder, two workers, sendfile; the URL. It runs as ourselves."""
    base = process.reachable_directory("mlc-nginx-")
    port = free_port()
    try:
        (base / "conf").write_text(f"""
            worker_processes 2; daemon off; pid {base}/pid; error_log {base}/error.log;
            {'user root;' if os.geteuid() == 0 else ''}
            events {{ worker_connections 256; }}
            http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
                   default_type application/octet-stream; types {{ application/json json; }}
                   client_body_temp_path {base}/t1; proxy_temp_path {base}/t2;
                   fastcgi_temp_path {base}/t3; uwsgi_temp_path {base}/t4; scgi_temp_path {base}/t5;
                   server {{ listen 127.0.0.1:{port}; root "{files}"; }} }}""", encoding="utf-8")
        with child(["nginx", "-e", base / "error.log", "-c", base / "conf"]):
            process.wait_until(lambda: listens(port), 10, "nginx listens")
            yield f"http://127.0.0.1:{port}"
    finally:
        shutil.rmtree(base, ignore_errors=True)


def socket_directory(server):
    """Where the embedded cluster listens: (directory, port)."""
    lines = pathlib.Path(server.directory, "postgres/data/postmaster.pid").read_text(
        encoding="utf-8").splitlines()
    return lines[4], lines[3]
