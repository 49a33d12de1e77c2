# SPDX-License-Identifier: Apache-2.0
"""Versions that a server remembers look like the database says, at every server, at once."""
import concurrent.futures
import json
import os
import struct

import pytest

from support import oci, process
from support.cli import invite
from support.client import Client


class Model:
    """The model team/model as this person sees it."""

    def __init__(self, http):
        self.http = http
        self.repo = oci.Repository(http, "team/model")
        self.base = "/api/v1/models/team/model"

    def version(self):
        header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
        weights = struct.pack("<Q", len(header)) + header + os.urandom(8)
        layer = oci.descriptor(weights, "application/vnd.cncf.model.weight.v1.raw",
                               annotations={"org.cncf.model.filepath": "w.safetensors"})
        data = oci.manifest(layers=[layer])
        for blob in (b"{}", weights):
            self.repo.push(blob)
        self.repo.put_manifest(oci.digest(data), data)
        self.http.ok("POST", f"{self.base}/versions", json={"digest": oci.digest(data)})

    def get(self, version):
        return self.http.ok("GET", f"{self.base}/versions/{version}")

    def alias(self, alias, version, match=None):
        headers = {"If-Match": f'"{match}"'} if match is not None else {}
        return self.http.put(f"{self.base}/aliases/{alias}", json={"version": version},
                             headers=headers)

    def set_status(self, version, status, reason):
        return self.http.post(f"{self.base}/versions/{version}/status",
                              json={"status": status, "reason": reason})


@pytest.fixture
def pair(make_server, postgres, database):
    """Two servers on one database and one DIR."""
    one = make_server(postgres=postgres.conninfo(database)).start()
    two = make_server(one.directory, postgres=postgres.conninfo(database))
    two.log = one.directory.with_name("two.stderr")
    (one.directory / "address").rename(one.directory / "address.one")
    return one, two.start()


def in_the_log(model, version):
    """Waits until the version has its leaf index: only then it is remembered."""
    process.wait_until(lambda: model.get(version)["leaf_index"] is not None, 30, "it is in the log")


def test_it_is_remembered(fresh_server, tmp_path):
    """What is changed in SQL, behind the servers' back, shows after a moment only."""
    person = invite(fresh_server, tmp_path / "home", "pat", ["contributor@team"])
    model = Model(person.http)
    model.version()
    in_the_log(model, 1)

    def remembered(text):
        model.get(1)
        fresh_server.sql("insert into alias (model_id, alias, number)"
                         f" select id, '{text}', 1 from model")
        return text not in model.get(1)["aliases"]

    # a slow machine may take longer than the moment
    assert any(remembered(f"by-hand-{i}") for i in range(5))
    process.wait_until(lambda: "by-hand-0" in model.get(1)["aliases"], 15, "it shows")
    model.alias("other", 1)  # whoever changes a thing sees all of it
    aliases = fresh_server.sql("select alias from alias order by alias").split()
    assert model.get(1)["aliases"] == aliases
    assert aliases[-1] == "other"


@pytest.mark.threads
def test_alias_status_and_new_versions(pair, tmp_path):
    """A change that one server acknowledged is in the next reply of the other."""
    person = invite(pair[0], tmp_path / "home", "pat", ["contributor@team"])
    first = Model(person.http)
    second = Model(Client(pair[1].url, person.token))
    first.version()
    in_the_log(first, 1)
    assert second.get("latest") == first.get("latest") == first.get("v1") == second.get(1)
    assert second.http.get(f"{second.base}/versions/champion").status_code == 404

    first.version()
    in_the_log(first, 2)
    here, there = first, second
    digests = {n: first.get(n)["digest"] for n in (1, 2)}
    tag = None
    for i in range(20):
        number = i % 2 + 1
        reply = here.alias("champion", number, tag)
        assert reply.status_code == (201 if i == 0 else 200), reply.text
        tag = reply.headers["ETag"].strip('"')
        assert there.get("champion")["version"] == number
        assert there.get(number)["aliases"] == ["champion"]
        assert there.get(3 - number)["aliases"] == []
        assert there.get(digests[number])["aliases"] == ["champion"]
        status = ("deprecated", "ready")[i % 2]
        assert here.set_status(2, status, f"round {i}").status_code == 200
        seen = there.get(2)
        assert (seen["status"], seen["status_reason"]) == (status, f"round {i}")
        assert there.get("latest") == here.get("latest") == seen
        here, there = there, here

    assert first.http.delete(f"{first.base}/aliases/champion",
                             headers={"If-Match": f'"{tag}"'}).status_code == 204
    assert second.http.get(f"{second.base}/versions/champion").status_code == 404
    assert second.get(2)["aliases"] == []
    second.version()
    assert first.get("latest")["version"] == 3


def test_erased_at_once(pair, tmp_path):
    admin = pair[0].client(pair[0].admin_token)
    author = invite(pair[0], tmp_path / "home", "ada", ["contributor@team"])
    model = Model(author.http)
    model.version()
    assert model.set_status(1, "deprecated", "says Ada").status_code == 200
    in_the_log(model, 1)
    readers = [Model(Client(s.url, s.admin_token)) for s in pair]
    for reader in readers * 2:
        seen = reader.get(1)
        assert (seen["author"]["name"], seen["status_reason"]) == ("ada", "says Ada")
    admin.ok("POST", f"/api/v1/users/{author.id}/erase")
    for reader in reversed(readers):
        seen = reader.get(1)
        assert seen["author"] == {"id": author.id, "name": None}
        assert seen["status_reason"] is None


def test_rights_and_conditions(pair, tmp_path):
    """Remembered or not: strangers see nothing, ETags and HEAD work."""
    person = invite(pair[0], tmp_path / "home", "pat", ["contributor@team"])
    stranger = invite(pair[0], tmp_path / "stranger", "kim", ["contributor@elsewhere"])
    model = Model(person.http)
    model.version()
    in_the_log(model, 1)
    path = f"{model.base}/versions/1"
    replies = [person.http.get(path) for _ in range(3)]
    tag = replies[0].headers["ETag"]
    for reply in replies:
        assert (reply.content, reply.headers["ETag"]) == (replies[0].content, tag)
        assert reply.headers["Content-Type"] == "application/json"
    for _ in range(2):
        same = person.http.get(path, headers={"If-None-Match": tag})
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
        other = person.http.get(path, headers={"If-None-Match": '"else"'})
        assert (other.status_code, other.content) == (200, replies[0].content)
        head = person.http.head(path)
        assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", tag)
        assert int(head.headers["Content-Length"]) == len(replies[0].content)
        assert stranger.http.get(path).status_code == 404
        assert pair[0].client().get(path).status_code == 401
    admin = pair[0].client(pair[0].admin_token)
    admin.ok("DELETE", f"/api/v1/users/{person.id}/roles/contributor@team")
    assert person.http.get(path).status_code == 404


@pytest.mark.threads
def test_readers_beside_a_writer(pair, tmp_path):
    """Each reader sees the status that was acknowledged last, or a later one, never an older."""
    person = invite(pair[0], tmp_path / "home", "pat", ["contributor@team"])
    model = Model(person.http)
    model.version()
    in_the_log(model, 1)
    acknowledged, rounds = [0], 60

    def read(server):
        mine, n = Model(Client(server.url, person.token)), 0
        while acknowledged[0] < rounds:
            before = acknowledged[0]
            reason = mine.get(1)["status_reason"]
            assert (int(reason) if reason else 0) >= before
            n += 1
        return n

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, pair[i % 2]) for i in range(4)]
        try:
            for i in range(1, rounds + 1):
                status = ("ready", "deprecated")[i % 2]
                assert model.set_status(1, status, str(i)).status_code == 200
                acknowledged[0] = i
        finally:
            acknowledged[0] = rounds
        assert all(r.result(60) > 0 for r in readers)
