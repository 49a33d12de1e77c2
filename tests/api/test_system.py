# SPDX-License-Identifier: Apache-2.0
"""What every server says of itself: health, numbers, its contract, its keys, its log."""
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from support import process
from support.oci import Repository

ROOT = pathlib.Path(__file__).resolve().parents[2]
VALIDATOR = "openapi-spec-validator==0.7.2"


def test_health(server):
    client = server.client()
    assert client.ok("GET", "/healthz") == {"status": "ok"}
    assert client.ok("GET", "/readyz") == {"status": "ready"}
    for path in ("/healthz", "/readyz", "/openapi.json", "/log/vkey", "/keys/allowed_signers"):
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["Content-Length"]) == len(client.get(path).content) or \
            path == "/keys/allowed_signers"


def test_metrics(server, admin):
    assert server.client().get("/metrics").status_code == 401
    reply = admin.get("/metrics")
    assert reply.status_code == 200 and reply.headers["Content-Type"].startswith("text/plain")
    names = set()
    for line in reply.text.splitlines():
        if line.startswith("#"):
            assert re.match(r"# (HELP|TYPE) [a-z_:]+ ", line), line
        else:
            found = re.fullmatch(r'([a-z_:]+)(\{[a-z_]+="[^"\n]*"(,[a-z_]+="[^"\n]*")*\})? '
                                 r"([-+.eE0-9]+|NaN|[+-]Inf)", line)
            assert found, line
            names.add(found.group(1))
    assert len(names) > 3


def test_public(make_server):
    """--public opens the numbers and the entries of the log."""
    server = make_server(options=["--public"]).start()
    client = server.client()
    assert client.get("/metrics").status_code == 200
    process.wait_until(lambda: client.get("/log/checkpoint").status_code == 200, 20, "a checkpoint")
    size = int(client.get("/log/checkpoint").text.split("\n")[1])
    assert client.get(f"/log/tile/entries/000.p/{size}").status_code == 200
    assert client.get("/api/v1/users").status_code == 401
    server.stop()


def test_contract_is_served_whole(server):
    served = server.client().ok("GET", "/openapi.json")
    assert served["openapi"].startswith("3.1")
    from support.contract import Contract
    ours = Contract.load(ROOT / "include" / "api")
    assert set(served["paths"]) == set(ours.document["paths"])
    assert not re.search(r'"\$ref":"(?!#/)', json.dumps(served))


@pytest.mark.timeout(400)
def test_contract_is_openapi(server, tmp_path):
    """By the validator of others."""
    venv = ROOT / "build" / "openapi-venv"
    if not (venv / "ready").exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True, timeout=120,
                           capture_output=True)
            subprocess.run([venv / "bin" / "pip", "-q", "install", VALIDATOR], check=True,
                           timeout=200, capture_output=True)
        except (subprocess.SubprocessError, OSError) as e:
            pytest.skip(f"{VALIDATOR} cannot be installed here: {e}")
        (venv / "ready").touch()
    file = tmp_path / "openapi.json"
    file.write_bytes(server.client().get("/openapi.json").content)
    done = subprocess.run([venv / "bin" / "openapi-spec-validator", "--schema", "3.1.0", file],
                          capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_log(server, user):
    """Entries with their proofs, bundles, tiles and the state, as an auditor reads them."""
    auditor = user("auditor", "contributor@system")
    repo = Repository(auditor.http, "system/m" + os.urandom(4).hex())
    repo.push_model("champion", os.urandom(8))
    http = auditor.http

    def entry():
        found = http.ok("GET", "/api/v1/audit/entries", params={"model": repo.name,
                                                                "action": "version.create"})
        return found["items"] and found["items"][0]

    made = process.wait_until(entry, 20, "the version's entry")
    assert http.ok("GET", f"/api/v1/audit/entries?actor={auditor.id}&limit=1")["items"]
    proven = http.ok("GET", "/api/v1/audit/proof", params={"leaf_hash": made["leaf_hash"]},
                     headers={"Prefer": "wait=10"})
    assert proven["index"] == made["index"] and proven["proof"].startswith("c2sp.org/tlog-proof@v1")
    assert http.ok("GET", f"/api/v1/audit/entries/{made['index']}")["leaf"] == made["leaf"]
    size = int(http.get("/log/checkpoint").text.split("\n")[1])
    assert size > made["index"]
    width = min(size, 256)
    part = "000" if width == 256 else f"000.p/{width}"
    assert len(http.get(f"/log/tile/0/{part}").content) == 32 * width
    assert made["leaf"].encode() in http.get(f"/log/tile/entries/{part}").content or \
        made["index"] >= width
    lines = http.get("/api/v1/audit/state").text.splitlines()
    assert json.loads(lines[-1])["end"] is True
    assert f'"id":"{repo.name}:1"' in "\n".join(lines)
    http.refused(404, "GET", f"/api/v1/audit/entries/{10 ** 9}")
    http.refused(404, "GET", "/log/tile/5/000")


def test_public_keys(server):
    text = server.client().get("/keys/allowed_signers").text
    assert 'namespaces="git"' in text and "ssh-ed25519 " in text
    assert re.fullmatch(r"\S+\+[0-9a-f]{8}\+\S+\n", server.client().get("/log/vkey").text)
