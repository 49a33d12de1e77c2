# SPDX-License-Identifier: Apache-2.0
"""Steps of rollouts that go on only with signed approvals."""
import hashlib
import json
import os
import subprocess
import time

import pytest

from support import signing
from support.cli import invite
from support.guarded import person_with_key
from support.judged import apply, fresh, log
from support.process import account, wait_until
from support.rollouts import Case, Site
from support.server import Directories, Server

from .test_promotions import check, people_of
from .test_registry import Model

NS = "signed"
RISK = {"name": "risk", "from": ["role:approver"], "count": 2}
ONE = {"name": "lead", "from": ["role:approver"], "count": 1}


def plan(*approvals, **more):
    """Steps of 50 %, each with one of these rules, and 100 %."""
    return {"strategy": "canary",
            "steps": [{"weight": "50%", "requests": 40, "approvals": [rule], **more}
                      for rule in approvals] + [{"weight": "100%"}],
            "checks": [{"id": "errors", "type": "error-rate", "margin": "5%"}]}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def server(roots):
    directories = Directories()
    directories.base.chmod(0o711)  # psql runs as postgres
    one = Server(directories.new(), options=["--gateway", "127.0.0.1:0", "--serving-root", roots])
    one.start()
    yield one
    found = check(one)
    assert found["ok"] is True, found
    one.stop()
    directories.remove()


@pytest.fixture(scope="module")
def people(server, tmp_path_factory):
    return people_of(server, tmp_path_factory.mktemp("signers"), NS)


@pytest.fixture(scope="module")
def where(server, people, roots):
    one = Site(server, people, roots)
    yield one
    one.close()


class Waiting(Case):
    """A rollout that has met the minima of its first step, under load."""

    def __init__(self, site, model, rollout, who=None):
        super().__init__(site, model, rollout)
        self.first, self.second = self.version(), self.version(2)
        self.to_live_alone(self.first)
        self.by = who
        self.promotion_id = self.promote(self.second)
        self.id = self.rollout(self.promotion_id)["id"]

    def to_live_alone(self, version):
        """The first version has one step of 100 %, which asks nobody."""
        self.to_live(version)

    def shown(self):
        return self.rollout(self.promotion_id)

    def asked(self, step=0):
        """Waits until the step's approvals are asked for."""
        def look(r):
            return r["step"] == step and r["approval"] and r["approval"]["state"] == "open"
        return self.wait_rollout(self.promotion_id, look, 30, f"step {step} asks for approvals")

    def ends(self, state, seconds=30):
        return self.wait_rollout(self.promotion_id, lambda r: r["state"] == state, seconds,
                                 f"{self.id} becomes {state}")

    def inbox(self, person):
        items = person.http.ok("GET", "/api/v1/inbox")["items"]
        return [i for i in items if i["id"] == self.id]


@pytest.fixture
def waiting(where, people):
    return lambda rollout: Waiting(where, Model(people["pat"].http, ns=NS), rollout)


def digest(j):
    return "sha256:" + hashlib.sha256(signing.canonical(j).encode()).hexdigest()


def refused(person, rollout, what, words):
    reply = signing.post(person, rollout, what)
    assert reply.status_code == 422, reply.text
    assert words in reply.json()["detail"], reply.text


def test_two_of_them_and_then_another(waiting, people, server):
    one = waiting(plan(RISK, ONE))
    dana, eli, pat, olga = (people[n] for n in ("dana", "eli", "pat", "olga"))
    with one.load() as load:
        shown = one.asked()
        assert shown["hold"] == "approvals are needed" and shown["weight"] == 5000
        assert (shown["approval"]["need"], shown["approval"]["have"]) == (2, 0)
        assert dana.id in {p["id"] for p in shown["approval"]["waiting_for"][0]["eligible"]}
        item, = one.inbox(dana)
        assert item["kind"] == "rollout" and (item["need"], item["have"]) == (2, 0)
        assert item["rule"] == "risk" and one.inbox(pat) == [] and one.inbox(olga) == []

        # what is signed binds this rollout, its step, plan and evidence
        evidence = signing.evidence(dana, one.id)
        statement = evidence["statement"]
        assert statement["subject"] == {"kind": "rollout", "id": f"{one.id}/1"}
        assert statement["plan_digest"] == digest(evidence["plan"]) == evidence["plan_digest"]
        assert statement["evidence"] == [digest(evidence["decision"])]
        assert evidence["decision"]["decision"] == "wait"
        promotion = one.promotion(one.promotion_id)
        assert statement["artifact"] == promotion["digest"]
        for name in ("policy_digest", "environment_digest", "verdict_digest"):
            assert statement[name] == promotion[name]

        # an operator's word is no signature; who asked and who is not asked do not count
        one.act(olga, one.id, "advance", status=409)
        one.act(olga, one.id, "retry", status=409)
        signing.approve(olga, one.id, status=403)
        signing.approve(pat, one.id, status=403)

        # forged, and meant for something else
        refused(dana, one.id, signing.body(evidence, eli.key_file), "key")
        refused(dana, one.id, signing.body(evidence, dana.key_file, evidence=[digest({})]),
                "evidence")
        refused(dana, one.id, signing.body(evidence, dana.key_file, plan_digest=digest({})),
                "plan_digest")
        refused(dana, one.id, signing.body(
            evidence, dana.key_file, subject={"kind": "rollout", "id": f"{one.id}/2"}), "subject")
        refused(dana, one.id, signing.body(
            evidence, dana.key_file, subject={"kind": "promotion", "id": one.promotion_id}), "")
        broken = signing.body(evidence, dana.key_file)
        broken["statement"] = broken["statement"].replace('"version":', '"version":1')
        refused(dana, one.id, broken, "")

        mine = signing.body(evidence, dana.key_file)
        reply = signing.post(dana, one.id, mine)
        assert reply.status_code == 201, reply.text
        assert (reply.json()["need"], reply.json()["have"]) == (2, 1)
        assert signing.post(dana, one.id, signing.body(evidence, dana.key_file)).status_code == 409
        assert one.inbox(dana) == []
        time.sleep(2.2)
        assert one.shown()["step"] == 0
        assert signing.approve(eli, one.id)["have"] == 2

        # the second step has a request of its own, for which no earlier signature counts
        shown = one.asked(1)
        assert shown["approval"]["have"] == 0
        refused(dana, one.id, mine, "subject")
        assert signing.approve(eli, one.id)["have"] == 1
        one.ends("completed")
    assert load.failed == []
    assert one.promotion(one.promotion_id)["state"] == "live"
    first = dana.http.ok("GET", f"/api/v1/rollouts/{one.id}/approvals?step=0")["items"]
    assert [a["signer"]["id"] for a in first] == [dana.id, eli.id]
    second = dana.http.ok("GET", f"/api/v1/rollouts/{one.id}/approvals?step=1")["items"]
    assert [a["signer"]["id"] for a in second] == [eli.id]

    leaves = [e for e in log(server) if e["kind"] == "request" and e["id"].startswith(f"{one.id}/")]
    assert [(e["action"], e["id"]) for e in leaves] == [
        ("request.open", f"{one.id}/1"), ("request.approved", f"{one.id}/1"),
        ("request.open", f"{one.id}/2"), ("request.approved", f"{one.id}/2")]
    assert leaves[0]["state"]["evidence"] == statement["evidence"][0]
    signed = [e for e in log(server) if e["kind"] == "approval"
              and e["state"]["subject"] == f"rollout:{one.id}/1"]
    assert [json.loads(e["detail"]["statement"])["signer"] for e in signed] == [dana.id, eli.id]
    assert all("SSH SIGNATURE" in e["detail"]["signature"] for e in signed)


def test_one_rejection_takes_it_back(waiting, people):
    one = waiting(plan(RISK))
    with one.load() as load:
        one.asked()
        signing.approve(people["dana"], one.id)
        said = signing.approve(people["eli"], one.id, decision="reject", reason="answers drift")
        assert said["state"] == "aborting"
        shown = one.ends("rolled_back")
        time.sleep(0.3)
    assert load.failed == [] and one.infer()[2]["model_version"] == str(one.first)
    assert shown["outcome"] == "step 1 was rejected" and shown["approval"]["state"] == "rejected"
    assert shown["approval"]["approvals"][1]["reason"] == "answers drift"
    assert one.promotion(one.promotion_id)["state"] == "rolled_back"
    assert people["finn"].http.get(f"/api/v1/rollouts/{one.id}/evidence").status_code == 409


def test_harm_does_not_wait_for_people(waiting, people):
    one = waiting(plan(RISK))
    dana, eli = people["dana"], people["eli"]
    with one.load():
        one.asked()
        late = signing.body(signing.evidence(eli, one.id), eli.key_file)
        signing.approve(dana, one.id)
        one.fail(one.second, 0.6)
        shown = one.ends("rolled_back")
    assert "errors" in shown["outcome"] and shown["approval"]["state"] == "void"
    assert [a["void"] for a in shown["approval"]["approvals"]] == [True]
    assert signing.post(eli, one.id, late).status_code == 409
    assert one.inbox(eli) == []


def test_nobody_answers_in_time(waiting, people):
    one = waiting(plan({**RISK, "request_ttl": "4s"}))
    with one.load() as load:
        shown = one.asked()
        late = signing.body(signing.evidence(people["eli"], one.id), people["eli"].key_file)
        assert json.loads(late["statement"])["expires"] == shown["approval"]["expires"]
        signing.approve(people["dana"], one.id)
        shown = one.ends("rolled_back")
    assert load.failed == []
    assert shown["outcome"] == "nobody approved step 1 in time"
    assert shown["approval"]["state"] == "expired"
    assert signing.post(people["eli"], one.id, late).status_code == 409


@pytest.mark.parametrize("alias", [True, False])
def test_withdrawn_while_it_rolls_out(waiting, where, people, alias):
    """It goes to 0 by itself, and who is asked about it may still say no."""
    named = where.alias
    where.alias = named if alias else ""
    where.apply()
    try:
        one = waiting(plan(RISK))
        with one.load() as load:
            one.asked()
            no, yes = (signing.body(signing.evidence(people[who], one.id), people[who].key_file,
                                    decision=decision)
                       for who, decision in (("eli", "reject"), ("dana", "approve")))
            assert one.model.set_status(one.second, "withdrawn").ok
            for who, body in (("dana", yes), ("eli", no)):
                reply = signing.post(people[who], one.id, body)
                if reply.status_code != 201:  # the leader was faster
                    assert reply.status_code == 409
                    assert who == "dana" or "waits for no approval" in reply.text, reply.text
                else:
                    assert who == "eli" and reply.json()["state"] == "aborting"
            shown = one.ends("rolled_back")
        assert load.failed == [] and shown["weight"] == 0
        assert shown["outcome"] in ("the version was withdrawn", "step 1 was rejected")
        assert one.infer()[2]["model_version"] == str(one.first)
        # nobody is asked in this one, and nothing goes live either
        one.apply({**plan(ONE), "steps": [{"weight": "50%", "requests": 40, "for": "1h"}]})
        third = one.version(3)
        promotion = one.promote(third)
        one.wait_rollout(promotion, lambda r: r["weight"] == 5000 and r["in_force"])
        assert one.model.set_status(third, "withdrawn").ok
        one.wait(promotion, "rolled_back")
        assert one.rollout(promotion)["outcome"] == "the version was withdrawn"
        assert one.infer()[2]["model_version"] == str(one.first)
    finally:
        where.alias = named
        where.apply()


def test_paused_stopped_and_taken_back(waiting, people, tmp_path):
    """What is signed does not lift a pause or release the line; a new request needs new ones."""
    one = waiting(plan(ONE, RISK))
    olga, dana, eli = people["olga"], people["dana"], people["eli"]
    chief = invite(one.site.server, tmp_path, fresh("chief"), ["operator"]).http
    with one.load() as load:
        one.asked()
        one.act(olga, one.id, "pause")
        signing.approve(dana, one.id)
        time.sleep(2.2)
        assert one.shown()["step"] == 0 and one.shown()["paused"]
        chief.ok("POST", "/api/v1/line", json={"environment": one.env, "stopped": True,
                                               "reason": "tests"})
        one.act(olga, one.id, "resume")
        wait_until(lambda: one.shown()["hold"] == "the line is stopped", 10, "the line holds it")
        assert one.shown()["approval"]["have"] == 1
        chief.ok("POST", "/api/v1/line", json={"environment": one.env, "stopped": False,
                                               "reason": "tests"})
        one.asked(1)
        signing.approve(eli, one.id)
        one.act(olga, one.id, "abort")
        shown = one.ends("rolled_back")
    assert load.failed == [] and shown["approval"]["state"] == "void"
    assert all(a["void"] for a in shown["approval"]["approvals"])


def test_signed_in_time_but_held(waiting, people, tmp_path):
    """Nobody says that people were late when the line held it: they are asked anew afterwards."""
    one = waiting(plan({**ONE, "request_ttl": "5s"}))
    chief = invite(one.site.server, tmp_path, fresh("chief"), ["operator"]).http

    def line(stopped):
        chief.ok("POST", "/api/v1/line", json={"environment": one.env, "stopped": stopped,
                                               "reason": "tests"})
    with one.load() as load:
        one.asked()
        line(True)
        signing.approve(people["dana"], one.id)
        shown = one.wait_rollout(one.promotion_id, lambda r: r["approval"]["state"] != "open", 20)
        assert shown["approval"]["state"] == "void" and shown["state"] == "running", shown
        time.sleep(2.2)  # not before it may go on
        shown = one.shown()
        assert shown["approval"]["state"] == "void" and shown["hold"] == "the line is stopped"
        line(False)
        assert one.asked()["approval"]["have"] == 0
        signing.approve(people["dana"], one.id)
        one.ends("completed")
    assert load.failed == []


def test_who_is_revoked_counts_no_more(waiting, people, server, tmp_path):
    """Who counts is asked when the step goes on, not when they signed."""
    gone = person_with_key(server, tmp_path, [f"approver@{NS}"])
    one = waiting(plan(RISK))
    with one.load():
        one.asked()
        signing.approve(gone, one.id)
        one.admin.ok("POST", f"/api/v1/users/{gone.id}/status", json={"status": "disabled"})
        assert signing.approve(people["dana"], one.id)["have"] == 1
        time.sleep(2.2)
        assert one.shown()["step"] == 0
        signing.approve(people["eli"], one.id)
        one.ends("completed")


def test_operator_and_approvers(waiting, people):
    one = waiting(plan(ONE, wait="person"))
    with one.load():
        shown = one.asked()
        assert [w["what"] for w in shown["decision"]["waiting_for"]] == ["approval", "person"]
        one.act(people["olga"], one.id, "advance")
        time.sleep(2.2)
        assert one.shown()["step"] == 0
        signing.approve(people["dana"], one.id)
        one.ends("completed")


def test_all_traffic_before_it_is_live(where, people):
    """In the last step people are asked before the version is live; the first version's too."""
    one = Case(where, Model(people["pat"].http, ns=NS), {
        "strategy": "blue-green", "steps": [{"weight": "100%", "approvals": [ONE]}]})
    for version in (one.version(), one.version(2)):
        promotion = one.promote(version)
        shown = one.wait_rollout(promotion, lambda r: r["approval"], 30, "it asks")
        assert shown["weight"] == 10000 and shown["in_force"]
        assert one.promotion(promotion)["state"] == "rolling_out"
        assert one.infer()[2]["model_version"] == str(version)
        signing.approve(people["dana"], shown["id"])
        one.wait(promotion, "live")
    promotion = one.promote(one.version(3))
    shown = one.wait_rollout(promotion, lambda r: r["approval"], 30, "it asks")
    signing.approve(people["dana"], shown["id"], decision="reject")
    one.wait(promotion, "rolled_back")
    assert one.infer()[2]["model_version"] == str(version)


def superuser(server, text):
    return subprocess.run(
        ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c",
         f"SET session_replication_role = replica; {text}",
         f"host={server.directory / 'postgres'} user=postgres dbname=mlctl"],
        check=True, capture_output=True, text=True, cwd="/", env={"PATH": os.environ["PATH"]},
        **account("postgres")).stdout.strip()


CHANGED = {
    "decision": ("replace(decision, 'approvals are needed', 'approvals are nice')",
                 "its decision differs from its digest"),
    "statistics": ("regexp_replace(statistics, '\"steps\":\\{\"0\":\\{[^}]*\\}', "
                   "'\"steps\":{\"0\":{\"labels\":0,\"requests\":1}')",
                   "its statistics give another decision"),
    "inputs": ("regexp_replace(inputs, '\"step\":0', '\"step\":40')",
               "nothing can be decided from its statistics"),
    "state": ("'void'", ""),  # its leaf says otherwise
}


def test_check_names_what_was_changed(waiting, people, server):
    one = waiting(plan(ONE))
    with one.load():
        one.asked()
        signing.approve(people["dana"], one.id)
        one.ends("completed")
    for column, (change, says) in CHANGED.items():
        superuser(server, "CREATE TABLE kept AS SELECT * FROM rollout_request "
                          f"WHERE rollout = '{one.id}'")
        try:
            superuser(server, f"UPDATE rollout_request SET {column} = {change} "
                              f"WHERE rollout = '{one.id}'")
            found = check(server)
        finally:
            superuser(server, f"UPDATE rollout_request q SET {column} = k.{column} FROM kept k "
                              "WHERE q.rollout = k.rollout; DROP TABLE kept")
        assert found["ok"] is False and one.id in found["what"] and says in found["what"], found


def test_documents(where, people):
    name = f"{NS}/{fresh('doc')}"
    head = f"apiVersion: mlctl/v1\nkind: Model\nname: {name}\nrollout: "

    def refuse(rule, words):
        reply = apply(where.admin, head + json.dumps(plan(rule)), status=409)
        assert words in reply["detail"], reply
    refuse({**ONE, "from": ["group:nobody-knows"]}, "does not exist")
    refuse({**ONE, "from": ["user:nobody-knows"]}, "there is no user")
    apply(where.admin, head + json.dumps(plan({**ONE, "from": [f"user:{people['dana'].name}"]})))
    normal = where.admin.ok("GET", f"/api/v1/documents/Model/{name}")["document"]
    rule, = normal["rollout"]["steps"][0]["approvals"]
    assert rule["from"] == [f"user:{people['dana'].id}"] and rule["count"] == 1


def test_restart_while_people_are_asked(waiting, people, server):
    one = waiting(plan(ONE))
    with one.load():
        one.asked()
    server.restart()
    for person in people.values():
        person.http = server.client(person.token)
        person.env["MLCTL_SERVER"] = server.url
    one.model.http = people["pat"].http
    one.admin = one.site.admin = server.client(server.admin_token)
    shown = one.shown()
    assert shown["approval"]["state"] == "open" and shown["step"] == 0
    with one.load() as load:
        signing.approve(people["dana"], one.id)
        one.ends("completed")
    assert load.failed == [] and one.infer()[2]["model_version"] == str(one.second)
