# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the server, of PostgreSQL, and of a leader, at every transition of a promotion."""
import os
import time
import traceback

import pytest

from fault import promoting
from fault.story import Broken, check_ok
from fault.test_postgres import postmaster
from support import faults
from support.process import wait_until

pytestmark = pytest.mark.timeout(900)
# of "held", the second evaluating is the one that follows evidence
SECOND = {(promoting.held, "evaluating")}


def shots(calls):
    return [(chapter, faults.Point(f"{call} {moves}", 1 + ((chapter, moves) in SECOND)))
            for chapter, all_moves in promoting.CHAPTERS.items() for moves in all_moves
            for call in calls]


def shoot(world, chapter, point, action, error=0):
    """One chapter with this fault; then to its end without. Whether it was hit."""
    run = chapter(world)
    board = world.server.board
    board.arm(point, action, error)
    try:
        run()
    except Broken:
        pass
    finally:
        board.disarm()
    hit = board.hit
    if hit and action == faults.KILL:
        world.server.child.wait(10)
    if world.died():
        world.server.start()
    wait_until(lambda: world.server.client().get("/readyz").status_code == 200, 30, "it is ready")
    end(run)
    world.check()
    return hit


def end(run):
    """Through, soon: the database may be on its way, and what was acknowledged be judged again."""
    stop = time.monotonic() + 40
    while True:
        try:
            return run()
        except Broken as e:
            if time.monotonic() > stop:
                raise AssertionError(f"it does not go on: {e}") from e
            time.sleep(0.1)


def shoot_all(world, todo, action, error=lambda: 0):
    wrong, missed = [], []
    for chapter, point in todo:
        try:
            if not shoot(world, chapter, point, action, error()):
                missed.append((chapter.__name__, point))
        except Exception as e:  # pylint: disable=broad-except
            where = traceback.extract_tb(e.__traceback__)[-1]
            wrong.append(f"{chapter.__name__} {point}: {type(e).__name__}: {str(e)[:900]} "
                         f"({where.filename}:{where.lineno}: {where.line})")
            world.server.kill()
            world.server.start()
    assert not wrong, "\n".join(wrong) + world.server.output()[-3000:]
    assert not missed, f"every transition must be hit: {missed}"
    world.server.restart()  # brings documents.git up to the rows, if that failed
    check_ok(world.server.directory)


@pytest.fixture
def world(ruin, tmp_path):
    server = ruin().start()
    return promoting.World(server, tmp_path)


@pytest.mark.parametrize("call", ["commit", "committed"])
def test_server_killed_at_every_transition(world, call):
    shoot_all(world, shots([call]), faults.KILL)


CHIEF = {"approval+approved", "live", "replaced+live", "rolled_back+rollback", "cancelled",
         "superseded+evaluating", "approval+applied"}


def test_postgres_killed_at_every_transition(world):
    """Without --all only at those where most is at stake."""
    everything = bool(os.environ.get("MLC_ALL"))
    todo = [s for s in shots(["commit", "committed"] if everything else ["commit"])
            if everything or s[1].name.split()[1] in CHIEF or s[0] is promoting.judged_again]
    shoot_all(world, todo, faults.KILL_OTHER, lambda: postmaster(world.server))
