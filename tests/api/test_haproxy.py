# SPDX-License-Identifier: Apache-2.0
"""A canary from begin to end through an HAProxy that only has the shipped configuration."""
import os
import tempfile
import time

import pytest

from support import haproxy
from support.haproxy import Haproxy
from support.judged import apply, environment, fresh
from support.rollouts import Case, Site, SiteLoad, serving

from .test_promotions import people_of
from .test_registry import Model

pytestmark = pytest.mark.skipif(not os.access(haproxy.HAPROXY, os.X_OK), reason="needs haproxy")
CANARY = {"strategy": "canary",
          "steps": [{"weight": "20%", "requests": 50, "for": "1s"},
                    {"weight": "50%", "requests": 200, "for": "1s"}, {"weight": "100%"}],
          "checks": [{"id": "errors", "type": "error-rate", "margin": "5%"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("serving")) as one:
        yield one


@pytest.fixture(scope="module")
def people(server, tmp_path_factory):
    return people_of(server, tmp_path_factory.mktemp("people"), "proxied")


@pytest.fixture
def case(server, people):
    with tempfile.TemporaryDirectory() as folder:  # short enough for a socket
        site = Site(server, people, server.roots, traffic=(
            f"{{driver: haproxy, control: 'unix:{folder}/admin.sock', map: {folder}/mlctl.map}}"))
        one = Case(site, Model(people["pat"].http, ns="proxied"), CANARY)
        servers = [i.url.removeprefix("http://") for i in site.instances]
        with Haproxy(folder, servers, route=one.route) as one.proxy:
            one.first = one.version()
            one.to_live(one.first)
            yield one
        site.close()


def load(case):
    return SiteLoad(case.proxy.port, threads=4, pause=0.002, route=case.route)


def versions(case):
    client = case.proxy.client()
    try:
        return {client.infer(route=case.route, user=f"u{n}")[1]["X-Mlctl-Version"]
                for n in range(50)}
    finally:
        client.close()


def test_a_canary_and_a_rollback(case, people):
    second = case.version(2)
    with load(case) as running:
        promotion = case.promote(second)
        seen = set()

        def looks(r):
            seen.add((r["step"], r["weight"]))
            return r["state"] == "completed"
        case.wait_rollout(promotion, looks, 90)
        assert running.versions[str(case.first)] > 0 and running.versions[str(second)] > 0
    assert running.failed == [] and {(0, 2000), (1, 5000)} <= seen
    assert versions(case) == {str(second)}
    back = people["olga"].http.post("/api/v1/rollbacks", json={
        "environment": case.env, "model": case.model.name, "reason": "tests"})
    assert back.status_code == 201, back.text
    case.wait(back.json()["id"], "live")
    assert versions(case) == {str(case.first)}


def test_harm_and_a_restart(case):
    case.apply({**CANARY, "steps": [{"weight": "50%", "requests": 5000, "for": "10m"},
                                    {"weight": "100%"}]})
    bad = case.version(3)
    promotion = case.promote(bad)
    case.wait_rollout(promotion, lambda r: r["state"] == "running" and r["in_force"])
    case.proxy.restart()
    assert versions(case) == {str(case.first), str(bad)}  # as its file says
    time.sleep(2)
    case.fail(bad, 0.7)
    with load(case):
        case.wait(promotion, "rolled_back", seconds=60)
    assert "errors" in case.rollout(promotion)["outcome"]
    assert versions(case) == {str(case.first)}


def test_what_haproxy_would_leave_out_is_refused(case):
    for rollout, route, text in (
            ({**CANARY, "checks": [{"id": "slow", "type": "slower-than", "limit": "50ms",
                                    "margin": "1%"}]}, "", "haproxy counts none"),
            ({"strategy": "shadow"}, "", "haproxy copies no requests"),
            (CANARY, ", validate: flag", "checks no requests")):
        refused = apply(case.admin, case.document(rollout, route), 409)
        assert text in refused["detail"], refused
    applied = apply(case.admin, case.document({**CANARY, "deadline": "1d"}))
    assert "'on_lost_control: stable' has no effect" in " ".join(applied["warnings"])
    lost = case.document({**CANARY, "deadline": "2d", "on_lost_control": "hold"})
    assert apply(case.admin, lost)["warnings"] == []


def test_an_environment_does_not_move_to_haproxy_unseen(case):
    env = fresh("moves")
    document = environment(env, f"policy: {case.env}\nalias: {env}\n")
    apply(case.admin, document)
    model = Model(case.model.http, ns="proxied")
    apply(case.admin, f"apiVersion: mlctl/v1\nkind: Model\nname: {model.name}\nroutes: "
          f"[{{route: {env}, environments: [{env}]}}]\nrollout: {{strategy: shadow}}\n")
    refused = apply(case.admin, document + "targets:\n  - name: eu\n    serving: {driver: webhook, "
                    "instances: [{url: 'http://127.0.0.1:9'}]}\n"
                    "    traffic: {driver: haproxy, control: 'unix:/a/b', map: /c}\n", 409)
    assert f"model '{model.name}' has a route here: haproxy copies no" in refused["detail"]
