# SPDX-License-Identifier: Apache-2.0
import base64
import http.server
import json
import threading

import pytest

from support.client import MAX_BODY, Client


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = 404 if self.path.startswith("/missing") else 200
        body = json.dumps({"status": status, "who": self.headers.get("Authorization")}).encode()
        body = b"x" * (MAX_BODY + 1) if self.path == "/big" else body
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status == 200
                         else "application/problem+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def url(monkeypatch):
    monkeypatch.delenv("MLC_RECORD", raising=False)  # this is no exchange with mlctld
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{one.server_port}"
        one.shutdown()


def test_exchanges_are_recorded(url, tmp_path, monkeypatch):
    record = tmp_path / "record"
    monkeypatch.setenv("MLC_RECORD", str(record))
    with Client(url, "secret") as client:
        assert client.ok("GET", "/a/b?c=d")["who"] == "Bearer secret"
        assert client.refused(404, "GET", "/missing")["status"] == 404
        client.get("/big")
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [(e["method"], e["path"], e["status"]) for e in lines] == [
        ("GET", "/a/b", 200), ("GET", "/missing", 404), ("GET", "/big", 200)]
    assert json.loads(base64.b64decode(lines[0]["body"]))["status"] == 200
    assert "body" not in lines[2]
    assert set(lines[0]) == {"method", "path", "status", "type", "body"}  # no request headers


def test_wrong_status_fails_the_test(url):
    with Client(url) as client:
        with pytest.raises(AssertionError, match="404"):
            client.ok("GET", "/missing")
        with pytest.raises(AssertionError, match="200"):
            client.refused(404, "GET", "/here")
