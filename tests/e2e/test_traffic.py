# SPDX-License-Identifier: Apache-2.0
"""One suite over all traffic drivers, each with the real proxy: splits, counters, generations."""
import functools
import json
import os
import subprocess

import pytest

from support import gateway, haproxy, process
from support.gateway import Gateway, route, table, variant
from support.haproxy import Haproxy
from support.oip import FakeOip
from support.server import build_directory

STABLE, CANDIDATE = "fraud--scorer--2", "fraud--scorer--3"
NEEDS = {"nginx": gateway.NGINX, "haproxy": haproxy.HAPROXY}
USERS = [f"user-{n}" for n in range(600)]


def drive(driver, control, what, body=None):
    done = subprocess.run([build_directory() / "tests" / "traffic_drive", driver, control, what],
                          input=json.dumps(body).encode() if body else b"", capture_output=True,
                          timeout=30, check=False)
    assert done.stderr == b"", done.stderr.decode()
    return json.loads(done.stdout)


class Proxy:
    """A proxy with its driver."""

    def __init__(self, driver, process_, backends):
        self.driver, self.process, self.backends = driver, process_, backends
        self.control = process_.control if driver == "haproxy" else f"unix:{process_.path}"
        self.generation = 0

    def ask(self, what, body=None):
        return drive(self.driver, self.control, what, body)

    def table(self, share, salt="r17", endpoints=None, **more):
        ends = [b.address for b in self.backends] if endpoints is None else endpoints
        variants = [] if share is None else [variant("candidate", CANDIDATE, share, ends)]
        return table(self.generation, route(
            [*variants, variant("stable", STABLE, 10000 - (share or 0), ends)], salt=salt, **more))

    def put(self, share, **more):
        self.generation += 1
        answer = self.ask("put", self.table(share, **more))
        assert "error" not in answer, answer
        assert self.ask("in_force")["generation"] == self.generation

    def variants(self, users):
        """Which variant each user gets; every answer is from the right version."""
        client, found = self.process.client(), []
        for user in users:
            status, headers, _ = client.infer(user=user)
            assert status == 200
            found.append(headers["X-Mlctl-Variant"])
            assert headers["X-Mlctl-Version"] == ("3" if found[-1] == "candidate" else "2")
        client.close()
        return found

    def counted(self):
        """{(variant, generation): bank} of the route, once every request has ended."""
        def ended():
            stats = self.ask("stats")["stats"]
            banks = [b for r in stats["routes"] if r["route"] == "fraud" for b in r["variants"]]
            assert stats["boot"] and stats["tripped"] == []
            return all(b["requests"] == sum(b["status"].values()) for b in banks) and {
                (b["variant"], b["generation"]): b for b in banks}
        return process.wait_until(ended, 5, "all requests have ended")


@functools.lru_cache(maxsize=None)
def bucket(user, salt="r17"):
    return int(drive(salt, user, "bucket"))


@pytest.fixture(scope="module")
def backends():
    with FakeOip([STABLE, CANDIDATE]) as one, FakeOip([STABLE, CANDIDATE]) as two:
        yield [one, two]


@pytest.fixture(scope="module", params=list(NEEDS))
def proxy(request, backends, tmp_path_factory):
    if not os.access(NEEDS[request.param], os.X_OK):
        pytest.skip(f"needs {request.param}")
    folder = tmp_path_factory.mktemp(request.param)
    made = (Gateway(folder) if request.param == "nginx"
            else Haproxy(folder, [b.address for b in backends]))
    with made:
        yield Proxy(request.param, made, backends)


@pytest.fixture(autouse=True)
def healthy(backends):
    for backend in backends:
        backend.models = {STABLE: "ok", CANDIDATE: "ok"}
        backend.seen.clear()


@pytest.mark.parametrize("share", [0, 1, 100, 1000, 5000, 9999, 10000])
def test_each_user_has_the_bucket_that_is_explained(proxy, share):
    proxy.put(share)
    want = ["candidate" if bucket(user) < share else "stable" for user in USERS[:150]]
    assert proxy.variants(USERS[:150]) == want
    if share in (0, 10000):
        assert set(want) == {"stable" if share == 0 else "candidate"}


def test_parts_of_10000(proxy):
    """A user whose bucket is just below the weight, and one whose bucket is the weight."""
    user = USERS[0]
    proxy.put(bucket(user) + 1)
    assert proxy.variants([user]) == ["candidate"]
    proxy.put(bucket(user))
    assert proxy.variants([user]) == ["stable"]


def test_ramps_are_monotone(proxy):
    had = set()
    for share in (100, 1000, 5000, 10000):
        proxy.put(share)
        now = {u for u, v in zip(USERS, proxy.variants(USERS)) if v == "candidate"}
        assert had <= now and abs(len(now) / len(USERS) - share / 10000) < 0.07
        had = now


def test_random(proxy):
    proxy.put(5000, key="random")
    seen = proxy.variants([USERS[0]] * 400)
    assert 120 < seen.count("candidate") < 280
    proxy.put(0, key="random")
    assert set(proxy.variants([USERS[0]] * 400)) == {"stable"}


def test_who_has_no_key_is_spread(proxy):
    proxy.put(5000)
    seen = proxy.variants([None] * 300)
    assert 90 < seen.count("candidate") < 210


def test_counted_by_generation(proxy):
    proxy.put(5000, salt="counted")
    first = proxy.generation
    seen = proxy.variants(USERS[:60])
    banks = proxy.counted()
    for name in ("candidate", "stable"):
        bank = banks[name, first]
        assert bank["requests"] == bank["status"]["2xx"] == seen.count(name)
        assert bank["errors"] == 0 and bank["version"] == (3 if name == "candidate" else 2)
    proxy.backends[0].models = proxy.backends[1].models = {STABLE: "ok", CANDIDATE: "error"}
    proxy.put(10000, salt="counted")
    client = proxy.process.client()
    assert {client.infer(user=u)[0] for u in USERS[:20]} <= {500, 502}
    client.close()
    banks = proxy.counted()
    assert banks["candidate", proxy.generation]["errors"] == 20
    assert banks["candidate", proxy.generation]["status"]["5xx"] == 20
    assert banks["candidate", first]["requests"] == seen.count("candidate")  # still to be read
    assert banks["stable", proxy.generation]["requests"] == 0


def test_what_does_not_change_counts_on(proxy):
    proxy.put(5000, salt="same")
    first = proxy.generation
    proxy.variants(USERS[:20])
    proxy.put(5000, salt="same")
    proxy.variants(USERS[:20])
    banks = proxy.counted()
    assert sum(banks[v, first]["requests"] for v in ("candidate", "stable")) == 40


def test_older_tables_are_refused(proxy):
    proxy.put(0)
    assert "error" not in proxy.ask("put", proxy.table(0))  # the same once more
    assert proxy.ask("put", proxy.table(5000))["error"] == "conflict"
    proxy.generation -= 1
    assert proxy.ask("put", proxy.table(10000))["error"] == "conflict"
    proxy.generation += 1
    assert set(proxy.variants(USERS[:50])) == {"stable"}


def test_one_version_alone_and_none(proxy):
    proxy.put(10000)
    proxy.put(None)
    assert set(proxy.variants(USERS[:20])) == {"stable"}
    proxy.generation += 1
    assert "error" not in proxy.ask("put", table(proxy.generation))
    client = proxy.process.client()
    assert client.infer(user="u")[0] in (404, 503)
    client.close()


def test_only_the_endpoints_of_the_table(proxy):
    one, two = proxy.backends
    proxy.put(5000, endpoints=[one.address])
    proxy.variants(USERS[:30])
    assert len(one.seen) >= 30 and [s for s in two.seen if "health" not in s[1]] == []
    proxy.put(5000)
    proxy.variants(USERS[:60])
    assert [s for s in two.seen if "health" not in s[1]]


def test_changes_under_load(proxy):
    proxy.put(0)
    with gateway.Load(proxy.process.port, threads=4, pause=0.001) as load:
        for n in range(60):
            proxy.put((n * 1000) % 11000)
    assert load.done > 100 and load.failed == []


def test_a_restart_keeps_the_table(proxy):
    proxy.put(10000)
    before = proxy.ask("stats")["stats"]["boot"]
    if proxy.driver == "haproxy":
        proxy.process.restart()
        # it splits as it was told, and says that it has to be told of its servers again
        assert set(proxy.variants(USERS[:20])) == {"candidate"}
        assert proxy.ask("in_force")["generation"] == 0
        assert "error" not in proxy.ask("put", proxy.table(10000))
    else:
        proxy.process.stop()
        proxy.process.start()
        assert set(proxy.variants(USERS[:20])) == {"candidate"}
    assert proxy.ask("in_force")["generation"] == proxy.generation
    assert proxy.ask("stats")["stats"]["boot"] != before


def test_not_there(proxy):
    other = proxy.control.replace(".sock", ".none")
    answer = drive(proxy.driver, other, "in_force")
    assert answer["error"] == "unreachable"


# --- what is HAProxy's alone ---


@pytest.fixture
def hap(proxy):
    if proxy.driver != "haproxy":
        pytest.skip("of haproxy")
    return proxy


def test_what_is_not_configured_is_said(hap):
    hap.put(0)
    hap.generation += 1
    answer = hap.ask("put", hap.table(10000, endpoints=["127.0.0.1:1"]))
    assert "no server 127.0.0.1:1" in answer["message"]
    other = table(hap.generation, route([variant("stable", STABLE, 10000, [])], name="other"))
    assert "no backend 'other.stable'" in hap.ask("put", other)["message"]
    three = hap.table(5000)
    three["routes"][0]["variants"].insert(0, variant("b", CANDIDATE, 0, []))
    assert hap.ask("put", three)["error"] == "not-supported"
    hap.generation -= 1
    assert set(hap.variants(USERS[:50])) == {"stable"}  # nothing of it is in force
    assert hap.ask("in_force")["generation"] == hap.generation


def test_another_key_is_refused_not_guessed(hap):
    hap.put(5000, key="header:X-Account")
    client = hap.process.client()
    status, _, answer = client.infer(user="u")
    client.close()
    assert status == 503 and "key" in answer["error"]
    hap.put(5000, key="header:x-user-id")
    hap.variants(USERS[:5])


def test_memory_and_file_are_the_same(hap):
    hap.put(1234)
    shown = {k: v for _, k, v in (line.split(" ", 2) for line in hap.process.ask(
        f"show map {hap.process.map}").strip().splitlines())}
    lines = hap.process.map.read_text(encoding="ascii").splitlines()
    assert lines[0].startswith("#")
    assert dict(line.split(" ", 1) for line in lines[1:]) == shown
    assert shown["fraud"].startswith("1234|r17|") and shown["/generation"] == str(hap.generation)


def test_other_paths(hap):
    hap.put(0)
    client = hap.process.client()
    for path in ("/", "/v2/models/fraud/versions/2/infer", "/v2/models//generation/infer",
                 "/v2/repository/index"):
        assert client.call("GET", path)[0] == 404, path
    for path in ("/v2/models/%2Fgeneration/infer", "/v2/models/none/infer"):
        assert client.call("GET", path)[0] == 503, path
    client.close()
