# SPDX-License-Identifier: Apache-2.0
"""The JSON Schemas agree with the library about the samples: test_document.c and test_evaluation.c
read the same files."""
import json
import pathlib

import jsonschema
import pytest
import yaml

HERE = pathlib.Path(__file__).resolve().parent
SCHEMAS = HERE.parents[2] / "include" / "schema"


class Loader(yaml.SafeLoader):
    """YAML 1.2: dates are text."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()}


def validator(name):
    schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def errors(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return list(validator("evaluation").iter_errors(json.loads(text)))
    doc = yaml.load(text, Loader)  # noqa: S506, a safe loader
    kind = doc["kind"].lower()
    if not (SCHEMAS / f"{kind}.json").exists():
        return ["there is no such kind"]
    return list(validator(kind).iter_errors(doc))


@pytest.mark.parametrize("path", sorted((HERE / "samples" / "valid").iterdir()),
                         ids=lambda p: p.name)
def test_valid(path):
    assert not errors(path)


@pytest.mark.parametrize("path", sorted((HERE / "samples" / "invalid").iterdir()),
                         ids=lambda p: p.name)
def test_invalid(path):
    assert errors(path)
