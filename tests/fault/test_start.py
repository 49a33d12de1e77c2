# SPDX-License-Identifier: Apache-2.0
"""kill -9 while the server starts: for the first time, and with leaves and an anchor to come."""
import subprocess

import pytest
import requests

from fault.story import Drill, check_ok, read_log
from support import faults
from support.process import wait_until

pytestmark = pytest.mark.timeout(900)
FIRST = 12
LATER = 14


def spawn_until_hit(server, point):
    """Starts with this fault; True when it killed the server."""
    server.board.arm(point, faults.KILL)
    (server.directory / "address").unlink(missing_ok=True)
    server.spawn()
    wait_until(lambda: server.died() or quiet(server), 60, "killed, or it leads")
    try:
        wait_until(server.died, 2, "killed")  # the checkpoint and the anchor come after
    except TimeoutError:
        pass
    server.board.disarm()
    return server.died()


def quiet(server):
    """Ready, and the leader has published what there was."""
    address = server.directory / "address"
    try:
        url = address.read_text(encoding="ascii").strip()
        note = requests.get(f"{url}/log/checkpoint", timeout=5)
        return note.status_code == 200 and '"event":"log.leading"' in \
            server.output().rpartition('"event":"db.cluster_ready"')[2]
    except (OSError, requests.RequestException):
        return False


def test_killed_in_the_first_start(ruin):
    """Each shot has a directory in which only the cluster exists: initdb takes most of a start."""
    one = ruin(copy=False)
    one.board.arm(faults.Point("mkdir log", 1), faults.KILL)
    one.spawn().child.wait(60)
    one.child = None
    assert one.board.hit
    wait_until(lambda: not (one.directory / "postgres/data/postmaster.pid").exists(), 30,
               "its cluster ends with it")
    base = one.directory.with_name("base")
    subprocess.run(["cp", "-aT", one.directory, base], check=True)
    one.board.arm()
    one.start()
    wait_until(lambda: quiet(one), 30, "the first checkpoint")
    points = [p for p in one.board.points() if "keys/cursor" not in p.name]
    one.stop()
    for point in faults.thin(points, FIRST):
        server = ruin(copy=False)
        subprocess.run(["cp", "-aT", base, server.directory], check=True)
        spawn_until_hit(server, point)
        if server.child is not None:
            server.stop()
        server.start()
        wait_until(lambda s=server: quiet(s), 30, f"the first checkpoint, after {point}")
        log = read_log(server)
        assert [len(log.of(a)) for a in ("log.create", "user.create")] == [1, 1], point
        server.client(server.admin_token).ok("GET", "/api/v1/users")
        check_ok(server.directory)
        server.stop()


def test_killed_in_later_starts(ruin):
    """Every start finds leaves to sequence and an anchor to make, and is killed at one of those."""
    server = ruin().start()
    drill = Drill(server)
    drill.discover()

    def leave_work():
        story = drill.next()
        story.push(drill.http)
        server.kill()
        return story

    story = leave_work()
    server.board.arm()
    server.start()
    story.published(drill.http)
    wait_until(lambda: [p for p in server.board.points()
                        if p.name.endswith("refs/heads/audit")], 30, "an anchor")
    points = [p for p in server.board.points() if p.name.startswith("commit")
              or "log/" in p.name or "audit.git" in p.name]
    server.board.disarm()
    hits = 0
    shots = faults.thin(points, LATER)
    for point in shots:
        story = leave_work()
        hits += spawn_until_hit(server, point)
        if server.child is None:
            server.start()
        else:
            server.url = (server.directory / "address").read_text(encoding="ascii").strip()
        drill.settle(story)
    assert hits >= len(shots) // 2
    check_ok(server.directory)
