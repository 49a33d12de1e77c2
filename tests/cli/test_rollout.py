# SPDX-License-Identifier: Apache-2.0
"""Rollouts as people see them in a terminal."""
import json

import pytest

from api.test_promotions import check, people_of
from api.test_registry import Model
from support.rollouts import Case, Site
from support.server import Directories, Server

NS = "term"
PLAN = {"strategy": "canary",
        "steps": [{"weight": "50%", "requests": 40, "for": "1s"}, {"weight": "100%"}],
        "checks": [{"id": "errors", "type": "error-rate", "margin": "5%"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directories = Directories()
    roots = tmp_path_factory.mktemp("serving")
    one = Server(directories.new(), options=["--gateway", "127.0.0.1:0", "--serving-root", roots])
    one.roots = roots
    one.start()
    yield one
    assert check(one)["ok"] is True
    one.stop()
    directories.remove()


@pytest.fixture(scope="module")
def people(server, tmp_path_factory):
    return people_of(server, tmp_path_factory.mktemp("people"), NS)


@pytest.fixture(scope="module")
def case(server, people):
    site = Site(server, people, server.roots)
    one = Case(site, Model(people["pat"].http, ns=NS), PLAN)
    one.first = one.version()
    one.to_live(one.first)
    yield one
    site.close()


def test_the_whole_way(case, people):
    pat = people["pat"]
    second = case.version(2)
    ref = f"{case.model.name}:{second}"
    with case.load() as load:
        plan = pat.run("rollout", "plan", ref, "--to", case.env).stdout
        assert f"route {case.route} of target eu" in plan
        assert "50 %" in plan and "requests/s now" in plan
        promotion = pat.json("promote", ref, "--to", case.env, "--reason", "better")["id"]
        rollout = case.rollout(promotion)["id"]
        watched = pat.run("rollout", "watch", rollout, "--output", "json").stdout
        states = [json.loads(line) for line in watched.splitlines()]
        assert states[-1]["state"] == "completed"
        assert 5000 in {s["weight"] for s in states}
    assert load.failed == []
    shown = pat.run("rollout", "show", rollout).stdout
    assert "completed" in shown and "errors" in shown
    explained = pat.run("rollout", "explain", rollout, "--key", "user-7").stdout
    assert "computed again here" in explained and "is in bucket" in explained
    assert "splits no traffic now" in explained
    assert pat.json("rollout", "list", "--model", case.model.name)[0]["id"] == rollout
    drift = people["olga"].run("env", "drift", case.env).stdout
    assert "every instance has what was approved" in drift
    assert case.env in pat.run("env", "list").stdout


def test_refusals(case, people):
    pat = people["pat"]
    for arguments, text in (
            (("rollout", "plan", f"{case.model.name}:1"), "needs --to"),
            (("rollout", "pause", "r1"), "needs --reason"),
            (("rollout", "stop-line"), "needs --reason")):
        assert text in pat.run(*arguments, status=2).stderr
    unknown = pat.run("rollout", "show", "r999999", status=1)
    assert "there is no rollout 'r999999'" in unknown.stderr
    pat.run("rollout", "pause", "r1", "--reason", "not an operator", status=2)
    pat.run("env", "drift", "none", status=1)


def test_an_abort_is_exit_1_for_who_watches(case, people):
    promotion = case.promote(case.version(5))
    rollout = case.wait_rollout(promotion, lambda r: r["state"] == "running")["id"]
    people["olga"].run("rollout", "pause", rollout, "--reason", "lunch")
    people["olga"].run("rollout", "resume", rollout, "--reason", "back")
    aborted = people["olga"].run("rollout", "abort", rollout, "--reason", "no").stdout
    assert "aborting" in aborted
    last = people["pat"].run("rollout", "watch", rollout, status=1).stdout
    assert "rolled_back" in last and "an operator took it back" in last


def test_drift_is_exit_1(case, people):
    case.apply({"strategy": "blue-green"})
    live = case.rollout(case.to_live(case.version(3)))
    name = case.name(live["version"])
    for path in (case.instances[0].repository / name).rglob("model.onnx"):
        path.chmod(0o644)
        path.write_bytes(b"times 9 and changed")
    drift = people["olga"].run("env", "drift", case.env, "--output", "json", status=1).stdout
    states = {(i["name"], i["state"]) for i in json.loads(drift)["instances"]}
    assert (name, "changed") in states


def test_requests_that_are_checked(case, people):
    case.apply({"strategy": "canary", "steps": [{"weight": "50%", "wait": "person"},
                                                {"weight": "100%"}]}, ", validate: reject")
    declared = case.version(2, "inputs: [{name: x, datatype: FP64, shape: [-1, -1]}]\n")
    plan = people["pat"].run("rollout", "plan", f"{case.model.name}:{declared}", "--to", case.env)
    assert f"route {case.route} (reject): requests are not checked: version" in plan.stdout
    assert "declares no inputs in model.yaml" in plan.stdout
    case.apply({"strategy": "blue-green"}, ", validate: reject")
    case.to_live(declared)
    case.apply({"strategy": "canary", "steps": [{"weight": "50%", "wait": "person"},
                                                {"weight": "100%"}]}, ", validate: reject")
    promotion = case.promote(case.version(3))
    rollout = case.wait_rollout(promotion, lambda r: r["in_force"])["id"]
    client = case.client()
    bad = {"inputs": [{"name": "y", "datatype": "FP64", "shape": [1, 1], "data": [1]}]}
    assert client.call("POST", f"/v2/models/{case.route}/infer", bad)[0] == 400
    client.close()
    case.wait_rollout(promotion, lambda r: sum(r["invalid"].values()) == 1)
    shown = people["pat"].run("rollout", "show", rollout).stdout
    assert f"requests to {case.route} are checked against 1 declared input (reject)" in shown
    assert "did not fit" in shown
    people["olga"].run("rollout", "abort", rollout, "--reason", "enough")
    case.wait(promotion, "rolled_back")
