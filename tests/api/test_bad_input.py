# SPDX-License-Identifier: Apache-2.0
"""Every field and parameter of every operation, wrong in every way: refused by name, no trace."""
import gzip
import itertools
import json
import os
import pathlib
import re

import pytest

from support import rawhttp
from support.badvalues import bad_queries, bad_values, good
from support.cli import invite
from support.contract import Contract
from support.oci import Repository

CONTRACT = Contract.load(pathlib.Path(__file__).resolve().parents[2] / "include" / "api")
PROBLEM = CONTRACT.document["components"]["schemas"]["Problem"]
OCI_ERRORS = CONTRACT.document["components"]["schemas"]["OciErrors"]
ROLES = ("contributor", "evaluator", "operator", "auditor", "admin")
OPERATIONS = [pytest.param(op, id=op.id) for op in CONTRACT.operations]


def resolved(schema):
    """The schema without references."""
    schema = CONTRACT.resolve(schema)
    return {
        k: (
            resolved(v)
            if isinstance(v, dict)
            else (
                [resolved(x) if isinstance(x, dict) else x for x in v] if isinstance(v, list) else v
            )
        )
        for k, v in schema.items()
    }


class World:
    """A server with one model in it, and somebody who may do everything."""

    def __init__(self, server, home):
        self.url = server.url
        self.person = invite(server, home, "bad-" + os.urandom(4).hex(), ROLES)
        self.http = self.person.http
        self.token = self.person.http.token
        repo = Repository(self.http, "bad/model")
        repo.push_model("champion", b"weights " + os.urandom(8))
        self.target = invite(server, home / "target", "target-" + os.urandom(4).hex(), []).id
        self.blob = repo.push(b"bytes")
        self.path = {
            "namespace": "bad",
            "model": "model",
            "version": "1",
            "alias": "champion",
            "user": self.target,
            "role": "approver@bad",
            "token": "t" + "0" * 12,
            "key": "k" + "0" * 12,
            "index": "0",
            "level": "0",
            "path": "000",
            "digest": self.blob,
            "upload": "00000000-0000-4000-8000-000000000000",
            "reference": "champion",
            "evaluation": "sha256:" + "0" * 64,
            "kind": "Policy",
            "name": "none",
            "promotion": "p999999",
            "change": "c999999",
            "rollout": "r999999",
            "environment": "none",
        }

    def state(self):
        """All governed objects, and what of the log is not an anchor."""
        text = self.http.get("/api/v1/audit/state").text
        lines = [json.loads(line) for line in text.splitlines()]
        objects = [x for x in lines if "state" in x and x["kind"] not in ("log", "anchor")]
        newest = self.http.ok("GET", "/api/v1/audit/entries?limit=200")["items"]
        leaves = [x for x in newest if not x["action"].startswith(("anchor", "log."))]
        pending = [x for x in lines if "leaf" in x and '"anchor' not in x["leaf"]]
        return objects, leaves[:1], pending

    def target_of(self, op, **other):
        values = {**self.path, **other}
        return re.sub(r"\{([^}]+)\}", lambda m: values[m.group(1)], op.path)

    def headers(self, op, **other):
        headers = {"Authorization": f"Bearer {self.token}", **other}
        if op.id == "alias_set":
            headers["If-Match"] = '"1"'
        return headers


@pytest.fixture(scope="module")
def world(server, tmp_path_factory):
    return World(server, tmp_path_factory.mktemp("world"))


@pytest.fixture
def no_trace(world):
    before = world.state()
    yield
    assert world.state() == before


def is_refusal(op, reply):
    """Whether this is a precise 4xx in the form that belongs to the operation."""
    if reply is None or not 400 <= reply.status < 500:
        return False
    if op.method == "HEAD":
        return True
    oci = op.spec.get("x-problem") == "oci"
    if reply.type != ("application/json" if oci else "application/problem+json"):
        return False
    return not CONTRACT.violations(OCI_ERRORS if oci else PROBLEM, reply.json())


def named(reply, member):
    """What the refusal names: a pointer, a parameter or a header."""
    return [e.get(member) for e in reply.json().get("errors", [])]


class Complaints(list):
    def check(self, ok, what, reply):
        if not ok:
            self.append(f"{what}: {reply and (reply.status, reply.body[:300])}")


def body_schema(op):
    content = CONTRACT.resolve(op.spec.get("requestBody", {})).get("content", {})
    media = content.get("application/json")
    return resolved(media["schema"]) if media else None


def good_body(schema):
    body = {name: good(schema["properties"][name]) for name in schema.get("required", [])}
    if "digest" in body:
        body["digest"] = "sha256:" + "0" * 64
    return body


BODIES = [param for param in OPERATIONS if body_schema(param.values[0])]


@pytest.mark.parametrize("op", BODIES)
def test_members(world, op, no_trace):
    schema = body_schema(op)
    wrong = Complaints()
    cases = [
        ("missing", {k: v for k, v in good_body(schema).items() if k != name}, f"/{name}")
        for name in schema.get("required", [])
    ]
    for name, member in schema["properties"].items():
        cases += [
            (f"{name}: {what}", {**good_body(schema), name: value}, pointer)
            for what, value, pointer in bad_values(member, f"/{name}")
        ]
    for name, pointer in (("unknown", "/unknown"), ("a/b~c", "/a~1b~0c"), ("", "/"), ("é", "/é")):
        cases.append(("unknown member", {**good_body(schema), name: 1}, pointer))
    for what, body, pointer in cases:
        reply = rawhttp.send(
            world.url,
            op.method,
            world.target_of(op),
            json.dumps(body).encode(),
            world.headers(op, **{"Content-Type": "application/json"}),
        )
        wrong.check(
            is_refusal(op, reply) and reply.status == 400 and named(reply, "pointer") == [pointer],
            f"{what}, want {pointer}",
            reply,
        )
    assert not wrong, "\n".join(wrong)


def documents(schema):
    """(what, bytes) that are no JSON object of this kind."""
    fine = json.dumps(good_body(schema))
    name = next(iter(schema["properties"]))
    yield "empty", b""
    yield "blank", b"  \n"
    for text in ("{", "}", "[]", "null", '"text"', "7", "true", "nul", "{'a': 1}", "{a: 1}"):
        yield text, text.encode()
    yield "trailing garbage", fine.encode() + b"x"
    yield "two documents", (fine + fine).encode()
    yield "trailing comma", fine.encode()[:-1] + b",}"
    yield "a comment", b"/* x */" + fine.encode()
    yield "duplicate key", f'{{"{name}": 1, "{name}": 2, {fine[1:]}'.encode()
    yield "an escaped duplicate", f'{{"{name}": 1, "\\u{ord(name[0]):04x}{name[1:]}": 1}}'.encode()
    for deep in (
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 5000 + b"]" * 5000,
        f'{{"{name}":'.encode() + b"[" * 3000 + b"]" * 3000 + b"}",
    ):
        yield "deep nesting", deep
    for number in (
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        "1" * 400,
        "0x10",
        "01",
        "+1",
        ".5",
        "1.",
        "9223372036854775808",
        "1e",
    ):
        yield number[:20], f'{{"{name}": {number}}}'.encode()
    for text in (
        b"\xff",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"\0",
        b"\\u0000",
        b"\\ud800",
        b"\\udc00\\ud800",
        b"\\x41",
        b"\n",
        b"\\u12",
    ):
        yield f"text {text!r}", f'{{"{name}": "'.encode() + text + b'"}'
    yield "key with NUL", b'{"a\\u0000b": 1}'
    yield "byte order mark", b"\xef\xbb\xbf" + fine.encode()
    yield "UTF-16", fine.encode("utf-16")
    yield "gzip", gzip.compress(fine.encode())


@pytest.mark.parametrize("op", BODIES)
def test_documents(world, op, no_trace):
    wrong = Complaints()
    schema = body_schema(op)
    headers = world.headers(op, **{"Content-Type": "application/json"})
    for what, data in documents(schema):
        reply = rawhttp.send(world.url, op.method, world.target_of(op), data, headers)
        wrong.check(is_refusal(op, reply) and reply.status == 400, what, reply)
    reply = rawhttp.send(world.url, op.method, world.target_of(op), None, headers)
    wrong.check(is_refusal(op, reply) and reply.status == 400, "no body", reply)
    huge = b'{"a": "' + b"x" * (1 << 20) + b'"}'
    reply = rawhttp.send(world.url, op.method, world.target_of(op), huge, headers)
    wrong.check(is_refusal(op, reply) and reply.status == 413, "more than 1 MiB", reply)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("op", BODIES)
def test_content_types(world, op, no_trace):
    wrong = Complaints()
    data = json.dumps(good_body(body_schema(op))).encode()
    for kind in (
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "multipart/form-data; boundary=x",
        "json",
        "application/json/x",
        "\xff",
    ):
        headers = world.headers(op, **({} if kind is None else {"Content-Type": kind}))
        reply = rawhttp.send(world.url, op.method, world.target_of(op), data, headers)
        wrong.check(is_refusal(op, reply) and reply.status == 415, f"type {kind!r}", reply)
    for coding in ("gzip", "br", "deflate", "identity, gzip"):
        headers = world.headers(
            op, **{"Content-Type": "application/json", "Content-Encoding": coding}
        )
        reply = rawhttp.send(world.url, op.method, world.target_of(op), data, headers)
        wrong.check(is_refusal(op, reply) and reply.status == 415, f"coding {coding}", reply)
    assert not wrong, "\n".join(wrong)


def parameters(op, place):
    for p in map(CONTRACT.resolve, op.spec["parameters"]):
        if p["in"] == place:
            yield p["name"], resolved(p["schema"])


def needed_query(op):
    return [
        f"{p['name']}={good(resolved(p['schema']))}"
        for p in map(CONTRACT.resolve, op.spec["parameters"])
        if p["in"] == "query" and p.get("required")
    ]


def body_for(op):
    schema = body_schema(op)
    return json.dumps(good_body(schema)).encode() if schema else None


@pytest.mark.parametrize("op", OPERATIONS)
def test_query(world, op, no_trace):
    wrong = Complaints()
    oci = op.spec.get("x-problem") == "oci"
    headers = world.headers(op, **({"Content-Type": "application/json"} if body_for(op) else {}))
    cases = []
    for name, schema in parameters(op, "query"):
        others = [q for q in needed_query(op) if not q.startswith(name + "=")]
        bad = [(what, [f"{name}={text}"]) for what, text in bad_queries(schema)]
        bad.append(("twice", [f"{name}={good(schema)}"] * 2))
        cases += [(f"{name}: {what}", others + query, f"query:{name}", what) for what, query in bad]
    if not oci:
        cases += [
            ("unknown", [*needed_query(op), "no_such=1"], "query:no_such", ""),
            ("unknown, empty", [*needed_query(op), "=x"], "query:", ""),
        ]
    cases += [("too many", [*needed_query(op), *(f"q{i}=1" for i in range(500))], None, "")]
    for what, query, field, why in cases:
        target = world.target_of(op) + "?" + "&".join(query)
        reply = rawhttp.send(world.url, op.method, target, body_for(op), headers)
        ok = is_refusal(op, reply) and reply.status == (431 if len(target) > 8192 else 400)
        # what does not even decode is refused before there are parameters
        if ok and not oci and field and "%" not in query[-1]:
            ok = named(reply, "parameter") == [field]
        wrong.check(ok, f"{what} ({field})", reply)
        assert reply is None or "X-Injected" not in reply.headers, why
    for missing in needed_query(op):
        name = missing.split("=")[0]
        rest = "&".join(q for q in needed_query(op) if q != missing)
        target = world.target_of(op) + ("?" + rest if rest else "")
        reply = rawhttp.send(world.url, op.method, target, body_for(op), headers)
        wrong.check(
            is_refusal(op, reply) and named(reply, "parameter") == [f"query:{name}"],
            f"{name} is missing",
            reply,
        )
    assert not wrong, "\n".join(wrong)


EVERYWHERE = (
    "..",
    ".",
    "%2e%2e",
    "%2e",
    "%2f",
    "..%2f..%2fetc%2fpasswd",
    "%5c..%5c",
    "%252e%252e",
    "%00",
    "%20",
    "%ff",
    "%c0%ae%c0%ae",
    "%0d%0aSet-Cookie:x=1",
    "%e2%80%ae",
    "x" * 600,
    "%f0%9f%98%80",
    "%7f",
    "%",
    "%1",
    "*",
    "~root",
    "$(id)",
    "';--",
    "%27%3b--",
    "{{7*7}}",
    "%25s%25n",
    "-1",
    "99999999999999999999",
    "con",
    "%EF%BB%BF",
    "",
)


NAMES = ("-1", "con", "99999999999999999999")  # names like others, in some places


@pytest.mark.parametrize("op", [p for p in OPERATIONS if "{" in p.values[0].path])
def test_path(world, op, no_trace):
    wrong = Complaints()
    headers = world.headers(op, **({"Content-Type": "application/json"} if body_for(op) else {}))
    query = "&".join(needed_query(op))
    for name, schema in parameters(op, "path"):
        listed = [text for _, text in bad_queries(schema)]
        for text in itertools.chain(EVERYWHERE, listed):
            target = world.target_of(op, **{name: text}) + (f"?{query}" if query else "")
            reply = rawhttp.send(world.url, op.method, target, body_for(op), headers)
            if text == "" and reply is not None and reply.status < 500:
                continue  # another path: /v2/…/blobs/uploads/ for instance
            ok = reply is not None and 400 <= reply.status < 500
            if text in NAMES and name in ("namespace", "model", "alias"):
                ok = (
                    reply is not None
                    and reply.status < 500
                    and (op.method == "GET" or op.id == "oci_upload_start")
                    or ok
                )
            if op.id == "oci_referrers" and reply is not None and reply.status == 200:
                ok = reply.json()["manifests"] == []
            wrong.check(ok, f"{name}={text!r}", reply)
            assert reply is None or "Set-Cookie" not in reply.headers
            if ok and reply.status >= 400:
                wrong.check(is_refusal(op, reply), f"{name}={text!r}", reply)
    assert not wrong, "\n".join(wrong)


def test_paths_are_refused_by_name(world):
    for target, field in (
        ("/api/v1/models/UP/model", "path:namespace"),
        ("/api/v1/models/bad/UP", "path:model"),
        ("/api/v1/models/bad/model/aliases/v1", "path:alias"),
        ("/api/v1/audit/entries/x", "path:index"),
        ("/api/v1/audit/entries/-1", "path:index"),
    ):
        reply = rawhttp.send(
            world.url, "GET", target, headers={"Authorization": f"Bearer {world.token}"}
        )
        assert reply.status == 400 and named(reply, "parameter") == [field], (target, reply.body)


@pytest.mark.parametrize("op", [p for p in OPERATIONS if p.values[0].method in ("GET", "DELETE")])
def test_bodies_nobody_asked_for(world, op, no_trace):
    """Refused, also where the operation would otherwise work."""
    target = world.target_of(op) + "".join("?" + q for q in needed_query(op))
    for headers in ({}, {"Content-Type": "application/json"}):
        headers = world.headers(op, **headers)
        reply = rawhttp.send(world.url, op.method, target, b'{"a": 1}', headers)
        assert is_refusal(op, reply), reply and reply.body
