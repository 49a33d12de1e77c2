# SPDX-License-Identifier: Apache-2.0
"""A running `mlctld serve` on a free port."""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import requests

from . import process
from .client import Client

ROOT = pathlib.Path(__file__).resolve().parents[2]
LEAK_REPORT = 23  # what the sanitizers exit with


def build_directory():
    """Where the programs under test are: MLC_BUILD, default the asan preset's."""
    return pathlib.Path(os.environ.get("MLC_BUILD", ROOT / "build" / "asan")).resolve()


class Server:
    """Server(DIR) with an embedded cluster, or on postgres=CONNINFO; more options as --flags.

    start(), stop() (SIGTERM, must exit 0), kill() (SIGKILL), restart(). `url`, `pid`,
    `admin_token`, `output()` (stderr of all runs). Sanitizer reports fail stop().
    """

    def __init__(self, directory, postgres=None, options=(), env=None):
        self.directory = pathlib.Path(directory)
        self.options = list(options)
        if postgres:
            self.options += ["--postgres", postgres]
        self.env = env or {}
        self.log = self.directory.with_name(self.directory.name + ".stderr")
        self.url = None
        self.child = None

    def spawn(self):
        """Starts without waiting for anything, for tests of starting itself."""
        assert self.child is None or self.child.poll() is not None, "runs already"
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MLCTL_", "PG"))}
        env.update(self.env)
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
            env[name] = f"{env.get(name, '')}:exitcode={LEAK_REPORT}".lstrip(":")
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                [build_directory() / "mlctld", "serve", "--data", self.directory,
                 "--listen", "127.0.0.1:0", *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                preexec_fn=process.die_with_parent(signal.SIGTERM))
        return self

    def start(self, seconds=60):
        address = self.directory / "address"
        address.unlink(missing_ok=True)  # of a run that was killed
        self.spawn()
        try:
            self.url = process.wait_until(lambda: self._running() and _read(address), seconds,
                                          f"mlctld writes {address}")
            process.wait_until(lambda: self._running() and self._ready(), seconds,
                               "mlctld is ready")
        except TimeoutError as e:
            self.kill()
            raise TimeoutError(f"{e}\n{self.output()[-8000:]}") from None
        except RuntimeError:
            self.kill()
            raise
        return self

    def _running(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"mlctld ended with {self.child.returncode}:\n{self.output()}")
        return True

    def _ready(self):
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    @property
    def pid(self):
        return self.child.pid

    @property
    def admin_token(self):
        return (self.directory / "admin-token").read_text(encoding="ascii").strip()

    def sql(self, text):
        """Runs SQL on the embedded database as its owner, with mlctld's own role."""
        socket = self.directory / "postgres"
        return subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", text,
                               f"host={socket} user=mlctl dbname=mlctl"],
                              check=True, capture_output=True, text=True).stdout.strip()

    def client(self, token=None):
        return Client(self.url, token)

    def output(self):
        try:
            return self.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def stop(self, seconds=30):
        """The contract: SIGTERM drains and exits 0 within 30 s."""
        if self.child is None:
            return
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            rc = self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"mlctld did not end on SIGTERM:\n{self.output()}") from None
        self.child = None
        assert rc == 0, f"mlctld ended with {rc}:\n{self.output()[-8000:]}"

    def kill(self):
        if self.child is not None:
            if self.child.poll() is None:
                self.child.kill()
            self.child.wait()
            self.child = None

    def restart(self):
        self.stop()
        return self.start()


def _read(path):
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


class Directories:
    """Data directories below one temporary directory (0700 for root too: that must work)."""

    def __init__(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="mlc-s-"))
        self._made = 0

    def new(self):
        self._made += 1
        return self.base / str(self._made)

    def remove(self):
        shutil.rmtree(self.base, ignore_errors=True)
