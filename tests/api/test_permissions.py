# SPDX-License-Identifier: Apache-2.0
"""All operations of the contract × all roles: who is let in, who is told 401, 403 or 404."""
import pathlib
import re

import pytest

from support import contract

ROLES = ("contributor", "evaluator", "approver", "operator", "auditor", "admin")
MINE, OTHER = "walk", "walk-elsewhere"
ABSENT = {
    "user": "u000000000000",
    "token": "t000000000000",
    "key": "k000000000000",
    "model": "nothing",
    "version": "7",
    "alias": "none",
    "digest": "sha256:" + "0" * 64,
    "reference": "sha256:" + "0" * 64,
    "evaluation": "sha256:" + "0" * 64,
    "kind": "Policy",
    "name": "none",
    "upload": "00000000-0000-4000-8000-000000000000",
    "index": "999999999",
    "role": "approver@walk",
    "rest": "tile/0/000",
    "path": "000",
}


def operations():
    files = (pathlib.Path(__file__).parents[2] / "include" / "api").glob("*.yaml")
    for path, item in contract.merge(files)["paths"].items():
        for method, operation in item.items():
            if method in ("get", "put", "post", "delete", "patch", "head"):
                yield pytest.param(method.upper(), path, operation, id=operation["operationId"])


def call(client, method, path, namespace):
    """Sends what decodes badly or finds nothing, so that a let-in caller changes nothing."""

    def fill(match):
        name = match.group(1).rstrip(".*+")
        return namespace if name == "namespace" else ABSENT.get(name, "0")

    target = re.sub(r"\{([^}]+)\}", fill, path)
    kwargs = {"json": {"no such member": 1}} if method in ("POST", "PUT", "PATCH") else {}
    return client.request(method, target, **kwargs).status_code


@pytest.fixture(scope="module")
def people(server, tmp_path_factory):
    """A person per role who holds just that, in one namespace; and one who holds nothing."""
    from support.cli import invite

    root = tmp_path_factory.mktemp("people")
    made = {role: invite(server, root / role, f"walk-{role}", [f"{role}@{MINE}"]) for role in ROLES}
    made["everywhere-admin"] = invite(server, root / "all", "walk-all-admin", ["admin"])
    made["nothing"] = invite(server, root / "nothing", "walk-nothing", [])
    return made


def wanted_roles(permission):
    return permission["roles"] if isinstance(permission, dict) and "roles" in permission else []


@pytest.mark.parametrize("method, path, operation", operations())
def test_without_token(server, method, path, operation):
    status = call(server.client(), method, path, MINE)
    if operation["x-permission"] == "open":
        assert status not in (401, 403)
    else:
        assert status == 401


@pytest.mark.parametrize("method, path, operation", operations())
def test_forged_token(server, method, path, operation):
    if operation["x-permission"] != "open":
        assert call(server.client("mlc_" + "A" * 43), method, path, MINE) == 401


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("method, path, operation", operations())
def test_each_role(people, method, path, operation, role):
    permission = operation["x-permission"]
    status = call(people[role].http, method, path, MINE)
    if permission in ("open", "any"):
        assert status != 401
    elif "read" in permission:
        assert status not in (401, 403)
    elif permission["namespace"] == "all":
        assert status == 403, "a role in one namespace is not one everywhere"
    elif role in wanted_roles(permission):
        assert status not in (401, 403)
    else:
        assert status == 403


@pytest.mark.parametrize("method, path, operation", operations())
def test_namespaces_without_a_role_are_not_there(people, method, path, operation):
    permission = operation["x-permission"]
    if "{namespace}" not in path or permission in ("open", "any"):
        return
    assert call(people["contributor"].http, method, path, OTHER) == 404


@pytest.mark.parametrize("method, path, operation", operations())
def test_nobody(people, method, path, operation):
    permission = operation["x-permission"]
    status = call(people["nothing"].http, method, path, MINE)
    if permission in ("open", "any"):
        assert status != 401
    else:
        assert status in (403, 404)


@pytest.mark.parametrize("method, path, operation", operations())
def test_admin_everywhere(people, method, path, operation):
    if "admin" in wanted_roles(operation["x-permission"]):
        assert call(people["everywhere-admin"].http, method, path, MINE) not in (401, 403)
