# SPDX-License-Identifier: Apache-2.0
"""Promotions, approvals and what is live: the whole story, and what is refused."""
import concurrent.futures
import json
import subprocess
import threading
import time

import pytest

from support import oci, signing
from support.cli import invite
from support.judged import apply, environment, evaluate, evaluation, fresh, log, metric, policy
from support.process import wait_until
from support.server import build_directory

from .test_registry import LINEAGE, Model

NS = "promo"
QUALITY = ("[{id: accuracy, type: threshold, metric: accuracy, dataset: fraud/holdout, "
           "at_least: 0.9}]")
TWO = "[{name: risk, from: ['role:approver'], count: 2, request_ttl: 72h}]"


def people_of(server, root, ns=NS):
    """Who takes part, each with a registered key."""
    made = {}
    for name, roles in (("pat", ["contributor", "evaluator"]), ("dana", ["approver"]),
                        ("eli", ["approver"]), ("finn", ["approver"]),
                        ("both", ["contributor", "approver"]), ("olga", ["operator"]),
                        ("reader", ["auditor"])):
        person = invite(server, root / name, fresh(name), [f"{r}@{ns}" for r in roles])
        person.key_file = person.key()
        person.run("key", "add", f"{person.key_file}.pub")
        made[name] = person
    return made


@pytest.fixture(scope="module")
def people(server, tmp_path_factory):
    return people_of(server, tmp_path_factory.mktemp("promoters"))


class Case:
    """An environment and a model of this test's own."""

    def __init__(self, server, people, checks=QUALITY, approvals=TWO, more="", ns=NS):
        self.people, self.server = people, server
        self.pat = people["pat"]
        admin = server.client(server.admin_token)
        self.admin = admin
        self.env, self.alias = fresh("env"), fresh("live")
        apply(admin, policy(self.env, checks, approvals) + "---\n"
              + environment(self.env, f"policy: {self.env}\nalias: {self.alias}\n{more}"))
        self.model = Model(self.pat.http, ns=ns)

    def version(self, accuracy=0.95):
        made = self.model.version(annotations=LINEAGE)
        if accuracy is not None:
            evaluate(self.pat.http, self.model.name, made["version"],
                     evaluation(metric("accuracy", accuracy, 171)))
        return made["version"]

    def promote(self, version, who=None, status=201, **more):
        reply = (who or self.pat).http.post("/api/v1/promotions", json={
            "model": self.model.name, "version": str(version), "environment": self.env,
            "reason": "tests", **more})
        assert reply.status_code == status, reply.text
        return reply.json()

    def get(self, promotion):
        return self.pat.http.ok("GET", f"/api/v1/promotions/{promotion}")

    def wait(self, promotion, *states):
        return wait_until(lambda: (lambda p: p if p["state"] in states else None)(
            self.get(promotion)), 15, f"{promotion} becomes {states}")

    def live(self):
        """What is live by the list of environments, and what the alias names."""
        page = self.pat.http.ok("GET", "/api/v1/environments", params={"environment": self.env})
        rows = page["items"][0]["live"]
        alias = self.pat.http.get(f"{self.model.base}/aliases/{self.alias}")
        return (rows[0]["version"] if rows else None,
                alias.json()["version"] if alias.ok else None)

    def to_live(self, version):
        promotion = self.promote(version)
        for name in ("dana", "eli"):
            if self.get(promotion["id"])["state"] == "awaiting_approval":
                signing.approve(self.people[name], promotion["id"])
        return self.wait(promotion["id"], "live")


@pytest.fixture
def case(server, people):
    return Case(server, people)


def test_whole_story(case, people):
    version = case.version()
    promotion = case.promote(version)
    assert promotion["state"] == "awaiting_approval" and promotion["verdict"] == "pass"
    assert promotion["protected"] is False and promotion["reason"] == "tests"
    (rule,) = promotion["waiting_for"]
    assert (rule["kind"], rule["rule"], rule["need"], rule["have"]) == ("approval", "risk", 2, 0)
    eligible = {p["id"] for p in rule["eligible"]}
    assert {people[n].id for n in ("dana", "eli", "finn", "both")} <= eligible
    assert people["pat"].id not in eligible
    assert case.live() == (None, None)
    (item,) = [i for i in people["dana"].http.ok("GET", "/api/v1/inbox")["items"]
               if i["id"] == promotion["id"]]
    assert item["kind"] == "promotion" and item["need"] == 2 and item["rule"] == "risk"

    first = signing.approve(people["dana"], promotion["id"])
    assert (first["state"], first["need"], first["have"]) == ("awaiting_approval", 2, 1)
    inbox = people["dana"].http.ok("GET", "/api/v1/inbox")["items"]
    assert promotion["id"] not in {i["id"] for i in inbox}
    second = signing.approve(people["eli"], promotion["id"])
    assert second["state"] == "approved" and second["have"] == 2

    live = case.wait(promotion["id"], "live")
    assert case.live() == (version, version)
    assert [a["signer"]["id"] for a in live["approvals"]] == [people["dana"].id, people["eli"].id]
    assert [a["reason"] for a in live["approvals"]] == ["looked at it"] * 2
    assert live["live_since"] and live["ended"] is None and live["waiting_for"] == []
    listed = people["dana"].http.ok("GET", f"/api/v1/promotions/{promotion['id']}/approvals")
    assert listed["items"] == live["approvals"]
    signed = json.loads(live["approvals"][0]["statement"])
    assert signed["verdict_digest"] == live["verdict_digest"]

    better = case.version(0.97)
    second = case.to_live(better)
    assert case.live() == (better, better)
    assert case.get(promotion["id"])["state"] == "replaced"
    assert second["from"] == live["digest"]


def test_signatures_verify_with_stock_tools(case, people, tmp_path, server):
    promotion = case.to_live(case.version())
    signers = tmp_path / "signers"
    signers.write_bytes(server.client().ok("GET", "/keys/allowed_signers"))
    for a in promotion["approvals"]:
        (tmp_path / "sig").write_text(a["signature"])
        subprocess.run(["ssh-keygen", "-Y", "verify", "-f", signers, "-I", a["signer"]["id"],
                        "-n", "approval@mlctl", "-s", tmp_path / "sig"],
                       input=a["statement"].encode(), check=True, capture_output=True)


def test_policy_refuses(case):
    weak = case.promote(case.version(0.85))
    assert weak["state"] == "rejected" and weak["verdict"] == "fail" and weak["ended"]
    assert weak["checks"][0]["id"] == "accuracy" and weak["checks"][0]["verdict"] == "fail"


def test_held_until_evidence_arrives(case):
    version = case.version(None)
    promotion = case.promote(version)
    assert promotion["state"] == "held" and promotion["verdict"] == "inconclusive"
    assert promotion["waiting_for"][0]["kind"] == "evidence"
    assert promotion["waiting_for"][0]["rule"] == "accuracy"
    evaluate(case.pat.http, case.model.name, version, evaluation(metric("accuracy", 0.95, 171)))
    assert case.wait(promotion["id"], "awaiting_approval")["verdict"] == "pass"


def test_without_rules_nobody_is_asked(server, people):
    case = Case(server, people, approvals="[]")
    version = case.version()
    promotion = case.promote(version)
    assert promotion["state"] in ("approved", "live")
    case.wait(promotion["id"], "live")
    assert case.live() == (version, version)
    again = case.promote(version, status=200)
    assert again["id"] == promotion["id"], "asking again for what is live changes nothing"


def test_who_never_counts(case, people):
    version = case.version()
    promotion = case.promote(version, who=people["both"])
    path = f"/api/v1/promotions/{promotion['id']}/approvals"
    evidence = signing.evidence(people["both"], promotion["id"])
    reply = signing.post(people["both"], promotion["id"],
                         signing.body(evidence, people["both"].key_file))
    assert reply.status_code == 403 and "you asked" in reply.json()["detail"]
    for name, what in (("reader", "asks for you"), ("olga", "asks for you"),
                       ("pat", "made this version")):
        evidence = signing.evidence(people[name], promotion["id"])
        reply = signing.post(people[name], promotion["id"],
                             signing.body(evidence, people[name].key_file))
        assert reply.status_code == 403 and what in reply.json()["detail"], reply.text
    assert people["dana"].http.ok("GET", path)["items"] == []


def test_same_person_counts_once(case, people):
    promotion = case.promote(case.version())["id"]
    signing.approve(people["dana"], promotion)
    again = signing.approve(people["dana"], promotion, status=409)
    assert "already" in again["detail"]
    assert case.get(promotion)["state"] == "awaiting_approval"


def test_rejected_by_a_person(case, people):
    promotion = case.promote(case.version())["id"]
    done = signing.approve(people["dana"], promotion, decision="reject", reason="too early")
    assert done["decision"] == "reject" and done["state"] == "rejected"
    assert signing.post(people["eli"], promotion, {
        "statement": "{}", "signature": "x", "reason": "x", "salt": "0" * 64}).status_code == 409


@pytest.mark.parametrize("changes, member", [
    ({"version": 7}, "version"),
    ({"artifact": "sha256:" + "1" * 64}, "artifact"),
    ({"environment": "other"}, "environment"),
    ({"environment_digest": "sha256:" + "1" * 64}, "environment_digest"),
    ({"policy_digest": "sha256:" + "1" * 64}, "policy_digest"),
    ({"verdict_digest": "sha256:" + "1" * 64}, "verdict_digest"),
    ({"evidence": []}, "evidence"),
    ({"from": "sha256:" + "1" * 64}, "from"),
    ({"log": "another.example/log"}, "log"),
    ({"subject": {"kind": "promotion", "id": "p999999"}}, "subject"),
    ({"model": "promo/other"}, "model"),
    ({"role": "owner"}, "role"),
    ({"signer": "u000000000000"}, "signer"),
    ({"signer_name_commitment": "sha256:" + "1" * 64}, "signer_name_commitment"),
    ({"meaning": "I agree to everything"}, "meaning"),
    ({"reason_commitment": "sha256:" + "1" * 64}, "reason_commitment"),
    ({"time": "2026-01-01T00:00:00.000Z"}, "time"),
    ({"expires": "2036-01-01T00:00:00.000Z"}, "expires"),
    ({"further": "member"}, "other members"),
    ({"conditions": ["x"]}, "statement"),
    ({"nonce": "short"}, "nonce"),
], ids=lambda v: v if isinstance(v, str) else "")
def test_statement_that_says_something_else(shared, people, changes, member):
    case, promotion = shared
    evidence = signing.evidence(people["dana"], promotion)
    reply = signing.post(people["dana"], promotion,
                         signing.body(evidence, people["dana"].key_file, **changes))
    assert reply.status_code == 422, reply.text
    assert member in reply.json()["detail"], reply.text
    assert case.get(promotion)["approvals"] == []


@pytest.fixture(scope="module")
def shared(server, people):
    case = Case(server, people)
    return case, case.promote(case.version())["id"]


def test_statement_spelled_otherwise(shared, people):
    case, promotion = shared
    good = signing.body(signing.evidence(people["dana"], promotion), people["dana"].key_file)
    parsed = json.loads(good["statement"])
    for text in (json.dumps(parsed), json.dumps(dict(reversed(list(parsed.items()))),
                                                separators=(",", ":")),
                 good["statement"] + "\n", "{}", "nonsense", good["statement"][:-1]):
        reply = signing.post(people["dana"], promotion, {
            **good, "statement": text, "signature": signing.sign(people["dana"].key_file, text)})
        assert reply.status_code == 422, (text, reply.text)
    assert case.get(promotion)["approvals"] == []


def test_signature_that_does_not_hold(shared, people):
    case, promotion = shared
    dana, eli = people["dana"], people["eli"]
    evidence = signing.evidence(dana, promotion)
    stranger = dana.key(name="unregistered")
    for what in (signing.body(evidence, dana.key_file, namespace="git"),
                 signing.body(evidence, eli.key_file), signing.body(evidence, stranger),
                 {**signing.body(evidence, dana.key_file),
                  "signature": signing.sign(dana.key_file, "something else")},
                 {**signing.body(evidence, dana.key_file), "signature": "no armour"}):
        reply = signing.post(dana, promotion, what)
        assert reply.status_code == 422, reply.text
        assert reply.json()["errors"][0]["pointer"] in ("/signature", "/statement")
    good = signing.body(evidence, dana.key_file)
    assert signing.post(dana, promotion, {**good, "salt": "0" * 64}).status_code == 422
    assert signing.post(dana, promotion, {**good, "reason": "another"}).status_code == 422
    reply = signing.post(eli, promotion, good)
    assert reply.status_code == 422 and "signer" in reply.json()["detail"]
    assert case.get(promotion)["approvals"] == []


def test_copied_to_another_promotion(server, people):
    one, two = Case(server, people), Case(server, people)
    first, second = one.promote(one.version())["id"], two.promote(two.version())["id"]
    good = signing.body(signing.evidence(people["dana"], first), people["dana"].key_file)
    assert signing.post(people["dana"], second, good).status_code == 422
    assert signing.post(people["dana"], first, good).status_code == 201
    assert signing.post(people["dana"], first, good).status_code == 409


def test_revoked_key(case, people, server, tmp_path):
    person = invite(server, tmp_path / "p", fresh("gina"), [f"approver@{NS}"])
    person.key_file = person.key()
    person.run("key", "add", f"{person.key_file}.pub")
    promotion = case.promote(case.version())["id"]
    signing.approve(person, promotion)
    (key,) = person.json("key", "list")
    person.run("key", "revoke", key["id"])
    assert case.get(promotion)["waiting_for"][0]["have"] == 0, "its approval no longer counts"
    reply = signing.post(person, promotion, signing.body(signing.evidence(person, promotion),
                                                         person.key_file))
    assert reply.status_code == 422 and "revoked" in reply.json()["detail"]
    done = signing.approve(people["dana"], promotion)
    assert done["state"] == "awaiting_approval" and done["have"] == 1


def test_evidence_that_arrives_later_voids(case, people):
    version = case.version()
    promotion = case.promote(version)
    signing.approve(people["dana"], promotion["id"])
    evaluate(case.pat.http, case.model.name, version, evaluation(metric("accuracy", 0.93, 500)))
    again = wait_until(lambda: (lambda p: p if p["approvals"][0]["void"]
                                and p["state"] == "awaiting_approval" else None)(
        case.get(promotion["id"])), 15, "judged again")
    assert again["verdict_digest"] != promotion["verdict_digest"]
    assert again["waiting_for"][0]["have"] == 0
    assert signing.approve(people["dana"], promotion["id"])["have"] == 1
    evaluate(case.pat.http, case.model.name, version, evaluation(metric("accuracy", 0.5, 500)))
    assert case.wait(promotion["id"], "rejected")["verdict"] == "fail"


def test_policy_that_changes_voids(case, people):
    promotion = case.promote(case.version())
    signing.approve(people["dana"], promotion["id"])
    apply(case.admin, policy(case.env, QUALITY.replace("0.9}", "0.91}"), TWO))
    again = wait_until(lambda: (lambda p: p if p["policy_digest"] != promotion["policy_digest"]
                                else None)(case.get(promotion["id"])), 15, "judged again")
    assert again["approvals"][0]["void"] is True
    case.wait(promotion["id"], "awaiting_approval")


def test_what_does_not_bind_voids_nothing(case, people):
    promotion = case.promote(case.version())
    signing.approve(people["dana"], promotion["id"])
    apply(case.admin, environment(
        case.env, f"policy: {case.env}\nalias: {case.alias}\n"
        "windows: {deny: [{from: 2036-12-20, to: 2037-01-04}]}\n"))
    time.sleep(1)
    now = case.get(promotion["id"])
    assert now["approvals"][0]["void"] is False and now["state"] == "awaiting_approval"
    assert signing.approve(people["eli"], promotion["id"])["state"] == "approved"


def test_expiry(server, people):
    case = Case(server, people, approvals=TWO.replace("72h", "2s"))
    promotion = case.promote(case.version())
    assert promotion["expires"] is not None
    signing.approve(people["dana"], promotion["id"])
    case.wait(promotion["id"], "expired")
    assert signing.post(people["eli"], promotion["id"], {
        "statement": "{}", "signature": "x", "reason": "x", "salt": "0" * 64}).status_code == 409
    assert case.live() == (None, None)


def test_one_open_and_supersede(case):
    one, two = case.version(), case.version()
    first = case.promote(one)
    assert case.promote(one, status=200)["id"] == first["id"]
    problem = case.promote(two, status=409)
    assert first["id"] in problem["detail"]
    second = case.promote(two, supersede=True)
    old = case.get(first["id"])
    assert old["state"] == "superseded" and old["superseded_by"] == second["id"]
    page = case.pat.http.ok("GET", "/api/v1/promotions",
                            params={"model": case.model.name, "open": "true"})
    assert [p["id"] for p in page["items"]] == [second["id"]]


def test_cancel(case, people):
    promotion = case.promote(case.version())["id"]
    path = f"/api/v1/promotions/{promotion}/cancel"
    people["dana"].http.refused(403, "POST", path, json={"reason": "no"})
    assert case.pat.http.ok("POST", path, json={"reason": "no"})["state"] == "cancelled"
    assert people["olga"].http.ok("POST", path, json={"reason": "no"})["state"] == "cancelled"
    live = case.to_live(case.version())
    case.pat.http.refused(409, "POST", f"/api/v1/promotions/{live['id']}/cancel",
                          json={"reason": "no"})


def test_withdrawn(case):
    version = case.version()
    promotion = case.promote(version)["id"]
    assert case.model.set_status(version, "withdrawn").ok
    case.wait(promotion, "cancelled")
    case.promote(version, status=409)


@pytest.mark.parametrize("more, status", [
    ({"environment": "no-such-environment"}, 404), ({"version": "99"}, 404),
    ({"model": "promo/nothing"}, 404), ({"model": "nonsense"}, 400), ({"reason": ""}, 400),
    ({"further": 1}, 400), ({"model": "elsewhere/m"}, 404),
])
def test_refused_requests(shared, more, status):
    case, _ = shared
    reply = case.pat.http.post("/api/v1/promotions", json={
        "model": case.model.name, "version": "1", "environment": case.env, "reason": "x", **more})
    assert reply.status_code == status, reply.text


def test_roles(shared, people, user):
    case, promotion = shared
    for name in ("dana", "reader"):
        case.promote(1, who=people[name], status=403)
    stranger = user("contributor@elsewhere")
    for path in ("", "/evidence", "/decision", "/approvals"):
        stranger.http.refused(404, "GET", f"/api/v1/promotions/{promotion}{path}")
    ids = [p["id"] for p in stranger.http.ok("GET", "/api/v1/promotions")["items"]]
    assert promotion not in ids


def test_targets_need_the_same_approvals(case):
    apply(case.admin, environment(
        case.env, f"policy: {case.env}\nalias: {case.alias}\n"
        "targets: [{name: eu, serving: {driver: oip, instances: [{url: 'http://127.0.0.1:8081', "
        "repository: {dir: /srv/m}}]}, traffic: {driver: nginx, control: 'unix:/run/x.sock'}}]\n"))
    promotion = case.promote(case.version())
    assert promotion["state"] == "awaiting_approval"
    assert promotion["waiting_for"][0]["need"] == 2


def test_the_alias_moves_by_promotion_only(case):
    version = case.version()
    case.to_live(version)
    other = case.version()
    assert case.model.alias(case.alias, other, match=version).status_code == 403
    assert case.pat.http.delete(f"{case.model.base}/aliases/{case.alias}").status_code == 403
    data = oci.manifest(layers=[])
    case.model.repo.push(b"{}")
    reply = case.pat.http.put(f"/v2/{case.model.name}/manifests/{case.alias}", data=data,
                              headers={"Content-Type": oci.MANIFEST if hasattr(oci, "MANIFEST")
                                       else "application/vnd.oci.image.manifest.v1+json"})
    assert reply.status_code == 403, reply.text
    assert reply.json()["errors"][0]["code"] == "DENIED"
    assert case.live() == (version, version)


def rollback(case, who, status=201, **more):
    reply = who.http.post("/api/v1/rollbacks", json={
        "environment": case.env, "model": case.model.name, "reason": "it hurts", **more})
    assert reply.status_code == status, reply.text
    return reply.json()


def test_rollback(case, people):
    rollback(case, people["olga"], status=409)
    one, two, three = case.version(), case.version(0.96), case.version(0.97)
    case.to_live(one)
    rollback(case, people["olga"], status=409)
    case.to_live(two)
    third = case.to_live(three)
    rollback(case, people["pat"], status=403)
    back = rollback(case, people["olga"])
    assert back["state"] == "live" and back["version"] == two
    assert back["rollback_of"] == third["id"] and back["verdict"] is None
    assert case.live() == (two, two)
    assert case.get(third["id"])["state"] == "rolled_back"
    assert rollback(case, people["olga"])["version"] == one, "what was rolled back is no target"
    assert rollback(case, people["olga"], to=str(three))["version"] == three
    rollback(case, people["olga"], status=409, to=str(three))
    never = case.version(0.99)
    rollback(case, people["olga"], status=409, to=str(never))


def test_rollback_signed(case, people):
    for accuracy in (0.95, 0.96):
        case.to_live(case.version(accuracy))
    olga = people["olga"]
    ask = {"environment": case.env, "model": case.model.name, "to": "1"}
    evidence = olga.http.ok("GET", "/api/v1/rollbacks/statement", params=ask)
    assert evidence["version"] == 1 and evidence["from_version"] == 2
    assert evidence["signature_needed"] is False
    bad = signing.body(evidence, olga.key_file, "rollback", reason="it hurts", version=2)
    rollback(case, olga, status=422, to="1", **bad)
    good = signing.body(evidence, olga.key_file, "rollback", reason="it hurts")
    done = rollback(case, olga, to="1", **good)
    assert done["approvals"][0]["decision"] == "rollback"
    assert done["approvals"][0]["signer"]["id"] == olga.id


def test_decision_waits(case, people):
    promotion = case.promote(case.version())["id"]
    path = f"/api/v1/promotions/{promotion}/decision"
    now = case.pat.http.ok("GET", path)
    assert now["ok"] is False and now["state"] == "awaiting_approval" and now["verdict"] == "pass"
    assert case.pat.http.ok("GET", path, params={"until": "evaluated"})["ok"] is True
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        approved, live = (pool.submit(case.server.client(case.pat.token).ok, "GET", path,
                                      params={"until": until}, headers={"Prefer": "wait=20"})
                          for until in ("approved", "live"))
        time.sleep(0.5)
        assert not approved.done() and not live.done()
        signing.approve(people["dana"], promotion)
        signing.approve(people["eli"], promotion)
        assert approved.result()["ok"] is True
        assert live.result() == {"ok": True, "state": "live", "verdict": "pass",
                                 "expires": live.result()["expires"]}


def test_idempotent(case):
    version = case.version()
    sent = {"model": case.model.name, "version": str(version), "environment": case.env,
            "reason": "x"}
    key = {"Idempotency-Key": fresh("key")}
    one = case.pat.http.post("/api/v1/promotions", json=sent, headers=key)
    two = case.pat.http.post("/api/v1/promotions", json=sent, headers=key)
    assert one.status_code == two.status_code == 201 and one.json() == two.json()
    assert two.headers["Idempotency-Replayed"] == "true"


def test_pages(case):
    made = []
    for _ in range(3):
        promotion = case.promote(case.version(), supersede=True)
        made.append(promotion["id"])
    query = {"model": case.model.name, "limit": 2}
    first = case.pat.http.ok("GET", "/api/v1/promotions", params=query)
    rest = case.pat.http.ok("GET", "/api/v1/promotions", params={**query, "cursor": first["next"]})
    assert [p["id"] for p in first["items"] + rest["items"]] == made[::-1]
    assert rest["next"] is None
    case.pat.http.refused(400, "GET", "/api/v1/promotions", params={"cursor": "nonsense"})


def test_many_at_once(server, tmp_path, people):
    """A hundred approvals of one promotion, from ten people: ten count."""
    case = Case(server, people,
                approvals="[{name: all, from: ['role:approver'], count: 10, request_ttl: 72h}]")
    crowd = []
    for i in range(10):
        person = invite(server, tmp_path / str(i), fresh("crowd"), [f"approver@{NS}"])
        person.key_file = person.key()
        person.run("key", "add", f"{person.key_file}.pub")
        crowd.append(person)
    promotion = case.promote(case.version())["id"]
    bodies = [(p, signing.body(signing.evidence(p, promotion), p.key_file))
              for p in crowd for _ in range(10)]
    with concurrent.futures.ThreadPoolExecutor(25) as pool:
        done = list(pool.map(lambda x: server.client(x[0].token).post(
            f"/api/v1/promotions/{promotion}/approvals", json=x[1]).status_code, bodies))
    assert done.count(201) == 10 and set(done) == {201, 409}, done
    live = case.wait(promotion, "live")
    assert len({a["signer"]["id"] for a in live["approvals"]}) == len(live["approvals"]) == 10


def test_readers_never_see_none_or_two(server, people):
    case = Case(server, people, approvals="[]")
    versions = [case.version(0.95 + i / 100) for i in range(3)]
    case.to_live(versions[0])
    stop = threading.Event()
    digests = {case.model.get(v)["digest"] for v in versions}

    def read(_):
        http, seen = server.client(case.pat.token), 0
        while not stop.is_set():
            page = http.ok("GET", "/api/v1/environments", params={"environment": case.env})
            assert len(page["items"][0]["live"]) == 1
            one = http.ok("GET", f"{case.model.base}/versions/{case.alias}")
            assert one["digest"] in digests
            seen += 1
        return seen

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        readers = [pool.submit(read, i) for i in range(100)]
        try:
            for version in versions[1:]:
                case.to_live(version)
            for _ in range(2):
                rollback(case, people["olga"])
        finally:
            stop.set()
        assert sum(r.result() for r in readers) >= 100


def check(server):
    done = subprocess.run([build_directory() / "mlctld", "check", "--data", server.directory],
                          capture_output=True, text=True, check=False)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A server on which one version followed another, for tests that break it."""
    from support.server import Directories, Server  # pylint: disable=import-outside-toplevel
    directories = Directories()
    server = Server(directories.new()).start()
    people = people_of(server, tmp_path_factory.mktemp("own"))
    case = Case(server, people)
    case.to_live(case.version())
    case.to_live(case.version(0.96))
    yield case
    server.stop()
    directories.remove()


def test_restart_in_the_middle_of_a_wait(own):
    version = own.version(0.97)
    promotion = own.promote(version)["id"]
    path = f"/api/v1/promotions/{promotion}/decision"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(own.server.client(own.pat.token).get, path,
                              headers={"Prefer": "wait=30"})
        time.sleep(0.5)
        own.server.restart()
        assert waiting.result().json()["state"] == "awaiting_approval"
    for person in own.people.values():
        person.http = own.server.client(person.token)
    own.model = own.model.as_(own.pat.http)
    assert own.get(promotion)["state"] == "awaiting_approval"
    for name in ("dana", "eli"):
        signing.approve(own.people[name], promotion)
    own.wait(promotion, "live")
    assert own.live() == (version, version)


def test_check_holds(own):
    assert check(own.server)["ok"] is True


@pytest.mark.parametrize("broken, mended, what", [
    ("update alias set number = 1 where alias = '{alias}'",
     "update alias set number = {live} where alias = '{alias}'", "alias"),
    ("alter table environment_live disable trigger user; "
     "update environment_live set version = 1; alter table environment_live enable trigger user",
     "alter table environment_live disable trigger user; "
     "update environment_live set version = {live}; "
     "alter table environment_live enable trigger user", "live"),
    ("alter table approval disable trigger user; update approval set decision = 'reject' "
     "where id = 'a1'; alter table approval enable trigger user",
     "alter table approval disable trigger user; update approval set decision = 'approve' "
     "where id = 'a1'; alter table approval enable trigger user", "a1"),
    ("alter table promotion disable trigger user; update promotion set verdict = "
     "replace(verdict, '\"pass\"', '\"fail\"') where id = 'p1'; "
     "alter table promotion enable trigger user",
     "alter table promotion disable trigger user; update promotion set verdict = "
     "replace(verdict, '\"fail\"', '\"pass\"') where id = 'p1'; "
     "alter table promotion enable trigger user", "p1"),
], ids=["alias", "live", "approval", "verdict"])
def test_check_finds_what_was_slipped_in(own, broken, mended, what):
    names = {"alias": own.alias, "live": own.live()[0]}
    own.server.sql(broken.format(**names))
    try:
        found = check(own.server)
        assert found["ok"] is False and what in found["what"], found
    finally:
        own.server.sql(mended.format(**names))
    assert check(own.server)["ok"] is True


# --- protected environments ---


@pytest.fixture(scope="module")
def owning(own_server, tmp_path_factory):
    """People of a server of this module's own: who is asked for is guarded in all of it."""
    return people_of(own_server, tmp_path_factory.mktemp("owners"))


@pytest.fixture
def protected(own_server, owning):
    case = Case(own_server, owning)
    owners = ", ".join(f"'user:{owning[n].name}'" for n in ("dana", "eli"))
    apply(case.admin, environment(case.env, f"policy: {case.env}\nalias: {case.alias}\n"
                                  f"owners: [{owners}]\nthreshold: 2\n"))
    return case


def test_changes_of_a_protected_environment(protected, owning):
    case = protected
    done = apply(case.admin, policy(case.env, "[]", TWO))
    assert done["applied"] == [] and done["pending"][0]["need"] == 2
    change = done["pending"][0]["id"]
    assert apply(case.admin, policy(case.env, "[]", TWO))["pending"][0]["id"] == change
    shown = case.admin.ok("GET", f"/api/v1/changes/{change}")
    assert shown["change"]["state"] == "pending" and shown["change"]["have"] == 0
    assert shown["before_document"]["checks"] and shown["after_document"]["checks"] == []
    assert change in {i["id"] for i in owning["dana"].http.ok("GET", "/api/v1/inbox")["items"]}
    evidence = signing.evidence(owning["finn"], change)
    assert signing.post(owning["finn"], change, signing.body(
        evidence, owning["finn"].key_file)).status_code == 403
    evidence = signing.evidence(owning["dana"], change)
    reply = signing.post(owning["dana"], change, signing.body(
        evidence, owning["dana"].key_file, after="sha256:" + "1" * 64))
    assert reply.status_code == 422 and "after" in reply.json()["detail"]
    assert signing.approve(owning["dana"], change)["state"] == "pending"
    assert signing.approve(owning["dana"], change, status=409)
    given = case.admin.ok("GET", f"/api/v1/changes/{change}/approvals")
    assert [a["decision"] for a in given["items"]] == ["approve"]
    applied = signing.approve(owning["eli"], change)
    assert (applied["state"], applied["have"], applied["need"]) == ("applied", 2, 2)
    doc = case.admin.ok("GET", f"/api/v1/documents/Policy/{case.env}")
    assert doc["document"]["checks"] == [] and doc["digest"] == shown["change"]["after"]
    given = case.admin.ok("GET", f"/api/v1/changes/{change}/approvals")["items"]
    story = [leaf for leaf in log(case.server)
             if leaf["id"] in (change, given[1]["id"], f"Policy/{case.env}")][-3:]
    assert [leaf["action"] for leaf in story] == ["approval.create", "change.apply",
                                                  "document.apply"]
    assert story[0]["detail"]["statement"] == given[1]["statement"]
    assert story[0]["detail"]["signature"] == given[1]["signature"]
    assert story[2]["detail"]["document"] == doc["document"]


def test_owners_see_what_they_sign(protected, owning):
    """A route into their environment, of a model in a namespace that is not theirs."""
    case = protected
    route = fresh("route")
    target = (f"targets: [{{name: eu, serving: {{driver: webhook, instances: [{{url: "
              f"'http://127.0.0.1:9/{case.env}'}}]}}, traffic: {{driver: nginx, "
              f"control: 'unix:/run/{case.env}.sock'}}}}]\n")
    owners = ", ".join(f"'user:{owning[n].name}'" for n in ("dana", "eli"))
    env = apply(case.admin, environment(case.env, f"policy: {case.env}\nalias: {case.alias}\n"
                                        f"owners: [{owners}]\nthreshold: 2\n{target}"))
    for who in ("dana", "eli"):
        signing.approve(owning[who], env["pending"][0]["id"])
    change = apply(case.admin, f"apiVersion: mlctl/v1\nkind: Model\nname: {fresh('secret')}/m\n"
                               f"routes: [{{route: {route}, environments: [{case.env}]}}]\n"
                   )["pending"][0]["id"]
    owning["finn"].http.refused(404, "GET", f"/api/v1/changes/{change}")
    assert change not in {c["id"] for c in owning["finn"].http.ok(
        "GET", "/api/v1/changes")["items"]}
    assert change in {c["id"] for c in owning["dana"].http.ok("GET", "/api/v1/changes")["items"]}
    assert signing.approve(owning["dana"], change)["state"] == "pending"
    assert signing.approve(owning["eli"], change)["state"] == "applied"


def test_changes_end(protected, owning):
    case = protected
    one = apply(case.admin, policy(case.env, "[]", TWO))["pending"][0]["id"]
    two = apply(case.admin, policy(case.env, "[]", "[]"))["pending"][0]["id"]
    assert case.admin.ok("GET", f"/api/v1/changes/{one}")["change"]["state"] == "superseded"
    assert signing.approve(owning["dana"], two, decision="reject")["state"] == "rejected"
    three = apply(case.admin, policy(case.env, "[]", "[]"))["pending"][0]["id"]
    owning["finn"].http.refused(403, "POST", f"/api/v1/changes/{three}/cancel",
                                json={"reason": "x"})
    done = case.admin.ok("POST", f"/api/v1/changes/{three}/cancel", json={"reason": "x"})
    assert done["state"] == "cancelled"
    page = case.admin.ok("GET", "/api/v1/changes", params={"environment": case.env})
    assert [c["id"] for c in page["items"]] == [three, two, one]
    doc = case.admin.ok("GET", f"/api/v1/documents/Policy/{case.env}")
    assert doc["document"]["checks"], "nothing of it took effect"


def test_protected_rollback_to_another_needs_a_signature(protected, owning):
    case = protected
    for accuracy in (0.95, 0.96, 0.97):
        case.to_live(case.version(accuracy))
    olga = owning["olga"]
    problem = rollback(case, olga, status=403, to="1")
    assert "signature" in problem["detail"]
    ask = {"environment": case.env, "model": case.model.name, "to": "1"}
    evidence = olga.http.ok("GET", "/api/v1/rollbacks/statement", params=ask)
    assert evidence["signature_needed"] is True
    done = rollback(case, olga, to="1", **signing.body(evidence, olga.key_file, "rollback",
                                                       reason="it hurts"))
    assert done["version"] == 1 and done["protected"] is True
    assert rollback(case, olga)["version"] == 2, "at once, without a key"
