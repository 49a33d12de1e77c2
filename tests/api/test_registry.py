# SPDX-License-Identifier: Apache-2.0
"""Models, versions, aliases, and the repositories that follow them."""
import concurrent.futures
import datetime
import hashlib
import itertools
import json
import os
import shutil
import struct
import subprocess
import time

import pytest

from support import oci
from support.cli import invite
from support.server import build_directory

_names = itertools.count(1)
LINEAGE = {"org.mlctl.dataset": "fraud/holdout@opaque:7\nfraud/train@opaque:1",
           "org.mlctl.code": "https://git.example/fraud@" + "a" * 40,
           "org.mlctl.run": "run-17"}


def safetensors(values):
    data = struct.pack(f"<{len(values)}f", *values)
    header = json.dumps({"w": {"dtype": "F32", "shape": [len(values)],
                               "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def layer(path, data, kind="weight"):
    return oci.descriptor(data, f"application/vnd.cncf.model.{kind}.v1.raw",
                          annotations={"org.cncf.model.filepath": path})


class Model:
    """A model of this test's own, as this person sees it."""

    def __init__(self, http, ns="reg", name=None):
        self.http = http
        self.name = name or f"{ns}/m{os.getpid()}-{next(_names)}"
        self.repo = oci.Repository(http, self.name)
        self.base = f"/api/v1/models/{self.name}"

    def as_(self, http):
        return Model(http, name=self.name)

    def put(self, files, annotations=None):
        """Blobs and manifest by digest; its digest."""
        for data in (b"{}", *files.values()):
            self.repo.push(data)
        more = {"annotations": annotations} if annotations else {}
        data = oci.manifest(layers=[layer(p, d) for p, d in sorted(files.items())], **more)
        self.repo.put_manifest(oci.digest(data), data)
        return oci.digest(data)

    def create(self, digest, status=201, **body):
        reply = self.http.post(f"{self.base}/versions", json={"digest": digest, **body})
        assert reply.status_code == status, reply.text
        return reply.json()

    def version(self, files=None, annotations=None, **body):
        files = files or {"w.safetensors": safetensors([next(_names), 2.0])}
        return self.create(self.put(files, annotations), **body)

    def get(self, version, **kwargs):
        return self.http.ok("GET", f"{self.base}/versions/{version}", **kwargs)

    def alias(self, alias, version, match=None):
        headers = {"If-Match": f'"{match}"'} if match is not None else {}
        return self.http.put(f"{self.base}/aliases/{alias}", json={"version": version},
                             headers=headers)

    def set_status(self, version, status, reason="because"):
        return self.http.post(f"{self.base}/versions/{version}/status",
                              json={"status": status, "reason": reason})


@pytest.fixture
def pusher(user):
    return user("contributor@reg", "contributor@regpages")


@pytest.fixture
def model(pusher):
    return Model(pusher.http)


def git(repository, *args, check=True, signers=None):
    more = ["-c", f"gpg.ssh.allowedSignersFile={signers}"] if signers else []
    done = subprocess.run(["git", *more, "-C", repository, *args], capture_output=True, check=False,
                          env={"PATH": os.environ["PATH"], "HOME": "/nonexistent",
                               "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_COUNT": "1",
                               "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"})
    assert not check or done.returncode == 0, done.stderr.decode()
    return done


def repository(server, model):
    return server.directory / "git" / f"{model.name}.git"


def test_first_version(model, pusher):
    weights = safetensors([1.5, 2.5, 3.5])
    card = b"---\nlicense: mit\n---\n# A model\n"
    made = model.version({"w.safetensors": weights, "README.md": card}, LINEAGE,
                         labels={"tier": "high"}, metrics={"auc": 0.951, "n": 171},
                         alias="candidate")
    assert made["version"] == 1 and made["created"] is True
    assert made["ref"] == f"{model.name}:1"
    v = model.get(1)
    assert v["digest"] == made["digest"] and v["commit"] == made["commit"]
    assert v["leaf_hash"] == made["leaf_hash"]
    assert v["size"] == len(weights) + len(card)
    assert [f["path"] for f in v["files"]] == ["README.md", "w.safetensors"]
    assert v["lineage"] == {"dataset": ["fraud/holdout@opaque:7", "fraud/train@opaque:1"],
                            "code": LINEAGE["org.mlctl.code"], "run": "run-17", "base": None}
    assert v["labels"] == {"tier": "high"} and v["metrics"] == {"auc": 0.951, "n": 171}
    assert v["aliases"] == ["candidate"] and v["status"] == "ready"
    assert v["author"] == {"id": pusher.id, "name": pusher.name}
    assert (v["format"], v["parameters"], v["safety"]) == ("safetensors", 3, "no_code")
    assert v["metadata"]["files"][0]["dtypes"] == {"F32": 1}
    assert v["card"] is True
    assert model.http.ok("GET", f"{model.base}/versions/1/card") == card
    manifest = model.http.ok("GET", f"{model.base}/versions/1/manifest")
    manifest = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    assert pusher.http.ok("GET", v["manifest"]) == json.loads(manifest)
    for reference in ("v1", "latest", "candidate", made["digest"]):
        assert model.get(reference) == model.get(1)
    commit = model.http.ok("GET", f"{model.base}/versions/1/commit")
    header = b"commit %d\0" % len(commit)
    assert hashlib.sha1(header + commit).hexdigest() == v["commit"]


def test_leaf_index_comes(model):
    model.version()
    deadline = time.monotonic() + 10
    while model.get(1)["leaf_index"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert model.get(1)["leaf_index"] > 0


def test_same_manifest_same_version(model):
    digest = model.put({"w": b"1"})
    first = model.create(digest, labels={"a": "1"})
    again = model.create(digest, status=200, labels={"a": "2"})
    assert again == {**first, "created": False}
    assert model.get(1)["labels"] == {"a": "1"}
    other = Model(model.http)
    other.put({"w": b"1"})
    assert other.create(digest)["version"] == 1, "numbers and versions are per model"


def test_idempotency_key(model):
    digest = model.put({"w": b"1"})
    send = lambda: model.http.post(f"{model.base}/versions", json={"digest": digest},
                                   headers={"Idempotency-Key": f"key-{model.name}"})
    first, second = send(), send()
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json() and second.json()["created"] is True


def test_unknown_digest(model):
    problem = model.http.refused(404, "POST", f"{model.base}/versions",
                                 json={"digest": "sha256:" + "0" * 64})
    assert "/digest" in str(problem["errors"])
    assert model.http.get(model.base).status_code == 404, "nothing was made"


def test_other_repositorys_manifest(model):
    digest = model.put({"w": b"1"})
    other = Model(model.http)
    other.http.refused(404, "POST", f"{other.base}/versions", json={"digest": digest})


@pytest.mark.parametrize("body", [
    {}, {"digest": "x"}, {"digest": "sha256:" + "A" * 64}, {"digest": 1},
    {"labels": {"": "x"}}, {"labels": {"a b": "x"}}, {"labels": {"a": 1}},
    {"labels": {str(i): "x" for i in range(65)}}, {"labels": {"a": "x" * 257}},
    {"metrics": {"a": "x"}}, {"metrics": {"a=b": 1}}, {"alias": "3"}, {"alias": "v3"},
    {"alias": "latest"}, {"alias": "-x"}, {"alias": "a" * 129}, {"unknown": 1}])
def test_bad_bodies(model, body):
    digest = model.put({"w": b"1"})
    send = body if set(body) <= {"digest"} else {"digest": digest, **body}
    model.http.refused(400, "POST", f"{model.base}/versions", json=send)
    assert model.http.get(model.base).status_code == 404, "nothing was made"


@pytest.mark.threads
def test_gapless_under_32_pushers(model, server):
    digests = [model.put({"w": b"%d" % i}) for i in range(64)]

    def push(digest):
        with server.client(model.http.token) as http:
            return Model(http, name=model.name).http.post(
                f"{model.base}/versions", json={"digest": digest})

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        # each twice: half of the requests find the version of the other half
        replies = list(pool.map(push, digests + digests))
    assert {r.status_code for r in replies} == {200, 201}
    numbers = {}
    for reply in replies:
        body = reply.json()
        numbers.setdefault(body["digest"], set()).add(body["version"])
    assert all(len(n) == 1 for n in numbers.values())
    assert sorted(n for (n,) in numbers.values()) == list(range(1, 65))
    assert sum(r.json()["created"] for r in replies) == 64
    repo = repository(server, model)
    assert git(repo, "rev-list", "--count", "main").stdout == b"64\n"
    assert len(git(repo, "tag").stdout.split()) == 64


def test_alias_compare_and_set(model):
    model.version()
    model.version()
    assert model.alias("champion", 1).status_code == 201
    same = model.alias("champion", 1)
    assert same.status_code == 200 and same.headers["ETag"] == '"1"'
    assert model.alias("champion", 2).status_code == 428
    assert model.alias("champion", 2, match=2).status_code == 412
    assert model.alias("champion", 2, match=1).status_code == 200
    assert model.alias("champion", 1, match=1).status_code == 412
    assert model.http.ok("GET", f"{model.base}/aliases/champion")["version"] == 2
    assert model.alias("other", 1, match=1).status_code == 412, "there is none to match"
    assert model.alias("other", 3).status_code == 404
    assert model.alias("v9", 1).status_code == 400
    model.http.refused(404, "GET", f"{model.base}/aliases/other")
    assert model.http.delete(f"{model.base}/aliases/champion",
                             headers={"If-Match": '"1"'}).status_code == 412
    assert model.http.delete(f"{model.base}/aliases/champion").status_code == 204
    model.http.refused(404, "DELETE", f"{model.base}/aliases/champion")
    history = model.http.ok("GET", f"{model.base}/aliases/champion/history")["items"]
    assert [h["version"] for h in history] == [None, 2, 1]


@pytest.mark.threads
def test_one_of_many_movers_wins(model, server):
    for _ in range(3):
        model.version()
    for match, expected in ((None, 201), (1, 200), (2, 200)):
        target = (match or 0) + 1

        def move(_, target=target, match=match):
            with server.client(model.http.token) as http:
                return Model(http, name=model.name).alias("raced", target, match).status_code

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            codes = list(pool.map(move, range(16)))
        # who comes later finds it where it wants it, or its expectation stale
        assert codes.count(201 if match is None else expected) >= 1
        assert set(codes) <= ({201, 200} if match is None else {200, 412})
    history = model.http.ok("GET", f"{model.base}/aliases/raced/history")["items"]
    assert [h["version"] for h in history] == [3, 2, 1]


@pytest.mark.threads
def test_movers_to_different_versions(model, server):
    for _ in range(9):
        model.version()
    assert model.alias("raced", 1).status_code == 201

    def move(target):
        with server.client(model.http.token) as http:
            return Model(http, name=model.name).alias("raced", target, 1).status_code

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(move, range(2, 10)))
    assert sorted(codes) == [200] + [412] * 7


def test_history_at_a_time(model, pusher):
    model.version()
    model.version()
    before = datetime.datetime.now(datetime.timezone.utc)
    time.sleep(0.02)
    model.alias("champion", 1)
    time.sleep(0.02)
    between = datetime.datetime.now(datetime.timezone.utc)
    time.sleep(0.02)
    model.alias("champion", 2, match=1)

    def at(when):
        text = when if isinstance(when, str) else when.isoformat().replace("+00:00", "Z")
        items = model.http.ok("GET", f"{model.base}/aliases/champion/history",
                              params={"at": text})["items"]
        return [i["version"] for i in items]

    assert at(before) == []
    assert at(between) == [1]
    assert at(datetime.datetime.now(datetime.timezone.utc)) == [2]
    assert at("2020-05-03") == []
    model.http.refused(400, "GET", f"{model.base}/aliases/champion/history?at=yesterday-noon")
    first = model.http.ok("GET", f"{model.base}/aliases/champion/history?limit=1")
    assert [i["version"] for i in first["items"]] == [2]
    rest = model.http.ok("GET", f"{model.base}/aliases/champion/history",
                         params={"cursor": first["next"]})
    assert [i["version"] for i in rest["items"]] == [1] and rest["next"] is None
    assert rest["items"][0]["actor"]["name"] == pusher.name


def test_status(model, user):
    model.version()
    model.version()
    reply = model.set_status(1, "deprecated", "too old")
    assert reply.status_code == 200
    body = reply.json()
    assert (body["status"], body["status_reason"]) == ("deprecated", "too old")
    assert reply.headers["ETag"] == model.http.get(f"{model.base}/versions/1").headers["ETag"]
    assert model.alias("old", 1).status_code == 201, "deprecated only warns"
    operator = model.as_(user("operator@reg").http)
    assert operator.set_status(1, "ready").status_code == 403
    assert operator.set_status(1, "withdrawn", "it leaks").status_code == 200
    assert model.alias("old", 1).status_code == 409
    assert model.alias("new", 1).status_code == 409
    assert model.get("old")["status"] == "withdrawn", "it can still be read"
    evaluator = model.as_(user("evaluator@reg").http)
    assert evaluator.set_status(1, "ready").status_code == 403
    stranger = model.as_(user("contributor@elsewhere").http)
    assert stranger.set_status(1, "ready").status_code == 404
    for body in ({"status": "gone", "reason": "x"}, {"status": "ready"},
                 {"status": "ready", "reason": ""}, {"status": "ready", "reason": "x" * 1001}):
        model.http.refused(400, "POST", f"{model.base}/versions/1/status", json=body)
    assert model.set_status(1, "ready", "sound again").status_code == 200
    assert model.alias("new", 1).status_code == 201
    assert model.http.ok("GET", f"{model.base}/versions?status=ready")["items"][-1]["version"] == 1


def test_withdrawn_base(model):
    base = model.version()
    made_from = {"org.mlctl.base": f"{model.name}@{base['digest']}"}
    assert model.version(annotations=made_from)["version"] == 2
    model.set_status(1, "withdrawn")
    digest = model.put({"w": b"x"}, made_from)
    problem = model.http.refused(409, "POST", f"{model.base}/versions", json={"digest": digest})
    assert "withdrawn" in problem["detail"]
    assert model.http.ok("GET", model.base)["latest"] == 2, "no number was used"
    assert model.version()["version"] == 3


def test_tags_of_oci(model):
    first = model.repo.push_model("nightly", b"1")
    assert model.http.ok("GET", model.base)["aliases"] == {"nightly": 1}
    second = model.repo.push_model("nightly", b"2")
    assert model.http.ok("GET", f"{model.base}/aliases/nightly")["version"] == 2
    model.repo.push_model("latest", b"3")
    assert model.http.ok("GET", model.base) | {"created": ""} == {
        "model": model.name, "namespace": "reg", "name": model.name.split("/")[1], "created": "",
        "latest": 3, "aliases": {"nightly": 2}}
    model.repo.put_manifest("1", first)
    model.repo.put_manifest("v2", second)
    model.repo.put_manifest("3", first, status=409)
    model.repo.put_manifest("v5", oci.manifest(layers=[b"1", b"2"]), status=409)
    model.repo.put_manifest("v0", first, status=409)
    assert model.http.ok("GET", model.base)["latest"] == 3
    model.repo.put_manifest("v4", oci.manifest(layers=[b"1", b"2"]))
    assert model.http.ok("GET", model.base)["latest"] == 4
    assert model.repo.get_manifest("nightly").content == second
    assert model.repo.get_manifest("v1").content == first
    tags = model.http.ok("GET", f"/v2/{model.name}/tags/list")["tags"]
    assert tags == ["latest", "nightly", "v1", "v2", "v3", "v4"]


def test_search(model, user):
    tag = model.name.replace("/", ".")
    for i in range(5):
        model.version(annotations={"org.mlctl.dataset": f"{tag}@opaque:{i % 2}"},
                      labels={tag: "odd" if i % 2 else "even"}, metrics={tag: i / 10})

    def find(http=model.http, **query):
        return [v["version"] for v in http.ok("GET", "/api/v1/versions", params=query)["items"]]

    assert find(label=tag) == [5, 4, 3, 2, 1]
    assert find(label=f"{tag}=odd") == [4, 2]
    assert find(metric=f"{tag}>=0.3") == [5, 4]
    assert find(metric=f"{tag}>0.3") == [5]
    assert find(metric=f"{tag}<0.1") == [1]
    assert find(metric=f"{tag}<=0.1") == [2, 1]
    assert find(metric=f"{tag}=0.2") == [3]
    assert find(metric=tag, label=f"{tag}=even") == [5, 3, 1]
    assert find(dataset=tag) == [5, 4, 3, 2, 1]
    assert find(dataset=f"{tag}@opaque:1") == [4, 2]
    assert find(dataset=tag, metric=f"{tag}>0.1", label=f"{tag}=odd") == [4]
    one = model.get(3)
    assert find(digest=one["digest"]) == [3]
    assert find(digest=one["files"][0]["digest"]) == [3]
    assert find(digest=one["digest"], label=f"{tag}=odd") == []
    assert find(user("contributor@elsewhere").http, label=tag) == []
    assert find(user("auditor@reg").http, label=tag) == [5, 4, 3, 2, 1]
    for query in ({}, {"metric": "x>"}, {"metric": ">1"}, {"metric": "x=nan"}, {"metric": "x>>1"},
                  {"label": "=x"}, {"digest": "sha256:1"}, {"limit": 0}, {"limit": 1001},
                  {"label": tag, "cursor": "forged"}):
        model.http.refused(400, "GET", "/api/v1/versions", params=query)
    pages, query = [], {"label": tag, "limit": 2}
    while True:
        page = model.http.ok("GET", "/api/v1/versions", params=query)
        pages.append([v["version"] for v in page["items"]])
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert pages == [[5, 4], [3, 2], [1]]


def test_lists(model, user):
    for i in range(3):
        model.version(labels={"i": str(i)}, metrics={"m": i})
    model.alias("a", 1)
    model.alias("b", 3)
    listed = model.http.ok("GET", f"{model.base}/versions")["items"]
    assert [v["version"] for v in listed] == [3, 2, 1]
    assert listed[0]["aliases"] == ["b"] and listed[0]["format"] == "safetensors"
    for query, expected in (({"label": "i=1"}, [2]), ({"metric": "m<2"}, [2, 1]),
                            ({"alias": "a"}, [1]), ({"limit": 1}, [3]),
                            ({"status": "withdrawn"}, [])):
        page = model.http.ok("GET", f"{model.base}/versions", params=query)
        assert [v["version"] for v in page["items"]] == expected, query
    aliases = model.http.ok("GET", f"{model.base}/aliases?limit=1")
    assert [a["alias"] for a in aliases["items"]] == ["a"]
    rest = model.http.ok("GET", f"{model.base}/aliases", params={"cursor": aliases["next"]})
    assert [a["alias"] for a in rest["items"]] == ["b"] and rest["next"] is None
    name = model.name.split("/")[1]
    found = model.http.ok("GET", "/api/v1/models", params={"namespace": "reg", "q": name})["items"]
    assert [m["model"] for m in found] == [model.name]
    assert found[0]["aliases"] == {"a": 1, "b": 3}
    hidden = user("contributor@elsewhere").http
    assert hidden.ok("GET", "/api/v1/models", params={"q": name})["items"] == []
    hidden.refused(404, "GET", model.base)
    model.http.refused(404, "GET", f"{model.base}-none/versions")
    model.http.refused(404, "GET", f"{model.base}/versions/9")
    model.http.refused(404, "GET", f"{model.base}/versions/nobody")
    model.http.refused(404, "GET", f"{model.base}/versions/1/card")


def test_pages_of_models(pusher):
    names = [Model(pusher.http, ns="regpages") for _ in range(3)]
    for m in names:
        m.version()
    seen, query = [], {"namespace": "regpages", "limit": 1}
    while True:
        page = pusher.http.ok("GET", "/api/v1/models", params=query)
        seen += [m["model"] for m in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == sorted(m.name for m in names)


def test_unsafe_pickle_and_tar(model):
    evil = b"cos\nsystem\n(S'true'\ntR."
    v = model.get(model.version({"model.pkl": evil})["version"])
    assert v["safety"] == "unsafe"
    assert {"name": "os.system", "allowed": False} in v["metadata"]["imports"]
    # the same inside an archive layer
    tar = tar_of({"small/model.pkl": evil})
    for data in (b"{}", tar):
        model.repo.push(data)
    manifest = oci.manifest(
        layers=[oci.descriptor(tar, "application/vnd.cncf.model.weight.v1.tar")])
    model.repo.put_manifest("archive", manifest)
    v = model.get("archive")
    assert v["safety"] == "unsafe" and v["files"][0]["path"] is None
    assert v["metadata"]["files"][0]["path"] == "small/model.pkl"
    broken = b"no tar at all" * 100
    model.repo.push(broken)
    model.repo.put_manifest("broken", oci.manifest(
        layers=[oci.descriptor(broken, "application/vnd.cncf.model.weight.v1.tar")]))
    assert model.get("broken")["safety"] == "not_verified"


def tar_of(files):
    import io
    import tarfile
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_bad_manifests(model):
    model.repo.push(b"{}")
    model.repo.push(b"x")
    good = json.loads(oci.manifest(layers=[layer("a", b"x")]))

    def put(change, status=400, reference="bad"):
        doc = json.loads(json.dumps(good))
        change(doc)
        return model.repo.put_manifest(reference, json.dumps(doc).encode(), status=status)

    put(lambda d: d.update(schemaVersion=1))
    put(lambda d: d.update(layers={}))
    put(lambda d: d.pop("config"))
    put(lambda d: d["layers"][0].update(size=2))
    put(lambda d: d["layers"][0].update(digest="sha256:" + "0" * 64), status=404)
    put(lambda d: d["layers"][0]["annotations"].update({"org.cncf.model.filepath": "../x"}))
    put(lambda d: d["layers"].append(d["layers"][0]))
    put(lambda d: d.update(annotations={"org.mlctl.dataset": "no reference"}))
    put(lambda d: d, reference=oci.digest(b"other"))
    assert model.http.get(model.base).status_code == 404, "nothing was made"


def test_commit_verifies_with_stock_git(model, server, admin, tmp_path):
    card = b"# card\n"
    weights = safetensors([1.0])
    model.version({"w.safetensors": weights, "README.md": card, ".gitmodules": b"x", "empty": b""},
                  LINEAGE)
    model.version()
    signers = tmp_path / "signers"
    signers.write_bytes(admin.ok("GET", "/keys/allowed_signers"))
    repo = repository(server, model)
    for tag in ("v1", "v2"):
        git(repo, "verify-commit", tag, signers=signers)
        v = model.get(tag)
        assert git(repo, "rev-parse", tag).stdout.decode().strip() == v["commit"]
    git(repo, "fsck", "--strict")
    assert git(repo, "rev-parse", "main").stdout == git(repo, "rev-parse", "v2").stdout
    assert git(repo, "rev-parse", "v2^").stdout == git(repo, "rev-parse", "v1").stdout
    show = lambda path: git(repo, "show", f"v1:{path}").stdout
    assert show("README.md") == card
    assert hashlib.sha256(show("manifest.json")).hexdigest() == model.get(1)["digest"][7:]
    assert json.loads(show("lineage.json"))["run"] == "run-17"
    pointer = f"version https://git-lfs.github.com/spec/v1\noid {oci.digest(weights)}\n" \
              f"size {len(weights)}\n"
    assert show("files/w.safetensors").decode() == pointer
    assert show("files/empty") == b""
    tree = git(repo, "ls-tree", "-r", "--name-only", "v1").stdout.decode().split()
    assert tree == [".gitattributes", "README.md", "files/README.md", "files/empty",
                    "files/w.safetensors", f"layers/{oci.digest(b'x')[7:]}", "lineage.json",
                    "manifest.json"]
    who = git(repo, "log", "-1", "--format=%an %ae %cn").stdout.decode().split()
    assert who[0].startswith("signer-") and who == [who[0], f"{who[0]}@mlctl", who[0]]


def snapshot(directory):
    """References and objects with their contents."""
    refs = git(directory, "for-each-ref").stdout
    names = git(directory, "cat-file", "--batch-all-objects", "--batch-check").stdout
    objects = git(directory, "cat-file", "--batch-all-objects", "--batch").stdout
    return refs, names, objects


def test_rebuild_git(make_server, tmp_path):
    server = make_server().start()
    http = invite(server, tmp_path, "pusher", ["contributor@reb"]).http
    models = [Model(http, ns="reb") for _ in range(2)]
    for m in models:
        for _ in range(3):
            m.version(annotations=LINEAGE)
    repos = [repository(server, m) for m in models]
    before = [snapshot(r) for r in repos]
    server.stop()
    shutil.rmtree(repos[0])
    (repos[1] / "refs/tags/v2").unlink()
    done = subprocess.run([build_directory() / "mlctld", "rebuild-git", "--data", server.directory],
                          capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [snapshot(r) for r in repos] == before
    assert not list((server.directory / "git").glob(".*")), "nothing is left over"


def test_repaired_at_start(make_server, tmp_path):
    server = make_server().start()
    m = Model(invite(server, tmp_path, "pusher", ["contributor@rep"]).http, ns="rep")
    for _ in range(3):
        m.version()
    repo = repository(server, m)
    before = snapshot(repo)
    server.kill()
    # as if killed after COMMIT of 2 and 3, and between the tag and the branch of 2
    first = git(repo, "rev-parse", "v1").stdout
    (repo / "refs/heads/main").write_bytes(first)
    (repo / "refs/tags/v3").unlink()
    server.start()
    assert snapshot(repo) == before
    shutil.rmtree(repo)
    server.restart()
    assert snapshot(repo) == before
