# SPDX-License-Identifier: Apache-2.0
"""`mlctl audit export`: files that stock tools check, and `mlctl audit verify` on them."""
import concurrent.futures
import hashlib
import json
import re
import shutil
import subprocess

import pytest

from support import gate
from support.cli import invite
from support.process import wait_until


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


def resum(directory):
    """SHA256SUMS as who changed a file would write it again."""
    lines = []
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name != "SHA256SUMS":
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            lines.append(f"{digest}  {path.relative_to(directory)}\n")
    (directory / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def leaf(d):
    edit(first(d, "proofs/a*.leaf"), b'"approve"', b'"reject!"')


def proof(d):
    shutil.copy(first(d, "proofs/promotion-*.tlog-proof"), d / "proofs/version.tlog-proof")


def no_entry(d):
    for path in d.glob("proofs/a*"):
        path.unlink()


def no_proof(d):
    first(d, "proofs/key-*.tlog-proof").unlink()


def one_approval_less(d):
    gone = first(d, "approvals/*.json")
    digest = hashlib.sha256(gone.read_bytes()).hexdigest().encode()
    for path in d.glob("proofs/a*.leaf"):
        if digest in path.read_bytes():
            path.unlink()
            path.with_suffix(".tlog-proof").unlink()
    gone.with_suffix(".sig").unlink()
    gone.unlink()


def no_roles(d):
    for path in d.glob("proofs/role-*"):
        path.unlink()


def no_keys(d):
    for path in d.glob("proofs/key-*"):
        path.unlink()


def another_signer(d):
    path = d / "allowed_signers"
    line = path.read_text().splitlines()[-1]
    path.write_text(path.read_text() + "u000000000000" + line[line.index(" "):] + "\n")


def longer_key(d):
    edit(d / "allowed_signers", b'namespaces="approval@mlctl" ',
         b'namespaces="approval@mlctl",valid-before="20990101000000Z" ')


def weaker_policy(d):
    edit(d / "bundle.json", b'"at_least":"0.9', b'"at_least":"0.1')


def weaker_document(d):
    weaker_policy(d)
    for path in d.glob("documents/*.json"):
        if b'"at_least"' in path.read_bytes():
            edit(path, b'"at_least":"0.9', b'"at_least":"0.1')


def better_metric(d):
    edit(d / "bundle.json", b'"value":0.95', b'"value":0.99')


def better_evaluation(d):
    better_metric(d)
    edit(first(d, "evaluations/*.json"), b"0.95", b"0.99")


def something_more(d):
    (d / "proofs" / "note").write_text("x")
    sums = d / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("names.json", "other.json"))


@pytest.mark.parametrize("change, says", [
    (leaf, "proofs/a"), (proof, "proofs/version"), (no_proof, "proofs/key-"),
    (no_entry, "approvals/u"), (one_approval_less, "rule 'risk' asks for 2, and 1 of those here"),
    (no_roles, "rule 'risk' asks for 2, and 0 of those here"), (no_keys, "approvals/u"),
    (another_signer, "allowed_signers"), (longer_key, "allowed_signers"), (verdict, "statement"),
    (weaker_policy, "'policy'"), (weaker_document, "the document 'Policy/x-two' is not the one"),
    (better_metric, "'document' is not what was submitted"),
    (better_evaluation, "not those that were submitted"), (signed_text, "approvals/u"),
])
def test_what_is_bound_is_compared(export, copy, change, says):
    change(copy)
    resum(copy)
    found = export.json("audit", "verify", copy, status=1)
    assert found["ok"] is False and says in found["what"], found


def test_no_file_more_and_none_less(export, copy):
    something_more(copy)
    assert "'names.json': SHA256SUMS does not" in export.json("audit", "verify", copy,
                                                              status=1)["what"]
    (copy / "names.json").unlink()
    assert "'proofs/note': SHA256SUMS does not" in export.json("audit", "verify", copy,
                                                               status=1)["what"]


def test_names_may_be_deleted(export, copy):
    (copy / "names.json").unlink()
    assert script(copy).returncode == 0
    assert export.json("audit", "verify", copy)["ok"] is True


FOR_PEOPLE = {"README.md", "verify.sh", "names.json", "SHA256SUMS"}


def flipped(data):
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def test_every_file_that_is_changed_is_named(export, tmp_path):
    """Each file in turn: a bit flipped, emptied, replaced, gone; and with the checksums redone."""
    files = sorted(p.relative_to(export.out) for p in export.out.rglob("*") if p.is_file())
    assert len(files) > 30
    contents = {f: (export.out / f).read_bytes() for f in files}

    def trial(job):
        number, name, data, again = job
        copy = tmp_path / f"t{number}"
        shutil.copytree(export.out, copy)
        if data is None:
            (copy / name).unlink()
        else:
            (copy / name).write_bytes(data)
        if again:
            resum(copy)
        found = export.json("audit", "verify", copy, status=None)
        shutil.rmtree(copy)
        return name, again, found

    jobs = []
    for name in files:
        other = next((contents[f] for f in reversed(files) if f.suffix == name.suffix and f != name
                      and contents[f] != contents[name]), b"something else\n")
        for data in (flipped(contents[name]), b"", other, None):
            if not (data is None and name.name == "names.json"):
                jobs.append((len(jobs), name, data, False))
            if str(name) not in FOR_PEOPLE and data is not None:
                jobs.append((len(jobs), name, data, True))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, again, found in pool.map(trial, jobs):
            assert found["ok"] is False, (name, again)
            known = str(name) in found["what"] or again and (
                name.parts[0] in found["what"] or name.stem in found["what"])
            assert known, (name, again, found["what"])


def test_an_export_after_a_revocation(export, tmp_path):
    """What was signed before holds, by stock tools and by ours."""
    person = export.people[1]
    (key,) = person.json("key", "list")
    person.run("key", "revoke", key["id"])
    out = tmp_path / "later"
    wait_until(lambda: export.json("audit", "log", "--kind", "key", "--id", key["id"],
                                   "--action", "key.revoke"), 10, "the entry is in the log")
    export.run("audit", "export", "--promotion", export.promotion["id"], out)
    (line,) = [x for x in (out / "allowed_signers").read_text().splitlines()
               if x.startswith(person.id)]
    assert ',valid-before="' in line
    done = script(out)
    assert done.returncode == 0, done.stderr
    commands = re.findall(r"```\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)[0]
    subprocess.run(["sh", "-euc", commands], cwd=out, check=True, capture_output=True)
    assert export.json("audit", "verify", out)["approvals"] == 2
    without = re.sub(r"-O verify-time=\S+ ", "", commands)
    wait_until(lambda: subprocess.run(["sh", "-euc", without], cwd=out, check=False,
                                      capture_output=True).returncode != 0,
               5, "its time, in whole seconds, is over")
    edit(out / "allowed_signers", b",valid-before", b",valid-after")
    resum(out)
    assert "allowed_signers" in export.json("audit", "verify", out, status=1)["what"]


PAIRED = """
apiVersion: mlctl/v1
kind: Environment
name: x-pair
policy: x-pair
alias: x-pair
---
apiVersion: mlctl/v1
kind: Policy
name: x-pair
checks:
  - {id: not-worse, type: compare, metric: accuracy, dataset: fraud/holdout, against: champion,
     test: non-inferiority, margin: 0.05, alpha: 0.05}
"""


@pytest.fixture(scope="module")
def paired(server, export, tmp_path_factory):
    """A promotion that was compared with the champion, example by example."""
    home = tmp_path_factory.mktemp("paired")
    export.run("apply", "-f", "-", stdin=PAIRED)
    for wrong in (60, 50):
        ref = gate.push(export, home / "m", f"{wrong} are wrong", model="exp/paired")
        export.run("evaluate", ref, "-f",
                   gate.write_evaluation(home / "eval.json", 1 - wrong / 1000, 1000),
                   "--examples", gate.write_examples(home / "results.csv", 1000, wrong))
        made = export.json("promote", ref, "--to", "x-pair", "--reason", "x", "--wait=live")
    assert made["checks"][0]["statistic"] == "tango", made["checks"]
    return made["id"]


def test_examples_are_recomputed_or_said_not_to_be(export, paired, tmp_path):
    without, with_them = tmp_path / "without", tmp_path / "with"
    export.run("audit", "export", "--promotion", paired, without)
    export.run("audit", "export", "--promotion", paired, "--examples", with_them)
    done = export.json("audit", "verify", without)
    assert done["ok"] is True and (done["evaluations"], done["recomputed"]) == (2, 0)
    assert "check 'not-worse'" in str(done["not_recomputed"])
    text = export.run("audit", "verify", without).stdout
    assert "not computed again: check 'not-worse': its examples are not here" in text
    done = export.json("audit", "verify", without, "--fetch")
    assert done["recomputed"] == 2 and done["not_recomputed"] == []
    done = export.json("audit", "verify", with_them, env={"MLCTL_SERVER": "http://127.0.0.1:1"})
    assert done["recomputed"] == 2 and done["not_recomputed"] == []
    assert script(with_them).returncode == 0
    edit(first(with_them, "examples/*.csv"), b"e999,1,1", b"e999,1,0")
    resum(with_them)
    found = export.json("audit", "verify", with_them, status=1)
    assert "the examples have another digest" in found["what"]
