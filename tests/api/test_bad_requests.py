# SPDX-License-Identifier: Apache-2.0
"""Hostile heads, entity tags, keys, cursors, ranges and names: refused precisely, never a 5xx."""
import base64
import itertools
import json
import os
import unicodedata

import pytest

from support import rawhttp
from support.oci import Repository, digest

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def person(server, tmp_path_factory):
    from support.cli import invite

    return invite(
        server,
        tmp_path_factory.mktemp("home"),
        "requests-" + os.urandom(4).hex(),
        ["contributor@requests", "admin", "auditor"],
    )


@pytest.fixture
def model(person):
    """A model with two versions; the alias "champion" names the second."""
    repo = Repository(person.http, f"requests/m{os.getpid()}-{next(_numbers)}")
    for _ in range(2):
        repo.push_model("champion", os.urandom(16))
    repo.api = f"/api/v1/models/{repo.name}"
    return repo


# --- heads ---


def head(*lines, end=b"\r\n\r\n", host=True):
    first, *rest = lines
    return b"\r\n".join([first, *([b"Host: x"] if host else []), *rest]) + end


LONG = b"a" * 300_000
HEADS = {
    "two lengths": (
        head(b"POST /api/v1/login HTTP/1.1", b"Content-Length: 2", b"Content-Length: 3") + b"{}x",
        (400,),
    ),
    "two lengths that agree": (
        head(b"POST /api/v1/login HTTP/1.1", b"Content-Length: 2", b"Content-Length: 2") + b"{}",
        (400,),
    ),
    "length and chunks": (
        head(b"POST /api/v1/login HTTP/1.1", b"Content-Length: 2", b"Transfer-Encoding: chunked")
        + b"0\r\n\r\n",
        (400,),
    ),
    "chunked twice": (
        head(
            b"POST /api/v1/login HTTP/1.1",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: chunked",
        )
        + b"0\r\n\r\n",
        (400,),
    ),
    "chunked and gzip": (
        head(b"POST /api/v1/login HTTP/1.1", b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
        (400,),
    ),
    "an unknown transfer coding": (
        head(b"POST /api/v1/login HTTP/1.1", b"Transfer-Encoding: x"),
        (400, 501),
    ),
    "a negative length": (head(b"POST /api/v1/login HTTP/1.1", b"Content-Length: -1"), (400,)),
    "a length with a sign": (
        head(b"POST /api/v1/login HTTP/1.1", b"Content-Length: +2") + b"{}",
        (400,),
    ),
    "a length in hex": (
        head(b"POST /api/v1/login HTTP/1.1", b"Content-Length: 0x2") + b"{}",
        (400,),
    ),
    "a huge length": (
        head(b"POST /api/v1/login HTTP/1.1", b"Content-Length: 99999999999999999999999"),
        (400, 413),
    ),
    "a length above the limit": (
        head(
            b"POST /api/v1/login HTTP/1.1",
            b"Content-Type: application/json",
            b"Content-Length: 9223372036854775807",
        ),
        (413,),
    ),
    "two hosts": (head(b"GET /healthz HTTP/1.1", b"Host: y"), (400,)),
    "no host": (head(b"GET /healthz HTTP/1.1", host=False), (400,)),
    "an absolute URI": (head(b"GET http://other/healthz HTTP/1.1"), (400,)),
    "an authority": (head(b"CONNECT other:443 HTTP/1.1"), (400, 405)),
    "an asterisk": (head(b"OPTIONS * HTTP/1.1"), (400, 404, 405)),
    "no slash": (head(b"GET healthz HTTP/1.1"), (400,)),
    "a fragment": (head(b"GET /healthz#x HTTP/1.1"), (400, 404)),
    "dots": (head(b"GET /api/../healthz HTTP/1.1"), (400, 404)),
    "escaped dots": (head(b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1"), (404,)),
    "two slashes": (head(b"GET //healthz HTTP/1.1"), (404,)),
    "a slash behind": (head(b"GET /healthz/ HTTP/1.1"), (404,)),
    "a backslash": (head(b"GET /..\\..\\etc HTTP/1.1"), (404,)),
    "NUL": (head(b"GET /healthz%00 HTTP/1.1"), (400,)),
    "a raw NUL": (head(b"GET /health\0z HTTP/1.1"), (400, 404)),
    "high bytes": (head(b"GET /\xff\xfe HTTP/1.1"), (400,)),
    "a long target": (head(b"GET /" + b"a" * 9000 + b" HTTP/1.1"), (431,)),
    "a very long target": (head(b"GET /" + LONG + b" HTTP/1.1"), (414, 431)),
    "a long query": (head(b"GET /healthz?" + b"a=1&" * 2500 + b" HTTP/1.1"), (400, 431)),
    "a long header": (head(b"GET /healthz HTTP/1.1", b"X: " + LONG), (413, 431)),
    "many headers": (
        head(b"GET /healthz HTTP/1.1", *[b"X%d: y" % i for i in range(20000)]),
        (413, 431),
    ),
    "a long method": (head(LONG + b" /healthz HTTP/1.1"), (400, 413, 414, 431)),
    "TRACE": (head(b"TRACE /healthz HTTP/1.1", b"Cookie: secret"), (405,)),
    "TRACK": (head(b"TRACK /api/v1/users HTTP/1.1"), (405,)),
    "an unknown method": (head(b"BREW /api/v1/users HTTP/1.1"), (405,)),
    "a method in lower case": (head(b"get /healthz HTTP/1.1"), (400, 405)),
    "PROPFIND": (head(b"PROPFIND /v2/ HTTP/1.1"), (405,)),
    "HTTP/3": (head(b"GET /healthz HTTP/3.0"), (400, 505)),
    "no version": (b"GET /healthz\r\n\r\n", (400, 505)),
    "a version of its own": (head(b"GET /healthz MLC/1.1"), (400, 505)),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200, (400, 505)),
    "binary": (bytes(range(256)) + b"\r\n\r\n", (400, 505)),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 404, 405, 505)),
    "a blank before the colon": (head(b"GET /healthz HTTP/1.1", b"Host : y"), (400,)),
    "a folded header": (head(b"GET /healthz HTTP/1.1", b"X: a", b" b"), (200, 400)),
    "a header without a colon": (head(b"GET /healthz HTTP/1.1", b"nonsense"), (400,)),
    "chunk size of letters": (
        head(
            b"POST /api/v1/login HTTP/1.1",
            b"Content-Type: application/json",
            b"Transfer-Encoding: chunked",
        )
        + b"zz\r\n{}\r\n0\r\n\r\n",
        (400,),
    ),
    "a negative chunk": (
        head(
            b"POST /api/v1/login HTTP/1.1",
            b"Content-Type: application/json",
            b"Transfer-Encoding: chunked",
        )
        + b"-2\r\n{}\r\n0\r\n\r\n",
        (400,),
    ),
    "a huge chunk": (
        head(
            b"POST /api/v1/login HTTP/1.1",
            b"Content-Type: application/json",
            b"Transfer-Encoding: chunked",
        )
        + b"fffffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        (400, 413),
    ),
    "a chunk without its end": (
        head(
            b"POST /api/v1/login HTTP/1.1",
            b"Content-Type: application/json",
            b"Transfer-Encoding: chunked",
        )
        + b"2\r\n{}xx0\r\n\r\n",
        (400,),
    ),
}
MAY_JUST_CUT = {
    "a long header",
    "a long query",
    "many headers",
    "a very long target",
    "a long method",
    "TLS",
    "binary",
    "HTTP/2",
    "no version",
    "a version of its own",
    "HTTP/3",
    "a chunk without its end",
    "chunk size of letters",
    "a negative chunk",
    "a huge chunk",
}


@pytest.mark.parametrize("name", HEADS)
def test_heads(server, name):
    data, statuses = HEADS[name]
    reply = rawhttp.exchange(server.url, data)
    if reply is None:
        assert name in MAY_JUST_CUT, "cut without an answer"
    else:
        assert reply.status in statuses, (reply.status, reply.body[:300])
        assert b"secret" not in reply.body
    assert server.client().get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "name, value",
    [
        ("Authorization", "Bearer"),
        ("Authorization", "Bearer  x"),
        ("Authorization", "Basic %%%"),
        ("Authorization", "Basic " + "A" * 5000),
        ("Authorization", "Digest x"),
        ("Authorization", "Bearer mlc_" + "\xff" * 43),
        ("Authorization", "Bearer mlc_\t"),
    ],
)
def test_credentials(server, name, value):
    reply = rawhttp.send(server.url, "GET", "/api/v1/whoami", headers={name: value})
    assert reply.status in (400, 401) and reply.type == "application/problem+json"


def test_a_second_request_does_not_hide_in_a_body(server, person):
    """What a proxy would take for one request must not be two here."""
    inner = (
        b"GET /api/v1/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
        + person.http.token.encode()
        + b"\r\n\r\n"
    )
    outer = (
        head(
            b"POST /api/v1/login HTTP/1.1",
            b"Content-Length: %d" % (len(inner) + 5),
            b"Transfer-Encoding: chunked",
        )
        + b"0\r\n\r\n"
        + inner
    )
    reply = rawhttp.exchange(server.url, outer)
    assert reply.status == 400 and reply.headers["Connection"] == "close"
    assert person.name.encode() not in reply.body


# --- entity tags ---


@pytest.mark.parametrize(
    "value, status",
    [
        (None, 428),
        ('"1"', 412),
        ('"3"', 412),
        ('"99999999999999999999"', 412),
        ('"x"', 412),
        ('"-2"', 412),
        ('"02"', 412),
        ('"2 "', 412),
        ('"1", "3"', 412),
        ('W/"2"', 412),
        ("2", 400),
        ('"2', 400),
        ('"', 400),
        ("", 400),
        ('"2";x', 400),
        ("**", 400),
        ('"2"x', 400),
    ],
)
def test_moving_an_alias_needs_its_tag(model, value, status):
    headers = {} if value is None else {"If-Match": value}
    reply = model.http.put(f"{model.api}/aliases/champion", json={"version": 1}, headers=headers)
    allowed = (status, 412) if status == 400 else (status,)
    assert reply.status_code in allowed, reply.text
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert model.http.ok("GET", f"{model.api}/aliases/champion")["version"] == 2


def test_if_match_star_and_lists(model):
    path = f"{model.api}/aliases/champion"
    put = model.http.put
    assert put(path, json={"version": 1}, headers={"If-Match": "*"}).status_code == 200
    assert put(path, json={"version": 2}, headers={"If-Match": '"7", "1"'}).status_code == 200
    assert (
        put(
            f"{model.api}/aliases/other", json={"version": 1}, headers={"If-Match": "*"}
        ).status_code
        == 412
    )
    assert model.http.delete(path, headers={"If-Match": '"1"'}).status_code == 412
    assert model.http.delete(path, headers={"If-Match": '"2"'}).status_code == 204
    assert put(path, json={"version": 1}, headers={"If-Match": '"2"'}).status_code == 412


def test_if_none_match(model):
    path = f"{model.api}/aliases/champion"
    tag = model.http.get(path).headers["ETag"]
    for value in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        assert model.http.get(path, headers={"If-None-Match": value}).status_code == 304
    for value in ('"x"', "x", '"', "", tag.strip('"')):
        assert model.http.get(path, headers={"If-None-Match": value}).status_code in (200, 400)


# --- idempotency keys ---


def test_idempotency_keys(person):
    body = {"name": f"idem-{os.urandom(4).hex()}"}
    for key in ("x" * 129, "", "a b", "a\tb", "é", "\x80", "x" * 5000):
        reply = rawhttp.send(
            person.http.url,
            "POST",
            "/api/v1/users",
            json.dumps(body).encode(),
            {
                "Authorization": f"Bearer {person.http.token}",
                "Content-Type": "application/json",
                "Idempotency-Key": key,
            },
        )
        assert reply.status == 400, (key, reply.body)
        assert reply.json()["errors"][0]["header"] == "Idempotency-Key"
    good = {"Idempotency-Key": "k" * 128}
    assert person.http.post("/api/v1/users", json=body, headers=good).status_code == 201
    again = person.http.post("/api/v1/users", json=body, headers=good)
    assert again.status_code == 201 and again.headers["Idempotency-Replayed"] == "true"
    other = {"name": f"idem-{os.urandom(4).hex()}"}
    problem = person.http.refused(409, "POST", "/api/v1/users", json=other, headers=good)
    assert problem["errors"][0]["header"] == "Idempotency-Key"
    person.http.refused(404, "GET", f"/api/v1/users/{other['name']}")
    # a key belongs to one operation of one person
    assert person.http.post("/api/v1/tokens", json={}, headers=good).status_code == 201


def test_a_refused_request_does_not_use_its_key_up(person):
    key = {"Idempotency-Key": os.urandom(8).hex()}
    person.http.refused(400, "POST", "/api/v1/users", json={"name": "UP"}, headers=key)
    name = f"idem-{os.urandom(4).hex()}"
    assert person.http.post("/api/v1/users", json={"name": name}, headers=key).status_code == 201


# --- cursors ---

LISTS = (
    "/api/v1/users",
    "/api/v1/models",
    "/api/v1/audit/entries",
    "/api/v1/versions?label=a",
    "{model}/versions",
    "{model}/aliases",
    "{model}/aliases/champion/history",
)


def page(model, path, cursor):
    path = path.format(model=model.api)
    return model.http.get(path, params={"cursor": cursor})


def cursors(model):
    found = {}
    for path in LISTS:
        reply = model.http.ok("GET", path.format(model=model.api), params={"limit": 1})
        if reply["next"]:
            found[path] = reply["next"]
    return found


def test_forged_cursors(model):
    found = cursors(model)
    assert {"/api/v1/users", "/api/v1/audit/entries", "{model}/versions"} <= set(found)
    some = next(iter(found.values()))
    forged = [
        some[:-1],
        some + "A",
        some[::-1],
        some.swapcase(),
        "x",
        "=",
        "e30",
        "../x",
        "%00",
        base64.urlsafe_b64encode(b'{"k":[1]}').decode(),
        base64.urlsafe_b64encode(b'{"k":["u"]}' + bytes(32)).decode(),
        "A" * 400,
    ]
    for path in LISTS:
        for cursor in forged:
            reply = page(model, path, cursor)
            assert reply.status_code == 400, (path, cursor, reply.text)
            assert reply.json()["errors"][0]["parameter"] == "query:cursor"


def test_cursors_of_another_list(model):
    """Refused, or at least no failure of ours: they carry only a place."""
    found = cursors(model)
    for path, (other, cursor) in itertools.product(LISTS, found.items()):
        reply = page(model, path, cursor)
        if path == other:
            assert reply.status_code == 200
        else:
            assert reply.status_code == 400, (path, other, reply.text)
            assert reply.json()["errors"][0]["parameter"] == "query:cursor"


# --- Prefer, Range ---


@pytest.mark.parametrize(
    "value, status",
    [
        ("wait=x", 400),
        ("wait=", 400),
        ("wait=-1", 400),
        ("wait=+1", 400),
        ("wait", 404),
        ("respond-async", 404),
        ("await=9", 404),
        ("wait=0", 404),
        ("respond-async, wait=1", 404),
        ("x" * 2000, 404),
    ],
)
def test_prefer(person, value, status):
    path = "/api/v1/audit/proof?leaf_hash=" + "0" * 64
    reply = person.http.get(path, headers={"Prefer": value})
    assert reply.status_code == status, reply.text
    if status == 400:
        assert reply.json()["errors"][0]["header"] == "Prefer"


@pytest.mark.parametrize(
    "value",
    [
        "bytes=",
        "bytes=-",
        "bytes=x-y",
        "bytes=5-2",
        "bytes=--5",
        "bytes=1",
        "bits=0-1",
        "0-1",
        "bytes=0-1,3-4",
        "bytes=0-0,0-0,0-0,0-0",
        "bytes=0x0-0x1",
        "bytes=-0",
        "bytes= 0-1",
        "bytes=99999999999999999999-",
        "bytes=0-99999999999999999999",
        "bytes=-99999999999999999999",
        "bytes=10-",
        "bytes=1 - 2",
        "bytes=0-1;q=1",
        "\xff",
    ],
)
def test_ranges(model, value):
    """A range that is none, or several, is the whole; one that begins after the end is 416."""
    data = b"0123456789"
    name = model.push(data)
    reply = rawhttp.send(
        model.http.url,
        "GET",
        f"{model.base}/blobs/{name}",
        headers={"Authorization": f"Bearer {model.http.token}", "Range": value},
    )
    assert reply.status in (200, 206, 416), reply.body
    if reply.status == 200:
        assert reply.body == data
    elif reply.status == 206:
        assert reply.body and reply.body in data
    else:
        assert reply.headers["Content-Range"] == "bytes */10"


def test_if_range(model):
    data = b"0123456789"
    name = model.push(data)
    tag = model.get(name).headers["ETag"]
    assert model.get(name, 206, **{"Range": "bytes=2-3", "If-Range": tag}).content == b"23"
    for value in (f"W/{tag}", '"x"', "x", "Tue, 24 Nov 2026 10:00:00 GMT", '"'):
        assert model.get(name, 200, **{"Range": "bytes=2-3", "If-Range": value}).content == data


# --- names ---

ODD = (
    "é",
    unicodedata.normalize("NFD", "é"),
    "\u202eevil",
    "a\u200db",
    "😀",
    "ａ",
    "ß",
    "İ",
    "ﬁ",
    "\ufeffa",
    "a\u00a0b",
    "\u2028",
    "аdmin",
    "../x",
    "a/b",
    "a b",
    "",
    " ",
    ".",
    "..",
    "con:",
    "-a",
)


@pytest.mark.parametrize("name", ODD)
def test_names_have_a_grammar(person, model, name):
    problem = person.http.refused(400, "POST", "/api/v1/users", json={"name": name})
    assert problem["errors"][0]["pointer"] == "/name"
    problem = person.http.refused(
        400, "POST", f"{model.api}/versions", json={"digest": digest(b"x"), "alias": name}
    )
    assert problem["errors"][0]["pointer"] == "/alias"
    problem = person.http.refused(
        400, "POST", f"/api/v1/users/{person.id}/roles", json={"role": f"approver@{name}"}
    )
    assert problem["errors"][0]["pointer"] == "/role"


@pytest.mark.parametrize("text", [x for x in ODD if x.strip()] + ["\x7f", "\u001b[31m", "\n", "\t"])
def test_texts_are_kept_as_they_are_or_refused(model, text):
    data = model.push_model("labelled", os.urandom(8))
    reply = model.http.post(
        f"{model.api}/versions", json={"digest": digest(data), "labels": {"note": text}}
    )
    assert reply.status_code in (200, 400), reply.text
    reply = model.http.post(
        f"{model.api}/versions/1/status", json={"status": "deprecated", "reason": text}
    )
    assert reply.status_code in (200, 400), reply.text
    if reply.status_code == 200:
        assert reply.json()["status_reason"] == text
        found = model.http.get(f"{model.api}/versions", params={"label": f"note={text}"})
        assert found.status_code in (200, 400)


@pytest.mark.parametrize(
    "body, pointer",
    [
        ({"labels": {"": "x"}}, "/labels/"),
        ({"labels": {"a" * 300: "x"}}, None),
        ({"labels": {"a b": "x"}}, "/labels/a b"),
        ({"labels": {"a=b": "x"}}, "/labels/a=b"),
        ({"labels": {"a\u200bb": "x"}}, None),
        ({"metrics": {"": 1}}, "/metrics/"),
        ({"metrics": {"\u202ea": 1}}, None),
        ({"metrics": {"a>b": 1}}, "/metrics/a>b"),
    ],
)
def test_keys_of_labels_and_metrics(model, body, pointer):
    data = model.push_model("labelled", os.urandom(8))
    before = model.http.ok("GET", f"{model.api}/versions")
    stored = json.loads(data)
    stored["annotations"] = {"other": os.urandom(4).hex()}
    other = json.dumps(stored).encode()
    model.put_manifest(digest(other), other)
    problem = model.http.refused(
        400, "POST", f"{model.api}/versions", json={"digest": digest(other), **body}
    )
    assert problem["errors"][0]["pointer"].startswith("/" + next(iter(body)))
    if pointer:
        assert problem["errors"][0]["pointer"] == pointer
    assert model.http.ok("GET", f"{model.api}/versions") == before
