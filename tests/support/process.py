# SPDX-License-Identifier: Apache-2.0
"""Child processes that never outlive the tests, and directories that they can reach."""
import ctypes
import os
import pathlib
import pwd
import signal
import stat
import tempfile
import time

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(sig=signal.SIGINT):
    """A preexec_fn. It runs after the change of user, which would clear the setting again."""
    def preexec():
        _libc.prctl(PR_SET_PDEATHSIG, sig, 0, 0, 0)
    return preexec


def account(name):
    """Arguments for subprocess: run as this account when we may, else as ourselves."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(name)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def open_to_all(path):
    """Whether another account can walk to path."""
    path = pathlib.Path(path).resolve()
    return all(os.stat(p).st_mode & stat.S_IXOTH for p in (path, *path.parents))


def reachable_directory(prefix):
    """A new directory (0711) that other accounts can walk into, though not list."""
    for base in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if os.path.isdir(base) and os.access(base, os.W_OK) and open_to_all(base):
            path = tempfile.mkdtemp(prefix=prefix, dir=base)
            os.chmod(path, 0o711)
            return pathlib.Path(path)
    raise RuntimeError("no temporary directory that other accounts can reach: set TMPDIR")


def wait_until(check, seconds, what):
    """check() until it returns something true, which is returned; else fails naming what."""
    end = time.monotonic() + seconds
    pause = 0.005
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def alive(pid):
    """Whether the process runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False
