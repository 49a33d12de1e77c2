# SPDX-License-Identifier: Apache-2.0
"""Clocks that are set, forward a day and back an hour, while promotions wait: one clock for the
server and its PostgreSQL, moved under both while they run."""
import mmap
import os
import shutil
import struct
import subprocess
import time

import pytest

from fault import promoting
from fault.story import check_ok
from support import process, signing
from support.faults import before_shim
from support.postgres import Postgres
from support.process import wait_until
from support.server import ROOT, Directories, Server

HOUR = 3600
DAY = 24 * HOUR


class Clock:
    """.set(seconds): that much away from the real one, for whoever started with .env."""

    def __init__(self):
        self.directory = process.reachable_directory("mlc-clock-")
        self.library = self.directory / "clock.so"
        subprocess.run(["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o",
                        self.library, ROOT / "tests/fault/clock.c"], check=True)
        path = self.directory / "moved"
        path.write_bytes(bytes(8))
        for one in (self.library, path):
            os.chmod(one, 0o644 if one == path else 0o755)
        with open(path, "r+b") as f:
            self.memory = mmap.mmap(f.fileno(), 8)
        self.env = {"LD_PRELOAD": str(self.library), "MLC_CLOCK_FILE": str(path)}
        self.at = 0

    def set(self, seconds):
        self.at = seconds
        self.memory[:8] = struct.pack("q", seconds * 10**9)

    def move(self, seconds):
        self.set(self.at + seconds)

    def now(self):
        return time.time() + self.at


class ClockServer(Server):
    def died(self):
        return self.child is None or self.child.poll() is not None


@pytest.fixture
def clock():
    one = Clock()
    yield one
    shutil.rmtree(one.directory)


@pytest.fixture
def world(clock, tmp_path):
    directories = Directories()
    with Postgres(env=clock.env) as postgres:
        conninfo = postgres.conninfo(postgres.create())
        env = {**clock.env, "LD_PRELOAD": ":".join([*before_shim(), str(clock.library)])}
        server = ClockServer(directories.new(), postgres=conninfo, env=env)
        try:
            made = promoting.World(server.start(), tmp_path)
            made.check_all = lambda: check_ok(server.directory, "--postgres", conninfo)
            yield made
            server.stop()
        finally:
            server.kill()
            directories.remove()


def test_clock_set_while_approvals_come_in(world, clock):
    m = world.model()
    first, second, third = m.version("a"), m.version("b"), m.version("c")
    m.promote("a", first, "two")
    m.approve("a", "dana")
    clock.move(DAY)
    m.approve("a", "eli")
    m.wait("a", "live")
    m.promote("b", second, "two")
    m.approve("b", "dana")
    clock.move(-HOUR)
    m.approve("b", "eli")
    m.wait("b", "live")
    assert m.live("two") == second and m.get("a")["state"] == "replaced"

    # a version that is rolled back, and live once more an hour "before" that, is a target again
    def back(to):
        world.ask("POST", "/api/v1/rollbacks", json={"environment": "two", "model": m.name,
                                                     "reason": "x", "to": str(to)})
        assert m.live("two") == to
    back(first)
    clock.move(-HOUR)
    m.ids.pop("b")
    m.promote("b", second, "two")
    m.approve("b", "dana", "eli")
    m.wait("b", "live")
    m.promote("c", third, "two")
    m.approve("c", "dana", "eli")
    m.wait("c", "live")
    world.ask("POST", "/api/v1/rollbacks", json={"environment": "two", "model": m.name,
                                                 "reason": "x"})
    assert m.live("two") == second
    world.check()
    world.check_all()


def test_clock_set_while_something_expires(world, clock):
    m = world.model()
    first, second = m.version("a"), m.version("b", None)
    m.promote("a", first, "two")
    m.approve("a", "dana")
    clock.move(-HOUR)
    time.sleep(0.5)
    assert m.get("a")["state"] == "awaiting_approval"
    evidence = signing.evidence(world.people["eli"], m.ids["a"]) if world.http("eli") else None
    clock.move(HOUR)
    body = signing.body(evidence, world.people["eli"].key_file)
    late = world.ask("POST", f"/api/v1/promotions/{m.ids['a']}/approvals", "eli", status=(422,),
                     json=body)
    assert "time" in late["detail"]
    clock.move(4 * DAY)
    m.wait("a", "expired")
    clock.move(-4 * DAY)
    time.sleep(0.5)
    assert m.get("a")["state"] == "expired", "what ended stays ended"
    m.promote("b", second, "two")
    m.wait("b", "held")
    clock.move(-HOUR)
    m.evaluate(second, 0.95)
    m.wait("b", "awaiting_approval")
    m.approve("b", "dana", "eli")
    m.wait("b", "live")
    world.check()
    world.check_all()


def test_clock_set_back_while_it_is_judged(world, clock):
    """Who judged is gone, with a claim that lies an hour ahead: it is judged all the same."""
    m = world.model()
    version = m.version("a")
    clock.move(HOUR)
    m.promote("a", version, "two")
    sql = (f"update promotion set state = 'evaluating', claimed_until = now() + interval '50 s' "
           f"where id = '{m.ids['a']}'")
    conninfo = world.server.options[world.server.options.index("--postgres") + 1]
    subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql, conninfo], check=True)
    time.sleep(0.5)
    assert m.get("a")["state"] == "evaluating"
    clock.move(-HOUR)
    m.wait("a", "awaiting_approval")
    wait_until(lambda: "judge_failed" not in world.server.output(), 1, "no failure")
