# SPDX-License-Identifier: Apache-2.0
"""Two servers on one database: the one that leads dies in the middle of a promotion's step, or
both believe for a while that they lead."""
import subprocess
import threading

import pytest

from fault import promoting
from fault.story import check_ok
from fault.test_two import Pair
from support import faults
from support.process import wait_until

STEPS = [(promoting.two_approvals, "commit live"), (promoting.replaced, "committed replaced+live"),
         (promoting.held, "commit evaluating"), (promoting.judged_again, "committed evaluating"),
         (promoting.expired, "commit expired"), (promoting.scheduled, "committed scheduled")]


@pytest.fixture
def pair(postgres, database):
    one = Pair(postgres, database)
    try:
        yield one
    finally:
        one.end()


def test_leader_dies_in_each_step(pair, tmp_path):
    leader = pair.add()
    world = promoting.World(leader, tmp_path)
    world.server = follower = pair.add()
    for chapter, step in STEPS:
        run = chapter(world)
        leader.board.arm(faults.Point(step, 1), faults.KILL)
        run()  # through the follower, which goes on with what the leader had begun
        wait_until(leader.died, 10, f"the death of the leader at {step}")
        world.check()
        leader, follower = follower, pair.add()
        world.server = follower
    check_ok(pair.directory, "--postgres", pair.conninfo)


def test_both_believe_that_they_lead(pair, tmp_path):
    one, two = pair.add(), pair.add()
    world = promoting.World(one, tmp_path)
    stop = threading.Event()

    def cut():
        """The lock's connection; whoever held it notices up to a second later."""
        while not stop.wait(0.5):
            subprocess.run(["psql", "-XqAt", "-c", "SELECT pg_terminate_backend(l.pid) FROM "
                            "pg_locks l JOIN pg_stat_activity a USING (pid) WHERE "
                            "l.locktype = 'advisory' AND a.state = 'idle'", pair.conninfo],
                           check=True, capture_output=True)

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        for chapter in (promoting.replaced, promoting.held, promoting.judged_again,
                        promoting.superseded, promoting.two_approvals):
            for world.server in (one, two):
                chapter(world)()
    finally:
        stop.set()
        cutting.join()
    world.check()
    gained = [s.output().count('"leader.gained"') for s in (one, two)]
    assert sum(gained) > 3, gained
    check_ok(pair.directory, "--postgres", pair.conninfo)
