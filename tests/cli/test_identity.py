# SPDX-License-Identifier: Apache-2.0
"""login, whoami, user, role, token and key against the real server."""
import itertools
import json
import os
import pty
import re
import stat
import subprocess

import pytest

from support.cli import Person
from support.server import build_directory

_numbers = itertools.count(1)


@pytest.fixture
def name():
    return f"eve-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def ns():
    return f"id{os.getpid()}"


def refused(done, slug):
    assert done.stdout == ""
    document = json.loads(done.stderr)
    assert document["type"] == f"urn:mlctl:error:{slug}", document
    return document


def credentials(person):
    path = person.home / ".config/mlctl/credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return json.loads(path.read_text(encoding="utf-8"))


# login

def test_invitation_to_login(server, admin_cli, tmp_path, name, ns):
    added = admin_cli.run("user", "add", name, "--role", f"contributor@{ns}", "--role", "approver")
    invite = re.search(r"^invitation +(\S+)$", added.stdout, re.M).group(1)
    assert f"mlctl login {server.url} --invite {invite}\n" in added.stdout
    person = Person(tmp_path / "eve")
    done = person.run("login", f"{server.url}/", "--invite", invite)
    assert f"logged in at {server.url}\n" in done.stderr
    assert re.search(rf"^name +{name}$", done.stdout, re.M)
    stored = credentials(person)
    assert stored["default"] == server.url
    token = stored["servers"][server.url]["token"]
    assert token not in done.stdout + done.stderr
    # the login is remembered, an invitation is used up
    who = person.json("whoami")
    assert who["user"]["name"] == name
    assert sorted(who["roles"]) == ["approver", f"contributor@{ns}"]
    again = Person(tmp_path / "other").run("login", server.url, "--invite", invite, "--output=json",
                                           status=None)
    assert again.returncode in (1, 2) and again.stdout == "" and json.loads(again.stderr)


def test_login_with_a_token_file(server, tmp_path):
    person = Person(tmp_path / "home")
    secret = tmp_path / "token"
    secret.write_text(server.admin_token + "\n", encoding="ascii")
    assert person.json("login", server.url, "--token-file", secret)["user"]["name"] == "admin"
    assert credentials(person)["servers"][server.url]["token"] == server.admin_token


def test_login_with_a_wrong_token_stores_nothing(server, tmp_path):
    person = Person(tmp_path / "home")
    (tmp_path / "token").write_text("mlt_wrong", encoding="ascii")
    done = person.run("login", server.url, "--token-file", tmp_path / "token", "--output=json",
                      status=2)
    assert "pinned the key of its log" in refused(done, "unauthenticated")["note"]
    assert not (person.home / ".config/mlctl/credentials.json").exists()
    person.run("login", server.url, "--token-file", tmp_path / "none", status=1)


def test_login_at_a_terminal(server, tmp_path):
    """The token that is typed is not shown."""
    person = Person(tmp_path / "home")
    parent, child = pty.openpty()
    process = subprocess.Popen([build_directory() / "mlctl", "login", server.url], stdin=child,
                               stdout=subprocess.PIPE, stderr=child, env=person.env)
    os.close(child)
    shown = b""
    while b"token: " not in shown:
        shown += os.read(parent, 4096)
    os.write(parent, server.admin_token.encode() + b"\n")
    out, _ = process.communicate(timeout=60)
    shown += os.read(parent, 65536)
    os.close(parent)
    assert process.returncode == 0, shown
    assert b"logged in at" in shown and server.admin_token.encode() not in shown
    assert out.startswith(b"name         admin\n")


# who and where

def test_token_of_the_environment_wins(server, user, tmp_path):
    eve = user("auditor")
    person = Person(tmp_path / "home")
    (tmp_path / "token").write_text(server.admin_token, encoding="ascii")
    person.run("login", server.url, "--token-file", tmp_path / "token")
    assert person.json("whoami")["user"]["name"] == "admin"
    assert person.json("whoami", env={"MLCTL_TOKEN": eve.token})["user"]["name"] == eve.name
    assert person.json("whoami", env={"MLCTL_TOKEN": ""})["user"]["name"] == "admin"
    refused(person.run("whoami", "--output=json", env={"MLCTL_TOKEN": "mlt_x"}, status=2),
            "unauthenticated")


def test_server_is_chosen(server, user, closed_url):
    eve = user("auditor")
    there = {"MLCTL_SERVER": closed_url}
    eve.run("whoami", env=there, status=5)
    eve.run("whoami", "--server", server.url, env=there)
    eve.run("--server", server.url, "whoami", env=there)
    eve.run(f"--server={server.url}/", "whoami", env=there)


@pytest.fixture
def closed_url():
    return "http://127.0.0.1:1"


def test_global_options_before_and_after(admin_cli, user, name):
    eve = user("auditor", name=name)
    wanted = eve.json("whoami")
    for args in (["whoami", "--output", "json"], ["--output=json", "whoami"],
                 ["--quiet", "whoami", "--output=json"], ["--output", "json", "--quiet", "whoami"]):
        assert json.loads(eve.run(*args).stdout) == wanted
    for args in (["user", "show", name, "--output=json"], ["--output=json", "user", "show", name],
                 ["user", "--output=json", "show", name], ["user", "show", "--output=json", name]):
        assert json.loads(admin_cli.run(*args).stdout)["name"] == name


def test_whoami(user, ns):
    eve = user(f"contributor@{ns}", "auditor")
    who = eve.json("whoami")
    assert who["user"]["id"] == eve.id and who["user"]["kind"] == "person"
    text = eve.run("whoami").stdout
    for line in (f"name         {eve.name}", f"id           {eve.id}", "kind         person",
                 f"token        {who['token']['id']}", f"log          {who['origin']}"):
        assert f"{line}\n" in text


def test_whoami_warns_of_expiry(server, user, tmp_path):
    eve = user("auditor")
    short = eve.json("token", "create", "--expires", "1h")
    soon = Person(tmp_path / "soon", server.url, short["token"])
    done = soon.run("whoami")
    assert "\nwarning: " in done.stderr and done.stdout.startswith("name ")
    quiet = soon.run("whoami", "--output", "json")
    assert quiet.stderr == "" and json.loads(quiet.stdout)["warnings"]


# users and roles

def test_users(admin_cli, name, ns):
    made = admin_cli.json("user", "add", name, "--role", f"contributor@{ns}")
    assert made["id"].startswith("u") and made["name"] == name and made["invite"]
    shown = admin_cli.json("user", "show", name)
    assert shown["id"] == made["id"] and "invite" not in shown
    assert admin_cli.json("user", "show", made["id"]) == shown
    assert made["id"] in [u["id"] for u in admin_cli.json("user", "list")]
    table = admin_cli.run("user", "list").stdout.splitlines()
    assert table[0].split() == ["NAME", "ID", "KIND", "STATUS", "ROLES"]
    assert any(row.split()[:2] == [name, made["id"]] for row in table)
    again = admin_cli.json("user", "invite", name)
    assert again["invite"] != made["invite"]
    refused(admin_cli.run("user", "add", name, "--output=json", status=1), "conflict")
    refused(admin_cli.run("user", "show", name + "x", "--output=json", status=1), "not-found")
    done = admin_cli.run("user", "add", name + "y", "--role", "emperor", "--output=json", status=2)
    assert "emperor" in done.stderr and done.stdout == ""


def test_status(admin_cli, user):
    eve = user("auditor")
    assert admin_cli.json("user", "disable", eve.name)["status"] == "disabled"
    refused(eve.run("whoami", "--output=json", status=2), "unauthenticated")
    assert admin_cli.json("user", "enable", eve.id)["status"] == "active"
    assert eve.json("whoami")["user"]["id"] == eve.id


def test_erase(admin_cli, user):
    eve = user("auditor")
    erased = admin_cli.json("user", "erase", eve.id)
    assert erased["status"] == "erased" and erased["name"] is None
    assert eve.name not in admin_cli.run("user", "list").stdout
    eve.run("whoami", status=2)


def test_roles(admin_cli, user, ns):
    eve = user()
    granted = admin_cli.json("role", "grant", eve.name, f"approver@{ns}")
    assert granted["roles"] == [f"approver@{ns}"]
    assert eve.json("whoami")["roles"] == [f"approver@{ns}"]
    text = admin_cli.run("role", "grant", eve.name, "operator").stdout
    assert re.search(rf"^roles +.*approver@{ns}", text, re.M) and "operator" in text
    assert admin_cli.json("role", "revoke", eve.id, f"approver@{ns}")["roles"] == ["operator"]
    done = eve.run("role", "grant", eve.name, "admin", "--output=json", status=2)
    refused(done, "forbidden")
    assert eve.json("whoami")["roles"] == ["operator"]


# tokens

def test_service_and_its_token(server, admin_cli, user, tmp_path, name, ns):
    owner = user(f"contributor@{ns}")
    added = admin_cli.run("user", "add", name, "--service", "--owner", owner.name,
                          "--role", f"contributor@{ns}").stdout
    secret = re.search(r"^token +(\S+)$", added, re.M).group(1)
    service = Person(tmp_path / "ci", server.url, secret)
    who = service.json("whoami")["user"]
    assert (who["kind"], who["owner"]) == ("service", owner.id)


def test_tokens(server, user, tmp_path, ns):
    eve = user(f"contributor@{ns}", "auditor")
    made = eve.json("token", "create", "--expires", "12h", "--role", f"contributor@{ns}")
    assert made["id"].startswith("t") and made["scope"] == [f"contributor@{ns}"]
    narrow = Person(tmp_path / "narrow", server.url, made["token"])
    assert narrow.json("whoami")["roles"] == [f"contributor@{ns}"]
    listed = {t["id"]: t for t in eve.json("token", "list")}
    assert made["id"] in listed and "token" not in listed[made["id"]]
    table = eve.run("token", "list").stdout
    assert table.split("\n")[0].split() == ["ID", "USER", "MAY", "EXPIRES", "REVOKED", "CREATED"]
    assert made["token"] not in table
    assert eve.json("token", "revoke", made["id"])["revoked"] is True
    refused(narrow.run("whoami", "--output=json", status=2), "unauthenticated")
    text = eve.run("token", "create").stdout
    assert re.search(r"^token +\S+\nIt is shown this once\.$", text, re.M)
    refused(eve.run("token", "create", "--role", "admin", "--output=json", status=2), "forbidden")
    refused(eve.run("token", "revoke", "t000000000000", "--output=json", status=1), "not-found")


# keys

@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys(user, kind):
    eve = user("approver")
    private = eve.key(kind, f"id_{kind}")
    public = private.with_name(private.name + ".pub")
    made = eve.json("key", "add", public)
    wanted = subprocess.run(["ssh-keygen", "-lf", public], capture_output=True, text=True,
                            check=True).stdout.split()[1]
    assert made["fingerprint"] == wanted and made["user"] == eve.id
    assert [k["id"] for k in eve.json("key", "list")] == [made["id"]]
    assert wanted in eve.run("key", "list").stdout
    assert eve.json("key", "revoke", made["id"])["revoked"] is True


def test_key_of_somebody_else(user):
    eve, mallory = user("approver"), user("approver")
    private = eve.key()
    public = private.with_name(private.name + ".pub")
    stolen = mallory.home / "stolen.pub"
    stolen.write_bytes(public.read_bytes())
    assert mallory.run("key", "add", stolen, status=None).returncode != 0
    eve.run("key", "add", public)
    stolen.with_suffix("").write_bytes(private.read_bytes())
    stolen.with_suffix("").chmod(0o600)
    refused(mallory.run("key", "add", stolen, "--output=json", status=1), "conflict")
    assert mallory.json("key", "list") == []
