# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the server at every durable step of a push, before and after the call."""
import pytest

from fault.story import Drill, check_ok
from support import faults

MOST = 24
pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("action", [faults.KILL, faults.KILL_AFTER], ids=["before", "after"])
def test_killed_while_pushing(ruin, action):
    server = ruin().start()
    drill = Drill(server)
    drill.discover()  # the first story makes what later ones find
    points = drill.discover()
    assert {"commit", "committed", "rename log/state", "linkat blobs/sha256/X/X"} <= \
        {p.name for p in points}
    if action == faults.KILL_AFTER:  # before the next call is after this one, but for the last
        points = [p for p in points if p.name.startswith(("rename", "link", "commit", "fsync"))]
    drill.shoot_all([(p, action, 0) for p in faults.thin(points, MOST)])
    check_ok(server.directory)
