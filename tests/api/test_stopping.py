# SPDX-License-Identifier: Apache-2.0
"""A server that stops: what is in progress ends, what comes is told; what systemd hears of it."""
import json
import os
import re
import signal
import socket
import struct
import time
import urllib.parse

import pytest
import requests

from support import oci, process
from support.cli import invite
from support.prometheus import parse
from support.server import ROOT

MIB = 1 << 20


class SlowBody:
    """A PATCH whose body is sent in pieces, as the test says."""

    def __init__(self, http, location, length):
        where = urllib.parse.urlsplit(http.url)
        self.socket = socket.create_connection((where.hostname, where.port), timeout=60)
        self.send((f"PATCH {location} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {http.token}\r\n"
                   "Content-Type: application/octet-stream\r\n"
                   f"Content-Length: {length}\r\n\r\n").encode())

    def send(self, data):
        self.socket.sendall(data)

    def reply(self):
        """All that comes until the server closes."""
        text = b""
        while True:
            data = self.socket.recv(65536)
            if not data:
                return text.decode()
            text += data


@pytest.fixture
def own(fresh_server, tmp_path):
    person = invite(fresh_server, tmp_path / "home", "pat", ["contributor@team"])
    return fresh_server, oci.Repository(person.http, "team/model")


def begin(server, repo, data, part):
    """An upload in progress, of which `part` bytes are on their way."""
    location = repo.start()
    body = SlowBody(repo.http, location, len(data))
    body.send(data[:part])
    numbers = server.client(server.admin_token)

    def active():
        found = parse(numbers.get("/metrics").text)
        return found["mlctl_http_active"].value() >= 2

    process.wait_until(active, 10, "the body is being read")
    return location, body


def asks(server, path, token=None):
    """One request on a connection of its own."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.get(server.url + path, headers=headers, timeout=10)


def status(server):
    """None: the connection came before the stop and its request after it, so it was closed."""
    try:
        return asks(server, "/readyz").status_code
    except requests.ConnectionError:
        return None


@pytest.mark.threads
def test_requests_in_progress_finish(own):
    server, repo = own
    data = os.urandom(3 * MIB)
    location, body = begin(server, repo, data, MIB)
    server.child.send_signal(signal.SIGTERM)
    process.wait_until(lambda: "server.stopping" in server.output(), 10, "it stops")

    process.wait_until(lambda: status(server) == 503, 10, "/readyz says so")
    reply = asks(server, "/readyz")
    assert reply.json()["detail"] == "the server is stopping"
    assert reply.headers["Connection"] == "close"
    assert asks(server, "/healthz").status_code == 200
    refused = asks(server, "/api/v1/models", repo.http.token)
    assert refused.status_code == 503 and refused.headers["Retry-After"]

    body.send(data[MIB:])
    reply = body.reply()
    assert reply.startswith("HTTP/1.1 202 "), reply
    assert re.search(r"^connection: close\r$", reply, re.M | re.I)
    server.stop()

    server.start()
    repo = oci.Repository(server.client(repo.http.token), repo.name)
    assert repo.offset(location) == len(data)
    repo.finish(location, oci.digest(data))
    assert repo.get(oci.digest(data)).content == data


@pytest.mark.threads
def test_who_never_ends_is_not_waited_for(own):
    server, repo = own
    data = os.urandom(2 * MIB)
    location, body = begin(server, repo, data, MIB + 7)
    start = time.monotonic()
    server.stop()
    assert 10 < time.monotonic() - start < 30
    body.socket.close()
    server.start()
    repo = oci.Repository(server.client(repo.http.token), repo.name)
    have = repo.offset(location)
    assert have <= MIB + 7
    repo.finish(location, oci.digest(data), data[have:])


def test_idle_connections_do_not_hold_it_up(own):
    server, repo = own
    repo.push(b"x")  # the client's connection stays open
    idle = [SlowBody(repo.http, "/v2/", 0).socket for _ in range(5)]
    start = time.monotonic()
    server.stop()
    assert time.monotonic() - start < 8
    for one in idle:
        one.close()


class Notified:
    """What a service manager hears: (sender's process id, {KEY: VALUE}) of each datagram."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(self.path)
        self.socket.setblocking(False)
        os.chmod(self.path, 0o777)
        self.heard = []

    def listen(self):
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12))
            except BlockingIOError:
                return self.heard
            pid, _, _ = struct.unpack("3i", ancillary[0][2])
            self.heard.append((pid, dict(line.split("=", 1) for line in data.decode().split("\n")
                                         if line)))

    def of(self, key):
        return [(pid, said[key]) for pid, said in self.listen() if key in said]


def test_service_manager(make_server):
    directory = process.reachable_directory("mlc-n-")
    manager = Notified(directory / "notify")
    server = make_server(env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000"})
    try:
        server.spawn()
        process.wait_until(lambda: manager.of("READY"), 60, "READY=1")
        address = (server.directory / "address").read_text(encoding="ascii").strip()
        assert requests.get(f"{address}/readyz", timeout=5).status_code == 200
        assert manager.of("READY") == [(server.pid, "1")]
        time.sleep(2.2)
        beats = manager.of("WATCHDOG")
        assert len(beats) >= 5 and set(beats) == {(server.pid, "1")}
        assert manager.of("STOPPING") == []
        pid = server.pid
        server.stop()
        assert manager.of("STOPPING") == [(pid, "1")]
        # PostgreSQL, which knows the protocol too, must not speak for us
        assert {sender for sender, _ in manager.heard} == {pid}
    finally:
        manager.socket.close()
        os.unlink(manager.path)
        os.rmdir(directory)


def test_metrics(own):
    server, repo = own
    admin = server.client(server.admin_token)
    before = parse(admin.get("/metrics").text)
    for _ in range(3):
        admin.ok("GET", "/healthz")
    assert admin.get("/nothing-of-this-name").status_code == 404
    repo.push_model("one", b"weights")
    reply = admin.get("/metrics")
    assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = parse(reply.text)
    total = found["mlctl_http_requests_total"]
    # the first start asked for /readyz, nothing for /healthz
    assert total.value(operation="healthz", status="200") == 3
    assert total.value(operation="none", status="404") == 1
    seconds = found["mlctl_http_request_seconds"]
    assert seconds.kind == "histogram" and seconds.value("_count", operation="healthz") == 3
    for name, family in before.items():
        if family.kind == "counter":
            for (_, labels), value in family.samples.items():
                assert found[name].value(**dict(labels)) >= value
    # a name is a promise: those in the documents exist, those that exist are documented
    assert set(found) == documented()


def documented():
    text = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(mlctl_[a-z_]+)`", text, re.M))


def test_metrics_are_for_those_with_a_token(server):
    assert requests.get(server.url + "/metrics", timeout=5).status_code == 401


def test_log_lines_are_json(own):
    server, repo = own
    repo.push_model("two", b"weights")
    server.stop()
    lines = server.output().splitlines()
    assert lines
    for line in lines:
        one = json.loads(line)
        assert {"time", "level", "event"} <= set(one), line
