# SPDX-License-Identifier: Apache-2.0
"""Every file system call of a push fails once: EIO, a full disk, a short write."""
import errno

from fault.story import Drill, check_ok
from support import faults

MOST = 70


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
