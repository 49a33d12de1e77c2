# SPDX-License-Identifier: Apache-2.0
"""The gateway's nginx module with the shipped snippet: what a client and the control socket see."""
import http.client
import json
import os
import socket
import struct
import subprocess
import time

import pytest

from support import gateway, process
from support.gateway import Client, Gateway, Load, infer_body, route, table, variant
from support.oip import FakeOip

STABLE, CANDIDATE = "fraud--scorer--2", "fraud--scorer--3"

pytestmark = pytest.mark.skipif(not os.access(gateway.NGINX, os.X_OK), reason="needs nginx")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with FakeOip() as backend, Gateway(tmp_path_factory.mktemp("gateway")) as running:
        running.generation = 0
        yield running, backend


@pytest.fixture
def gw(shared):
    running, backend = shared
    backend.models = {STABLE: "ok", CANDIDATE: "ok"}
    backend.seen.clear()
    return running


@pytest.fixture
def backend(shared):
    return shared[1]


def split(gw, share, backends, **more):
    """A table with the candidate at `share` of 10000; counters begin anew unless salt stays."""
    gw.generation += 1
    more.setdefault("salt", f"s{gw.generation}")
    endpoints = [b.address for b in backends]
    candidate = {k: more.pop(k) for k in ("lease", "on_lost_control", "error_limit") if k in more}
    gw.put(table(gw.generation, route([
        variant("candidate", CANDIDATE, share, endpoints, **candidate),
        variant("stable", STABLE, 10000 - share, endpoints)], **more)))
    return gw.generation


def settled(gw):
    """Counters once all requests have been counted to their end, a moment after the answer."""
    def all_ended():
        stats = gw.stats()
        return all(e["requests"] == sum(e["status"].values())
                   for e in (stats["candidate"], stats["stable"])) and stats
    return process.wait_until(all_ended, 5, "all requests have ended")


def test_answers_carry_route_version_and_variant(gw, backend):
    split(gw, 10000, [backend])
    status, headers, document = gw.client().infer(user="ada", data=(1, 2))
    assert status == 200
    assert document["model_name"] == "fraud" and document["model_version"] == "3"
    assert document["outputs"][0]["data"] == [3]
    assert headers["X-Mlctl-Variant"] == "candidate" and headers["X-Mlctl-Version"] == "3"
    assert len(headers["X-Request-Id"]) == 32
    assert backend.seen[-1][1] == f"/v2/models/{CANDIDATE}/infer"
    assert backend.seen[-1][2]["X-Request-Id"] == headers["X-Request-Id"]


def test_request_id_of_the_client_is_kept(gw, backend):
    split(gw, 0, [backend])
    client = gw.client()
    assert client.infer(X_Request_Id="abc-1")[1]["X-Request-Id"] == "abc-1"
    assert client.infer(X_Request_Id="a b\"c")[1]["X-Request-Id"] != "a b\"c"
    ids = {client.infer()[1]["X-Request-Id"] for _ in range(50)}
    assert len(ids) == 50


def test_metadata_and_ready(gw, backend):
    split(gw, 0, [backend])
    client = gw.client()
    status, headers, document = client.call("GET", "/v2/models/fraud")
    assert (status, document["name"], document["versions"]) == (200, "fraud", ["2"])
    assert headers["X-Mlctl-Version"] == "2"
    status, _, document = client.call("GET", "/v2/models/fraud/ready")
    assert (status, document) == (200, {"name": "fraud", "ready": True})
    backend.models[STABLE] = ("unready", None)
    status, _, document = client.call("GET", "/v2/models/fraud/ready")
    assert (status, document) == (400, {"name": "fraud", "ready": False})
    assert client.call("GET", "/v2/health/live")[0] == 200


@pytest.mark.parametrize("method,path,status", [
    ("POST", "/v2/models/fraud/versions/2/infer", 404),
    ("GET", "/v2/models/fraud/versions/2", 404),
    ("POST", "/v2/models/other/infer", 503),
    ("GET", "/v2/models/other", 503),
    ("GET", "/v2/models/fraud/infer", 405),
    ("POST", "/v2/models/fraud", 405),
    ("GET", "/elsewhere", 404),
])
def test_refusals_are_json(gw, backend, method, path, status):
    split(gw, 0, [backend])
    got, headers, document = gw.client().call(method, path, infer_body([1]))
    assert got == status
    assert headers.get_content_type() == "application/json" and document["error"]
    assert not backend.seen


def test_nothing_live_is_503(gw):
    gw.generation += 1
    gw.put(table(gw.generation, route([]), route([variant("stable", STABLE, 10000, [])],
                                                 name="bare")))
    for name in ("fraud", "bare"):
        status, _, document = gw.client().infer(route=name)
        assert status == 503 and "live" in document["error"]


@pytest.mark.parametrize("share", [0, 100, 1000, 5000, 10000])
def test_share_within_tolerance(gw, backend, share):
    split(gw, share, [backend], key="random")
    client, n = gw.client(), 1500
    for _ in range(n):
        assert client.infer()[0] == 200
    stats = settled(gw)
    got = stats["candidate"]["requests"]
    spread = 5 * (n * share / 10000 * (1 - share / 10000)) ** 0.5
    assert abs(got - n * share / 10000) <= spread
    assert got + stats["stable"]["requests"] == n
    for one in (stats["candidate"], stats["stable"]):
        assert one["status"]["2xx"] == one["requests"]
        assert sum(count for _, count in one["latency"]["buckets"]) == one["requests"]


def test_users_stay_and_ramps_only_gain(gw, backend):
    client, before = gw.client(), set()
    for share in (0, 100, 1000, 5000, 10000):
        split(gw, share, [backend], salt="r17")
        have = {user for user in range(400)
                if client.infer(user=f"u{user}")[1]["X-Mlctl-Variant"] == "candidate"}
        assert before <= have
        before = have
    assert len(before) == 400


@pytest.mark.parametrize("key,headers,other", [
    ("cookie:sid", {"Cookie": "a=1; sid=USER"}, {"Cookie": "sid2=USER"}),
    ("header:X-User-Id", {"x-user-id": "USER"}, {"X-User": "USER"}),
])
def test_keys_decide(gw, backend, key, headers, other):
    split(gw, 5000, [backend], key=key)
    client = gw.client()

    def variants(names):
        seen = []
        for user in range(30):
            filled = {k: v.replace("USER", f"u{user}") for k, v in names.items()}
            seen.append([client.call("POST", "/v2/models/fraud/infer", infer_body([1]), filled)
                         [1]["X-Mlctl-Variant"] for _ in range(3)])
        return seen

    assert all(len(set(three)) == 1 for three in variants(headers))
    assert len({three[0] for three in variants(headers)}) == 2
    assert any(len(set(three)) == 2 for three in variants(other))  # without the key: at random


def test_address_key_keeps_one_caller_together(gw, backend):
    split(gw, 5000, [backend], key="address")
    client = gw.client()
    assert len({client.infer(user=f"u{n}")[1]["X-Mlctl-Variant"] for n in range(40)}) == 1


@pytest.mark.parametrize("how", ["chunked", "late-name", ("big", 50_000), ("big", 900_000)])
def test_answers_of_any_form_are_rewritten(gw, backend, how):
    backend.models[STABLE] = how
    split(gw, 0, [backend])
    status, headers, document = gw.client().infer()
    assert status == 200
    assert (document["model_name"], document["model_version"]) == ("fraud", "2")
    assert "Content-Length" in headers


@pytest.mark.parametrize("size", [2_000_000, 12_000_000])
def test_long_answers_stream(gw, backend, size):
    backend.models[STABLE] = ("big", size)
    split(gw, 0, [backend])
    status, headers, document = gw.client().infer()
    assert status == 200 and headers["Transfer-Encoding"] == "chunked"
    assert document["model_name"] == "fraud" and document["model_version"] == "2"
    assert len(document["outputs"][0]["data"]) == size // 5


def test_tensors_after_the_json(gw, backend):
    backend.models[STABLE] = "binary"
    split(gw, 0, [backend])
    status, headers, data = gw.client().infer()
    length = int(headers["Inference-Header-Content-Length"])
    head = json.loads(data[:length])
    assert status == 200 and head["model_name"] == "fraud" and head["model_version"] == "2"
    assert struct.unpack("<2f", data[length:]) == (1.5, -2.5)


def test_large_requests_pass_and_too_large_ones_are_413(gw, backend):
    split(gw, 0, [backend])
    client = gw.client()
    status, _, document = client.infer(data=[0.25] * 500_000)  # above every buffer
    assert status == 200 and document["outputs"][0]["data"] == [125_000]
    status, _, document = gw.client().call("POST", "/v2/models/fraud/infer", b"x" * (17 << 20))
    assert status == 413


def test_http2_callers(tmp_path, backend):
    backend.models = {STABLE: "ok"}
    with Gateway(tmp_path, change=lambda text: text.replace(
            "; # with TLS: listen 8443 ssl http2; and", " http2; #")) as gw:
        gw.put(table(1, route([variant("stable", STABLE, 10000, [backend.address])])))
        done = subprocess.run(
            ["curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}",
             "-H", "X-User-Id: u", "-d", json.dumps(infer_body([1, 2])),
             f"http://127.0.0.1:{gw.port}/v2/models/fraud/infer"],
            capture_output=True, text=True, check=True).stdout
        body, _, codes = done.rpartition("}")
        assert codes == "2 200" and json.loads(body + "}")["model_name"] == "fraud"


# --- validation of requests ------------------------------------------------------------------

INPUTS = [{"name": "x", "datatype": "FP64", "shape": [-1, 2], "range": [0, 10]}]


@pytest.mark.parametrize("mode", ["reject", "flag"])
def test_requests_that_do_not_fit(gw, backend, mode):
    split(gw, 0, [backend], validate={"mode": mode, "inputs": INPUTS})
    client = gw.client()
    bad = [infer_body([1, 2, 3]), infer_body([1, 11]), infer_body([1, 2], name="y"),
           infer_body([1, 2], datatype="FP32"), b"nonsense", {"inputs": []}]
    assert client.infer(data=(1, 2))[0] == 200
    for body in bad:
        client = gw.client()
        status, headers, document = client.call("POST", "/v2/models/fraud/infer", body,
                                                {"X-User-Id": "u"})
        assert headers["X-Mlctl-Variant"] == "stable"
        if mode == "reject":
            assert status == 400 and document["error"]
        else:
            assert status == 200
    assert client.infer(data=[1.0] * 200_000)[0] == (400 if mode == "reject" else 200)
    one = settled(gw)["stable"]
    assert (one["requests"], one["invalid"]) == (len(bad) + 2, len(bad) + 1)
    assert len(backend.seen) == (1 if mode == "reject" else len(bad) + 2)
    assert one["errors"] == 0
    assert one["rejected"] == (len(bad) + 1 if mode == "reject" else 0)
    shown = [line for line in gw.call("GET", "/metrics")[1].splitlines()
             if line.startswith("mlctl_gateway_rejected_total{") and 'variant="stable"' in line
             and f'generation="{gw.generation}"' in line]
    assert [line.split()[1] for line in shown] == [str(one["rejected"])]


def held_back(gw, body, meanwhile):
    """The answer to a request whose last byte comes after `meanwhile`."""
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", gw.port), 10) as connection:
        before = gw.stats()["stable"]["requests"]
        connection.sendall(b"POST /v2/models/fraud/infer HTTP/1.1\r\nHost: x\r\nConnection: close"
                           b"\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data[:-1]))
        process.wait_until(lambda: gw.stats()["stable"]["requests"] == before + 1, 5, "a choice")
        meanwhile()
        connection.sendall(data[-1:])
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, json.loads(answer.read())


def test_a_body_that_comes_slowly_is_checked_all_the_same(gw, backend):
    def declare(name, mode="reject"):
        split(gw, 0, [backend], salt="s", validate={
            "mode": mode, "inputs": [{"name": name, "datatype": "FP64", "shape": [-1, 2]}]})
    declare("x")
    status, answer = held_back(gw, infer_body([1, 2, 3]), lambda: declare("x"))
    assert status == 400 and "x" in answer["error"] and backend.seen == []
    declare("x")
    assert held_back(gw, infer_body([1, 2]), lambda: declare("y"))[0] == 400
    assert held_back(gw, infer_body([1, 2]), lambda: declare("x"))[0] == 200
    assert held_back(gw, infer_body([1, 2, 3]), lambda: declare("x", "flag"))[0] == 200
    declare("x")

    def withdraw():
        gw.generation += 1
        gw.put({**table(gw.generation), "routes": []})
    assert held_back(gw, infer_body([1, 2, 3]), withdraw)[0] == 503
    assert len(backend.seen) == 2


# --- tap -----------------------------------------------------------------------------------------

def tap_socket(gw, mode=0o666):
    gw.tap.unlink(missing_ok=True)
    taker = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    taker.bind(str(gw.tap))
    os.chmod(gw.tap, mode)
    taker.settimeout(5)
    return taker


def record(data):
    names = ("magic layout flags generation time_us latency_us status bucket version request_total "
             "reply_total request_len reply_len route_len variant_len id_len zero").split()
    head = dict(zip(names, struct.unpack_from("<4sHHQQQIIIIIIIHHHH", data), strict=True))
    at = 68
    for name in ("route", "variant", "id", "request", "reply"):
        head[name] = data[at:at + head[name + "_len"]]
        at += head[name + "_len"]
    assert head["magic"] == b"MLCT" and head["layout"] == 1 and at == len(data)
    return head


def test_tap_copies_request_and_reply(gw, backend):
    with tap_socket(gw) as taker:
        generation = split(gw, 0, [backend], tap={"share": 10000})
        _, headers, document = gw.client().infer(user="ada", data=(1, 2))
        got = record(taker.recv(300_000))
        assert (got["route"], got["variant"], got["version"]) == (b"fraud", b"stable", 2)
        assert got["id"].decode() == headers["X-Request-Id"] and got["status"] == 200
        assert json.loads(got["request"]) == infer_body((1, 2))
        assert json.loads(got["reply"])["outputs"] == document["outputs"]
        assert got["generation"] == generation and got["flags"] == 0
        assert 0 < got["latency_us"] < 10_000_000
        assert abs(got["time_us"] / 1e6 - time.time()) < 60


def test_tap_cuts_long_bodies_and_says_so(gw, backend):
    backend.models[STABLE] = ("big", 300_000)
    with tap_socket(gw) as taker:
        split(gw, 0, [backend], tap={"share": 10000})
        gw.client().infer(data=[1.5] * 18_000)
        got = record(taker.recv(300_000))
        assert got["flags"] == 3 and got["request_len"] == got["reply_len"] == 65536
        assert got["request_total"] > 65536 and got["reply_total"] > 300_000
        gw.client().infer(data=[1.5] * 100_000)  # was never in memory
        assert record(taker.recv(300_000))["flags"] == 6


def test_tap_share(gw, backend):
    split(gw, 0, [backend], tap={"share": 1000})
    before = gw.stats()[""]["tap"]
    gw.tap.unlink(missing_ok=True)
    client = gw.client()
    for _ in range(1000):
        client.infer()
    after = gw.stats()[""]["tap"]
    dropped = after["dropped"] - before["dropped"]
    assert abs(dropped - 100) < 50 and after["sent"] == before["sent"]


def test_tap_absent_unreadable_full(gw, backend):
    split(gw, 0, [backend], tap={"share": 10000})
    client = gw.client()
    gw.tap.unlink(missing_ok=True)
    assert client.infer()[0] == 200  # absent
    gw.tap.write_text("")
    assert client.infer()[0] == 200  # no socket
    with tap_socket(gw):  # nobody takes: the queue is full after some
        begun = time.monotonic()
        before = gw.stats()[""]["tap"]
        for _ in range(700):
            assert client.infer()[0] == 200
        after = gw.stats()[""]["tap"]
        assert time.monotonic() - begun < 30
    assert after["dropped"] - before["dropped"] >= 100
    assert after["sent"] + after["dropped"] - before["sent"] - before["dropped"] == 700


# --- control --------------------------------------------------------------------------------------

def test_generations_only_rise(gw, backend):
    generation = split(gw, 100, [backend])
    text = json.dumps({k: v for k, v in gw.table().items() if k not in ("leases", "tripped")})
    assert gw.call("PUT", "/v1/table", text.encode()) == (200, {"generation": generation})
    changed = json.loads(text)
    changed["routes"][0]["salt"] = "other"
    status, answer = gw.call("PUT", "/v1/table", changed)
    assert (status, answer["generation"]) == (409, generation)
    changed["generation"] = generation - 1
    assert gw.call("PUT", "/v1/table", changed)[0] == 409
    assert json.loads(gw.file.read_text())["generation"] == generation
    assert gw.table()["routes"][0]["salt"] != "other"


@pytest.mark.parametrize("change,pointer", [
    (lambda t: t["routes"][0]["variants"][0].update(weight=1), "/routes/0/variants"),
    (lambda t: t["routes"][0]["variants"][0].update(weight=-1), "/routes/0/variants/0/weight"),
    (lambda t: t["routes"][0].update(key="header:"), "/routes/0/key"),
    (lambda t: t["routes"][0]["variants"][1].update(endpoints=["host:1"]),
     "/routes/0/variants/1/endpoints/0"),
    (lambda t: t["routes"].append(t["routes"][0]), "/routes/1/route"),
    (lambda t: t.update(more=1), "/more"),
])
def test_a_table_that_is_wrong_changes_nothing(gw, backend, change, pointer):
    generation = split(gw, 100, [backend])
    document = {k: v for k, v in gw.table().items() if k not in ("leases", "tripped")}
    document["generation"] += 1
    change(document)
    status, answer = gw.call("PUT", "/v1/table", document)
    assert (status, answer["pointer"]) == (422, pointer) and answer["error"]
    assert gw.table()["generation"] == generation


def test_control_refuses_what_it_does_not_know(gw):
    assert gw.call("GET", "/v1/else")[0] == 404
    assert gw.call("DELETE", "/v1/table")[0] == 405
    assert gw.call("PUT", "/v1/table", b"{")[0] == 422
    assert gw.call("PUT", "/v1/table", b"x" * (3 << 20))[0] == 413
    assert gw.call("POST", "/v1/lease", {"generation": 1, "ms": -1})[0] == 422


def test_metrics_text(gw, backend):
    from support import prometheus
    split(gw, 10000, [backend])
    gw.client().infer()
    status, text = gw.call("GET", "/metrics")
    assert status == 200
    assert 'mlctl_gateway_responses_total{route="fraud",variant="candidate"' in text
    prometheus.parse(text)


def test_lease_ends_and_comes_back(gw, backend):
    generation = split(gw, 10000, [backend], lease=True)
    client = gw.client()
    assert client.infer()[1]["X-Mlctl-Variant"] == "candidate"
    assert gw.table()["leases"]["fraud"] > 55_000
    assert gw.lease(generation - 1, 1000)[0] == 409
    assert gw.lease(generation, 300)[0] == 200
    time.sleep(0.35)
    assert client.infer()[1]["X-Mlctl-Variant"] == "stable"
    assert gw.table()["leases"]["fraud"] == 0
    assert gw.lease(generation, 60_000)[0] == 200
    assert client.infer()[1]["X-Mlctl-Variant"] == "candidate"


def test_a_candidate_on_hold_outlives_its_lease(gw, backend):
    generation = split(gw, 10000, [backend], lease=True, on_lost_control="hold")
    gw.lease(generation, 0)
    assert gw.client().infer()[1]["X-Mlctl-Variant"] == "candidate"


def test_error_limit_takes_the_candidate_to_0(gw, backend):
    backend.models[CANDIDATE] = "error"
    split(gw, 10000, [backend], error_limit=5)
    client = gw.client()
    got = [client.infer() for _ in range(20)]
    assert [one[0] for one in got] == [500] * 6 + [200] * 14
    assert got[-1][1]["X-Mlctl-Variant"] == "stable"
    assert gw.table()["tripped"] == [{"route": "fraud", "variant": "candidate"}]
    backend.models[CANDIDATE] = "ok"  # it stays so
    assert client.infer()[1]["X-Mlctl-Variant"] == "stable"
    gw.generation += 1  # and whatever happens to other routes
    document = {k: v for k, v in gw.table().items() if k not in ("leases", "tripped")}
    document["generation"] = gw.generation
    document["routes"].append(route([], name="other"))
    gw.put(document)
    assert client.infer()[1]["X-Mlctl-Variant"] == "stable"
    split(gw, 10000, [backend], error_limit=5)  # until the route itself changes
    assert client.infer(user="a")[1]["X-Mlctl-Variant"] == "candidate"


def test_counters_belong_to_a_split(gw, backend):
    first = split(gw, 0, [backend])
    client = gw.client()
    for _ in range(5):
        client.infer()
    gw.generation += 1  # nothing of the split changes: the bank goes on
    document = {k: v for k, v in gw.table().items() if k not in ("leases", "tripped")}
    document.update(generation=gw.generation)
    document["routes"][0]["tap"] = {"share": 1}
    gw.put(document)
    client.infer()
    one = gw.stats()["stable"]
    assert (one["generation"], one["requests"]) == (first, 6)
    second = split(gw, 1, [backend])
    entries = [e for r in gw.stats()[""]["routes"] for e in r["variants"]]
    assert [(e["generation"], e["variant"], e["requests"]) for e in entries] == [
        (second, "candidate", 0), (second, "stable", 0), (first, "candidate", 0),
        (first, "stable", 6)]


def test_a_request_counts_in_the_bank_of_its_choice(gw, backend):
    backend.models[STABLE] = ("slow", 0.5)
    first = split(gw, 0, [backend])
    with Load(gw.port, threads=1):
        process.wait_until(lambda: len(backend.seen) > 0, 5, "a request is under way")
        split(gw, 1, [backend])
        process.wait_until(lambda: len(backend.seen) > 1, 5, "it has ended")
    entries = [e for r in gw.stats()[""]["routes"] for e in r["variants"]
               if e["variant"] == "stable"]
    assert entries[1]["generation"] == first and entries[1]["status"]["2xx"] == 1


def test_connections_are_kept_whatever_the_table_does(gw, backend):
    split(gw, 5000, [backend])
    client = gw.client()
    for n in range(20):
        client.infer(user=f"u{n}")
    opened = backend.connections
    for n in range(40):
        split(gw, n * 100, [backend])
        assert client.infer(user=f"u{n}")[0] == 200
    assert backend.connections - opened <= len(gw.workers())


def test_200_changes_lose_nothing(gw, backend):
    split(gw, 0, [backend])

    def right(_, headers, document):
        wanted = {"candidate": "3", "stable": "2"}[headers["X-Mlctl-Variant"]]
        return None if document["model_version"] == wanted else f"{headers} {document}"

    with Load(gw.port, threads=16, check=right) as load:
        for n in range(200):
            split(gw, (n * 611) % 10001, [backend])
            time.sleep(0.005)
    assert load.failed == [] and load.done > 200
    assert gw.stats()[""]["late"] <= load.done


def test_reload_keeps_table_counters_and_boot(gw, backend):
    generation = split(gw, 10000, [backend])
    client = gw.client()
    client.infer()
    before = gw.stats()
    gw.reload()
    after = gw.stats()
    assert after[""]["generation"] == generation and after[""]["boot"] == before[""]["boot"]
    assert after["candidate"]["requests"] == 1
    assert Client(gw.port).infer()[1]["X-Mlctl-Variant"] == "candidate"


def test_configuration_test_has_no_side_effects(gw, backend):
    generation = split(gw, 10000, [backend])
    before, listed = gw.file.stat(), sorted(os.listdir(gw.directory / "run"))
    done = gw.run("-t")
    assert done.returncode == 0, done.stderr
    assert gw.file.stat() == before and sorted(os.listdir(gw.directory / "run")) == listed
    assert gw.table()["generation"] == generation
    assert gw.client().infer()[0] == 200


def test_keepalive_before_the_balancer_is_refused(tmp_path):
    gw = Gateway(tmp_path, change=lambda text: text.replace("    mlctl_gateway_balancer;", "")
                 .replace("keepalive 128;", "keepalive 128; mlctl_gateway_balancer;"))
    done = gw.run("-t")
    assert done.returncode != 0 and "before \"keepalive\"" in done.stderr


def test_500_routes_change_fast(gw, backend):
    routes = [route([variant(name, f"m{n}--x--{v}", weight, [backend.address], error_limit=50)
                     for v, (name, weight) in enumerate((("a", 100), ("b", 200),
                                                         ("stable", 9700)), 1)], name=f"r{n}")
              for n in range(500)]
    took = []
    for _ in range(5):
        gw.generation += 1
        text = json.dumps(table(gw.generation, *routes)).encode()
        begun = time.monotonic()
        assert gw.call("PUT", "/v1/table", text)[0] == 200
        took.append(time.monotonic() - begun)
    assert min(took) < 1, took  # the benchmark has the numbers; this build checks every access
    assert gw.client().infer(route="r77")[0] == 502  # the server does not have that model
