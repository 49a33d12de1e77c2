# SPDX-License-Identifier: Apache-2.0
"""HTTP byte for byte: what a client library would refuse to send or would tidy up first."""
import http.client
import json
import socket
import urllib.parse


class Reply:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body
        self.type = headers.get("Content-Type", "").split(";")[0]

    def json(self):
        return json.loads(self.body)


def send(url, method, target, body=None, headers=(), timeout=30):
    """One request on a connection of its own; the target goes out as it is given (str or bytes)."""
    at = urllib.parse.urlsplit(url)
    target = target.encode("latin-1") if isinstance(target, str) else target
    lines = [method.encode() + b" " + target + b" HTTP/1.1", b"Host: " + at.netloc.encode(),
             b"Connection: close"]
    for name, value in dict(headers).items():
        value = value.encode("latin-1") if isinstance(value, str) else value
        lines.append(name.encode() + b": " + value)
    if body is not None:
        lines.append(b"Content-Length: " + str(len(body)).encode())
    return exchange(url, b"\r\n".join(lines) + b"\r\n\r\n" + (body or b""), method, timeout)


def exchange(url, data, method="GET", timeout=30):
    """Sends these bytes; the first reply, or None when the connection just ends."""
    at = urllib.parse.urlsplit(url)
    with socket.create_connection((at.hostname, at.port), timeout) as s:
        try:
            s.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all was sent: the reply is there to be read
        reply = http.client.HTTPResponse(s, method=method)
        try:
            reply.begin()
            return Reply(reply.status, reply.headers, reply.read())
        except (http.client.HTTPException, ConnectionResetError):
            return None
        finally:
            reply.close()
