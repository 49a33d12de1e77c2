# SPDX-License-Identifier: Apache-2.0
"""Stands in for NVIDIA's Triton, of which there is no package: its HTTP dialect of the Open
Inference Protocol as src/http_server.cc of v2.71 has it, the traps included.

- /ready is 400 for what is not ready and for what does not exist, alike.
- Loading needs control mode "explicit", else 503 with a text that names no cure.
- A load answers when it is over; one that fails says why in a 400. An unknown parameter is 500.
- There is no load of one version: what config.pbtxt's version_policy names is loaded, the rest
  goes.
- Unloading answers at once; the model stays ready for `unload_seconds`.
- The index keeps what was unloaded, as UNAVAILABLE.

A model file whose bytes begin with "broken" cannot be loaded, with "slow" takes half a second; all
others answer the sum of their inputs, times the number after "times " if they begin with that.
"""
import json
import pathlib
import re
import time

from .httpfake import FakeServer

EXPLICIT_ONLY = "explicit model load / unload is not allowed if polling is enabled"


class FakeTriton(FakeServer):
    def __init__(self, repository, control_mode="explicit", unload_seconds=0.3, port=0):
        self.repository = pathlib.Path(repository)
        self.control_mode = control_mode
        self.unload_seconds = unload_seconds
        self.loaded = {}  # name: {version: factor}
        self.leaving = {}  # name: when it is gone
        self.known = {}  # name: versions that were loaded once
        self.reloads = []  # names that were loaded while they were loaded
        super().__init__(port)

    # --- what it has ---

    def _settle(self):
        for name, when in list(self.leaving.items()):
            if time.monotonic() >= when:
                del self.leaving[name]
                self.loaded.pop(name, None)

    def _versions(self, name):
        with self.lock:
            self._settle()
            return dict(self.loaded.get(name, {}))

    def _config(self, name):
        try:
            text = (self.repository / name / "config.pbtxt").read_text(encoding="utf-8")
        except OSError:
            return None
        config = dict(re.findall(r'^(\w+): "([^"]*)"$', text, re.M))
        wanted = re.search(r"versions: \[([ \d,]*)\]", text)
        config["versions"] = re.findall(r"\d+", wanted.group(1)) if wanted else None
        return config

    def _read(self, name):
        """{version: factor}, or the reason why not."""
        config = self._config(name)
        if config is None or config.get("name", name) != name:
            return "failed to load '%s', failed to poll from model repository" % name
        folders = [d for d in (self.repository / name).iterdir() if d.name.isdigit()]
        wanted = config["versions"] or [max((d.name for d in folders), key=int, default="")]
        result = {}
        for version in wanted:
            file = config.get("default_model_filename", "model.onnx")
            path = self.repository / name / version / file
            if not path.is_file():
                return (f"load failed for model '{name}': version {version} is at UNAVAILABLE "
                        f"state: Not found: unable to find '{path}'")
            head = path.read_bytes()[:40].decode(errors="replace")
            if head.startswith("broken"):
                return (f"load failed for model '{name}': version {version} is at UNAVAILABLE "
                        "state: Internal: onnx runtime error 7: Protobuf parsing failed")
            if head.startswith("slow"):
                time.sleep(0.5)
            match = re.match(r"times (\d+)", head)
            result[version] = int(match.group(1)) if match else 1
        return result

    # --- calls ---

    def answer(self, method, path, headers, body):
        if method == "GET" and path == "/v2":
            return 200, {"name": "triton", "version": "2.71.0",
                         "extensions": ["classification", "model_repository",
                                        "model_repository(unload_dependents)"]}
        if method == "GET" and path == "/v2/health/ready":
            return 200, b""
        match = re.fullmatch(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/(ready|infer)", path)
        if match and method == ("GET" if match[3] == "ready" else "POST"):
            return getattr(self, match[3])(match[1], match[2], body)
        if method == "POST" and path == "/v2/repository/index":
            return self.index(body)
        match = re.fullmatch(r"/v2/repository/models/([^/]+)/(load|unload)", path)
        if match and method == "POST":
            if self.control_mode != "explicit":
                return 503, {"error": EXPLICIT_ONLY}
            return getattr(self, match[2])(match[1], body)
        if path.startswith("/v2/repository/"):
            return 501, {"error": "'repository_name' specification is not supported"}
        return 404, {"error": "Not Found"}

    def ready(self, name, version, _):
        versions = self._versions(name)
        if versions and (version is None or version in versions):
            return 200, b""
        return 400, {"error": "Model version not ready"}

    def infer(self, name, version, body):
        versions = self._versions(name)
        if version is None and versions:
            version = max(versions, key=int)
        if version not in versions:
            return 400, {"error": f"Request for unknown model: '{name}' version {version} is not "
                                  "at ready state"}
        try:
            request = json.loads(body)
            values = request["inputs"][0]["data"]
            total = versions[version] * sum(values)
        except (ValueError, KeyError, TypeError, IndexError):
            return 400, {"error": "failed to parse the request JSON buffer"}
        reply = {"model_name": name, "model_version": version,
                 "outputs": [{"name": "y", "datatype": "FP64", "shape": [1], "data": [total]}]}
        if "id" in request:
            reply["id"] = request["id"]
        return 200, reply

    def index(self, body):
        only_ready = bool(json.loads(body or b"{}").get("ready"))
        items = []
        with self.lock:
            self._settle()
            for name in sorted(d.name for d in self.repository.iterdir() if d.is_dir()):
                if name not in self.known and not only_ready:
                    items.append({"name": name})
            for name, versions in sorted(self.known.items()):
                for version in sorted(versions, key=int):
                    if version in self.loaded.get(name, {}):
                        items.append({"name": name, "version": version, "state": "READY"})
                    elif not only_ready:
                        items.append({"name": name, "version": version, "state": "UNAVAILABLE",
                                      "reason": "unloaded"})
        return 200, items

    def load(self, name, body):
        for parameter in json.loads(body or b"{}").get("parameters", {}):
            if parameter != "config" and not parameter.startswith("file:"):
                return 500, {"error": "unexpected error on creating Triton parameter"}
        found = self._read(name)
        if isinstance(found, str):
            return 400, {"error": found}
        with self.lock:
            self._settle()
            if name in self.loaded:
                self.reloads.append(name)
            self.leaving.pop(name, None)
            self.loaded[name] = found
            self.known.setdefault(name, set()).update(found)
        return 200, b""

    def unload(self, name, _):
        with self.lock:
            self._settle()
            if name not in self.loaded:
                return 400, {"error": f"failed to unload '{name}', no version is available"}
            self.leaving[name] = time.monotonic() + self.unload_seconds
        return 200, b""
