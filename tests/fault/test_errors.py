# SPDX-License-Identifier: Apache-2.0
"""Every file system call of a push fails once: EIO, a full disk, a short write."""
import errno

import pytest

from fault.story import Drill, check_ok, read_log
from support import faults
from support.process import wait_until

MOST = 48
pytestmark = pytest.mark.timeout(900)


def test_each_call_fails_once(ruin):
    server = ruin().start()
    drill = Drill(server)
    drill.discover()
    points = [p for p in drill.discover() if p.name != "committed"]
    shots = []
    for i, point in enumerate(faults.thin(points, MOST)):
        shots.append((point, faults.ERRNO, (errno.EIO, errno.ENOSPC)[i % 2]))
        if "write " in point.name and point.when == 1:
            shots.append((point, faults.SHORT, 0))
            shots.append((point, faults.ERRNO, (errno.ENOSPC, errno.EIO)[i % 2]))
    drill.shoot_all(shots)
    check_ok(server.directory)


def test_connection_lost_at_the_commit_of_an_anchor(ruin):
    """Nobody knows then whether the row is there; the next anchor must follow it if it is."""
    server = ruin().start()
    drill = Drill(server)
    drill.discover()

    def start_with_work(point=None):
        """The start makes an anchor, after the same COMMITs each time."""
        story = drill.next()
        story.push(drill.http)
        server.kill()
        server.board.arm(point, faults.ERRNO)
        server.start()
        return story

    start_with_work()
    lock = "open git/audit.git/refs/heads/audit.lock"
    wait_until(lambda: lock in [p.name for p in server.board.points()], 30, "an anchor")
    names = [p.name for p in server.board.points()]
    at = names[:names.index(lock)].count("commit")
    story = start_with_work(faults.Point("commit", at))
    wait_until(lambda: server.board.hit, 20, "the COMMIT of the anchor")
    server.board.disarm()
    drill.settle(story)
    anchors = anchors_of(server)
    drill.settle(drill.next())
    wait_until(lambda: anchors_of(server) > anchors, 40, "the next anchor")
    check_ok(server.directory)


def anchors_of(server):
    return len(read_log(server).of("log.anchor"))
