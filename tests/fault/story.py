# SPDX-License-Identifier: Apache-2.0
"""The small story that the fault tests break, and what must hold after whatever happened."""
import hashlib
import json
import os
import random
import subprocess
import time
import traceback

import requests

from support import faults, tlog
from support.oci import Repository, descriptor, digest, manifest
from support.process import wait_until
from support.server import build_directory

MIB = 1 << 20
CHUNK = 3 * MIB // 2  # above 1 MiB a second thread writes


class Broken(Exception):
    """The server did not answer, or not with success: nothing is known of that step."""


class Story:
    """Two versions of one model of its own, the second through a tag; every step may be repeated.

    `kept` is what the server has acknowledged.
    """

    def __init__(self, number):
        self.name = f"fault/m{number}"
        self.kept = {"blobs": set(), "versions": {}, "aliases": {}}
        seed = random.Random(number)
        self.blobs = {}
        for size in (2 * CHUNK, 100):
            data = seed.randbytes(size)
            self.blobs[digest(data)] = data
        self.blobs[digest(b"{}")] = b"{}"
        big, small, _ = self.blobs
        self.manifests = []
        for name, data in ((big, "w.bin"), (small, "w.bin")):
            layer = descriptor(self.blobs[name], "application/vnd.cncf.model.weight.v1.raw",
                               annotations={"org.cncf.model.filepath": data})
            self.manifests.append(manifest(layers=[layer]))
        self.locations = {}
        self.base = f"/api/v1/models/{self.name}"

    def _ask(self, http, method, path, **kwargs):
        try:
            reply = http.request(method, path, **kwargs)
        except requests.RequestException as e:
            raise Broken(f"{method} {path}: {e}") from e
        if reply.status_code >= 500 or reply.status_code in (404, 408, 416, 429):
            raise Broken(f"{method} {path}: {reply.status_code} {reply.text[:300]}")
        assert reply.ok, f"{method} {path}: {reply.status_code} {reply.text[:500]}"
        return reply

    def push_blob(self, http, name):
        """As a client does: what is there is not sent, a begun upload is gone on with."""
        data, v2 = self.blobs[name], f"/v2/{self.name}/blobs"
        if http.head(f"{v2}/{name}").status_code == 200:
            return
        at = 0
        where = self.locations.get(name)
        if where:
            reply = http.get(where)
            at = int(reply.headers["Upload-Offset"]) if reply.status_code == 204 else None
            assert reply.status_code in (204, 404), reply.text
            assert at is None or at <= len(data)
        if where is None or at is None:
            where = self._ask(http, "POST", f"{v2}/uploads/").headers["Location"]
            self.locations[name], at = where, 0
        while len(data) - at > CHUNK:
            part = data[at:at + CHUNK]
            reply = self._ask(http, "PATCH", where, data=part, headers={
                "Content-Type": "application/octet-stream",
                "Content-Range": f"{at}-{at + len(part) - 1}"})
            at += len(part)
        self._ask(http, "PUT", where, params={"digest": name}, data=data[at:])
        self.kept["blobs"].add(name)

    def push(self, http):
        """All of it, or Broken where the server fails. Afterwards everything is acknowledged."""
        for name in self.blobs:
            self.push_blob(http, name)
        first, second = map(digest, self.manifests)
        headers = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
        put = f"/v2/{self.name}/manifests"
        self._ask(http, "PUT", f"{put}/{first}", data=self.manifests[0], headers=headers)
        made = self._ask(http, "POST", f"{self.base}/versions", json={"digest": first}).json()
        assert self.kept["versions"].setdefault(1, made["digest"]) == first
        assert made["version"] == 1, made
        self._ask(http, "PUT", f"{put}/candidate", data=self.manifests[1], headers=headers)
        self.kept["versions"][2] = second
        self._ask(http, "PUT", f"{self.base}/aliases/free", json={"version": 2})
        self.kept["aliases"]["free"] = 2

    def published(self, http, died=lambda: False, seconds=20):
        """Waits until the log's checkpoint covers the second version."""
        end = time.monotonic() + seconds
        while True:
            try:
                index = http.ok("GET", f"{self.base}/versions/2")["leaf_index"]
                note = http.ok("GET", "/log/checkpoint")
                if index is not None and int(note.split(b"\n")[1]) > index:
                    return
                last = f"leaf {index}"
            except (requests.RequestException, AssertionError) as e:
                last = e
            if died():
                raise Broken("the server died")
            if time.monotonic() > end:
                raise Broken(f"no checkpoint covers the version: {last}")
            time.sleep(0.02)

    def check_visible(self, http):
        """Everything acknowledged is there, whatever is there is whole."""
        v2 = f"/v2/{self.name}"
        for name, data in self.blobs.items():
            reply = http.get(f"{v2}/blobs/{name}")
            assert reply.status_code in (200, 404), reply.text
            assert reply.status_code == 200 or name not in self.kept["blobs"], f"{name} is lost"
            assert reply.status_code == 404 or reply.content == data, f"{name} is damaged"
        reply = http.get(f"{self.base}/versions")
        assert reply.status_code in (200, 404), reply.text
        found = {}
        for one in reply.json()["items"] if reply.status_code == 200 else []:
            found[one["version"]] = one["digest"]
            whole = http.ok("GET", f"{v2}/manifests/{one['digest']}")
            whole = whole if isinstance(whole, bytes) else http.get(
                f"{v2}/manifests/{one['digest']}").content
            assert digest(whole) == one["digest"]
            for layer in json.loads(whole)["layers"]:
                assert digest(http.ok("GET", f"{v2}/blobs/{layer['digest']}")) == layer["digest"]
        assert sorted(found) == list(range(1, len(found) + 1)), "version numbers have gaps"
        for version, name in self.kept["versions"].items():
            assert found.get(version) == name, f"version {version} is lost"
        for alias, version in self.kept["aliases"].items():
            assert http.ok("GET", f"{self.base}/aliases/{alias}")["version"] == version

    def check_complete(self, server, http, log):
        """After a push that went through: exactly two versions, in table, log and repository."""
        self.check_visible(http)
        assert self.kept["versions"].keys() == {1, 2}
        repository = server.directory / "git" / f"{self.name}.git"
        for version in (1, 2):
            one = http.ok("GET", f"{self.base}/versions/{version}")
            ids = [log.entries.index(e) for e in
                   log.of("version.create", id=f"{self.name}:{version}")]
            assert ids == [one["leaf_index"]], "not one leaf for the version"
            wait_until(lambda v=version: (repository / f"refs/tags/v{v}").exists(), 10,
                       "the tag is there (after a crash, at the next start)")
            assert git(repository, "rev-parse", f"refs/tags/v{version}^{{commit}}") == one["commit"]
        git(repository, "fsck", "--strict", "--no-dangling")
        wait_until(lambda: read_log(server, http).of("alias.set", id=f"{self.name}:free"), 10,
                   "the alias is in the log")


def git(repository, *args):
    done = subprocess.run(["git", "-C", repository, *args], capture_output=True, text=True,
                          check=False, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent",
                                            "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_COUNT": "1",
                                            "GIT_CONFIG_KEY_0": "safe.directory",
                                            "GIT_CONFIG_VALUE_0": "*"})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def check(directory, *options):
    """`mlctld check`: its exit status and verdict."""
    done = subprocess.run([build_directory() / "mlctld", "check", "--data", directory, *options],
                          capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in (0, 1) and done.stdout, f"{done.returncode}: {done.stderr}"
    return done.returncode, json.loads(done.stdout)


def check_ok(directory, *options):
    status, verdict = check(directory, *options)
    assert status == 0 and verdict["ok"] is True, verdict
    return verdict


def read_log(server, http=None):
    """The log on disk, verified by the second verifier."""
    http = http or server.client()
    vkey = http.ok("GET", "/log/vkey")
    vkey = vkey.decode() if isinstance(vkey, bytes) else vkey
    for _ in range(3):
        try:
            return tlog.Log(server.directory / "log", vkey)
        except tlog.Missing:  # a partial tile goes when it is full
            pass
    return tlog.Log(server.directory / "log", vkey)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Drill:
    """Shots at one server, each at a story of its own; what went wrong is in `wrong`."""

    def __init__(self, server):
        self.server = server
        self.number = 0
        self.older = None
        self.wrong = []

    @property
    def http(self):
        return self.server.client(self.server.token)

    def discover(self):
        """The calls of one story that nothing disturbs, in order."""
        self.server.board.arm()
        story = self.next()
        story.push(self.http)
        story.published(self.http)
        time.sleep(0.1)  # the rest of that round of the leader
        found = self.server.board.points()
        self.server.board.disarm()
        self.settle(story)
        return found

    def next(self):
        self.number += 1
        return Story(self.number)

    def settle(self, story):
        """No fault any more: what was acknowledged holds, the client's retry makes it complete."""
        if self.server.died():
            self.server.start()
        http = self.http
        story.check_visible(http)
        story.push(http)
        story.published(http)
        log = read_log(self.server, http)
        if self.older:
            log.includes(self.older)
        self.older = log
        story.check_complete(self.server, http, log)

    def shoot(self, point, action, error=0):
        """One story with this fault; whether it was hit."""
        board = self.server.board
        story = self.next()
        board.arm(point, action, error)
        try:
            story.push(self.http)
            story.published(self.http, self.server.died, 8)
        except Broken:
            pass
        board.disarm()
        hit = board.hit
        if hit and action in (faults.KILL, faults.KILL_AFTER):
            if not self.server.died():
                self.server.child.wait(10)  # the client sees it before the parent does
        self.settle(story)
        return hit

    def shoot_all(self, shots):
        """shots: (point, action, error); all are tried before the test fails."""
        missed = []
        for shot in shots:
            try:
                if not self.shoot(*shot):
                    missed.append(shot)
            except Exception as e:  # pylint: disable=broad-except
                where = traceback.extract_tb(e.__traceback__)[-1]
                self.wrong.append(f"{shot}: {type(e).__name__}: {str(e)[:600]} "
                                  f"({where.filename}:{where.lineno}: {where.line})")
                if len(self.wrong) >= 5:
                    break
                self.server.kill()
                self.server.start()
        assert not self.wrong, "\n".join(self.wrong) + self.server.output()[-6000:]
        assert len(missed) <= len(shots) // 4, f"most shots must hit: {missed}"
