# SPDX-License-Identifier: Apache-2.0
"""Rollouts as people see them in a terminal."""
import hashlib
import json

import pytest

from api.test_promotions import people_of
from api.test_registry import Model
from support.cli import Person
from support.fake_server import LyingServer
from support.rollouts import GATEWAY, Case, Site, serving

NS = "term"
PLAN = {"strategy": "canary",
        "steps": [{"weight": "50%", "requests": 40, "for": "1s"}, {"weight": "100%"}],
        "checks": [{"id": "errors", "type": "error-rate", "margin": "5%"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("serving"), *GATEWAY) as one:
        yield one


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


@pytest.fixture(scope="module")
def asked(case, people):
    """A rollout whose first step waits for two signatures: its id."""
    rule = {"name": "risk", "from": ["role:approver"], "count": 2}
    case.apply({**PLAN, "steps": [{**PLAN["steps"][0], "approvals": [rule]}, {"weight": "100%"}]})
    promotion = case.promote(case.version(7))
    with case.load():
        shown = case.wait_rollout(promotion, lambda r: r["approval"], 60, "approvals are asked for")
    yield shown["id"]
    case.apply(PLAN)


def change(path, value):
    """Changes one member of a JSON reply."""
    def lie(reply):
        body = json.loads(reply.body)
        place = body
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value(place[path[-1]])
        reply.body = json.dumps(body).encode()
    return lie


@pytest.mark.parametrize("path, value, says", [
    (("decision", "reason"), lambda _: "all is well", "does not follow from its statistics"),
    (("statistics", "steps", "0", "requests"), lambda _: 3, "does not follow"),
    (("inputs", "signed_off"), lambda _: True, "does not follow from its statistics"),
    (("decision_digest",), lambda _: "sha256:" + "0" * 64, "contradicts itself"),
    (("plan_digest",), lambda _: "sha256:" + "0" * 64, "contradicts itself"),
    (("plan", "on_harm"), lambda _: "pause", "contradicts itself"),
    (("step",), lambda n: n + 1, "contradicts itself"),
    (("id",), lambda _: "r999", "contradicts itself"),
    (("promotion",), lambda _: "p1", ""),
    (("statement", "subject", "id"), lambda i: i.replace("/1", "/2"), "another 'subject'"),
    (("statement", "evidence"), lambda _: ["sha256:" + "0" * 64], "another 'evidence'"),
    (("statement", "artifact"), lambda _: "sha256:" + "0" * 64, "another 'artifact'"),
    (("statement", "plan_digest"), lambda _: "sha256:" + "0" * 64, "another 'plan_digest'"),
    (("meanings", "approve"), lambda _: "I like it", "another 'meaning'"),
])
def test_a_liar_gets_no_signature_for_a_step(asked, people, server, tmp_path, path, value, says):
    liar = LyingServer(server.url)
    try:
        victim = Person(tmp_path / "dana", liar.url, people["dana"].token)
        liar.lie("GET", "/rollouts/.*/evidence$", change(path, value))
        done = victim.run("approve", asked, "--key", people["dana"].key_file, "--reason", "fine",
                          status=1)
        assert says in done.stderr and not [p for m, p in liar.seen if m == "POST"]
    finally:
        liar.close()


@pytest.mark.parametrize("member, value, says", [
    ("on_silence", "pause", "not what the model's document says"),
    ("deadline_ms", 1000, "not what the model's document says"),
    ("on_deadline", "rollback", "not what the model's document says"),
    ("first", True, "of a first version"),
])
def test_a_liar_with_digests(asked, people, server, tmp_path, member, value, says):
    """A plan of the server's own, whose digests fit."""
    def lie(reply):
        body = json.loads(reply.body)
        body["plan"][member] = value
        text = json.dumps(body["plan"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        body["plan_digest"] = body["statement"]["plan_digest"] = digest
        reply.body = json.dumps(body).encode()
    liar = LyingServer(server.url)
    try:
        victim = Person(tmp_path / "dana", liar.url, people["dana"].token)
        liar.lie("GET", "/rollouts/.*/evidence$", lie)
        done = victim.run("approve", asked, "--key", people["dana"].key_file, "--reason", "fine",
                          status=1)
        assert says in done.stderr and not [p for m, p in liar.seen if m == "POST"]
    finally:
        liar.close()


def test_steps_are_signed(asked, case, people):
    dana, eli = people["dana"], people["eli"]
    inbox = dana.run("inbox").stdout
    assert f"mlctl approve {asked} --key" in inbox and "0 of 2" in inbox and "risk" in inbox
    hurry = people["olga"].run("rollout", "advance", asked, "--reason", "hurry", status=1)
    assert "its step waits for signed approvals" in hurry.stderr
    shown = dana.run("approve", asked, "--key", dana.key_file, "--reason", "fine").stdout
    for words in ("1 of 2", "50 % of the requests", "100 % of the requests", "errors",
                  "approve that this rollout goes on from this step", "checked here"):
        assert words in shown, shown
    shown = eli.run("rollout", "show", asked).stdout
    assert "1 of 2, open" in shown and people["eli"].name in shown
    with case.load() as load:
        decided = eli.json("approve", asked, "--key", eli.key_file, "--reason", "fine")
        assert (decided["need"], decided["have"], decided["subject"]) == (2, 2, asked)
        eli.run("rollout", "watch", asked)
    assert load.failed == []
    done = eli.run("reject", asked, "--key", eli.key_file, "--reason", "late", status=1)
    assert "waits for no approval" in done.stderr


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
    wrong = people["olga"].run("rollout", "abort", rollout, "--reason", "x", "--over", "soon",
                               status=2).stderr
    assert "--over takes a time" in wrong
    people["olga"].run("rollout", "abort", rollout, "--reason", "enough", "--over", "1s")
    case.wait(promotion, "rolled_back")
