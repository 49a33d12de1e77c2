# SPDX-License-Identifier: Apache-2.0
"""mlctl push: which files, what is sent, what is said, and what happens when it breaks off."""
import hashlib
import itertools
import json
import os
import pty
import re
import signal
import socket
import subprocess
import time

import pytest

from support.fake_server import LyingServer
from support.server import build_directory

_numbers = itertools.count(1)


@pytest.fixture
def dana(user):
    """A contributor with a namespace of her own: .model is a name in it."""
    ns = f"push-{os.getpid()}-{next(_numbers)}"
    person = user(f"contributor@{ns}")
    person.model = f"{ns}/scorer"
    return person


@pytest.fixture
def liar(server):
    one = LyingServer(server.url)
    yield one
    one.close()


def write(directory, **files):
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return directory


def paths(person, ref):
    manifest = person.http.ok("GET", f"/v2/{ref.split(':')[0]}/manifests/{ref.split(':')[1]}")
    if isinstance(manifest, bytes):
        manifest = json.loads(manifest)
    return [layer.get("annotations", {}).get("org.cncf.model.filepath")
            for layer in manifest["layers"]]


def test_push_and_push_again(dana, tmp_path):
    write(tmp_path / "m", **{"model.bin": os.urandom(3 << 20), "README.md": "# card\n",
                             "sub__small": "x", "empty": b""})
    first = dana.json("push", dana.model, tmp_path / "m")
    assert set(first) >= {"ref", "version", "digest", "created", "bytes", "bytes_sent"}
    assert first["ref"] == f"{dana.model}:1" and first["version"] == 1 and first["created"] is True
    assert first["bytes"] == first["bytes_sent"] == (3 << 20) + 8
    assert re.fullmatch("sha256:[0-9a-f]{64}", first["digest"])
    again = dana.json("push", dana.model, tmp_path / "m")
    assert (again["ref"], again["digest"]) == (first["ref"], first["digest"])
    assert again["created"] is False and again["bytes_sent"] == 0
    (tmp_path / "m/sub/small").write_text("changed")
    third = dana.json("push", dana.model, tmp_path / "m")
    assert third["version"] == 2 and third["bytes_sent"] == len("changed")
    assert paths(dana, f"{dana.model}:1") == ["README.md", "empty", "model.bin", "sub/small"]


def test_the_manifest_depends_on_the_files_alone(dana, tmp_path):
    """Order, directory and time do not count, and another model shares the bytes."""
    write(tmp_path / "a", **{"one": "1", "two__x": "2"})
    write(tmp_path / "b", **{"two__x": "2", "one": "1"})
    os.utime(tmp_path / "b/one", (0, 0))
    first = dana.json("push", dana.model, tmp_path / "a")
    second = dana.json("push", dana.model, "one", "two/x", cwd=tmp_path / "b")
    assert second["digest"] == first["digest"] and not second["created"]


def test_paths(dana, tmp_path):
    write(tmp_path, **{"in__dir__file": "1", "abs": "2"})
    dana.json("push", dana.model, "./in//dir/file", tmp_path / "abs", cwd=tmp_path)
    assert paths(dana, f"{dana.model}:1") == ["abs", "in/dir/file"]
    done = dana.run("push", dana.model, "../abs", cwd=tmp_path / "in", status=2)
    assert "'..'" in done.stderr and "absolute path" in done.stderr


def test_links(dana, tmp_path):
    write(tmp_path, **{"m__file": "inside", "out": "outside", "m__d__deep": "deep"})
    (tmp_path / "m/in").symlink_to("file")
    (tmp_path / "m/dir").symlink_to("d")
    inside = dana.json("push", dana.model, tmp_path / "m")
    assert paths(dana, inside["ref"]) == ["d/deep", "dir/deep", "file", "in"]
    (tmp_path / "m/leaves").symlink_to("../out")
    done = dana.run("push", dana.model, tmp_path / "m", status=2)
    assert "link out of the tree" in done.stderr and "--follow-symlinks" in done.stderr
    followed = dana.json("push", dana.model, tmp_path / "m", "--follow-symlinks")
    assert "leaves" in paths(dana, followed["ref"])
    (tmp_path / "m/leaves").unlink()
    (tmp_path / "m/d/up").symlink_to("..")
    done = dana.run("push", dana.model, tmp_path / "m", "--follow-symlinks", status=2)
    assert "leads back" in done.stderr
    (tmp_path / "m/d/up").unlink()
    (tmp_path / "m/gone").symlink_to("nowhere")
    assert "gone" in dana.run("push", dana.model, tmp_path / "m", status=1).stderr


def test_what_cannot_be_pushed(dana, tmp_path):
    write(tmp_path, **{"m__file": "1", "other__file": "2"})
    os.mkfifo(tmp_path / "m/pipe")
    assert "pipe" in dana.run("push", dana.model, tmp_path / "m", status=2).stderr
    (tmp_path / "m/pipe").unlink()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "m/sock"))
        assert "sock" in dana.run("push", dana.model, tmp_path / "m", status=2).stderr
    (tmp_path / "m/sock").unlink()
    both = dana.run("push", dana.model, tmp_path / "m", tmp_path / "other", status=2)
    assert "would be 'file'" in both.stderr
    write(tmp_path / "m", FILE="3")
    assert "one path" in dana.run("push", dana.model, tmp_path / "m", status=2).stderr
    (tmp_path / "empty").mkdir()
    assert "no file" in dana.run("push", dana.model, tmp_path / "empty", status=2).stderr
    for bad in (b"new\nline", b"bad\xff", b"esc\x1b[2J"):
        directory = os.fsencode(tmp_path / "bad")
        os.makedirs(directory, exist_ok=True)
        with open(directory + b"/" + bad, "wb"):
            pass
        done = dana.run("push", dana.model, tmp_path / "bad", status=2)
        assert "\x1b" not in done.stderr
        os.unlink(directory + b"/" + bad)
    dana.run("push", dana.model, tmp_path / "missing", status=1)
    assert not dana.http.get(f"/api/v1/models/{dana.model}").ok


@pytest.mark.parametrize("options, says", [
    (["--label", "novalue"], "KEY=VALUE"), (["--metric", "a=b"], "NAME=NUMBER"),
    (["--metric", "a=nan"], "NAME=NUMBER"), (["--dataset", "plain"], "--dataset"),
    (["--code", "https://x@abc"], "URL@COMMIT"), (["--jobs", "0"], "--jobs"),
    (["--jobs", "17"], "--jobs"), (["--base", "a b"], "--base"),
])
def test_options_are_checked(dana, tmp_path, options, says):
    write(tmp_path, file="1")
    assert says in dana.run("push", dana.model, "file", *options, cwd=tmp_path, status=2).stderr


def test_target_is_a_model(dana, tmp_path):
    write(tmp_path, file="1")
    done = dana.run("push", f"{dana.model}:3", "file", cwd=tmp_path, status=2)
    assert "--alias" in done.stderr


def test_many_files_share_archives(dana, tmp_path):
    files = {f"part__{i:04}": os.urandom(100) for i in range(600)}
    write(tmp_path / "m", **files, **{"README.md": "# card", "big": os.urandom(1 << 20)})
    (tmp_path / "m/part/0000").chmod(0o755)
    pushed = dana.json("push", dana.model, tmp_path / "m")
    assert paths(dana, pushed["ref"]) == ["README.md", "big", None]
    assert dana.json("push", dana.model, tmp_path / "m")["bytes_sent"] == 0
    dana.run("pull", dana.model, tmp_path / "out", "--verify")
    for name, content in files.items():
        assert (tmp_path / "out" / name.replace("__", "/")).read_bytes() == content
    assert os.access(tmp_path / "out/part/0000", os.X_OK)
    assert not os.access(tmp_path / "out/part/0001", os.X_OK)


def test_dry_run_sends_nothing(dana, tmp_path):
    write(tmp_path, file="12345")
    shown = dana.json("push", dana.model, "file", "--dry-run", cwd=tmp_path)
    assert shown["dry_run"] and shown["bytes_to_send"] == 5
    assert shown["files"] == [{"path": "file", "size": 5}]
    assert not dana.http.get(f"/api/v1/models/{dana.model}").ok
    assert dana.json("push", dana.model, "file", cwd=tmp_path)["digest"] == shown["digest"]


def git(directory, *args):
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *args],
                          cwd=directory, check=True, capture_output=True, text=True,
                          env=environment).stdout.strip()


def lineage(person, ref):
    return person.json("show", ref)["lineage"]


def test_lineage_given(dana, tmp_path):
    write(tmp_path, file="1", other="2")
    code = "https://git.example/fraud@" + "a" * 40
    data = "fraud/train@sha256:" + "b" * 64
    dana.json("push", dana.model, "file", "--alias", "base", cwd=tmp_path)
    base = dana.json("show", f"{dana.model}:1")["digest"]
    pushed = dana.json("push", dana.model, "other", "--code", code, "--run", "run-7", "--dataset",
                       data, "--base", f"{dana.model}:base", "--label", "tier=high", "--metric",
                       "auc=0.91", cwd=tmp_path)
    assert lineage(dana, pushed["ref"]) == {"code": code, "run": "run-7", "dataset": [data],
                                            "base": f"{dana.model}@{base}"}
    shown = dana.json("show", pushed["ref"])
    assert shown["labels"] == {"tier": "high"} and shown["metrics"] == {"auc": 0.91}


def test_code_from_the_checkout(dana, tmp_path):
    write(tmp_path / "repo", file="1")
    git(tmp_path / "repo", "init", "-q")
    git(tmp_path / "repo", "add", "file")
    git(tmp_path / "repo", "commit", "-qm", "first")
    git(tmp_path / "repo", "remote", "add", "origin", "https://me:secret@git.example/fraud.git")
    commit = git(tmp_path / "repo", "rev-parse", "HEAD")
    done = dana.run("push", dana.model, "file", cwd=tmp_path / "repo")
    assert f"https://git.example/fraud.git@{commit}" in done.stderr and "git" in done.stderr
    assert "secret" not in done.stderr and "changes" not in done.stderr
    assert lineage(dana, f"{dana.model}:1")["code"] == f"https://git.example/fraud.git@{commit}"
    write(tmp_path / "repo", file="2")
    done = dana.run("push", dana.model, "file", cwd=tmp_path / "repo")
    assert "changes that this commit does not hold" in done.stderr
    assert dana.json("show", f"{dana.model}:2")["labels"] == {"git.dirty": "true"}


@pytest.mark.parametrize("env, code, run, actor", [
    ({"GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_SHA": "c" * 40,
      "GITHUB_REPOSITORY": "acme/fraud", "GITHUB_RUN_ID": "77", "GITHUB_RUN_ATTEMPT": "2",
      "GITHUB_ACTOR": "octocat"}, "https://github.com/acme/fraud@" + "c" * 40,
     "https://github.com/acme/fraud/actions/runs/77/attempts/2", "octocat"),
    ({"GITLAB_CI": "true", "CI_PROJECT_URL": "https://gitlab.example/acme/fraud",
      "CI_COMMIT_SHA": "d" * 40, "CI_JOB_URL": "https://gitlab.example/acme/fraud/-/jobs/9",
      "GITLAB_USER_LOGIN": "tanuki"}, "https://gitlab.example/acme/fraud@" + "d" * 40,
     "https://gitlab.example/acme/fraud/-/jobs/9", "tanuki"),
])
def test_code_from_ci(dana, tmp_path, env, code, run, actor):
    write(tmp_path, file="1")
    done = dana.run("push", dana.model, "file", cwd=tmp_path, env=env)
    for text in (code, run, actor):
        assert text in done.stderr
    assert lineage(dana, f"{dana.model}:1") == {"code": code, "run": run, "dataset": [],
                                                "base": None}
    assert dana.json("show", f"{dana.model}:1")["labels"] == {"ci.actor": actor}


def test_resumes_after_broken_connections(dana, liar, tmp_path):
    content = os.urandom(8 << 20)
    write(tmp_path, model=content)
    dana.env["MLCTL_SERVER"] = liar.url
    liar.cut_uploads(3 << 20, times=2)
    pushed = dana.json("push", dana.model, "model", cwd=tmp_path)
    assert pushed["created"] and liar.upload_cuts[1] == 0
    patches = [p for m, p in liar.seen if m == "PATCH"]
    assert len(patches) >= 3 and len(set(patches)) == 1, "one upload, taken up twice"
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    assert dana.http.get(f"/v2/{dana.model}/blobs/{digest}").content == content


def test_gives_up_when_nothing_moves(dana, liar, tmp_path):
    write(tmp_path, model=os.urandom(2 << 20))
    dana.env["MLCTL_SERVER"] = liar.url
    liar.cut_uploads(0, times=100)
    done = dana.run("push", dana.model, "model", cwd=tmp_path, status=5)
    assert "'model'" in done.stderr


@pytest.mark.parametrize("moment", [0.05, 0.15, 0.3])
def test_killed_push_goes_on(dana, tmp_path, moment):
    size = 192 << 20
    with open(tmp_path / "model", "wb") as f:
        f.write(os.urandom(1 << 20))
        f.truncate(size)
    command = [build_directory() / "mlctl", "push", dana.model, "model", "--output", "json"]
    child = subprocess.Popen(command, cwd=tmp_path, env=dana.env, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    state = dana.home / ".local/state/mlctl"
    deadline = time.monotonic() + 60
    while not list(state.glob("upload-*")) and child.poll() is None:
        assert time.monotonic() < deadline, "the upload never began"
        time.sleep(0.005)
    time.sleep(moment)
    child.send_signal(signal.SIGKILL)
    killed = child.wait() == -signal.SIGKILL
    pushed = dana.json("push", dana.model, "model", cwd=tmp_path)
    assert pushed["version"] == 1 and not list(state.glob("upload-*"))
    if killed:
        assert 0 <= pushed["bytes_sent"] < size, "what had arrived was sent again"


def test_file_that_changes_meanwhile(dana, liar, tmp_path):
    write(tmp_path, model=os.urandom(4 << 20))
    dana.env["MLCTL_SERVER"] = liar.url

    def spoil(_):
        (tmp_path / "model").write_bytes(os.urandom(4 << 20))

    liar.lie("POST", "/blobs/uploads/", spoil)
    done = dana.run("push", dana.model, "model", cwd=tmp_path, status=1)
    assert "changed while it was pushed" in done.stderr
    assert not dana.http.get(f"/api/v1/models/{dana.model}").ok


def test_progress_bar_on_a_terminal_only(dana, tmp_path):
    with open(tmp_path / "model", "wb") as f:
        f.truncate(256 << 20)
    command = [build_directory() / "mlctl", "push", dana.model, "model"]
    parent, child = pty.openpty()
    process = subprocess.Popen(command, cwd=tmp_path, env=dana.env, stdout=subprocess.PIPE,
                               stderr=child)
    os.close(child)
    shown = b""
    while True:
        try:
            data = os.read(parent, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(parent)
    assert process.wait() == 0 and b"\r" not in process.stdout.read()
    process.stdout.close()
    lines = shown.split(b"\r\x1b[K")
    assert any(re.search(rb"hashing +\d+ %  .* of 256.0 MiB", line) for line in lines)
    assert lines[-1] == b"", "the line is cleared in the end"
    assert all(b"\n" not in line for line in lines[1:])
    write(tmp_path, other=os.urandom(1 << 20))
    assert dana.run("push", dana.model, "other", cwd=tmp_path).stderr == ""
