# SPDX-License-Identifier: Apache-2.0
"""What the release build holds in memory."""
import os
import re
import time

import pytest

from support import oci
from support.cli import invite

pytestmark = [pytest.mark.release, pytest.mark.serial]
MIB = 1 << 20
IDLE_MAX = 32 * MIB
TURNS = 150
GROWTH_MAX = 256 << 10  # in half of them: 300 bytes a request would show
SECONDS = int(os.environ.get("MLC_LOAD_SECONDS", "20"))


def resident(server):
    with open(f"/proc/{server.pid}/status", encoding="ascii") as f:
        return int(re.search(r"^VmRSS:\s*(\d+)", f.read(), re.M).group(1)) * 1024


def turn(server, person, repo, i):
    """A little of everything that clients do."""
    data = b"weights %d" % i
    manifest = oci.manifest(layers=[data])
    for blob in (b"{}", data):
        repo.push(blob)
    repo.put_manifest("candidate", manifest)
    http = person.http
    assert http.put("/api/v1/models/team/model/aliases/champion",
                    json={"version": i + 1},
                    headers={"If-Match": f'"{i}"'} if i else {}).status_code in (200, 201)
    for path in ("/api/v1/models", "/api/v1/models/team/model/versions?limit=5",
                 "/api/v1/models/team/model/versions/latest", "/openapi.json", "/log/checkpoint",
                 "/api/v1/models/team/model/aliases/champion/history?limit=5"):
        http.ok("GET", path)
    assert http.get("/api/v1/models/team/none").status_code == 404
    assert http.post("/api/v1/models/team/model/versions", json={"x": 1}).status_code == 400
    server.client(server.admin_token).ok("GET", "/metrics")


@pytest.mark.timeout(900)
def test_resident(make_server, tmp_path, capsys):
    server = make_server().start()
    time.sleep(1)
    at_start = resident(server)
    assert at_start <= IDLE_MAX
    person = invite(server, tmp_path / "home", "pat", ["contributor@team"])
    repo = oci.Repository(person.http, "team/model")
    for i in range(15):
        turn(server, person, repo, i)
    time.sleep(1)
    after = resident(server)
    assert after <= IDLE_MAX

    samples, until, i = [], time.monotonic() + SECONDS, 15
    while i < TURNS or time.monotonic() < until:
        turn(server, person, repo, i)
        i += 1
        if i % 10 == 0:
            samples.append((i, resident(server)))
        time.sleep(0.02)
    # the second half of the load: what caches and arenas took in the first is no leak
    (first, low), (last, high) = samples[len(samples) // 2], samples[-1]
    each = (high - low) / max(1, last - first)
    with capsys.disabled():
        print(f"\nresident: start {at_start / MIB:.1f}, after 200 requests {after / MIB:.1f}, "
              f"after {i} turns of 13 requests {high / MIB:.1f} MiB; {each:.0f} bytes a turn")
    assert high <= IDLE_MAX
    assert high - low <= GROWTH_MAX * (last - first) / (TURNS / 2)
    server.stop()
