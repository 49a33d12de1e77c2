# SPDX-License-Identifier: Apache-2.0
"""`mlctl audit export`: files that stock tools check, and `mlctl audit verify` on them."""
import hashlib
import json
import re
import shutil
import subprocess

import pytest

from support import gate
from support.cli import invite


@pytest.fixture(scope="module")
def server(own_server):
    return own_server


@pytest.fixture(scope="module")
def export(server, tmp_path_factory):
    """An export of a promotion that two people approved."""
    home = tmp_path_factory.mktemp("export")
    kim = invite(server, home / "kim", "kim-x", ["admin", "contributor@exp", "evaluator@exp"])
    kim.run("apply", "-f", "-", stdin=gate.documents(
        "x-two", "x-two", 'approvals: [{name: risk, from: ["role:approver"], count: 2}]'))
    gate.push(kim, home / "m", "first", model="exp/scorer")
    ref = gate.push(kim, home / "m", "second", model="exp/scorer")
    kim.run("evaluate", ref, "-f", gate.write_evaluation(home / "eval.json", 0.95))
    p = kim.json("promote", ref, "--to", "x-two", "--reason", "because")
    people = []
    for name in ("ada-x", "bob-x"):
        person = invite(server, home / name, name, ["approver@exp"])
        key = person.key()
        person.run("key", "add", f"{key}.pub")
        person.run("approve", p["id"], "--key", key, "--reason", "fine")
        people.append(person)
    kim.json("promote", ref, "--to", "x-two", "--reason", "because", "--wait", status=None)
    kim.out = home / "out"
    made = people[0].json("audit", "export", "--promotion", p["id"], kim.out)
    assert made["approvals"] == 2
    kim.people = people
    kim.promotion = kim.json("promotion", "show", p["id"])
    return kim


@pytest.fixture
def copy(export, tmp_path):
    shutil.copytree(export.out, tmp_path / "copy")
    return tmp_path / "copy"


def script(directory):
    return subprocess.run(["sh", directory / "verify.sh"], cwd="/", capture_output=True, text=True,
                          check=False, env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"})


def test_what_is_in_it(export):
    for person in export.people:
        assert (export.out / f"approvals/{person.id}.json").exists()
        assert (export.out / f"approvals/{person.id}.sig").exists()
    verdict = (export.out / "statement.json").read_bytes()
    digest = "sha256:" + hashlib.sha256(verdict).hexdigest()
    assert digest == export.promotion["verdict_digest"]
    signed = json.loads((export.out / f"approvals/{export.people[0].id}.json").read_bytes())
    assert signed["verdict_digest"] == digest
    names = json.loads((export.out / "names.json").read_bytes())
    assert names[export.people[0].id] == "ada-x"
    others = [p for p in export.out.rglob("*") if p.is_file() and p.name != "names.json"]
    assert not [p for p in others if b"ada-x" in p.read_bytes()]


def test_stock_tools_accept_it(export):
    done = script(export.out)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.count("Good \"approval@mlctl\" signature") == 2
    assert "all signatures hold" in done.stdout


def test_the_commands_of_its_readme(export):
    commands = re.findall(r"```\n(.*?)```", (export.out / "README.md").read_text(), re.DOTALL)[0]
    done = subprocess.run(["sh", "-euc", commands], cwd=export.out, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert export.promotion["verdict_digest"].removeprefix("sha256:") in done.stdout


def test_git_reads_the_version(export):
    shown = subprocess.run(["git", f"--git-dir={export.out}/version.git", "show",
                            "v2:README.md"], capture_output=True, text=True, check=True).stdout
    assert shown == gate.CARD


def test_we_accept_it_offline(export, tmp_path):
    done = export.json("audit", "verify", export.out, env={"MLCTL_SERVER": "http://127.0.0.1:1"})
    assert done["ok"] is True and done["approvals"] == 2
    trust = tmp_path / "trust"
    trust.write_text(export.run("audit", "trust").stdout, encoding="utf-8")
    stranger = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "s")}
    export.run("audit", "verify", "--trust", trust, export.out, env=stranger)
    export.run("audit", "verify", export.out, env=stranger, status=2)


def test_nothing_is_overwritten(export):
    export.run("audit", "export", "--promotion", export.promotion["id"], export.out, status=2)
    export.run("audit", "export", export.out, status=2)


def first(directory, pattern):
    return sorted(directory.glob(pattern))[0]


def edit(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def signed_text(d):
    edit(first(d, "approvals/*.json"), b'"version":2', b'"version":1')


def verdict(d):
    edit(d / "statement.json", b'"pass"', b'"fail"')


def swapped(d):
    one, two = sorted(d.glob("approvals/*.sig"))
    one.write_bytes(two.read_bytes())


def keys(d):
    (d / "allowed_signers").write_text("", encoding="utf-8")


@pytest.mark.parametrize("change", [signed_text, verdict, swapped, keys])
def test_both_find_what_was_changed(export, copy, change):
    change(copy)
    assert script(copy).returncode != 0
    assert export.json("audit", "verify", copy, status=1)["ok"] is False


def leaf(d):
    edit(first(d, "proofs/a*.leaf"), b'"approve"', b'"reject!"')


def proof(d):
    shutil.copy(first(d, "proofs/promotion-*.tlog-proof"), d / "proofs/version.tlog-proof")


def no_entry(d):
    for path in d.glob("proofs/a*"):
        path.unlink()


@pytest.mark.parametrize("change, says", [(leaf, "proofs/a"), (proof, "proofs/version"),
                                          (no_entry, "not every one has its entry")])
def test_the_log_is_compared(export, copy, change, says):
    change(copy)
    found = export.json("audit", "verify", copy, status=1)
    assert found["ok"] is False and says in found["what"]
