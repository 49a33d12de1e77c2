# SPDX-License-Identifier: Apache-2.0
"""A model with versions, evaluations and policies, for tests of what judges them."""
import datetime
import json

CODE = "https://git.example/fraud@" + "0123456789abcdef0123456789abcdef01234567"
CARD = "# Scorer\n\n## Intended use\nCard fraud.\n\n## Limitations\nNone known.\n"
DATASET = "fraud/holdout@sha256:" + "ab" * 32

ENVIRONMENT = """
apiVersion: mlctl/v1
kind: Environment
name: {name}
policy: {name}
alias: {alias}
"""
POLICY = """
---
apiVersion: mlctl/v1
kind: Policy
name: {name}
checks:
  - {{id: accuracy, type: threshold, metric: accuracy, dataset: fraud/holdout, at_least: 0.90}}
  - {{id: card, type: card, sections: [Intended use, Limitations]}}
  - {{id: big, type: threshold, metric: accuracy, dataset: fraud/holdout, at_least: 0.999,
     mode: observe}}
{approvals}
"""


def documents(name="production", alias="champion", approvals=""):
    """An environment and its policy; approvals is the YAML of that member."""
    return ENVIRONMENT.format(name=name, alias=alias) + POLICY.format(name=name,
                                                                      approvals=approvals)


def evaluation(value, n=1000, dataset=DATASET, **more):
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"schema": "evaluation/v1", "dataset": dataset, "evaluated_at": now,
            "metrics": [{"name": "accuracy", "value": value, "n": n}], **more}


def write_evaluation(path, value, n=1000, **more):
    path.write_text(json.dumps(evaluation(value, n, **more)), encoding="utf-8")
    return path


def write_examples(path, n, wrong):
    """n examples of which the first `wrong` are answered wrongly."""
    rows = [f"e{i},{i % 2},{i % 2 if i >= wrong else 1 - i % 2}" for i in range(n)]
    path.write_text("id,label,prediction\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def push(person, directory, content, model="fraud/scorer"):
    """One more version; its REF."""
    directory.mkdir(exist_ok=True)
    (directory / "README.md").write_text(CARD, encoding="utf-8")
    (directory / "weights.bin").write_text(content, encoding="utf-8")
    return person.json("push", model, directory, "--code", CODE)["ref"]
