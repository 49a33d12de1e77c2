# SPDX-License-Identifier: Apache-2.0
import copy
import glob
import json
import os
import re
import subprocess
import sys

import pytest
import yaml

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
sys.path.insert(0, os.path.join(ROOT, "lib/api/gen"))
import apigen  # noqa: E402
import contract  # noqa: E402

GOOD = {
    "openapi": "3.1.0",
    "info": {"title": "t", "version": "v1"},
    "paths": {
        "/a/{namespace}": {
            "post": {
                "operationId": "a_make",
                "x-permission": {"roles": ["admin"], "namespace": "path"},
                "x-audit": "leaf",
                "parameters": [
                    {
                        "name": "namespace",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string", "format": "namespace", "maxLength": 100},
                    }
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["x"],
                                "properties": {"x": {"type": "string", "maxLength": 4}},
                            }
                        }
                    },
                },
                "responses": {"201": {"description": "made"}},
            }
        }
    },
}
OP = ("paths", "/a/{namespace}", "post")
BODY = OP + ("requestBody", "content", "application/json", "schema")
X = BODY + ("properties", "x")
PARAM = OP + ("parameters", 0)


def write(tmp_path, doc, name="a.yaml"):
    path = tmp_path / name
    path.write_text(doc if isinstance(doc, str) else yaml.safe_dump(doc))
    return str(path)


def generate(tmp_path, doc):
    return apigen.generate("1.2.3", [write(tmp_path, doc)])


def changed(path, value):
    doc = copy.deepcopy(GOOD)
    node = doc
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return doc


def test_good_contract(tmp_path):
    h, c = generate(tmp_path, GOOD)
    assert "struct api_a_make_body body;" in h
    assert "int api_a_make(struct mlc_ctx *ctx, const struct api_a_make_req *req" in h
    assert ".permission = API_ROLES_AT" in c and ".roles = AUTH_ADMIN" in c
    assert ".audited = true" in c and ".body_required = true" in c
    assert ".max_len = 4" in c


@pytest.mark.parametrize(
    "path,value,message",
    [
        (OP + ("operationId",), "aMake", "not a new snake_case name"),
        (OP + ("operationId",), None, "not a new snake_case name"),
        (OP + ("x-permission",), None, "x-permission is None"),
        (OP + ("x-permission",), "nobody", "x-permission is 'nobody'"),
        (OP + ("x-permission",), {"roles": ["root"], "namespace": "any"}, "names roles"),
        (OP + ("x-permission",), {"roles": [], "namespace": "any"}, "names roles"),
        (OP + ("x-permission",), {"read": "model"}, "asks for namespace 'model'"),
        (OP + ("x-audit",), None, "x-audit is None"),
        (OP + ("x-audit",), {"none": ""}, "x-audit is"),
        (OP + ("x-auditt",), "leaf", "'x-auditt' is not known"),
        (OP + ("responses",), None, "needs responses"),
        (OP + ("x-body",), "blob", "x-body is 'blob'"),
        (OP + ("x-body",), "raw", "needs x-body-max"),
        (OP + ("x-problem",), "soap", "x-problem is 'soap'"),
        (OP + ("parameters",), None, "path names"),
        (PARAM + ("name",), "ns", "path names"),
        (PARAM + ("required",), False, "path parameters are required"),
        (PARAM + ("in",), "cookie", "is in 'cookie'"),
        (PARAM + ("schema", "maxLength"), None, "needs maxLength"),
        (PARAM + ("schema", "format"), "ipv9", "format 'ipv9' is not known"),
        (PARAM + ("schema",), {"type": "object", "additionalProperties": False}, "be decoded"),
        (BODY + ("additionalProperties",), None, "needs additionalProperties: false"),
        (BODY + ("required",), ["y"], "'y' is not among the properties"),
        (BODY + ("oneOf",), [], "keyword 'oneOf' cannot be decoded"),
        (X + ("maxLength",), None, "needs maxLength"),
        (X + ("type",), ["string", "integer"], "cannot be decoded"),
        (X + ("enum",), [True], "put it in quotes"),
        (X + ("pattern",), "abc", "not anchored"),
        (X + ("pattern",), "^\\d+$", "do not share"),
        (X + ("pattern",), "^(?:a)$", "do not share"),
        (X + ("pattern",), "^[\\w]$", "do not share"),
        (X + ("pattern",), "^a*?$", "do not share"),
        (X + ("pattern",), "^($", "pattern"),
        (BODY + ("properties", "x"), {"type": "array", "items": {"type": "boolean"}}, "maxItems"),
        (BODY + ("properties", "x"), {"type": "array", "maxItems": 1}, "needs items"),
        (
            BODY + ("properties", "x"),
            {"type": "object", "additionalProperties": {"type": "boolean"}},
            "needs maxProperties",
        ),
        (BODY + ("properties", "x"), {"$ref": "#/components/schemas/No"}, "leads nowhere"),
        (BODY + ("properties", "x"), {"$ref": "other.yaml#/x"}, "is not #/components"),
        (("openapi",), "3.0.0", "not an OpenAPI 3.1"),
        (("security",), [], "'security' is not known at the top"),
        (("paths", "/a/{namespace}", "trace"), {}, "is not one of"),
        (("paths", "/a//b"), GOOD["paths"]["/a/{namespace}"], "empty segment"),
    ],
)
def test_refused(tmp_path, path, value, message):
    with pytest.raises(contract.ContractError, match=re.escape(message)):
        generate(tmp_path, changed(path, value))


def test_cycles_are_refused(tmp_path):
    doc = changed(X, {"$ref": "#/components/schemas/Loop"})
    doc["components"] = {
        "schemas": {
            "Loop": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"next": {"$ref": "#/components/schemas/Loop"}},
            }
        }
    }
    with pytest.raises(contract.ContractError, match="contains itself"):
        generate(tmp_path, doc)


def test_files_do_not_overlap(tmp_path):
    a = write(tmp_path, GOOD, "a.yaml")
    with pytest.raises(contract.ContractError, match="also in another file"):
        apigen.generate("1", [a, write(tmp_path, GOOD, "b.yaml")])
    other = changed(("paths",), {})
    other["components"] = {"schemas": {"Same": {"type": "string"}}}
    b, c = write(tmp_path, other, "b.yaml"), write(tmp_path, other, "c.yaml")
    with pytest.raises(contract.ContractError, match="components/schemas/Same is also"):
        apigen.generate("1", [b, c])


def test_same_path_under_two_names(tmp_path):
    doc = copy.deepcopy(GOOD)
    twin = json.loads(json.dumps(GOOD["paths"]["/a/{namespace}"]).replace("namespace", "ns"))
    twin["post"].update({"operationId": "b_make", "x-permission": "any"})
    doc["paths"]["/a/{ns}"] = twin
    with pytest.raises(contract.ContractError, match="is the same path as"):
        generate(tmp_path, doc)


@pytest.mark.parametrize("text", ["openapi: 3.1.0\nopenapi: 3.1.0\n", "a: [", "- x\n", "on: 1\n"])
def test_bad_yaml(tmp_path, capsys, text):
    out = str(tmp_path / "o.h")
    assert apigen.main(["1", out, out, write(tmp_path, text)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("apigen: ") and err.count("\n") == 1
    assert not os.path.exists(out)


def test_dates_stay_text(tmp_path):
    text = yaml.safe_dump(GOOD) + "tags:\n- {name: x, description: 2026-11-24}\n"
    assert contract.load(write(tmp_path, text))["tags"][0]["description"] == "2026-11-24"


def test_literals_come_first():
    doc = contract.unite([os.path.join(ROOT, "tests/unit/http/contract.yaml")], "1")
    paths = [op["path"] for op in contract.operations(doc)]
    assert paths.index("/api/v1/things/{namespace}/all") < paths.index(
        "/api/v1/things/{namespace}/{name}"
    )


def test_the_real_contract(tmp_path):
    """Same output twice, under the cap on size, and the document that C holds is the united one."""
    files = sorted(glob.glob(os.path.join(ROOT, "include/api/*.yaml")))
    h, c = apigen.generate("1.2.3", files)
    assert (h, c) == apigen.generate("1.2.3", list(reversed(files)))
    (tmp_path / "m.c").write_text(
        "#include <stdio.h>\n"
        + c[c.index("const char gen_openapi[]") : c.index("const size_t gen_openapi_len")]
        + "int main(void) { return fputs(gen_openapi, stdout) < 0; }\n"
    )
    exe = str(tmp_path / "m")
    subprocess.run(["gcc", "-o", exe, str(tmp_path / "m.c")], check=True)
    out = subprocess.run([exe], check=True, capture_output=True).stdout
    assert json.loads(out) == contract.unite(files, "1.2.3")


def test_generators_stay_small():
    lines = 0
    for path in glob.glob(os.path.join(ROOT, "lib/api/gen/*.py")):
        with open(path, encoding="utf-8") as f:
            lines += sum(1 for _ in f)
    assert lines <= 1500
