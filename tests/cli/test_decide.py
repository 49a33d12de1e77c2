# SPDX-License-Identifier: Apache-2.0
"""Decisions at the command line: changes, signed rollbacks, and the question on a terminal."""
import json
import os
import pty
import signal
import subprocess

import pytest

from support import gate
from support.cli import invite
from support.process import wait_until
from support.server import build_directory

RULE = 'approvals: [{name: risk, from: ["role:approver"], count: 1}]'


@pytest.fixture(scope="module")
def server(own_server):
    return own_server


@pytest.fixture(scope="module")
def scene(server, tmp_path_factory):
    home = tmp_path_factory.mktemp("decide")
    kim = invite(server, home / "kim", "kim-d",
                 ["admin", "contributor@dec", "evaluator@dec", "operator@dec"])
    kim.ada = invite(server, home / "ada", "ada-d", ["approver@dec"])
    for person in (kim, kim.ada):
        person.key_file = person.key()
        person.run("key", "add", f"{person.key_file}.pub")
    kim.run("apply", "-f", "-", stdin=gate.documents("d-one", "d-one", RULE))
    kim.serial = 0
    return kim


def pending(scene, directory, model=None):
    scene.serial += 1
    ref = gate.push(scene, directory / "m", f"weights {scene.serial}",
                    model=model or f"dec/scorer{scene.serial}")
    scene.run("evaluate", ref, "-f", gate.write_evaluation(directory / "eval.json", 0.95))
    return scene.json("promote", ref, "--to", "d-one", "--reason", "because")["id"]


def test_a_change_is_approved(scene):
    scene.run("apply", "-f", "-", stdin=gate.documents("d-owned", "d-owned", RULE))
    owned = gate.documents("d-owned", "d-owned", RULE).replace(
        "alias: d-owned\n", "alias: d-owned\nowners: [user:ada-d]\nthreshold: 1\n")
    scene.run("apply", "-f", "-", stdin=owned)
    (change,) = scene.json("apply", "-f", "-", stdin=owned.replace("0.90", "0.91"))["pending"]
    done = scene.ada.run("approve", change["id"], "--key", scene.ada.key_file, "--reason", "fine")
    assert "Policy/d-owned" in done.stdout and "I approve that this document" in done.stdout
    assert "0.91" in done.stdout and "applied" in done.stdout
    again = scene.ada.run("approve", change["id"], "--key", scene.ada.key_file, "--reason", "x",
                          status=1)
    assert "applied" in again.stderr
    shown = scene.http.ok("GET", f"/api/v1/changes/{change['id']}")["change"]
    signed = json.loads(shown["approvals"][0]["statement"])
    assert signed["subject"] == {"kind": "change", "id": change["id"]}


def test_a_rollback_is_signed(scene, tmp_path):
    for _ in range(2):
        p = pending(scene, tmp_path, "dec/back")
        scene.ada.run("approve", p, "--key", scene.ada.key_file, "--reason", "fine")
        wait_until(lambda p=p: scene.json("promotion", "show", p)["state"] == "live", 15, "live")
    back = scene.json("rollback", "dec/back", "--in", "d-one", "--reason", "it hurts", "--key",
                      scene.key_file)
    assert back["version"] == 1 and back["state"] == "live"
    (approval,) = back["approvals"]
    assert approval["decision"] == "rollback" and approval["signer"]["id"] == scene.id
    assert json.loads(approval["statement"])["version"] == 1
    out = tmp_path / "out"
    scene.run("audit", "export", "--promotion", back["id"], out)
    done = scene.json("audit", "verify", out)
    assert done["ok"] is True and done["approvals"] == 1 and done["verdict"] == ""


def on_terminal(person, args, answer):
    """Runs mlctl with a terminal as its input; (exit code, what it wrote to stderr)."""
    leader, follower = pty.openpty()
    with subprocess.Popen([str(build_directory() / "mlctl"), *map(str, args)], env=person.env,
                          stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          cwd=person.home, start_new_session=True) as child:
        os.close(follower)
        text = b""
        while b"[y/N]" not in text:
            more = os.read(child.stderr.fileno(), 1000)
            assert more, text
            text += more
        if isinstance(answer, bytes):
            os.write(leader, answer)
        else:
            child.send_signal(answer)
        _, rest = child.communicate(timeout=60)
    os.close(leader)
    return child.returncode, (text + rest).decode()


@pytest.mark.parametrize("answer, signed", [
    (b"n\n", False), (b"\n", False), (b"yes please\n", False), (b"\x04", False),
    (signal.SIGINT, False), (b"y\n", True),
], ids=["no", "nothing", "something", "end", "interrupt", "yes"])
def test_the_question_on_a_terminal(scene, tmp_path, answer, signed):
    p = pending(scene, tmp_path)
    code, text = on_terminal(scene.ada, ["approve", p, "--key", scene.ada.key_file, "--reason",
                                         "x"], answer)
    assert f"sign: approve {p}?" in text
    assert (code == 0) == signed, text
    assert len(scene.json("promotion", "show", p)["approvals"]) == int(signed)
    if not signed and isinstance(answer, bytes):
        assert code == 1 and "nothing was signed" in text
