# SPDX-License-Identifier: Apache-2.0
import base64
import importlib.util
import json
import pathlib

import pytest

from support import contract

USERS = """
openapi: 3.1.0
info: {title: mlctl, version: "1"}
paths:
  /api/v1/users:
    get:
      operationId: user_list
      responses:
        "200":
          content:
            application/json:
              schema: {type: array, items: {$ref: "#/components/schemas/User"}}
  /api/v1/users/{id}:
    get:
      operationId: user_get
      responses:
        "200":
          content: {application/json: {schema: {$ref: "#/components/schemas/User"}}}
        "404": {$ref: "#/components/responses/NotFound"}
  /api/v1/users/me:
    get: {operationId: user_me, responses: {"200": {}}}
    delete: {operationId: user_not, responses: {"405": {}}}
components:
  schemas:
    User:
      type: object
      required: [id, name]
      additionalProperties: false
      properties: {id: {type: string}, name: {type: [string, "null"]}}
"""
COMMON = """
components:
  responses:
    NotFound:
      content:
        application/problem+json: {schema: {$ref: "#/components/schemas/Problem"}}
  schemas:
    Problem: {type: object, required: [status], properties: {status: {type: integer}}}
"""


def checker():
    path = pathlib.Path(__file__).parents[1] / "api" / "check_contract.py"
    spec = importlib.util.spec_from_file_location("check_contract", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def api(tmp_path):
    (tmp_path / "users.yaml").write_text(USERS)
    (tmp_path / "common.yaml").write_text(COMMON)
    return contract.Contract.load(tmp_path)


def entry(path, status, body, kind="application/json", method="GET"):
    return {"method": method, "path": path, "status": status, "type": kind,
            "body": base64.b64encode(json.dumps(body).encode()).decode()}


GOOD = [entry("/api/v1/users", 200, [{"id": "u1", "name": None}]),
        entry("/api/v1/users/u1", 200, {"id": "u1", "name": "dana"}),
        entry("/api/v1/users/u2", 404, {"status": 404}, "application/problem+json"),
        entry("/api/v1/users/me", 200, {}),
        entry("/api/v1/users/me", 405, {"status": 405}, "application/problem+json", "DELETE")]


def complaints(api, entries):
    return {c.name: c.text for c in checker().check(api, entries) if c.status == "failed"}


def test_good_exchanges_pass(api):
    assert complaints(api, GOOD) == {}


def test_operation_that_nobody_called(api):
    assert "no test got a success" in complaints(api, GOOD[:3] + GOOD[4:])["user_me"]


def test_refusals_alone_are_no_exercise(api):
    assert "user_get" in complaints(api, [GOOD[0], GOOD[2], GOOD[3]])


@pytest.mark.parametrize("bad, what", [
    (entry("/api/v1/users/u1", 200, {"id": "u1"}), "'name' is a required property"),
    (entry("/api/v1/users/u1", 200, {"id": "u1", "name": "x", "extra": 1}), "extra"),
    (entry("/api/v1/users/u1", 404, {"status": "404"}, "application/problem+json"), "integer"),
    (entry("/api/v1/users/u1", 200, 1, "application/vnd.other+json"), "has no application/vnd"),
    (entry("/api/v1/users/u1", 202, {}), "202 is not in the contract"),
    (entry("/api/v1/users/u1", 403, {"code": 1}, "application/problem+json"), "'status' is a req"),
])
def test_reply_that_does_not_match(api, bad, what):
    assert what in complaints(api, GOOD + [bad])["user_get"]


def test_the_literal_path_wins(api):
    assert api.find("GET", "/api/v1/users/me").id == "user_me"
    assert api.find("GET", "/api/v1/users/a/b") is None
    assert api.find("POST", "/api/v1/users") is None


def test_the_same_name_with_another_meaning(tmp_path):
    (tmp_path / "a.yaml").write_text("components: {schemas: {A: {type: string}}}")
    (tmp_path / "b.yaml").write_text("components: {schemas: {A: {type: integer}}}")
    with pytest.raises(contract.ContractError, match="A"):
        contract.merge(tmp_path.glob("*.yaml"))
    (tmp_path / "b.yaml").write_text("components: {schemas: {A: {type: string}, B: {}}}")
    assert set(contract.merge(tmp_path.glob("*.yaml"))["components"]["schemas"]) == {"A", "B"}


def test_the_same_path_in_two_files(tmp_path):
    (tmp_path / "a.yaml").write_text("paths: {/x: {get: {}}}")
    (tmp_path / "b.yaml").write_text("paths: {/x: {post: {}}}")
    with pytest.raises(contract.ContractError, match="/x"):
        contract.merge(tmp_path.glob("*.yaml"))
