# SPDX-License-Identifier: Apache-2.0
"""Many at once: nothing is lost, nothing happens twice, and ThreadSanitizer has nothing to say."""
import concurrent.futures
import itertools
import os
import socket
import threading
import time
import urllib.parse

import pytest

from support import oci, process
from support.client import Client
from support.cli import invite

pytestmark = pytest.mark.threads
AT_ONCE = 12
MIB = 1 << 20
_numbers = itertools.count(1)


@pytest.fixture
def person(user):
    """A contributor of a namespace of this test's own; .new() is their repository, each time on a
    connection of its own (a session is not for several threads)."""
    namespace = "many-" + os.urandom(4).hex()
    one = user(f"contributor@{namespace}")
    one.namespace = namespace
    one.new = lambda name="model": oci.Repository(Client(one.http.url, one.http.token),
                                                  f"{namespace}/{name}")
    return one


def together(work, items):
    """work(item) for all of them at the same time; the results in order."""
    items = list(items)
    gate = threading.Barrier(len(items))

    def one(item):
        gate.wait(60)
        return work(item)

    with concurrent.futures.ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(one, items))


def version_of(http, model, digest, **body):
    reply = http.post(f"/api/v1/models/{model}/versions", json={"digest": digest, **body})
    assert reply.status_code in (200, 201), reply.text
    return reply.json()


def put(repo, data):
    """Blobs and manifest by digest; the manifest's digest."""
    for blob in (b"{}", data):
        repo.push(blob)
    manifest = oci.manifest(layers=[data])
    repo.put_manifest(oci.digest(manifest), manifest)
    return oci.digest(manifest)


def test_pushes_of_different_models_into_one(person):
    """Versions are numbered without a gap, each once."""
    def push(i):
        repo = person.new()
        return version_of(repo.http, repo.name, put(repo, b"weights %d" % i))["version"]

    assert sorted(together(push, range(AT_ONCE))) == list(range(1, AT_ONCE + 1))


def test_pushes_of_the_same_model(person):
    """One version, made by one of them."""
    def push(_):
        repo = person.new()
        return version_of(repo.http, repo.name, put(repo, b"the same weights" * 9999))

    made = together(push, range(AT_ONCE))
    assert {one["version"] for one in made} == {1}
    assert [one["created"] for one in made].count(True) == 1


def test_uploads_and_reads(person):
    """Long and short ones, broken and whole, beside readers of all that is there."""
    first = person.new().push(os.urandom(MIB))
    stop = threading.Event()

    def read(_):
        repo, n = person.new(), 0
        while not stop.is_set():
            assert len(repo.get(first).content) == MIB
            repo.get(first, status=206, Range="bytes=100-199")
            for path in ("/healthz", "/readyz", "/api/v1/models", "/log/checkpoint"):
                assert repo.http.get(path).status_code == 200
            n += 1
        return n

    def write(i):
        repo, data = person.new(), os.urandom((i % 3) * MIB + 4321 * i + 1)
        location = repo.start()
        if i % 2:
            broken(repo, location, data[:len(data) // 2], len(data))
            have = process.wait_until(lambda: [offset(repo, location)], 30, "it is let go")[0]
            repo.finish(location, oci.digest(data), data[have:])
        else:
            repo.finish(location, oci.digest(data), data)
        assert repo.get(oci.digest(data)).content == data

    with concurrent.futures.ThreadPoolExecutor(3) as readers:
        reading = [readers.submit(read, i) for i in range(3)]
        try:
            together(write, range(8))
        finally:
            stop.set()
        assert all(one.result() >= 1 for one in reading)


def offset(repo, location):
    reply = repo.http.get(location)
    assert reply.status_code in (204, 409), reply.text
    return int(reply.headers["Upload-Offset"]) if reply.status_code == 204 else None


def broken(repo, location, data, length):
    """A PATCH whose connection breaks off after these bytes of its body."""
    where = urllib.parse.urlsplit(repo.http.url)
    with socket.create_connection((where.hostname, where.port), timeout=30) as s:
        s.sendall((f"PATCH {location} HTTP/1.1\r\nHost: x\r\n"
                   f"Authorization: Bearer {repo.http.token}\r\n"
                   "Content-Type: application/octet-stream\r\n"
                   f"Content-Length: {length}\r\n\r\n").encode() + data)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_slow_clients_delay_nobody(make_server, tmp_path):
    """More connections that trickle than there are places."""
    server = make_server(options=["--max-connections", "32"]).start()
    person = invite(server, tmp_path / "home", "pat", ["contributor@team"])
    where = urllib.parse.urlsplit(server.url)
    slow = []
    stop = threading.Event()

    def trickle():
        while not stop.wait(0.2):
            for one in list(slow):
                try:
                    one.send(b"a")
                except OSError:
                    slow.remove(one)

    dripping = threading.Thread(target=trickle)
    dripping.start()
    try:
        worst = 0.0
        for _ in range(60):
            one = socket.create_connection((where.hostname, where.port), timeout=10)
            one.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
            slow.append(one)
            start = time.monotonic()
            reply = Client(server.url, person.token).get("/api/v1/models")
            assert reply.status_code == 200
            worst = max(worst, time.monotonic() - start)
        assert worst < 5
    finally:
        stop.set()
        dripping.join()
    for one in slow:
        one.close()
    server.stop()


def test_stopping_under_load(make_server, tmp_path):
    """What was acknowledged before a SIGTERM is there after it."""
    server = make_server().start()
    person = invite(server, tmp_path / "home", "pat", ["contributor@team"])
    acknowledged = []

    def push(worker):
        repo = oci.Repository(Client(server.url, person.token), "team/model")
        try:
            for i in itertools.count():
                digest = put(repo, b"%d %d" % (worker, i))
                acknowledged.append((version_of(repo.http, repo.name, digest)["version"], digest))
        except (AssertionError, OSError):  # refused, or cut off
            return

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        working = [pool.submit(push, i) for i in range(4)]
        process.wait_until(lambda: len(acknowledged) >= 8, 120, "some are through")
        server.stop()
        for one in working:
            one.result(60)
    server.start()
    http = server.client(person.token)
    for number, digest in acknowledged:
        assert http.ok("GET", f"/api/v1/models/team/model/versions/{number}")["digest"] == digest
    server.stop()


def test_leader_changes_under_load(make_server, postgres, database, tmp_path):
    """Two servers on one database: the leader is killed; the other goes on where it was."""
    one = make_server(postgres=postgres.conninfo(database)).start()
    two = make_server(one.directory, postgres=postgres.conninfo(database))
    two.log = one.directory.with_name("two.stderr")
    (one.directory / "address").rename(one.directory / "address.one")
    two.start()
    process.wait_until(lambda: '"leader.gained"' in one.output(), 30, "the first leads")
    person = invite(one, tmp_path / "home", "pat", ["contributor@team"])

    def push(server, i):
        repo = oci.Repository(Client(server.url, person.token), "team/model")
        return version_of(repo.http, repo.name, put(repo, b"%d" % i))

    made = together(lambda i: push((one, two)[i % 2], i), range(8))
    one.kill()
    made += together(lambda i: push(two, 100 + i), range(4))
    assert sorted(m["version"] for m in made) == list(range(1, 13))
    process.wait_until(lambda: '"leader.gained"' in two.output(), 30, "the other takes over")
    http = two.client(person.token)
    for m in made:
        http.ok("GET", "/api/v1/audit/proof", params={"leaf_hash": m["leaf_hash"]},
                headers={"Prefer": "wait=30"})
    two.stop()
