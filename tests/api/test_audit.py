# SPDX-License-Identifier: Apache-2.0
"""The log over HTTP: entries, proofs, tiles, state; and what another implementation says of it."""
import base64
import hashlib
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import time

import pytest

from support.process import wait_until

TLOGCHECK = pathlib.Path(__file__).resolve().parents[1] / "support" / "tlogcheck" / "main.go"
SUMDB = pathlib.Path("/usr/share/gocode/src/golang.org/x/mod/sumdb")
GO = shutil.which("go", path="/usr/lib/go-1.19/bin:" + os.environ["PATH"])


@pytest.fixture
def auditor(user):
    return user("auditor").http


def leaf_hash(leaf):
    return hashlib.sha256(b"\0" + leaf).digest()


def checkpoint(client):
    text = client.ok("GET", "/log/checkpoint").decode()
    origin, size, root = text.split("\n")[:3]
    return text, origin, int(size), base64.b64decode(root)


def tile_path(index, width):
    groups = [f"{index % 1000:03}"]
    while index >= 1000:
        index //= 1000
        groups.insert(0, f"x{index % 1000:03}")
    return "/".join(groups) + (f".p/{width}" if width < 256 else "")


def entries(client, size):
    """All leaves, from the bundles."""
    leaves = []
    for index in range((size + 255) // 256):
        width = min(256, size - index * 256)
        data = client.ok("GET", f"/log/tile/entries/{tile_path(index, width)}")
        while data:
            (length,) = struct.unpack(">H", data[:2])
            leaves.append(data[2:2 + length])
            data = data[2 + length:]
    assert len(leaves) == size
    return leaves


def covered(client, hash_hex):
    """The entry with this leaf hash once it is under the published checkpoint."""
    entry = client.ok("GET", f"/api/v1/audit/proof?leaf_hash={hash_hex}",
                      headers={"Prefer": "wait=10"})
    assert entry["proof"] is not None
    return entry


def sequenced(client, query):
    """The entries that this query finds, once there are some."""
    path = f"/api/v1/audit/entries?{query}"
    return wait_until(lambda: client.ok("GET", path)["items"], 10, "it is sequenced")


def parse_proof(text):
    head, _, note = text.partition("\n\n")
    lines = head.split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1].startswith("index ")
    return int(lines[1][6:]), [base64.b64decode(line) for line in lines[2:]], note


def inclusion_root(index, size, leaf, path):
    """RFC 9162 section 2.1.3.2, written down once more."""
    fn, sn, r = index, size - 1, leaf
    for p in path:
        assert sn > 0
        if fn & 1 or fn == sn:
            r = hashlib.sha256(b"\1" + p + r).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = hashlib.sha256(b"\1" + r + p).digest()
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0
    return r


def test_a_change_is_an_entry_with_a_proof(server, admin, auditor, user):
    person = user("contributor@auditns")
    found = sequenced(auditor, f"kind=user&id={person.id}")
    assert [e["action"] for e in found] == ["user.create"]
    entry = covered(auditor, found[0]["leaf_hash"])
    assert entry["index"] == found[0]["index"]
    leaf = json.loads(entry["leaf"])
    assert leaf["type"] == "urn:mlctl:leaf:v1" and leaf["id"] == person.id
    assert leaf["before"] is None
    assert leaf["actor"] == admin.ok("GET", "/api/v1/whoami")["user"]["id"] == entry["actor"]
    canonical = json.dumps(leaf["state"], sort_keys=True, separators=(",", ":"))
    assert leaf["after"] == "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
    assert person.name not in entry["leaf"]  # names are commitments
    index, path, note = parse_proof(entry["proof"])
    _, size, root = note.split("\n")[:3]
    digest = leaf_hash(entry["leaf"].encode())
    assert digest.hex() == entry["leaf_hash"] and index == entry["index"]
    assert inclusion_root(index, int(size), digest, path) == base64.b64decode(root)
    assert auditor.ok("GET", f"/api/v1/audit/entries/{index}")["leaf"] == entry["leaf"]
    vkey = server.client().ok("GET", "/log/vkey").decode()
    assert vkey.split("+")[0] == note.split("\n")[0] == leaf["log"]


def test_filters_and_pages(auditor, admin, user):
    people = [user("contributor@pages") for _ in range(3)]
    me = admin.ok("GET", "/api/v1/whoami")["user"]["id"]
    sequenced(auditor, f"id={people[2].id}")

    def pages(query, limit):
        items, cursor = [], ""
        while cursor is not None:
            page = auditor.ok("GET", f"/api/v1/audit/entries?{query}&limit={limit}{cursor}")
            assert len(page["items"]) <= limit
            items += page["items"]
            cursor = page["next"] and "&cursor=" + page["next"]
        return items

    created = pages(f"action=user.create&actor={me}", 2)
    ids = [e["id"] for e in created]
    assert [i for i in ids if i in {p.id for p in people}] == [p.id for p in reversed(people)]
    indexes = [e["index"] for e in created]
    assert indexes == sorted(set(indexes), reverse=True)
    assert all(e["kind"] == "role" for e in pages("kind=role", 1000))
    middle = created[len(created) // 2]["time"]
    assert all(e["time"] >= middle for e in pages(f"since={middle}", 1000))
    assert all(e["time"] < middle for e in pages(f"until={middle}", 1000))
    assert pages("model=nobody/nothing", 10) == []
    auditor.refused(400, "GET", "/api/v1/audit/entries?cursor=forged")
    auditor.refused(400, "GET", "/api/v1/audit/entries?since=yesterday")
    auditor.refused(400, "GET", "/api/v1/audit/entries?limit=0")


def test_others_see_only_models_of_theirs(auditor, user):
    person = user("contributor@elsewhere")
    found = sequenced(auditor, f"id={person.id}")
    assert person.http.ok("GET", f"/api/v1/audit/entries?id={person.id}")["items"] == []
    person.http.refused(404, "GET", f"/api/v1/audit/entries/{found[0]['index']}")
    person.http.refused(404, "GET", f"/api/v1/audit/proof?leaf_hash={found[0]['leaf_hash']}")
    (role,) = person.http.ok("GET", f"/api/v1/audit/entries?kind=role&id={person.id}"
                             "/contributor@elsewhere")["items"]
    assert person.http.ok("GET", f"/api/v1/audit/proof?leaf_hash={role['leaf_hash']}")["leaf"]
    person.http.refused(403, "GET", "/api/v1/audit/state")
    person.http.refused(403, "GET", "/log/tile/entries/000")


def test_what_is_not_there(auditor):
    auditor.refused(404, "GET", "/api/v1/audit/entries/9007199254740991")
    auditor.refused(400, "GET", "/api/v1/audit/entries/-1")
    auditor.refused(404, "GET", "/api/v1/audit/proof?leaf_hash=" + "0" * 64)
    auditor.refused(400, "GET", "/api/v1/audit/proof?leaf_hash=xyz")
    auditor.refused(404, "GET", "/log/tile/0/x999/x999/999")
    for path in ("0/00", "0/x000/001", "0/000.p/0", "0/000.p/256", "0/../000", "64/000", "00/000"):
        assert auditor.get(f"/log/tile/{path}").status_code in (400, 404), path


def test_the_state_is_complete_and_of_one_moment(auditor, user):
    person = user("evaluator@state")
    lines = [json.loads(x) for x in auditor.get("/api/v1/audit/state").text.splitlines()]
    head, end = lines[0], lines[-1]
    waiting = lines[1:1 + head["pending"]]
    objects = [x for x in lines if "id" in x]
    assert end == {"end": True, "objects": len(objects)}
    assert all(set(x) == {"leaf"} for x in waiting)
    assert {"kind": "role", "id": f"{person.id}/evaluator@state",
            "state": {"user": person.id, "role": "evaluator", "namespace": "state"}} in objects
    assert {"log", "anchor", "user", "role", "token", "key", "model", "version", "alias"} <= {
        x["kind"] for x in lines if set(x) == {"kind"}}


def test_allowed_signers_name_keys_and_purposes(server, user):
    person = user("approver")
    person.run("key", "add", str(person.key()) + ".pub")
    lines = server.client().ok("GET", "/keys/allowed_signers").decode().splitlines()
    assert any(x.startswith("signer-") and 'namespaces="git" ssh-ed25519 ' in x for x in lines)
    assert any(x.startswith(f'{person.id} namespaces="approval@mlctl" ssh-ed25519 ') for x in lines)


def keygen_verify(directory, who, at):
    done = subprocess.run(
        ["ssh-keygen", "-Y", "verify", "-f", directory / "signers", "-I", who, "-n",
         "approval@mlctl", "-O", f"verify-time={at}", "-s", directory / "message.sig"],
        input=b"message", capture_output=True, check=False)
    return done.returncode == 0


def test_a_revoked_key_stays_with_its_end(server, user, tmp_path):
    person = user("approver")
    key = person.key()
    person.run("key", "add", f"{key}.pub")
    (tmp_path / "message").write_bytes(b"message")
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "approval@mlctl",
                    tmp_path / "message"], check=True)
    before = time.strftime("%Y%m%d%H%M%SZ", time.gmtime())
    (listed,) = person.json("key", "list")
    person.run("key", "revoke", listed["id"])
    for _ in range(2):  # its leaf waits for the sequencer, then is in the log
        text = server.client().ok("GET", "/keys/allowed_signers")
        (tmp_path / "signers").write_bytes(text)
        (line,) = [x for x in text.decode().splitlines() if x.startswith(person.id)]
        end = re.fullmatch(person.id + r' namespaces="approval@mlctl",valid-before="(\d{14}Z)" '
                           r'ssh-ed25519 \S+', line).group(1)
        assert before <= end <= time.strftime("%Y%m%d%H%M%SZ", time.gmtime())
        assert keygen_verify(tmp_path, person.id, before)
        after = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 60))
        assert not keygen_verify(tmp_path, person.id, after)
        time.sleep(0.5)


@pytest.mark.skipif(GO is None or not SUMDB.exists(),
                    reason="Debian's golang-go and golang-golang-x-mod-dev are not installed")
def test_another_implementation_agrees(server, auditor, user, tmp_path):
    first = checkpoint(auditor)
    for _ in range(3):
        user("contributor@golang")
    wait_until(lambda: checkpoint(auditor)[2] > first[2], 10, "a later checkpoint")
    note, _, size, _ = checkpoint(auditor)
    proofs = []
    for index in {0, 1, first[2] - 1, size // 2, size - 1}:
        at, path, of = parse_proof(auditor.ok("GET", f"/api/v1/audit/entries/{index}")["proof"])
        assert at == index
        if of == note:
            proofs.append({"Index": index, "Hashes": [base64.b64encode(h).decode() for h in path]})
    document = {"Vkey": server.client().ok("GET", "/log/vkey").decode().split("\n")[0],
                "Checkpoints": [first[0], note], "Proofs": proofs,
                "Leaves": [base64.b64encode(x).decode() for x in entries(auditor, size)]}
    env = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "",
           "GOCACHE": str(tmp_path / "cache")}
    program = tmp_path / "tlogcheck"
    subprocess.run([GO, "build", "-o", program, TLOGCHECK], env=env, check=True, timeout=300)

    def run(doc):
        return subprocess.run([program], input=json.dumps(doc), text=True, capture_output=True,
                              check=False)

    done = run(document)
    assert done.returncode == 0, done.stderr
    assert f"{size} entries, 2 checkpoints" in done.stdout
    document["Leaves"][size // 3] = base64.b64encode(b"{}").decode()
    assert run(document).returncode == 1
