# SPDX-License-Identifier: Apache-2.0
"""Audited writes of 32 clients, against pgbench running the same business statements on the same
cluster; and how long a write waits for a published checkpoint that covers it."""
import collections
import contextlib
import json
import os
import pathlib
import re
import subprocess
import threading
import time

import requests
import rig
from report import target

CLIENTS = 32
ALIASES = f"/api/v1/models/{rig.MODEL}/aliases/a"
POLL_S = 0.02


class Checkpoints(threading.Thread):
    """(monotonic time, size) of each checkpoint that the server published while this ran."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url = f"{url}/log/checkpoint"
        self.seen = []
        self._stop_at = None

    def run(self):
        with requests.Session() as http:
            while self._stop_at is None or not self.covers(self._stop_at):
                size = int(http.get(self.url, timeout=10).text.splitlines()[1])
                if not self.seen or size > self.seen[-1][1]:
                    self.seen.append((time.monotonic(), size))
                time.sleep(POLL_S)

    def covers(self, size):
        return bool(self.seen) and self.seen[-1][1] >= size

    def finish(self, size):
        """Waits until a checkpoint covers that many leaves."""
        self._stop_at = size
        self.join(30)
        assert not self.is_alive(), "no checkpoint covers the writes after 30 s"


def leaves(log, size):
    """Ids of the leaves, by index, out of the entry bundles."""
    for start in range(0, size, 256):
        n, width = start // 256, min(256, size - start)
        parts = [f"{n % 1000:03d}"]
        while n >= 1000:
            n //= 1000
            parts.insert(0, f"x{n % 1000:03d}")
        path = pathlib.Path(log, "tile/entries", *parts)
        if not path.exists():
            path = path.with_name(path.name + ".p") / str(width)
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:2], "big")
            yield json.loads(data[2:2 + length])["id"]
            data = data[2 + length:]


def delays(acks, ids, seen):
    """Seconds from each reply to the first checkpoint that covers its leaf. The k-th reply of a
    client is the k-th move of its alias: it waits for each."""
    moves = collections.defaultdict(list)
    for index, name in ids:
        moves[name].append(index)
    number = collections.Counter()
    out, at = [], 0
    indexed = []
    for client, when in acks:
        name = f"{rig.MODEL}:a{client}"
        indexed.append((moves[name][number[name]], when))
        number[name] += 1
    for index, when in sorted(indexed):
        while seen[at][1] <= index:
            at += 1
        out.append(max(0.0, seen[at][0] - when))
    return sorted(out)


def log_size(url):
    return int(requests.get(f"{url}/log/checkpoint", timeout=10).text.splitlines()[1])


def settled(url):
    """The log's size once nothing waits to be published."""
    size = -1
    while size != (now := log_size(url)):
        size = now
        time.sleep(1.2)
    return size


def ours(one, seconds):
    before = settled(one.server.url)
    watch = Checkpoints(one.server.url)
    watch.start()
    file = one.base / "acks"
    port = one.server.url.rsplit(":", 1)[1]
    cpu = rig.cpu_seconds(one.server.pid)
    command = [rig.helper("bench-load"), port, str(CLIENTS), str(seconds), ALIASES, file]
    done = subprocess.run(command, env={**os.environ, "TOKEN": one.token}, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    load = json.loads(done.stdout)
    cpu = rig.cpu_seconds(one.server.pid) - cpu
    watch.finish(before + load["requests"])
    size = settled(one.server.url)
    with open(file, encoding="ascii") as f:
        acks = [(int(c), int(ns) / 1e9) for c, ns in (line.split() for line in f)]
    names = ((i, name) for i, name in enumerate(leaves(one.server.directory / "log", size))
             if i >= before)
    late = delays(acks, names, watch.seen)
    return {"rate": load["rate"], "p50_ms": load["p50_ms"], "p99_ms": load["p99_ms"],
            "vm_hwm_kib": rig.memory_kib(one.server.pid, "VmHWM"),
            "cpu_us_a_write": 1e6 * cpu / max(1, load["requests"]),
            "checkpoint_p50_s": late[len(late) // 2],
            "checkpoint_p99_s": late[int(len(late) * 0.99)]}


def psql(where, sql):
    return subprocess.run(["psql", "-XqAt", *where, "-c", sql], capture_output=True, text=True,
                          check=True).stdout.strip()


@contextlib.contextmanager
def room_for_peers(one):
    """The server again, on the same cluster, but with connections to spare: how many a cluster
    takes follows from --db-connections, which is left alone while we are measured. How to
    connect."""
    usual = list(one.server.options)
    one.server.stop()
    one.server.options += ["--db-connections", str(2 * CLIENTS)]
    one.server.start()
    directory, port = rig.socket_directory(one.server)
    yield ["-h", directory, "-p", port, "-U", "mlctl"]
    one.server.stop()
    one.server.options = usual
    one.server.start()


def pgbench(one, seconds):
    with room_for_peers(one) as where:
        model = psql([*where, "mlctl"], "select id from model where name = 'pg'")
        token = psql([*where, "mlctl"], "select id from token order by created desc limit 1")
        return run_pgbench(where, model, token, seconds)


def run_pgbench(where, model, token, seconds):
    script = pathlib.Path(__file__).with_name("writes.sql")
    done = subprocess.run(
        ["pgbench", *where, "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-T",
         str(max(1, round(seconds))), "-D", f"model={model}", "-D", f"token={token}", "-f", script,
         "mlctl"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    out = done.stdout
    return {"rate": float(re.search(r"tps = ([\d.]+)", out).group(1)),
            "mean_ms": float(re.search(r"latency average = ([\d.]+)", out).group(1))}


def run(args):
    seconds = args.seconds or (1 if args.quick else 6)
    rounds = args.samples or (1 if args.quick else 3)
    with rig.Rig() as one:
        for model in (rig.MODEL, rig.MODEL, "bench/pg", "bench/pg"):
            one.version(model)
        for i in range(CLIENTS):
            one.http.ok("PUT", f"{ALIASES}{i}", json={"version": 1})
        samples = []
        for _ in range(rounds):
            samples.append({"ours": ours(one, seconds), "pgbench": pgbench(one, seconds)})
    sides = {side: {k: rig.median(s[side][k] for s in samples) for k in samples[0][side]}
             for side in samples[0]}
    mine, peer = sides["ours"], sides["pgbench"]
    ratio = mine["rate"] / peer["rate"]
    return {"clients": CLIENTS, "ours": mine,
            "against": {"what": "pgbench, the same business statements", **peer},
            "ratio": ratio, "better": "higher", "samples": samples,
            "targets": [target("writes a second, of pgbench's", ratio, 0.4, "higher"),
                        target("from 200 to published checkpoint, p99 s",
                               mine["checkpoint_p99_s"], 1.5, "lower")]}
