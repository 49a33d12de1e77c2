# SPDX-License-Identifier: Apache-2.0
"""One blob through /v2/ by curl, against a bare sink and Debian's docker-registry."""
import contextlib
import mmap
import os
import shutil
import subprocess
import urllib.parse

import rig
from report import target
from support import process


def put(path, url, *more):
    return rig.curl("-X", "PUT", "-T", path, "-H", "Expect:", "-H",
                    "Content-Type: application/octet-stream", "-o", "-", *more, url)


def start_upload(url, *more):
    """The upload's URL, from the reply to POST."""
    _, head = rig.curl("-X", "POST", "-D", "-", "-o", os.devnull, *more, url)
    location = next(line.split(":", 1)[1].strip() for line in head.splitlines()
                    if line.lower().startswith("location:"))
    return urllib.parse.urljoin(url, location)


def with_digest(url, digest):
    return url + ("&" if "?" in url else "?") + "digest=" + urllib.parse.quote(digest)


def touch_memory(size):
    """A virtual machine gets memory from its host when it first writes to it, which is slow: let
    the free pages be such that were used before, whoever comes next."""
    size = min(size + (size >> 2), 3 << 30)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000  # MAP_POPULATE
    mmap.mmap(-1, size, flags=flags).close()


def measured(pid, size, action):
    os.sync()  # nobody pays for what another one left to be written
    touch_memory(size)
    before = rig.cpu_seconds(pid)
    seconds, _ = action()
    return {"wall_s": seconds, "cpu_s": rig.cpu_seconds(pid) - before}


def push_ours(one, path, digest):
    auth = ("-u", f"bench:{one.token}")
    base = f"{one.server.url}/v2/{rig.MODEL}/blobs/uploads/"
    url = with_digest(start_upload(base, *auth), digest)
    return measured(one.server.pid, path.stat().st_size, lambda: put(path, url, *auth))


def forget(one, digest):
    """As the peers' files go, so that no one's pages are all new to this machine."""
    name = digest.removeprefix("sha256:")
    (one.server.directory / "blobs" / "sha256" / name[:2] / name).unlink()


def push_sink(sink, path, digest):
    result = measured(sink.child.pid, path.stat().st_size,
                      lambda: check(digest, put(path, sink.url)))
    os.unlink(sink.file)
    return result


def check(digest, done):
    assert "sha256:" + done[1] == digest, done
    return done


def push_registry(registry, path, digest):
    url = with_digest(start_upload(f"{registry.url}/v2/bench/model/blobs/uploads/"), digest)
    result = measured(registry.child.pid, path.stat().st_size, lambda: put(path, url))
    shutil.rmtree(registry.file / "docker", ignore_errors=True)
    return result


class Peer:
    """A process to push to: child, url, file (where it keeps things)."""

    def __init__(self, child, port, file):
        self.child = child
        self.url = f"http://127.0.0.1:{port}"
        self.file = file


@contextlib.contextmanager
def sink_peer(base):
    file = base / "sink.data"
    with rig.child([rig.helper("bench-sink"), file], stdin=subprocess.PIPE,
                   stdout=subprocess.PIPE, text=True) as child:
        with child.stdout:
            yield Peer(child, int(child.stdout.readline()), file)


@contextlib.contextmanager
def registry_peer(base):
    port = rig.free_port()
    file = base / "registry"
    file.mkdir()
    config = base / "registry.yml"
    config.write_text(f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
                      f"storage: {{filesystem: {{rootdirectory: '{file}'}}}}\n"
                      f"http: {{addr: '127.0.0.1:{port}'}}\n", encoding="utf-8")
    env = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    with open(base / "registry.log", "wb") as log, \
            rig.child(["docker-registry", "serve", config], stdout=log, stderr=log,
                      env=env) as child:
        process.wait_until(lambda: rig.listens(port), 20, "docker-registry listens")
        yield Peer(child, port, file)


def medians(samples, side):
    return {key: rig.median(s[side][key] for s in samples) for key in samples[0][side]}


def summary(size, samples, hwm):
    sides = {side: medians(samples, side) for side in samples[0]}
    ours, sink, registry = sides["ours"], sides["sink"], sides["docker_registry"]
    wall, cpu = ours["wall_s"] / sink["wall_s"], ours["cpu_s"] / max(sink["cpu_s"], 0.01)
    return {
        "bytes": size,
        "ours": {**ours, "vm_hwm_kib": hwm},
        "against": {"what": "bare libmicrohttpd sink", **sink, "docker_registry": registry},
        "ratio": wall, "better": "lower", "ratio_cpu": cpu,
        "ratio_docker_registry": ours["wall_s"] / registry["wall_s"],
        "samples": samples,
        "targets": [target("wall time, of the sink's", wall, 1.3, "lower"),
                    target("CPU time, of the sink's", cpu, 1.5, "lower"),
                    target("wall time, of docker-registry's",
                           ours["wall_s"] / registry["wall_s"], 1.0, "lower"),
                    target("peak memory of the server, MiB", hwm / 1024, 64, "lower")]}


def run(args):
    size = args.size or (1 << 20 if args.quick else 1 << 30)
    rounds = args.samples or (1 if args.quick or size > 4 << 30 else 3)
    samples = []
    with rig.Rig() as one, sink_peer(one.base) as sink, registry_peer(one.base) as registry:
        path = rig.random_file(one.base / "blob", size)
        for _ in range(rounds):
            digest = rig.stamp(path)
            samples.append({"ours": push_ours(one, path, digest),
                            "sink": push_sink(sink, path, digest),
                            "docker_registry": push_registry(registry, path, digest)})
            forget(one, digest)
        hwm = rig.memory_kib(one.server.pid, "VmHWM")
    return summary(size, samples, hwm)
