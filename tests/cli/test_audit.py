# SPDX-License-Identifier: Apache-2.0
"""mlctl audit: what the log says, proofs that others can check, and the verification of it all."""
import base64
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from support.cli import Person, invite
from support.server import build_directory

_numbers = itertools.count(1)


@pytest.fixture
def dana(user, tmp_path):
    """A contributor, with two versions and an alias that moved."""
    ns = f"audit-{os.getpid()}-{next(_numbers)}"
    person = user(f"contributor@{ns}")
    person.model = f"{ns}/scorer"
    for content in ("one", "two"):
        (tmp_path / "model").write_text(content)
        person.run("push", person.model, "model", cwd=tmp_path)
    person.run("alias", "set", f"{person.model}:champion", "1")
    person.run("alias", "set", f"{person.model}:champion", "2", "--if", "1")
    return person


@pytest.fixture
def auditor(user):
    return user("auditor")


def actions(entries):
    return [e["action"] for e in entries]


def test_log_and_its_filters(dana, auditor):
    wanted = ["model.create", "version.create", "version.create", "alias.set", "alias.set"]
    for person in (dana, auditor):
        assert actions(person.json("audit", "log", "--model", dana.model)) == wanted
    model = ["--model", dana.model]
    assert actions(auditor.json("audit", "log", *model, "--actor", dana.id)) == wanted
    assert actions(auditor.json("audit", "log", "--actor", dana.id))[-5:] == wanted
    assert auditor.json("audit", "log", *model, "--actor", auditor.id) == []
    assert actions(dana.json("audit", "log", *model, "--action", "alias.set")) == wanted[3:]
    assert actions(dana.json("audit", "log", *model, "--kind", "version")) == wanted[1:3]
    assert actions(dana.json("audit", "log", "--id", f"{dana.model}:1")) == wanted[1:2]
    assert actions(dana.json("audit", "log", *model, "--limit", "2")) == wanted[-2:]
    assert dana.json("audit", "log", *model, "--until", "2020-01-01") == []
    assert actions(dana.json("audit", "log", *model, "--since", "1h")) == wanted
    entries = dana.json("audit", "log", *model)
    assert [e["index"] for e in entries] == sorted(e["index"] for e in entries)
    second = entries[1]["time"]
    assert actions(dana.json("audit", "log", *model, "--since", second)) == \
        [e["action"] for e in entries if e["time"] >= second]  # two in one millisecond
    table = dana.run("audit", "log", *model).stdout
    assert table.splitlines()[0].split() == ["INDEX", "TIME", "ACTOR", "ACTION", "OBJECT"]
    for bad in (["--since", "yesterday"], ["--limit", "0"], ["--limit", "x"]):
        dana.run("audit", "log", *bad, status=2)


def test_others_do_not_see_it(dana, user):
    stranger = user("contributor@elsewhere")
    assert stranger.json("audit", "log", "--model", dana.model) == []
    index = dana.json("audit", "log", "--model", dana.model)[0]["index"]
    assert stranger.run("audit", "show", index, status=1).stdout == ""
    assert stranger.run("audit", "verify", status=2).stdout == ""


def test_follow(dana, tmp_path):
    command = [build_directory() / "mlctl", "audit", "log", "--model", dana.model, "--follow",
               "--output", "json"]
    with subprocess.Popen(command, env=dana.env, stdout=subprocess.PIPE, text=True) as child:
        first = [json.loads(child.stdout.readline()) for _ in range(5)]
        (tmp_path / "model").write_text("three")
        dana.run("push", dana.model, "model", cwd=tmp_path)
        new = json.loads(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
    assert new["action"] == "version.create" and new["id"] == f"{dana.model}:3"
    assert [e["index"] for e in first] == sorted({e["index"] for e in first})


def climb(leaf, proof):
    """(index, root) by RFC 9162, 2.1.3.2, from a tlog-proof text."""
    head, note = proof.split("\n\n", 1)
    lines = head.split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1" and lines[1].startswith("index ")
    _, size, root = note.split("\n")[:3]
    index = fn = int(lines[1].removeprefix("index "))
    sn = int(size) - 1
    r = hashlib.sha256(b"\0" + leaf.encode()).digest()
    for p in map(base64.b64decode, lines[2:]):
        assert sn > 0
        if fn & 1 or fn == sn:
            r = hashlib.sha256(b"\1" + p + r).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = hashlib.sha256(b"\1" + r + p).digest()
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0
    assert r == base64.b64decode(root)
    return index


def test_show_and_a_proof_that_others_can_check(dana, tmp_path):
    for entry in dana.json("audit", "log", "--model", dana.model):
        by_index = dana.json("audit", "show", entry["index"], "--proof", tmp_path / "p")
        leaf = json.loads(by_index["leaf"])
        assert hashlib.sha256(b"\0" + by_index["leaf"].encode()).hexdigest() == entry["leaf_hash"]
        assert climb(by_index["leaf"], (tmp_path / "p").read_text()) == entry["index"]
        assert by_index["action"] == leaf["action"] and by_index["state"] == leaf["state"]
        assert by_index["verified"]["size"] > entry["index"]
        assert dana.json("audit", "show", entry["leaf_hash"])["index"] == entry["index"]
    text = dana.run("audit", "show", entry["index"]).stdout
    assert "proven to be in the log" in text and f"{dana.model}:champion" in text
    dana.run("audit", "show", "x", status=2)
    dana.run("audit", "show", 1 << 40, status=1)
    dana.run("audit", "show", "0" * 64, status=1)


def test_verify_a_server(dana, auditor):
    found = auditor.json("audit", "verify")
    assert found["ok"] is True and found["replayed"] is True
    assert found["objects"] > 5 and found["commits"] >= 2 and dana
    assert "the log is whole" in auditor.run("audit", "verify").stdout


def test_verify_files_and_trust(server, dana, auditor, tmp_path):
    copy = tmp_path / "log"
    for _ in range(20):  # a copy of files that change meanwhile may not fit together
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(server.directory / "log", copy)
        if auditor.run("audit", "verify", "--log", copy, status=None).returncode == 0:
            break
        time.sleep(0.3)
    found = auditor.json("audit", "verify", "--log", copy)
    assert found["ok"] is True and found["replayed"] is False and dana

    stranger = Person(tmp_path / "stranger")
    assert "--trust" in stranger.run("audit", "verify", "--log", copy, status=2).stderr
    trust = tmp_path / "trust"
    trust.write_text(auditor.run("audit", "trust").stdout)
    key = trust.read_text().split("\n")[0]
    assert auditor.json("audit", "verify", "--trust", trust)["ok"] is True
    (tmp_path / "key").write_text(key + "\n")
    assert stranger.json("audit", "verify", "--log", copy, "--trust", tmp_path / "key")["ok"]

    line = stranger.key().with_suffix(".pub").read_text()
    for text, what in (("environment production 2\n", "fewer keys than its threshold"),
                       (f"environment production 2\n{line}", "fewer keys than its threshold"),
                       (f"environment production 1\n{line}{line}", "line 4"),
                       (f"environment production\n{line}", "environment NAME THRESHOLD"),
                       (f"environment production 0\n{line}", "environment NAME THRESHOLD"),
                       (f"environment production 1\n{line}environment production 1\n{line}",
                        "there twice"),
                       (line, "comes after its environment"),
                       ("environment production 1\nssh-dss AAAA\n", "line 3"),
                       ("nonsense\n", "line 2")):
        (tmp_path / "key").write_text(key + "\n" + text)
        done = stranger.run("audit", "verify", "--log", copy, "--trust", tmp_path / "key", status=2)
        assert what in done.stderr, done.stderr
    (tmp_path / "key").write_text(f"{key}\nenvironment nowhere 1\n{line}")
    done = stranger.run("audit", "verify", "--log", copy, "--trust", tmp_path / "key", status=1)
    assert "environment 'nowhere' of the trust file was never protected" in done.stdout
    (tmp_path / "key").write_text("nonsense\n")
    stranger.run("audit", "verify", "--log", copy, "--trust", tmp_path / "key", status=2)

    full, width = divmod(found["size"], 256)
    bundle = copy / f"tile/entries/{full:03}.p/{width}" if width else \
        copy / f"tile/entries/{full - 1:03}"
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.chmod(0o644)
    bundle.write_bytes(data)
    done = auditor.run("audit", "verify", "--log", copy, "--output", "json", status=1)
    assert json.loads(done.stdout)["ok"] is False and json.loads(done.stdout)["what"]


def test_pins_hold_together(dana, server):
    """A pin file that somebody changed is no reason to trust anew."""
    state = dana.home / ".local/state/mlctl"
    pin = next(state.glob("log-*.json"))
    known = json.loads(pin.read_text())
    assert known["server"] == server.url and len(known["keys"]) == 1
    assert oct(pin.stat().st_mode)[-3:] == "600"
    known["checkpoint"] = known["checkpoint"].replace("\n", "\n1", 1)
    pin.write_text(json.dumps(known))
    done = dana.run("list", status=1)
    assert str(pin) in done.stderr
    pin.write_text("{")
    dana.run("list", status=1)
    pin.unlink()
    assert "first contact" in dana.run("list").stderr


def test_without_a_home_plain_commands_go_on(dana):
    environment = {k: v for k, v in dana.env.items() if not k.startswith("XDG") and k != "HOME"}
    mlctl = build_directory() / "mlctl"
    done = subprocess.run([mlctl, "show", f"{dana.model}:1"], env=environment, text=True,
                          capture_output=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    done = subprocess.run([mlctl, "pull", f"{dana.model}:1", "/nonexistent", "--verify"],
                          env=environment, text=True, capture_output=True, check=False, cwd="/")
    assert done.returncode == 2 and "HOME" in done.stderr


def test_rotated_key_is_followed(make_server, tmp_path):
    """Who pinned the first key verifies what the second one signs, and still refuses a third."""
    server = make_server().start()
    person = invite(server, tmp_path / "home", "dana", ["contributor@ns"])
    auditor = invite(server, tmp_path / "auditor", "audrey", ["auditor"])
    (tmp_path / "model").write_text("one")
    person.run("push", "ns/m", "model", cwd=tmp_path)
    server.stop()
    subprocess.run([build_directory() / "mlctld", "log", "rotate", "--data", server.directory],
                   check=True, capture_output=True)
    server.options += ["--listen", server.url.removeprefix("http://")]
    server.start()
    (tmp_path / "model").write_text("two")
    person.run("push", "ns/m", "model", cwd=tmp_path)
    keys = set()
    for version in (1, 2):
        got = person.json("pull", f"ns/m:{version}", tmp_path / str(version), "--verify")
        commit = next(c["proof"] for c in got["verified"]["checks"] if c["what"] == "commit")
        keys.add(commit.split("signed by ")[1].split()[0])
    assert len(keys) == 2
    pin = json.loads(next((person.home / ".local/state/mlctl").glob("log-*.json")).read_text())
    assert len(pin["keys"]) == 2
    found = auditor.json("audit", "verify")
    assert found["ok"] is True and found["commits"] == 2
