# SPDX-License-Identifier: Apache-2.0
"""Rollouts over a real nginx with our module, with inference servers that can be told to fail."""
import json
import time

import pytest

from support import judged
from support.cli import invite
from support.gateway import Client, Control, Gateway
from support.judged import fresh
from support.process import wait_until
from support.rollouts import GATEWAY, Case, Site, serving

from .test_promotions import people_of
from .test_registry import Model

NS = "roll"
FAST = {"strategy": "canary",
        "steps": [{"weight": "20%", "requests": 50, "for": "1s"},
                  {"weight": "50%", "requests": 50, "for": "1s"}, {"weight": "100%"}],
        "checks": [{"id": "errors", "type": "error-rate", "margin": "5%"}]}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def server(roots):
    with serving(roots, *GATEWAY) as one:
        yield one


@pytest.fixture(scope="module")
def people(server, tmp_path_factory):
    return people_of(server, tmp_path_factory.mktemp("rollers"), NS)


@pytest.fixture(scope="module")
def where(server, people, roots):
    one = Site(server, people, roots)
    yield one
    one.close()


@pytest.fixture
def site(where, people):
    """site(ROLLOUT): a model of this test's own."""
    return lambda rollout=None: Case(where, Model(people["pat"].http, ns=NS),
                                     rollout or {"strategy": "blue-green"})


def test_blue_green(site, people):
    one = site()
    assert one.infer()[0] == 503
    first, second = one.version(), one.version(2)
    promotion = one.to_live(first)
    status, headers, reply = one.infer()
    assert status == 200 and reply["model_name"] == one.route
    assert reply["model_version"] == str(first) and headers["X-Mlctl-Version"] == str(first)
    assert headers["X-Mlctl-Variant"] == "stable"
    with one.load() as load:
        other = one.to_live(second)
        time.sleep(0.5)
    assert load.done > 50 and load.failed == []
    assert one.infer()[2]["model_version"] == str(second)
    assert one.promotion(promotion)["state"] == "replaced"
    rollout = one.rollout(other)
    assert rollout["state"] == "completed" and rollout["from"]["version"] == first
    alias = one.model.http.ok("GET", f"{one.model.base}/aliases/{one.env}")
    assert alias["version"] == second
    drift = one.model.http.ok("GET", f"/api/v1/environments/{one.env}/drift")
    assert drift["ok"] is True, drift


def test_instances_by_name(server, people, roots, tmp_path):
    """Traffic goes to the address that was ready; a name that leads elsewhere is followed."""
    gateway = Gateway(tmp_path).start()
    traffic = f"{{driver: nginx, control: 'unix:{gateway.path}'}}"
    at = Site(server, people, roots, traffic=traffic)
    try:
        for instance in at.instances:
            instance.url = instance.url.replace("127.0.0.1", "LocalHost")
        at.apply()
        one = Case(at, Model(people["pat"].http, ns=NS), {"strategy": "blue-green"})
        one.to_live(one.version())
        listening = sorted(f"127.0.0.1:{i.port}" for i in at.instances)
        assert sorted(gateway.table()["routes"][0]["variants"][0]["endpoints"]) == listening
        client = Client(gateway.port)
        assert client.infer(route=one.route)[0] == 200
        before = gateway.table()["generation"]
        server.sql("update served set address = '127.0.0.9:9' where instance like '%LocalHost%'")
        wait_until(lambda: gateway.table()["generation"] > before, 30, "a new table")
        wait_until(lambda: sorted(server.sql("select address from served where instance like "
                                             "'%LocalHost%'").split()) == listening, 30, "found")
        wait_until(lambda: sorted(gateway.table()["routes"][0]["variants"][0]["endpoints"]) ==
                   listening and client.infer(route=one.route)[0] == 200, 30, "traffic goes there")
        client.close()
    finally:
        at.close()
        gateway.stop()


@pytest.mark.parametrize("url, says", [
    ("https://127.0.0.1:8081", "speaks plain HTTP"),
    ("http://127.0.0.1:8081/v3", "leave '/v3' out")])
def test_instances_that_a_gateway_cannot_ask(where, url, says):
    document = judged.environment(where.env, (
        f"policy: {where.env}\ntargets:\n  - name: eu\n    serving: {{driver: triton, instances: ["
        f"{{url: '{url}', repository: {{dir: /srv/models}}}}]}}\n    traffic: {where.traffic}\n"))
    assert says in json.dumps(judged.apply(where.admin, document, 400))


def test_rollback_is_one_call(site, people):
    one = site()
    first, second = one.version(), one.version(2)
    one.to_live(first)
    bad = one.to_live(second)
    with one.load() as load:
        back = people["olga"].http.post("/api/v1/rollbacks", json={
            "environment": one.env, "model": one.model.name, "reason": "tests"})
        assert back.status_code == 201, back.text
        one.wait(back.json()["id"], "live")
    assert load.failed == [] and one.infer()[2]["model_version"] == str(first)
    assert one.promotion(bad)["state"] == "rolled_back"


@pytest.mark.threads
def test_canary_goes_on_by_what_is_counted(site):
    one = site(FAST)
    one.to_live(one.version())
    second = one.version(2)
    with one.load() as load:
        promotion = one.promote(second)
        seen = set()

        def looks(r):
            seen.add((r["step"], r["weight"]))
            return r["state"] == "completed"
        rollout = one.wait_rollout(promotion, looks, 90)
    assert load.failed == []
    assert {(0, 2000), (1, 5000)} <= seen
    assert rollout["decision"]["checks"][0]["id"] == "errors"
    assert one.promotion(promotion)["state"] == "live"


@pytest.mark.threads
def test_harm_takes_it_back(site):
    one = site({**FAST, "steps": [{"weight": "50%", "requests": 5000, "for": "10m"},
                                  {"weight": "100%"}]})
    first, bad = one.version(), one.version(2)
    one.to_live(first)
    one.fail(bad, 0.5)
    with one.load():
        promotion = one.promote(bad)
        one.wait(promotion, "rolled_back", seconds=60)
        time.sleep(0.3)
    rollout = one.rollout(promotion)
    assert rollout["state"] == "rolled_back" and "errors" in rollout["outcome"]
    assert {one.infer(f"u{n}")[2]["model_version"] for n in range(50)} == {str(first)}
    explained = one.model.http.ok("GET", f"/api/v1/rollouts/{rollout['id']}/explain")
    assert explained["decision"]["decision"] == "harm"


def test_what_cannot_be_loaded_moves_nothing(site):
    one = site()
    first = one.version()
    one.to_live(first)
    broken = one.model.version(files={"model.onnx": b"broken", "model.yaml": b"format: onnx\n"})
    with one.load() as load:
        promotion = one.promote(broken["version"])
        failed = one.wait(promotion, "failed", seconds=90)
    assert load.failed == [] and one.infer()[2]["model_version"] == str(first)
    assert "Protobuf" in one.rollout(promotion)["outcome"], failed


def test_people_pause_resume_and_abort(site, people):
    one = site({**FAST, "steps": [{"weight": "30%", "requests": 10, "for": "1s"},
                                  {"weight": "100%"}]})
    first = one.version()
    one.to_live(first)
    with one.load():
        promotion = one.promote(one.version(3))
        rollout = one.wait_rollout(promotion, lambda r: r["state"] == "running")["id"]
        one.act(people["pat"], rollout, "pause", 403)
        paused = one.act(people["olga"], rollout, "pause")
        assert paused["paused"] is True
        time.sleep(3)
        assert one.rollout(promotion)["step"] == 0
        one.act(people["olga"], rollout, "advance", 409)
        one.act(people["olga"], rollout, "abort")
        one.wait(promotion, "rolled_back")
    assert {one.infer(f"u{n}")[2]["model_version"] for n in range(50)} == {str(first)}
    one.act(people["olga"], rollout, "resume", 409)


def test_down_little_by_little(site, people):
    """Weights go down in parts, users stay put meanwhile; harm or an abort end it at once."""
    one = site({**FAST, "steps": [{"weight": "50%", "requests": 100000, "for": "10m"},
                                  {"weight": "100%"}]})
    first, second = one.version(), one.version(2)
    one.to_live(first)
    olga = people["olga"]
    with one.load() as load:
        promotion = one.promote(second)
        one.wait_rollout(promotion, lambda r: r["weight"] == 5000 and r["in_force"])
        rollout = one.rollout(promotion)["id"]
        reply = olga.http.post(f"/api/v1/rollouts/{rollout}/abort", json={
            "reason": "slowly", "over_ms": 5000})
        assert reply.status_code == 200 and reply.json()["weight"] == 4500, reply.text
        one.act(olga, rollout, "resume", 409)
        one.act(olga, rollout, "pause", 409)
        one.act(olga, rollout, "advance", 409)
        olga.http.ok("POST", f"/api/v1/rollouts/{rollout}/abort", json={
            "reason": "the same again", "over_ms": 5000})
        again = olga.http.post(f"/api/v1/rollouts/{rollout}/abort", json={
            "reason": "again", "over_ms": 6000})
        assert again.status_code == 409 and "without a time" in again.text
        seen = set()
        one.wait_rollout(promotion, lambda r: seen.add(r["weight"]) or r["state"] == "rolled_back")
    assert load.failed == [] and 0 in seen and len(seen) >= 4 and max(seen) <= 4500
    ramp = [leaf["detail"]["weights"] for leaf in judged.log(one.site.server)
            if leaf["id"] == rollout and leaf["action"] == "rollout.ramp"]
    assert ramp[0] == {"before": 5000, "after": 4500}
    assert all(a["after"] == b["before"] > b["after"] for a, b in zip(ramp, ramp[1:]))
    (last,) = [leaf["detail"]["weights"] for leaf in judged.log(one.site.server)
               if leaf["id"] == rollout and leaf["action"] == "rollout.abort"]
    assert last == {"before": ramp[-1]["after"], "after": 0}

    with one.load():
        promotion = one.promote(one.version(3))
        one.wait_rollout(promotion, lambda r: r["weight"] == 5000 and r["in_force"])
        rollout = one.rollout(promotion)["id"]
        olga.http.ok("POST", f"/api/v1/rollouts/{rollout}/abort", json={
            "reason": "slowly", "over_ms": 600000})
        one.act(olga, rollout, "abort")
        one.wait(promotion, "rolled_back")


def test_down_little_by_little_without_a_gateway(server, people, roots, tmp_path):
    """Nobody waits for a gateway that is away. Instances that come and go cost no memory."""
    gateway = Gateway(tmp_path).start()
    at = Site(server, people, roots, traffic=f"{{driver: nginx, control: 'unix:{gateway.path}'}}")
    try:
        one = Case(at, Model(people["pat"].http, ns=NS), {
            **FAST, "steps": [{"weight": "50%", "requests": 100000, "for": "10m"},
                              {"weight": "100%"}]})
        first = one.version()
        one.to_live(first)
        promotion = one.promote(one.version(2))
        rollout = one.wait_rollout(promotion, lambda r: r["weight"] == 5000 and r["in_force"])["id"]
        for _ in range(3):
            before = gateway.table()["generation"]
            server.sql("update served set address = '127.0.0.9:9' where environment = "
                       f"'{at.env}' and state = 'ready'")
            wait_until(lambda n=before: gateway.table()["generation"] > n, 30, "a new table")
        (epochs,) = json.loads(server.sql(
            f"select seen::json -> 'weights' from rollout where id = '{rollout}'")).values()
        assert len(epochs) == 1
        gateway.stop()
        people["olga"].http.ok("POST", f"/api/v1/rollouts/{rollout}/abort", json={
            "reason": "slowly", "over_ms": 3000})
        one.wait_rollout(promotion, lambda r: r["state"] == "aborting" and r["weight"] == 0)
        gateway.start()
        one.wait(promotion, "rolled_back")
        client = Client(gateway.port)
        assert client.infer(route=one.route)[2]["model_version"] == str(first)
        client.close()
    finally:
        at.close()
        gateway.stop()


def test_harm_on_the_way_down(site, people):
    """It goes to 0 at once, also where harm would pause."""
    one = site({**FAST, "on_harm": "pause", "steps": [
        {"weight": "50%", "requests": 100000, "for": "10m"}, {"weight": "100%"}]})
    first, second = one.version(), one.version(2)
    one.to_live(first)
    with one.load():
        promotion = one.promote(second)
        rollout = one.wait_rollout(promotion, lambda r: r["in_force"])["id"]
        people["olga"].http.ok("POST", f"/api/v1/rollouts/{rollout}/abort", json={
            "reason": "slowly", "over_ms": 3600000})
        for instance in one.instances:
            instance.errors = {one.name(second): 0.5}
        one.wait(promotion, "rolled_back")
    assert "took it back" not in one.rollout(promotion)["outcome"]


def test_the_line_is_stopped(site, people):
    one = site()
    first, second = one.version(), one.version(2)
    one.to_live(first)
    body = {"environment": one.env, "stopped": True, "reason": "holidays"}
    assert people["olga"].http.post("/api/v1/line", json=body).status_code == 403
    assert one.admin.post("/api/v1/line", json=body).status_code == 403
    home = people["olga"].home.parent / "chief"
    chief = invite(one.site.server, home, fresh("chief"), ["operator"])
    (line,) = chief.http.ok("POST", "/api/v1/line", json=body)["items"]
    assert line["stopped"] is True and line["reason"] == "holidays"
    promotion = one.promote(second)
    one.wait(promotion, "scheduled")
    time.sleep(1)
    chief.http.ok("POST", "/api/v1/line", json={**body, "stopped": False})
    one.wait(promotion, "live")


def test_a_plan_before_anything_moves(site):
    one = site(FAST)
    first = one.version()
    body = {"model": one.model.name, "version": str(first), "environment": one.env}
    plan = one.model.http.ok("POST", "/api/v1/rollout-plans", json=body)
    assert plan["plan"]["first"] is True and plan["routes"] == []
    one.to_live(first)
    second = one.version(2)
    with one.load():
        plan = one.model.http.ok("POST", "/api/v1/rollout-plans",
                                 json={**body, "version": str(second)})
    assert [s["weight"] for s in plan["plan"]["steps"]] == [2000, 5000, 10000]
    (route,) = plan["routes"]
    assert float(route["rate"]) > 10 and len(route["expected"]) == 3
    assert route["expected"][0]["expected_ms"] >= 1000
    assert one.model.http.post("/api/v1/rollout-plans",
                               json={**body, "environment": "none"}).status_code == 404
    assert one.model.http.post("/api/v1/rollout-plans",
                               json={**body, "model": "none/none"}).status_code == 404


def test_a_step_that_waits_for_a_person(site, people):
    one = site({"strategy": "canary", "steps": [
        {"weight": "30%", "requests": 10, "for": "1s", "wait": "person"}, {"weight": "100%"}]})
    first, second = one.version(), one.version(2)
    one.to_live(first)
    with one.load() as load:
        promotion = one.promote(second)
        waits = one.wait_rollout(
            promotion, lambda r: (r["decision"] or {}).get("decision") == "wait")
        assert waits["step"] == 0 and waits["weight"] == 3000
        one.act(people["olga"], waits["id"], "retry", 409)
        one.act(people["olga"], waits["id"], "pause")
        one.act(people["olga"], waits["id"], "resume")
        one.act(people["olga"], waits["id"], "advance")
        one.wait(promotion, "live")
    assert load.failed == []
    listed = one.model.http.ok("GET", "/api/v1/rollouts", params={"model": one.model.name})
    assert [r["state"] for r in listed["items"]] == ["completed", "completed"]
    page = one.model.http.ok("GET", "/api/v1/rollouts",
                             params={"model": one.model.name, "limit": 1})
    rest = one.model.http.ok("GET", "/api/v1/rollouts", params={
        "model": one.model.name, "limit": 1, "cursor": page["next"], "active": "false"})
    assert page["items"] + rest["items"] == listed["items"]


def test_a_load_is_tried_again(site, people):
    one = site()
    second = one.version(2)
    for instance in one.instances:
        instance.fault(r"POST .*/load", status=503, body={"error": "busy"})
    promotion = one.promote(second)
    try:
        preparing = one.wait_rollout(promotion, lambda r: "busy" in (r["hold"] or ""))
        assert preparing["state"] == "preparing"
    finally:
        for instance in one.instances:
            instance.honest()
    one.act(people["olga"], preparing["id"], "retry")
    one.wait(promotion, "live")


def test_events(site):
    one = site()
    first, second = one.version(), one.version(2)
    one.to_live(first)
    promotion = one.promote(second)
    states, current = [], None
    with one.model.http.get("/api/v1/events", stream=True, timeout=30) as events:
        assert events.headers["Content-Type"] == "text/event-stream"
        for line in events.iter_lines(chunk_size=1, decode_unicode=True):
            if line.startswith("event: "):
                current = line[7:]
            if line.startswith("data: ") and current == "rollout":
                rollout = json.loads(line[6:])
                if rollout["promotion"] == promotion:
                    states.append(rollout["state"])
            if states and states[-1] == "completed":
                break
    assert states[-1] == "completed"


def test_a_mirror_is_asked_what_stable_is_asked(site):
    one = site({"strategy": "canary",
                "steps": [{"mirror": "100%", "requests": 60, "for": "1s"}, {"weight": "100%"}],
                "checks": [{"id": "agree", "type": "shadow-agreement", "at_least": "90%"}]})
    one.to_live(one.version())
    with one.load() as load:
        promotion = one.promote(one.version())
        done = one.wait_rollout(promotion, lambda r: r["state"] == "completed", 90)
    assert load.failed == [] and done["strategy"] == "canary"
    explained = one.model.http.ok("GET", f"/api/v1/rollouts/{done['id']}/explain")
    assert explained["decision"]["decision"] == "advance"


@pytest.mark.threads
def test_a_mirror_that_disagrees_is_taken_back(site):
    one = site({"strategy": "canary",
                "steps": [{"mirror": "100%", "requests": 5000, "for": "10m"}, {"weight": "100%"}],
                "checks": [{"id": "agree", "type": "shadow-agreement", "at_least": "90%"}]})
    first = one.version()
    one.to_live(first)
    with one.load() as load:
        promotion = one.promote(one.version(7))
        one.wait(promotion, "rolled_back", seconds=90)
    assert load.failed == [] and set(load.versions) == {str(first)}
    assert "agree" in one.rollout(promotion)["outcome"]


def test_closed_windows_hold_a_step(where, site):
    one = site({**FAST, "steps": [{"weight": "30%", "requests": 20, "for": "1s"},
                                  {"weight": "100%"}]})
    first, second = one.version(), one.version(2)
    one.to_live(first)
    with one.load() as load:
        promotion = one.promote(second)
        one.wait_rollout(promotion, lambda r: r["state"] == "running")
        where.apply("windows: {deny: [{from: 2020-01-01, to: 2100-01-01}]}\n")
        try:
            held = one.wait_rollout(promotion, lambda r: r["hold"] == "its windows are closed")
            assert held["weight"] == 3000
        finally:
            where.apply()
        one.wait(promotion, "live")
    assert load.failed == []


# --- requests against what the model declares -------------------------------------------------

DECLARED = "inputs: [{name: x, datatype: FP64, shape: [-1, -1], range: [0, 100]}]\n"
WIDER = "inputs: [{name: x, datatype: FP64, shape: [-1, -1], range: [0, 1000]}]\n"


def ask(one, *data):
    client = one.client()
    try:
        status, headers, reply = client.infer(route=one.route, user="u", data=data)
        return status, headers.get("X-Mlctl-Version"), reply
    finally:
        client.close()


def control_of(one):
    return Control(one.site.server.directory / "gateway" / "control.sock")


def in_table(one):
    (entry,) = [r for r in control_of(one).table()["routes"] if r["route"] == one.route]
    return entry["validate"]


def preview(one, version):
    body = {"model": one.model.name, "version": str(version), "environment": one.env}
    return one.model.http.ok("POST", "/api/v1/rollout-plans", json=body)["validation"]


def test_requests_that_do_not_fit_are_refused(site):
    one = site()
    first, wider, silent = one.version(1, DECLARED), one.version(2, WIDER), one.version(3)
    assert preview(one, first) == []
    one.apply({"strategy": "blue-green"}, ", validate: reject")
    (told,) = preview(one, first)
    assert told["mode"] == "reject" and told["inputs"] == 1
    assert told["text"] == ("requests are checked against the inputs that version 1 declares")
    one.to_live(first)
    assert in_table(one) == {"mode": "reject", "inputs": [
        {"name": "x", "datatype": "FP64", "shape": [-1, -1], "range": [0, 100]}]}
    assert ask(one, 1.5)[:2] == (200, str(first))
    status, version, reply = ask(one, 500.0)
    assert (status, version) == (400, str(first))
    assert reply["error"] == 'input "x": a value is out of its range'
    assert "version 2 declares others" in preview(one, wider)[0]["text"]
    assert "version 3 declares no inputs in model.yaml" in preview(one, silent)[0]["text"]

    one.apply(FAST | {"steps": [{"weight": "50%", "requests": 20, "for": "1s", "wait": "person"},
                                {"weight": "100%"}]}, ", validate: reject")
    promotion = one.promote(wider)
    rollout = one.wait_rollout(promotion, lambda r: r["in_force"])
    assert rollout["splits"][0]["validation"] == {"mode": "reject", "inputs": 1}
    assert in_table(one)["inputs"][0]["range"] == [0, 100]  # stable's, whoever answers
    assert {ask(one, 500.0)[0] for _ in range(3)} == {400}
    shown = one.wait_rollout(promotion, lambda r: sum(r["invalid"].values()) == 3)
    assert shown["decision"] is None or shown["decision"]["decision"] != "harm"
    chief = one.site.people["olga"]
    with one.load():
        one.wait_rollout(promotion, lambda r: "operator" in (r["hold"] or ""))
        one.act(chief, rollout["id"], "advance")
        one.wait(promotion, "live")
    assert ask(one, 500.0)[:2] == (200, str(wider))

    one.apply({"strategy": "blue-green"}, ", validate: reject")
    one.to_live(silent)
    assert in_table(one) is None and ask(one, 5000.0)[:2] == (200, str(silent))


def test_requests_that_do_not_fit_are_counted(site):
    one = site()
    one.to_live(one.version(1, DECLARED))
    assert ask(one, 500.0)[0] == 200 and in_table(one) is None
    one.apply({"strategy": "blue-green"}, ", validate: flag")  # of what is live, at once
    wait_until(lambda: in_table(one), 10, "the gateway checks requests")
    assert ask(one, 500.0)[0] == 200
    wait_until(lambda: control_of(one).stats(one.route)["stable"]["invalid"] == 1, 5,
               "it is counted")
    one.apply({"strategy": "blue-green"}, ", validate: 'off'")
    wait_until(lambda: in_table(one) is None, 10, "the gateway lets them pass")


def test_inputs_that_nobody_can_check_are_told(site):
    one = site()
    odd = one.version(1, "inputs: [{name: x, datatype: float, shape: [-1]}]\n")
    one.apply({"strategy": "blue-green"}, ", validate: reject")
    (told,) = preview(one, odd)
    assert told["inputs"] == 0 and "requests are not checked" in told["text"]
    assert "FP32 at /inputs/0/datatype" in told["text"]
    one.to_live(odd)
    assert ask(one, 5.0)[0] == 200
    unknown = one.document({"strategy": "blue-green"}, ", validate: maybe")
    refused = judged.apply(one.admin, unknown, 400)
    assert "line 4, column" in refused["detail"] and "off, flag, reject" in refused["detail"]
