# SPDX-License-Identifier: Apache-2.0
"""Serving drivers by hand (tests/support/serving_drive.c), and versions for them to serve."""
import hashlib
import json
import os
import pathlib
import signal
import subprocess

from . import process
from .server import LEAK_REPORT, build_directory

SEED = b"a seed that only the tests know\0"
DRIVERS = ("oip", "triton", "webhook")


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Drive:
    """Drive()(do="ready", driver="oip", …) → the answer as a dict."""

    def __init__(self):
        env = dict(os.environ)
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
            env[name] = f"{env.get(name, '')}:exitcode={LEAK_REPORT}".lstrip(":")
        self.child = subprocess.Popen([build_directory() / "tests" / "serving_drive"],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env,
                                      preexec_fn=process.die_with_parent(signal.SIGTERM))

    def begin(self, **job):
        self.child.stdin.write(json.dumps(job).encode() + b"\n")
        self.child.stdin.flush()

    def __call__(self, **job):
        self.begin(**job)
        line = self.child.stdout.readline()
        assert line, f"serving_drive ended with {self.child.wait()}"
        return json.loads(line)

    def kill(self):
        self.child.kill()
        self.child.wait()

    def close(self):
        self.child.stdin.close()
        code = self.child.wait(60)
        self.child.stdout.close()
        assert code == 0, f"serving_drive exited with {code}"


class Artifact:
    """A version's manifest and blobs in a directory, as the server's store would have them.

    files: {path: bytes}; tars: list of bytes that are tar layers.
    """

    def __init__(self, directory, files, tars=(), executable=()):
        self.blobs = pathlib.Path(directory) / "blobs"
        self.blobs.mkdir(parents=True, exist_ok=True)
        layers = []
        for path, data in sorted(files.items()):
            annotations = {"org.cncf.model.filepath": path}
            if path in executable:
                annotations["org.cncf.model.file.metadata+json"] = json.dumps(
                    {"name": path, "mode": 0o755, "uid": 0, "gid": 0, "size": len(data),
                     "mtime": "1970-01-01T00:00:00Z", "typeflag": 48})
            layers.append({"mediaType": "application/vnd.cncf.model.weight.v1.raw",
                           "digest": self.blob(data), "size": len(data),
                           "annotations": annotations})
        for data in tars:
            layers.append({"mediaType": "application/vnd.cncf.model.weight.v1.tar",
                           "digest": self.blob(data), "size": len(data)})
        config = b"{}"
        self.manifest_bytes = json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.cncf.model.manifest.v1+json",
            "config": {"mediaType": "application/vnd.cncf.model.config.v1+json",
                       "digest": self.blob(config), "size": len(config)},
            "layers": layers}).encode()
        self.digest = self.blob(self.manifest_bytes)
        self.manifest = self.path(self.digest)

    def path(self, digest):
        return self.blobs / digest.partition(":")[2]

    def blob(self, data):
        digest = sha256(data)
        self.path(digest).write_bytes(data)
        return digest

    def source(self):
        return {"blobs": str(self.blobs), "manifest": str(self.manifest)}
