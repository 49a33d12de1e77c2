# SPDX-License-Identifier: Apache-2.0
"""A database or log files older than the signing state, an edited state, another key: the server
reads, refuses writes with the reason, and signs nothing."""
import shutil
import subprocess
import time

import pytest
import requests

from fault.story import Broken, Story, check, read_log
from support.oci import digest
from support.process import wait_until
from support.server import Directories, Server

OLDER_DATABASE = "database is older than the log"
OLDER_LOG = "log is older than its signing state"


@pytest.fixture(scope="module")
def source(template):
    """The directory of a stopped server with more in it than the template, and its story."""
    directories = Directories()
    server = Server(directories.new())
    try:
        subprocess.run(["cp", "-aT", template[0], server.directory], check=True)
        http = server.start().client(template[1])
        story = Story(1)
        story.push(http)
        story.published(http)
        server.stop()
        yield server.directory, story
    finally:
        server.kill()
        directories.remove()


@pytest.fixture
def grown(ruin, source, template):
    """(server on a copy, its story, the directory of before)."""
    server = ruin(copy=False)
    subprocess.run(["cp", "-aT", source[0], server.directory], check=True)
    return server, source[1], template[0]


def put_back(server, before, *names):
    for name in names:
        target = server.directory / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        subprocess.run(["cp", "-aT", before / name, target], check=True)


def start_unready(server):
    """Starts a server that is not to become ready."""
    address = server.directory / "address"
    address.unlink(missing_ok=True)
    server.spawn()

    def listening():
        assert server.child.poll() is None, server.output()[-3000:]
        return address.exists() and address.read_text(encoding="ascii").strip()

    server.url = wait_until(listening, 60, "mlctld listens")
    http = server.client(server.token)

    def answers():
        try:
            return http.get("/healthz").status_code == 200
        except requests.RequestException:
            return False

    wait_until(answers, 20, "mlctld answers")
    return http


def refuses_writes(server, http, reason, state):
    """/readyz, a write and an upload give the reason; nothing is signed meanwhile."""
    note = (server.directory / "log/checkpoint").read_bytes()
    ready = http.get("/readyz")
    assert ready.status_code == 503 and reason in ready.text, ready.text
    problem = http.refused(503, "PUT", "/api/v1/models/fault/m1/aliases/free",
                           json={"version": 1}, headers={"If-Match": '"2"'})
    assert reason in problem["detail"], problem
    reply = http.post("/v2/fault/m1/blobs/uploads/")
    assert reply.status_code == 503, reply.text
    time.sleep(1.5)
    assert (server.directory / "log/state").read_bytes() == state, "the state was written"
    assert (server.directory / "log/checkpoint").read_bytes() == note, "something was signed"
    assert reason in server.output()


def test_older_database(grown):
    server, _, before = grown
    put_back(server, before, "postgres")
    state = (server.directory / "log/state").read_bytes()
    http = start_unready(server)
    refuses_writes(server, http, OLDER_DATABASE, state)
    assert http.get("/api/v1/whoami").status_code == 200
    assert http.get("/log/checkpoint").status_code == 200
    status, verdict = check(server.directory)
    assert status == 1, verdict


def test_older_log(grown):
    server, story, before = grown
    state = (server.directory / "log/state").read_bytes()
    put_back(server, before, "log")
    (server.directory / "log/state").write_bytes(state)
    http = start_unready(server)
    refuses_writes(server, http, OLDER_LOG, state)
    story.check_visible(http)  # pulls go on
    assert check(server.directory)[0] == 1


def test_older_state_too(grown):
    """Everything below log/ is older, and the database is not: the anchors or rows tell."""
    server, story, before = grown
    put_back(server, before, "log")
    state = (server.directory / "log/state").read_bytes()
    http = start_unready(server)
    ready = http.get("/readyz")
    if ready.status_code == 503:
        assert (server.directory / "log/state").read_bytes() == state
    else:
        # it continues from the same rows: the same leaves give the same tree, no fork
        story.published(http)
        read_log(server)
    story.check_visible(http)


@pytest.mark.parametrize("edit", ["byte", "size", "cut", "gone", "epoch"])
def test_edited_state(grown, edit):
    server, story, _ = grown
    path = server.directory / "log/state"
    text = path.read_bytes()
    if edit == "gone":
        path.unlink()
    else:
        path.write_bytes({"byte": text.replace(b'"root":"sha256:', b'"root":"sha256:0', 1),
                          "size": text.replace(b'"size":', b'"size":1', 1),
                          "epoch": text.replace(b'"epoch":', b'"epoch":9', 1),
                          "cut": text[:len(text) // 2]}[edit])
    http = start_unready(server)
    ready = http.get("/readyz")
    assert ready.status_code == 503 and "signing state" in ready.text, ready.text
    problem = http.refused(503, "PUT", "/api/v1/models/fault/m1/aliases/free",
                           json={"version": 1}, headers={"If-Match": '"2"'})
    assert "signing state" in problem["detail"]
    story.check_visible(http)
    assert check(server.directory)[0] == 1


def test_another_key(grown, ruin):
    """A key that is not the one of the database and the log: refused at start, or not ready."""
    server, _, _ = grown
    other = ruin(copy=False).start()
    other.stop()
    key = other.directory / "keys/server.key"
    shutil.copyfile(key, server.directory / "keys/server.key")
    state = (server.directory / "log/state").read_bytes()
    server.spawn()
    status = server.child.wait(30)
    server.child = None
    assert status == 1
    last = [line for line in server.output().splitlines() if not line.startswith("{")][-1]
    assert last.startswith("mlctld: ") and "key" in last, last
    assert (server.directory / "log/state").read_bytes() == state
    assert check_refuses(server)


def check_refuses(server):
    try:
        return check(server.directory)[0] == 1
    except AssertionError:  # it could not look, and said why
        return True


def test_clients_do_not_wait_for_it(grown):
    """The story against a server that is read-only fails at its first write, at once."""
    server, _, before = grown
    put_back(server, before, "postgres")
    http = start_unready(server)
    story = Story(7)
    start = time.monotonic()
    with pytest.raises(Broken, match=OLDER_DATABASE):
        story.push_blob(http, digest(b"{}"))
    assert time.monotonic() - start < 2
