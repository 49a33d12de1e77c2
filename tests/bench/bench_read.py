# SPDX-License-Identifier: Apache-2.0
"""GET of a version by wrk, against nginx with the same JSON as a file; and the server at rest."""
import re
import subprocess
import time

import requests
import rig
from report import target
from support.postgres import Postgres
from support.server import Directories, Server

UNITS = {"us": 1e-3, "ms": 1, "s": 1e3}


def wrk(url, seconds, *more):
    done = subprocess.run(["wrk", "-t2", "-c32", f"-d{max(1, round(seconds))}s", "--latency",
                           *more, url], capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in done and "Socket errors" not in done, done
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", done)
    return {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", done).group(1)),
            "p99_ms": float(p99.group(1)) * UNITS[p99.group(2)]}


def throughput(one, seconds, rounds):
    path = f"/api/v1/models/{rig.MODEL}/versions/1"
    one.version()
    static = one.base / "static"
    static.mkdir()
    (static / "version.json").write_bytes(one.http.get(path).content)
    auth = ("-H", f"Authorization: Bearer {one.token}")
    samples = []
    with rig.nginx(static) as nginx:
        for _ in range(rounds):
            samples.append({"ours": wrk(one.server.url + path, seconds, *auth),
                            "nginx": wrk(f"{nginx}/version.json", seconds)})
    return samples


def ready_after(server):
    """Milliseconds from exec to 200 from /readyz, and resident KiB when nothing happens."""
    address = server.directory / "address"
    address.unlink(missing_ok=True)
    start = time.monotonic()
    server.spawn()
    end = start + 30
    while time.monotonic() < end:
        try:
            if requests.get(address.read_text(encoding="ascii").strip() + "/readyz",
                            timeout=5).status_code == 200:
                break
        except (OSError, requests.RequestException):
            pass
        time.sleep(0.002)
    else:
        raise TimeoutError("mlctld is not ready")
    ready = (time.monotonic() - start) * 1000
    time.sleep(1)
    return ready, rig.memory_kib(server.pid, "VmRSS")


def at_rest(rounds):
    directories = Directories()
    with Postgres() as postgres:
        owner = "bench"
        postgres.psql(f"create role {owner} login")
        database = postgres.create(owner=owner)
        server = Server(directories.new(), postgres=postgres.conninfo(database, owner))
        try:
            server.start()  # makes its tables and keys
            server.stop()
            measured = []
            for _ in range(rounds):
                measured.append(ready_after(server))
                server.stop()
        finally:
            server.kill()
            directories.remove()
    return {"ready_ms": rig.median(m[0] for m in measured),
            "idle_rss_kib": rig.median(m[1] for m in measured)}


def run(args):
    seconds = args.seconds or (1 if args.quick else 8)
    rounds = 1 if args.quick else 3
    rest = at_rest(rounds)
    with rig.Rig() as one:
        samples = throughput(one, seconds, rounds)
        hwm = rig.memory_kib(one.server.pid, "VmHWM")
    sides = {side: {k: rig.median(s[side][k] for s in samples) for k in samples[0][side]}
             for side in samples[0]}
    ours, nginx = sides["ours"], sides["nginx"]
    return {"ours": {**ours, "vm_hwm_kib": hwm, **rest},
            "against": {"what": "nginx, the same JSON as a file", **nginx},
            "ratio": ours["rate"] / nginx["rate"], "better": "higher", "samples": samples,
            "targets": [target("requests a second", ours["rate"], 10000, "higher"),
                        target("idle memory, MiB", rest["idle_rss_kib"] / 1024, 32, "lower"),
                        target("ready after exec, ms", rest["ready_ms"], 500, "lower")]}
