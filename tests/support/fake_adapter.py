# SPDX-License-Identifier: Apache-2.0
"""What a user writes to connect a server of their own: the receiving side of the webhook driver.

Verifies each call as the Standard Webhooks specification says (v1a, Ed25519) before it believes it.
The files named by `dir` decide how loading goes, as in fake_triton. Loading answers 202 at once.
"""
import base64
import json
import pathlib
import threading
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .httpfake import FakeServer


class FakeAdapter(FakeServer):
    def __init__(self, key, port=0):
        self.key = Ed25519PublicKey.from_public_bytes(key)
        self.models = {}  # name: data of the load, with "ready"
        self.calls = []  # (type, document)
        self.ids = set()
        self.tokens = set()  # Authorization headers
        super().__init__(port)

    def verify(self, headers, body):
        name, stamp = headers.get("webhook-id"), headers.get("webhook-timestamp")
        kind, _, signature = headers.get("webhook-signature", "").partition(",")
        if kind != "v1a" or not name or name in self.ids or abs(time.time() - int(stamp)) > 300:
            return False
        try:
            self.key.verify(base64.b64decode(signature), f"{name}.{stamp}.".encode() + body)
        except InvalidSignature:
            return False
        self.ids.add(name)
        self.tokens.add(headers.get("Authorization"))
        return b"\n" not in body

    def _become_ready(self, data):
        path = pathlib.Path(data["dir"] or "") / "model.bin"
        head = path.read_bytes()[:40] if data["dir"] and path.is_file() else b""
        time.sleep(0.5 if head.startswith(b"slow") else 0.05)
        with self.lock:
            if head.startswith(b"broken"):
                data["error"] = "cannot parse model.bin"
            else:
                data["ready"] = True

    def answer(self, method, path, headers, body):
        if method != "POST" or path != "/hook":
            return 404, {"error": "no such thing"}
        if not self.verify(headers, body):
            return 401, {"error": "the signature does not hold"}
        document = json.loads(body)
        with self.lock:
            self.calls.append((document["type"], document))
            return getattr(self, document["type"].partition(".")[2])(document["data"])

    def load(self, data):
        if data["name"] not in self.models:
            model = self.models[data["name"]] = dict(data)
            threading.Thread(target=self._become_ready, args=(model,), daemon=True).start()
        return 202, b""

    def ready(self, data):
        model = self.models.get(data["name"])
        if model is None:
            return 404, {"error": "no such model"}
        if "error" in model:
            return 422, {"error": model["error"]}
        return 200, {"ready": model.get("ready", False), "name": model["name"],
                     "version": model["version"], "digest": model["digest"]}

    def unload(self, data):
        if self.models.pop(data["name"], None) is None:
            return 404, {"error": "no such model"}
        return 204, b""

    def list(self, _):
        return 200, {"models": [{"name": m["name"], "version": str(m["version"]),
                                 "state": "READY" if m.get("ready") else "LOADING"}
                                for m in self.models.values()]}

    def weights(self, _):
        return 200, {}
