# SPDX-License-Identifier: Apache-2.0
"""Manifests that lie, and files made to break who reads them: refused, or kept and marked."""
import io
import itertools
import json
import os
import pickle
import struct
import tarfile
import warnings
import zipfile

import pytest

from support import oci
from support.oci import INDEX, MANIFEST, code, descriptor, digest

WEIGHT = "application/vnd.cncf.model.weight.v1.raw"
TAR = "application/vnd.cncf.model.weight.v1.tar"
PATH = "org.cncf.model.filepath"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def person(server, tmp_path_factory):
    from support.cli import invite

    return invite(
        server,
        tmp_path_factory.mktemp("home"),
        "models-" + os.urandom(4).hex(),
        ["contributor@models", "auditor"],
    )


@pytest.fixture
def repo(person):
    """A repository of this test's own, with the empty config in it."""
    one = oci.Repository(person.http, f"models/m{os.getpid()}-{next(_numbers)}")
    one.push(b"{}")
    one.api = f"/api/v1/models/{one.name}"
    return one


def layer(data, path, media_type=WEIGHT):
    return descriptor(data, media_type, annotations={PATH: path})


def kept(repo, reference="bad"):
    """The version that this tag made, as the API shows it."""
    return repo.http.ok("GET", f"{repo.api}/versions/{reference}")


def nothing_made(repo):
    assert repo.http.get(repo.api).status_code == 404


# --- paths ---

BAD_PATHS = [
    "..",
    "../x",
    "a/../b",
    "a/..",
    "/etc/passwd",
    "/",
    "//x",
    "a//b",
    "./a",
    "a/.",
    ".",
    "",
    "a/",
    "a\\b",
    "..\\x",
    "C:\\x",
    "a\nb",
    "a\tb",
    "a\x7fb",
    "a\x1b[31mb",
    "x" * 5000,
    "/".join(["d"] * 3000),
]


@pytest.mark.parametrize("path", BAD_PATHS, ids=lambda p: ascii(p)[:24])
def test_paths(repo, path):
    repo.push(b"x")
    reply = repo.put_manifest("bad", oci.manifest(layers=[layer(b"x", path)]), status=400)
    assert code(reply) == "MANIFEST_INVALID"
    nothing_made(repo)


def test_path_with_nul(repo):
    repo.push(b"x")
    text = oci.manifest(layers=[layer(b"x", "aNULb")]).replace(b"NUL", b"\\u0000")
    assert code(repo.put_manifest("bad", text, status=400)) == "MANIFEST_INVALID"
    nothing_made(repo)


@pytest.mark.parametrize(
    "paths", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/b", "a/b/c"), ("d/a", "d/a")]
)
def test_paths_that_collide(repo, paths):
    for data in (b"1", b"2"):
        repo.push(data)
    layers = [layer(b"1", paths[0]), layer(b"2", paths[1])]
    reply = repo.put_manifest("bad", oci.manifest(layers=layers), status=400)
    assert code(reply) == "MANIFEST_INVALID"
    nothing_made(repo)


@pytest.mark.parametrize("paths", [("a", "A"), ("dir/x", "DIR/x"), ("é", "e\u0301"), ("a", "ａ")])
def test_paths_that_differ_in_case_or_form_only(repo, paths):
    """Two files: what a file system folds is for whoever pulls to refuse, as git does."""
    for data in (b"1", b"2"):
        repo.push(data)
    repo.put_manifest("odd", oci.manifest(layers=[layer(b"1", paths[0]), layer(b"2", paths[1])]))
    found = {f["path"]: f["digest"] for f in kept(repo, "odd")["files"]}
    assert found == {paths[0]: digest(b"1"), paths[1]: digest(b"2")}


@pytest.mark.parametrize(
    "path",
    [
        "a\u202eb",
        "é/ß.bin",
        "😀",
        "a b",
        "%2e%2e",
        "con",
        "...",
        "a..b",
        "-rf",
        "$(x)",
        "'; drop table",
        ".git/hooks/x",
        ".gitattributes",
        "~",
    ],
)
def test_odd_paths_are_files_like_others(repo, path):
    repo.push(b"x")
    reply = repo.http.put(
        f"{repo.base}/manifests/odd",
        headers={"Content-Type": MANIFEST},
        data=oci.manifest(layers=[layer(b"x", path)]),
    )
    assert reply.status_code in (201, 400), reply.text
    if reply.status_code == 201:
        assert kept(repo, "odd")["files"][0]["path"] == path
    else:
        nothing_made(repo)


# --- manifests ---


def base_document():
    return json.loads(oci.manifest(layers=[layer(b"x", "x")]))


def variants():
    def change(**members):
        return {**base_document(), **members}

    first = base_document()["layers"][0]
    for value in (None, 1, "2", 2.0, 3, -2, [], {}):
        yield f"schemaVersion {value}", change(schemaVersion=value)
    for value in (1, [], {}, "text/plain", INDEX, "x" * 300):
        yield f"mediaType {str(value)[:20]}", change(mediaType=value)
    for name in ("config", "layers"):
        yield f"no {name}", {k: v for k, v in base_document().items() if k != name}
        for value in (None, 1, "x", [1], {"a": 1}, [None], [[]]):
            yield f"{name} {value}", change(**{name: value})
    for name in ("digest", "size", "mediaType"):
        less = {k: v for k, v in first.items() if k != name}
        yield f"layer without {name}", change(layers=[less])
    for value in (
        "",
        "x",
        "sha256:",
        "sha256:" + "g" * 64,
        "sha256:" + "0" * 63,
        "md5:" + "0" * 32,
        "sha256:" + "A" * 64,
        "sha512:" + "0" * 128,
        1,
        None,
        "sha256:../../etc/passwd",
    ):
        yield f"digest {value}", change(layers=[{**first, "digest": value}])
    for value in (-1, 2, 0, "1", 1.5, None, 1 << 62, True):
        yield f"size {value}", change(layers=[{**first, "size": value}])
    for value in ([], 1, "x", {"a": 1}, {"a": None}, {PATH: 1}):
        yield f"annotations {value}", change(annotations=value)
        yield f"layer annotations {value}", change(layers=[{**first, "annotations": value}])
    for value in ("no reference", "a@b:c", "x" * 5000, "\n", "a@sha256:0"):
        yield f"dataset {value[:20]!r}", change(annotations={"org.mlctl.dataset": value})
    for value in ("x" * 5000, "a\x00b", "a\x1bb"):
        yield f"run {value[:20]!r}", change(annotations={"org.mlctl.run": value})
    yield "the same layer twice", change(layers=[first, first])
    yield "subject that is none", change(subject=1)
    yield "subject without digest", change(subject={"size": 1})


@pytest.mark.parametrize("what, document", [pytest.param(*v, id=v[0]) for v in variants()])
def test_manifests(repo, what, document):
    repo.push(b"x")
    reply = repo.put_manifest("bad", json.dumps(document).encode(), status=400)
    assert code(reply) in ("MANIFEST_INVALID", "DIGEST_INVALID"), what
    nothing_made(repo)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"{}",
        b'{"schemaVersion":2,"schemaVersion":2}',
        b"[" * 1_000_000,
        b'{"a":' * 500_000,
        b"x" * (4 << 20),
        b"\0" * 1000,
        b'{"schemaVersion":NaN}',
        b"\xef\xbb\xbf{}",
        b"%YAML 1.1\n---\na: &a [*a, *a]\n",
    ],
    ids=lambda d: repr(d[:20]),
)
def test_no_manifests(repo, data):
    assert code(repo.put_manifest("bad", data, status=400)) == "MANIFEST_INVALID"
    nothing_made(repo)


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/json",
        "image/png",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ],
)
def test_media_types(repo, kind):
    repo.push(b"x")
    data = json.dumps(base_document()).encode()
    reply = repo.http.put(f"{repo.base}/manifests/bad", data=data, headers={"Content-Type": kind})
    assert reply.status_code == 400 and code(reply) == "MANIFEST_INVALID", reply.text
    nothing_made(repo)


def test_wrong_digests(repo):
    repo.push(b"x")
    data = json.dumps(base_document()).encode()
    for reference in (
        digest(b"other"),
        digest(data)[:-1] + "0" if digest(data)[-1] != "0" else digest(data)[:-1] + "1",
    ):
        assert code(repo.put_manifest(reference, data, status=400)) == "DIGEST_INVALID"
    for reference in ("sha256:x", "sha512:" + "0" * 128, "a" * 129, "-tag", "a b", "ä"):
        reply = repo.http.put(
            f"{repo.base}/manifests/{reference}", data=data, headers={"Content-Type": MANIFEST}
        )
        assert 400 <= reply.status_code < 500, reply.text
        assert code(reply) in ("DIGEST_INVALID", "MANIFEST_INVALID", "TAG_INVALID")
    nothing_made(repo)


def padded(size):
    """A manifest of exactly this many bytes."""
    document = base_document()
    document["annotations"] = {"note": ""}
    short = len(json.dumps(document))
    document["annotations"]["note"] = "x" * (size - short)
    return json.dumps(document).encode()


def test_largest_manifest(repo):
    repo.push(b"x")
    data = padded(4 << 20)
    assert len(data) == 4 << 20
    repo.put_manifest("large", data)
    assert repo.get_manifest("v1").content == data
    assert kept(repo, "large")["digest"] == digest(data)
    reply = repo.http.put(
        f"{repo.base}/manifests/larger",
        data=padded((4 << 20) + 1),
        headers={"Content-Type": MANIFEST},
    )
    assert reply.status_code == 413 and code(reply) == "SIZE_INVALID"


def test_many_layers(repo):
    repo.push(b"x")
    data = oci.manifest(layers=[layer(b"x", f"{i}") for i in range(10_000)])
    repo.put_manifest("many", data)
    assert len(kept(repo, "many")["files"]) == 10_000
    data = oci.manifest(layers=[layer(b"x", f"{i}") for i in range(10_001)])
    assert code(repo.put_manifest("more", data, status=413)) == "SIZE_INVALID"


# --- graphs ---


def index(*entries, **more):
    return json.dumps(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries), **more}
    ).encode()


def test_indexes_that_cannot_close_a_circle(repo):
    """An index names what is there by digest, so none can name itself; deep chains do no harm."""
    sparse = index(descriptor(b"absent", INDEX))
    reply = repo.put_manifest(digest(sparse), sparse, status=404, media_type=INDEX)
    assert code(reply) == "MANIFEST_BLOB_UNKNOWN"
    last = index()
    for _ in range(100):
        repo.put_manifest(digest(last), last, media_type=INDEX)
        last = index(descriptor(last, INDEX))
    assert repo.get_manifest(json.loads(last)["manifests"][0]["digest"]).status_code == 200


def test_subjects(repo):
    """Of another that is not there yet; each of the other; the chain is not followed."""
    first = oci.manifest(subject=descriptor(b"not there", MANIFEST))
    second = oci.manifest(subject=descriptor(first, MANIFEST))
    for data in (second, first):
        repo.put_manifest(digest(data), data)
    for data, count in ((b"not there", 1), (first, 1), (second, 0)):
        reply = repo.http.get(f"{repo.base}/referrers/{digest(data)}")
        assert len(reply.json()["manifests"]) == count
    assert repo.http.ok("GET", f"{repo.base}/tags/list")["tags"] == []


def test_an_index_of_many(repo):
    data = index(*[descriptor(b"%d" % i, MANIFEST) for i in range(20_000)])
    assert len(data) < 4 << 20
    reply = repo.put_manifest(digest(data), data, status=413, media_type=INDEX)
    assert code(reply) == "SIZE_INVALID"


# --- hostile files: the version is made, and says what it is ---


def safetensors(header, data=b"", length=None):
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor(**more):
    return {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **more}


def gguf(version=3, tensors=0, pairs=0, rest=b""):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + rest


def npy(header, version=1):
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(header)) + header


def zip_of(*entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of duplicate names
        for name, data in entries:
            z.writestr(name, data)
    return out.getvalue()


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


BIG = (1 << 64) - 1
FILES = {
    "m.safetensors": [
        b"",
        b"\0" * 7,
        safetensors(b"", length=BIG),
        safetensors(b"{}", length=1 << 40),
        safetensors(b"[]"),
        safetensors(b"{"),
        safetensors(b"\xff" * 64),
        safetensors(b"[" * 100_000),
        safetensors(b'{"a":' * 50_000),
        safetensors({"w": tensor(data_offsets=[0, 1 << 60])}, b"0000"),
        safetensors({"w": tensor(data_offsets=[4, 0])}, b"0000"),
        safetensors({"w": tensor(data_offsets=[-4, 0])}, b"0000"),
        safetensors({"w": tensor(shape=[1 << 62, 1 << 62])}, b"0000"),
        safetensors({"w": tensor(shape=[-1])}, b"0000"),
        safetensors({"w": tensor(shape=[1] * 5000)}, b"0000"),
        safetensors({"w": tensor(dtype="F\x00")}, b"0000"),
        safetensors({"a": tensor(), "b": tensor()}, b"0000"),
        safetensors({"__metadata__": {"k": 1}, "w": tensor()}, b"0000"),
        safetensors({"\u202ename" * 100: tensor()}, b"0000"),
        safetensors(
            b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
            b'"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            b"0000",
        ),
    ],
    "m.gguf": [
        b"GGUF",
        gguf(0),
        gguf(99),
        gguf(3, BIG, BIG),
        gguf(3, 0, 1 << 40),
        gguf(3, 1 << 40, 0),
        gguf(3, 0, 1, struct.pack("<Q", BIG)),
        gguf(3, 0, 1, struct.pack("<Q", 1) + b"k" + struct.pack("<I", 77)),
        gguf(
            3,
            0,
            1,
            struct.pack("<Q", 1)
            + b"k"
            + struct.pack("<IIQ", 9, 9, 1)
            + struct.pack("<IQ", 9, 1) * 1000,
        ),
        gguf(3, 1, 0, struct.pack("<Q", 1) + b"t" + struct.pack("<I", 0xFFFFFFFF)),
        gguf(3, 1, 0, struct.pack("<Q", 1) + b"t" + struct.pack("<IQQIQ", 2, BIG, BIG, 0, BIG)),
    ],
    "m.onnx": [
        b"",
        b"\xff" * 1000,
        b"\x0a" + b"\xff" * 9 + b"\x01",
        b"\x3a\xff\xff\xff\xff\x0f",
        b"\x08\x08" + b"\x3a\x02" * 1000,
        b"\x3b" * 10_000,
        b"".join([b"\x3a\x7f" + b"\x0a\x7d" * 60]),
    ],
    "m.npy": [
        b"\x93NUMPY",
        npy(b""),
        npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n"),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}\n"),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}\n"),
        npy(b"{" * 60_000),
        npy(b"__import__('os').system('true')"),
        npy(b"x", 9),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
    ],
    "m.pkl": [
        b"",
        b"\x80",
        b"\x80\xff.",
        b".",
        b"0" * 100,
        b"(" * 100_000,
        b"cos\nsystem\n(S'x'\ntR.",
        b"\x80\x04\x95" + b"\xff" * 8 + b".",
        b"\x8a\xff" + b"\xff" * 10,
        b"B\xff\xff\xff\xff",
        b"\x8e" + b"\xff" * 8,
        b"I" + b"9" * 100_000 + b"\n.",
        pickle.dumps(Evil()),
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",
        b"q\xff" * 1000 + b".",
        b"\x80\x02]q\x00(h\x00h\x00h\x00e." + b"]" * 1000,
        b"i__builtin__\neval\n.",
        b"\x80\x04c" + b"a" * 100_000,
        b"\x82\x01.",
        b"Pid\n.",
        b"}" + b"2" * 100_000 + b".",
    ],
    "m.pt": [
        b"PK\x05\x06" + b"\0" * 18,
        b"PK\x03\x04",
        zip_of(("a/data.pkl", pickle.dumps(Evil()))),
        zip_of(("../x", b"1"), ("/etc/passwd", b"2")),
        zip_of(("a/data.pkl", b"\x80")),
        zip_of(("a/data.pkl", b"\0" * 50_000_000)),
        zip_of(("a", b"1"), ("a", b"2")),
        zip_of(*[(f"{i}", b"") for i in range(20_000)]),
        zip_of(("a", zip_of(("b", zip_of(("c", b"d")))))),
        zip_of(("a/data.pkl", b"."))[:-10],
        zip_of(("a" * 60_000, b".")),
    ],
    "m.npz": [
        zip_of(("a.npy", npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n"))),
        zip_of(("a.npy", b"x")),
        b"PK",
    ],
    "model.yaml": [
        b"a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\nd: [*c,*c,*c]\n" * 1,
        b"&a [*a]",
        b"a: !!python/object/apply:os.system [true]",
        b"\xff",
        b"x: " + b"[" * 100_000,
        b"{" * 100_000,
        b"- " * 100_000,
        b"format: [\n",
        b"? " * 1000,
    ],
    "README.md": [
        b"---\n" + b"a: &a [*a]\n" + b"---\n",
        b"\xff\xfe" * 1000,
        b"---\n" * 10_000,
        b"---\nlicense: !!python/name:os.system\n---\n",
        b"\x1b[31m\xe2\x80\xae",
    ],
    "config.json": [b"{" * 100_000, b"\xff", b'{"architectures": [1]}', b"1" * 100_000],
}
UNSAFE = {("m.pkl", 6), ("m.pkl", 12), ("m.pkl", 13), ("m.pkl", 16), ("m.pt", 2)}


@pytest.mark.parametrize("name", FILES)
def test_hostile_files(repo, name):
    for i, data in enumerate(FILES[name]):
        repo.push(data)
        doc = oci.manifest(layers=[layer(data, name)], annotations={"case": f"{name} {i}"})
        repo.put_manifest(f"case-{i}", doc)
        version = kept(repo, f"case-{i}")
        assert version["digest"] == digest(doc), (name, i)
        if (name, i) in UNSAFE:
            assert version["safety"] == "unsafe", (name, i, version["metadata"])
        elif name in ("m.pkl", "m.pt"):
            assert version["safety"] in ("not_verified", "unsafe", "allowed", "no_code")
        files = version["metadata"]["files"]
        assert version["parameters"] is None or version["parameters"] >= 0, (name, i, files)
    assert len(repo.http.ok("GET", f"{repo.api}/versions")["items"]) == len(FILES[name])
    assert repo.http.get("/readyz").status_code == 200


def test_what_is_malformed_is_never_called_safe(repo):
    for i, (name, data) in enumerate(
        [
            ("m.pkl", b"\x80"),
            ("m.pkl", b"B\xff\xff\xff\xff"),
            ("m.pkl", b"\x82\x01."),
            ("m.pt", b"PK\x03\x04"),
            ("m.pt", zip_of(("a/data.pkl", b"\x80"))),
            ("m.npy", npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n")),
        ]
    ):
        repo.push(data)
        repo.put_manifest(
            f"case-{i}", oci.manifest(layers=[layer(data, name)], annotations={"case": str(i)})
        )
        version = kept(repo, f"case-{i}")
        assert version["safety"] in ("not_verified", "unsafe"), (name, data[:20], version)


# --- archives ---


def tar_with(*members, **kwargs):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **kwargs) as tar:
        for info, data in members:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name, kind=tarfile.REGTYPE, target="", **more):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    for key, value in more.items():
        setattr(info, key, value)
    return info


def broken_size():
    """A member whose size says more than there is."""
    data = bytearray(tar_with((member("a"), b"x" * 100)))
    data[124:136] = b"77777777777\0"
    data[148:156] = b"        "
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


ARCHIVES = {
    "parent": tar_with((member("../x"), b"x")),
    "absolute": tar_with((member("/etc/x"), b"x")),
    "inner parent": tar_with((member("a/../../x"), b"x")),
    "backslash": tar_with((member("..\\x"), b"x")),
    "symlink": tar_with((member("l", tarfile.SYMTYPE, "/etc"), b""), (member("l/x"), b"x")),
    "hard link": tar_with((member("l", tarfile.LNKTYPE, "/etc/passwd"), b"")),
    "device": tar_with((member("d", tarfile.CHRTYPE), b"")),
    "fifo": tar_with((member("f", tarfile.FIFOTYPE), b"")),
    "twice": tar_with((member("a"), b"1"), (member("a"), b"2")),
    "file and directory": tar_with((member("a"), b"1"), (member("a/b"), b"2")),
    "case": tar_with((member("a"), b"1"), (member("A"), b"2")),
    "long name": tar_with((member("x" * 100_000), b"1"), format=tarfile.GNU_FORMAT),
    "pax bomb": tar_with(
        (member("a", pax_headers={"comment": "x" * 2_000_000}), b"1"), format=tarfile.PAX_FORMAT
    ),
    "pax path": tar_with(
        (member("a", pax_headers={"path": "../../x"}), b"1"), format=tarfile.PAX_FORMAT
    ),
    "pax size": tar_with(
        (member("a", pax_headers={"size": "-1"}), b"1"), format=tarfile.PAX_FORMAT
    ),
    "short": tar_with((member("a"), b"x" * 5000))[:2000],
    "size": broken_size(),
    "many": tar_with(*[(member(f"{i}"), b"") for i in range(20_000)]),
    "garbage": os.urandom(5000),
    "nothing": b"",
    "zeros": b"\0" * 100_000,
    "inner tar": tar_with((member("a.tar"), tar_with((member("../x"), b"x")))),
    "pickle": tar_with((member("m.pkl"), pickle.dumps(Evil()))),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(repo, name):
    """An archive that is pushed as a layer: nobody unpacks it here; refused, or kept and marked."""
    data = ARCHIVES[name]
    repo.push(data)
    manifest = oci.manifest(layers=[descriptor(data, TAR)])
    reply = repo.http.put(
        f"{repo.base}/manifests/bad", data=manifest, headers={"Content-Type": MANIFEST}
    )
    assert reply.status_code in (201, 400), reply.text
    if reply.status_code == 400:
        assert code(reply) == "MANIFEST_INVALID"
        nothing_made(repo)
        return
    version = kept(repo)
    assert version["safety"] in ("not_verified", "unsafe", "no_code", "allowed"), version
    if name == "pickle":
        assert version["safety"] == "unsafe"
    if name in ("garbage", "short", "size", "parent", "absolute", "inner parent", "pax path"):
        assert version["safety"] == "not_verified", version["metadata"]
    for file in version["metadata"]["files"]:
        assert ".." not in file["path"].split("/") and not file["path"].startswith("/")


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.cncf.model.weight.v1.tar+gzip",
        "application/vnd.cncf.model.weight.v1.tar+zstd",
    ],
)
def test_compressed_archives(repo, media_type):
    import gzip

    data = gzip.compress(b"\0" * 30_000_000)
    repo.push(data)
    reply = repo.http.put(
        f"{repo.base}/manifests/bad",
        headers={"Content-Type": MANIFEST},
        data=oci.manifest(layers=[descriptor(data, media_type)]),
    )
    assert reply.status_code in (201, 400), reply.text
    if reply.status_code == 201:
        assert kept(repo)["safety"] == "not_verified"
