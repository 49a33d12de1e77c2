# SPDX-License-Identifier: Apache-2.0
"""One byte changed anywhere, and what somebody with SQL might grant: `mlctld check` names it."""
import contextlib
import os
import re
import subprocess
import time

import pytest

from fault.story import Story, check, check_ok, git, read_log
from support.cli import invite
from support.process import account, wait_until
from support.server import Directories, Server

SETUP = "SET session_replication_role = replica;"  # no triggers, as whoever owns the cluster can


class Ruined:
    """A server with two versions, aliases, keys and an anchor; each test undoes what it does."""

    def __init__(self, server, home):
        self.server = server
        self.directory = server.directory
        person = invite(server, home, "pat", ["contributor@fault", "auditor"])
        self.story = Story(1)
        self.story.push(person.http)
        self.story.published(person.http)
        self.person = person
        self.repository = self.directory / "git" / f"{self.story.name}.git"
        self.anchors = self.directory / "git" / "audit.git"
        self.size = wait_until(self._quiet, 40, "the last anchor is published")

    def _quiet(self):
        """Nothing is to come: the outbox is empty, and the last leaf is an anchor over the rest."""
        log = read_log(self.server)
        last = log.entries[-1]
        if last["action"] != "log.anchor" or self.sql("SELECT count(*) FROM audit_outbox") != "0":
            return 0
        time.sleep(0.3)
        return log.size

    def sql(self, text, stdin=None):
        host = self.directory / "postgres"
        who = account("postgres")
        done = subprocess.run(
            ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", *(("-c", text) if text else ("-f", "-")),
             f"host={host} user=postgres dbname=mlctl"],
            input=stdin, capture_output=True, text=True, check=False, cwd="/",
            env={"PATH": os.environ["PATH"]}, **who)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextlib.contextmanager
    def changed_rows(self, text):
        """Runs it; afterwards the tables are as they were."""
        tables = sorted(set(re.findall(r"(?:UPDATE|INSERT INTO|DELETE FROM) (\w+)", text)))
        before = self._rows(tables)
        self.sql(f"{SETUP} {text}")
        try:
            assert self._rows(tables) != before, "nothing changed"
            yield
        finally:
            # \copy … \. needs a script, not -c
            script = SETUP + "BEGIN;" + "".join(f"DELETE FROM {t};" for t in tables)
            for table in tables:
                rows = "".join(f"{row}\n" for row in before[table])
                script += f"\nCOPY {table} FROM STDIN;\n{rows}\\.\n"
            self.sql(None, script + "COMMIT;")

    def _rows(self, tables):
        return {t: self.sql(f"COPY {t} TO STDOUT").splitlines() for t in tables}

    def found(self):
        status, verdict = check(self.directory)
        assert (status, verdict["ok"]) == (1, False), verdict
        return verdict


@contextlib.contextmanager
def flipped(path, at=None):
    """One bit of this file changed in place."""
    data = bytearray(path.read_bytes())
    before, mode = bytes(data), path.stat().st_mode
    data[len(data) // 2 if at is None else at] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)
        path.chmod(mode)


@pytest.fixture(scope="module")
def ruined():
    directories = Directories()
    server = Server(directories.new())
    try:
        os.chmod(directories.base, 0o711)  # psql as postgres must reach the socket
        one = Ruined(server.start(), directories.base / "home")
        check_ok(one.directory)
        yield one
        check_ok(one.directory)
        server.stop()
    finally:
        server.kill()
        directories.remove()


ROWS = {
    "leaf of a row": "UPDATE audit_log SET leaf = set_byte(leaf, 40, get_byte(leaf, 40) # 1) "
                     "WHERE idx = 5",
    "hash of a row": "UPDATE audit_log SET leaf_hash = set_byte(leaf_hash, 0, "
                     "get_byte(leaf_hash, 0) # 1) WHERE idx = 5",
    "leaf with its hash": "UPDATE audit_log SET leaf = l.leaf, leaf_hash = l.leaf_hash FROM "
                          "audit_log l WHERE audit_log.idx = 5 AND l.idx = 4",
    "row deleted": "DELETE FROM audit_log WHERE idx = 5",
    "digest of a version": "UPDATE version SET digest = 'sha256:' || repeat('0', 64) "
                           "WHERE number = 1",
    "commit of a version": "UPDATE version SET commit_oid = repeat('0', 40) WHERE number = 1",
    "status of a version": "UPDATE version SET status = 'withdrawn' WHERE number = 1",
    "label of a version": "UPDATE version SET labels = '{\"a\":\"b\"}' WHERE number = 1",
    "metric of a version": "UPDATE version SET metrics = '{\"auc\":1}' WHERE number = 1",
    "author of a version": "UPDATE version SET author = 'u000000000000' WHERE number = 1",
    "version deleted": "DELETE FROM version WHERE number = 2",
    "label for the search": "INSERT INTO version_label SELECT id, 'tier', 'low' FROM version "
                            "WHERE number = 1",
    "metric for the search": "INSERT INTO version_metric SELECT id, 'auc', 1 FROM version "
                             "WHERE number = 1",
    "bytes of a commit": "UPDATE version_commit SET bytes = set_byte(bytes, 60, "
                         "get_byte(bytes, 60) # 1)",
    "alias": "UPDATE alias SET number = 1 WHERE alias = 'free'",
    "alias deleted": "DELETE FROM alias WHERE alias = 'free'",
    "role granted": "INSERT INTO role_grant SELECT id, 'approver', '*' FROM app_user "
                    "WHERE name = 'pat'",
    "role revoked": "DELETE FROM role_grant WHERE role = 'auditor'",
    "token inserted": "INSERT INTO token (id, user_id, hash) SELECT 't0123456789ab', id, "
                      "sha256('x') FROM app_user WHERE name = 'admin'",
    "token replaced": "UPDATE token SET hash = sha256('x') WHERE user_id = "
                      "(SELECT id FROM app_user WHERE name = 'pat')",
    "person renamed": "UPDATE app_user SET name = 'eve' WHERE name = 'pat'",
    "history of an alias": "UPDATE alias_history SET number = 1 WHERE number = 2",
    "history of an alias cut": "DELETE FROM alias_history WHERE number = 2",
    "card of a version": "UPDATE version SET card = '# Other' WHERE number = 1",
    "summary of a version": "UPDATE version SET summary = replace(summary, '3', '4'), "
                            "doc = replace(doc, '3', '4')",
    "person disabled": "UPDATE app_user SET status = 'disabled' WHERE name = 'pat'",
    "key of the log": "UPDATE audit_origin SET state = jsonb_set(state, '{keys,0}', "
                      "to_jsonb(replace(state->'keys'->>0, '+', '+0')))",
    "checkpoint": "UPDATE audit_checkpoint SET root = set_byte(root, 0, get_byte(root, 0) # 1) "
                  "WHERE size = (SELECT min(size) FROM audit_checkpoint)",
    "note of a checkpoint": "UPDATE audit_checkpoint SET note = replace(note, '—', '–')",
    "head": "UPDATE audit_head SET root = set_byte(root, 0, get_byte(root, 0) # 1)",
    "anchor": "UPDATE audit_anchor SET oid = repeat('0', 40) WHERE seq = (SELECT max(seq) "
              "FROM audit_anchor)",
    "name behind a commitment": "UPDATE audit_pii SET value = 'eve' WHERE value = 'pat'",
    "size of a blob": "UPDATE blob SET size = size + 1",
    "blob forgotten": "DELETE FROM repo_blob; DELETE FROM blob",
    "manifest forgotten": "DELETE FROM manifest_tag; DELETE FROM manifest",
    "index for searching": "UPDATE audit_search SET action = 'version.nothing' WHERE idx = 5",
    "index for searching cut": "DELETE FROM audit_search WHERE idx = 5",
}


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS.keys())
def test_rows(ruined, change):
    with ruined.changed_rows(change):
        verdict = ruined.found()
    print(verdict)
    assert isinstance(verdict["what"], str) and verdict["what"]
    if "idx = 5" in change and "audit_log" in change:
        assert verdict["index"] == 5, verdict


def present(paths):
    """Of the partial ones only the widest: the others are of the past."""
    return [max(paths, key=lambda p: p.stat().st_size)]


def files(ruined):
    log = ruined.directory / "log"
    blobs = sorted(p for p in (ruined.directory / "blobs").rglob("*") if p.is_file())
    entries = sorted(p for p in (log / "tile/entries").rglob("*") if p.is_file())
    tiles = sorted(p for p in (log / "tile/0").rglob("*") if p.is_file())
    objects = sorted(p for p in (ruined.repository / "objects").rglob("*") if p.is_file())
    anchors = sorted(p for p in (ruined.anchors / "objects").rglob("*") if p.is_file())
    return {"checkpoint": [log / "checkpoint"], "state": [log / "state"], "blobs": blobs,
            "bundles": present(entries), "tiles": present(tiles),
            "objects": objects, "anchors": anchors,
            "refs": [p for p in (ruined.repository / "refs").rglob("*") if p.is_file()],
            "anchor ref": [ruined.anchors / "refs/heads/audit"],
            "head and config": [ruined.repository / "HEAD", ruined.repository / "config"],
            "keys": [ruined.directory / "keys/server.key"]}


@pytest.mark.parametrize("kind", ["checkpoint", "state", "blobs", "bundles", "tiles", "objects",
                                  "anchors", "refs", "anchor ref", "head and config"])
def test_files(ruined, kind):
    chosen = files(ruined)[kind]
    assert chosen
    missed = []
    for path in chosen[::max(1, len(chosen) // 6)]:
        with flipped(path):
            status, verdict = check(ruined.directory)
        if status != 1 or verdict["ok"] or not verdict["what"]:
            missed.append((path, verdict))
    assert not missed


@pytest.mark.parametrize("where", ["log/extra", "log/tile/extra", "log/tile/0/001",
                                   "log/tile/9/000", "blobs/extra", "blobs/sha256/extra",
                                   "blobs/sha256/zz/y",
                                   "blobs/sha256/00/" + "0" * 64])
def test_extra_files(ruined, where):
    path = ruined.directory / where
    made = [p for p in (path.parent, path.parent.parent) if not p.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    old = time.time() - 90 * 86400  # no upload of just now
    os.utime(path, (old, old))
    try:
        assert path.name in ruined.found()["what"]
    finally:
        path.unlink()
        for directory in made:
            directory.rmdir()


@pytest.mark.parametrize("kind", ["checkpoint", "state", "blobs", "bundles", "tiles",
                                  "anchor ref"])
def test_missing_files(ruined, kind):
    path = files(ruined)[kind][-1]
    aside = ruined.directory / "aside"
    path.rename(aside)
    try:
        ruined.found()
    finally:
        aside.rename(path)


def test_reference_moved_back(ruined):
    tags = ruined.repository / "refs/tags"
    two = (tags / "v2").read_text(encoding="ascii")
    (tags / "v2").write_text(git(ruined.repository, "rev-parse", "v1") + "\n", encoding="ascii")
    try:
        assert "v2" in ruined.found()["what"]
    finally:
        (tags / "v2").write_text(two, encoding="ascii")


def test_reference_too_many(ruined):
    path = ruined.repository / "refs/tags/v3"
    path.write_bytes((ruined.repository / "refs/tags/v2").read_bytes())
    try:
        assert "v3" in ruined.found()["what"]
    finally:
        path.unlink()
