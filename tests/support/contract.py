# SPDX-License-Identifier: Apache-2.0
"""The REST contract (include/api/*.yaml, OpenAPI 3.1) as one document, and its say on replies."""
import pathlib
import re

import jsonschema
import yaml

METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
JSON_TYPE = re.compile(r"application/(?:[a-z0-9.+-]+\+)?json\b")
BASE = "https://mlctl.invalid/contract"


class ContractError(Exception):
    """The contract itself is wrong."""


def merge(paths):
    """All paths, components, tags and x-members of these files, united; the same name twice is an
    error unless it says the same."""
    document = {}
    for path in sorted(map(pathlib.Path, paths)):
        part = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(part, dict):
            raise ContractError(f"{path}: is not a mapping")
        for name, value in part.items():
            _unite(document, name, value, path, 1 + (name == "components"))
    return document


def _unite(into, name, value, path, depth):
    if name not in into:
        into[name] = dict(value) if isinstance(value, dict) else value
        if depth > 1 and isinstance(value, dict):
            into[name] = {k: dict(v) if isinstance(v, dict) else v for k, v in value.items()}
    elif into[name] == value or name in ("info", "openapi"):
        pass
    elif depth and isinstance(into[name], dict) and isinstance(value, dict):
        for k, v in value.items():
            if depth == 1 and k in into[name] and into[name][k] != v:
                raise ContractError(f"{path}: {k!r} is also in another file, and differs")
            _unite(into[name], k, v, path, depth - 1)
    elif isinstance(value, list):
        into[name] = into[name] + [item for item in value if item not in into[name]]
    else:
        raise ContractError(f"{path}: {name!r} is also in another file, and differs")


class Operation:
    """One method of one path; `id` is its operationId or "METHOD path"."""

    def __init__(self, contract, path, method, spec):
        self.contract = contract
        self.path = path
        self.method = method.upper()
        self.spec = spec
        self.id = spec.get("operationId") or f"{self.method} {path}"
        # a parameter never spans "/", unless the contract says that it does (x-rest: true)
        many = {p["name"] for p in map(contract.resolve, spec.get("parameters", []))
                if p.get("x-rest")}
        pattern = "".join(
            re.escape(part) if not part.startswith("{")
            else "(.+)" if part[1:-1] in many else "([^/]+)"
            for part in re.split(r"(\{[^}]+\})", path))
        self.pattern = re.compile(pattern + r"\Z")
        self.fixed = len(re.sub(r"\{[^}]+\}", "", path))

    def response(self, status):
        responses = self.spec.get("responses", {})
        for key in (str(status), status, f"{str(status)[0]}XX", "default"):
            if key in responses:
                return self.contract.resolve(responses[key])
        return None

    def fulfilled(self, status):
        """Whether this is a success; where the contract has none (405 for now), what it has."""
        good = [code for code in map(str, self.spec.get("responses", {})) if code[0] in "23"]
        return 200 <= status < 400 if good else self.response(status) is not None

    def schema(self, status, content_type):
        """The JSON Schema of this reply, or None where the contract gives none."""
        response = self.response(status) or {}
        media = content_type.split(";")[0].strip().lower()
        return (response.get("content", {}).get(media) or {}).get("schema")


class Contract:
    """Contract(document): find(method, path) → Operation; problems(…) of one reply."""

    def __init__(self, document):
        self.document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}
        self.resolver = jsonschema.RefResolver(BASE, self.document)
        self.operations = []
        for path, item in (document.get("paths") or {}).items():
            shared = item.get("parameters", [])
            for method in METHODS:
                if method in item:
                    spec = dict(item[method])
                    spec["parameters"] = [*shared, *spec.get("parameters", [])]
                    self.operations.append(Operation(self, path, method, spec))
        # the most literal path wins: /users/me before /users/{id}
        self.operations.sort(key=lambda op: -op.fixed)

    @classmethod
    def load(cls, directory):
        return cls(merge(pathlib.Path(directory).glob("*.yaml")))

    def resolve(self, node):
        while isinstance(node, dict) and "$ref" in node:
            node = self.resolver.resolve(BASE + node["$ref"])[1]
        return node

    def find(self, method, path):
        for op in self.operations:
            if op.method == method and op.pattern.match(path):
                return op
        return None

    def violations(self, schema, instance):
        """Sentences, one per place where the instance does not match."""
        validator = jsonschema.Draft202012Validator(
            schema, resolver=self.resolver, format_checker=jsonschema.FormatChecker())
        return [f"{'/'.join(map(str, e.absolute_path)) or '(the whole)'}: {e.message[:300]}"
                for e in validator.iter_errors(instance)]
