# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL killed under eight writers: what was acknowledged is there, once."""
import concurrent.futures
import os
import signal
import subprocess
import threading
import time

import pytest
import requests

from fault.story import Story, check_ok, read_log
from support.process import account, wait_until

WRITERS = 8


class Writers:
    """Each moves an alias of its own to and fro; what was answered with 200 is in `done`."""

    def __init__(self, server, story):
        self.server = server
        self.story = story
        self.stop = threading.Event()
        self.done = [[] for _ in range(WRITERS)]
        self.failures = 0
        self.odd = []
        self.threads = concurrent.futures.ThreadPoolExecutor(WRITERS)
        self.runs = [self.threads.submit(self._write, i) for i in range(WRITERS)]

    def _write(self, i):
        http = self.server.client(self.server.token)
        path = f"{self.story.base}/aliases/w{i}"
        while not self.stop.is_set():
            try:
                now = http.get(path, timeout=10)
                at = now.json()["version"] if now.status_code == 200 else None
                if now.status_code not in (200, 404):
                    raise requests.RequestException(now.text)
                headers = {"If-Match": now.headers["ETag"]} if at else {}
                reply = http.put(path, json={"version": 2 if at == 1 else 1}, headers=headers,
                                 timeout=10)
            except requests.RequestException:
                self.failures += 1
                time.sleep(0.05)
                continue
            if reply.status_code in (200, 201):
                self.done[i].append(2 if at == 1 else 1)
            elif reply.status_code >= 500:
                self.failures += 1
                time.sleep(0.05)
            elif reply.status_code != 412:  # 412: the one without an answer went through
                self.odd.append((reply.status_code, reply.text))

    def total(self):
        return sum(map(len, self.done))

    def progress(self, count, seconds=30):
        goal = self.total() + count
        wait_until(lambda: self.total() >= goal, seconds, f"{count} more writes")

    def end(self):
        self.stop.set()
        for run in self.runs:
            run.result(60)
        self.threads.shutdown()
        assert not self.odd, self.odd

    def check(self, http):
        """Every acknowledged move is in the history and in the log, in order, none twice."""
        histories = []
        for i in range(WRITERS):
            items, cursor = [], None
            while True:
                page = http.ok("GET", f"{self.story.base}/aliases/w{i}/history",
                               params={"limit": 200, **({"cursor": cursor} if cursor else {})})
                items += page["items"]
                cursor = page.get("next")
                if not cursor:
                    break
            moves = [one["version"] for one in items]
            assert len(moves) >= len(self.done[i]), f"w{i} lost moves"
            assert all(a != b for a, b in zip(moves, moves[1:])), f"w{i} moved twice"
            histories.append(len(moves))

        def logged():
            log = read_log(self.server, http)
            counts = [len(log.of("alias.set", id=f"{self.story.name}:w{i}"))
                      for i in range(WRITERS)]
            return log if counts == histories else None

        log = wait_until(logged, 30, f"the log has every move once: {histories}")
        leaves = [repr(e) for e in log.entries]
        assert len(set(leaves)) == len(leaves)
        return log


@pytest.fixture
def writing(ruin):
    server = ruin().start()
    story = Story(1)
    http = server.client(server.token)
    story.push(http)
    writers = Writers(server, story)
    try:
        writers.progress(40)
        yield server, writers
    finally:
        writers.stop.set()


def postmaster(server):
    text = (server.directory / "postgres/data/postmaster.pid").read_text(encoding="ascii")
    return int(text.split("\n", maxsplit=1)[0])


def finish(server, writers):
    writers.progress(40)
    writers.end()
    http = server.client(server.token)
    log = writers.check(http)
    check_ok(server.directory)
    return log


def test_postmaster_killed(writing):
    server, writers = writing
    before = read_log(server)
    for _ in range(2):
        os.kill(postmaster(server), signal.SIGKILL)
        time.sleep(0.3)
        writers.progress(40)
    assert writers.failures
    finish(server, writers).includes(before)


def test_backend_killed_in_a_transaction(writing):
    server, writers = writing
    os.chmod(server.directory.parent, 0o711)
    busy = ("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND "
            "xact_start IS NOT NULL AND pid <> pg_backend_pid() LIMIT 1")

    def find():
        done = subprocess.run(["psql", "-XqAt", "-c", busy, f"host={server.directory}/postgres "
                               "user=postgres dbname=mlctl"], capture_output=True, text=True,
                              check=True, cwd="/", env={"PATH": os.environ["PATH"]},
                              **account("postgres"))
        return done.stdout.strip()

    os.kill(int(wait_until(find, 20, "a backend in a transaction")), signal.SIGKILL)
    finish(server, writers)


def test_server_killed_under_writers(writing):
    server, writers = writing
    before = read_log(server)
    server.kill()
    writers.stop.set()
    for run in writers.runs:
        run.result(60)
    server.start()
    log = writers.check(server.client(server.token))
    log.includes(before)
    check_ok(server.directory)


def test_check_beside_writers(writing):
    """`mlctld check` beside a server that is written to finds nothing wrong."""
    server, writers = writing
    for _ in range(4):
        check_ok(server.directory)
    finish(server, writers)
