# SPDX-License-Identifier: Apache-2.0
"""A lying server is refused by name, by every command."""
import base64
import hashlib
import json

import pytest

from support.cli import Person, invite
from support.fake_server import LyingServer, Signer, root_of
from support.server import Directories, Server

TILE = r"^/log/tile/0/000\.p/"


class Scene:
    """A server with two versions and an alias, a liar before it, and who trusts its log."""

    def __init__(self, server, home):
        self.server = server
        self.author = invite(server, home / "author", "author", ["contributor", "auditor"])
        self.files = home / "m"
        self.files.mkdir()
        for content in ("first", "second"):
            (self.files / "model").write_text(content * 1000)
            self.author.run("push", "fraud/scorer", self.files)
        self.author.run("alias", "set", "fraud/scorer:champion", "2")
        (self.files / "model").write_text("third" * 1000)
        self.liar = LyingServer(server.url)
        self.signer = Signer(self.origin(), server.directory / "keys/server.key")
        self.victim = Person(home / "victim", self.liar.url, self.author.token)
        self.out = home / "out"

    def get(self, path):
        return self.author.http.ok("GET", path)

    def origin(self):
        return self.get("/log/checkpoint").decode().split("\n")[0]

    def checkpoint(self):
        """The published one, of a moment when the log stands still: (size, root, note)."""
        note = self.get("/log/checkpoint").decode()
        lines = note.split("\n")
        return int(lines[1]), base64.b64decode(lines[2]), note

    def trust(self):
        self.victim.run("audit", "trust")

    def refused(self, *args, says, status=1):
        done = self.victim.run(*args, status=status)
        what = done.stderr if args[:2] != ("audit", "verify") else done.stdout
        assert says in what, f"{args}: {done.stderr}{done.stdout}"
        assert not self.out.exists() or not any(
            p.is_file() for p in self.out.iterdir()), "no file appears"


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    directories = Directories()
    server = Server(directories.new()).start()
    try:
        one = Scene(server, tmp_path_factory.mktemp("lies"))
        yield one
        one.liar.close()
        server.stop()
    finally:
        server.kill()
        directories.remove()


@pytest.fixture
def told(scene, tmp_path):
    """The scene with nothing told yet, and a victim who knows the log."""
    scene.liar.honest()
    scene.victim = Person(tmp_path / "victim", scene.liar.url, scene.author.token)
    scene.out = tmp_path / "out"
    scene.trust()
    yield scene
    scene.liar.honest()


COMMANDS = [
    ["whoami"], ["user", "list"], ["user", "show", "author"], ["token", "list"], ["key", "list"],
    ["list"], ["list", "fraud"], ["show", "fraud/scorer:1"],
    ["diff", "fraud/scorer:1", "fraud/scorer:2"], ["alias", "history", "fraud/scorer:champion"],
    ["alias", "set", "fraud/scorer:champion", "1"],
    ["version", "deprecate", "fraud/scorer:1", "--reason", "x"],
    ["push", "fraud/scorer", "M"], ["pull", "fraud/scorer", "OUT"],
    ["pull", "fraud/scorer:champion", "OUT", "--verify"],
    ["audit", "log"], ["audit", "show", "0"], ["audit", "verify"], ["audit", "trust"],
    ["login", "URL", "--token-file", "TOKEN"],
]


def arguments(scene, command):
    token = scene.victim.home / "token"
    token.write_text(scene.author.token)
    places = {"M": scene.files, "OUT": scene.out, "URL": scene.liar.url, "TOKEN": token}
    return [places.get(a, a) for a in command]


def nothing_was_asked(scene, before):
    """Only the log itself was looked at: no token went to a place that lies, nothing was sent."""
    paths = {p for _, p in scene.liar.seen[before:]}
    assert all(p.startswith("/log/") for p in paths), paths


def each_command(scene, says):
    for command in COMMANDS:
        before = len(scene.liar.seen)
        scene.refused(*arguments(scene, command), says=says)
        nothing_was_asked(scene, before)


def test_another_key(told):
    other = Signer(told.signer.name)
    size, root, _ = told.checkpoint()
    told.liar.lie("GET", "^/log/vkey$", lambda r: r.say(other.vkey + "\n"))
    told.liar.lie("GET", "^/log/checkpoint$", lambda r: r.say(other.checkpoint(size, root)))
    each_command(told, "has another key than the pinned one")


def test_another_key_under_the_same_name_of_key(told):
    """The list of keys is the true one, but the checkpoint is signed by somebody else."""
    other = Signer(told.signer.name)
    size, root, _ = told.checkpoint()
    told.liar.lie("GET", "^/log/checkpoint$", lambda r: r.say(other.checkpoint(size, root)))
    each_command(told, "not signed by the pinned key")


def test_truncated_log(told):
    size, _, _ = told.checkpoint()
    hashes = [bytes.fromhex(told.get(f"/api/v1/audit/entries/{i}")["leaf_hash"])
              for i in range(size - 1)]
    short = told.signer.checkpoint(size - 1, root_of(hashes))
    told.liar.lie("GET", "^/log/checkpoint$", lambda r: r.say(short))
    each_command(told, "is shorter than the one seen before")


def test_no_log_any_more(told):
    told.liar.lie("GET", "^/log/checkpoint$", lambda r: r.say("{}", 404, "application/json"))
    each_command(told, "is shorter than the one seen before")


def test_forked_log_of_the_same_size(told):
    size, _, _ = told.checkpoint()
    forged = told.signer.checkpoint(size, hashlib.sha256(b"another history").digest())
    told.liar.lie("GET", "^/log/checkpoint$", lambda r: r.say(forged))
    each_command(told, "is forked")


def fork(told, keep_tile=False):
    """A longer log in which one old entry is another, signed with the server's own key."""
    size, _, _ = told.checkpoint()
    hashes = [bytes.fromhex(told.get(f"/api/v1/audit/entries/{i}")["leaf_hash"])
              for i in range(size)]
    hashes[1] = hashlib.sha256(b"\0another entry").digest()
    hashes += [hashlib.sha256(b"\0more").digest()] * 2
    assert len(hashes) < 256
    forged = told.signer.checkpoint(len(hashes), root_of(hashes))
    told.liar.lie("GET", "^/log/checkpoint$", lambda r: r.say(forged))
    if not keep_tile:
        told.liar.lie("GET", TILE, lambda r: r.say(b"".join(hashes)))


@pytest.mark.parametrize("keep_tile", [False, True])
def test_forked_log_that_grew(told, keep_tile):
    fork(told, keep_tile)
    each_command(told, "is forked")


def test_refusal_does_not_wear_off(told):
    fork(told)
    for _ in range(3):
        told.refused("list", says="is forked")
    told.liar.honest()
    told.victim.run("list")


def test_json_refusal(told):
    other = Signer(told.signer.name)
    told.liar.lie("GET", "^/log/vkey$", lambda r: r.say(other.vkey + "\n"))
    done = told.victim.run("show", "fraud/scorer:1", "--output", "json", status=1)
    problem = json.loads(done.stderr)
    assert done.stdout == "" and problem["type"] == "urn:mlctl:error:verification-failed"
    assert "another key" in problem["detail"]
    done = told.victim.run("audit", "verify", "--output", "json", status=1)
    assert json.loads(done.stdout)["ok"] is False and done.stderr == ""


# Lies about versions

def change(old, new):
    def lie(reply):
        assert old.encode() in reply.body
        reply.body = reply.body.replace(old.encode(), new.encode())
    return lie


def pull(told, ref="fraud/scorer:1"):
    return ["pull", ref, told.out, "--verify"]


def test_wrong_bytes(told):
    def flip(reply):
        reply.body = bytes([reply.body[0] ^ 1]) + reply.body[1:]
    told.liar.lie("GET", "/blobs/sha256:", flip)
    told.refused(*pull(told), says="sent other bytes")
    told.refused("pull", "fraud/scorer:1", told.out, says="sent other bytes")
    told.liar.honest()
    told.liar.lie("GET", "/blobs/sha256:", lambda r: setattr(r, "body", r.body + b"more"))
    told.refused("pull", "fraud/scorer:1", told.out, says="more than the")


def test_other_manifest(told):
    second = told.get("/api/v1/models/fraud/scorer/versions/2/manifest")
    second = second if isinstance(second, bytes) else json.dumps(second).encode()
    told.liar.lie("GET", "/manifests/", lambda r: r.say(second, 200, "application/json"))
    told.refused(*pull(told), says="sent other bytes")
    told.refused("pull", "fraud/scorer:1", told.out, says="sent other bytes")


def test_other_version_altogether(told):
    """Everything fits together, but it is not the version that was asked for."""
    second = json.dumps(told.get("/api/v1/models/fraud/scorer/versions/2"))
    told.liar.lie("GET", "/versions/1$", lambda r: r.say(second, 200, "application/json"))
    told.refused(*pull(told), says="another version")
    told.refused("pull", "fraud/scorer:1", told.out, says="another version")


def test_other_artifact_under_the_number(told):
    first = told.get("/api/v1/models/fraud/scorer/versions/1")
    second = told.get("/api/v1/models/fraud/scorer/versions/2")
    told.liar.lie("GET", "/versions/1$", change(first["digest"], second["digest"]))
    told.refused(*pull(told), says="the log says another digest")


def test_entry_of_something_else(told):
    first = told.get("/api/v1/models/fraud/scorer/versions/1")
    second = told.get("/api/v1/models/fraud/scorer/versions/2")
    told.liar.lie("GET", "/versions/1$", change(first["leaf_hash"], second["leaf_hash"]))
    told.refused(*pull(told), says="is about version 'fraud/scorer:2'")
    told.liar.honest()
    told.liar.lie("GET", "/versions/1$", change(first["leaf_hash"], "0" * 64))
    told.refused(*pull(told), says="log entry")


def test_invented_entry(told):
    first = told.get("/api/v1/models/fraud/scorer/versions/1")
    second = told.get("/api/v1/models/fraud/scorer/versions/2")
    told.liar.lie("GET", "/versions/1$", change(first["digest"], second["digest"]))
    entry = told.get(f"/api/v1/audit/proof?leaf_hash={first['leaf_hash']}")

    def invent(reply):
        leaf = json.loads(entry["leaf"])
        leaf["state"]["digest"] = second["digest"]
        canonical = json.dumps(leaf["state"], separators=(",", ":"), sort_keys=True)
        leaf["after"] = "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
        text = json.dumps(leaf, separators=(",", ":"), sort_keys=True)
        reply.say(json.dumps({**entry, "leaf": text}), 200, "application/json")

    told.liar.lie("GET", "^/api/v1/audit/proof", invent)
    told.refused(*pull(told), says="is not in the log")


def test_other_commit(told):
    second = told.get("/api/v1/models/fraud/scorer/versions/2/commit")
    told.liar.lie("GET", "/versions/1/commit", lambda r: r.say(second))
    told.refused(*pull(told), says="the server gave commit")
    told.liar.honest()
    told.liar.lie("GET", "/versions/1/commit", change("fraud/scorer:1", "fraud/scorer:7"))
    told.refused(*pull(told), says="the signature of commit")
    told.liar.honest()
    told.liar.lie("GET", "/versions/1/commit", lambda r: r.say(b"no commit"))
    told.refused(*pull(told), says="no git commit")


def test_other_alias(told):
    first = json.dumps(told.get("/api/v1/models/fraud/scorer/versions/1"))
    told.liar.lie("GET", "/versions/champion$", lambda r: r.say(first, 200, "application/json"))
    told.refused(*pull(told, "fraud/scorer:champion"), says="the log says another digest")


def test_swapped_key_list(told):
    other = Signer("somebody")
    told.liar.lie("GET", "^/keys/allowed_signers",
                  change(told.signer.ssh, other.ssh))
    told.refused(*pull(told), says="the key list")
    told.refused("audit", "verify", says="the key list")


def test_other_entry_shown(told):
    entry = told.get("/api/v1/audit/entries/2")
    told.liar.lie("GET", "^/api/v1/audit/entries/1$",
                  lambda r: r.say(json.dumps(entry), 200, "application/json"))
    told.refused("audit", "show", "1", says="another entry than the one asked for")
    told.liar.honest()
    told.liar.lie("GET", "^/api/v1/audit/entries/1$",
                  lambda r: r.say(json.dumps({**entry, "index": 1}), 200, "application/json"))
    told.refused("audit", "show", "1", says="is not in the log")


def failure(told, says):
    found = json.loads(told.victim.run("audit", "verify", "--output", "json", status=1).stdout)
    assert found["ok"] is False and says in found["what"], found
    return found["index"]


def test_verification_names_what_is_wrong(told):
    told.victim.run("audit", "verify")
    told.liar.lie("GET", "^/log/tile/entries/", change("model.create", "model.creatf"))
    assert failure(told, "") == next(
        e["index"] for e in told.get("/api/v1/audit/entries?action=model.create")["items"])
    told.liar.honest()
    granted = '{"id":"u0/admin@*","kind":"role","state":{"namespace":"*","role":"admin",' \
              '"user":"u0"}}\n'
    told.liar.lie("GET", "^/api/v1/audit/state", lambda r: setattr(
        r, "body", r.body.replace(b'{"kind":"alias"}\n',
                                  granted.encode() + b'{"kind":"alias"}\n')))
    failure(told, "u0/admin@*")
    told.liar.honest()
    told.liar.lie("GET", "^/api/v1/audit/state", change('"status":"ready"', '"status":"gone"'))
    failure(told, "fraud/scorer")
    told.liar.honest()
    told.liar.lie("GET", "/versions/2/commit", lambda r: r.say(b"", 404))
    failure(told, "the commit of fraud/scorer:2")


def test_excuse_that_never_comes_into_the_log(told):
    """A state that rests on an entry said to be pending."""
    entry = told.get("/api/v1/audit/entries?action=version.create")["items"][0]
    leaf = entry["leaf"].replace('"status":"ready"', '"status":"gone"')
    line = json.dumps({"leaf": leaf}, separators=(",", ":")) + "\n"

    def excuse(reply):
        head, rest = reply.body.split(b"\n", 1)
        head = json.dumps({**json.loads(head), "pending": 1}).encode()
        reply.body = head + b"\n" + line.encode() + rest

    told.liar.lie("GET", "^/api/v1/audit/state", excuse)
    failure(told, "an entry that is not in the log")


def test_first_contact_shows_the_fingerprint(scene, tmp_path):
    scene.liar.honest()
    stranger = Person(tmp_path / "stranger", scene.liar.url, scene.author.token)
    done = stranger.run("list")
    blob = base64.b64decode(scene.signer.ssh.split()[1])
    fingerprint = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    assert f"SHA256:{fingerprint}" in done.stderr and "first contact" in done.stderr
    assert stranger.run("list").stderr == ""
