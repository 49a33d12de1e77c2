# SPDX-License-Identifier: Apache-2.0
"""`mlctl` as one person runs it: a home directory of its own and nothing of the caller's."""
import json
import os
import pathlib
import subprocess

from .server import LEAK_REPORT, build_directory

KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")


class Person:
    """Person(HOME, url, token).run(...) → CompletedProcess of text; json(...) → decoded stdout."""

    def __init__(self, home, url=None, token=None):
        self.home = pathlib.Path(home)
        self.home.mkdir(parents=True, exist_ok=True)
        self.env = {k: v for k, v in os.environ.items() if k in KEPT}
        self.env.update(HOME=str(self.home), NO_COLOR="1", GIT_CONFIG_NOSYSTEM="1",
                        XDG_CONFIG_HOME=str(self.home / ".config"),
                        XDG_STATE_HOME=str(self.home / ".local/state"),
                        XDG_CACHE_HOME=str(self.home / ".cache"),
                        XDG_DATA_HOME=str(self.home / ".local/share"))
        if url:
            self.env["MLCTL_SERVER"] = url
        self.token = token
        if token:
            self.env["MLCTL_TOKEN"] = token

    def run(self, *args, status=0, stdin=None, cwd=None, env=None, timeout=120):
        """Runs mlctl and requires this exit status (None: any)."""
        done = subprocess.run(
            [str(build_directory() / "mlctl"), *map(str, args)], cwd=cwd or self.home,
            env={**self.env, **(env or {})}, input=stdin if stdin is not None else "",
            capture_output=True, text=True, timeout=timeout, check=False)
        what = f"mlctl {' '.join(map(str, args))}: exit {done.returncode}\n{done.stderr[-4000:]}"
        assert done.returncode >= 0 and done.returncode != LEAK_REPORT, what
        assert "ERROR: AddressSanitizer" not in done.stderr, what
        assert status is None or done.returncode == status, what + done.stdout[-1000:]
        return done

    def json(self, *args, **kwargs):
        return json.loads(self.run("--output", "json", *args, **kwargs).stdout)

    def key(self, kind="ed25519", name="id_ed25519"):
        """A new SSH key without passphrase; the path of its private half."""
        path = self.home / ".ssh" / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", path], check=True,
                       stdin=subprocess.DEVNULL)
        return path


def invite(server, home, name, roles):
    """A new person: invited by the admin, logged in by themselves; .http is their client."""
    admin = server.client(server.admin_token)
    made = admin.ok("POST", "/api/v1/users", json={"name": name, "roles": list(roles)})
    token = server.client().ok("POST", "/api/v1/login", json={"invite": made["invite"]})["token"]
    person = Person(home, server.url, token)
    person.id = made["id"]
    person.name = name
    person.http = server.client(token)
    person.run("whoami", "--quiet")  # pins the key of the log, so that no later command says so
    return person
