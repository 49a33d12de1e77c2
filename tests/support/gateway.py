# SPDX-License-Identifier: Apache-2.0
"""nginx with our module and the shipped snippet, on its own or with something added."""
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

from . import process
from .server import build_directory

ROOT = pathlib.Path(__file__).resolve().parents[2]
NGINX = "/usr/sbin/nginx"
SNIPPET = ROOT / "deploy/nginx/mlctl-gateway.conf"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, one that never repeats a request."""

    def __init__(self, path, timeout=10):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def variant(name, model, weight, endpoints, **more):
    return {"name": name, "version": int(model.rsplit("--", 1)[-1]), "model": model,
            "weight": weight, "endpoints": endpoints, **more}


def route(variants, name="fraud", **more):
    return {"route": name, "protocol": "oip", "salt": "r17", "key": "header:X-User-Id",
            "variants": variants, **more}


def table(generation, *routes):
    return {"schema": "gateway-table/v1", "generation": generation, "routes": list(routes)}


class Control:
    """The control socket: each call is (status, document)."""

    def __init__(self, path):
        self.path = path

    def call(self, method, path, body=None, timeout=10):
        connection = UnixConnection(self.path, timeout)
        try:
            text = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
            connection.request(method, path, text)
            response = connection.getresponse()
            data = response.read()
            if response.headers.get_content_type() != "application/json":
                return response.status, data.decode()
            return response.status, json.loads(data)
        finally:
            connection.close()

    def put(self, document):
        status, answer = self.call("PUT", "/v1/table", document)
        assert status == 200, (status, answer)
        return answer

    def table(self):
        return self.call("GET", "/v1/table")[1]

    def lease(self, generation, ms):
        return self.call("POST", "/v1/lease", {"generation": generation, "ms": ms})

    def stats(self, name="fraud"):
        """{variant: its counters in the newest bank}, and the whole document under ""."""
        whole = self.call("GET", "/v1/stats")[1]
        found = {"": whole}
        for one in whole["routes"]:
            if one["route"] == name:
                for entry in one["variants"]:
                    found.setdefault(entry["variant"], entry)
        return found


class Gateway(Control):
    """start(), stop(), reload(), kill() (the master alone, SIGKILL). `port`, `control`, `tap`."""

    def __init__(self, directory, workers=2, change=None, module=None, plain=False, more=""):
        self.directory = pathlib.Path(directory)
        self.port = free_port()
        self.tap = self.directory / "run/tap.sock"
        self.file = self.directory / "table.json"
        super().__init__(self.directory / "run/control.sock")
        self.log = self.directory / "error.log"
        (self.directory / "run").mkdir(parents=True, exist_ok=True)
        asan = build_directory() / "mlctl_gateway_asan.so"
        self.module = module or (asan if asan.exists() and not plain
                                 else build_directory() / "mlctl_gateway.so")
        self.child = None
        self.write(workers, change or (lambda text: text), more)

    def write(self, workers, change, more):
        text = SNIPPET.read_text(encoding="utf-8")
        for old, new in (("listen 8090", f"listen 127.0.0.1:{self.port}"),
                         ("/var/lib/mlctl-gateway/table.json", str(self.file)),
                         ("unix:/run/mlctl-gateway/tap.sock", f"unix:{self.tap}"),
                         ("unix:/run/mlctl-gateway/control.sock", f"unix:{self.path}"),
                         ("/var/log/nginx/mlctl-gateway.log", f"{self.directory}/access.log")):
            assert len(re.findall(re.escape(old) + r"\b", text)) >= 1, old
            text = re.sub(re.escape(old) + r"(?=[; ])(?! with)", new, text)
        (self.directory / "snippet.conf").write_text(change(text), encoding="utf-8")
        temp = "\n".join(f"{name}_temp_path {self.directory}/t-{name};" for name in
                         ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;" if os.geteuid() == 0 else ""
        (self.directory / "nginx.conf").write_text(
            f"load_module {self.module};\n{user}\ndaemon off;\nworker_processes {workers};\n"
            f"pid {self.directory}/pid;\nerror_log {self.log} notice;\n"
            f"worker_shutdown_timeout 10s;\nevents {{ worker_connections 4096; }}\n"
            f"http {{\naccess_log off;\n{temp}\n{more}\n"
            f"include {self.directory}/snippet.conf;\n}}\n",
            encoding="utf-8")

    def environment(self):
        env = dict(os.environ)
        if self.module.name.endswith("_asan.so"):
            library = subprocess.run(["gcc", "-print-file-name=libasan.so"], check=True,
                                     capture_output=True, text=True).stdout.strip()
            env["LD_PRELOAD"] = os.path.realpath(library)
            # nginx itself frees little at its end
            env["ASAN_OPTIONS"] = f"detect_leaks=0:log_path={self.directory}/asan"
        return env

    def run(self, *options, **how):
        return subprocess.run([NGINX, "-c", self.directory / "nginx.conf", "-p", self.directory,
                               *options], env=self.environment(), capture_output=True, text=True,
                              timeout=30, check=False, **how)

    def start(self):
        self.path.unlink(missing_ok=True)
        with open(self.directory / "stderr", "ab") as out:
            self.child = subprocess.Popen(
                [NGINX, "-c", self.directory / "nginx.conf", "-p", self.directory],
                env=self.environment(), stdout=out, stderr=out,
                preexec_fn=process.die_with_parent(signal.SIGTERM))
        process.wait_until(self._up, 20, "nginx answers")
        return self

    def _up(self):
        if self.child.poll() is not None:
            raise RuntimeError((self.directory / "stderr").read_text()
                               + self.log.read_text() if self.log.exists() else "")
        try:
            return self.call("GET", "/v1/table")[0] in (200, 404)
        except OSError:
            return False

    def workers(self):
        listed = subprocess.run(["pgrep", "-P", str(self.child.pid)], capture_output=True,
                                text=True, check=False)
        return [int(pid) for pid in listed.stdout.split()]

    def reload(self):
        old = set(self.workers())
        self.child.send_signal(signal.SIGHUP)
        # an old worker that is about to end may still take a connection, and close it unserved
        process.wait_until(lambda: self.workers() and not set(self.workers()) & old, 20,
                           "new workers only")

    def kill(self):
        self.child.kill()
        self.child.wait()

    def stop(self):
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(15)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
                raise
        reports = list(self.directory.glob("asan.*"))
        assert not reports, reports[0].read_text()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def client(self, **more):
        return Client(self.port, **more)


class Client:
    """One keep-alive connection that never repeats a request."""

    def __init__(self, port, timeout=20):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def call(self, method, path, body=None, headers=None):
        """(status, headers, document or bytes)"""
        text = json.dumps(body) if isinstance(body, (dict, list)) else body
        self.connection.request(method, path, text, headers or {})
        response = self.connection.getresponse()
        data = response.read()
        try:
            return response.status, response.headers, json.loads(data)
        except ValueError:
            return response.status, response.headers, data

    def infer(self, route="fraud", user=None, data=(1.0, 2.0), **headers):  # noqa: A002
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if user is not None:
            names["X-User-Id"] = user
        return self.call("POST", f"/v2/models/{route}/infer", infer_body(data), names)

    def close(self):
        self.connection.close()


def infer_body(data, name="x", datatype="FP64"):
    data = list(data)
    return {"inputs": [{"name": name, "datatype": datatype, "shape": [1, len(data)],
                        "data": data}]}


class Load:
    """Threads that ask all the time, each on one connection; what failed is kept, not repeated."""

    def __init__(self, port, threads=8, check=None, pause=0):
        self.port, self.check, self.pause = port, check or (lambda *_: None), pause
        self.done, self.failed = 0, []
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True)
                         for n in range(threads)]

    def _run(self, number):
        client = Client(self.port)
        n = 0
        while not self._end.is_set():
            n += 1
            user = f"u{number}-{n}"
            try:
                status, headers, document = client.infer(user=user)
                wrong = None if status == 200 else f"{status} {document}"
                wrong = wrong or self.check(user, headers, document)
            except (OSError, http.client.HTTPException) as error:
                wrong = repr(error)
                client.close()
            with self._lock:
                self.done += 1
                if wrong:
                    self.failed.append(wrong)
            if self.pause:
                time.sleep(self.pause)
        client.close()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join(30)
