# SPDX-License-Identifier: Apache-2.0
"""Real MLServer instances with the scikit-learn runtime, in a virtual environment of their own.

The environment (0.5 GiB, about a minute to install) is made once, in build/mlserver-venv, from
deploy/example/serving-requirements.txt; MLC_MLSERVER_VENV names another one.
"""
import contextlib
import fcntl
import functools
import hashlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import textwrap

import requests

from . import process
from .server import ROOT

REQUIREMENTS = ROOT / "deploy/example/serving-requirements.txt"


@functools.lru_cache(maxsize=None)
def environment():
    """The virtual environment's path; None when it cannot be installed (no network)."""
    given = os.environ.get("MLC_MLSERVER_VENV")
    if given:
        return pathlib.Path(given)
    venv = ROOT / "build/mlserver-venv"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()
                            + (REQUIREMENTS.parent / "requirements.txt").read_bytes()).hexdigest()
    venv.parent.mkdir(exist_ok=True)
    with open(venv.with_suffix(".lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = venv / "made-from"
        if stamp.is_file() and stamp.read_text(encoding="ascii") == wanted:
            return venv
        shutil.rmtree(venv, ignore_errors=True)
        try:
            subprocess.run(["/usr/bin/python3", "-m", "venv", venv], check=True)
            subprocess.run([venv / "bin/pip", "install", "-q", "--disable-pip-version-check",
                            "--only-binary", ":all:", "-r", REQUIREMENTS], check=True)
        except subprocess.CalledProcessError:
            return None
        stamp.write_text(wanted, encoding="ascii")
    return venv


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class MLServer:
    """MLServer(REPOSITORY): start(), stop(), kill(); `url`, `pid`, `output()`.

    One process, no workers beside it: MLSERVER_PARALLEL_WORKERS=0 (each worker would be a process
    of 200 MiB more); no metrics server: MLSERVER_METRICS_ENDPOINT= (empty).
    """

    def __init__(self, repository):
        self.repository = pathlib.Path(repository)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.repository.with_name(self.repository.name + ".mlserver.log")
        self.child = None

    def spawn(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MLSERVER_", "PYTHON"))}
        env.update(MLSERVER_PARALLEL_WORKERS="0", MLSERVER_METRICS_ENDPOINT="",
                   MLSERVER_HOST="127.0.0.1", MLSERVER_HTTP_PORT=str(self.port),
                   MLSERVER_GRPC_PORT=str(free_port()), MLSERVER_DEBUG="false",
                   MLSERVER_MODEL_REPOSITORY_ROOT=str(self.repository),
                   OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
        env.pop("LD_PRELOAD", None)
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                [environment() / "bin/mlserver", "start", self.repository], env=env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.repository.parent,
                preexec_fn=process.die_with_parent(signal.SIGKILL))
        return self

    def start(self, seconds=120):
        self.spawn()
        process.wait_until(self.alive, seconds, "MLServer to start")
        return self

    def alive(self):
        assert self.child.poll() is None, self.output()
        try:
            return requests.get(self.url + "/v2/health/ready", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.terminate()
            self.child.wait(30)

    def kill(self):
        if self.child and self.child.poll() is None:
            self.child.kill()
            self.child.wait()

    @property
    def pid(self):
        return self.child.pid

    def output(self):
        return self.log.read_text(encoding="utf-8", errors="replace")


def python(code, *arguments):
    """Runs code in the environment; its output."""
    return subprocess.run([environment() / "bin/python", "-c", textwrap.dedent(code), *arguments],
                          check=True, capture_output=True).stdout


@functools.lru_cache(maxsize=None)
def pickled(factor=1):
    """A scikit-learn pipeline as a pickle: predicts the sum of two features, times factor."""
    return python("""
        import pickle, sys
        import numpy
        from sklearn.linear_model import LinearRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer
        x = numpy.random.default_rng(1).normal(size=(20, 2))
        m = make_pipeline(FunctionTransformer(), LinearRegression())
        sys.stdout.buffer.write(pickle.dumps(m.fit(x, x.sum(axis=1) * float(sys.argv[1]))))
        """, str(factor))
