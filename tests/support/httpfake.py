# SPDX-License-Identifier: Apache-2.0
"""What stand-ins for other people's HTTP servers have in common: they can be told to misbehave."""
import http.server
import json
import re
import socket
import threading
import time


class Fault:
    """One way to misbehave, for requests whose "METHOD /path" matches `where`."""

    def __init__(self, where, times=None, status=None, body=b"", headers=(), hang=0, drop=False):
        self.where = re.compile(where)
        self.times = times  # None: for ever
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = list(headers)
        self.hang = hang  # seconds before anything is answered
        self.drop = drop  # close without an answer


class FakeServer:
    """Subclasses have answer(method, path, headers, body) → (status, JSON value, text or bytes).

    `seen` lists "METHOD /path" of every request; fault(…) adds a Fault, honest() removes all.
    """

    def __init__(self, port=0):
        self.seen = []
        self.faults = []
        self.lock = threading.RLock()
        outer = self

        class Handler(_Handler):
            fake = outer

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,),
                                        daemon=True)
        self._thread.start()
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def fault(self, where, **how):
        self.faults.append(Fault(where, **how))

    def honest(self):
        self.faults.clear()

    def take_fault(self, what):
        with self.lock:
            for fault in self.faults:
                if fault.times != 0 and fault.where.search(what):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def answer(self, method, path, headers, body):
        raise NotImplementedError


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake = None

    def log_message(self, *_):
        pass

    def _send(self, status, body, headers=()):
        if not isinstance(body, bytes):
            body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        what = f"{self.command} {self.path}"
        self.fake.seen.append(what)
        fault = self.fake.take_fault(what)
        try:
            if fault:
                time.sleep(fault.hang)
                if fault.drop:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                if fault.status:
                    self._send(fault.status, fault.body, fault.headers)
                    return
            self._send(*self.fake.answer(self.command, self.path, self.headers, body))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = _serve
