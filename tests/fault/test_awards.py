# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the server while the last owner signs for a role: all of it holds, or nothing."""
import pytest
import requests

from fault.story import check_ok
from support import faults, signing
from support.guarded import Guarded
from support.judged import log

pytestmark = pytest.mark.timeout(600)
MOST = 8


class Drill:
    def __init__(self, server, root):
        self.case = Guarded(server, root)
        self.server = server

    def revive(self):
        """The same people at the server's new address."""
        case = self.case
        if self.server.died():
            self.server.start()
        case.admin = self.server.client(self.server.admin_token)
        for person in (case.dana, case.eli):
            person.http = self.server.client(person.token)
            person.env["MLCTL_SERVER"] = self.server.url

    def ready(self):
        """A grant that one more signature completes."""
        finn = self.case.person()
        change = self.case.ask(finn.id, "approver@z")
        signing.approve(self.case.dana, change)
        eli = self.case.eli
        return finn, change, signing.body(signing.evidence(eli, change), eli.key_file)

    def discover(self):
        _, change, body = self.ready()
        self.server.board.arm()
        assert signing.post(self.case.eli, change, body).status_code == 201
        found = self.server.board.points()
        self.server.board.disarm()
        return found

    def shoot(self, point, action):
        board = self.server.board
        finn, change, body = self.ready()
        board.arm(point, action)
        try:
            answered = signing.post(self.case.eli, change, body).status_code == 201
        except requests.RequestException:
            answered = False
        board.disarm()
        hit = board.hit
        if hit and not self.server.died():
            self.server.child.wait(10)
        self.revive()
        state, held = self.case.change(change)["state"], self.case.roles(finn.id)
        assert (state, held) in (("pending", []), ("applied", ["approver@z"])), (point, action)
        assert state == "applied" or not answered, "what was acknowledged holds"
        if state == "pending":
            assert signing.post(self.case.eli, change, body).json()["state"] == "applied"
        grants = [leaf for leaf in log(self.server) if leaf["id"] == f"{finn.id}/approver@z"]
        assert len(grants) == 1 and self.case.roles(finn.id) == ["approver@z"]
        return hit


@pytest.mark.parametrize("action", [faults.KILL, faults.KILL_AFTER], ids=["before", "after"])
def test_killed_while_the_last_owner_signs(ruin, tmp_path, action):
    server = ruin().start()
    drill = Drill(server, tmp_path)
    points = drill.discover()
    assert "commit" in {p.name for p in points}
    hits = [drill.shoot(point, action) for point in faults.thin(points, MOST)]
    assert any(hits)
    server.stop()
    check_ok(server.directory)
