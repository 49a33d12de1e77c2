# SPDX-License-Identifier: Apache-2.0
"""Requests through the gateway's module, against the same nginx with a plain proxy_pass."""
import contextlib
import json
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import rig
from report import target
from support import process
from support.gateway import NGINX, Gateway, Load, free_port, route, table, variant

UNITS = {"us": 1, "ms": 1e3, "s": 1e6}
ANSWER = json.dumps({"model_name": "m--1", "model_version": "1", "id": "a", "outputs": [
    {"name": "y", "datatype": "FP64", "shape": [1], "data": [3.0]}]})
ASK = json.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 4],
                              "data": [1.0, 2.0, 3.0, 4.0]}]})
LUA = (f"wrk.method='POST'\nwrk.body='{ASK}'\nwrk.headers['Content-Type']='application/json'\n"
       "wrk.headers['X-User-Id']='u1'\n")
PROXY = ("proxy_http_version 1.1; proxy_set_header Connection \"\"; "
         "proxy_buffer_size 16k; proxy_buffers 16 16k;")


def server_conf(base, text):
    temp = "\n".join(f"{name}_temp_path {base}/t-{name};" for name in
                     ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return (f"daemon off;\nuser root;\nworker_processes 1;\npid {base}/pid;\n"
            f"error_log {base}/log;\nevents {{ worker_connections 4096; }}\nhttp {{\n"
            f"access_log off;\nkeepalive_requests 10000000;\n{temp}\n{text}\n}}\n")


class Paths:
    """A model server that answers at once, the gateway, and beside it other ways to the same."""

    def __init__(self, base):
        self.base = pathlib.Path(base)
        self.model, self.plain, self.mirror, self.haproxy = (free_port() for _ in range(4))
        (self.base / "model").mkdir()
        (self.base / "model/nginx.conf").write_text(server_conf(
            self.base / "model", f"server {{ listen 127.0.0.1:{self.model}; default_type "
            f"application/json; location / {{ return 200 '{ANSWER}'; }} }}"), encoding="utf-8")
        self.gateway = Gateway(self.base, workers=1, plain=True, more=self.others(),
                               change=lambda text: re.sub(
                                   r"(\n    keepalive_requests) 100000;", r"\1 10000000;", re.sub(
                                       "access_log [^;]* mlctl_gateway;", "access_log off;", text)))
        self.lua = self.base / "ask.lua"
        self.lua.write_text(LUA, encoding="utf-8")

    def others(self):
        to = f"127.0.0.1:{self.model}"
        common = "keepalive_requests 10000000; client_body_buffer_size 128k;"
        return (f"upstream plain {{ server {to}; keepalive 128; keepalive_requests 10000000; }}\n"
                f"server {{ listen 127.0.0.1:{self.plain}; {common} location / {{ "
                f"proxy_pass http://plain; {PROXY} }} }}\n"
                f"server {{ listen 127.0.0.1:{self.mirror}; {common} location / {{ mirror /shadow; "
                f"proxy_pass http://plain; {PROXY} }} location /shadow {{ internal; "
                f"proxy_pass http://plain$request_uri; {PROXY} }} }}\n")

    @contextlib.contextmanager
    def running(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(rig.child([NGINX, "-c", self.base / "model/nginx.conf",
                                           "-p", self.base / "model"]))
            process.wait_until(lambda: rig.listens(self.model), 10, "the model server")
            stack.enter_context(self.gateway)
            stack.enter_context(taker(self.gateway.tap))
            if shutil.which("haproxy"):
                stack.enter_context(self.run_haproxy())
            yield self

    @contextlib.contextmanager
    def run_haproxy(self):
        conf = self.base / "haproxy.cfg"
        conf.write_text(
            "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 2s\n"
            "  timeout client 30s\n  timeout server 30s\n"
            f"frontend f\n  bind 127.0.0.1:{self.haproxy}\n  default_backend b\n"
            f"backend b\n  http-reuse always\n  server one 127.0.0.1:{self.model} weight 245\n"
            f"  server two 127.0.0.1:{self.model} weight 11\n", encoding="utf-8")
        with rig.child(["haproxy", "-f", conf, "-db"]):
            process.wait_until(lambda: rig.listens(self.haproxy), 10, "haproxy")
            yield

    def text(self, generation, share, routes=1):
        """A table of routes with three variants each, as bytes."""
        to = [f"127.0.0.1:{self.model}"]
        return json.dumps(table(generation, *[route([
            variant("candidate", "m--1", share, to), variant("next", "m--1", 0, to),
            variant("stable", "m--1", 10000 - share, to)],
            name="fraud" if n == 0 else f"r{n}", tap={"share": 100})
            for n in range(routes)])).encode()

    def put(self, text):
        status, answer = self.gateway.call("PUT", "/v1/table", text)
        assert status == 200, answer

    def wrk(self, port, connections, seconds):
        worker = self.gateway.workers()[0]
        before = rig.cpu_seconds(worker)
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-s",
             self.lua, f"http://127.0.0.1:{port}/v2/models/fraud/infer"],
            capture_output=True, text=True, check=True).stdout
        assert "Non-2xx" not in done and "Socket errors" not in done, done
        p50 = re.search(r"\n\s+50%\s+([\d.]+)(us|ms|s)", done)
        n = int(re.search(r"(\d+) requests in", done).group(1))
        return {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", done).group(1)),
                "p50_us": float(p50.group(1)) * UNITS[p50.group(2)],
                "cpu_us": (rig.cpu_seconds(worker) - before) / n * 1e6}


@contextlib.contextmanager
def taker(path):
    """Takes what the tap sends and forgets it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(0.2)
        end = threading.Event()

        def take():
            while not end.is_set():
                with contextlib.suppress(TimeoutError):
                    sock.recv(300_000)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield
        end.set()
        thread.join()


def in_force(paths, first, rounds, routes):
    """Milliseconds from the call until a caller gets the other variant, and until the answer."""
    client, seen, answered = paths.gateway.client(), [], []
    for n in range(rounds):
        wanted = ("candidate", "stable")[n % 2]
        share = 10000 if wanted == "candidate" else 0
        text = paths.text(first + n, share, routes)
        done = []

        def change(text=text, done=done):
            paths.put(text)
            done.append(time.monotonic())

        writer = threading.Thread(target=change)
        begun = time.monotonic()
        writer.start()
        while client.infer()[1]["X-Mlctl-Variant"] != wanted:
            pass
        seen.append((time.monotonic() - begun) * 1000)
        writer.join()
        answered.append((done[0] - begun) * 1000)
    return rig.median(seen), rig.median(answered)


def changes_under_load(paths, first, n, threads):
    """200 changes while 32 callers that never repeat a request keep asking."""
    with Load(paths.gateway.port, threads=threads) as load:
        for g in range(n):
            paths.put(paths.text(first + g, (g * 611) % 10001))
            time.sleep(0.01)
    return {"requests": load.done, "failed": len(load.failed)}


def medians(samples, name):
    return {k: rig.median(s[name][k] for s in samples) for k in samples[0][name]}


def measure(paths, args):
    seconds = args.seconds or (1 if args.quick else 4)
    rounds = 1 if args.quick else args.samples or 7
    ways = {"ours": paths.gateway.port, "plain": paths.plain, "mirror": paths.mirror}
    if shutil.which("haproxy"):
        ways["haproxy"] = paths.haproxy
    samples = []
    for n in range(rounds):
        order = list(ways) if n % 2 == 0 else list(ways)[::-1]
        one = {}
        for way in order:
            many = paths.wrk(ways[way], 16, seconds)
            single = paths.wrk(ways[way], 1, max(1, seconds / 2))
            one[way] = {"rate": many["rate"], "cpu_us": many["cpu_us"],
                        "p50_us": single["p50_us"]}
        samples.append(one)
    return samples


def run(args):
    base = tempfile.mkdtemp(prefix="mlc-b-")
    try:
        with Paths(base).running() as paths:
            paths.put(paths.text(1, 500))
            samples = measure(paths, args)
            tap = paths.gateway.stats()[""]["tap"]
            rounds = 2 if args.quick else 21
            small = in_force(paths, 100, rounds, 1)
            large = in_force(paths, 200, rounds, 500)
            load = changes_under_load(paths, 300, 10 if args.quick else 200,
                                      4 if args.quick else 32)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    ours, plain = medians(samples, "ours"), medians(samples, "plain")
    beside = {name: medians(samples, name) for name in samples[0] if name not in ("ours", "plain")}
    for one in beside.values():
        one.pop("cpu_us")  # of another process, or of a shared one
    ratio = rig.median(s["ours"]["rate"] / s["plain"]["rate"] for s in samples)
    more_us = rig.median(s["ours"]["p50_us"] - s["plain"]["p50_us"] for s in samples)
    return {"ours": {**ours, "more_p50_us": more_us, "tap_sent": tap["sent"],
                     "tap_dropped": tap["dropped"],
                     "in_force_ms": {"1 route": small[0], "500 routes": large[0]},
                     "answered_ms": {"1 route": small[1], "500 routes": large[1]},
                     "200 changes": load},
            "against": {"what": "the same nginx, plain proxy_pass with keep-alive", **plain,
                        "beside": beside},
            "ratio": ratio, "better": "higher", "samples": samples,
            "targets": [target("requests a second, of plain", ratio, 0.9, "higher"),
                        target("more at p50, us", more_us, 10, "lower"),
                        target("weight in force, ms", small[0], 5, "lower"),
                        target("weight in force with 500 routes, ms", large[0], 5, "lower"),
                        target("failed over 200 changes", load["failed"], 0, "lower")]}
