# SPDX-License-Identifier: Apache-2.0
"""Two servers on one external database and one directory; the leader is killed in a batch."""
import signal
import subprocess

import pytest
import requests

from fault.story import Story, check_ok, read_log
from support import faults
from support.cli import invite
from support.faults import FaultServer
from support.process import wait_until
from support.server import Directories

STEPS = ["commit", "committed", "rename log/state", "fsync log", "rename log/tile/entries/X.p/X",
         "rename log/tile/0/X.p/X", "rename log/checkpoint"]


class Pair:
    """The first started leads. Both on `postgres`, which lives on."""

    def __init__(self, postgres, database):
        self.directories = Directories()
        self.conninfo = postgres.conninfo(database)
        self.directory = self.directories.new()
        self.number = 0
        self.all = []

    def add(self):
        self.number += 1
        one = FaultServer(self.directory, postgres=self.conninfo)
        one.board = faults.Board(self.directory.with_name(f"board{self.number}"))
        one.env["MLC_FAULT_FILE"] = str(one.board.path)
        one.log = self.directory.with_name(f"{self.number}.stderr")
        one.start()
        self.all.append(one)
        return one

    def end(self):
        for one in self.all:
            one.kill()
        self.directories.remove()


@pytest.fixture
def pair(postgres, database):
    one = Pair(postgres, database)
    try:
        yield one
    finally:
        one.end()


def test_leader_killed_in_a_batch(pair, tmp_path):
    leader = pair.add()
    token = invite(leader, tmp_path, "pat", ["contributor@fault", "auditor"]).http.token
    story = Story(0)
    story.push(leader.client(token))
    follower = pair.add()
    older = None
    hits = 0
    for number, step in enumerate(STEPS, 1):
        # the follower takes the requests, so that only the log's own steps are the leader's
        http = follower.client(token)
        story = Story(number)
        leader.board.arm(faults.Point(step, 1), faults.KILL)
        story.push(http)
        story.published(http)
        wait_until(lambda s=leader: s.died() or not s.board.hit, 10, "the death of the leader")
        leader.board.disarm()
        hits += leader.died()
        log = read_log(follower, http)
        story.check_complete(follower, http, log)
        if older:
            log.includes(older)
        older = log
        if leader.died():
            leader, follower = follower, pair.add()
        notes = {one.client().ok("GET", "/log/checkpoint") for one in (leader, follower)}
        assert len(notes) == 1, "the two show different checkpoints"
        ours, theirs = (one.client(token).ok("GET", f"{story.base}/versions")
                        for one in (leader, follower))
        assert ours == theirs
    assert hits >= len(STEPS) - 1, "nearly every step must have killed the leader"
    check_ok(pair.directory, "--postgres", pair.conninfo)


def test_stopped_leader_wakes_up_too_late(pair, tmp_path):
    """A leader that stood still (SIGSTOP) while its connection was cut and another took over must
    not sign again."""
    leader = pair.add()
    token = invite(leader, tmp_path, "pat", ["contributor@fault", "auditor"]).http.token
    story = Story(0)
    story.push(leader.client(token))
    story.published(leader.client(token))
    follower = pair.add()
    leader.child.send_signal(signal.SIGSTOP)
    try:
        subprocess.run(["psql", "-XqAt", "-c", "SELECT pg_terminate_backend(pid) FROM "
                        "pg_locks WHERE locktype = 'advisory'", pair.conninfo], check=True,
                       capture_output=True)
        http = follower.client(token)
        next_story = Story(1)
        next_story.push(http)
        next_story.published(http, seconds=40)
        before = read_log(follower, http)
    finally:
        leader.child.send_signal(signal.SIGCONT)
    for number in (2, 3):
        more = Story(number)
        more.push(leader.client(token) if number == 2 else http)
        more.published(http)
    log = read_log(follower, http)
    log.includes(before)
    for number in range(4):
        assert len(log.of("version.create", id=f"fault/m{number}:1")) == 1
    assert requests.get(f"{leader.url}/readyz", timeout=10).status_code == 200
    check_ok(pair.directory, "--postgres", pair.conninfo)
