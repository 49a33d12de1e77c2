# SPDX-License-Identifier: Apache-2.0
"""Unites include/api/*.yaml into one OpenAPI document, and checks what the build relies on."""

import copy
import os
import re

import yaml

METHODS = ("get", "put", "post", "patch", "delete")
ROLES = ("contributor", "evaluator", "approver", "operator", "auditor", "admin")
FORMATS = ("date-time", "sha256-digest", "namespace", "model-name", "alias", "user-name", "uuid")
OPERATION_KEYS = {
    "operationId",
    "summary",
    "description",
    "tags",
    "parameters",
    "requestBody",
    "responses",
    "security",
    "x-permission",
    "x-audit",
    "x-idempotent",
    "x-body",
    "x-body-max",
    "x-problem",
    "x-wait",
    "x-public",
}
PARAMETER_KEYS = {
    "name",
    "in",
    "required",
    "description",
    "schema",
    "style",
    "explode",
    "example",
    "x-rest",
}
SCHEMA_KEYS = {
    "type",
    "description",
    "title",
    "default",
    "example",
    "examples",
    "$comment",
    "enum",
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "x-raw",
}
JSON_BODY_MAX = 1 << 20
BODY_MAX = 1 << 62


class ContractError(Exception):
    pass


class Loader(yaml.SafeLoader):
    """YAML without dates, and without duplicate keys."""


def _mapping(loader, node):
    loader.flatten_mapping(node)
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if not isinstance(key, str):
            raise ContractError(f"line {key_node.start_mark.line + 1}: key {key!r} is not a string")
        if key in seen:
            raise ContractError(f"line {key_node.start_mark.line + 1}: '{key}' stands twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
Loader.yaml_implicit_resolvers = {
    first: [(tag, rx) for tag, rx in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(path):
    try:
        with open(path, encoding="utf-8") as f:
            doc = yaml.load(f, Loader)
    except yaml.YAMLError as e:
        raise ContractError(f"{path}: {str(e).replace(chr(10), ' ')}") from None
    except ContractError as e:
        raise ContractError(f"{path}: {e}") from None
    if not isinstance(doc, dict) or not str(doc.get("openapi", "")).startswith("3.1"):
        raise ContractError(f"{path}: is not an OpenAPI 3.1 document")
    unknown = set(doc) - {"openapi", "info", "paths", "components", "tags"}
    if unknown:
        raise ContractError(f"{path}: '{sorted(unknown)[0]}' is not known at the top")
    return doc


def unite(paths, version):
    """One document out of all files, in the order of their names."""
    united = {
        "openapi": "3.1.0",
        "info": {
            "title": "mlctl",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {},
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic"},
            }
        },
        "security": [{"token": []}, {"password": []}],
    }
    for path in sorted(paths, key=os.path.basename):
        doc = copy.deepcopy(load(path))
        for kind, members in (doc.get("components") or {}).items():
            have = united["components"].setdefault(kind, {})
            for name, value in (members or {}).items():
                if name in have:
                    raise ContractError(f"{path}: components/{kind}/{name} is also in another file")
                have[name] = value
        for template, item in (doc.get("paths") or {}).items():
            have = united["paths"].setdefault(template, {})
            for method, operation in item.items():
                if method in have:
                    raise ContractError(f"{path}: {method} {template} is also in another file")
                have[method] = operation
    return united


def resolve(doc, node, where):
    """Follows $ref; returns the node and the component's name, or None."""
    name, hops = None, 0
    while isinstance(node, dict) and "$ref" in node:
        ref = node["$ref"]
        parts = ref.split("/")
        if parts[:2] != ["#", "components"] or len(parts) != 4 or hops > 8:
            raise ContractError(f"{where}: $ref '{ref}' is not #/components/KIND/NAME")
        name, hops = parts[3], hops + 1
        node = doc["components"].get(parts[2], {}).get(name)
        if node is None:
            raise ContractError(f"{where}: $ref '{ref}' leads nowhere")
    if not isinstance(node, dict):
        raise ContractError(f"{where}: is not an object")
    return node, name


def check_refs(doc, node, where):
    if isinstance(node, dict):
        if "$ref" in node:
            resolve(doc, node, where)
        for key, value in node.items():
            check_refs(doc, value, where)
    elif isinstance(node, list):
        for value in node:
            check_refs(doc, value, where)


def check_pattern(pattern, where):
    """Only what POSIX extended and ECMAScript expressions read alike, and what is anchored."""
    if re.search(r"\\[^.\-/+*?()\[\]{}|^$\\]|\(\?|\[[^\]]*\\|[*+?}][?+]|\[:", pattern):
        raise ContractError(
            f"{where}: pattern {pattern} uses what POSIX and ECMAScript do not share"
        )
    if not (pattern.startswith("^") and pattern.endswith("$")):
        raise ContractError(f"{where}: pattern {pattern} is not anchored by ^ and $")
    if not pattern.isascii():
        raise ContractError(f"{where}: pattern is not ASCII")
    try:
        re.compile(pattern)
    except re.error as e:
        raise ContractError(f"{where}: pattern {pattern}: {e}") from None


def types(schema, where):
    """(type, nullable)"""
    kinds = schema.get("type")
    if schema.get("x-raw"):
        return "raw", False
    kinds = [kinds] if isinstance(kinds, str) else list(kinds or [])
    nullable = "null" in kinds
    kinds = [k for k in kinds if k != "null"]
    if len(kinds) != 1 or kinds[0] not in (
        "string",
        "integer",
        "number",
        "boolean",
        "object",
        "array",
    ):
        raise ContractError(f"{where}: type {schema.get('type')!r} cannot be decoded")
    if kinds[0] == "object" and isinstance(schema.get("additionalProperties"), dict):
        return "map", nullable
    return kinds[0], nullable


def need_limit(schema, key, where):
    value = schema.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0x7FFFFFFF:
        raise ContractError(f"{where}: needs {key}")


def check_schema(schema, where):
    """What a schema that is decoded must say; deeper schemas are checked by the caller."""
    unknown = set(schema) - SCHEMA_KEYS
    if unknown:
        raise ContractError(f"{where}: keyword '{sorted(unknown)[0]}' cannot be decoded")
    kind, _ = types(schema, where)
    if kind == "string":
        need_limit(schema, "maxLength", where)
        if schema.get("format") not in (None, *FORMATS):
            raise ContractError(f"{where}: format '{schema['format']}' is not known")
        if "pattern" in schema:
            check_pattern(schema["pattern"], where)
        if not all(isinstance(e, str) for e in schema.get("enum", [])):
            raise ContractError(f"{where}: enum holds what is not a string; put it in quotes")
    elif "enum" in schema or "pattern" in schema or "format" in schema:
        raise ContractError(f"{where}: enum, pattern and format are for strings")
    if kind == "array":
        need_limit(schema, "maxItems", where)
        if "items" not in schema:
            raise ContractError(f"{where}: needs items")
    if kind == "map":
        need_limit(schema, "maxProperties", where)
    if kind == "object":
        if schema.get("additionalProperties") is not False:
            raise ContractError(f"{where}: needs additionalProperties: false")
        for name in schema.get("required", []):
            if name not in schema.get("properties", {}):
                raise ContractError(
                    f"{where}: required member '{name}' is not among the properties"
                )
    return kind


def segments(template, where):
    if not template.startswith("/"):
        raise ContractError(f"{where}: path does not start with /")
    parts = template[1:].split("/")
    for part in parts:
        if not re.fullmatch(r"\{[A-Za-z][A-Za-z0-9_]*\}|[A-Za-z0-9._-]*", part):
            raise ContractError(f"{where}: segment '{part}' is neither text nor one {{parameter}}")
    if "" in parts[:-1]:
        raise ContractError(f"{where}: path has an empty segment")
    return parts


def permission(op, parameters, where):
    """(kind, roles) of x-permission, see README.md beside the contract."""
    p = op.get("x-permission")
    if p in ("open", "any"):
        return p, []
    if isinstance(p, dict) and set(p) == {"read"}:
        at, roles = p["read"], []
        kind = "read"
    elif isinstance(p, dict) and set(p) == {"roles", "namespace"}:
        at, roles = p["namespace"], p["roles"]
        kind = {"any": "some", "all": "all"}.get(at, "at")
        if not isinstance(roles, list) or not roles or not set(roles) <= set(ROLES):
            raise ContractError(f"{where}: x-permission names roles {roles!r}")
    else:
        raise ContractError(f"{where}: x-permission is {p!r}")
    if kind in ("read", "at"):
        if at not in ("path", "namespace"):
            raise ContractError(
                f"{where}: x-permission asks for namespace '{at}'; it is path, any or all"
            )
        if not any(q["in"] == "path" and q["name"] == "namespace" for q in parameters):
            raise ContractError(f"{where}: x-permission needs a path parameter 'namespace'")
    return kind, roles


def check_audit(op, where):
    audit = op.get("x-audit")
    if audit == "leaf":
        return True
    if (
        isinstance(audit, dict)
        and set(audit) == {"none"}
        and isinstance(audit["none"], str)
        and audit["none"]
    ):
        return False
    raise ContractError(f"{where}: x-audit is {audit!r}; it is leaf, or none with the reason")


def check_parameters(doc, item, op, template, where):
    found = []
    for node in list(item.get("parameters", [])) + list(op.get("parameters", [])):
        p, _ = resolve(doc, node, where)
        at = f"{where}: parameter '{p.get('name')}'"
        unknown = set(p) - PARAMETER_KEYS
        if unknown:
            raise ContractError(f"{at}: '{sorted(unknown)[0]}' is not known")
        if p.get("in") not in ("path", "query", "header") or not isinstance(p.get("name"), str):
            raise ContractError(f"{at}: is in {p.get('in')!r}")
        if any(q["name"] == p["name"] and q["in"] == p["in"] for q in found):
            raise ContractError(f"{at}: stands twice")
        if p["in"] == "path" and p.get("required") is not True:
            raise ContractError(f"{at}: path parameters are required")
        found.append(p)
    named = [s[1:-1] for s in segments(template, where) if s.startswith("{")]
    declared = [p["name"] for p in found if p["in"] == "path"]
    if sorted(named) != sorted(declared) or len(set(named)) != len(named):
        raise ContractError(f"{where}: path names {named}, parameters are {declared}")
    for p in found:
        if p.get("x-rest") and named[-1:] != [p["name"]]:
            raise ContractError(f"{where}: x-rest is for the last segment")
    return found


def body_of(doc, op, method, where):
    """{kind, required, max, schema, name}; schema only for JSON."""
    kind = op.get("x-body")
    body = op.get("requestBody")
    limit = op.get("x-body-max")
    if kind not in (None, "raw", "stream"):
        raise ContractError(f"{where}: x-body is {kind!r}")
    if limit is not None and (not isinstance(limit, int) or not 0 < limit <= BODY_MAX):
        raise ContractError(f"{where}: x-body-max is {limit!r}")
    if (kind or body) and method in ("get",):
        raise ContractError(f"{where}: a {method} has no body")
    if kind == "raw" and limit is None:
        raise ContractError(f"{where}: x-body raw needs x-body-max")
    if kind:
        return {"kind": kind, "required": False, "max": limit or BODY_MAX}
    if body is None:
        return {"kind": "none", "required": False, "max": 0}
    body, _ = resolve(doc, body, where)
    if set(body.get("content", {})) != {"application/json"}:
        raise ContractError(f"{where}: a decoded body is application/json alone")
    schema = body["content"]["application/json"].get("schema")
    return {
        "kind": "json",
        "required": bool(body.get("required")),
        "max": limit or JSON_BODY_MAX,
        "schema": schema,
    }


def operations(doc):
    """What the build needs of every operation; literals are sorted before parameters."""
    found, ids = [], set()
    for template, item in doc["paths"].items():
        for method, op in item.items():
            where = f"{method} {template}"
            if method == "parameters":
                continue
            if method not in METHODS or not isinstance(op, dict):
                raise ContractError(f"{where}: is not one of {', '.join(METHODS)}")
            unknown = set(op) - OPERATION_KEYS
            if unknown:
                raise ContractError(f"{where}: '{sorted(unknown)[0]}' is not known")
            name = op.get("operationId")
            if (
                not isinstance(name, str)
                or not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name)
                or name in ids
            ):
                raise ContractError(f"{where}: operationId {name!r} is not a new snake_case name")
            ids.add(name)
            if not op.get("responses"):
                raise ContractError(f"{where}: needs responses")
            parameters = check_parameters(doc, item, op, template, where)
            kind, roles = permission(op, parameters, where)
            if op.get("x-problem") not in (None, "oci"):
                raise ContractError(f"{where}: x-problem is {op['x-problem']!r}")
            idempotent = op.get("x-idempotent", False)
            if idempotent and (method != "post" or kind == "open" or op.get("x-body")):
                raise ContractError(
                    f"{where}: x-idempotent is for POSTs of a caller with a JSON body"
                )
            found.append(
                {
                    "id": name,
                    "method": method.upper(),
                    "path": template,
                    "where": where,
                    "segments": segments(template, where),
                    "parameters": parameters,
                    "permission": kind,
                    "roles": roles,
                    "public": bool(op.get("x-public")),
                    "audited": check_audit(op, where),
                    "idempotent": bool(idempotent),
                    "oci": op.get("x-problem") == "oci",
                    "waits": bool(op.get("x-wait")),
                    "body": body_of(doc, op, method, where),
                }
            )
    check_refs(doc, doc["paths"], "paths")
    check_refs(doc, doc["components"], "components")
    shapes = {}
    for op in found:
        shape = (op["method"], tuple("{}" if s.startswith("{") else s for s in op["segments"]))
        if shape in shapes:
            raise ContractError(f"{op['where']}: is the same path as {shapes[shape]}")
        shapes[shape] = op["where"]
    found.sort(key=lambda op: ([(s.startswith("{"), s) for s in op["segments"]], op["method"]))
    return found
