# SPDX-License-Identifier: Apache-2.0
"""An inference server of one's own behind a webhook, with traffic: what it is told of the split."""
import base64
import json
import random

import pytest

from support import judged
from support.fake_adapter import FakeAdapter
from support.process import wait_until
from support.rollouts import GATEWAY, Case, serving

from .test_promotions import people_of
from .test_registry import Model

NS = "hooked"
CANARY = {"strategy": "canary", "steps": [{"weight": "50%", "wait": "person"}, {"weight": "100%"}],
          "checks": [{"id": "errors", "type": "error-rate", "margin": "5%", "mode": "observe"}]}


class Adapter(FakeAdapter):
    """Answers inference, too. `broken`: what weights are answered with."""
    broken = None

    def answer(self, method, path, headers, body):
        if path.startswith("/v2/models/") and path.endswith("/infer"):
            name = path.split("/")[3]
            return 200, {"model_name": name, "outputs": [
                {"name": "y", "datatype": "INT64", "shape": [1], "data": [1]}]}
        return super().answer(method, path, headers, body)

    def weights(self, data):
        return self.broken or super().weights(data)

    def told(self, route):
        """[generation and {version: weight}] of what was taken or refused, in order."""
        with self.lock:
            return [(d["data"]["generation"], {w["version"]: w["weight"]
                                               for w in d["data"]["weights"]})
                    for kind, d in self.calls
                    if kind == "serving.weights" and d["data"]["route"] == route]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("serving"), *GATEWAY) as one:
        yield one


class Hooks:
    """As support.rollouts.Site, with two adapters."""

    def __init__(self, server, people):
        self.server, self.people = server, people
        self.admin = server.client(server.admin_token)
        self.env = judged.fresh("hooks")
        vkey = self.admin.get("/log/vkey").text.strip()
        key = base64.b64decode(vkey.split("+", 2)[2])[1:]
        self.instances = [Adapter(key), Adapter(key)]
        instances = ", ".join(f"{{url: {i.url}/hook}}" for i in self.instances)
        judged.apply(self.admin, judged.policy(self.env) + "---\n" + judged.environment(
            self.env, f"policy: {self.env}\nalias: {self.env}\ntargets:\n"
            f"  - name: eu\n    serving: {{driver: webhook, drain: 1s, instances: [{instances}]}}\n"
            f"    traffic: {{driver: nginx, control: 'unix:{server.directory}"
            "/gateway/control.sock'}\n"))

    @property
    def port(self):
        address = (self.server.directory / "gateway-address").read_text(encoding="ascii")
        return int(address.strip().rpartition(":")[2])


class Hooked(Case):
    def version(self, *_):
        return self.model.version(files={"model.bin": random.randbytes(8)})["version"]


@pytest.fixture(scope="module")
def site(server, tmp_path_factory):
    one = Hooks(server, people_of(server, tmp_path_factory.mktemp("people"), NS))
    yield one
    for instance in one.instances:
        instance.close()


@pytest.fixture
def case(site):
    return Hooked(site, Model(site.people["pat"].http, ns=NS), CANARY)


def test_webhooks_are_told_the_weights(case, server):
    a, b = case.instances
    first, second = case.version(), case.version()
    case.to_live(first)
    wait_until(lambda: a.told(case.route) and b.told(case.route), 10, "both are told")
    assert a.told(case.route)[-1][1] == {first: 10000}
    promotion = case.promote(second)
    rollout = case.wait_rollout(promotion, lambda r: r["state"] == "running" and r["in_force"])
    half = {first: 5000, second: 5000}
    wait_until(lambda: all(i.told(case.route)[-1][1] == half for i in (a, b)), 10, "half each")
    assert a.told(case.route)[-1][0] == rollout["splits"][0]["generation"]

    a.broken = 503, {"error": "the mesh is away"}  # what fails holds nothing up
    case.act(case.site.people["olga"], rollout["id"], "advance")
    case.wait(promotion, "live")
    whole = {second: 10000}
    wait_until(lambda: b.told(case.route)[-1][1] == whole, 10, "the other one is told")

    def problems():
        shown = case.rollout(promotion)["served"]
        return {s["problem"] for s in shown if s["instance"] == a.url + "/hook"}
    (problem,) = wait_until(lambda: problems() - {None}, 10, "it is shown")
    assert problem == "does not take weights: the mesh is away"
    assert case.infer()[2]["model_version"] == str(second)
    tries = len(a.told(case.route))
    a.broken = None
    wait_until(lambda: problems() == {None}, 20, "it is told again")
    assert len(a.told(case.route)) > tries and a.told(case.route)[-1][1] == whole
    generations = [g for g, _ in a.told(case.route)]
    assert generations == sorted(generations)


def test_what_was_told_is_remembered(case, server):
    only = case.instances[0]
    case.to_live(case.version())
    wait_until(lambda: only.told(case.route), 10, "it is told")

    def quiet():
        rows = server.sql("select count(*) from weights_told w join split s using (control, route) "
                          f"where s.route = '{case.route}' and w.generation = s.generation")
        return rows.strip() == "2"
    wait_until(quiet, 10, "both have taken it")
    told = only.told(case.route)
    server.restart()
    calls = len(only.calls)
    wait_until(lambda: len(only.calls) > calls + 2, 15, "it is looked after again")
    assert only.told(case.route) == told
    # the route goes, and with it what was remembered
    judged.apply(server.client(server.admin_token),
                 f"apiVersion: mlctl/v1\nkind: Model\nname: {case.model.name}\n"
                 f"rollout: {json.dumps(CANARY)}\n")
    wait_until(lambda: server.sql("select count(*) from weights_told where route = "
                                  f"'{case.route}'").strip() == "0", 10, "it is forgotten")
