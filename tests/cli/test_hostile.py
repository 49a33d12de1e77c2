# SPDX-License-Identifier: Apache-2.0
"""What the command line makes of a server that lies, fails or is raced."""
import http.server
import json
import threading

import pytest

from support.cli import Person

EVIL = "\033[2J\u202egnp.exe\u0007\r\n\u200b"
SHOWN = "\\u{1B}[2J\\u{202E}gnp.exe\\u{7}\\u{D}\\n\\u{200B}"


class FakeServer(http.server.ThreadingHTTPServer):
    """Answers "METHOD /path" with what the test gave: a status and a document, or a list of such,
    one a request. Everything asked is in `asked`, with its If-Match."""

    def __init__(self, answers):
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers = answers
        self.asked = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do(self):
        what = f"{self.command} {self.path}"
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.server.answers.get(what.split("?")[0])
        if answer is None:  # the log that every command asks for
            answer = problem("not-found", 404)
        else:
            self.server.asked.append((what, self.headers.get("If-Match")))
        if isinstance(answer, list):
            answer = answer.pop(0)
        status, document = answer
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/problem+json" if status >= 400
                         else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        pass


@pytest.fixture
def fake(tmp_path):
    """fake({"GET /path": (200, {…})}): a server, and a person who talks to it."""
    made = []

    def make(answers):
        made.append(FakeServer(answers))
        return made[-1], Person(tmp_path / "home", made[-1].url, "mlt_any")

    yield make
    for one in made:
        one.shutdown()
        one.server_close()


def problem(slug, status, detail="no"):
    return status, {"type": f"urn:mlctl:error:{slug}", "title": "t", "status": status,
                    "detail": detail}


def version(**more):
    return {"ref": "a/b:1", "model": "a/b", "version": 1, "digest": "sha256:" + "1" * 64,
            "size": 5, "created": "2026-11-24T07:00:00.000Z", "author": {"id": "u1", "name": None},
            "status": "ready", "status_reason": None, "aliases": [],
            "lineage": {"dataset": [], "code": None, "run": None, "base": None}, "labels": {},
            "metrics": {}, "format": None, "parameters": None, "safety": "not_verified",
            "files": [], "metadata": {"format": None, "parameters": None, "precision": None,
                                      "architecture": None, "safety": "not_verified",
                                      "imports": [], "files": []},
            "card": False, "commit": "c" * 40, "leaf_hash": "d" * 64, "leaf_index": None,
            "manifest": "/x", **more}


VERSION = "GET /api/v1/models/a/b/versions/latest"


def clean(text):
    return all(c == "\n" or c.isprintable() for c in text)


def hostile_version():
    return version(
        ref=EVIL, aliases=[EVIL], author={"id": EVIL, "name": EVIL}, status_reason=EVIL,
        format=EVIL,
        lineage={"dataset": [EVIL], "code": EVIL, "run": EVIL, "base": EVIL}, labels={EVIL: EVIL},
        metrics={EVIL: 1}, commit=EVIL, status=EVIL, card=True,
        files=[{"path": EVIL, "size": 1, "digest": EVIL, "media_type": EVIL}],
        metadata={"precision": EVIL, "architecture": EVIL,
                  "imports": [{"name": EVIL, "allowed": False}],
                  "files": [{"path": EVIL, "dtypes": {EVIL: 1},
                             "first_tensors": [{"name": EVIL, "dtype": EVIL, "shape": [1]}]}]})


def test_text_from_others_is_escaped(fake):
    item = hostile_version()
    card = f"# {EVIL}\ntext {EVIL}".encode()
    _, person = fake({VERSION: (200, item), f"{VERSION}/card": (200, card),
                      "GET /api/v1/models/c/d/versions/latest": (200, version()),
                      "GET /api/v1/models/a/b/versions": (200, {"items": [item], "next": None}),
                      "GET /api/v1/models": (200, {"items": [{"model": EVIL}], "next": None})})
    shown = person.run("show", "a/b").stdout
    assert clean(shown) and shown.startswith(SHOWN + "  withdrawn\n")
    assert shown.count("\\u{202E}gnp.exe") >= 14
    for args in (["diff", "a/b", "c/d"], ["list", "a/b"], ["list"]):
        text = person.run(*args).stdout
        assert clean(text) and SHOWN in text, args
    for args in (["show", "a/b"], ["diff", "a/b", "c/d"]):
        for form in ("json", "yaml"):
            assert "\033" not in person.run(*args, "--output", form).stdout
    assert person.json("show", "a/b") == item


def test_secrets_and_warnings_are_escaped(fake):
    user = {"id": "u1", "name": EVIL, "kind": "person", "roles": [EVIL], "created": EVIL,
            "invite": EVIL, "token": EVIL}
    _, person = fake({"POST /api/v1/users": (201, user), "POST /api/v1/tokens": (201, user),
                      "GET /api/v1/users": (200, {"items": [user], "next": None}),
                      "GET /api/v1/keys": (200, [{"id": EVIL, "fingerprint": EVIL}]),
                      "GET /api/v1/whoami": (200, {"user": user, "warnings": [EVIL]})})
    for args in (["user", "add", "x"], ["token", "create"], ["user", "list"], ["key", "list"],
                 ["whoami"]):
        done = person.run(*args)
        assert clean(done.stdout) and clean(done.stderr) and SHOWN in done.stdout, args
    assert done.stderr == f"warning: {SHOWN}\n"


def test_refusals_are_escaped(fake):
    _, person = fake({VERSION: problem("not-found", 404, EVIL)})
    done = person.run("show", "a/b", status=1)
    assert clean(done.stderr) and "gnp.exe" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("reply", [b"", b"{", b"[1,", b"\xff\xfe", b'{"a":1,"a":2}', b"null", b"[]",
                                   b'"x"', b"{}"])
def test_replies_that_are_no_version(fake, reply):
    _, person = fake({VERSION: (200, reply)})
    for form in ("table", "json"):
        done = person.run("show", "a/b", "--output", form, status=None)
        assert done.returncode in (0, 1, 2, 5)
        assert clean(done.stdout)


@pytest.mark.parametrize("slug,status,code", [
    ("unauthenticated", 401, 2), ("forbidden", 403, 2), ("not-found", 404, 1), ("conflict", 409, 1),
    ("internal", 500, 5), ("unavailable", 503, 5), ("read-only", 503, 1)])
def test_exit_codes(fake, slug, status, code):
    _, person = fake({"POST /api/v1/models/a/b/versions/latest/status": problem(slug, status)})
    args = ["version", "withdraw", "a/b", "--reason", "x"]
    done = person.run(*args, status=code)
    assert done.stdout == "" and done.stderr == "mlctl: no\n"
    done = person.run(*args, "--output=json", status=code)
    assert done.stdout == "" and json.loads(done.stderr) == problem(slug, status)[1]


ALIAS = "/api/v1/models/a/b/aliases/x"


def alias(n):
    return 200, {"ref": "a/b:x", "model": "a/b", "alias": "x", "version": n,
                 "digest": "sha256:" + "1" * 64}


def test_alias_is_raced(fake):
    server, person = fake({f"GET {ALIAS}": [alias(1), alias(3)],
                           f"PUT {ALIAS}": problem("precondition-failed", 412)})
    done = person.run("alias", "set", "a/b:x", "2", status=1)
    assert done.stderr == ("mlctl: 'a/b:x' names version 3, not 1: it was moved meanwhile; decide "
                           "again, then say --if 3\n")
    assert server.asked[1] == (f"PUT {ALIAS}", '"1"')


def test_alias_is_made_meanwhile(fake):
    server, person = fake({f"GET {ALIAS}": [problem("not-found", 404), alias(3)],
                           f"PUT {ALIAS}": problem("precondition-required", 428)})
    done = person.run("alias", "set", "a/b:x", "2", status=1)
    assert done.stderr == ("mlctl: 'a/b:x' was made meanwhile and names version 3; decide again, "
                           "then say --if 3\n")
    assert server.asked[1] == (f"PUT {ALIAS}", None)


def test_pages_are_put_together(fake):
    pages = [(200, {"items": [version(version=n)], "next": f"c{n}/&=" if n > 1 else None})
             for n in (3, 2, 1)]
    server, person = fake({"GET /api/v1/models/a/b/versions": pages})
    assert [v["version"] for v in person.json("list", "a/b")] == [3, 2, 1]
    assert [what.split("cursor=")[1] for what, _ in server.asked[1:]] == ["c3%2F%26%3D",
                                                                        "c2%2F%26%3D"]


def test_the_token_stays_at_home(fake):
    """A redirect to another host is not followed with the token."""
    other, _ = fake({VERSION: (200, version())})
    _, person = fake({VERSION: (302, b"")})
    done = person.run("show", "a/b", status=None)
    assert done.returncode != 0 and other.asked == []
