# SPDX-License-Identifier: Apache-2.0
"""HTTP as the tests speak it: requests, a token, and a record of every exchange."""
import base64
import fcntl
import json
import os
import urllib.parse

import requests

MAX_BODY = 1 << 20  # recorded bytes per reply


def record(method, path, reply, body):
    """Appends one exchange as a JSON line to the file that MLC_RECORD names, when it is set."""
    target = os.environ.get("MLC_RECORD")
    if not target:
        return
    entry = {"method": method, "path": path, "status": reply.status_code,
             "type": reply.headers.get("Content-Type", "")}
    if body is not None and len(body) <= MAX_BODY:
        entry["body"] = base64.b64encode(body).decode("ascii")
    line = (json.dumps(entry) + "\n").encode("ascii")
    fd = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # several workers write, and lines may be long
        os.write(fd, line)
    finally:
        os.close(fd)


class Client(requests.Session):
    """Paths instead of URLs: client.get("/api/v1/…"). No environment proxies, no redirects."""

    def __init__(self, url, token=None, timeout=60):
        super().__init__()
        self.trust_env = False
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.token = token
        if token:
            self.headers["Authorization"] = f"Bearer {token}"

    def request(self, method, path, **kwargs):  # pylint: disable=arguments-differ
        kwargs.setdefault("timeout", self.timeout)
        kwargs.setdefault("allow_redirects", False)
        whole = not kwargs.pop("stream", False)
        reply = super().request(method, urllib.parse.urljoin(self.url + "/", path), stream=True,
                                **kwargs)
        if whole and reply.headers.get("Content-Type") == "text/event-stream":
            whole = False  # it never ends: who wants events asks for a stream
            reply.close()
        body = reply.content if whole else None
        record(method.upper(), urllib.parse.urlsplit(reply.url).path, reply, body)
        return reply

    def ok(self, method, path, **kwargs):
        """The decoded body of a reply that must be a success."""
        reply = self.request(method, path, **kwargs)
        assert reply.ok, f"{method} {path}: {reply.status_code} {reply.text[:2000]}"
        if "json" in reply.headers.get("Content-Type", ""):
            return reply.json()
        return reply.content

    def refused(self, status, method, path, **kwargs):
        """The problem document of a reply that must have this status."""
        reply = self.request(method, path, **kwargs)
        what = f"{method} {path}: {reply.status_code} {reply.text[:2000]}"
        assert reply.status_code == status, what
        assert reply.headers["Content-Type"] == "application/problem+json"
        problem = reply.json()
        assert problem["status"] == status
        return problem
