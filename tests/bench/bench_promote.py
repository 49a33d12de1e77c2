# SPDX-License-Identifier: Apache-2.0
"""From the last approval, or from asking where nobody is asked, until a version is live: against
how long any change waits for a published checkpoint. Then many models at once."""
import concurrent.futures
import json
import subprocess
import time

import requests
import rig
from report import target

from support import signing
from support.cli import invite
from support.judged import apply, environment, evaluate, evaluation, metric, policy

QUALITY = ("[{id: accuracy, type: threshold, metric: accuracy, dataset: fraud/holdout, "
           "at_least: 0.9}]")
WORKERS = 4
SIDE_BY_SIDE = 200
POLL_S = 0.01


class Bench(rig.Rig):
    """With an environment that asks for two approvers, one for one, and one for nobody."""

    def __enter__(self):
        super().__enter__()
        roles = {"asks": ["contributor", "evaluator"], "one": ["approver"], "two": ["approver"]}
        self.people = {}
        for name, held in roles.items():
            person = invite(self.server, self.base / name, name, [f"{r}@{rig.NS}" for r in held])
            person.key_file = person.key()
            person.run("key", "add", f"{person.key_file}.pub")
            self.people[name] = person
        self.http = self.people["asks"].http
        admin = self.server.client(self.server.admin_token)
        for env, count in (("signed", 2), ("once", 1), ("free", 0)):
            rule = f"[{{name: risk, from: ['role:approver'], count: {count}, request_ttl: 72h}}]"
            apply(admin, policy(env, QUALITY, rule if count else "[]") + "---\n"
                  + environment(env, f"policy: {env}\nalias: {env}-live\n"))
        return self

    def judged_version(self, model):
        number = self.version(model)["version"]
        evaluate(self.client(), model, number, evaluation(metric("accuracy", 0.95, 171)))
        return number

    def client(self):
        """Of the person who asks, for one thread."""
        return self.server.client(self.people["asks"].token)

    def promote(self, http, model, version, env):
        return http.ok("POST", "/api/v1/promotions", json={
            "model": model, "version": str(version), "environment": env, "reason": "measured"})

    def until(self, http, promotion, *states, poll_s=POLL_S):
        """When it was seen in one of the states; more than a minute is a failure."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            now = http.ok("GET", f"/api/v1/promotions/{promotion}")
            if now["state"] in states:
                return time.monotonic()
            assert now["state"] not in ("held", "rejected", "failed", "expired"), now
            time.sleep(poll_s)
        raise AssertionError(f"{promotion} is {now['state']} after a minute")

    def decide(self, name, promotion):
        """Signs and posts: (the moment before the post, seconds that it took, what was sent)."""
        person = self.people[name]
        http = self.server.client(person.token)
        shown = http.ok("GET", f"/api/v1/promotions/{promotion}/evidence")
        what = signing.body(shown, person.key_file)
        start = time.monotonic()
        http.ok("POST", f"/api/v1/promotions/{promotion}/approvals", json=what)
        return start, time.monotonic() - start, what


def signed_one(bench, model, version):
    http = bench.client()
    promotion = bench.promote(http, model, version, "signed")["id"]
    bench.until(http, promotion, "awaiting_approval")
    _, first, _ = bench.decide("one", promotion)
    start, second, what = bench.decide("two", promotion)
    return {"live_s": bench.until(http, promotion, "live") - start, "posts_s": [first, second],
            "signed": what}


def free_one(bench, model, version):
    http = bench.client()
    start = time.monotonic()
    promotion = bench.promote(http, model, version, "free")["id"]
    return bench.until(http, promotion, "live") - start


def one_by_one(bench, workers, rounds):
    """Each worker promotes the versions of a model of its own, one after the other."""
    def work(i):
        model = f"{rig.NS}/w{i}"
        versions = [bench.judged_version(model) for _ in range(rounds)]
        return ([signed_one(bench, model, v) for v in versions],
                [free_one(bench, model, v) for v in versions])

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        done = list(pool.map(work, range(workers)))
    return [s for signed, _ in done for s in signed], [f for _, free in done for f in free]


def side_by_side(bench, n):
    """One promotion of each of n models, asked for at once, each approved by one person."""
    models = [f"{rig.NS}/m{i}" for i in range(n)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(bench.judged_version, models))

    def whole(model, version):
        http = bench.client()
        promotion = bench.promote(http, model, version, "once")["id"]
        bench.until(http, promotion, "awaiting_approval", poll_s=0.2)
        bench.decide("one", promotion)
        return bench.until(http, promotion, "live", poll_s=0.2)

    start, cpu = time.monotonic(), rig.cpu_seconds(bench.server.pid)
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        ends = list(pool.map(whole, models, versions))
    deadlocks = int(bench.server.sql("select sum(deadlocks) from pg_stat_database"))
    return {"promotions": n, "seconds": max(ends) - start, "rate": n / (max(ends) - start),
            "server_cpu_s": rig.cpu_seconds(bench.server.pid) - cpu, "deadlocks": deadlocks}


def checkpoint_wait(bench, samples):
    """Seconds from the reply to a change until a published checkpoint covers it, nothing else
    going on."""
    model = f"{rig.NS}/alone"
    bench.version(model)
    out = []

    def size():
        return int(requests.get(f"{bench.server.url}/log/checkpoint",
                                timeout=10).text.splitlines()[1])

    for i in range(samples):
        before = -1
        while before != (now := size()):
            before = now
            time.sleep(0.7)
        bench.http.ok("PUT", f"/api/v1/models/{model}/aliases/a{i}", json={"version": 1})
        start = time.monotonic()
        while size() == before:
            time.sleep(POLL_S)
        out.append(time.monotonic() - start)
    return out


def check_alone(bench, signed, runs):
    """The check of one approval, without database and network."""
    for name, text in (("statement", signed["statement"]), ("signature", signed["signature"])):
        (bench.base / name).write_text(text, encoding="utf-8")
    out = subprocess.run([rig.helper("bench-approval"), bench.base / "statement",
                          bench.base / "signature", str(runs)], capture_output=True, text=True,
                         check=True).stdout
    return json.loads(out)


def in_server(bench):
    """Milliseconds, whole ones, that the server's log says its handling of approvals took."""
    lines = [line for line in bench.server.output().splitlines()
             if '"operation":"promotion_approval_create"' in line]
    return [entry["ms"] for entry in map(json.loads, lines) if entry["status"] == 201]


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(len(values) * q))]


def run(args):
    rounds = args.samples or (1 if args.quick else 25)
    with Bench() as bench:
        floor = checkpoint_wait(bench, 1 if args.quick else 6)
        signed, free = one_by_one(bench, 1 if args.quick else WORKERS, rounds)
        apart = in_server(bench)
        check = check_alone(bench, signed[0]["signed"], 20 if args.quick else 2000)
        many = side_by_side(bench, 4 if args.quick else SIDE_BY_SIDE)
    live = [s["live_s"] for s in signed]
    posts = [p for s in signed for p in s["posts_s"]]
    ours = {"approved_to_live_p50_s": rig.median(live),
            "approved_to_live_p99_s": quantile(live, .99),
            "asked_to_live_p50_s": rig.median(free), "asked_to_live_p99_s": quantile(free, .99),
            "approval_post_p50_ms": 1e3 * rig.median(posts),
            "approval_post_p99_ms": 1e3 * quantile(posts, .99),
            "approval_in_server_p50_ms": rig.median(apart),
            "approval_in_server_p99_ms": quantile(apart, .99),
            "approval_check_p50_us": check["p50_us"], "approval_check_p99_us": check["p99_us"],
            "side_by_side": many}
    slowest = max(ours["approved_to_live_p99_s"], ours["asked_to_live_p99_s"])
    return {"workers": WORKERS, "ours": ours,
            "against": {"what": "a change until a checkpoint covers it, nothing else going on",
                        "p50_s": rig.median(floor), "max_s": max(floor)},
            "ratio": ours["approved_to_live_p50_s"] / rig.median(floor), "better": "lower",
            "samples": [{"approved_to_live_s": a, "asked_to_live_s": b}
                        for a, b in zip(live, free)],
            "targets": [target("from the last approval, or from asking, to live, p99 s", slowest,
                               2.5, "lower"),
                        target("check of an approval, p99 ms of CPU",
                               check["p99_us"] / 1e3, 2.0, "lower"),
                        target("deadlocks among promotions side by side", many["deadlocks"], 0,
                               "lower")]}
