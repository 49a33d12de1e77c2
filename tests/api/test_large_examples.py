# SPDX-License-Identifier: Apache-2.0
"""Examples files as large as they may be, and larger: memory stays bounded, refusals are clear."""
import hashlib
import json
import re

import pytest

from support import oci
from support.cli import invite
from support.judged import evaluation, metric

from .test_registry import Model

pytestmark = [pytest.mark.release, pytest.mark.serial, pytest.mark.timeout(900)]
GIB = 1 << 30
ROW = 256  # bytes
MEMORY_MAX = 512 << 20


def write(path, size, rows=None):
    """Unique ids, one of twenty answered wrongly; as many rows as fit, the last one padded."""
    head = b"id,label,prediction,slice:a,slice:b\n"
    note = b"a" * 118 + b"," + b"b" * (ROW - 18 - 119)
    with open(path, "wb") as f:
        f.write(head)
        n = (size - len(head)) // ROW if rows is None else rows
        for start in range(0, n, 50_000):
            f.write(b"".join(b"%012d,1,%d,%s\n" % (i, i % 20 != 0, note)
                             for i in range(start, min(n, start + 50_000))))
        if rows is None:
            f.write(b"\n" * (size - f.tell()))
    return n


def upload(http, model, path):
    with open(path, "rb") as f:
        name = "sha256:" + hashlib.file_digest(f, "sha256").hexdigest()
        f.seek(0)
        repo = oci.Repository(http, model)
        repo.finish(repo.start(), name, f)
    return name


def peak(server):
    with open(f"/proc/{server.pid}/status", encoding="ascii") as f:
        return int(re.search(r"^VmHWM:\s*(\d+)", f.read(), re.M).group(1)) * 1024


@pytest.fixture(scope="module")
def scene(own_server, tmp_path_factory):
    person = invite(own_server, tmp_path_factory.mktemp("large"), "large",
                    ["contributor@large", "evaluator@large"])
    person.http.timeout = 300
    model = Model(person.http, ns="large")
    model.version()
    return own_server, person.http, model


def submit(http, model, examples, n):
    right = n - len(range(0, n, 20))
    return http.post(f"{model.base}/versions/1/evaluations", params={"examples": examples},
                     data=json.dumps(evaluation(metric("accuracy", right / n, n))),
                     headers={"Content-Type": "application/json"})


def test_one_gibibyte(scene, tmp_path):
    server, http, model = scene
    n = write(tmp_path / "examples.csv", GIB)
    assert (tmp_path / "examples.csv").stat().st_size == GIB and n > 4_000_000
    before = peak(server)
    reply = submit(http, model, upload(http, model.name, tmp_path / "examples.csv"), n)
    assert reply.status_code == 201, reply.text
    assert peak(server) - before < MEMORY_MAX
    listed = http.ok("GET", f"{model.base}/versions/1/evaluations")["items"]
    assert len(listed) == 1


def test_one_byte_more(scene, tmp_path):
    server, http, model = scene
    n = write(tmp_path / "examples.csv", GIB + 1)
    name = upload(http, model.name, tmp_path / "examples.csv")
    before = peak(server)
    reply = submit(http, model, name, n)
    assert reply.status_code == 413 and str(GIB) in reply.json()["detail"], reply.text
    assert peak(server) - before < 64 << 20


def test_too_many_rows(scene, tmp_path):
    server, http, model = scene
    with open(tmp_path / "examples.csv", "wb") as f:
        f.write(b"id,label,prediction\n")
        for start in range(0, 5_000_001, 100_000):
            f.write(b"".join(b"%d,1,1\n" % i for i in range(start, start + 100_000)))
    name = upload(http, model.name, tmp_path / "examples.csv")
    reply = submit(http, model, name, 5_100_000)
    assert reply.status_code == 413 and "5000000" in reply.json()["detail"], reply.text
    assert peak(server) < 2 * MEMORY_MAX


def test_one_endless_cell(scene, tmp_path):
    server, http, model = scene
    with open(tmp_path / "examples.csv", "wb") as f:
        f.write(b'id,label,prediction\n1,"')
        for _ in range(256):
            f.write(b"x" * (1 << 20))
    name = upload(http, model.name, tmp_path / "examples.csv")
    before = peak(server)
    reply = submit(http, model, name, 1)
    assert reply.status_code == 413 and "line 2" in reply.json()["detail"], reply.text
    assert peak(server) - before < 64 << 20
