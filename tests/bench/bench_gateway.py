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
ANSWER = json.dumps({"model_name": "$1", "model_version": "1", "id": "a", "outputs": [
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
    def model_server(self, port):
        """Has every model, and answers at once."""
        base = self.base / f"model-{port}"
        base.mkdir()
        (base / "nginx.conf").write_text(server_conf(
            base, f"server {{ listen 127.0.0.1:{port}; default_type application/json; "
            f"location ~ ^/v2/models/([^/]+)/ {{ return 200 '{ANSWER}'; }} }}"), encoding="utf-8")
        with rig.child([NGINX, "-c", base / "nginx.conf", "-p", base]):
            process.wait_until(lambda: rig.listens(port), 10, "the model server")
            yield port

    @contextlib.contextmanager
    def running(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.model_server(self.model))
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

    def text(self, generation, share, routes=1, others=0):
        """A table of routes with three variants each, as bytes; the other routes' share."""
        to = [f"127.0.0.1:{self.model}"]

        def variants(share):
            return [variant("candidate", "m--1", share, to), variant("next", "m--1", 0, to),
                    variant("stable", "m--1", 10000 - share, to)]
        return json.dumps(table(
            generation, route(variants(share), tap={"share": 100}),
            *[route(variants(others), name=f"r{n}", tap={"share": 100})
              for n in range(1, routes)])).encode()

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


def change(paths, client, text, wanted):
    """Milliseconds from the call until a caller gets the other variant, and until the answer."""
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(paths.gateway.path))
        head = f"PUT /v1/table HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n"
        begun = time.monotonic()
        control.sendall(head.encode() + text)
        while client.infer()[1]["X-Mlctl-Variant"] != wanted:
            pass
        seen = time.monotonic()
        answer = control.recv(4096)
        answered = time.monotonic()
        assert answer.startswith(b"HTTP/1.1 200 "), answer
    return (seen - begun) * 1000, (answered - begun) * 1000


def in_force(paths, first, rounds, routes, all_change=False):
    client = paths.gateway.client()
    paths.put(paths.text(first, 0, routes))
    times = []
    for n in range(1, rounds + 1):
        wanted, share = ("candidate", 10000) if n % 2 else ("stable", 0)
        times.append(change(paths, client, paths.text(first + n, share, routes,
                                                      n if all_change else 0), wanted))
    client.close()
    return {"in_force_ms": rig.median(t[0] for t in times),
            "slowest_in_force_ms": max(t[0] for t in times),
            "answered_ms": rig.median(t[1] for t in times)}


def changes_under_load(paths, first, n, load):
    """Changes of weights while callers that never repeat a request keep asking."""
    before = load.done
    for g in range(n):
        paths.put(paths.text(first + g, (g * 611) % 10001))
        time.sleep(0.01)
    return load.done - before


def replacements_under_load(paths, first, n, load):
    """A new version on a server of its own, to which all traffic moves; the old server ends."""
    before, old_server = load.done, contextlib.ExitStack()
    old = variant("stable", "m--1", 10000, [f"127.0.0.1:{paths.model}"])
    for k in range(1, n + 1):
        server = contextlib.ExitStack()
        port = server.enter_context(paths.model_server(free_port()))
        new = variant("candidate", f"m--{k + 1}", 5000, [f"127.0.0.1:{port}"])
        for step, variants in enumerate(([new, {**old, "weight": 5000}],
                                         [{**new, "name": "stable", "weight": 10000}])):
            paths.put(json.dumps(table(first + 2 * k + step, route(variants))).encode())
            time.sleep(0.3)  # requests under way end
        old_server.close()
        old, old_server = {**new, "name": "stable"}, server
    paths.put(paths.text(first + 2 * n + 2, 0))
    time.sleep(0.3)
    old_server.close()
    return load.done - before


def under_load(paths, first, quick):
    changes, replaced, threads = (10, 2, 4) if quick else (200, 20, 32)
    with Load(paths.gateway.port, threads=threads) as load:
        changing = changes_under_load(paths, first, changes, load)
        replacing = replacements_under_load(paths, first + changes, replaced, load)
    return {f"requests over {changes} changes": changing,
            f"requests over {replaced} replacements": replacing, "failed": len(load.failed)}


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
            whole = in_force(paths, 300, rounds, 500, all_change=True)
            load = under_load(paths, 400, args.quick)
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
                     "change of 1 route": small, "change of 1 of 500 routes": large,
                     "change of 500 routes": whole, "under load": load},
            "against": {"what": "the same nginx, plain proxy_pass with keep-alive", **plain,
                        "beside": beside},
            "ratio": ratio, "better": "higher", "samples": samples,
            "targets": [target("requests a second, of plain", ratio, 0.9, "higher"),
                        target("more at p50, us", more_us, 10, "lower"),
                        target("weight in force, ms", small["in_force_ms"], 5, "lower"),
                        target("weight in force, one of 500 routes, ms", large["in_force_ms"], 5,
                               "lower"),
                        target("failed over 200 changes and 20 replacements", load["failed"], 0,
                               "lower")]}
