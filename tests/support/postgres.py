# SPDX-License-Identifier: Apache-2.0
"""A private PostgreSQL on a unix socket: one cluster per test session, one database per test."""
import itertools
import os
import pathlib
import shutil
import signal
import subprocess

from . import process

BIN = pathlib.Path("/usr/lib/postgresql/15/bin")
OWNER = "postgres"

# no durability: tests of durability run mlctld's own embedded cluster
SETTINGS = {
    "listen_addresses": "", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
    "max_connections": "200", "shared_buffers": "64MB", "unix_socket_permissions": "0777",
    "timezone": "UTC", "log_timezone": "UTC", "autovacuum": "off",
}


class Postgres:
    """start() … stop(); conninfo(db) for libpq; create(template) makes a database and names it."""

    settings = SETTINGS

    def __init__(self, env=None):
        self.env = env or {}
        self.directory = process.reachable_directory("mlc-pg-")
        self.data = self.directory / "d"
        self.log = self.directory / "log"
        self.child = None
        self._numbers = itertools.count(1)

    def start(self):
        who = process.account(OWNER)
        self.data.mkdir(mode=0o700)
        self.log.touch()
        if who:
            for path in (self.data, self.log, self.directory):
                os.chown(path, who["user"], who["group"])
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", **self.env}
        made = subprocess.run(
            [BIN / "initdb", "-D", self.data, "-U", OWNER, "-A", "trust", "-E", "UTF8",
             "--locale=C.UTF-8", "--no-sync", "--no-instructions"],
            env=env, cwd="/", capture_output=True, text=True, check=False, **who)
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stdout}{made.stderr}")
        self.run()
        return self

    def run(self):
        """What start() does once the cluster is made."""
        who = process.account(OWNER)
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", **self.env}
        options = [f"-c{name}={value}" for name, value in self.settings.items()]
        with open(self.log, "ab") as log:
            # not through pg_ctl, so that the postmaster is our child and dies with us
            self.child = subprocess.Popen(
                [BIN / "postgres", "-D", self.data, "-k", self.directory, *options],
                env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=process.die_with_parent(signal.SIGINT), **who)
        process.wait_until(self._ready, 60, "PostgreSQL takes connections")

    def _ready(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended:\n{self.log.read_text()}")
        return subprocess.run([BIN / "pg_isready", "-q", "-h", self.directory, "-U", OWNER],
                              check=False).returncode == 0

    def conninfo(self, database="postgres", user=OWNER):
        return f"host={self.directory} dbname={database} user={user}"

    def psql(self, sql, database="postgres", user=OWNER):
        """Rows as lists of text; one transaction; an error raises with psql's message."""
        done = subprocess.run(
            ["psql", "-XqAt", "-F", "\x1f", "-1", "-v", "ON_ERROR_STOP=1", "-f", "-",
             self.conninfo(database, user)],
            input=sql, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"psql: {done.stderr.strip()}")
        return [line.split("\x1f") for line in done.stdout.splitlines()]

    def create(self, template="template0", owner=None):
        """A new database, a copy of the template (which nobody may be connected to)."""
        name = f"t{next(self._numbers)}"
        clause = f" OWNER {owner}" if owner else ""
        subprocess.run(
            ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c",
             f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY{clause}",
             self.conninfo()],
            check=True, capture_output=True, text=True)
        return name

    def drop(self, name):
        subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c",
                        f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", self.conninfo()],
                       check=True, capture_output=True, text=True)

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)
            try:
                self.child.wait(30)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.child = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
