# SPDX-License-Identifier: Apache-2.0
"""`mlctl apply`, `policy test` and `init` against a real server."""
import json
import pathlib
import re
import subprocess

import pytest
import yaml

from support import gate
from support.cli import Person, invite
from support.fake_server import LyingServer
from support.server import build_directory


@pytest.fixture(scope="module")
def server(own_server):
    return own_server


@pytest.fixture(scope="module")
def scene(server, tmp_path_factory):
    home = tmp_path_factory.mktemp("apply")
    one = invite(server, home / "kim", "kim",
                 ["admin", "contributor@fraud", "evaluator@fraud"])
    one.reviewer = invite(server, home / "rob", "rob", ["approver@fraud"])
    one.ref = gate.push(one, home / "m", "weights")
    return one


def apply(person, text, *more, **kwargs):
    return person.run("apply", "-f", "-", *more, stdin=text, **kwargs)


def test_applied_unchanged_and_what_changed(scene):
    text = gate.documents("apply-one", "apply-one")
    assert apply(scene, text, "--dry-run").stdout.count("would be new") == 2
    first = apply(scene, text).stdout
    assert "Environment/apply-one  new" in first and "Policy/apply-one  new" in first
    assert '+   "alias": "apply-one"' in first
    again = scene.json("apply", "-f", "-", stdin=text)
    assert again["applied"] == [] and len(again["unchanged"]) == 2
    changed = apply(scene, text.replace("0.90", "0.91")).stdout
    assert "Environment/apply-one  unchanged" in changed and "Policy/apply-one  changed" in changed
    assert '-       "at_least": "0.900000000"' in changed
    assert '+       "at_least": "0.910000000"' in changed
    assert "alias" not in changed.split("Policy/apply-one")[1]


def test_dry_run_changes_nothing(scene):
    text = gate.documents("apply-dry", "apply-dry")
    assert scene.json("apply", "-f", "-", "--dry-run", stdin=text)["dry_run"] is True
    assert len(scene.json("apply", "-f", "-", stdin=text)["applied"]) == 2


def test_a_directory_by_name(scene, tmp_path):
    parts = gate.documents("apply-dir", "apply-dir").split("---")
    (tmp_path / "a.yaml").write_text(parts[0], encoding="utf-8")
    (tmp_path / "b.yml").write_text(parts[1], encoding="utf-8")
    (tmp_path / "notes.txt").write_text("kind: nothing", encoding="utf-8")
    assert len(scene.json("apply", "-f", tmp_path)["applied"]) == 2


@pytest.mark.parametrize("text, says", [
    ("kind: Environment\nname: x\n", "apiVersion"),
    ("apiVersion: mlctl/v1\nkind: Environment\nname: x\npolicies: y\n", "line 4, column 1"),
    ("apiVersion: mlctl/v1\nkind: Policy\nname: x\nchecks:\n  - {id: a, type: compare, "
     "metric: m, against: champion, test: non-inferiority}\n", "line 5"),
    ("a: [\n", "line"),
    ("", "no document"),
])
def test_errors_have_their_place_and_nothing_is_sent(scene, tmp_path, text, says):
    file = tmp_path / "bad.yaml"
    file.write_text(text, encoding="utf-8")
    done = scene.run("apply", "-f", file, status=2, env={"MLCTL_SERVER": "http://127.0.0.1:1"})
    assert "bad.yaml" in done.stderr and says in done.stderr


def test_needs_a_file(scene):
    assert "-f" in scene.run("apply", status=2).stderr


# policy test

@pytest.fixture(scope="module")
def judged(scene, tmp_path_factory):
    approvals = 'approvals: [{name: risk, from: ["role:approver"], count: 1}]'
    apply(scene, gate.documents("judged", "judged", approvals))
    file = gate.write_evaluation(tmp_path_factory.mktemp("judged") / "eval.json", 0.95)
    scene.run("evaluate", scene.ref, "--file", file)
    return scene


def test_what_a_promotion_would_get(judged):
    done = judged.run("policy", "test", judged.ref, "--to", "judged")
    assert "pass" in done.stdout and "awaiting_approval" in done.stdout
    assert "unprotected" in done.stdout
    assert re.search(r"^accuracy +pass +0\.95 ", done.stdout, re.MULTILINE)
    assert re.search(r"^big +fail \(observe only\)", done.stdout, re.MULTILINE)
    assert "approval risk: 1 of rob" in done.stdout


def test_refused_and_held_have_their_exits(judged, tmp_path):
    ref = gate.push(judged, tmp_path / "m", "weaker")
    held = judged.json("policy", "test", ref, "--to", "judged", status=4)
    assert held["verdict"]["verdict"] == "inconclusive" and held["would_be"] == "held"
    file = gate.write_evaluation(tmp_path / "eval.json", 0.85)
    judged.run("evaluate", ref, "--file", file)
    refused = judged.run("policy", "test", ref, "--to", "judged", status=1)
    assert "rejected" in refused.stdout and "0.85" in refused.stdout


@pytest.mark.parametrize("change, says", [
    (lambda reply: reply["verdict"]["checks"][0].update(observed="0.990000000"),
     "another verdict than its evidence gives: check 'accuracy', 'observed'"),
    (lambda reply: reply["verdict"].update(verdict="fail"),
     "another verdict than its evidence gives: 'verdict'"),
    (lambda reply: reply["bundle"]["evaluations"][0]["document"]["metrics"][0].update(value=0.5),
     "'document' is not what was submitted"),
])
def test_another_verdict_than_the_evidence_gives_is_refused(server, judged, tmp_path, change, says):
    def lie(reply):
        body = json.loads(reply.body)
        change(body)
        reply.body = json.dumps(body).encode()

    liar = LyingServer(server.url)
    try:
        victim = Person(tmp_path / "victim", liar.url, judged.token)
        victim.run("whoami")
        liar.lie("POST", "/policy-tests", lie)
        done = victim.run("policy", "test", "fraud/scorer:1", "--to", "judged", status=1)
    finally:
        liar.close()
    assert says in done.stderr
    assert done.stdout == ""


# init

def test_what_init_writes_is_applied_as_it_is(scene, tmp_path):
    scene.run("init", tmp_path / "p", "--model", "initial/scorer", "--environment", "initial")
    done = scene.run("init", tmp_path / "p", status=2)
    assert "overwrites nothing" in done.stderr
    assert len(scene.json("apply", "-f", tmp_path / "p/mlctl")["applied"]) == 4
    names = sorted(str(p.relative_to(tmp_path / "p")) for p in (tmp_path / "p").rglob("*")
                   if p.is_file())
    assert names == [".github/workflows/mlctl.yml", ".gitlab-ci.yml", "mlctl/environment.yaml",
                     "mlctl/model.yaml", "mlctl/policy.yaml"]


def test_init_needs_no_server(tmp_path):
    Person(tmp_path / "nobody").run("init", status=0)
    assert (tmp_path / "nobody/mlctl/policy.yaml").exists()
    Person(tmp_path / "other").run("init", "--environment", "No", status=2)


def ci_directory(scene, tmp_path, name):
    """A repository as a job finds it, with what init wrote and a policy that asks for nobody."""
    work = tmp_path / "repository"
    scene.run("init", work, "--model", f"fraud/{name}", "--environment", name)
    apply(scene, gate.documents(name, name))
    (work / "model").mkdir()
    (work / "model/README.md").write_text(gate.CARD, encoding="utf-8")
    (work / "model/weights.bin").write_text("weights", encoding="utf-8")
    gate.write_evaluation(work / "eval.json", 0.95, 200)
    gate.write_examples(work / "results.csv", 200, 10)
    return work


def steps_of_github(work):
    job = yaml.safe_load((work / ".github/workflows/mlctl.yml").read_text())["jobs"]["promote"]
    assert job["defaults"]["run"]["shell"] == "bash"
    return job["env"], [s["run"] for s in job["steps"] if "run" in s]


def steps_of_gitlab(work):
    job = yaml.safe_load((work / ".gitlab-ci.yml").read_text())["promote-model"]
    return job["variables"], ["\n".join(job["script"])]


@pytest.mark.parametrize("name, steps", [("github", steps_of_github), ("gitlab", steps_of_gitlab)])
def test_the_jobs_end_with_a_live_version(scene, tmp_path, name, steps):
    """All steps, run as the runner would."""
    work = ci_directory(scene, tmp_path, name)
    variables, scripts = steps(work)
    env = {**scene.env, **{k: v for k, v in variables.items() if "${{" not in v},
           "PATH": f"{build_directory()}:{scene.env['PATH']}",
           "GITHUB_ENV": str(tmp_path / "env"), "CI_COMMIT_SHA": "5" * 40}
    for script in scripts:
        if pathlib.Path(env["GITHUB_ENV"]).exists():
            env.update(line.split("=", 1) for line in
                       pathlib.Path(env["GITHUB_ENV"]).read_text().splitlines())
        done = subprocess.run(["bash", "-eo", "pipefail", "-c", script], cwd=work, env=env,
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert len(scene.json("evaluation", "list", f"fraud/{name}:1")) == 1
    assert scene.json("promotion", "list", "--model", f"fraud/{name}")[0]["state"] == "live"
    assert "testsuite" in (work / "mlctl.xml").read_text()
