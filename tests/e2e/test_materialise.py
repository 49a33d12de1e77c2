# SPDX-License-Identifier: Apache-2.0
"""A version's files in a repository: whole and verified, or not there at all."""
import io
import json
import os
import pathlib
import signal
import stat
import tarfile
import time

import pytest

from support.process import wait_until
from support.serving import Artifact, Drive, sha256


@pytest.fixture
def drive():
    one = Drive()
    yield one
    one.close()


@pytest.fixture
def place(tmp_path):
    (tmp_path / "root" / "models").mkdir(parents=True)
    return tmp_path / "root" / "models"


FILES = {"model.pkl": b"a" * 70000, "model.yaml": b"format: sklearn\n", "README.md": b"# x\n",
         "deep/er/data.bin": bytes(range(256)) * 2000, "empty": b"", "run.sh": b"#!/bin/sh\n"}


def job(artifact, place, version=3, driver="oip", **more):
    return {"driver": driver, "settings": {"driver": driver}, "roots": [str(place.parent)],
            "repository": str(place), "model": {"model": "fraud/scorer", "version": version,
                                                "digest": artifact.digest},
            **artifact.source(), **more}


def tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            info.mode = 0o644
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def tree(folder):
    """The documented digest, computed here."""
    lines = b""
    files = [p for p in folder.rglob("*") if p.is_file() and p != folder / "mlctl.json"]
    for path in sorted(files, key=lambda p: str(p.relative_to(folder)).encode()):
        data = path.read_bytes()
        lines += str(path.relative_to(folder)).encode() + b"\0%d\0" % len(data)
        lines += sha256(data)[7:].encode()
        lines += b"\0x\n" if path.stat().st_mode & 0o111 else b"\n"
    return sha256(lines)


def test_files_settings_and_marker(drive, place, tmp_path):
    artifact = Artifact(tmp_path, FILES, [tar({"more/a.txt": b"A", "more/b.txt": b"B" * 99999})],
                        executable=["run.sh"])
    old = os.umask(0o077)
    other = Drive()
    os.umask(old)
    made = other(do="make", **job(artifact, place))
    other.close()
    assert made["ok"], made
    folder = place / "fraud--scorer--3"
    everything = {**FILES, "more/a.txt": b"A", "more/b.txt": b"B" * 99999}
    for path, data in everything.items():
        assert (folder / "artifact" / path).read_bytes() == data
    assert sum(1 for p in folder.rglob("*") if p.is_file()) == len(everything) + 2
    settings = json.loads((folder / "model-settings.json").read_text("utf-8"))
    assert settings == {"name": "fraud--scorer--3",
                        "implementation": "mlserver_sklearn.SKLearnModel",
                        "parameters": {"uri": "./artifact/model.pkl", "version": "3"}}
    assert made["tree"] == tree(folder)
    marker = json.loads((folder / "mlctl.json").read_text("utf-8"))
    assert marker == {"schema": "materialised/v1", "name": "fraud--scorer--3",
                      "model": "fraud/scorer", "version": 3, "digest": artifact.digest,
                      "tree": made["tree"]}
    assert drive(do="expected", **job(artifact, place))["tree"] == made["tree"]
    for path in [folder, *folder.rglob("*")]:  # readable for another user, whatever the umask
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() or path.name == "run.sh" else 0o644), path
    found = drive(do="scan", **job(artifact, place))["found"]
    assert found == [{"name": "fraud--scorer--3", "folder": True, "digest": artifact.digest,
                      "what": "", "tree": made["tree"]}]
    assert drive(do="make", **job(artifact, place))["tree"] == made["tree"]
    assert drive(do="remove", **job(artifact, place))["ok"]
    assert drive(do="remove", **job(artifact, place))["ok"]
    assert list(place.iterdir()) == []


def test_a_triton_repository(drive, place, tmp_path):
    artifact = Artifact(tmp_path, {"net.onnx": b"x", "model.yaml": b"format: onnx\n"})
    assert drive(do="make", **job(artifact, place, driver="triton"))["ok"]
    folder = place / "fraud--scorer--3"
    assert (folder / "3" / "net.onnx").read_bytes() == b"x"
    assert (folder / "config.pbtxt").read_text("ascii").splitlines() == [
        'name: "fraud--scorer--3"', 'backend: "onnxruntime"', 'default_model_filename: "net.onnx"',
        "version_policy: { specific: { versions: [ 3 ] } }"]


def nothing_there(place):
    assert [p.name for p in place.iterdir()] == []


def test_what_is_not_what_it_must_be_never_appears(drive, place, tmp_path):
    artifact = Artifact(tmp_path, FILES, [tar({"t": b"t" * 5000})])
    good = job(artifact, place)
    answer = drive(do="make", **{**good, "included": False})
    assert answer["error"] == "verification-failed" and "checkpoint" in answer["message"]
    nothing_there(place)
    for data in (FILES["model.pkl"], FILES["empty"], FILES["model.yaml"], tar({"t": b"t" * 5000})):
        path = artifact.path(sha256(data))
        for wrong in (data + b"x", bytes(reversed(data[:-1] + b"?")), None):
            path.unlink()
            if wrong is not None:
                path.write_bytes(wrong)
            answer = drive(do="make", **good)
            assert answer["ok"] is False, (data[:20], wrong and wrong[:20])
            assert answer["error"] == ("not-found" if wrong is None else "verification-failed")
            nothing_there(place)
            path.write_bytes(data)
    manifest = tmp_path / "other-manifest"
    manifest.write_bytes(artifact.manifest_bytes + b" ")
    answer = drive(do="make", **{**good, "manifest": str(manifest)})
    assert answer["error"] == "verification-failed"
    nothing_there(place)
    assert drive(do="make", **good)["ok"]


@pytest.mark.parametrize("files, said", [
    ({"model.pkl": b"x"}, "no MLServer runtime is known"),
    ({"model.pkl": b"x", "model.yaml": b"format: keras\n"}, "no MLServer runtime is known"),
    ({"model.pkl": b"x", "model.yaml": b"format: sklearn\nruntime: {implementation: os.system}\n"},
     "only classes of MLServer's own runtimes"),
    ({"model.pkl": b"x", "model.yaml": b"runtime: {implementation: mlserver_x.y.Z}\n"},
     "only classes of MLServer's own runtimes"),
    ({"a": b"x", "model.yaml": b"format: sklearn\n"}, "no file of the artifact is a pickle"),
    ({"a.pkl": b"x", "b.joblib": b"", "model.yaml": b"format: sklearn\n"}, "several files"),
    ({"a#b.pkl": b"x", "model.yaml": b"format: sklearn\n"}, "parts of a URL"),
    ({"a.pkl": b"x", "model.yaml": b"format: [sklearn\n"}, "model.yaml"),
])
def test_what_mlserver_could_not_serve_is_refused(drive, place, tmp_path, files, said):
    answer = drive(do="make", **job(Artifact(tmp_path, files), place))
    assert answer["error"] == "invalid" and said in answer["message"], answer
    nothing_there(place)


def test_another_runtime_of_mlserver_is_named_in_model_yaml(drive, place, tmp_path):
    artifact = Artifact(tmp_path, {
        "model.json": b"{}",
        "model.yaml": b"format: xgboost\n"
                      b"runtime: {implementation: mlserver_xgboost.XGBoostModel}\n"})
    assert drive(do="make", **job(artifact, place))["ok"]
    settings = json.loads((place / "fraud--scorer--3/model-settings.json").read_text("utf-8"))
    assert settings["implementation"] == "mlserver_xgboost.XGBoostModel"
    assert settings["parameters"]["uri"] == "./artifact"


def test_an_environment_names_runtime_or_backend(drive, place, tmp_path):
    plain = {"weights.bin": b"x", "model.yaml": b"format: own\n"}
    other = {**plain, "model.yaml": b"runtime: {implementation: mlserver_x.Y, backend: other}\n"}
    for driver, key, value, file in (
            ("oip", "implementation", "company.runtimes.Own", "model-settings.json"),
            ("triton", "backend", "python", "config.pbtxt")):
        settings = {"settings": {"driver": driver, key: value}}
        artifact = Artifact(tmp_path / driver, plain)
        assert drive(do="make", **{**job(artifact, place, driver=driver), **settings})["ok"]
        assert f'"{value}"' in (place / "fraud--scorer--3" / file).read_text("utf-8")
        assert drive(do="remove", **job(artifact, place))["ok"]
        artifact = Artifact(tmp_path / f"{driver}-other", other)
        answer = drive(do="make", **{**job(artifact, place, driver=driver), **settings})
        assert answer["error"] == "invalid" and "the environment" in answer["message"]
        nothing_there(place)


@pytest.mark.parametrize("files, said", [
    ({"a.onnx": b"x", "b.onnx": b"x", "model.yaml": b"format: onnx\n"}, "there are 2"),
    ({"d/a.onnx": b"x", "model.yaml": b"format: onnx\n"}, "there are 0"),
    ({"a.onnx": b"x"}, "no Triton backend"),
    ({"model.py": b"x", "model.yaml": b"runtime: {backend: python}\n"}, "artifact's code"),
    ({"model.py": b"x", "model.yaml": b'runtime: {backend: "a\\"b"}\n'}, "a name as"),
])
def test_what_triton_could_not_serve_is_refused(drive, place, tmp_path, files, said):
    answer = drive(do="make", **job(Artifact(tmp_path, files), place, driver="triton"))
    assert answer["error"] == "invalid" and said in answer["message"], answer
    nothing_there(place)


def test_tars_that_would_leave_the_folder_or_collide(drive, place, tmp_path):
    bad = [({"../evil": b"x"}, "invalid"), ({"/evil": b"x"}, "invalid"),
           ({"README.md": b"twice"}, "invalid"), ({"model.pkl/x": b"x"}, None)]
    for i, (members, error) in enumerate(bad):
        artifact = Artifact(tmp_path / str(i), FILES, [tar(members)])
        answer = drive(do="make", **job(artifact, place))
        assert answer["ok"] is False and (error is None or answer["error"] == error), answer
        nothing_there(place)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        info = tarfile.TarInfo("link")
        info.type = tarfile.SYMTYPE
        info.linkname = "/etc/passwd"
        t.addfile(info)
    artifact = Artifact(tmp_path / "link", FILES, [out.getvalue()])
    assert drive(do="make", **job(artifact, place))["error"] == "invalid"
    nothing_there(place)


def test_only_below_a_serving_root_and_through_no_link(drive, place, tmp_path):
    artifact = Artifact(tmp_path, FILES)
    (tmp_path / "root2" / "models").mkdir(parents=True)
    (place.parent / "link").symlink_to(tmp_path / "root2")
    (place.parent / "within").symlink_to(place)
    for repository, error in ((tmp_path / "root2" / "models", "forbidden"),
                              (place.parent / "link" / "models", "forbidden"),
                              (place.parent / "link", "forbidden"),
                              (place.parent / "within", "forbidden"),
                              (f"{place}/../../root2/models", "forbidden"),
                              (place.parent / "absent", "not-found"),
                              (tmp_path / "roo", "forbidden")):
        answer = drive(do="make", **{**job(artifact, place), "repository": str(repository)})
        assert answer["error"] == error, (repository, answer)
    assert drive(do="make", **{**job(artifact, place), "roots": []})["error"] == "forbidden"
    assert list((tmp_path / "root2" / "models").iterdir()) == []
    nothing_there(place)
    roots = [str(tmp_path / "root2") + "/", str(place.parent), "/nonexistent"]
    for repository in (f"{place}", f"{place}/", f"{tmp_path}/root2//models", f"{tmp_path}/root2"):
        answer = drive(do="make", **{**job(artifact, place), "roots": roots,
                                     "repository": repository})
        assert answer["ok"], answer
    (place / "fraud--scorer--4").symlink_to(tmp_path)
    answer = drive(do="make", **job(artifact, place, version=4))
    assert answer["error"] == "conflict"
    assert drive(do="remove", **job(artifact, place, version=4))["ok"]
    assert not (place / "fraud--scorer--4").is_symlink() and artifact.blobs.is_dir()


def test_a_name_is_never_used_for_something_else(drive, place, tmp_path):
    one, two = Artifact(tmp_path / "1", FILES), Artifact(tmp_path / "2", {**FILES, "more": b"!"})
    assert drive(do="make", **job(one, place))["ok"]
    answer = drive(do="make", **job(two, place))
    assert answer["error"] == "conflict" and "something else" in answer["message"]
    (place / "fraud--scorer--3/artifact/extra").write_bytes(b"")
    assert drive(do="make", **job(one, place))["error"] == "conflict"
    (place / "fraud--scorer--3/artifact/extra").unlink()
    assert drive(do="make", **job(one, place))["ok"]
    for model in ("fraud/a--b", "fr--aud/scorer"):
        answer = drive(do="make", **{**job(one, place), "model": {
            "model": model, "version": 1, "digest": one.digest}})
        assert answer["error"] == "invalid" and "--" in answer["message"]


def test_killed_at_any_moment(place, tmp_path):
    """kill -9 between any two files, and at random moments: the folder is whole or absent, and what
    was left is removed by the next call."""
    files = {**FILES, **{f"f{i}": bytes([i]) * 200000 for i in range(8)}}
    artifact = Artifact(tmp_path, files)
    pause = tmp_path / "pause"
    for moment in range(25):
        one = Drive()
        if moment < 3:
            pause.touch()
            one.begin(do="make", **job(artifact, place), pause=str(pause))
            wait_until(lambda: not pause.exists(), 20, "the writer to start")
        else:
            one.begin(do="make", **job(artifact, place))
            time.sleep(0.002 * moment)
        os.kill(one.child.pid, signal.SIGKILL)
        one.child.wait()
        names = [p.name for p in place.iterdir()]
        shown = [n for n in names if not n.startswith(".mlctl-tmp-fraud--scorer--3-")]
        assert len(names) <= 1 and shown in ([], ["fraud--scorer--3"])
        other = Drive()
        if shown:
            assert other(do="make", **job(artifact, place))["ok"], "what is shown is whole"
            other.begin(do="remove", **job(artifact, place))
            time.sleep(0.0005 * moment)
            other.kill()
            other = Drive()
            assert other(do="remove", **job(artifact, place))["ok"]
        else:
            assert other(do="remove", **job(artifact, place, version=99))["ok"]
        nothing_there(place)
        other.close()


def test_two_at_once(place, tmp_path):
    artifact = Artifact(tmp_path, {**FILES, "big": b"b" * 3000000})
    drives = [Drive() for _ in range(4)]
    for one in drives:
        one.begin(do="make", **job(artifact, place))
    answers = [json.loads(one.child.stdout.readline()) for one in drives]
    assert all(a["ok"] for a in answers) and len({a["tree"] for a in answers}) == 1
    assert [p.name for p in place.iterdir()] == ["fraud--scorer--3"]
    for one in drives:
        one.close()


def test_a_cancelled_one_leaves_nothing(drive, place, tmp_path):
    answer = drive(do="make", cancel=True, **job(Artifact(tmp_path, FILES), place))
    assert answer["error"] == "conflict"
    nothing_there(place)


def test_scanning_sees_what_was_done_to_files(drive, place, tmp_path):
    artifact = Artifact(tmp_path, FILES)
    made = drive(do="make", **job(artifact, place))["tree"]
    file = place / "fraud--scorer--3/artifact/deep/er/data.bin"
    before = file.stat()

    def scan():
        return {f["name"]: f for f in drive(do="scan", **job(artifact, place))["found"]}

    assert scan()["fraud--scorer--3"]["tree"] == made
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    with open(file, "r+b") as f:
        f.write(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert scan()["fraud--scorer--3"]["tree"] != made
    data[1000] ^= 1
    file.write_bytes(data)
    assert scan()["fraud--scorer--3"]["tree"] == made
    file.chmod(0o755)
    assert scan()["fraud--scorer--3"]["tree"] != made
    file.chmod(0o644)
    time.sleep(2.1)  # remembered from here on
    assert scan()["fraud--scorer--3"]["tree"] == made
    began = time.monotonic()
    assert scan()["fraud--scorer--3"]["tree"] == made
    assert time.monotonic() - began < 5
    file.write_bytes(data[:-1] + b"?")
    assert scan()["fraud--scorer--3"]["tree"] != made
    file.unlink()
    os.mkfifo(file)
    assert "neither file nor folder" in scan()["fraud--scorer--3"]["what"]
    (place / "stray").mkdir()
    (place / "note.txt").write_bytes(b"")
    (place / ".hidden").mkdir()
    (place / "link").symlink_to("/")
    (place / "stray" / "mlctl.json").write_text('{"digest": "nonsense"}', "ascii")
    found = scan()
    assert set(found) == {"fraud--scorer--3", "stray", "link"}
    assert found["link"]["folder"] is False and found["stray"]["digest"] == ""


def test_a_full_disk(tmp_path):
    """A small file system of its own, where this is allowed."""
    mount = tmp_path / "small"
    mount.mkdir()
    artifact = Artifact(tmp_path, {**FILES, "big": os.urandom(1 << 20)})
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=8m none {mount} 2>/dev/null"):
        pytest.skip("mounting is not allowed here")
    one = Drive()
    try:
        (mount / "models").mkdir()
        answer = one(do="make", **job(artifact, mount / "models"))
        assert answer["error"] == "insufficient-storage"
        nothing_there(pathlib.Path(mount / "models"))
    finally:
        os.system(f"umount {mount}")
        one.close()
