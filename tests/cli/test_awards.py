# SPDX-License-Identifier: Apache-2.0
"""What a person sees of roles and keys that owners sign for, and that a liar gets no signature."""
import json
import subprocess

import pytest

from support.cli import Person, invite
from support.fake_server import LyingServer
from support.process import wait_until


@pytest.fixture(scope="module")
def server(own_server):
    return own_server


@pytest.fixture(scope="module")
def scene(server, tmp_path_factory):
    """An environment that `owner` alone owns; its policy asks approvers."""
    home = tmp_path_factory.mktemp("awards")
    owner = invite(server, home / "owner", "olivia", [])
    owner.key_file = owner.key()
    owner.run("key", "add", f"{owner.key_file}.pub")
    owner.root = home
    owner.auditor = invite(server, home / "auditor", "ina", ["auditor"])
    owner.admin = Person(home / "admin", server.url, server.admin_token)
    owner.admin.run("whoami", "--quiet")
    owner.admin.run("apply", "-f", "-", stdin=(
        "apiVersion: mlctl/v1\nkind: Policy\nname: w\nchecks: []\n"
        "approvals: [{name: risk, from: ['role:approver'], count: 1}]\n---\n"
        "apiVersion: mlctl/v1\nkind: Environment\nname: w\npolicy: w\n"
        "owners: ['user:olivia']\nthreshold: 1\n"))
    return owner


def fingerprint(key_file):
    return subprocess.run(["ssh-keygen", "-lf", f"{key_file}.pub"], check=True,
                          capture_output=True, text=True).stdout.split()[1]


def login(scene, server, name, invitation):
    person = Person(scene.root / name, server.url)
    person.run("login", server.url, "--invite", invitation)
    person.key_file = person.key()
    return person


def test_transcript(scene, server):
    """Invited, a key registered, signed for, and a further key."""
    admin = scene.admin
    added = admin.run("user", "add", "finn", "--role", "contributor@fraud",
                      "--role", "approver@fraud").stdout
    assert "waits for owners  role approver@fraud  (1 signatures needed)" in added
    assert "mlctl approve c1 --key" in added and "mlctl login" in added
    again = admin.json("user", "invite", "finn")
    finn = login(scene, server, "finn", again["invite"])
    key = finn.run("key", "add", f"{finn.key_file}.pub").stdout
    assert "waits for owners  role approver@fraud" in key and "mlctl approve c2" in key
    inbox = scene.run("inbox").stdout
    assert "role approver@fraud of finn" in inbox and "mlctl approve c2" in inbox
    assert "c1 " not in inbox
    done = scene.run("approve", "c2", "--key", scene.key_file, "--reason", "we know finn").stdout
    for text in ("role approver in namespace fraud", "(finn)", fingerprint(finn.key_file),
                 "applied", "1 of 1"):
        assert text in done, done
    shown = admin.json("user", "show", "finn")
    assert shown["roles"] == ["approver@fraud", "contributor@fraud"]

    second = finn.key(name="second")
    pending = finn.run("key", "add", f"{second}.pub").stdout
    assert f"waits for owners  key {fingerprint(second)}" in pending
    assert "mlctl approve c3" in pending and "id  " not in pending
    assert len(finn.json("key", "list")) == 1
    reply = finn.json("key", "add", f"{second}.pub")
    assert reply["pending"][0]["id"] == "c3" and "id" not in reply
    done = scene.run("approve", "c3", "--key", scene.key_file, "--reason", "called him").stdout
    assert "a further key to sign with" in done and fingerprint(second) in done
    assert [k["fingerprint"] for k in finn.json("key", "list")][-1] == fingerprint(second)
    applied = wait_until(lambda: [e for e in scene.auditor.json("audit", "log", "--limit", "10")
                                  if e["action"] == "change.apply" and e["id"] == "c3"], 15,
                         "the leaves are sequenced")[0]["index"]
    text = scene.auditor.run("audit", "show", applied).stdout
    assert "change.apply" in text and "Key/" in text and fingerprint(second) in text
    text = scene.auditor.run("audit", "show", applied + 1).stdout
    assert "key.add" in text and '"change": "c3"' in text

    granted = admin.run("role", "grant", "finn", "evaluator@fraud").stdout
    assert "waits for owners  role evaluator@fraud" in granted
    rejected = scene.run("reject", "c4", "--key", scene.key_file, "--reason", "why?").stdout
    assert "rejected" in rejected
    assert "evaluator@fraud" not in admin.json("user", "show", "finn")["roles"]


def test_someone_without_a_key(scene):
    scene.admin.run("user", "add", "greta", "--role", "approver")
    change = scene.json("inbox")[0]["id"]
    done = scene.run("approve", change, "--key", scene.key_file, "--reason", "x").stdout
    assert "role approver everywhere" in done and "none registered" in done


def lie_name(body):
    body["change"]["document"] = "Role/u000000000000/auditor@fraud"


def lie_role(body):
    body["after_document"]["role"] = "auditor"


def lie_keys(body):
    body["after_document"]["keys"] = []


def lie_person(body):
    body["after_document"]["user"] = "u000000000000"
    body["change"]["document"] = "Role/u000000000000/approver@lies"


def lie_statement(body):
    body["statement"]["after"] = "sha256:" + "1" * 64


@pytest.mark.parametrize("change, says", [
    (lie_name, "the server calls the change 'Role/u000000000000/auditor@fraud'"),
    (lie_role, "but what it shows is 'Role/"), (lie_keys, "'after'"),
    (lie_person, "'after'"), (lie_statement, "'after'")],
    ids=["name", "role", "keys", "person", "statement"])
def test_a_liar_gets_no_signature(scene, server, change, says):
    name = f"victim-{change.__name__.replace('_', '-')}"
    made = scene.admin.json("user", "add", name)
    victim = login(scene, server, name, made["invite"])
    victim.run("key", "add", f"{victim.key_file}.pub")
    asked = scene.admin.json("role", "grant", name, "approver@lies")["pending"][0]["id"]

    def lie(reply):
        body = json.loads(reply.body)
        change(body)
        reply.body = json.dumps(body).encode()

    liar = LyingServer(server.url)
    try:
        owner = Person(scene.root / name / "owner", liar.url, scene.token)
        owner.run("whoami", "--quiet")
        liar.lie("GET", r"^/api/v1/changes/c\d+/evidence$", lie)
        done = owner.run("approve", asked, "--key", scene.key_file, "--reason", "x", status=1)
        assert says in done.stderr, done.stderr
        assert not [path for method, path in liar.seen if method == "POST"]
    finally:
        liar.close()


def test_hostile_texts_are_escaped(scene, server):
    """What a server claims of keys and names goes to the terminal harmlessly."""
    scene.admin.run("user", "add", "henry", "--role", "approver@lies")
    asked = scene.admin.json("role", "grant", "henry", "approver@lies")["pending"][0]["id"]

    def lie(reply):
        body = json.loads(reply.body)
        body["change"]["person"] = {"id": "u1", "name": "henry\x1b[2J"}
        reply.body = json.dumps(body).encode()

    liar = LyingServer(server.url)
    try:
        owner = Person(scene.root / "hostile", liar.url, scene.token)
        owner.run("whoami", "--quiet")
        liar.lie("GET", r"^/api/v1/changes/c\d+/evidence$", lie)
        done = owner.run("approve", asked, "--key", scene.key_file, "--reason", "x")
        assert "\x1b" not in done.stdout and "henry" in done.stdout
    finally:
        liar.close()
