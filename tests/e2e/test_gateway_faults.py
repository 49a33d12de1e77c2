# SPDX-License-Identifier: Apache-2.0
"""What a caller of the gateway sees when something behind it, or the gateway itself, breaks."""
import json
import os
import signal
import socket
import threading
import time

import pytest

from support import gateway, process
from support.gateway import Client, Gateway, Load, free_port, route, table, variant
from support.oip import FakeOip

STABLE, CANDIDATE = "fraud--scorer--2", "fraud--scorer--3"

pytestmark = pytest.mark.skipif(not os.access(gateway.NGINX, os.X_OK), reason="needs nginx")


def quick(text):
    return text.replace("proxy_read_timeout 30s", "proxy_read_timeout 1s")


@pytest.fixture
def gw(tmp_path):
    with Gateway(tmp_path, change=quick) as running:
        yield running


@pytest.fixture
def backend():
    with FakeOip([STABLE, CANDIDATE]) as fake:
        yield fake


@pytest.fixture
def second():
    with FakeOip([STABLE, CANDIDATE]) as fake:
        yield fake


def whole(share, backends, generation=1, **more):
    endpoints = [b if isinstance(b, str) else b.address for b in backends]
    candidate = {k: more.pop(k) for k in ("lease", "on_lost_control", "error_limit") if k in more}
    return table(generation, route([
        variant("candidate", CANDIDATE, share, endpoints, **candidate),
        variant("stable", STABLE, 10000 - share, endpoints)], **more))


def counted(gw, name="stable", n=1):
    """The counters once n requests have ended."""
    return process.wait_until(
        lambda: (c := gw.stats()[name]) and sum(c["status"].values()) >= n and c, 5, "counted")


@pytest.mark.parametrize("how,field", [
    ("garbage", "upstream_errors"), ("html", "upstream_errors"), ("empty", "upstream_errors"),
    ("truncated", "upstream_errors"), ("reset", "upstream_errors"),
    (("as", "fraud--scorer--9"), "wrong_version"), ("nameless", "wrong_version"),
    (("as", "fraud--scorer--22"), "wrong_version"), (("as", 'x" y'), "wrong_version"),
])
def test_an_answer_that_must_not_be_given_is_502(gw, backend, how, field):
    backend.models[STABLE] = how
    gw.put(whole(0, [backend]))
    status, headers, document = gw.client().infer()
    assert status == 502 and document["error"]
    assert headers["X-Mlctl-Variant"] == "stable" and headers["X-Mlctl-Version"] == "2"
    one = counted(gw)
    assert one["status"]["5xx"] == one[field] == one["errors"] == one["requests"] == 1
    backend.models[STABLE] = "ok"
    assert gw.client().infer()[0] == 200


def test_a_model_that_is_not_loaded_is_502_not_404(gw, backend):
    del backend.models[STABLE]
    gw.put(whole(0, [backend]))
    status, _, document = gw.client().infer()
    assert status == 502 and "not loaded" in document["error"]
    assert counted(gw)["upstream_errors"] == 1


def test_a_model_that_one_endpoint_lacks_is_asked_of_the_other(gw, backend, second):
    del backend.models[STABLE]
    gw.put(whole(0, [backend, second]))
    client = gw.client()
    assert {client.infer()[0] for _ in range(10)} == {200}
    one = counted(gw, n=10)
    assert one["requests"] == one["status"]["2xx"] == 10 and one["errors"] == 0


@pytest.mark.parametrize("status", [400, 422, 429, 500, 503])
def test_refusals_of_the_server_pass(gw, backend, status):
    backend.models[STABLE] = ("refuse", status)
    gw.put(whole(0, [backend]))
    got, headers, document = gw.client().infer()
    assert (got, document) == (status, {"error": "refused"})
    assert headers["X-Mlctl-Version"] == "2"
    one = counted(gw)
    assert one["errors"] == (1 if status >= 500 else 0) and one["upstream_errors"] == 0
    assert len(backend.seen) == 1


def test_a_hung_server_is_504_in_time(gw, backend):
    backend.models[STABLE] = "hang"
    gw.put(whole(0, [backend]))
    begun = time.monotonic()
    status, _, document = gw.client().infer()
    assert status == 504 and "in time" in document["error"]
    assert time.monotonic() - begun < 5
    one = counted(gw)
    assert (one["timeouts"], one["upstream_errors"], one["errors"]) == (1, 0, 1)


def test_a_hung_endpoint_is_left_alone(gw, backend, second):
    backend.models[STABLE] = "hang"
    gw.put(whole(0, [backend, second]))
    client = gw.client()
    got = [client.infer()[0] for _ in range(30)]
    assert got.count(504) == 1 and got.count(200) == 29


def test_a_hung_endpoint_is_not_seen_where_requests_may_be_repeated(gw, backend, second):
    backend.models[STABLE] = "hang"
    gw.put(whole(0, [backend, second], repeat=True))
    client = gw.client()
    assert [client.infer()[0] for _ in range(6)] == [200] * 6


def test_a_killed_instance_is_not_seen_by_later_requests(gw, backend, second):
    gw.put(whole(0, [backend, second]))
    client = gw.client()
    assert [client.infer()[0] for _ in range(4)] == [200] * 4
    backend.kill()
    time.sleep(0.1)  # nginx sees its idle connections close
    assert [client.infer()[0] for _ in range(40)] == [200] * 40
    assert gw.stats()["stable"]["errors"] == 0
    backend.start()
    process.wait_until(lambda: client.infer()[0] == 200 and backend.seen[4:], 15,
                       "it is asked again once it is back")


def test_all_instances_down_is_502(gw):
    gw.put(whole(0, [f"127.0.0.1:{free_port()}"]))
    status, _, document = gw.client().infer()
    assert status == 502 and "reached" in document["error"]
    one = counted(gw)
    assert one["upstream_errors"] == one["errors"] == one["requests"] == 1


def test_retries_stay_within_the_variant(gw, backend):
    gone = f"127.0.0.1:{free_port()}"
    gw.put(table(1, route([variant("candidate", CANDIDATE, 10000, [gone]),
                           variant("stable", STABLE, 0, [backend.address])])))
    status, headers, _ = gw.client().infer()
    assert status == 502 and headers["X-Mlctl-Variant"] == "candidate"
    assert not backend.seen


def test_what_was_sent_is_not_sent_again(gw, backend, second):
    backend.models[STABLE] = second.models[STABLE] = "reset"
    gw.put(whole(0, [backend, second]))
    assert gw.client().infer()[0] == 502
    assert len(backend.seen) + len(second.seen) == 1


def test_what_may_be_repeated_goes_on_to_the_other(gw, backend, second):
    backend.models[STABLE] = "reset"
    gw.put(whole(0, [backend, second], repeat=True))
    client = gw.client()
    assert [client.infer()[0] for _ in range(10)] == [200] * 10
    one = counted(gw, n=10)
    assert one["requests"] == 10 and one["errors"] == 0


def test_a_connection_that_the_server_closed_is_replaced(gw):
    with FakeOip([STABLE], close_after=2) as fake:
        gw.put(whole(0, [fake]))
        client = gw.client()
        got = []
        for _ in range(20):
            got.append(client.infer()[0])
            time.sleep(0.02)  # the close arrives
        assert got == [200] * 20 and fake.connections == 10


def test_a_slow_candidate_does_not_slow_the_others(gw, backend):
    backend.models[CANDIDATE] = ("slow", 0.8)
    gw.put(whole(5000, [backend], key="random"))
    took = []
    client = gw.client()
    with Load(gw.port, threads=4):
        while len(took) < 20:
            begun = time.monotonic()
            if client.infer()[1]["X-Mlctl-Variant"] == "stable":
                took.append(time.monotonic() - begun)
    assert sorted(took)[10] < 0.4


def test_a_long_answer_that_turns_out_wrong_is_cut_off(gw, backend):
    gw.put(whole(0, [backend]))

    def late_and_wrong(self, model, body, _):
        answer = self._answer("fraud--scorer--9", body)
        answer["outputs"][0]["data"] = [1.5] * 400_000
        for key in ("model_name", "model_version"):
            answer[key] = answer.pop(key)
        self._send(200, answer)

    backend.server.RequestHandlerClass._wrong_late = late_and_wrong
    backend.models[STABLE] = "wrong-late"
    with pytest.raises((OSError, ValueError, gateway.http.client.HTTPException)):
        status, _, document = gw.client().infer()
        assert status == 200
        assert isinstance(document, bytes)
        json.loads(document)
    assert counted(gw)["wrong_version"] == 1


def test_a_caller_that_goes_away_is_no_error_of_the_model(gw, backend):
    backend.models[STABLE] = ("slow", 0.5)
    gw.put(whole(0, [backend]))
    with pytest.raises(TimeoutError):
        Client(gw.port, timeout=0.1).infer()
    one = counted(gw)
    assert one["errors"] == 0 and one["status"]["4xx"] == 1


# --- the gateway itself ---------------------------------------------------------------------------

def test_restart_goes_on_with_the_file(gw, backend):
    gw.put(whole(10000, [backend], generation=7, lease=True))
    gw.client().infer()
    boot = gw.stats()[""]["boot"]
    gw.stop()
    gw.start()
    assert gw.client().infer()[1]["X-Mlctl-Variant"] == "candidate"
    stats = gw.stats()
    assert stats[""]["generation"] == 7 and stats[""]["boot"] != boot
    assert 50_000 < gw.table()["leases"]["fraud"] <= 60_000  # one fresh lease
    assert gw.call("PUT", "/v1/table", whole(0, [backend], generation=6))[0] == 409


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff" * 100, b'{"schema":"other"}'])
def test_a_file_that_is_missing_or_broken_leaves_every_route_unknown(gw, backend, content):
    gw.put(whole(0, [backend]))
    gw.stop()
    gw.file.unlink()
    if content is not None:
        gw.file.write_bytes(content)
    gw.start()
    assert gw.client().infer()[0] == 503
    assert gw.call("GET", "/v1/table")[0] == 404
    gw.put(whole(0, [backend], generation=2))
    assert gw.client().infer()[0] == 200
    assert json.loads(gw.file.read_text())["generation"] == 2


def test_a_module_with_another_layout_restores_from_the_file(gw, backend):
    # what a restart into another size of the shared memory does: the zone is fresh
    gw.put(whole(10000, [backend], generation=3))
    gw.kill()
    process.wait_until(lambda: not up(gw.port), 15, "the old workers are gone")
    gw.start()
    assert gw.stats()[""]["generation"] == 3


def up(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def test_workers_end_with_a_master_that_was_killed(gw, backend):
    """Their table could not be changed any more."""
    gw.put(whole(0, [backend]))
    workers = gw.workers()
    gw.kill()
    process.wait_until(lambda: not any(alive(pid) for pid in workers), 5, "the workers end")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_killed_worker_loses_only_what_it_had(gw, backend):
    gw.put(whole(10000, [backend], generation=5))
    for pid in gw.workers():
        os.kill(pid, signal.SIGKILL)
    process.wait_until(lambda: len(gw.workers()) == 2, 10, "new workers")
    client = process.wait_until(lambda: attempt(gw), 10, "it answers")
    assert client[1]["X-Mlctl-Variant"] == "candidate"
    gw.put(whole(0, [backend], generation=6))  # the writers' lock is free


def attempt(gw):
    try:
        return gw.client().infer()
    except (OSError, gateway.http.client.HTTPException):
        return None


def test_nobody_renews_the_lease(gw, backend):
    """mlctld is gone in the middle of a canary."""
    gw.put(whole(10000, [backend], lease=True))
    gw.lease(1, 700)
    with Load(gw.port, threads=2) as load:
        begun = time.monotonic()
        while time.monotonic() - begun < 0.4:
            assert gw.client().infer()[1]["X-Mlctl-Variant"] == "candidate"
        time.sleep(0.6)
        assert gw.client().infer()[1]["X-Mlctl-Variant"] == "stable"
    assert load.failed == []


def test_error_limit_needs_nobody(gw, backend):
    backend.models[CANDIDATE] = ("as", "fraud--scorer--9")
    gw.put(whole(10000, [backend], error_limit=3))
    client = gw.client()
    assert [client.infer()[0] for _ in range(10)] == [502] * 4 + [200] * 6


def test_control_connections_that_say_nothing_stop_nobody(gw, backend):
    gw.put(whole(0, [backend]))
    idle = []
    for _ in range(200):
        one = socket.socket(socket.AF_UNIX)
        one.connect(str(gw.path))
        one.sendall(b"PUT /v1/table HTTP/1.1\r\nContent-Length: 100\r\n")
        idle.append(one)
    assert gw.client().infer()[0] == 200
    gw.put(whole(10000, [backend], generation=2))
    assert gw.client().infer()[1]["X-Mlctl-Variant"] == "candidate"
    for one in idle:
        one.close()


def test_a_file_that_cannot_be_written_is_said(gw, backend):
    gw.put(whole(0, [backend]))
    gw.file.unlink()
    gw.file.mkdir()
    (gw.file / "in the way").write_text("")
    status, answer = gw.call("PUT", "/v1/table", whole(10000, [backend], generation=2))
    assert status == 500 and answer["generation"] == 2 and "table.json" in answer["error"]
    assert gw.client().infer()[1]["X-Mlctl-Variant"] == "candidate"  # it is in force all the same
    (gw.file / "in the way").unlink()
    gw.file.rmdir()
    gw.put(whole(10000, [backend], generation=2))  # the same again writes it
    assert json.loads(gw.file.read_text())["generation"] == 2


def test_two_writers_at_once(gw, backend):
    accepted = []

    def write(offset):
        for n in range(25):
            generation = 2 * n + offset
            status, answer = gw.call("PUT", "/v1/table", whole(offset, [backend], generation))
            assert status in (200, 409), answer
            if status == 200:
                accepted.append(generation)

    writers = [threading.Thread(target=write, args=(offset,)) for offset in (1, 2)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert len(set(accepted)) == len(accepted)
    assert gw.table()["generation"] == max(accepted)
    assert json.loads(gw.file.read_text())["generation"] == max(accepted)
