# SPDX-License-Identifier: Apache-2.0
"""A server that lies: it stands between a client and a real one, and changes what it is told to."""
import base64
import hashlib
import http.client
import http.server
import re
import socket
import subprocess
import tempfile
import threading
import urllib.parse

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Reply:
    """What the real server answered; lies change it in place."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def say(self, body, status=200, content_type="text/plain"):
        self.status = status
        self.body = body if isinstance(body, bytes) else body.encode()
        self.headers = [("Content-Type", content_type)]


class LyingServer:
    """LyingServer(URL of the real one). lie(METHOD, PATH regex, fn(reply)) until honest().

    cut_uploads(N, times): breaks the connection of so many PATCH requests after N bytes each;
    cut_downloads(N, times): the same for blobs. `seen` lists (method, path) of every request.
    """

    def __init__(self, url):
        self.upstream = urllib.parse.urlsplit(url)
        self.lies = []
        self.seen = []
        self.upload_cuts = self.download_cuts = (0, 0)
        self._lock = threading.Lock()
        outer = self

        class Handler(_Handler):
            lying = outer

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def lie(self, method, path, change):
        self.lies.append((method, re.compile(path), change))

    def honest(self):
        self.lies.clear()

    def cut_uploads(self, after, times=1):
        self.upload_cuts = (after, times)

    def cut_downloads(self, after, times=1):
        self.download_cuts = (after, times)

    def take_cut(self, name):
        """How many bytes may pass before the connection breaks; None: all."""
        with self._lock:
            after, times = getattr(self, name)
            if times == 0:
                return None
            setattr(self, name, (after, times - 1))
            return after


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lying = None

    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass

    def _break(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _forward(self):
        """The reply of the real server, or None when the connection was cut on the way."""
        up = http.client.HTTPConnection(self.lying.upstream.hostname, self.lying.upstream.port,
                                        timeout=60)
        length = int(self.headers.get("Content-Length") or 0)
        limit = self.lying.take_cut("upload_cuts") if self.command == "PATCH" else None
        up.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            up.putheader(name, value)
        up.endheaders()
        left = length if limit is None else min(length, limit)
        while left > 0:
            data = self.rfile.read1(min(left, 1 << 16))
            if not data:
                up.close()
                return None
            up.send(data)
            left -= len(data)
        if limit is not None and limit < length:
            up.close()
            return None
        answer = up.getresponse()
        headers = [(k, v) for k, v in answer.getheaders() if k.lower() not in HOP]
        size = answer.headers.get("Content-Length")
        reply = Reply(answer.status, headers, answer.read())
        reply.size = size
        up.close()
        return reply

    def _handle(self):
        lying = self.lying
        lying.seen.append((self.command, self.path))
        reply = self._forward()
        if reply is None:
            self._break()
            return
        for method, path, change in list(lying.lies):
            if method == self.command and path.search(self.path):
                change(reply)
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        size = reply.size if self.command == "HEAD" and reply.size else str(len(reply.body))
        if reply.status != 204:
            self.send_header("Content-Length", size)
        self.end_headers()
        limit = None
        if self.command == "GET" and "/blobs/sha256:" in self.path:
            limit = lying.take_cut("download_cuts")
        if self.command != "HEAD":
            self.wfile.write(reply.body if limit is None else reply.body[:limit])
        if limit is not None:
            self.wfile.flush()
            self._break()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle


# What a forger needs: the log's formats, written once more from their specifications.

class Signer:
    """An Ed25519 key that signs notes as `name`: that of a PEM file, or a new one."""

    def __init__(self, name, pem=None):
        self.name = name
        self._dir = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
        if pem is None:
            pem = f"{self._dir.name}/key"
            subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", pem], check=True,
                           capture_output=True)
        self.pem = pem
        der = subprocess.run(["openssl", "pkey", "-in", pem, "-pubout", "-outform", "DER"],
                             check=True, capture_output=True).stdout
        self.public = der[-32:]
        self.id = hashlib.sha256(name.encode() + b"\n\x01" + self.public).digest()[:4]

    @property
    def vkey(self):
        public = base64.b64encode(b"\x01" + self.public).decode()
        return f"{self.name}+{self.id.hex()}+{public}"

    @property
    def ssh(self):
        kind = b"ssh-ed25519"
        blob = len(kind).to_bytes(4, "big") + kind + (32).to_bytes(4, "big") + self.public
        return "ssh-ed25519 " + base64.b64encode(blob).decode()

    def sign(self, text):
        with tempfile.NamedTemporaryFile(dir=self._dir.name) as f:
            f.write(text.encode())
            f.flush()
            signature = subprocess.run(
                ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", self.pem, "-in", f.name],
                check=True, capture_output=True).stdout
        return text + f"\n— {self.name} " + base64.b64encode(self.id + signature).decode() + "\n"

    def checkpoint(self, size, root):
        return self.sign(f"{self.name}\n{size}\n{base64.b64encode(root).decode()}\n")


def root_of(hashes):
    """RFC 6962, section 2.1, over leaf hashes."""
    if len(hashes) == 1:
        return hashes[0]
    k = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root_of(hashes[:k]) + root_of(hashes[k:])).digest()
