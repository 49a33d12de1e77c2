# SPDX-License-Identifier: Apache-2.0
"""mlctl pull: files arrive whole or not at all, and nothing that is there is lost."""
import hashlib
import io
import itertools
import json
import os
import subprocess
import tarfile
import time

import pytest

from support.fake_server import LyingServer
from support.server import build_directory

_numbers = itertools.count(1)


@pytest.fixture
def dana(user):
    ns = f"pull-{os.getpid()}-{next(_numbers)}"
    person = user(f"contributor@{ns}")
    person.model = f"{ns}/scorer"
    return person


@pytest.fixture
def liar(server):
    one = LyingServer(server.url)
    yield one
    one.close()


def write(directory, **files):
    for name, content in files.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return directory


def tree(directory):
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*")
            if p.is_file()}


FILES = {"README.md": "# card\n", "model.bin": b"m" * 100000, "same": b"m" * 100000, "a__b__c": "x",
         "empty": b""}


@pytest.fixture
def pushed(dana, tmp_path):
    write(tmp_path / "m", **FILES)
    (tmp_path / "m/model.bin").chmod(0o755)
    dana.run("push", dana.model, tmp_path / "m", "--alias", "champion")
    return tree(tmp_path / "m")


@pytest.mark.parametrize("ref", ["", ":1", ":latest", ":champion", "@"])
def test_pull(dana, pushed, tmp_path, ref):
    if ref == "@":
        ref = "@" + dana.json("show", dana.model)["digest"]
    got = dana.json("pull", dana.model + ref, tmp_path / "out")
    assert got["ref"] == f"{dana.model}:1" and tree(tmp_path / "out") == pushed
    assert got["n_files"] == 5 and got["n_kept"] == 0 and "verified" not in got
    assert os.access(tmp_path / "out/model.bin", os.X_OK)
    assert not os.access(tmp_path / "out/same", os.X_OK), "a copy of its own"
    assert (tmp_path / "out/same").stat().st_nlink == 1
    assert not (tmp_path / "out/.mlctl-partial").exists()


def test_verified_pull_says_what_is_proven(dana, pushed, tmp_path):
    got = dana.json("pull", f"{dana.model}:champion", tmp_path / "out", "--verify")
    assert tree(tmp_path / "out") == pushed
    verified = got["verified"]
    assert [c["what"] for c in verified["checks"]] == ["log", "checkpoint", "manifest", "version",
                                                       "commit", "alias"]
    assert got["commit"] in verified["checks"][4]["proof"]
    assert len(verified["not_proven"]) == 2
    table = dana.run("pull", f"{dana.model}:champion", tmp_path / "out", "--verify").stdout
    assert "VERIFIED" in table and table.count("not proven:") == 2


def test_pull_again_keeps_and_never_loses(dana, pushed, tmp_path):
    dana.run("pull", dana.model, tmp_path / "out")
    before = (tmp_path / "out/model.bin").stat().st_ino
    again = dana.json("pull", dana.model, tmp_path / "out")
    assert again["n_kept"] == 5 and again["bytes_received"] == 0
    assert (tmp_path / "out/model.bin").stat().st_ino == before
    write(tmp_path / "out", a__b__c="mine", other="kept")
    (tmp_path / "out/same").unlink()
    done = dana.run("pull", dana.model, tmp_path / "out", status=1)
    assert "a/b/c' exists and differs" in done.stderr and "--force" in done.stderr
    assert not (tmp_path / "out/same").exists(), "nothing was changed"
    dana.run("pull", dana.model, tmp_path / "out", "--force")
    assert tree(tmp_path / "out") == {**pushed, "other": b"kept"}


def test_links_in_the_way(dana, pushed, tmp_path):
    victim = write(tmp_path / "victim", file="precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").symlink_to(victim)
    for options in ([], ["--force"]):
        done = dana.run("pull", dana.model, tmp_path / "out", *options, status=1)
        assert "a/b/c" in done.stderr
    assert tree(victim) == {"file": b"precious"}
    (tmp_path / "out/a").unlink()
    (tmp_path / "out/same").symlink_to(victim / "file")
    dana.run("pull", dana.model, tmp_path / "out", "--force", status=1)
    (tmp_path / "out/same").unlink()
    (tmp_path / "out/same").mkdir()
    dana.run("pull", dana.model, tmp_path / "out", "--force", status=1)
    (tmp_path / "out/same").rmdir()
    dana.run("pull", dana.model, tmp_path / "out")
    assert tree(tmp_path / "out") == pushed and tree(victim) == {"file": b"precious"}


def test_resumes_after_broken_connections(dana, liar, tmp_path):
    write(tmp_path / "m", model=os.urandom(4 << 20))
    dana.run("push", dana.model, tmp_path / "m")
    dana.env["MLCTL_SERVER"] = liar.url
    liar.cut_downloads(1 << 20, times=3)
    got = dana.json("pull", dana.model, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "m") and liar.download_cuts[1] == 0
    assert got["bytes_received"] == 4 << 20, "no byte twice"
    liar.cut_downloads(0, times=100)
    dana.run("pull", dana.model, tmp_path / "other", status=5)
    assert tree(tmp_path / "other") == {".mlctl-partial/" + next(
        p.name for p in (tmp_path / "other/.mlctl-partial").iterdir()): b""}


def test_killed_pull_goes_on(dana, tmp_path):
    size = 192 << 20
    (tmp_path / "m").mkdir()
    with open(tmp_path / "m/model", "wb") as f:
        f.write(os.urandom(1 << 20))
        f.truncate(size)
    dana.run("push", dana.model, tmp_path / "m")
    child = subprocess.Popen([build_directory() / "mlctl", "pull", dana.model, tmp_path / "out"],
                             env=dana.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial = tmp_path / "out/.mlctl-partial"
    while child.poll() is None and not any(
            p.stat().st_size > 1 << 20 for p in partial.glob("*")):
        time.sleep(0.002)
    child.kill()
    child.wait()
    there = sum(p.stat().st_size for p in partial.glob("*"))
    got = dana.json("pull", dana.model, tmp_path / "out")
    assert got["bytes_received"] == size - there
    assert (tmp_path / "out/model").stat().st_size == size and not partial.exists()


def test_one_pull_into_a_directory(dana, pushed, tmp_path):
    (tmp_path / "out/.mlctl-partial").mkdir(parents=True)
    with subprocess.Popen(["flock", tmp_path / "out/.mlctl-partial", "cat"],
                          stdin=subprocess.PIPE) as holder:
        time.sleep(0.3)
        done = dana.run("pull", dana.model, tmp_path / "out", status=1)
        holder.stdin.close()
    assert "another pull" in done.stderr and pushed


def put_version(person, layers):
    """A version whose manifest is made by hand: [(media type, annotations, bytes)]."""
    def blob(data, media_type):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        reply = person.http.post(f"/v2/{person.model}/blobs/uploads/?digest={digest}", data=data)
        assert reply.status_code == 201
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": blob(b"{}", "application/vnd.cncf.model.config.v1+json"),
                "layers": [{**blob(data, kind), "annotations": notes}
                           for kind, notes, data in layers]}
    return person.http.put(f"/v2/{person.model}/manifests/made",
                           data=json.dumps(manifest).encode(),
                           headers={"Content-Type": manifest["mediaType"]})


def tar(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, kind, content in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = content if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            t.addfile(info, io.BytesIO(content.encode()))
    return out.getvalue()


@pytest.mark.parametrize("entries", [
    [("../evil", tarfile.REGTYPE, "x")], [("/evil", tarfile.REGTYPE, "x")],
    [("link", tarfile.SYMTYPE, "/tmp"), ("link/evil", tarfile.REGTYPE, "x")],
    [("hard", tarfile.LNKTYPE, "/etc/passwd")], [("pipe", tarfile.FIFOTYPE, "")],
    [("a", tarfile.REGTYPE, "1"), ("A", tarfile.REGTYPE, "2")],
    [(".mlctl-partial/x", tarfile.REGTYPE, "1")],
])
def test_hostile_archives(dana, tmp_path, entries):
    made = put_version(dana, [("application/vnd.cncf.model.weight.v1.tar", {}, tar(*entries))])
    assert made.status_code == 201, made.text
    done = dana.run("pull", dana.model, tmp_path / "out", status=2)
    assert done.stdout == "" and "mlctl: " in done.stderr
    assert [p for p in tree(tmp_path / "out") if not p.startswith(".mlctl-partial/")] == []
    assert not (tmp_path / "evil").exists()


def test_layers_of_others(dana, tmp_path):
    """Archives beside files, a layer without a name, and a collision between the two."""
    raw = "application/vnd.cncf.model.weight.v1.raw"
    archive = "application/vnd.cncf.model.weight.v1.tar"
    title = {"org.opencontainers.image.title": "titled"}
    put_version(dana, [(raw, title, b"one"), (raw, {}, b"two"), (raw, {}, b"two"),
                       (archive, {}, tar(("in/tar", tarfile.REGTYPE, "three")))])
    dana.run("pull", dana.model, tmp_path / "out", "--verify")
    unnamed = "sha256-3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"
    assert tree(tmp_path / "out") == {"titled": b"one", unnamed: b"two", "in/tar": b"three"}
    put_version(dana, [(raw, title, b"one"),
                       (archive, {}, tar(("TITLED", tarfile.REGTYPE, "three")))])
    done = dana.run("pull", dana.model, tmp_path / "both", status=2)
    assert "one path" in done.stderr


def test_status_is_said(dana, pushed, tmp_path):
    dana.run("version", "deprecate", f"{dana.model}:1", "--reason", "old\x1b[2J")
    done = dana.run("pull", f"{dana.model}:1", tmp_path / "out")
    assert "warning: this version is deprecated" in done.stderr and "\x1b" not in done.stderr
    assert tree(tmp_path / "out") == pushed


def test_missing(dana, pushed, tmp_path):
    assert dana.run("pull", f"{dana.model}:9", tmp_path / "out", status=1).stdout == ""
    assert dana.run("pull", f"{dana.model}:none", tmp_path / "out", status=1).stdout == ""
    assert not (tmp_path / "out").exists() and pushed
