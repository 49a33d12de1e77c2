# SPDX-License-Identifier: Apache-2.0
"""A fake inference server (Open Inference Protocol) that misbehaves when told to."""
import http.server
import json
import socket
import struct
import threading
import time


class FakeOip:
    """Serves model names in `models` (name → behaviour) on a loopback port.

    Behaviours: "ok", ("slow", SECONDS), "hang", "garbage", "truncated", "error" (500), "reset",
    ("as", NAME) answers under another name, ("big", BYTES), "chunked", "nameless", "late-name" (the
    name stands last), "binary", "html", "empty", ("refuse", STATUS). A missing name is a 404, as of
    a server that has not loaded the model. `seen` has (model, path, headers, body) of each request;
    `connections` counts those that were opened. close_after: requests after which a connection is
    closed without notice.
    """

    def __init__(self, models=(), port=0, close_after=None):
        self.models = dict.fromkeys(models, "ok") if not isinstance(models, dict) else models
        self.seen = []
        self.connections = 0
        self.close_after = close_after
        self._wanted = port
        self.server = None
        self.port = None
        self.start()

    def start(self):
        fake = self

        class Handler(_Handler):
            owner = fake

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128
            allow_reuse_address = True

            def handle_error(self, *_):
                pass  # clients that go away are part of the tests

        self.server = Server(("127.0.0.1", self.port or self._wanted), Handler)
        self.server.open = set()
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def kill(self):
        """As SIGKILL does: the listener and all connections are gone at once."""
        if self.server is None:
            return
        server, self.server = self.server, None
        server.socket.close()
        for connection in list(server.open):
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                      struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)
                connection.close()
            except OSError:
                pass
        server.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner = None

    def setup(self):
        super().setup()
        self.served = 0
        self.owner.connections += 1
        if self.owner.server is not None:
            self.owner.server.open.add(self.connection)

    def finish(self):
        if self.owner.server is not None:
            self.owner.server.open.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        pass

    def do_GET(self):  # noqa: N802
        self._serve(b"")

    do_HEAD = do_GET

    def do_POST(self):  # noqa: N802
        self._serve(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _serve(self, body):
        parts = self.path.split("?")[0].split("/")
        model = parts[3] if len(parts) > 3 else ""
        action = parts[4] if len(parts) > 4 else ""
        self.owner.seen.append((model, self.path, dict(self.headers), body))
        how = self.owner.models.get(model)
        kind, value = how if isinstance(how, tuple) else (how, None)
        self.served += 1
        if how is None:
            self._send(404, {"error": f"Model {model} not found"})
        elif action == "ready":
            self._send(200 if kind != "unready" else 400, {})
        elif action == "":
            self._send(200, {"name": model, "versions": ["v1"], "platform": "fake",
                             "inputs": [], "outputs": []})
        else:
            getattr(self, "_" + kind.replace("-", "_"))(model, body, value)
        if self.owner.close_after and self.served >= self.owner.close_after:
            self.close_connection = True

    def _answer(self, name, body, **more):
        try:
            given = json.loads(body)
        except ValueError:
            given = {}
        data = [sum(flat(i.get("data") or [0])) for i in given.get("inputs", [])]
        return {"model_name": name, "model_version": "v1", "id": given.get("id", ""),
                "outputs": [{"name": "y", "datatype": "FP64", "shape": [len(data)],
                             "data": data}], **more}

    def _send(self, status, document, kind="application/json", headers=()):
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _ok(self, model, body, _):
        self._send(200, self._answer(model, body))

    def _unready(self, model, body, _):
        self._ok(model, body, None)

    def _as(self, _, body, name):
        self._send(200, self._answer(name, body))

    def _slow(self, model, body, seconds):
        time.sleep(seconds)
        self._ok(model, body, None)

    def _hang(self, *_):
        time.sleep(30)
        self.close_connection = True

    def _garbage(self, *_):
        self._send(200, b"\x00\xff{]not json", "application/json")

    def _html(self, *_):
        self._send(200, b"<html>login first</html>", "text/html")

    def _empty(self, *_):
        self._send(200, b"")

    def _error(self, *_):
        self._send(500, {"error": "out of memory"})

    def _refuse(self, _model, _body, status):
        self._send(status, {"error": "refused"})

    def _nameless(self, *_):
        self._send(200, {"outputs": []})

    def _late_name(self, model, body, _):
        answer = self._answer(model, body)
        for key in ("model_name", "model_version"):
            answer[key] = answer.pop(key)
        self._send(200, answer)

    def _big(self, model, body, size):
        answer = self._answer(model, body)
        answer["outputs"][0]["data"] = [1.5] * (size // 5)
        self._send(200, answer)

    def _truncated(self, model, body, _):
        data = json.dumps(self._answer(model, body)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:-20])
        self.close_connection = True

    def _reset(self, *_):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def _chunked(self, model, body, _):
        data = json.dumps(self._answer(model, body)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i in range(0, len(data), 7):
            piece = data[i:i + 7]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _binary(self, model, body, _):
        head = json.dumps({"model_name": model, "model_version": "1", "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2],
             "parameters": {"binary_data_size": 8}}]}).encode()
        self._send(200, head + struct.pack("<2f", 1.5, -2.5), "application/octet-stream",
                   [("Inference-Header-Content-Length", str(len(head)))])


def flat(data):
    for one in data:
        if isinstance(one, list):
            yield from flat(one)
        elif isinstance(one, (int, float)):
            yield one
