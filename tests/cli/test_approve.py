# SPDX-License-Identifier: Apache-2.0
"""`mlctl approve` and `reject`: what is shown is what is signed, and a liar gets no signature."""
import json

import pytest

from support import gate
from support.cli import Person, invite
from support.fake_server import LyingServer


@pytest.fixture(scope="module")
def server(own_server):
    return own_server


@pytest.fixture(scope="module")
def scene(server, tmp_path_factory):
    home = tmp_path_factory.mktemp("approve")
    one = invite(server, home / "kim", "kim-a", ["admin", "contributor@appr", "evaluator@appr"])
    one.ada = invite(server, home / "ada", "ada-a", ["approver@appr"])
    one.key_file = one.ada.key()
    one.ada.run("key", "add", f"{one.key_file}.pub")
    one.run("apply", "-f", "-", stdin=gate.documents(
        "a-one", "a-one", 'approvals: [{name: risk, from: ["role:approver"], count: 1}]'))
    one.serial = 0
    return one


def pending(scene, directory):
    """A promotion that waits for one approval."""
    scene.serial += 1
    ref = gate.push(scene, directory / "m", f"weights {scene.serial}",
                    model=f"appr/scorer{scene.serial}")
    scene.run("evaluate", ref, "-f", gate.write_evaluation(directory / "eval.json", 0.95))
    return scene.json("promote", ref, "--to", "a-one", "--reason", "because")["id"]


def test_shows_and_signs(scene, tmp_path):
    p = pending(scene, tmp_path)
    done = scene.ada.run("approve", p, "--key", scene.key_file, "--reason", "looks right")
    for text in ("accuracy", "0.95", "nothing is live there now", "a-one (unprotected",
                 "I have seen the evidence and approve", "1 of 1"):
        assert text in done.stdout
    shown = scene.json("promotion", "show", p)
    assert shown["approvals"][0]["signer"]["id"] == scene.ada.id
    assert json.loads(shown["approvals"][0]["statement"])["model"] == shown["model"]
    again = scene.ada.run("approve", p, "--key", scene.key_file, "--reason", "twice", status=1)
    assert again.stdout == "" or "approval" not in again.stdout.splitlines()[-1]


def test_difference_to_the_champion(scene, tmp_path):
    p = pending(scene, tmp_path)
    scene.ada.run("approve", p, "--key", scene.key_file, "--reason", "ok")
    shown = scene.json("promotion", "show", p)
    model = shown["model"]
    scene.json("promote", f"{model}:1", "--to", "a-one", "--reason", "x", "--wait", status=None)
    other = gate.push(scene, tmp_path / "m", "other", model=model)
    scene.run("evaluate", other, "-f", gate.write_evaluation(tmp_path / "eval.json", 0.97))
    q = scene.json("promote", other, "--to", "a-one", "--reason", "better")["id"]
    out = scene.ada.run("approve", q, "--key", scene.key_file, "--reason", "better").stdout
    assert "+0.02" in out and "(version 1)" in out


def test_reject(scene, tmp_path):
    p = pending(scene, tmp_path)
    made = scene.ada.json("reject", p, "--key", scene.key_file, "--reason", "not yet")
    assert made["decision"] == "reject" and made["state"] == "rejected"


def test_the_requester_and_strangers_do_not_count(scene, tmp_path):
    p = pending(scene, tmp_path)
    key = scene.key(name=f"k{p}")
    scene.run("key", "add", f"{key}.pub")
    scene.run("approve", p, "--key", key, "--reason", "mine", status=None)
    assert scene.json("promotion", "show", p)["state"] == "awaiting_approval"


def test_a_key_that_is_not_registered(scene, tmp_path):
    p = pending(scene, tmp_path)
    key = scene.ada.key(name=f"other{p}")
    done = scene.ada.run("approve", p, "--key", key, "--reason", "x", status=1)
    assert "key" in done.stderr
    scene.ada.run("approve", p, "--key", tmp_path / "none", "--reason", "x", status=2)


@pytest.mark.parametrize("args", [["p1", "--reason", "x"], ["p1", "--key", "k"],
                                  ["x1", "--key", "k", "--reason", "x"]])
def test_usage(scene, args):
    assert scene.ada.run("approve", *args, status=2).stdout == ""


# Liars

def metric(j):
    j["bundle"]["evaluations"][0]["document"]["metrics"][0]["value"] = 0.99


def observed(j):
    j["verdict"]["checks"][0]["observed"] = "0.990000000"


def policy(j):
    j["bundle"]["policy"]["checks"][0]["at_least"] = "0.100000000"


def environment(j):
    j["bundle"]["environment"]["name"] = "elsewhere"


def artifact(j):
    j["bundle"]["version"]["digest"] = "sha256:" + "0" * 64


def evidence_id(j):
    j["bundle"]["evaluations"][0]["submitted"] = "sha256:" + "0" * 64


def recomputed(j):
    for m in j["bundle"]["evaluations"][0]["recomputed"]:
        m["value"] = "1.000000000"


def no_examples(j):
    j["bundle"]["evaluations"][0]["examples"] = None


def champion(change):
    def lie(j):
        change(j["bundle"]["champion"])
    return lie


def older_champion(j):
    j["bundle"]["champion"].update(version=1, digest=j["first"], evaluations=[])


def no_champion(j):
    j["bundle"]["champion"] = None


def less_evidence(j):
    j["bundle"]["evaluations"].pop(0)


def statement(member, value):
    def change(j):
        j["statement"][member] = value
    return change


def member(name, value):
    def change(j):
        j["bundle"][name] = value
    return change


def meaning(j):
    j["meanings"]["approve"] = "I give all my rights away"


LIES = [
    (metric, "'document' is not what was submitted"),
    (observed, "check 'accuracy', 'observed'"), (policy, "'policy' is not what its documents"),
    (environment, "another champion"), (artifact, "another version than the log"),
    (evidence_id, "id is not that of its content"), (no_examples, "id is not that of its content"),
    (recomputed, "'recomputed' is not what the examples give"),
    (less_evidence, "another verdict than its evidence gives"),
    (champion(lambda c: c.update(version=1)), "another champion than the log: "),
    (champion(lambda c: c["evaluations"][0]["document"]["metrics"][0].update(value=0.1)),
     "the champion: evaluation"),
    (older_champion, "another champion than what the log says is live"),
    (no_champion, "another champion than what the log says is live"),
    (member("environment_digest", "sha256:" + "1" * 64), "'environment_digest'"),
    (member("policy_digest", "sha256:" + "1" * 64), "'policy_digest'"), (meaning, "'meaning'"),
    (statement("model", "appr/other"), "'model'"), (statement("version", 7), "'version'"),
    (statement("artifact", "sha256:" + "1" * 64), "'artifact'"),
    (statement("environment", "elsewhere"), "'environment'"),
    (statement("environment_digest", "sha256:" + "1" * 64), "'environment_digest'"),
    (statement("policy_digest", "sha256:" + "1" * 64), "'policy_digest'"),
    (statement("verdict_digest", "sha256:" + "1" * 64), "'verdict_digest'"),
    (statement("evidence", []), "'evidence'"),
    (statement("from", "sha256:" + "1" * 64), "'from'"),
    (statement("signer", "u000000000000"), "'signer'"),
    (statement("subject", {"kind": "promotion", "id": "p999"}), "'subject'"),
    (statement("log", "another/log"), "'log'"), (statement("conditions", ["x"]), "'conditions'"),
    (statement("extra", 1), "'extra'"), (statement("type", "urn:other"), "'type'"),
    (statement("time", "2020-01-01T00:00:00.000Z"), "15 minutes"),
]


@pytest.fixture(scope="module")
def victim(server, scene, tmp_path_factory):
    liar = LyingServer(server.url)
    home = tmp_path_factory.mktemp("victim")
    person = Person(home / "ada", liar.url, scene.ada.token)
    person.run("whoami", "--quiet")
    person.liar = liar
    model = "appr/lied-about"
    for i, value in enumerate((0.93, 0.94)):
        ref = gate.push(scene, home / "m", f"lied about {i}", model=model)
        scene.run("evaluate", ref, "-f", gate.write_evaluation(home / "eval.json", value))
        p = scene.json("promote", ref, "--to", "a-one", "--reason", "x")["id"]
        scene.ada.run("approve", p, "--key", scene.key_file, "--reason", "fine")
        scene.run("promote", ref, "--to", "a-one", "--reason", "x", "--wait=live")
    person.first = scene.json("show", f"{model}:1")["digest"]
    ref = gate.push(scene, home / "m", "lied about more", model=model)
    scene.run("evaluate", ref, "-f", gate.write_evaluation(home / "eval.json", 0.96, 1000),
              "--examples", gate.write_examples(home / "results.csv", 1000, 40))
    scene.run("evaluate", ref, "-f", gate.write_evaluation(home / "eval.json", 0.95, 500))
    person.promotion = scene.json("promote", ref, "--to", "a-one", "--reason", "x")["id"]
    person.ref = ref
    yield person
    liar.close()


def refused(scene, victim, method, path, lie, says):
    victim.liar.honest()
    victim.liar.seen.clear()
    victim.liar.lie(method, path, lie)
    done = victim.run("approve", victim.promotion, "--key", scene.key_file, "--reason", "x",
                      status=1)
    assert says in done.stderr
    assert not [path for method, path in victim.liar.seen if method == "POST"]
    assert scene.json("promotion", "show", victim.promotion)["approvals"] == []


def json_lie(change):
    def lie(reply):
        body = json.loads(reply.body)
        change(body)
        body.pop("first", None)
        reply.body = json.dumps(body).encode()
    return lie


@pytest.mark.parametrize("change, says", LIES, ids=[says for _, says in LIES])
def test_a_liar_gets_no_signature(scene, victim, change, says):
    def with_first(j):
        j["first"] = victim.first
        change(j)
    refused(scene, victim, "GET", r"^/api/v1/promotions/p\d+/evidence$", json_lie(with_first), says)


def edit(old, new):
    def lie(reply):
        assert old in reply.body
        reply.body = reply.body.replace(old, new)
    return lie


def gone(reply):
    reply.say(json.dumps({"type": "urn:mlctl:error:not-found", "title": "no such thing",
                          "status": 404, "detail": "gone"}), 404, "application/problem+json")


def weaker(j):
    j["document"]["checks"][0]["at_least"] = "0.100000000"


@pytest.mark.parametrize("path, lie, says", [
    (r"/evaluations/[^/]+/document$", edit(b"0.9", b"0.8"), "not those that were submitted"),
    (r"/evaluations/[^/]+/document$", gone, "there are no bytes that were submitted"),
    (r"/v2/appr/lied-about/blobs/", edit(b"e999,1,1", b"e999,1,0"), "sent other bytes"),
    (r"/documents/Policy/a-one$", json_lie(weaker), "'Policy/a-one' is not the one"),
    (r"/documents/Environment/a-one$", json_lie(lambda j: j["document"].update(alias="other")),
     "'Environment/a-one' is not the one"),
    (r"^/api/v1/audit/entries\?limit=1&kind=live", json_lie(lambda j: j.update(items=[])),
     "another champion than what the log says is live"),
], ids=range(6))
def test_a_liar_whose_other_replies_differ(scene, victim, path, lie, says):
    refused(scene, victim, "GET", path, lie, says)


def test_policy_test_believes_no_liar_either(scene, victim):
    victim.liar.honest()
    for change, says in LIES[:3] + [(recomputed, "'recomputed'")]:
        victim.liar.honest()
        victim.liar.lie("POST", "^/api/v1/policy-tests$", json_lie(change))
        done = victim.run("policy", "test", victim.ref, "--to", "a-one", status=1)
        assert says in done.stderr
    victim.liar.honest()
    victim.run("policy", "test", victim.ref, "--to", "a-one")
    assert scene.json("promotion", "show", victim.promotion)["approvals"] == []


def test_what_was_checked_is_said(scene, victim):
    victim.liar.honest()
    done = victim.run("approve", victim.promotion, "--key", scene.key_file, "--reason", "x")
    assert "3 evaluations as submitted, 1 of them computed again from examples" in done.stdout
    assert len(scene.json("promotion", "show", victim.promotion)["approvals"]) == 1
