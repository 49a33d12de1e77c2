# SPDX-License-Identifier: Apache-2.0
"""A full disk: while files are pushed, and while the log writes its tiles."""
import errno
import os
import subprocess
import time

import pytest

from fault.story import Broken, Drill, check_ok, read_log
from support import faults
from support.oci import digest

GIB = 1 << 30


@pytest.fixture
def small_disk(ruin):
    """A tmpfs of 1.4 GiB: a quarter of it can be pushed before the floor of 1 GiB is reached."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    where = ruin.directories.base / "small"
    where.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1400m,mode=0700", "tmpfs", where],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    servers = []

    def make():
        servers.append(ruin(where / "d"))
        return servers[-1]

    try:
        yield make, where
        for one in servers:
            one.stop()
    finally:
        for one in servers:
            one.kill()
        subprocess.run(["umount", "-l", where], check=True)


def free(path):
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def test_floor_is_kept(small_disk):
    """507 before the disk is full, before the body; the rest of the server goes on."""
    make, where = small_disk
    server = make().start()
    drill = Drill(server)
    story = drill.next()
    story.push(drill.http)
    filler = where / "filler"
    with open(filler, "wb") as f:
        os.posix_fallocate(f.fileno(), 0, free(where) - GIB - (8 << 20))
    http = drill.http
    big = b"x" * (16 << 20)
    location = http.post(f"/v2/{story.name}/blobs/uploads/").headers["Location"]
    reply = http.put(location, params={"digest": digest(big)}, data=big)
    assert reply.status_code == 507, reply.text
    assert http.head(f"/v2/{story.name}/blobs/{digest(big)}").status_code == 404
    # what is small still has room, and the log goes on
    drill.settle(drill.next())
    filler.unlink()
    assert http.put(http.post(f"/v2/{story.name}/blobs/uploads/").headers["Location"],
                    params={"digest": digest(big)}, data=big).status_code == 201
    drill.settle(story)
    check_ok(server.directory)


def test_disk_really_full(small_disk):
    """Not one byte is left, for the database neither: nothing acknowledged is lost."""
    make, where = small_disk
    server = make().start()
    drill = Drill(server)
    stories = [drill.next() for _ in range(4)]
    stories[0].push(drill.http)
    filler = where / "filler"
    fd = os.open(filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.posix_fallocate(fd, 0, free(where) - (1 << 20))
        while os.write(fd, b"\0" * 4096) == 4096:
            pass
    except OSError as e:
        assert e.errno == errno.ENOSPC
    finally:
        os.close(fd)
    for story in stories[1:]:
        with pytest.raises(Broken):
            story.push(drill.http)
            story.published(drill.http, seconds=2)
    time.sleep(1)
    filler.unlink(missing_ok=True)
    if server.died():
        server.start()
    else:
        server.kill()  # also from that state
        server.start()
    for story in stories:
        drill.settle(story)
    check_ok(server.directory)


@pytest.mark.parametrize("where", ["write log/", "open log/", "mkdir log/tile", "write uploads/",
                                   "pwrite uploads/", "open git/", "mkdirat blobs/"])
def test_no_space_for_a_while(ruin, where):
    """Every such call fails until there is room again: the log catches up, pushes are retried."""
    server = ruin().start()
    drill = Drill(server)
    first = drill.next()
    first.push(drill.http)
    first.published(drill.http)
    before = read_log(server)
    story = drill.next()
    server.board.arm(faults.Point(where, 0), faults.FROM, errno.ENOSPC)
    try:
        story.push(drill.http)
        story.published(drill.http, seconds=2)
    except Broken as e:
        assert "log" in where or "507" in str(e) or "checkpoint" in str(e), e
    assert server.board.hit
    server.board.disarm()
    for one in (first, story):
        drill.settle(one)
    read_log(server).includes(before)
    check_ok(server.directory)
