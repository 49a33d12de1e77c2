# SPDX-License-Identifier: Apache-2.0
"""Evaluations, and what a promotion would be judged by."""
import concurrent.futures
import hashlib
import json
import random
import subprocess
import time

import pytest


from support.judged import (HOLDOUT, apply, environment, evaluate, evaluation, fresh, metric,
                            policy, test_policy)
from support.server import Directories, Server, build_directory
from support.cli import invite

from .test_registry import LINEAGE, Model

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def people(server, tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluators")
    return {role: invite(server, root / role, fresh(role), [f"{role}@eval"])
            for role in ("contributor", "evaluator", "approver", "auditor")}


@pytest.fixture
def model(people):
    one = Model(people["contributor"].http, ns="eval")
    one.version({"w": str(random.random()).encode(),
                 "README.md": b"---\nlicense: mit\n---\n# M\n\n## Intended use\nTests.\n"}, LINEAGE)
    return one


@pytest.fixture
def http(people):
    return people["evaluator"].http


@pytest.fixture
def writer(http):
    """Submits as the evaluator, who also uploads the examples."""
    def submit(model, doc, examples=None, status=201, version=1):
        return evaluate(http, model.name, version, doc, examples, status)
    return submit


def examples(rows):
    return ("id,label,prediction\n" + "".join(f"{i},{a},{b}\n" for i, (a, b) in enumerate(rows))
            ).encode()


def canonical(j):
    return json.dumps(j, sort_keys=True, separators=(",", ":")).encode()


def test_declared(model, writer, http):
    doc = json.dumps(evaluation(metric("accuracy", 0.951, 171))).encode()
    made = writer(model, doc)
    submitted = "sha256:" + hashlib.sha256(doc).hexdigest()
    record = {"manifest": model.get(1)["digest"], "submitted": submitted, "examples": None}
    assert made["evaluation"] == "sha256:" + hashlib.sha256(canonical(record)).hexdigest()
    assert made["created"] is True and made["recomputed"] == 0
    again = writer(model, doc, status=200)
    assert again == {**made, "created": False}
    one = http.ok("GET", f"{model.base}/versions/1/evaluations/{made['evaluation']}")
    assert one["document"]["metrics"] == [{"name": "accuracy", "value": 0.951, "n": 171,
                                           "evidence": "declared"}]
    assert one["submitted"] == submitted and one["judged"] >= 1 and one["reason"] is None
    other = writer(model, doc + b"\n")
    assert other["evaluation"] != made["evaluation"], "other bytes are another evaluation"
    for one, sent in ((made, doc), (other, doc + b"\n")):
        reply = http.get(f"{model.base}/versions/1/evaluations/{one['evaluation']}/document")
        assert reply.content == sent and reply.headers["Content-Type"] == "application/json"
        (found,) = http.ok("GET", f"/api/v1/evaluations/{one['evaluation']}")["items"]
        assert (found["model"], found["version"]) == (model.name, 1)
    page = http.ok("GET", f"{model.base}/versions/latest/evaluations")
    assert [e["evaluation"] for e in page["items"]] == [other["evaluation"], made["evaluation"]]
    first = http.ok("GET", f"{model.base}/versions/1/evaluations", params={"limit": 1})
    rest = http.ok("GET", f"{model.base}/versions/1/evaluations",
                   params={"limit": 1, "cursor": first["next"]})
    assert first["items"] + rest["items"] == page["items"] and rest["next"] is None


def test_the_same_at_once_is_made_once(model, http, server):
    data = json.dumps(evaluation(metric("accuracy", 0.951, 171))).encode()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: server.client(http.token).post(
            f"{model.base}/versions/1/evaluations", data=data, headers=JSON), range(8)))
    assert sorted(r.status_code for r in done) == [200] * 7 + [201]
    assert len({r.json()["leaf_hash"] for r in done}) == 1


def test_recomputed(model, writer, http):
    rows = [("1", "1")] * 6 + [("0", "0")] * 3 + [("1", "0")]
    made = writer(model, evaluation(metric("accuracy", 0.9, 10), metric("latency", 3.5, 10)),
                  examples(rows))
    assert made["recomputed"] > 1
    one = http.ok("GET", f"{model.base}/versions/1/evaluations/{made['evaluation']}")
    assert [m["evidence"] for m in one["document"]["metrics"]] == ["recomputed", "declared"]
    found = {m["name"]: m for m in one["recomputed"] if m["slice"] is None}
    assert found["accuracy"]["value"] == "0.900000000" and found["accuracy"]["n"] == 10
    assert float(found["recall"]["value"]) == pytest.approx(6 / 7, abs=1e-9)


@pytest.mark.parametrize("bad, pointer", [
    (metric("accuracy", 0.95, 10), "/metrics/0/value"),
    (metric("accuracy", 0.9, 11), "/metrics/0/n"),
])
def test_what_the_examples_contradict(model, http, bad, pointer):
    name = model.repo.push(examples([("1", "1")] * 9 + [("1", "0")]))
    problem = http.refused(400, "POST", f"{model.base}/versions/1/evaluations",
                           data=json.dumps(evaluation(bad)), params={"examples": name},
                           headers=JSON)
    assert problem["errors"][0]["pointer"] == pointer
    assert http.ok("GET", f"{model.base}/versions/1/evaluations")["items"] == []


@pytest.mark.parametrize("change, pointer", [
    ({"schema": "evaluation/v2"}, "/schema"),
    ({"dataset": "nothing"}, "/dataset"),
    ({"evaluated_at": "yesterday"}, "/evaluated_at"),
    ({"colour": 1}, "/colour"),
    ({"metrics": [metric("a", 1, 0)]}, "/metrics/0/n"),
    ({"metrics": [metric("a", 1, -3)]}, "/metrics/0/n"),
    ({"metrics": [metric("a", "0.9", 3)]}, "/metrics/0/value"),
    ({"metrics": [{"name": "a", "value": 1}]}, "/metrics/0/n"),
    ({"metrics": [metric("a", 1, 3, colour=1)]}, "/metrics/0/colour"),
    ({"metrics": [metric("a", 1, 3), metric("a", 2, 3)]}, "/metrics/1"),
])
def test_bad_members(model, http, change, pointer):
    problem = http.refused(400, "POST", f"{model.base}/versions/1/evaluations", headers=JSON,
                           data=json.dumps({**evaluation(metric("a", 1, 3)), **change}))
    assert problem["errors"][0]["pointer"].startswith(pointer), problem


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_bad_numbers(model, http, number):
    text = json.dumps(evaluation(metric("a", 1, 3))).replace('"value": 1', f'"value": {number}')
    problem = http.refused(400, "POST", f"{model.base}/versions/1/evaluations", data=text,
                           headers=JSON)
    assert problem["errors"][0]["pointer"] == "/metrics/0/value", problem


@pytest.mark.parametrize("csv", [
    b"", b"id,label\n1,1\n", b"id,label,prediction\n1,1,1\n1,1,1\n", b"id,label,prediction\n",
    b'id,label,prediction\n1,"1,1\n', b"id,label,prediction\n1,1\n",
    b"id,label,prediction\n1,1,\xff\n", b"id,label,prediction,score\n1,1,1,nan\n",
    b"id,label,prediction\n1,1," + b"x" * 70000 + b"\n",
])
def test_bad_examples(model, http, csv):
    name = model.repo.push(csv)
    reply = http.post(f"{model.base}/versions/1/evaluations", params={"examples": name},
                      data=json.dumps(evaluation(metric("accuracy", 1, 1))), headers=JSON)
    assert reply.status_code in (400, 413), reply.text
    assert http.ok("GET", f"{model.base}/versions/1/evaluations")["items"] == []


def test_examples_are_of_this_repository(model, http, people):
    other = Model(people["contributor"].http, ns="eval")
    other.version({"w": b"1"})
    name = other.repo.push(examples([("secret", "secret")]))
    http.refused(404, "POST", f"{model.base}/versions/1/evaluations", params={"examples": name},
                 data=json.dumps(evaluation(metric("accuracy", 1, 1))), headers=JSON)


def test_who_may(model, people):
    data = json.dumps(evaluation(metric("accuracy", 1, 1)))
    for role in ("contributor", "approver", "auditor"):
        people[role].http.refused(403, "POST", f"{model.base}/versions/1/evaluations", data=data,
                                  headers=JSON)
    people["evaluator"].http.refused(415, "POST", f"{model.base}/versions/1/evaluations",
                                     data=data, headers={"Content-Type": "text/plain"})
    people["evaluator"].http.refused(404, "POST", f"{model.base}/versions/9/evaluations",
                                     data=data, headers=JSON)


def test_withdrawn(model, writer, http, people, server):
    made = writer(model, evaluation(metric("accuracy", 0.9, 10)))
    url = f"{model.base}/versions/1/evaluations/{made['evaluation']}"
    people["auditor"].http.refused(403, "POST", f"{url}/withdraw", json={"reason": "x"})
    http.refused(400, "POST", f"{url}/withdraw", json={"reason": ""})
    one = http.ok("POST", f"{url}/withdraw", json={"reason": "wrong labels"})
    assert one["withdrawn"] is True and one["reason"] == "wrong labels"
    assert http.ok("POST", f"{url}/withdraw", json={"reason": "again"})["reason"] == "wrong labels"
    assert writer(model, evaluation(metric("accuracy", 0.9, 10)), status=200)["created"] is False
    assert http.ok("GET", url)["withdrawn"] is True, "the same again does not bring it back"
    held = server.sql("select count(*) from audit_log where convert_from(leaf, 'UTF8') like "
                      "'%wrong labels%'")
    assert held == "0", "the reason is a commitment in the log"


def test_withdrawn_versions_are_not_evaluated(model, http):
    model.set_status(1, "withdrawn")
    http.refused(409, "POST", f"{model.base}/versions/1/evaluations", headers=JSON,
                 data=json.dumps(evaluation(metric("accuracy", 1, 1))))


# --- verdicts ---

@pytest.fixture
def env(admin):
    """An environment whose policy asks for accuracy and two reviewers."""
    name = fresh("env")
    checks = ("[{id: accuracy, type: threshold, metric: accuracy, dataset: fraud/holdout,"
              " at_least: 0.9}]")
    rules = "[{name: risk, from: ['role:approver'], count: 1}]"
    apply(admin, policy(name, checks, rules) + "---\n" + environment(name, f"policy: {name}\n"))
    return name


def checks_of(test):
    return {c["id"]: c for c in test["verdict"]["checks"]}


def test_no_data_is_not_good_data(model, env, http):
    test = test_policy(http, model.name, 1, env)
    assert test["verdict"]["verdict"] == "inconclusive" and test["would_be"] == "held"
    assert checks_of(test)["accuracy"]["reason"]


def test_pass_and_fail(model, env, http, writer, people):
    writer(model, evaluation(metric("accuracy", 0.95, 500)))
    test = test_policy(http, model.name, "latest", env)
    assert test["verdict"]["verdict"] == "pass" and test["would_be"] == "awaiting_approval"
    assert test["protected"] is False
    (rule,) = test["approvals"]
    assert rule["rule"] == "risk" and rule["need"] == 1
    assert people["approver"].id in [p["id"] for p in rule["eligible"]]
    assert test["verdict"]["version"] == 1 and test["verdict"]["environment"] == env
    low = writer(model, evaluation(metric("accuracy", 0.5, 500)))
    test = test_policy(http, model.name, 1, env)
    check = checks_of(test)["accuracy"]
    assert test["verdict"]["verdict"] == "fail" and check["conflict"] is True
    assert test["would_be"] == "rejected", "the worst decides"
    http.ok("POST", f"{model.base}/versions/1/evaluations/{low['evaluation']}/withdraw",
            json={"reason": "wrong file"})
    assert test_policy(http, model.name, 1, env)["verdict"]["verdict"] == "pass"


def test_the_author_is_not_eligible(model, env, http, admin, people):
    both = people["contributor"]
    admin.ok("POST", f"/api/v1/users/{both.id}/roles", json={"role": "approver@eval"})
    (rule,) = test_policy(http, model.name, 1, env)["approvals"]
    assert both.id not in [p["id"] for p in rule["eligible"]]


def test_the_bundle_says_all(model, env, http, writer):
    made = writer(model, evaluation(metric("accuracy", 0.9, 10)), examples(
        [("1", "1")] * 9 + [("1", "0")]))
    bundle = test_policy(http, model.name, 1, env)["bundle"]
    assert bundle["schema"] == "bundle/v1"
    version = bundle["version"]
    assert version["digest"] == model.get(1)["digest"] and "Intended use" in version["card"]
    assert version["lineage"]["run"] == "run-17"
    (record,) = bundle["evaluations"]
    assert record["id"] == made["evaluation"] and not record["withdrawn"]
    assert bundle["champion"] is None and bundle["after"] == []
    assert bundle["judged_on"][HOLDOUT] >= 1
    kinds = [(d["kind"], d["name"]) for d in bundle["documents"]]
    assert kinds == [("Environment", env), ("Policy", env)]
    assert bundle["policy_digest"] == "sha256:" + hashlib.sha256(
        canonical(bundle["policy"])).hexdigest()


def test_nothing_changes(model, env, http, server):
    about = ("select count(*) from (select leaf from audit_log union all select leaf from"
             " audit_outbox) x where convert_from(leaf, 'UTF8') like "
             f"'%{model.name}%'")
    before = server.sql(about)
    test_policy(http, model.name, 1, env)
    assert server.sql(about) == before


def test_unknown_subjects(model, env, http, people, user):
    for body in ((model.name, "7", env), (model.name, "1", "nowhere"), ("eval/none", "1", env)):
        test_policy(http, *body, status=404)
    stranger = user("auditor@elsewhere")
    test_policy(stranger.http, model.name, 1, env, status=404)
    test_policy(http, "no name", 1, env, status=400)
    model.set_status(1, "withdrawn")
    test_policy(http, model.name, 1, env, status=409)


def test_after_wants_the_other_environment_first(model, http, admin):
    stage, prod = fresh("stage"), fresh("prod")
    apply(admin, environment(stage) + "---\n"
          + environment(prod, f"after: [{{environment: {stage}, live_for: 24h}}]\n"))
    test = test_policy(http, model.name, 1, prod)
    assert test["verdict"]["verdict"] == "inconclusive"
    assert test["bundle"]["after"] == [{"environment": stage, "live_for_ms": None}]


def test_apply_warns(model, writer, admin):
    dataset = f"{fresh('set')}@sha256:" + "1" * 64
    writer(model, evaluation(metric("accuracy", 0.9, 30), dataset=dataset))
    name = fresh("pol")
    check = (f"[{{id: tight, type: compare, metric: accuracy, dataset: '{dataset.split('@')[0]}',"
             " against: champion, test: non-inferiority, margin: 0.001, alpha: 0.05}]")
    assert any("tight" in w for w in apply(admin, policy(name, check))["warnings"])


def test_a_hundred_thousand_examples(model, writer, env, http):
    rows = [(str(i % 2), str(i % 2 if i % 20 else 1 - i % 2)) for i in range(100_000)]
    start = time.monotonic()
    writer(model, evaluation(metric("accuracy", 0.95, 100_000)), examples(rows))
    assert time.monotonic() - start < 30
    assert test_policy(http, model.name, 1, env)["verdict"]["verdict"] == "pass"


# --- check ---

def check(server):
    done = subprocess.run([build_directory() / "mlctld", "check", "--data", server.directory],
                          capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, json.loads(done.stdout)


TAMPER = {
    "value": "update evaluation set document = replace(document, '0.9', '0.8')",
    "withdrawn": "update evaluation set withdrawn = true, reason = 'sha256:x'",
    "recomputed": "update evaluation set recomputed = replace(recomputed, '0.9', '0.8')",
    "dataset": "update evaluation set dataset_name = 'another'",
    "gone": "delete from evaluation",
}


@pytest.fixture(scope="module")
def stays(tmp_path_factory):
    """A server of this module with one evaluation."""
    directories = Directories()
    server = Server(directories.new()).start()
    both = invite(server, tmp_path_factory.mktemp("both"), "both", ["contributor@e", "evaluator@e"])
    model = Model(both.http, ns="e")
    model.version({"w": b"1"})
    evaluate(both.http, model.name, 1, evaluation(metric("accuracy", 0.9, 10)),
             examples([("1", "1")] * 9 + [("1", "0")]))
    assert check(server)[1]["ok"] is True
    yield server
    server.stop()
    directories.remove()


@pytest.mark.parametrize("what", TAMPER)
def test_check_finds_a_changed_evaluation(stays, what):
    off, on = ("alter table evaluation disable trigger user;",
               ";alter table evaluation enable trigger user")
    stays.sql("create table saved as table evaluation")
    try:
        stays.sql(off + TAMPER[what] + on)
        code, verdict = check(stays)
        assert code == 1 and verdict["ok"] is False and "evaluation" in verdict["what"], verdict
    finally:
        stays.sql(off + "delete from evaluation; insert into evaluation overriding system value "
                  "select * from saved; drop table saved" + on)
    assert check(stays)[1]["ok"] is True
