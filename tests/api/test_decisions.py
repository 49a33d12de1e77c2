# SPDX-License-Identifier: Apache-2.0
"""Who may not decide, signatures used again elsewhere, and the order of what was decided."""
import json

import pytest

from support import signing
from support.cli import Person, invite
from support.judged import apply, environment, evaluate, evaluation, fresh, metric, policy
from support.process import wait_until

from .test_promotions import LINEAGE, QUALITY, TWO, Case, people_of
from .test_registry import Model

NS = "decide"
ONE = TWO.replace("count: 2", "count: 1")


@pytest.fixture(scope="module")
def server(own_server):
    return own_server


@pytest.fixture(scope="module")
def people(server, tmp_path_factory):
    return people_of(server, tmp_path_factory.mktemp("deciders"), NS)


@pytest.fixture
def case(server, people):
    return Case(server, people, approvals=ONE, ns=NS)


def service_of(server, home, owner, *roles):
    admin = server.client(server.admin_token)
    made = admin.ok("POST", "/api/v1/users", json={
        "name": fresh("service"), "kind": "service", "owner": owner.id, "roles": list(roles)})
    person = Person(home, server.url, made["token"])
    person.id, person.http = made["id"], server.client(made["token"])
    return person


def test_a_service_never_approves(server, people, case, tmp_path):
    problem = server.client(server.admin_token).refused(400, "POST", "/api/v1/users", json={
        "name": fresh("service"), "kind": "service", "owner": people["dana"].id,
        "roles": [f"approver@{NS}"]})
    assert problem["errors"][0]["pointer"] == "/roles/0"
    service = service_of(server, tmp_path / "s", people["dana"], f"evaluator@{NS}")
    promotion = case.promote(case.version())
    (rule,) = promotion["waiting_for"]
    assert service.id not in {p["id"] for p in rule["eligible"]}
    evidence = signing.evidence(people["dana"], promotion["id"])
    for signer in (people["dana"].id, service.id):
        reply = signing.post(service, promotion["id"], signing.body(
            evidence, people["dana"].key_file, signer=signer))
        assert reply.status_code == 403 and "a service never approves" in reply.json()["detail"]
    assert case.get(promotion["id"])["approvals"] == []


def test_who_owns_the_service_that_made_it_does_not_count(server, people, case, tmp_path):
    owner = people["finn"]
    service = service_of(server, tmp_path / "s", owner, f"contributor@{NS}", f"evaluator@{NS}")
    case.model = Model(service.http, ns=NS)
    made = case.model.version(annotations=LINEAGE)
    evaluate(service.http, case.model.name, made["version"],
             evaluation(metric("accuracy", 0.95, 171)))
    promotion = case.promote(made["version"])
    (rule,) = promotion["waiting_for"]
    assert owner.id not in {p["id"] for p in rule["eligible"]}
    reply = signing.post(owner, promotion["id"], signing.body(
        signing.evidence(owner, promotion["id"]), owner.key_file))
    assert reply.status_code == 403 and "a service of yours" in reply.json()["detail"]
    assert signing.approve(people["dana"], promotion["id"])["state"] == "approved"


def test_the_later_of_two_approved_is_live(case, people):
    ids = []
    for accuracy in (0.95, 0.96):
        promotion = case.promote(case.version(accuracy))
        ids.append(promotion["id"])
        signing.approve(people["dana"], promotion["id"])
    case.wait(ids[1], "live")
    assert case.get(ids[0])["state"] == "replaced" and case.live() == (2, 2)
    entries = case.admin.ok("GET", "/api/v1/audit/entries", params={
        "kind": "live", "id": f"{case.env}/{case.model.name}"})["items"]
    states = [json.loads(e["leaf"])["state"] for e in entries]
    assert [s["promotion"] for s in states] == ids[::-1]


def test_a_signature_is_of_one_environment_and_version(case, people):
    other = fresh("env")
    apply(case.admin, policy(other, QUALITY, ONE) + "---\n" + environment(
        other, f"policy: {other}\nalias: {fresh('live')}\n"))
    version = case.version()
    here = case.promote(version)["id"]
    there = case.promote(version, environment=other)["id"]
    dana = people["dana"]
    good = signing.body(signing.evidence(dana, here), dana.key_file)
    reply = signing.post(dana, there, good)
    assert reply.status_code == 422, reply.text
    as_there = signing.body(signing.evidence(dana, here), dana.key_file,
                            subject={"kind": "promotion", "id": there})
    reply = signing.post(dana, there, as_there)
    assert reply.status_code == 422 and "environment" in reply.json()["detail"], reply.text
    newer = case.promote(case.version(0.96), supersede=True)["id"]
    as_newer = signing.body(signing.evidence(dana, there), dana.key_file,
                            subject={"kind": "promotion", "id": newer})
    reply = signing.post(dana, newer, as_newer)
    assert reply.status_code == 422 and "artifact" in reply.json()["detail"], reply.text
    for promotion in (there, newer):
        assert case.get(promotion)["approvals"] == []


def test_what_is_void_is_not_used_again(case, people):
    version = case.version()
    promotion = case.promote(version)["id"]
    dana = people["dana"]
    two = apply(case.admin, policy(case.env, QUALITY, TWO))
    assert two["applied"]
    wait_until(lambda: [w["need"] for w in case.get(promotion)["waiting_for"]] == [2], 15,
               "judged again")
    good = signing.body(signing.evidence(dana, promotion), dana.key_file)
    assert signing.post(dana, promotion, good).status_code == 201
    evaluate(case.pat.http, case.model.name, version, evaluation(metric("accuracy", 0.93, 500)))
    wait_until(lambda: (lambda p: p["approvals"][0]["void"] and p["state"] == "awaiting_approval")(
        case.get(promotion)), 15, "judged again")
    reply = signing.post(dana, promotion, good)
    assert reply.status_code == 422 and "verdict_digest" in reply.json()["detail"], reply.text
    nonce = json.loads(good["statement"])["nonce"]
    again = signing.body(signing.evidence(dana, promotion), dana.key_file, nonce=nonce)
    reply = signing.post(dana, promotion, again)
    assert reply.status_code == 409 and "nonce" in reply.json()["detail"], reply.text
    assert case.get(promotion)["waiting_for"][0]["have"] == 0


def test_members_twice_and_forged_signatures(case, people):
    promotion = case.promote(case.version())["id"]
    dana = people["dana"]
    good = signing.body(signing.evidence(dana, promotion), dana.key_file)
    twice = good["statement"][:-1] + ',"version":1}'
    first = '{"decision":"approve",' + good["statement"][1:]
    for text in (twice, first):
        reply = signing.post(dana, promotion, {
            **good, "statement": text, "signature": signing.sign(dana.key_file, text)})
        assert reply.status_code == 422, reply.text
    lines = good["signature"].splitlines()
    lines[3] = lines[3][::-1]
    for forged in ("\n".join(lines) + "\n", good["signature"][:200], "", "x" * 16384):
        reply = signing.post(dana, promotion, {**good, "signature": forged})
        assert reply.status_code in (400, 422), reply.text
    assert case.get(promotion)["approvals"] == []
    assert signing.post(dana, promotion, good).status_code == 201
