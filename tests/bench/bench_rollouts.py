# SPDX-License-Identifier: Apache-2.0
"""Rollouts by a server and its gateway, on inference servers that are made up: what live traffic
notices of a slow shadow, how soon a candidate that does harm is gone, what looking costs."""
import concurrent.futures
import contextlib
import datetime
import http.client
import json
import re
import statistics
import subprocess
import threading
import time

import rig
from bench_gateway import UNITS, server_conf
from report import target

from api.test_registry import Model
from support import judged, process
from support.gateway import NGINX, Client, Control
from support.rollouts import Case, Serving, Site

ERRORS = {"id": "errors", "type": "error-rate", "margin": "1%"}
NEVER = {"requests": 1000000, "for": "10h"}
LONG = {"strategy": "canary", "steps": [{"weight": "5%", **NEVER}, {"weight": "100%"}],
        "checks": [ERRORS, {"id": "slow", "type": "latency", "quantile": "95%", "margin": "20%"}]}
HARM = {"strategy": "canary", "steps": [{"weight": "50%", **NEVER}, {"weight": "100%"}],
        "checks": [ERRORS]}
SHADOW = {"strategy": "canary", "steps": [{"mirror": "10%", **NEVER}, {"weight": "100%"}],
          "checks": [{"id": "agreement", "type": "shadow-agreement", "at_least": "90%"}]}
ASK = json.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 4],
                              "data": [1.0, 2.0, 3.0, 4.0]}]})
LUA = (f"wrk.method='POST'\nwrk.body='{ASK}'\nwrk.headers['Content-Type']='application/json'\n"
       "function delay() return 2 end\n")
ANSWER = ('{"model_name":"$1","model_version":"1","outputs":[{"name":"y","datatype":"FP64",'
          '"shape":[1],"data":[10.0]}]}')
CONNECTIONS = 8
SHADOW_S = 0.5


class Fronted(Serving):
    """First versions answer at once, by nginx in front; all else is the fake's."""

    def __init__(self, repository):
        super().__init__(repository)
        self.front = rig.free_port()
        self.url = f"http://127.0.0.1:{self.front}"

    def conf(self):
        return (f"server {{ listen 127.0.0.1:{self.front}; location ~ ^/v2/models/(.+--1)/infer "
                f"{{ default_type application/json; return 200 '{ANSWER}'; }} location / {{ "
                f"proxy_pass http://127.0.0.1:{self.port}; proxy_http_version 1.1; }} }}\n")


class Bench(rig.Rig):
    """A server with a gateway, an environment with two instances."""

    def __init__(self):
        super().__init__()
        self.root = self._directories.new() / "serving"
        self.root.mkdir(parents=True)
        self.server.options += ["--gateway", "127.0.0.1:0", "--serving-root", self.root]
        self.control = Control(self.server.directory / "gateway/control.sock")
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        super().__enter__()
        self.site = self.stack.enter_context(contextlib.closing(
            Site(self.server, {}, self.root, serving=Fronted)))
        base = self._directories.new()
        base.mkdir()
        (base / "nginx.conf").write_text(server_conf(
            base, "".join(i.conf() for i in self.site.instances)), encoding="utf-8")
        self.stack.enter_context(rig.child([NGINX, "-c", base / "nginx.conf", "-p", base]))
        self.lua = base / "ask.lua"
        self.lua.write_text(LUA, encoding="utf-8")
        return self

    def __exit__(self, *_):
        self.stack.close()
        super().__exit__()

    def live(self):
        """A model whose first version is live, behind a route of its own."""
        case = Case(self.site, Model(self.http, rig.NS), {"strategy": "blue-green"})
        case.to_live(case.version(10), 120)
        return case

    def rolling(self, case, plan):
        """The next version has come as far as the first step; the rollout's id."""
        case.apply(plan)
        promotion = case.promote(case.version(10))
        return case.wait_rollout(promotion, lambda r: r["state"] == "running", 120)["id"]

    def wrk(self, case, seconds):
        """p50 and p99 in microseconds of callers that pause between their requests."""
        done = subprocess.run(
            ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", self.lua,
             f"http://127.0.0.1:{self.site.port}/v2/models/{case.route}/infer"],
            capture_output=True, text=True, check=True).stdout
        assert "Non-2xx" not in done and "Socket errors" not in done, done
        percent = {p: float(n) * UNITS[unit] for p, n, unit in re.findall(
            r"\n\s+(50|99)%\s+([\d.]+)(us|ms|s)", done)}
        return {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", done).group(1)),
                "p50_us": percent["50"], "p99_us": percent["99"]}


# --- a slow shadow ---

def beside_a_shadow(bench, rounds, seconds):
    """Rounds with callers of a route whose shadow takes half a second, and of one without."""
    plain, shadowed = bench.live(), bench.live()
    for instance in bench.site.instances:
        instance.slow[shadowed.name(2)] = SHADOW_S
    bench.rolling(shadowed, SHADOW)
    time.sleep(2)  # the table is in force
    samples = []
    for n in range(rounds):
        ways = [("ours", shadowed), ("plain", plain)]
        samples.append({name: bench.wrk(case, seconds)
                        for name, case in (ways if n % 2 else ways[::-1])})
    asked = sum(f"POST /v2/models/{shadowed.name(2)}/infer" in line
                for instance in bench.site.instances for line in instance.seen)
    assert asked > 0, "nothing was shadowed"
    return samples, {"asked": asked, **bench.control.stats()[""]["tap"]}


# --- harm ---

class Callers:
    """Who asks all the time; when the last answer came from the candidate."""

    def __init__(self, port, route, threads=4):
        self.last, self.done = 0.0, 0
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(port, route), daemon=True)
                         for _ in range(threads)]

    def _run(self, port, route):
        client = Client(port)
        while not self._end.is_set():
            try:
                _, headers, _ = client.infer(route=route)
                if headers.get("X-Mlctl-Variant") == "candidate":
                    self.last = max(self.last, time.time())
                self.done += 1
            except (OSError, http.client.HTTPException):
                client.close()
            time.sleep(0.002)
        client.close()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join(30)


def aborted_at(bench, rollout):
    """When the look that found the harm said so; seconds since 1970."""
    for leaf in judged.log(bench.server):
        if leaf.get("action") == "rollout.abort" and leaf["id"] == rollout:
            return datetime.datetime.fromisoformat(leaf["time"]).timestamp()
    raise AssertionError(f"no leaf says that {rollout} was aborted")


def harm(bench, rounds):
    """Milliseconds from the look at which harm is proven to the last answer of the candidate, and
    seconds from its first error to that look."""
    case, gone, found = bench.live(), [], []
    for _ in range(rounds):
        rollout = bench.rolling(case, HARM)
        version = case.model.http.ok("GET", f"/api/v1/rollouts/{rollout}")["version"]
        with Callers(bench.site.port, case.route) as callers:
            process.wait_until(lambda callers=callers: callers.last > 0, 20, "a candidate")
            time.sleep(1.5)
            begun = time.time()
            case.fail(version, 0.5)
            process.wait_until(lambda rollout=rollout: case.model.http.ok(
                "GET", f"/api/v1/rollouts/{rollout}")["state"] == "rolled_back", 60, "an abort")
            time.sleep(1)
        when = aborted_at(bench, rollout)
        gone.append((callers.last - when) * 1000)
        found.append(when - begun)
    return gone, found


# --- looking ---

def filler(bench, n):
    """So many routes with three variants in the gateway's table, of models that are not there."""
    to = [f"127.0.0.1:{i.front}" for i in bench.site.instances]
    rows = []
    for i in range(n):
        variants = [{"name": name, "version": v, "model": f"other--m{i}--{v}", "weight": weight,
                     "endpoints": to, "lease": False, "on_lost_control": "stable",
                     "error_limit": None}
                    for v, (name, weight) in enumerate((("next", 0), ("candidate", 500),
                                                        ("stable", 9500)), 1)]
        entry = json.dumps({"route": f"other-{i}", "protocol": "oip", "salt": f"salt-{i}",
                            "key": "header:X-User-Id", "tap": None, "validate": None,
                            "variants": variants}, separators=(",", ":"), sort_keys=True)
        rows.append(f"('{bench.site.control}', 'other-{i}', '{bench.site.env}', 'eu', "
                    f"'other/m{i}', '{entry}', 1)")
    for some in range(0, n, 50):
        bench.server.sql("insert into split (control, route, environment, target, model, entry, "
                         f"generation) values {', '.join(rows[some:some + 50])}")
    bench.server.sql("update gateway set generation = generation + 1")


def looking(bench, rollouts, routes, seconds):
    """The share of a core that the server takes to look at rollouts once a second, while each has
    a few requests."""
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        cases = list(pool.map(lambda _: bench.live(), range(rollouts)))
        list(pool.map(lambda case: bench.rolling(case, LONG), cases))
    filler(bench, routes - len(bench.control.table()["routes"]))
    process.wait_until(lambda: len(bench.control.table()["routes"]) >= routes, 60, "the table")
    client, shares = Client(bench.site.port), []
    for _ in range(3):
        before, begun = rig.cpu_seconds(bench.server.pid), time.monotonic()
        while time.monotonic() < begun + seconds:
            for case in cases:
                client.infer(route=case.route, user="u")
            time.sleep(0.7)
        shares.append((rig.cpu_seconds(bench.server.pid) - before) / (time.monotonic() - begun))
    client.close()
    going = int(bench.server.sql("select count(*) from rollout where state = 'running'"))
    assert going >= rollouts, going
    return {"rollouts": going, "routes": len(bench.control.table()["routes"]),
            "cores": rig.median(shares), "memory_mib": rig.memory_kib(
                bench.server.pid, "VmRSS") / 1024}


def run(args):
    seconds = round(args.seconds or 1)
    with Bench() as bench:
        samples, shadow = beside_a_shadow(bench, 1 if args.quick else args.samples or 21, seconds)
        gone, found = harm(bench, 1 if args.quick else 5)
        looks = looking(bench, *((2, 10, 1) if args.quick else (50, 500, 10)))
    ours, plain = ({k: rig.median(s[name][k] for s in samples) for k in samples[0][name]}
                   for name in ("ours", "plain"))
    ratio = statistics.median(s["ours"]["p99_us"] / s["plain"]["p99_us"] for s in samples)
    return {"ours": {**ours, "shadow": shadow, "candidate gone after ms": rig.median(gone),
                     "slowest": max(gone), "harm found after s": rig.median(found),
                     "looking": looks},
            "against": {"what": "a route of the same gateway that has no shadow", **plain},
            "ratio": ratio, "better": "lower", "samples": samples,
            "targets": [target("p99 beside a shadow of 500 ms, of without", ratio, 1.05, "lower"),
                        target("candidate gone after harm, ms", max(gone), 1000, "lower"),
                        target("looking at 50 rollouts, of a core", looks["cores"], 0.05,
                               "lower")]}
