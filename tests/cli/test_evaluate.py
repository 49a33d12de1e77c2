# SPDX-License-Identifier: Apache-2.0
"""`mlctl evaluate`, `evaluation list`, `evaluation withdraw` against a real server."""
import json

import pytest

from support import gate
from support.cli import invite


@pytest.fixture(scope="module")
def server(own_server):
    return own_server


@pytest.fixture(scope="module")
def scientist(server, tmp_path_factory):
    home = tmp_path_factory.mktemp("evaluate")
    person = invite(server, home / "sam", "sam", ["contributor@evals", "evaluator@evals"])
    person.ref = gate.push(person, home / "m", "weights", model="evals/scorer")
    return person


def test_an_evaluation_is_recorded_once(scientist, tmp_path):
    file = gate.write_evaluation(tmp_path / "eval.json", 0.951)
    first = scientist.json("evaluate", scientist.ref, "--file", file)
    assert first["evaluation"].startswith("sha256:") and first["created"] is True
    again = scientist.run("evaluate", scientist.ref, "-f", file)
    assert "was there already" in again.stderr and first["evaluation"] in again.stdout
    listed = scientist.json("evaluation", "list", scientist.ref)
    assert first["evaluation"] in [e["evaluation"] for e in listed]
    assert "counts" in scientist.run("evaluation", "list", scientist.ref).stdout


def test_examples_are_uploaded_and_computed_again(scientist, tmp_path):
    file = gate.write_evaluation(tmp_path / "eval.json", 0.95, 200)
    examples = gate.write_examples(tmp_path / "results.csv", 200, 10)
    made = scientist.json("evaluate", scientist.ref, "--file", file, "--examples", examples)
    assert made["recomputed"] > 0
    kept = scientist.http.ok("GET", f"/api/v1/models/evals/scorer/versions/1/evaluations/"
                                    f"{made['evaluation']}")
    assert kept["examples"].startswith("sha256:")
    assert kept["recomputed"][0]["value"] == "0.950000000"


def test_what_differs_from_the_examples_is_refused_before_anything_is_sent(scientist, tmp_path):
    file = gate.write_evaluation(tmp_path / "eval.json", 0.97, 200)
    examples = gate.write_examples(tmp_path / "results.csv", 200, 10)
    done = scientist.run("evaluate", scientist.ref, "--file", file, "--examples", examples,
                         status=2, env={"MLCTL_SERVER": "http://127.0.0.1:1"})
    assert "/metrics/0/value" in done.stderr


@pytest.mark.parametrize("change, where", [
    ({"metrics": [{"name": "accuracy", "value": 0.9, "n": 0}]}, "/metrics/0/n"),
    ({"extra": 1}, "/extra"),
    ({"dataset": "no version"}, "/dataset"),
    ({"schema": "evaluation/v9"}, "/schema"),
])
def test_bad_fields_are_named(scientist, tmp_path, change, where):
    file = tmp_path / "eval.json"
    file.write_text(json.dumps({**gate.evaluation(0.9), **change}), encoding="utf-8")
    done = scientist.run("evaluate", scientist.ref, "--file", file, status=2)
    assert where in done.stderr


def test_numbers_that_are_none(scientist, tmp_path):
    file = tmp_path / "eval.json"
    file.write_text(json.dumps(gate.evaluation(float("nan"))), encoding="utf-8")
    assert "/metrics/0/value" in scientist.run("evaluate", scientist.ref, "--file", file,
                                               status=2).stderr


def test_withdrawing(scientist, tmp_path):
    file = gate.write_evaluation(tmp_path / "eval.json", 0.5, 77)
    made = scientist.json("evaluate", scientist.ref, "--file", file)
    scientist.run("evaluation", "withdraw", scientist.ref, made["evaluation"], status=2)
    gone = scientist.json("evaluation", "withdraw", scientist.ref, made["evaluation"],
                          "--reason", "wrong labels")
    assert gone["withdrawn"] is True and gone["reason"] == "wrong labels"
    assert "withdrawn" in scientist.run("evaluation", "list", scientist.ref).stdout


def test_withdrawing_by_id_alone(server, scientist, tmp_path):
    file = gate.write_evaluation(tmp_path / "eval.json", 0.5, 78)
    made = scientist.json("evaluate", scientist.ref, "--file", file)["evaluation"]
    gone = scientist.json("evaluation", "withdraw", made, "--reason", "wrong labels")
    assert gone["withdrawn"] is True and gone["evaluation"] == made
    none = "sha256:" + "0" * 64
    assert "no evaluation" in scientist.run("evaluation", "withdraw", none, "--reason", "x",
                                            status=1).stderr
    refs = [gate.push(scientist, tmp_path / "same", "same", model=f"evals/{name}")
            for name in ("twin-a", "twin-b")]
    ids = {scientist.json("evaluate", ref, "--file", file)["evaluation"] for ref in refs}
    assert len(ids) == 1, "the same artifact and file"
    done = scientist.run("evaluation", "withdraw", *ids, "--reason", "x", status=2)
    assert "evals/twin-a:1" in done.stderr and "say which" in done.stderr
    scientist.run("evaluation", "withdraw", refs[1], *ids, "--reason", "x")
    assert scientist.json("evaluation", "list", refs[0])[0]["withdrawn"] is False
    stranger = invite(server, tmp_path / "una", "una", ["evaluator@elsewhere"])
    assert "no evaluation" in stranger.run("evaluation", "withdraw", *ids, "--reason", "x",
                                           status=1).stderr


def test_only_evaluators_may(server, scientist, tmp_path):
    other = invite(server, tmp_path / "uma", "uma", ["contributor@evals"])
    file = gate.write_evaluation(tmp_path / "eval.json", 0.9)
    assert "evaluator" in other.run("evaluate", scientist.ref, "--file", file, status=2).stderr


def test_needs_a_file(scientist):
    assert "--file" in scientist.run("evaluate", scientist.ref, status=2).stderr
