# SPDX-License-Identifier: Apache-2.0
"""Many files, many pushers, long files, and servers that go away in the middle."""
import concurrent.futures
import filecmp
import json
import os
import socket
import subprocess
import time

import pytest

from support.cli import Person, invite
from support.fake_server import LyingServer
from support.process import wait_until
from support.server import build_directory

MIB = 1 << 20
CHECKPOINT = 256 * MIB  # of an upload; what is beyond is not promised to survive kill -9
big = pytest.mark.skipif(not os.environ.get("MLC_BIG"), reason="needs 12 GiB of disk: MLC_BIG=1")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def own_server(make_server, *options):
    """A server of the test's own, which has the same address after a restart."""
    return make_server(options=["--listen", f"127.0.0.1:{free_port()}", *options])


def differences(left, right):
    """Paths that are not the same in both trees."""
    one = filecmp.dircmp(left, right)
    found = [*one.left_only, *one.right_only, *one.funny_files]
    _, wrong, errors = filecmp.cmpfiles(left, right, one.common_files, shallow=False)
    found += wrong + errors
    for name in one.common_dirs:
        found += differences(os.path.join(left, name), os.path.join(right, name))
    return found


def test_ten_thousand_files(user, tmp_path):
    person = user("contributor@scale")
    model = f"scale/files{os.getpid()}"
    tree = tmp_path / "tree"
    for folder in range(100):
        (tree / f"part-{folder:02}" / "deep").mkdir(parents=True)
        for i in range(100):
            name = f"{i:03}.json" if i % 3 else f"deep/ünïcode {i:03}"
            (tree / f"part-{folder:02}" / name).write_bytes(b"%d %d\n" % (folder, i) * (i * i % 97))
    (tree / "README.md").write_text("# Ten thousand\n", encoding="utf-8")
    (tree / "weights.bin").write_bytes(os.urandom(3 * MIB))
    first = person.json("push", model, tree)
    assert first["version"] == 1 and first["bytes_sent"] == first["bytes"] > 3 * MIB

    reply = person.http.get(f"/v2/{model}/manifests/v1")
    assert reply.status_code == 200 and len(reply.content) < 3 * MIB
    layers = json.loads(reply.content)["layers"]
    assert len(layers) < 10 and all(layer["size"] <= 64 * MIB for layer in layers)

    again = person.json("push", model, tree)
    assert (again["created"], again["bytes_sent"], again["version"]) == (False, 0, 1)
    person.run("pull", model, tmp_path / "out", timeout=240)
    assert differences(tree, tmp_path / "out") == []
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "out")) == 10002


@pytest.mark.serial
def test_32_pushers(make_server, tmp_path):
    """More connections than the server has places for, and some of them break: versions are
    numbered without a gap, and every pusher gets one of its own."""
    server = own_server(make_server, "--max-connections", "48").start()
    person = invite(server, tmp_path / "home", "pat", ["contributor@team"])
    liar = LyingServer(server.url)
    liar.cut_uploads(MIB, times=8)

    def push(i):
        one = Person(tmp_path / f"home{i}", liar.url if i % 4 == 0 else server.url, person.token)
        (one.home / "weights").write_bytes(os.urandom(2 * MIB))
        (one.home / "notes").write_text(str(i), encoding="utf-8")
        return one.json("push", "team/model", "weights", "notes", cwd=one.home, timeout=240)

    try:
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            made = list(pool.map(push, range(32)))
    finally:
        liar.close()
    assert sorted(one["version"] for one in made) == list(range(1, 33))
    assert all(one["created"] for one in made)
    assert len({one["digest"] for one in made}) == 32
    assert liar.upload_cuts[1] == 0, "the connections did not break"
    listed = person.http.ok("GET", "/api/v1/models/team/model/versions", params={"limit": 100})
    assert {one["version"]: one["digest"] for one in listed["items"]} == {
        one["version"]: one["digest"] for one in made}
    server.stop()


def pushing(person, model, path):
    return subprocess.Popen(
        [build_directory() / "mlctl", "push", model, path, "--output", "json"], env=person.env,
        cwd=path.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)


def durable(server):
    """What the state of the one upload in progress promises."""
    for state in (server.directory / "uploads").glob("*/state"):
        try:
            return json.loads(state.read_text(encoding="utf-8"))["offset"]
        except (FileNotFoundError, ValueError):
            pass
    return 0


@pytest.mark.serial
def test_killed_server_gets_the_rest(make_server, tmp_path):
    """The server is killed in the middle of an upload; the client waits for the next one, which
    asks for the rest only, and one version results."""
    server = own_server(make_server).start()
    person = invite(server, tmp_path / "home", "pat", ["contributor@team"])
    path, size = tmp_path / "weights", 640 * MIB
    with open(path, "wb") as f:
        f.write(os.urandom(MIB))
        f.truncate(size)
    client = pushing(person, "team/model", path)
    wait_until(lambda: durable(server) >= CHECKPOINT, 120, "the first checkpoint")
    server.kill()
    kept = durable(server)
    assert CHECKPOINT <= kept < size, "the upload was through already"
    server.start()
    out, err = client.communicate(timeout=120)
    assert client.returncode == 0, err.decode()
    pushed = json.loads(out)
    assert pushed["version"] == 1 and pushed["created"]
    assert size <= pushed["bytes_sent"] <= 2 * size - kept, "more than the rest was sent again"
    assert not list((server.directory / "uploads").iterdir())
    person.run("pull", "team/model", tmp_path / "out", timeout=240)
    assert filecmp.cmp(path, tmp_path / "out/weights", shallow=False)
    server.stop()


@pytest.mark.serial
def test_stopped_server_gets_the_rest(make_server, tmp_path):
    """An orderly restart: nothing that arrived is sent again by the client that was killed."""
    server = own_server(make_server).start()
    person = invite(server, tmp_path / "home", "pat", ["contributor@team"])
    path, size = tmp_path / "weights", 24 * MIB
    path.write_bytes(os.urandom(size))
    with_cut = LyingServer(server.url)
    # the address of an upload is kept for a server's address: the same one, before and behind
    person.env["MLCTL_SERVER"] = with_cut.url
    with_cut.cut_uploads(9 * MIB, times=1)
    client = pushing(person, "team/model", path)
    wait_until(lambda: with_cut.upload_cuts[1] == 0, 60, "the connection breaks")
    client.kill()
    client.communicate()
    server.restart()
    pushed = person.json("push", "team/model", path, timeout=240)
    assert pushed["version"] == 1 and pushed["created"]
    assert 0 < pushed["bytes_sent"] <= size
    again = person.json("push", "team/model", path)
    assert (again["version"], again["created"], again["bytes_sent"]) == (1, False, 0)
    with_cut.close()
    server.stop()


def peak(pid):
    """VmHWM in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) * 1024


def watched(person, *args):
    """Runs mlctl; (decoded stdout, its peak of resident memory, seconds)."""
    start = time.monotonic()
    with open(person.home / "stdout", "w+b") as out:
        child = subprocess.Popen([build_directory() / "mlctl", "--output", "json", *args],
                                 env=person.env, stdout=out, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        out.seek(0)
        return json.load(out), usage.ru_maxrss * 1024, time.monotonic() - start


@big
@pytest.mark.serial
@pytest.mark.release
@pytest.mark.timeout(1800)
def test_more_than_5_gib(make_server, tmp_path, capsys):
    server = own_server(make_server).start()
    person = invite(server, tmp_path / "home", "pat", ["contributor@team"])
    path, size = tmp_path / "weights", (5 << 30) + 12345
    with open(path, "wb") as f:
        f.write(os.urandom(MIB))
        f.seek(size - MIB)
        f.write(os.urandom(MIB))
    pushed, client, seconds = watched(person, "push", "team/model", path)
    assert pushed["bytes_sent"] == pushed["bytes"] == size
    said = [f"push {seconds:.1f} s, client {client / MIB:.1f} MiB, "
            f"server {peak(server.pid) / MIB:.1f} MiB"]
    again, _, _ = watched(person, "push", "team/model", path)
    assert again["bytes_sent"] == 0 and again["version"] == 1
    _, puller, seconds = watched(person, "pull", "team/model", tmp_path / "out")
    said.append(f"pull {seconds:.1f} s, client {puller / MIB:.1f} MiB, "
                f"server {peak(server.pid) / MIB:.1f} MiB")
    assert filecmp.cmp(path, tmp_path / "out/weights", shallow=False)
    with capsys.disabled():
        print("\n" + "\n".join(said))
    assert max(client, puller, peak(server.pid)) < 64 * MIB
    server.stop()
