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


def statement(member, value):
    def change(j):
        j["statement"][member] = value
    return change


def meaning(j):
    j["meanings"]["approve"] = "I give all my rights away"


LIES = [
    (metric, "another verdict"), (observed, "check 'accuracy', 'observed'"),
    (policy, "policy_digest"), (environment, "environment_digest"),
    (artifact, "another version"), (evidence_id, "evaluation's id"), (meaning, "'meaning'"),
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
    person.promotion = pending(scene, home)
    yield person
    liar.close()


@pytest.mark.parametrize("change, says", LIES, ids=[says for _, says in LIES])
def test_a_liar_gets_no_signature(scene, victim, change, says):
    def lie(reply):
        body = json.loads(reply.body)
        change(body)
        reply.body = json.dumps(body).encode()

    victim.liar.honest()
    victim.liar.seen.clear()
    victim.liar.lie("GET", r"^/api/v1/promotions/p\d+/evidence$", lie)
    done = victim.run("approve", victim.promotion, "--key", scene.key_file, "--reason", "x",
                      status=1)
    assert says in done.stderr
    assert not [path for method, path in victim.liar.seen if method == "POST"]
    assert scene.json("promotion", "show", victim.promotion)["approvals"] == []
