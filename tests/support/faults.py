# SPDX-License-Identifier: Apache-2.0
"""A server whose file system calls and COMMITs can be counted, made to fail, or be its last.

tests/fault/shim.c is preloaded; `Board` is the memory shared with it. A call is named like
"fdatasync uploads/X/data"; a point is the n-th call of that name since arm().
"""
import collections
import ctypes
import errno
import functools
import mmap
import os
import pathlib
import subprocess
import tempfile

from .server import ROOT, Server, build_directory

NAME = 128
SEEN = 4096
NONE, KILL, ERRNO, SHORT, KILL_AFTER, FROM, KILL_OTHER = range(7)

Point = collections.namedtuple("Point", "name when")


class _Shared(ctypes.Structure):
    _fields_ = [("armed", ctypes.c_int), ("action", ctypes.c_int), ("error", ctypes.c_int),
                ("when", ctypes.c_int), ("count", ctypes.c_int), ("hit", ctypes.c_int),
                ("name", ctypes.c_char * NAME), ("n_seen", ctypes.c_int),
                ("seen", ctypes.c_char * NAME * SEEN)]


@functools.lru_cache(maxsize=None)
def shim():
    """The shared object, built once for this process, and what must be loaded before it."""
    directory = tempfile.TemporaryDirectory(prefix="mlc-shim-")
    target = pathlib.Path(directory.name) / "shim.so"
    subprocess.run(["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", target,
                    ROOT / "tests/fault/shim.c"], check=True)
    return directory, ":".join([*before_shim(), str(target)])


def before_shim():
    """What must be loaded before any other library."""
    before = []
    linked = subprocess.run(["ldd", build_directory() / "mlctld"], check=True, capture_output=True,
                            text=True).stdout
    for line in linked.splitlines():
        if "libasan" in line or "libtsan" in line:  # must come first
            before.append(line.split("=>")[1].split()[0])
    return before


class Board:
    """Orders to the shim, and what it saw."""

    def __init__(self, path):
        self.path = path
        with open(path, "wb") as f:
            f.truncate(ctypes.sizeof(_Shared))
        with open(path, "r+b") as f:
            self.memory = mmap.mmap(f.fileno(), ctypes.sizeof(_Shared))
        self.shared = _Shared.from_buffer(self.memory)

    def arm(self, point=None, action=NONE, error=errno.EIO):
        """Counts from here; this happens to the point (with FROM: to all names so begun)."""
        s = self.shared
        s.armed = 0
        s.action, s.error = (action if point else NONE), error
        s.when, s.name = (point.when, point.name.encode()) if point else (0, b"")
        s.count = s.hit = s.n_seen = 0
        s.armed = 1

    def disarm(self):
        self.shared.armed = 0

    @property
    def hit(self):
        return bool(self.shared.hit)

    def points(self):
        """Every call since arm(), in order."""
        assert self.shared.n_seen <= SEEN
        counts = collections.Counter()
        found = []
        for i in range(self.shared.n_seen):
            name = self.shared.seen[i].value.decode()
            counts[name] += 1
            found.append(Point(name, counts[name]))
        return found


class FaultServer(Server):
    """A Server with a .board."""

    def __init__(self, directory, **kwargs):
        directory = pathlib.Path(directory)
        self.board = Board(directory.with_name(directory.name + ".board"))
        env = {"LD_PRELOAD": shim()[1], "MLC_FAULT_FILE": str(self.board.path),
               "MLC_FAULT_DIR": str(directory)}
        super().__init__(directory, env=env, **kwargs)

    def died(self):
        """Whether the process is gone; takes notice of it."""
        if self.child is not None and self.child.poll() is not None:
            self.child = None
        return self.child is None


def thin(points, most):
    """At most so many of them, spread evenly: of each name the first and then others."""
    if len(points) <= most:
        return points
    first = [p for p in points if p.when == 1]
    rest = [p for p in points if p.when > 1]
    if len(first) >= most:
        step = len(first) / most
        return [first[int(i * step)] for i in range(most)]
    step = len(rest) / (most - len(first))
    chosen = {*first, *(rest[int(i * step)] for i in range(most - len(first)))}
    return [p for p in points if p in chosen]


def environment():
    return {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LC_ALL", "TZ")}
