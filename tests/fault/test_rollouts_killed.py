# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the server at every transition of a rollout, two leaders, a database that is gone, all
of them gone, and clocks that are set: it goes on where it was, traffic never leaves the table."""
import os
import pathlib
import re
import subprocess
import threading
import time

import pytest

from fault.rolling import FAST, LONG, only, staged, story
from fault.story import check_ok
from fault.test_clock import Clock
from support import faults
from support.faults import FaultServer, before_shim
from support.gateway import Gateway
from support.postgres import SETTINGS, Postgres
from support.process import wait_until
from support.server import Server

pytestmark = pytest.mark.timeout(900)
ALL = bool(os.environ.get("MLC_ALL"))

# what one transaction does to the rollout, on its way through and when it is taken back
FORTH = ["rolling_out", "running0", "running1", "completing1", "replaced+live+completed1"]
BACK = ["aborting0", "rolled_back+rolled_back0"]
SHOTS = [(way, faults.Point(f"{call} {moves}", 1), action)
         for way, all_moves in (("forth", FORTH), ("back", BACK)) for moves in all_moves
         for call, action in (("commit", faults.KILL), ("committed", faults.KILL))]
# tables: the first is the step's, the second that of all traffic, or of none
SHOTS += [(way, faults.Point("put", n), action) for way in ("forth", "back") for n in (1, 2)
          for action in (faults.KILL, faults.KILL_AFTER)]
CHIEF = {"commit running0", "committed running0", "committed completing1",
         "commit replaced+live+completed1", "committed aborting0"}


@pytest.fixture
def outside(tmp_path):
    """A gateway that lives on whatever happens to mlctld. It belongs to one database: two that
    write its tables would each raise their generation above the other's."""
    with Gateway(tmp_path / "gateway") as one:
        yield one


@pytest.fixture
def stage(tmp_path_factory, outside):
    def make(directories, options):
        return FaultServer(directories.new(), options=options)
    with staged(tmp_path_factory, make) as one:
        one.site(outside)
        yield one
        check_ok(one.server.directory)


class Renewed:
    """People whose servers come and go: their tokens go on, their addresses do not."""

    def __init__(self, stage, one):
        self.stage, self.one = stage, one

    def up(self):
        server = self.stage.server
        if server.died():
            server.start()
        wait_until(lambda: server.client().get("/readyz").status_code == 200, 30, "it is ready")
        for person in self.stage.people.values():
            person.http = server.client(person.token)
        self.one.model = self.one.model.as_(self.stage.people["pat"].http)


def shoot(stage, one, versions, way, point, action):
    """From the live version to another; the server dies on its way there."""
    live, other = versions
    server, again = stage.server, Renewed(stage, one)
    for instance in one.instances:
        instance.errors = {} if way == "forth" else {one.name(other): 1.0}
    key = f"shot-{time.monotonic_ns()}"
    with one.load(threads=3) as load:
        server.board.arm(point, action)
        promotion = None
        try:
            promotion = one.promote(other, reason=key)
        except Exception:  # pylint: disable=broad-except
            pass  # it died in the request
        end = time.monotonic() + 60
        while not server.died() and not server.board.hit and time.monotonic() < end:
            time.sleep(0.05)
        hit = server.board.hit
        if hit and not server.died():
            server.child.wait(10)
        server.board.disarm()
        again.up()
        if promotion is None:
            found = one.model.http.ok("GET", "/api/v1/promotions", params={
                "model": one.model.name})["items"]
            mine = [p for p in found if p["reason"] == key]
            promotion = mine[0]["id"] if mine else one.promote(other, reason=key)
        one.wait(promotion, "live" if way == "forth" else "rolled_back", seconds=60)
        now = other if way == "forth" else live
        only(one, now)
    assert hit, f"{point} was not reached"
    allowed = {str(other)} if way == "back" else set()
    assert set(load.failed_of) <= allowed, (point, load.failed[:3])
    assert set(load.versions) <= {str(v) for v in versions}
    story(server, one.rollout(promotion)["id"])
    return now


def test_server_killed_at_every_transition(stage):
    """No request fails of the stable version; the rollout ends as it would have."""
    one = stage.case(FAST, stage.sites[0])
    live = one.version()
    one.to_live(live)
    wrong = []
    for number, (way, point, action) in enumerate(SHOTS):
        if not ALL and point.name not in CHIEF and (point.name, point.when, action) != (
                "put", 1, faults.KILL_AFTER):
            continue
        try:
            live = shoot(stage, one, (live, one.version(number + 2)), way, point, action)
        except (AssertionError, TimeoutError) as e:
            wrong.append(f"{way} {point} {action}: {type(e).__name__} {str(e)[:1500]}")
            break
    assert not wrong, "\n".join(wrong) + stage.server.output()[-3000:]


# --- the database ---

class Restartable(Postgres):
    """gone(): it ends; back(): it goes on with the same data, all that was committed."""

    settings = {**SETTINGS, "synchronous_commit": "on"}

    def gone(self):
        self.child.send_signal(3)  # at once, as the machine would
        self.child.wait(30)

    def back(self):
        self.run()


@pytest.fixture
def database_of_its_own():
    with Restartable() as one:
        yield one


def on_postgres(postgres, conninfo, env=None):
    def make(directories, options):
        one = Server(directories.new(), postgres=conninfo, options=options, env=env)
        one.died = lambda: one.child is None or one.child.poll() is not None
        return one
    return make


def test_database_gone_in_a_step(tmp_path_factory, outside, database_of_its_own):
    """Traffic stays as it is split; the step goes on when the database is back."""
    db = database_of_its_own
    conninfo = db.conninfo(db.create())
    with staged(tmp_path_factory, on_postgres(db, conninfo)) as stage:
        one = stage.case({**FAST, "steps": [{"weight": "30%", "requests": 50, "for": "3s"},
                                            {"weight": "100%"}]}, stage.site(outside))
        first, second = one.version(), one.version(2)
        one.to_live(first)
        with one.load(threads=2, pause=0.01) as load:
            promotion = one.promote(second)
            one.wait_rollout(promotion, lambda r: r["state"] == "running" and r["in_force"])
            before = outside.table()["generation"]
            db.gone()
            time.sleep(30 if ALL else 6)
            assert outside.table()["generation"] == before
            assert set(load.versions) == {str(first), str(second)} and load.failed == []
            db.back()
            Renewed(stage, one).up()
            one.wait(promotion, "live", seconds=90)
        assert load.failed == []
        only(one, second)
        story(stage.server, one.rollout(promotion)["id"])
        check_ok(stage.server.directory, "--postgres", conninfo)


def test_all_gone_in_a_canary(tmp_path_factory, outside, database_of_its_own):
    """PostgreSQL and mlctld end in the middle of a canary: the module takes the candidate to 0 when
    its lease ends. Started again, the rollout goes on."""
    db = database_of_its_own
    conninfo = db.conninfo(db.create())
    with staged(tmp_path_factory, on_postgres(db, conninfo)) as stage:
        one = stage.case(LONG, stage.site(outside))
        first, second = one.version(), one.version(2)
        one.to_live(first)
        promotion = one.promote(second)
        one.wait_rollout(promotion, lambda r: r["state"] == "running" and r["in_force"])
        stage.server.kill()
        db.gone()
        table = outside.table()
        assert 40000 < table["leases"][one.route] <= 60000

        def left():
            return outside.table()["leases"].get(one.route, 0)
        with one.load(threads=2, pause=0.01) as load:
            wait_until(lambda: len(load.versions) == 2, 20, "both answer")
            if not ALL:  # otherwise a minute
                assert outside.lease(table["generation"], 1500)[0] == 200
            wait_until(lambda: not left(), 70, "the lease ends")
            time.sleep(0.2)
            load.versions.clear()
            time.sleep(1)
            assert set(load.versions) == {str(first)} and load.failed == []
            assert outside.table()["generation"] == table["generation"]
            db.back()
            Renewed(stage, one).up()
            wait_until(left, 30, "it leads again")
            load.versions.clear()
            wait_until(lambda: len(load.versions) == 2, 20, "both answer again")
            one.act(stage.people["olga"], one.rollout(promotion)["id"], "abort")
            one.wait(promotion, "rolled_back")
        assert load.failed == []
        only(one, first)
        story(stage.server, one.rollout(promotion)["id"])
        check_ok(stage.server.directory, "--postgres", conninfo)


# --- clocks ---

def retried_after_it_was_set_back(one, clock):
    """What failed once before that is tried again soon."""
    third = one.version(3)
    one.instances[0].fault(f"models/{one.name(third)}/load", times=3, status=503,
                           body={"error": "busy"})
    other = one.promote(third)
    one.wait_rollout(other, lambda r: "busy" in (r["hold"] or ""))
    clock.move(-3600)
    with one.load(threads=2, pause=0.01) as load:
        one.wait(other, "live", seconds=60)
    assert load.failed == []


def test_clock_set_in_a_step(tmp_path_factory, outside):
    """A day forward, an hour back: a step takes as long as it says, no more and no less."""
    clock = Clock()
    with Postgres(env=clock.env) as db:
        conninfo = db.conninfo(db.create())
        env = {**clock.env, "LD_PRELOAD": ":".join([*before_shim(), str(clock.library)])}
        with staged(tmp_path_factory, on_postgres(db, conninfo, env)) as stage:
            one = stage.case({**FAST, "steps": [{"weight": "30%", "requests": 30, "for": "8s"},
                                                {"weight": "100%"}]}, stage.site(outside))
            first, second = one.version(), one.version(2)
            one.to_live(first)
            with one.load(threads=2, pause=0.01) as load:
                promotion = one.promote(second)
                one.wait_rollout(promotion, lambda r: r["state"] == "running" and r["in_force"])
                began = time.monotonic()
                clock.move(24 * 3600)
                time.sleep(3)
                rollout = one.rollout(promotion)
                assert (rollout["state"], rollout["step"]) == ("running", 0), rollout
                clock.move(-25 * 3600)
                one.wait(promotion, "live", seconds=30)
                assert time.monotonic() - began > 7
            assert load.failed == []
            only(one, second)
            if ALL:
                retried_after_it_was_set_back(one, clock)
            check_ok(stage.server.directory, "--postgres", conninfo)


# --- two leaders ---

def test_two_that_believe_that_they_lead(tmp_path_factory, outside, postgres, database):
    """Their tables come by generation; one story comes out of it."""
    conninfo = postgres.conninfo(database)
    with staged(tmp_path_factory, on_postgres(postgres, conninfo)) as stage:
        first_server = stage.server
        second_server = Server(first_server.directory, postgres=conninfo, options=[
            "--serving-root", stage.roots])
        second_server.log = first_server.directory.with_name("second.stderr")
        stop = threading.Event()

        def cut():
            """The lock's connection; whoever held it notices up to a second later."""
            while not stop.wait(0.7):
                subprocess.run(["psql", "-XqAt", "-c", "SELECT pg_terminate_backend(l.pid) FROM "
                                "pg_locks l JOIN pg_stat_activity a USING (pid) WHERE "
                                "l.locktype = 'advisory' AND a.state = 'idle'", conninfo],
                               check=False, capture_output=True)
        cutting = threading.Thread(target=cut)
        try:
            second_server.start()
            one = stage.case(FAST, stage.site(outside))
            live = one.version()
            one.to_live(live)
            generations, ids = [], []
            cutting.start()
            with one.load(threads=2, pause=0.01) as load:
                for factor in (2, 3):
                    candidate = one.version(factor)
                    promotion = one.promote(candidate)
                    ids.append(promotion)
                    one.wait_rollout(promotion, lambda r: generations.append(
                        outside.table()["generation"]) or r["state"] == "completed", 120)
                    one.wait(promotion, "live")
            stop.set()
            cutting.join()
            assert load.failed == [] and generations == sorted(generations)
            only(one, candidate)
            gained = [s.output().count('"leader.gained"') for s in (first_server, second_server)]
            assert all(gained) and sum(gained) > 3, gained
            for promotion in ids:
                story(first_server, one.rollout(promotion)["id"])
            check_ok(first_server.directory, "--postgres", conninfo)
            second_server.stop()
        finally:
            stop.set()
            second_server.kill()


def test_copies_follow_the_lead(tmp_path_factory, outside, postgres, database):
    """Who has lost it asks no candidate any more, and leaves the next one's socket where it is."""
    conninfo = postgres.conninfo(database)
    with staged(tmp_path_factory, on_postgres(postgres, conninfo)) as stage:
        servers = [stage.server, Server(stage.server.directory, postgres=conninfo,
                                        options=["--serving-root", stage.roots])]
        servers[1].log = servers[0].directory.with_name("second.stderr")

        def asked(server):
            text = server.client(servers[0].admin_token).get("/metrics").text
            return float(re.search(r"(?m)^mlctl_mirror_asked_total (\S+)$", text)[1])

        def other_leads():
            subprocess.run(["psql", "-XqAt", "-c", "SELECT pg_terminate_backend(l.pid) FROM "
                            "pg_locks l JOIN pg_stat_activity a USING (pid) WHERE "
                            "l.locktype = 'advisory' AND a.state = 'idle'", conninfo],
                           check=False, capture_output=True)
            time.sleep(2.5)
            return servers[1].output().count('"leader.gained"') > servers[1].output().count(
                '"leader.lost"')
        try:
            one = stage.case({"strategy": "shadow",
                              "steps": [{"mirror": "100%", "requests": 1000000},
                                        {"weight": "100%"}],
                              "checks": [{"id": "same", "type": "shadow-agreement",
                                          "at_least": "90%"}]}, stage.site(outside))
            one.to_live(one.version())
            servers[1].start()
            one.promote(one.version())
            with one.load(threads=2, pause=0.01):
                wait_until(lambda: asked(servers[0]) > 0, 30, "the leader asks")
                wait_until(other_leads, 60, "the other one leads")
                before = asked(servers[0])
                wait_until(lambda: asked(servers[1]) > 20, 30, "the other one asks")
                assert asked(servers[0]) == before and outside.tap.exists()
                assert pathlib.Path("/proc/net/unix").read_text(encoding="ascii").count(
                    f" {outside.tap}\n") == 1  # nobody holds one that was replaced
            servers[1].stop()
        finally:
            servers[1].kill()
