# SPDX-License-Identifier: Apache-2.0
"""`mlctld serve --gateway`: nginx as a child that lives and ends with the server."""
import os
import signal
import subprocess
import time

import pytest

from support import gateway, process
from support.gateway import Client, Control, Load, route, table, variant
from support.oip import FakeOip
from support.server import Directories, Server

pytestmark = pytest.mark.skipif(not os.access(gateway.NGINX, os.X_OK), reason="needs nginx")

ROUTE = [variant("stable", "fraud--scorer--2", 10000, [])]


class Embedded(Server):
    """A server with a gateway on a free port; `port`, `control`, `nginx()` (pid of the master)."""

    def __init__(self, directory, where="127.0.0.1:0"):
        super().__init__(directory, options=["--gateway", where])
        self.control = Control(self.directory / "gateway/control.sock")

    @property
    def port(self):
        address = (self.directory / "gateway-address").read_text(encoding="ascii").strip()
        assert address.startswith("http://127.0.0.1:")
        return int(address.rsplit(":", 1)[1])

    def nginx(self):
        return int((self.directory / "gateway/nginx.pid").read_text(encoding="ascii"))

    def log_of_nginx(self):
        return (self.directory / "gateway/log").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def places():
    made = Directories()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def server(places):
    running = Embedded(places.new()).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def backend():
    with FakeOip(["fraud--scorer--2"]) as fake:
        yield fake


def put(server, backend):
    """The next generation, everything to the stable version."""
    now = server.control.call("GET", "/v1/table")[1].get("generation", 0)
    server.control.put(table(now + 1, route([variant("stable", "fraud--scorer--2", 10000,
                                                     [backend.address])])))
    return now + 1


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def workers(master):
    return [int(p) for p in subprocess.run(["pgrep", "-P", str(master)], capture_output=True,
                                           text=True, check=False).stdout.split()]


def test_it_serves(server, backend):
    put(server, backend)
    status, headers, document = Client(server.port).infer()
    assert status == 200 and document["model_name"] == "fraud"
    assert "nginx/" not in headers["Server"]  # no version
    if os.geteuid() == 0:
        owner = os.stat(f"/proc/{server.nginx()}").st_uid
        assert owner != 0
    assert (server.directory / "gateway").stat().st_mode & 0o077 == 0


def test_a_killed_nginx_is_not_noticed_by_new_callers(server, backend):
    generation = put(server, backend)
    master = server.nginx()
    os.kill(master, signal.SIGKILL)
    for _ in range(5):
        assert Client(server.port).infer()[0] == 200  # waits for the next one, is not refused
    process.wait_until(lambda: server.nginx() != master, 10, "another nginx")
    assert server.control.table()["generation"] == generation
    assert "gateway.restarted" in server.output()


def test_a_killed_worker(server, backend):
    put(server, backend)
    for pid in workers(server.nginx()):
        os.kill(pid, signal.SIGKILL)
    process.wait_until(lambda: Client(server.port).infer()[0] == 200, 10, "it answers")


def test_restart_goes_on_with_the_table(places, backend):
    server = Embedded(places.new()).start()
    generation = put(server, backend)
    server.stop()
    assert not (server.directory / "gateway-address").exists()
    assert not (server.directory / "gateway/control.sock").exists()
    server.start()
    try:
        assert Client(server.port).infer()[0] == 200
        assert server.control.table()["generation"] == generation
        master = server.nginx()
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 25 and not alive(master)
    finally:
        server.kill()


def test_it_ends_with_a_killed_server_and_the_next_takes_the_port(places, backend):
    where = f"127.0.0.1:{gateway.free_port()}"
    server = Embedded(places.new(), where).start()
    try:
        put(server, backend)
        assert Client(server.port).infer()[0] == 200
        masters = [server.nginx(), *workers(server.nginx())]
        server.kill()
        server.start()  # stale sockets, an nginx that is about to end: no obstacle
        assert Client(server.port).infer()[0] == 200
        process.wait_until(lambda: not any(alive(pid) for pid in masters), 15, "the old one ends")
        assert f"127.0.0.1:{server.port}" == where
    finally:
        server.stop()


def test_requests_in_progress_end_before_it_does(places):
    with FakeOip({"fraud--scorer--2": ("slow", 1)}) as slow:
        server = Embedded(places.new()).start()
        put(server, slow)
        with Load(server.port, threads=2) as load:
            process.wait_until(lambda: len(slow.seen) >= 2, 10, "requests are under way")
            server.stop()
            time.sleep(0.2)
        assert load.done - len(load.failed) >= 2
        assert not any(f.startswith("5") for f in load.failed), load.failed


@pytest.mark.parametrize("where,said", [("127.0.0.1:70000", "70000"),
                                        ("host.example:80", "ADDRESS:PORT")])
def test_addresses_that_are_none(places, where, said):
    server = Embedded(places.new(), where).spawn()
    assert server.child.wait(60) == 2
    assert said in server.output().splitlines()[-1]


def test_without_it_there_is_none(places):
    server = Server(places.new()).start()
    assert not (server.directory / "gateway").exists()
    assert not (server.directory / "gateway-address").exists()
    server.stop()
