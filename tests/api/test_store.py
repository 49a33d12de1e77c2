# SPDX-License-Identifier: Apache-2.0
"""Blobs and uploads: what arrives is durable, resumable, and present only where it was put."""
import concurrent.futures
import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.parse

import pytest

from support.cli import invite
from support.client import Client
from support.oci import Repository, code, digest
from support.process import wait_until
from support.server import build_directory

MIB = 1 << 20
EIGHT_DAYS = 8 * 86400


def blob_file(server, name):
    hexes = name.removeprefix("sha256:")
    return server.directory / "blobs" / "sha256" / hexes[:2] / hexes


def upload_directory(server, location):
    return server.directory / "uploads" / location.rsplit("/", 1)[1]


@pytest.fixture
def repo(user):
    """A repository of its own namespace, as a contributor of it."""
    namespace = "store-" + os.urandom(4).hex()
    person = user(f"contributor@{namespace}")
    one = Repository(person.http, f"{namespace}/model")
    one.person, one.namespace = person, namespace
    return one


@pytest.fixture
def own(fresh_server, tmp_path):
    """The same on a server of the test's own, which may be stopped: (server, repository)."""
    person = invite(fresh_server, tmp_path / "home", "pat", ["contributor@team"])
    return fresh_server, Repository(person.http, "team/model")


def again(server, one):
    """The repository through a server that was started anew."""
    return Repository(server.client(one.http.token), one.name)


# --- arriving ---

@pytest.mark.parametrize("size", [0, 1, 2, MIB - 1, MIB, MIB + 1, 2 * MIB, 5 * MIB + 17])
def test_what_is_pushed_comes_back(repo, server, size):
    data = os.urandom(size)
    name = repo.push(data)
    reply = repo.get(name)
    assert reply.content == data
    assert reply.headers["Docker-Content-Digest"] == name
    assert blob_file(server, name).read_bytes() == data
    assert blob_file(server, name).stat().st_mode & 0o777 == 0o400
    assert blob_file(server, name).stat().st_nlink == 1


def test_an_upload_leaves_nothing_behind(repo, server):
    data = os.urandom(100)
    location = repo.start()
    assert upload_directory(server, location).is_dir()
    repo.finish(location, digest(data), data)
    assert not upload_directory(server, location).exists()
    assert repo.http.get(location).status_code == 404


def test_chunks(repo):
    data = os.urandom(3 * MIB + 5)
    location = repo.start()
    at = 0
    for size in (1, MIB, 7, MIB + 3):
        reply = repo.patch(location, data[at:at + size], first=at)
        at += size
        assert reply.headers["Range"] == f"0-{at - 1}"
        assert reply.headers["Upload-Offset"] == str(at)
        assert repo.offset(location) == at
    repo.finish(location, digest(data), data[at:],
                headers={"Content-Range": f"{at}-{len(data) - 1}"})
    assert repo.get(digest(data)).content == data


def test_streamed_without_length(repo):
    data = os.urandom(2 * MIB + 9)
    location = repo.start()
    repo.patch(location, iter([data[:MIB], data[MIB:]]))
    repo.finish(location, digest(data))
    assert repo.get(digest(data)).content == data


def test_bytes_that_do_not_match_leave_no_trace(repo, server):
    data = os.urandom(1000)
    location = repo.start()
    reply = repo.finish(location, digest(b"other"), data, status=400)
    assert code(reply) == "DIGEST_INVALID"
    assert not upload_directory(server, location).exists()
    assert not blob_file(server, digest(data)).exists()
    assert not repo.has(digest(data)) and not repo.has(digest(b"other"))


def test_the_same_bytes_at_once(repo):
    data = os.urandom(2 * MIB)
    clients = [Repository(Client(repo.http.url, repo.http.token), repo.name) for _ in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda c: c.push(data), clients)) == {digest(data)}
    assert repo.get(digest(data)).content == data


# --- holding ---

def raw(repo, method, path, headers, body=b""):
    """An open connection on which head and some of the body were sent."""
    url = urllib.parse.urlsplit(repo.http.url)
    s = socket.create_connection((url.hostname, url.port), timeout=30)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {url.netloc}",
             f"Authorization: Bearer {repo.http.token}"]
    lines += [f"{k}: {v}" for k, v in headers.items()]
    s.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return s


def test_a_broken_connection_keeps_what_arrived(repo):
    data = os.urandom(4 * MIB)
    location = repo.start()
    s = raw(repo, "PATCH", location, {"Content-Length": len(data)}, data[:3 * MIB])
    time.sleep(0.5)
    s.close()
    at = wait_until(lambda: repo.http.get(location).status_code == 204 and repo.offset(location),
                    20, "the upload can be asked for")
    assert at == 3 * MIB
    repo.patch(location, data[at:], first=at)
    repo.finish(location, digest(data))
    assert repo.get(digest(data)).content == data


def test_two_requests_never_write_one_upload(repo):
    location = repo.start()
    s = raw(repo, "PATCH", location, {"Content-Length": 10}, b"12345")
    try:
        time.sleep(0.3)
        reply = repo.patch(location, b"67890", status=409)
        assert code(reply) == "BLOB_UPLOAD_INVALID"
        s.sendall(b"67890")
        assert b" 202 " in s.recv(4096)
    finally:
        s.close()
    repo.finish(location, digest(b"1234567890"))


def test_an_upload_is_of_one_person_and_one_repository(repo, user):
    location = repo.start()
    repo.patch(location, b"abc")
    other = user(f"contributor@{repo.namespace}")
    for reply in (other.http.get(location), other.http.delete(location),
                  other.http.patch(location, data=b"d"),
                  other.http.put(location, params={"digest": digest(b"abc")}),
                  repo.http.get(location.replace("/model/", "/other/"))):
        assert reply.status_code == 404
        assert code(reply) == "BLOB_UPLOAD_UNKNOWN"
    assert repo.offset(location) == 3


@pytest.mark.parametrize("name", ["x", "..", "0", "a" * 36, "%2e%2e%2fkeys",
                                  "00000000-0000-4000-8000-000000000000"])
def test_upload_ids_that_are_none(repo, name):
    reply = repo.http.get(f"{repo.base}/blobs/uploads/{name}")
    assert reply.status_code in (400, 404)


# --- presence ---

def test_presence_is_per_repository(repo, user):
    data = os.urandom(500)
    name = repo.push(data)
    sibling = Repository(repo.http, f"{repo.namespace}/sibling")
    assert code(sibling.get(name, 404)) == "BLOB_UNKNOWN"
    assert not sibling.has(name)
    stranger = user("contributor@elsewhere-" + os.urandom(3).hex())
    assert stranger.http.get(f"{repo.base}/blobs/{name}").status_code == 404


def test_mount(repo, user):
    data = os.urandom(500)
    name = repo.push(data)
    sibling = Repository(repo.http, f"{repo.namespace}/sibling")
    assert sibling.start(201, mount=name, **{"from": repo.name}).endswith(f"/sibling/blobs/{name}")
    assert sibling.get(name).content == data
    # without a source, wherever the caller may read
    assert Repository(repo.http, f"{repo.namespace}/third").start(201, mount=name)
    # a blob that is nowhere, or of another repository than the one named, becomes an upload
    assert "/uploads/" in sibling.start(202, mount=digest(os.urandom(9)))
    assert "/uploads/" in Repository(repo.http, f"{repo.namespace}/fourth").start(
        202, mount=name, **{"from": f"{repo.namespace}/nothing"})
    # not a way to learn what others have
    elsewhere = "elsewhere-" + os.urandom(3).hex()
    stranger = Repository(user(f"contributor@{elsewhere}").http, f"{elsewhere}/model")
    assert "/uploads/" in stranger.start(202, mount=name, **{"from": repo.name})
    assert "/uploads/" in stranger.start(202, mount=name)
    assert not stranger.has(name)


# --- across restarts ---

def test_resume_after_restart(own):
    server, repo = own
    data = os.urandom(5 * MIB)
    location = repo.start()
    repo.patch(location, data[:3 * MIB + 1])
    server.restart()
    repo = again(server, repo)
    assert repo.offset(location) == 3 * MIB + 1
    repo.patch(location, data[3 * MIB + 1:], first=3 * MIB + 1)
    server.kill()
    server.start()
    repo = again(server, repo)
    repo.finish(location, digest(data))
    assert repo.get(digest(data)).content == data


def test_state_and_file_that_disagree(own):
    server, repo = own
    data = os.urandom(2 * MIB)

    # the hash cannot be used: the file is read again
    location = repo.start()
    repo.patch(location, data[:MIB])
    state = upload_directory(server, location) / "state"
    doc = json.loads(state.read_text())
    state.write_text(json.dumps({**doc, "hash": "00"}))
    repo.finish(location, digest(data), data[MIB:])

    # the file holds more than the state says: that was never synced
    location = repo.start()
    repo.patch(location, data[:MIB])
    with open(upload_directory(server, location) / "data", "ab") as f:
        f.write(b"never acknowledged")
    assert repo.offset(location) == MIB
    repo.finish(location, digest(data), data[MIB:])

    # less: those bytes are lost, and so is the upload
    location = repo.start()
    repo.patch(location, data[:MIB])
    os.truncate(upload_directory(server, location) / "data", MIB - 1)
    assert repo.http.get(location).status_code == 404

    location = repo.start()
    (upload_directory(server, location) / "state").write_text("garbage")
    assert repo.http.get(location).status_code == 404


def test_uploads_expire(own):
    server, repo = own
    old, young = repo.start(), repo.start()
    repo.patch(old, b"abc")
    server.stop()
    then = time.time() - EIGHT_DAYS
    os.utime(upload_directory(server, old) / "state", (then, then))
    server.start()
    repo = again(server, repo)
    assert repo.http.get(old).status_code == 404
    assert not upload_directory(server, old).exists()
    assert repo.offset(young) == 0


def leave_link(server, data):
    """What a crash between link and COMMIT leaves: a blob without a row, linked to an upload."""
    directory = server.directory / "uploads" / "11111111-2222-4333-8444-555555555555"
    directory.mkdir()
    (directory / "data").write_bytes(data)
    target = blob_file(server, digest(data))
    target.parent.mkdir(exist_ok=True)
    os.link(directory / "data", target)
    return directory, target


def test_a_crash_before_commit_is_cleaned_up(own):
    server, repo = own
    kept = repo.push(b"kept")
    server.kill()
    directory, target = leave_link(server, b"half")
    second = server.directory / "uploads" / "11111111-2222-4333-8444-666666666666"
    second.mkdir()
    os.link(blob_file(server, kept), second / "data")  # the crash came after COMMIT here
    server.start()
    repo = again(server, repo)
    assert not directory.exists() and not target.exists() and not second.exists()
    assert repo.get(kept).content == b"kept"
    assert repo.push(b"half") == digest(b"half")


def check(server):
    done = subprocess.run([build_directory() / "mlctld", "check", "--data", server.directory],
                          timeout=120, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_check_names_what_is_wrong_with_a_blob(own):
    server, repo = own
    name = repo.push(os.urandom(3000))
    server.stop()
    file = blob_file(server, name)
    assert check(server)[0] == 0

    whole = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    status, said = check(server)
    assert status == 1 and name in said and "changed" in said
    file.unlink()
    status, said = check(server)
    assert status == 1 and name in said and "missing" in said
    file.write_bytes(whole)
    assert check(server)[0] == 0

    for extra in (file.with_name("0" * 64), file.with_name("note.txt"), file.parent.parent / "zz",
                  server.directory / "blobs" / "sha512"):
        extra.write_bytes(b"extra")
        status, said = check(server)
        assert status == 1 and "accounted for" in said and extra.name[:8] in said, said
        extra.unlink()

    _, target = leave_link(server, b"half")
    assert check(server)[0] == 0
    assert target.exists()


# --- full disk ---

@contextlib.contextmanager
def small_disk(directory, size):
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "mlctl-test", directory],
                          capture_output=True, check=False)
    if done.returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def test_no_push_fills_the_disk(make_server, tmp_path):
    with small_disk(tmp_path / "disk", 1400 * MIB) as disk:
        server = make_server(disk / "data").start()
        person = invite(server, tmp_path / "home", "pat", ["contributor@team"])
        repo = Repository(person.http, "team/model")
        small = repo.push(b"fits")

        # known before the body: refused without reading it
        s = raw(repo, "POST", f"{repo.base}/blobs/uploads/?digest={digest(b'x')}",
                {"Content-Length": 2000 * MIB, "Expect": "100-continue"})
        assert b" 507 " in s.recv(4096)
        s.close()

        # unknown: refused on the way, and what was written can be kept or goes
        location = repo.start()
        piece = bytes(MIB)
        try:
            reply = repo.http.patch(location, data=iter([piece] * 500))
            assert reply.status_code == 507, reply.text
        except OSError:
            pass  # the reply came while we were still sending
        stat = os.statvfs(disk)
        assert stat.f_bavail * stat.f_frsize >= 1 << 30
        repo.http.delete(location)
        assert repo.get(small).content == b"fits"
        assert repo.push(b"fits again") == digest(b"fits again")
        server.stop()
