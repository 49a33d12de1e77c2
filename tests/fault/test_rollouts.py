# SPDX-License-Identifier: Apache-2.0
"""Inference servers, gateways and disks that break while traffic moves: what the user sees, and
that live traffic stays on the stable version."""
import concurrent.futures
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest

from fault.rolling import ENDS, FAST, LONG, only, staged, story
from fault.story import check_ok
from support.gateway import Control, Gateway
from support.process import wait_until
from support.rollouts import Serving
from support.server import Server

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with staged(tmp_path_factory, lambda directories, options: Server(
            directories.new(), options=["--gateway", "127.0.0.1:0", *options])) as one:
        yield one
        check_ok(one.server.directory)


@pytest.fixture(autouse=True)
def mended(stage):
    yield
    for instance in (i for site in stage.sites for i in site.instances):
        instance.honest()
        if not instance.alive:
            instance.start_anew()


@pytest.fixture
def gateway(tmp_path):
    """An nginx of its own."""
    one = Gateway(tmp_path / "gw").start()
    yield one
    one.stop()


def begun(one, stable=1, candidate=2):
    """(stable, candidate, promotion): the first is live, the second in its first step."""
    first, second = one.version(stable), one.version(candidate)
    one.to_live(first)
    return first, second, one.promote(second)


def running(one, promotion):
    return one.wait_rollout(promotion, lambda r: r["state"] == "running" and r["in_force"])


def abort(stage, one, promotion):
    one.act(stage.people["olga"], one.rollout(promotion)["id"], "abort")
    one.wait(promotion, "rolled_back")


BAD = {"errors": lambda status, reply: (500, {"error": "CUDA out of memory"}),
       "garbage": lambda status, reply: (200, b"<html>it works</html>"),
       "wrong version": lambda status, reply: (200, {**reply, "model_name": "fraud--scorer--9"}),
       "slow": None}


def bad_candidate(stage, what):
    one = stage.case(LONG)
    first, second = one.version(), one.version(2)
    one.to_live(first)
    for instance in one.instances:
        if BAD[what]:
            instance.says[one.name(second)] = BAD[what]
        else:
            instance.slow[one.name(second)] = 0.1
    with one.load(threads=6) as load:
        promotion = one.promote(second)
        one.wait(promotion, "rolled_back", seconds=90)
        only(one, first)
    rollout = one.rollout(promotion)
    assert rollout["state"] == "rolled_back", rollout
    assert ("slow" if what == "slow" else "error") in rollout["outcome"], rollout["outcome"]
    assert set(load.failed_of) <= {str(second)}, load.failed_of
    assert bool(load.failed) == (what != "slow")
    story(stage.server, rollout["id"])


def test_candidate_that_errs_answers_garbage_is_another_or_slow(stage):
    """It is taken back by what was counted; only who got the candidate saw it."""
    stage.case(LONG)
    with concurrent.futures.ThreadPoolExecutor(len(BAD)) as pool:
        for run in [pool.submit(bad_candidate, stage, what) for what in BAD]:
            run.result()


def test_load_that_fails_half_way(stage):
    """One instance has it, the other has no memory for it: nothing moves."""
    one = stage.case(FAST)
    first, second = one.version(), one.version(2)
    one.to_live(first)
    one.instances[1].fault(f"POST /v2/repository/models/{one.name(second)}/load", status=400,
                           body={"error": "failed to allocate 8 GiB"})
    with one.load() as load:
        promotion = one.promote(second)
        one.wait(promotion, "failed")
    assert load.failed == [] and set(load.versions) == {str(first)}
    rollout = one.rollout(promotion)
    assert rollout["state"] == "failed" and "8 GiB" in rollout["outcome"], rollout
    # what is left of it until it is drained is what was approved
    drift = one.model.http.ok("GET", f"/api/v1/environments/{one.env}/drift")
    assert {f["state"] for f in drift["instances"]} == {"ok"}, drift
    assert "running" not in [e["state"]["state"] for e in story(stage.server, rollout["id"])]


def test_readiness_that_flaps(stage):
    """It counts as ready when it is so three times in a row; until then no traffic moves."""
    one = stage.case(FAST)
    first, second = one.version(), one.version(2)
    one.to_live(first)
    for instance in one.instances:
        instance.flaps[one.name(second)] = 15
    holds = set()

    def looks(rollout):
        holds.add(rollout["hold"])
        ready = all(not i.flaps.get(one.name(second)) for i in one.instances)
        assert ready or rollout["state"] == "preparing", rollout
        return rollout["state"] == "completed"
    with one.load() as load:
        promotion = one.promote(second)
        one.wait_rollout(promotion, looks)
    assert load.failed == [] and any("is not ready on" in h for h in holds if h), holds
    only(one, second)


def test_instance_killed_and_started_anew(stage):
    """Both versions are on it. Its requests in flight fail, no other; it forgot what it had, so it
    gets no traffic until it has been given both again."""
    one = stage.case(LONG)
    first, second, promotion = begun(one)
    running(one, promotion)
    victim, names = one.instances[0], {one.name(first), one.name(second)}
    with one.load() as load:
        wait_until(lambda: load.done > 100, 20, "requests")
        victim.kill()
        wait_until(lambda: load.done > 400, 20, "requests")
        drift = one.model.http.ok("GET", f"/api/v1/environments/{one.env}/drift")
        assert drift["ok"] is False
        assert {f["state"] for f in drift["instances"] if f["instance"] == victim.url} == {
            "unreachable"}
        wait_until(lambda: '"serving.silent"' in stage.server.output(), 20, "it is noticed")
        victim.start_anew()
        wait_until(lambda: names <= set(victim.loaded), 60, "it has both versions again")
        rollout = one.rollout(promotion)
        assert (rollout["state"], rollout["step"], rollout["outcome"]) == ("running", 0, None)
        wait_until(lambda: any("/infer" in s for s in victim.seen), 20, "it gets traffic again")
        wait_until(lambda: one.model.http.ok(
            "GET", f"/api/v1/environments/{one.env}/drift")["ok"], 20, "no drift")
    assert len(load.failed) <= 4, load.failed  # one for each thread
    abort(stage, one, promotion)
    only(one, first)


def test_instance_that_lost_its_models_unseen(stage):
    """It was started anew between two looks, and answers that it knows no such model."""
    one = stage.case({"strategy": "blue-green"})
    first = one.version()
    one.to_live(first)
    victim = one.instances[0]
    victim.loaded.clear()
    wait_until(lambda: one.name(first) in victim.loaded, 20, "it is loaded again")
    wait_until(lambda: one.model.http.ok(
        "GET", f"/api/v1/environments/{one.env}/drift")["ok"], 20, "no drift")
    with one.load() as load:
        wait_until(lambda: load.done > 100, 20, "requests")
    assert load.failed == []


def test_instance_hung(stage, gateway):
    """Within seconds the other one gets all requests, and other rollouts do not wait for it."""
    one, other = stage.case(LONG), stage.case({"strategy": "blue-green"}, stage.site(gateway))
    first, second, promotion = begun(one)
    running(one, promotion)
    third = other.version()
    victim = one.instances[0]
    victim.fault(".*", hang=25, drop=True)
    wait_until(lambda: not any(
        victim.url.endswith(e) for s in one.rollout(promotion)["splits"]
        for v in s["variants"] for e in v["endpoints"]), 30, "the split leads to the other one")
    running(one, promotion)
    with one.load() as load:
        wait_until(lambda: load.done > 200, 20, "requests")
        assert load.failed == [] and set(load.versions) == {str(first), str(second)}
        # what is to be loaded there waits; what is to be loaded elsewhere does not
        stuck = stage.case({"strategy": "blue-green"}, site=one.site)
        waiting = stuck.promote(stuck.version())
        began = time.monotonic()
        other.to_live(third, seconds=15)
        assert time.monotonic() - began < 15
        rollout = stuck.wait_rollout(waiting, lambda r: r["hold"], 30)
        assert rollout["state"] == "preparing" and "is not ready on" in rollout["hold"]
    victim.honest()
    stuck.wait(waiting, "live", seconds=90)
    abort(stage, one, promotion)
    only(one, first)


def gateway_processes(server):
    """The embedded nginx: (master, its workers)."""
    def children(pid):
        listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True,
                                check=False).stdout.split()
        return [int(p) for p in listed]

    def is_nginx(pid):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                return f.read().startswith(b"nginx")
        except OSError:
            return False
    master = wait_until(lambda: [p for p in children(server.pid) if is_nginx(p)], 20, "nginx")[0]
    return master, children(master)


def test_nginx_killed_in_a_step(stage):
    """It comes back with the table in force; its counters begin anew, what was counted stays."""
    one = stage.case({**FAST, "steps": [{"weight": "30%", "requests": 120, "for": "1s"},
                                        {"weight": "100%"}]})
    first, second, promotion = begun(one)
    running(one, promotion)
    control = Control(stage.server.directory / "gateway/control.sock")
    before = control.table()
    boot = control.stats(one.route)[""]["boot"]
    with one.load(threads=2) as load:
        def counted():
            check = ((one.rollout(promotion)["decision"] or {}).get("checks") or [{}])[0]
            return (check.get("n") or {}).get("candidate", 0)
        n = wait_until(lambda: (lambda c: c if c > 30 else 0)(counted()), 30, "some are counted")
        master, _ = gateway_processes(stage.server)
        os.kill(master, signal.SIGKILL)

        def back():
            try:
                return control.stats(one.route)[""]["boot"] != boot
            except OSError:
                return False
        wait_until(back, 20, "nginx is back")
        mine = [[r for r in t["routes"] if r["route"] == one.route] for t in
                (before, control.table())]
        assert mine[0] == mine[1]
        assert counted() >= n
        one.wait(promotion, "live", seconds=90)
    assert set(load.versions) <= {str(first), str(second), None}
    assert set(load.failed_of) <= {None}, "an answer that came was a good one"
    only(one, second)
    story(stage.server, one.rollout(promotion)["id"])


def test_control_socket_absent_full_and_hung(stage):
    """It holds and says so; nothing moves, nothing is counted twice, and it goes on by itself."""
    one = stage.case({**FAST, "steps": [{"weight": "30%", "requests": 30, "for": "8s"},
                                        {"weight": "100%"}]})
    first, second, promotion = begun(one)
    running(one, promotion)
    path = stage.server.directory / "gateway/control.sock"

    def holds(text):
        return one.wait_rollout(promotion, lambda r: text in (r["hold"] or ""), 20, f"{text}")
    with one.load() as load:
        away = path.with_name("away")
        path.rename(away)
        held = holds("cannot be asked")
        assert (held["state"], held["step"]) == ("running", 0)
        away.rename(path)
        one.wait_rollout(promotion, lambda r: "cannot be asked" not in (r["hold"] or ""), 20)
        assert load.failed == []
        _, workers = gateway_processes(stage.server)
        full = []
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            while True:
                connection = socket.socket(socket.AF_UNIX)
                connection.setblocking(False)
                full.append(connection)
                try:
                    connection.connect(str(path))
                except BlockingIOError:
                    break
            holds("cannot be asked")
        finally:
            for connection in full:
                connection.close()
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        one.wait(promotion, "live", seconds=90)
    assert load.failed == [] and set(load.versions) == {str(first), str(second)}
    leaves = story(stage.server, one.rollout(promotion)["id"])
    assert [e["state"]["hold"] for e in leaves if "cannot be asked" in (e["state"]["hold"] or "")]


def test_splits_of_two_rollouts_in_one_table(stage):
    """Both change while the gateway cannot be reached, so both come into force at once; and it
    begins anew with a table that is younger than the split. Each is counted all the same."""
    many = [stage.case({**FAST, "steps": [{"weight": "50%", "requests": 100, "for": "3s"},
                                          {"weight": "100%"}]}) for _ in range(2)]
    versions = [(one.version(), one.version(2)) for one in many]
    for one, (first, _) in zip(many, versions):
        one.to_live(first)
    path = stage.server.directory / "gateway/control.sock"
    away = path.with_name("away")
    path.rename(away)
    try:
        promotions = [one.promote(second) for one, (_, second) in zip(many, versions)]
        for one, promotion in zip(many, promotions):
            assert not one.wait_rollout(promotion, lambda r: r["state"] == "running")["in_force"]
    finally:
        away.rename(path)
    generations = [running(one, promotion)["splits"][0]["generation"]
                   for one, promotion in zip(many, promotions)]
    assert len(set(generations)) == 2
    os.kill(gateway_processes(stage.server)[0], signal.SIGKILL)
    wait_until(path.exists, 20, "nginx is back")
    for one, promotion in zip(many, promotions):
        with one.load(threads=2):
            one.wait(promotion, "live")
        story(stage.server, one.rollout(promotion)["id"])


def test_changed_while_others_hang(stage, gateway):
    """Instances are asked side by side: what was changed on one is found in time all the same."""
    site = stage.site(gateway)
    for name in "cde":
        folder = stage.roots / f"{site.env}-{name}"
        folder.mkdir()
        site.instances.append(Serving(folder))
    site.apply()
    one = stage.case({"strategy": "blue-green"}, site)
    first = one.version()
    one.to_live(first)
    *hung, changed = one.instances
    for instance in hung:
        instance.fault(".*", hang=40, drop=True)
    began = time.monotonic()
    (changed.repository / one.name(first) / str(first) / "model.onnx").write_bytes(b"times 2\n")
    drift = one.model.http.ok("GET", f"/api/v1/environments/{one.env}/drift")
    assert time.monotonic() - began < 30, "15 s for each, and not one after another"
    assert {(f["instance"], f["state"]) for f in drift["instances"]} == {
        (changed.url, "changed"), *((i.url, "unreachable") for i in hung)}
    wait_until(lambda: any('"serving.drift"' in line and one.env in line and "changed" in line
                           for line in stage.server.output().splitlines()),
               60 - (time.monotonic() - began), "the event within 60 s")


def test_deleted_from_disk(stage):
    """Candidate and stable both: drift says so at once when asked, as an event within 60 s."""
    one = stage.case(LONG)
    first, second, promotion = begun(one)
    running(one, promotion)
    for instance, version in zip(one.instances, (first, second)):
        shutil.rmtree(instance.repository / one.name(version))
    began = time.monotonic()
    drift = one.model.http.ok("GET", f"/api/v1/environments/{one.env}/drift")
    gone = {(f["instance"], f["name"]) for f in drift["instances"] if f["state"] == "missing"}
    assert gone == {(i.url, one.name(v)) for i, v in zip(one.instances, (first, second))}
    wait_until(lambda: any('"serving.drift"' in line and one.env in line
                           for line in stage.server.output().splitlines()), 60, "the event")
    assert time.monotonic() - began < 60
    with one.load() as load:
        wait_until(lambda: load.done > 100, 20, "requests")
    assert load.failed == []
    assert one.rollout(promotion)["state"] not in ENDS
    abort(stage, one, promotion)
    only(one, first)
