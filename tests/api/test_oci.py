# SPDX-License-Identifier: Apache-2.0
"""/v2/ as OCI clients use it: by table, and with skopeo and oras themselves."""
import json
import os
import subprocess

import pytest
import requests

from support import golang
from support.oci import (EMPTY, INDEX, MANIFEST, MODEL, Repository, code, descriptor, digest,
                         manifest)

SHA512 = "sha512:" + "0" * 128


@pytest.fixture
def repo(user):
    namespace = "oci-" + os.urandom(4).hex()
    person = user(f"contributor@{namespace}")
    one = Repository(person.http, f"{namespace}/model")
    one.person, one.namespace = person, namespace
    return one


# --- who ---

def test_ping_asks_for_basic(server, admin):
    reply = server.client().get("/v2/")
    assert reply.status_code == 401
    assert reply.headers["WWW-Authenticate"].startswith("Basic ")
    assert code(reply) == "UNAUTHORIZED"
    assert admin.get("/v2/").status_code == 200
    session = requests.Session()
    session.trust_env = False
    for name in ("anything", "token", "x"):
        assert session.get(f"{server.url}/v2/", auth=(name, server.admin_token)).status_code == 200
    assert session.get(f"{server.url}/v2/", auth=("x", "mlc_wrong")).status_code == 401


def test_a_role_is_needed_to_push(repo, user):
    reader = Repository(user(f"auditor@{repo.namespace}").http, repo.name)
    name = repo.push(b"for readers too")
    assert reader.get(name).content == b"for readers too"
    for reply in (reader.http.post(f"{repo.base}/blobs/uploads/"),
                  reader.http.put(f"{repo.base}/manifests/x", data=b"{}",
                                  headers={"Content-Type": MANIFEST})):
        assert reply.status_code == 403
        assert code(reply) == "DENIED"
    stranger = user("contributor@" + repo.namespace + "-not")
    assert stranger.http.get(f"{repo.base}/tags/list").status_code == 404


@pytest.mark.parametrize("name", ["UPPER/model", "ns/Model", "-a/b", "one", "a/b/c"])
def test_names_that_are_none(admin, name):
    reply = admin.get(f"/v2/{name}/tags/list")
    assert reply.status_code in (400, 404)
    assert code(reply) in ("NAME_INVALID", "NAME_UNKNOWN")


# --- blobs ---

@pytest.mark.parametrize("asked,status,part,said", [
    ("500-1499", 206, slice(500, 1500), "bytes 500-1499/2048"),
    ("500-", 206, slice(500, 2048), "bytes 500-2047/2048"),
    ("-500", 206, slice(1548, 2048), "bytes 1548-2047/2048"),
    ("2000-5000", 206, slice(2000, 2048), "bytes 2000-2047/2048"),
    ("0-0", 206, slice(0, 1), "bytes 0-0/2048"),
    ("500-0", 416, None, "bytes */2048"),
    ("5000-10000", 416, None, "bytes */2048"),
])
def test_ranges(repo, asked, status, part, said):
    data = bytes(i * 7 % 251 for i in range(2048))
    name = repo.push(data)
    reply = repo.get(name, status, Range=f"bytes={asked}")
    assert reply.headers["Content-Range"] == said
    if part:
        assert reply.content == data[part]
        assert reply.headers["Content-Length"] == str(len(data[part]))


def test_head(repo):
    name = repo.push(b"12345")
    reply = repo.http.head(f"{repo.base}/blobs/{name}")
    assert (reply.status_code, reply.headers["Content-Length"], reply.content) == (200, "5", b"")
    assert reply.headers["Docker-Content-Digest"] == name
    assert repo.http.head(f"{repo.base}/blobs/{digest(b'absent')}").status_code == 404


@pytest.mark.parametrize("name,status,said", [
    ("sha256:baddigeststring", 400, "DIGEST_INVALID"), ("nodigest", 400, "DIGEST_INVALID"),
    (SHA512, 404, "BLOB_UNKNOWN"), (digest(b"absent"), 404, "BLOB_UNKNOWN")])
def test_blobs_that_are_not_there(repo, name, status, said):
    assert code(repo.get(name, status)) == said


def test_monolithic_post(repo):
    data = os.urandom(70000)
    reply = repo.http.post(f"{repo.base}/blobs/uploads/", data=data,
                           params={"digest": digest(data)})
    assert reply.status_code == 201
    assert reply.headers["Location"] == f"{repo.base}/blobs/{digest(data)}"
    assert repo.get(digest(data)).content == data


BAD = ["sha256:" + "0" * 64, "sha256:baddigeststring", "sha256:", "nonsense", SHA512]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("shape", ["post", "post-put", "chunked", "chunked-put", "streamed"])
def test_bad_digests(repo, bad, shape):
    data = b"some bytes that have another digest"
    if shape == "post":
        reply = repo.http.post(f"{repo.base}/blobs/uploads/", params={"digest": bad}, data=data)
        assert reply.status_code == 400 and code(reply) == "DIGEST_INVALID"
        return
    location, rest = repo.start(), b""
    if shape == "post-put":
        rest = data
    elif shape == "chunked":
        repo.patch(location, data, first=0)
    elif shape == "chunked-put":
        repo.patch(location, data[:10], first=0)
        rest = data[10:]
    else:
        repo.patch(location, iter([data]))
    assert code(repo.finish(location, bad, rest, status=400)) == "DIGEST_INVALID"
    assert not repo.has(digest(data))


def test_finish_needs_a_digest(repo):
    reply = repo.http.put(repo.start(), data=b"x")
    assert reply.status_code == 400 and code(reply) == "DIGEST_INVALID"


def test_chunks_out_of_order(repo):
    data = os.urandom(100)
    location = repo.start()
    repo.patch(location, data[:50], first=0)
    for first in (0, 49, 51):
        reply = repo.patch(location, data[50:], first=first, status=416)
        assert code(reply) == "BLOB_UPLOAD_INVALID"
    reply = repo.finish(location, digest(data), data[50:], status=416,
                        headers={"Content-Range": "60-109"})
    assert code(reply) == "BLOB_UPLOAD_INVALID"
    assert repo.http.get(location).headers["Range"] == "0-49"
    repo.finish(location, digest(data), data[50:], headers={"Content-Range": "50-99"})
    assert repo.get(digest(data)).content == data


@pytest.mark.parametrize("header", ["bytes 0-9", "0-", "-9", "9-0", "x", "0-9/10"])
def test_malformed_chunk_ranges(repo, header):
    reply = repo.http.patch(repo.start(), data=b"0123456789",
                            headers={"Content-Range": header})
    assert reply.status_code == 400 and code(reply) == "BLOB_UPLOAD_INVALID"


def test_chunk_range_and_length_that_differ(repo):
    location = repo.start()
    reply = repo.http.patch(location, data=b"0123456789", headers={"Content-Range": "0-99"})
    assert reply.status_code == 400 and code(reply) == "SIZE_INVALID"
    reply = repo.http.patch(location, data=iter([b"01234"]), headers={"Content-Range": "0-3"})
    assert reply.status_code == 400 and code(reply) == "SIZE_INVALID"


def test_cancel(repo):
    location = repo.start()
    repo.patch(location, b"abc")
    assert repo.http.delete(location).status_code == 204
    for reply in (repo.http.get(location), repo.http.delete(location),
                  repo.http.patch(location, data=b"x"),
                  repo.http.put(location, params={"digest": digest(b"abc")})):
        assert reply.status_code == 404 and code(reply) == "BLOB_UPLOAD_UNKNOWN"


def test_a_body_nobody_asked_for(repo):
    reply = repo.http.post(f"{repo.base}/blobs/uploads/", data=b"body")
    assert reply.status_code == 400 and code(reply) == "SIZE_INVALID"


def test_nothing_is_deleted(repo):
    repo.push_model("v-one", b"weights")
    for path in (f"blobs/{digest(b'weights')}", "manifests/v-one", f"manifests/{digest(b'x')}"):
        reply = repo.http.delete(f"{repo.base}/{path}")
        assert reply.status_code == 405 and code(reply) == "UNSUPPORTED"
    assert repo.get(digest(b"weights")).content == b"weights"


# --- manifests ---

def test_a_tag_makes_a_version(repo):
    data = repo.push_model("champion", b"weights")
    for reference in ("champion", "latest", "v1", "1", digest(data)):
        reply = repo.get_manifest(reference)
        assert reply.content == data
        assert reply.headers["Content-Type"] == MANIFEST
        assert reply.headers["Docker-Content-Digest"] == digest(data)
        head = repo.http.head(f"{repo.base}/manifests/{reference}")
        assert head.headers["Content-Length"] == str(len(data)) and head.content == b""
    # again: the same version; another tag: another alias of it
    repo.put_manifest("champion", data)
    repo.put_manifest("second", data)
    assert repo.http.ok("GET", f"{repo.base}/tags/list") == {
        "name": repo.name, "tags": ["champion", "latest", "second", "v1"]}
    other = repo.push_model("champion", b"other weights")
    assert repo.get_manifest("champion").content == other
    assert repo.get_manifest("v2").content == other
    assert repo.get_manifest("second").content == data


def test_deprecated_versions_warn(repo):
    repo.push_model("latest", b"w")
    assert "Warning" not in repo.get_manifest("v1").headers
    repo.http.ok("POST", f"/api/v1/models/{repo.name}/versions/1/status",
                 json={"status": "deprecated", "reason": "old"})
    warning = repo.get_manifest("v1").headers["Warning"]
    assert warning == f'299 - "version 1 of {repo.name} is deprecated"'


def test_put_replies(repo):
    repo.push(b"{}")
    data = manifest()
    reply = repo.put_manifest("latest", data, media_type=MANIFEST + "; charset=utf-8")
    assert reply.headers["Location"] == f"{repo.base}/manifests/{digest(data)}"
    assert reply.headers["Docker-Content-Digest"] == digest(data)
    assert "OCI-Subject" not in reply.headers
    assert repo.get_manifest("latest").headers["Content-Type"] == MANIFEST


def test_version_numbers_cannot_be_taken(repo):
    data = repo.push_model("one", b"1")
    other = json.dumps({**json.loads(data), "annotations": {"other": "yes"}}).encode()
    for reference in ("v7", "3", "v1", "1"):
        assert code(repo.put_manifest(reference, other, status=409)) == "DENIED"
    repo.put_manifest("v1", data)
    repo.put_manifest("v2", other)  # that is the number it gets
    assert repo.http.ok("GET", f"{repo.base}/tags/list")["tags"] == ["latest", "one", "v1", "v2"]


def test_by_digest_an_index_or_with_subject_makes_no_version(repo):
    repo.push(b"{}")
    data = manifest()
    repo.put_manifest(digest(data), data)
    assert repo.get_manifest(digest(data)).content == data
    repo.get_manifest("latest", 404)
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX,
                        "manifests": [descriptor(data, MANIFEST)]}).encode()
    repo.put_manifest(digest(index), index, media_type=INDEX)
    assert repo.get_manifest(digest(index)).headers["Content-Type"] == INDEX
    subject = manifest(subject=descriptor(data, MANIFEST))
    reply = repo.put_manifest(digest(subject), subject)
    assert reply.headers["OCI-Subject"] == digest(data)
    repo.get_manifest("latest", 404)


def test_bytes_survive(repo):
    repo.push(b"{}")
    data = (b' {"schemaVersion":2,  "mediaType":"%s",\n"artifactType":"x/y",'
            b'"config":{"mediaType":"%s","digest":"%s","size":2,"data":"e30="},'
            b'"layers":[],"future":{"field":[1.50,"\\u00e4"]}}\n'
            % (MANIFEST.encode(), EMPTY.encode(), digest(b"{}").encode()))
    repo.put_manifest("latest", data)
    assert repo.get_manifest("latest").content == data


def test_four_mebibytes_and_not_more(repo):
    repo.push(b"{}")
    data = manifest(annotations={f"note{i}": "x" * 10000 for i in range(390)})
    assert 3_900_000 < len(data) < 4 << 20
    repo.put_manifest(digest(data), data)
    assert repo.get_manifest(digest(data)).content == data
    over = manifest(annotations={f"note{i}": "x" * 10000 for i in range(450)})
    assert code(repo.put_manifest(digest(over), over, status=413)) == "SIZE_INVALID"


@pytest.mark.parametrize("data,status,said", [
    (b"", 400, "MANIFEST_INVALID"), (b"{", 400, "MANIFEST_INVALID"),
    (b"[]", 400, "MANIFEST_INVALID"),
    (b"{}", 400, "MANIFEST_INVALID"), (b'{"schemaVersion":1}', 400, "MANIFEST_INVALID"),
    (manifest(layers=[descriptor(b"never pushed")]), 404, "MANIFEST_BLOB_UNKNOWN")])
def test_manifests_that_are_refused(repo, data, status, said):
    repo.push(b"{}")
    assert code(repo.put_manifest("latest", data, status=status)) == said
    repo.get_manifest("latest", 404)


def test_references_that_are_refused(repo):
    repo.push(b"{}")
    data = manifest()
    for reference in ("sha256:baddigeststring", digest(b"other"), SHA512):
        assert code(repo.put_manifest(reference, data, status=400)) == "DIGEST_INVALID"
    for reference in ("-bad", ".bad", "a" * 129):
        assert repo.http.put(f"{repo.base}/manifests/{reference}", data=data,
                             headers={"Content-Type": MANIFEST}).status_code == 400
    reply = repo.put_manifest("latest", data, status=400, media_type=INDEX)
    assert code(reply) == "MANIFEST_INVALID"
    for reference in ("absent", "v9", "sha256:baddigeststring", SHA512, digest(b"absent")):
        assert code(repo.get_manifest(reference, 404)) == "MANIFEST_UNKNOWN"


def test_sparse(repo):
    repo.push(b"{}")
    layer = descriptor(b"elsewhere", "application/vnd.oci.image.layer.nondistributable.v1.tar",
                       urls=["https://example.com/layer"])
    repo.put_manifest("latest", manifest(layers=[layer]))
    absent = manifest(subject=descriptor(b"not here", MANIFEST))
    assert repo.put_manifest(digest(absent), absent).headers["OCI-Subject"] == digest(b"not here")


# --- tags and referrers ---

def test_pages_of_tags(repo):
    data = repo.push_model("latest", b"w")
    for tag in ("beta", "alpha", "Zulu", "a.b", "a-b", "a_b"):
        repo.put_manifest(tag, data)
    every = sorted(["Zulu", "a-b", "a.b", "a_b", "alpha", "beta", "latest", "v1"])
    path = f"{repo.base}/tags/list"
    assert repo.http.ok("GET", path)["tags"] == every
    after = repo.http.ok("GET", path, params={"last": "a.b"})["tags"]
    assert after == every[every.index("a.b") + 1:]
    reply = repo.http.get(path, params={"n": 0})
    assert reply.json()["tags"] == [] and "Link" not in reply.headers
    seen, url = [], path + "?n=3"
    while url:
        reply = repo.http.get(url)
        assert len(reply.json()["tags"]) == 3 or "Link" not in reply.headers
        seen += reply.json()["tags"]
        url = reply.links.get("next", {}).get("url")
    assert seen == every
    reply = repo.http.get(path, params={"n": len(every)})
    assert reply.json()["tags"] == every and "Link" not in reply.headers
    assert repo.http.get(path, params={"n": -1}).status_code == 400
    assert code(repo.http.get(f"/v2/{repo.namespace}/nothing/tags/list")) == "NAME_UNKNOWN"


def test_referrers(repo):
    data = repo.push_model("latest", b"w")
    path = f"{repo.base}/referrers/{digest(data)}"

    def ask(**params):
        reply = repo.http.get(path, params=params)
        assert reply.status_code == 200 and reply.headers["Content-Type"] == INDEX
        doc = reply.json()
        assert (doc["schemaVersion"], doc["mediaType"]) == (2, INDEX)
        return doc["manifests"], reply

    assert ask()[0] == []
    subject = descriptor(data, MANIFEST)
    sbom = manifest(subject=subject, artifactType="a/sbom", annotations={"who": "me"})
    plain = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
                        "config": descriptor(b"{}", "c/type"), "subject": subject}).encode()
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [],
                        "subject": subject}).encode()
    repo.put_manifest(digest(sbom), sbom)
    repo.put_manifest(digest(plain), plain)
    repo.put_manifest(digest(index), index, media_type=INDEX)
    found = {m["digest"]: m for m in ask()[0]}
    assert set(found) == {digest(sbom), digest(plain), digest(index)}
    assert found[digest(sbom)] == descriptor(sbom, MANIFEST, artifactType="a/sbom",
                                             annotations={"who": "me"})
    assert found[digest(plain)]["artifactType"] == "c/type"
    assert "artifactType" not in found[digest(index)]
    filtered, reply = ask(artifactType="a/sbom")
    assert [m["digest"] for m in filtered] == [digest(sbom)]
    assert reply.headers["OCI-Filters-Applied"] == "artifactType"
    for absent in (digest(b"never"), SHA512):
        assert repo.http.get(f"{repo.base}/referrers/{absent}").json()["manifests"] == []
    assert code(repo.http.get(f"{repo.base}/referrers/sha256:bad")) == "DIGEST_INVALID"


# --- clients of others ---

def run(*args, cwd=None):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=120,
                          check=False, cwd=cwd,
                          env={"PATH": os.environ["PATH"], "HOME": str(cwd or "/nonexistent")})
    assert done.returncode == 0, f"{args}: {done.stdout}{done.stderr}"
    return done.stdout


def layout(directory, data, blobs):
    """An OCI image layout with one manifest, tagged v0."""
    (directory / "blobs" / "sha256").mkdir(parents=True)
    for blob in (data, *blobs):
        (directory / "blobs" / "sha256" / digest(blob)[7:]).write_bytes(blob)
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
        descriptor(data, MANIFEST, annotations={"org.opencontainers.image.ref.name": "v0"})]}))


def test_skopeo_both_ways(repo, server, tmp_path):
    weights = os.urandom(3_000_000)
    image = {"schemaVersion": 2, "mediaType": MANIFEST,
             "config": descriptor(b"{}", "application/vnd.cncf.model.config.v1+json"),
             "layers": [descriptor(weights, "application/vnd.cncf.model.weight.v1.raw")]}
    data = json.dumps(image).encode()
    layout(tmp_path / "in", data, [b"{}", weights])
    host = server.url.removeprefix("http://")
    creds = f"anyone:{repo.http.token}"
    run("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--dest-creds", creds,
        f"oci:{tmp_path}/in:v0", f"docker://{host}/{repo.name}:from-skopeo", cwd=tmp_path)
    assert repo.get_manifest("from-skopeo").content == data
    assert repo.get_manifest("v1").content == data
    run("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--src-creds", creds,
        f"docker://{host}/{repo.name}:v1", f"oci:{tmp_path}/out:v0", cwd=tmp_path)
    back = tmp_path / "out" / "blobs" / "sha256"
    assert (back / digest(weights)[7:]).read_bytes() == weights
    assert (back / digest(data)[7:]).read_bytes() == data
    tags = json.loads(run("skopeo", "list-tags", "--tls-verify=false", "--creds", creds,
                          f"docker://{host}/{repo.name}", cwd=tmp_path))["Tags"]
    assert tags == ["from-skopeo", "latest", "v1"]


@pytest.fixture(scope="session")
def oras():
    return golang.build("oras", "oras.land/oras/cmd/oras@v1.3.6")


@pytest.mark.timeout(900)
def test_oras_both_ways(repo, server, oras, tmp_path):
    weights = os.urandom(3_000_000)
    (tmp_path / "model.bin").write_bytes(weights)
    host = server.url.removeprefix("http://")
    login = ("--plain-http", "-u", "anyone", "-p", repo.http.token)
    run(oras, "push", *login, f"{host}/{repo.name}:from-oras", "--artifact-type", MODEL,
        "model.bin:application/vnd.cncf.model.weight.v1.raw", cwd=tmp_path)
    doc = repo.get_manifest("from-oras").json()
    assert doc["artifactType"] == MODEL
    assert doc["layers"][0]["digest"] == digest(weights)
    assert repo.get_manifest("v1").json() == doc
    (tmp_path / "out").mkdir()
    run(oras, "pull", *login, f"{host}/{repo.name}:v1", "-o", tmp_path / "out", cwd=tmp_path)
    assert (tmp_path / "out" / "model.bin").read_bytes() == weights
    (tmp_path / "note.txt").write_text("seen")
    ref = f"{host}/{repo.name}:v1"
    run(oras, "attach", *login, ref, "--artifact-type", "a/note", "note.txt", cwd=tmp_path)
    assert "a/note" in run(oras, "discover", *login, "--format", "json", ref, cwd=tmp_path)


@pytest.mark.timeout(900)
def test_oras_pulls_the_files_that_mlctl_pushed(user, server, oras, tmp_path):
    who = user("contributor@files")
    weights = os.urandom(100_000)
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/sub/model.bin").write_bytes(weights)
    (tmp_path / "in/README.md").write_text("# Card\n")
    who.run("push", "files/pushed", tmp_path / "in")
    (tmp_path / "out").mkdir()
    run(oras, "pull", "--plain-http", "-u", "anyone", "-p", who.http.token,
        f"{server.url.removeprefix('http://')}/files/pushed:v1", "-o", tmp_path / "out",
        cwd=tmp_path)
    assert (tmp_path / "out/sub/model.bin").read_bytes() == weights
    assert (tmp_path / "out/README.md").read_text() == "# Card\n"
