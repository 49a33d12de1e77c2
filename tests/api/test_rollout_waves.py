# SPDX-License-Identifier: Apache-2.0
"""Rollouts in waves: an environment with two targets, each behind a gateway of its own."""
import contextlib
import json
import time

import pytest

from support import judged
from support.gateway import Client, Control, Gateway
from support.judged import log
from support.rollouts import Case, Site, SiteLoad
from support.server import Directories, Server

from .test_promotions import check, people_of
from .test_registry import Model

NS = "waves"
CHECKS = [{"id": "errors", "type": "error-rate", "margin": "5%"}]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def server(roots):
    directories = Directories()
    one = Server(directories.new(), options=["--gateway", "127.0.0.1:0", "--serving-root", roots])
    one.start()
    yield one
    found = check(one)
    assert found["ok"] is True, found
    one.stop()
    directories.remove()


@pytest.fixture(scope="module")
def people(server, tmp_path_factory):
    return people_of(server, tmp_path_factory.mktemp("people"), NS)


class Two(Site):
    """Target eu behind the server's gateway, target us behind one that runs beside it."""

    def __init__(self, server, people, root, gateway):
        self.gateway = gateway
        super().__init__(server, people, root)

    def target(self, name, instance, control):
        return (f"  - name: {name}\n    serving: {{driver: triton, instances: [{{url: "
                f"{instance.url}, repository: {{dir: {instance.repository}}}}}]}}\n"
                f"    traffic: {{driver: nginx, control: '{control}'}}\n")

    def text(self, us="us"):
        return judged.environment(
            self.env, f"policy: {self.env}\nalias: {self.env}\ntargets:\n"
            + self.target("eu", self.instances[0], self.control)
            + self.target(us, self.instances[1], f"unix:{self.gateway.path}"))

    def apply(self, more=""):
        judged.apply(self.admin, judged.policy(self.env) + "---\n" + self.text())


@pytest.fixture(scope="module")
def where(server, people, roots, tmp_path_factory):
    with Gateway(tmp_path_factory.mktemp("us")) as gateway:
        one = Two(server, people, roots, gateway)
        yield one
        one.close()


class Waves(Case):
    """A model with a version that is live in both targets."""

    def __init__(self, site, model, *steps, **more):
        super().__init__(site, model, {"strategy": "canary", "checks": CHECKS,
                                       "steps": list(steps), **more})
        self.first, self.second = self.version(), self.version(2)
        self.to_live(self.first)

    @contextlib.contextmanager
    def both(self):
        """Load on both gateways; {"eu": …, "us": …}"""
        ports = {"eu": self.site.port, "us": self.site.gateway.port}
        loads = {name: SiteLoad(port, self.route, threads=2) for name, port in ports.items()}
        with contextlib.ExitStack() as stack:
            yield {name: stack.enter_context(load) for name, load in loads.items()}

    def weights(self, shown):
        """What the new version gets, as the rows say."""
        return {s["target"]: sum(v["weight"] for v in s["variants"]
                                 if v["version"] == shown["version"]) for s in shown["splits"]}

    def tables(self, version):
        """What it gets, as the gateways' tables say."""
        found = {}
        for name, path in (("eu", self.site.control[5:]), ("us", self.site.gateway.path)):
            route, = [r for r in Control(path).table()["routes"] if r["route"] == self.route]
            found[name] = sum(v["weight"] for v in route["variants"] if v["version"] == version)
        return found

    def fail_in(self, target, version, share):
        self.instances[0 if target == "eu" else 1].errors[self.name(version)] = share




@pytest.fixture
def waves(where, people):
    return lambda *steps, **more: Waves(where, Model(people["pat"].http, ns=NS), *steps, **more)


def step(weight, *targets, **more):
    of = {"targets": list(targets)} if targets else {}
    return {"weight": f"{weight}%", "requests": 40, **of, **more}


def test_one_target_after_the_other(waves, people, server):
    one = waves(step(50, "eu"), step(100, "eu", requests=0, **{"for": "1s"}),
                step(50, "us"), step(100, requests=0))
    pat = people["pat"]
    plan = pat.run("rollout", "plan", f"{one.model.name}:{one.second}", "--to", one.env).stdout
    assert "this target stays as it is" in plan and " eu " in plan
    seen = {}
    with one.both() as loads:
        promotion = one.promote(one.second)

        def look(r):
            if r["state"] == "running" and r["in_force"]:
                seen[r["step"]] = one.weights(r)
            return r["state"] == "completed"
        before = loads["us"].versions[str(one.second)]
        shown = one.wait_rollout(promotion, look, 90)
        assert before == 0
    for load in loads.values():
        assert load.failed == [] and load.versions[str(one.second)] > 0
    assert seen[0] == {"eu": 5000, "us": 0} and seen[1] == {"eu": 10000, "us": 0}
    assert seen[2] == {"eu": 10000, "us": 5000}
    assert shown["steps"][0]["targets"] == ["eu"] and "targets" not in shown["steps"][3]
    assert "approvals" not in shown["steps"][0]
    leaves = [e for e in log(server) if e["kind"] == "rollout" and e["id"] == shown["id"]
              and "targets" in e["detail"]]
    assert [e["detail"]["targets"]["after"] for e in leaves][:3] == [seen[0], seen[1], seen[2]]
    # what was counted where the wave was is apart from what was counted where it was to come
    stats = pat.http.ok("GET", f"/api/v1/rollouts/{shown['id']}/explain")["statistics"]
    assert all(g["step"] >= 0 for g in stats["generations"])
    first = [g for g in stats["generations"] if g["step"] == 0]
    assert first and all(g["weight"] == 5000 for g in first)
    assert "eu 50 %" not in pat.run("rollout", "show", shown["id"]).stdout


def test_harm_in_one_target_takes_all_back(waves, people):
    one = waves(step(50, "eu"), step(50, "us", requests=100000), step(100, requests=0))
    with one.both() as loads:
        promotion = one.promote(one.second)
        shown = one.wait_rollout(promotion, lambda r: r["step"] == 1 and r["in_force"], 60)
        assert one.weights(shown) == one.tables(one.second) == {"eu": 5000, "us": 5000}
        line = people["pat"].run("rollout", "show", shown["id"]).stdout
        assert "eu 50 %, us 50 %" in line
        one.fail_in("us", one.second, 0.5)
        shown = one.wait_rollout(promotion, lambda r: r["state"] == "rolled_back", 60)
        time.sleep(0.3)
    assert "errors" in shown["outcome"]
    assert loads["eu"].failed == []
    for port in (one.site.port, one.site.gateway.port):
        client = Client(port)
        assert {client.infer(route=one.route, user=f"u{n}")[2]["model_version"]
                for n in range(30)} == {str(one.first)}
        client.close()


def test_harm_where_an_earlier_wave_is(waves):
    """The targets of earlier waves are looked at as long as the candidate answers there."""
    one = waves(step(50, "eu"), step(50, "us", requests=100000), step(100, requests=0))
    with one.both():
        promotion = one.promote(one.second)
        one.wait_rollout(promotion, lambda r: r["step"] == 1 and r["in_force"], 60)
        one.fail_in("eu", one.second, 0.5)
        shown = one.wait_rollout(promotion, lambda r: r["state"] == "rolled_back", 60)
    assert "errors" in shown["outcome"]


def test_what_happens_elsewhere_does_not_count(waves):
    """Before its wave, a target's errors and requests say nothing, nor need its gateway answer."""
    one = waves(step(50, "eu", requests=30, **{"for": "3s"}), step(100, requests=0))
    one.fail_in("us", one.first, 0.9)
    ports = {"eu": one.site.port}
    with SiteLoad(one.site.gateway.port, one.route, threads=2) as elsewhere:
        promotion = one.promote(one.second)
        shown = one.wait_rollout(promotion, lambda r: r["in_force"] and r["decision"], 60)
        time.sleep(2)
        shown = one.rollout(promotion)
        # only the other target has requests: nothing was counted here
        assert shown["step"] == 0 and shown["decision"]["decision"] == "hold"
        assert {w["what"]: w["have"] for w in shown["decision"]["waiting_for"]}["requests"] == 0
        with SiteLoad(ports["eu"], one.route, threads=2) as load:
            one.wait_rollout(promotion, lambda r: r["state"] == "completed", 60)
    assert load.failed == [] and len(elsewhere.failed) > 0


def test_a_gateway_whose_wave_is_to_come_may_be_down(waves):
    """Also an abort does not wait for it; the wave does."""
    one = waves(step(50, "eu"), step(60, "eu", requests=10), step(100, requests=0))
    gateway = one.site.gateway
    before = gateway.table()["generation"]
    gateway.stop()
    with SiteLoad(one.site.port, one.route, threads=2) as load:
        promotion = one.promote(one.version(3))
        rollout = one.wait_rollout(promotion, lambda r: r["step"] == 1 and r["in_force"], 60)["id"]
        one.act(one.site.people["olga"], rollout, "abort")
        one.wait(promotion, "rolled_back")
        promotion = one.promote(one.second)
        shown = one.wait_rollout(promotion, lambda r: r["step"] == 2, 60)
        assert one.weights(shown) == {"eu": 10000, "us": 10000}  # the rows come first
        time.sleep(2)
        shown = one.rollout(promotion)
        assert not shown["in_force"] and shown["hold"] == "a gateway does not hold the table yet"
        gateway.start()
        one.wait_rollout(promotion, lambda r: r["state"] == "completed", 60)
    assert load.failed == [] and gateway.table()["generation"] > before
    assert one.tables(one.second) == {"eu": 10000, "us": 10000}


def test_a_mirror_in_one_target(waves):
    one = waves({"mirror": "50%", "requests": 20, "targets": ["us"]}, step(50, "eu"),
                step(100, requests=0),
                checks=[*CHECKS, {"id": "same", "type": "shadow-agreement", "at_least": "10%",
                                  "mode": "observe"}])
    taps = {}
    with one.both() as loads:
        promotion = one.promote(one.second)

        def look(r):
            if r["state"] == "running" and r["in_force"]:
                taps.setdefault(r["step"], one.weights(r))
            return r["state"] == "completed"
        one.wait_rollout(promotion, look, 90)
    assert all(load.failed == [] for load in loads.values())
    assert taps[0] == {"eu": 0, "us": 0} and taps[1] == {"eu": 5000, "us": 0}


def test_signed_between_waves(waves, people):
    rule = {"name": "lead", "from": ["role:approver"], "count": 1}
    one = waves(step(100, "eu", requests=0, approvals=[rule]), step(100, "us", requests=0))
    with one.both() as loads:
        promotion = one.promote(one.second)
        shown = one.wait_rollout(promotion, lambda r: r["approval"], 60)
        assert one.tables(one.second) == {"eu": 10000, "us": 0}
        said = people["dana"].run("approve", shown["id"], "--key", people["dana"].key_file,
                                  "--reason", "eu is fine").stdout
        assert "100 % of the requests in eu" in said and "100 % of the requests in us" in said
        one.wait_rollout(promotion, lambda r: r["state"] == "completed", 60)
    assert all(load.failed == [] for load in loads.values())


def test_documents(where, waves):
    one = waves(step(50, "eu"), step(100, requests=0))

    def model(*steps):
        return ("apiVersion: mlctl/v1\nkind: Model\n" f"name: {one.model.name}\nroutes: "
                f"[{{route: {one.route}, environments: [{one.env}]}}]\nrollout: "
                + json.dumps({"strategy": "canary", "steps": list(steps)}))
    for steps, words in (
            ((step(50, "asia"), step(100)), "has no target 'asia'"),
            ((step(50, "us"), step(100, "eu")), "target 'us' of environment"),
            ((step(100, "eu"),), "would stay at 0 %")):
        assert words in judged.apply(where.admin, model(*steps), status=409)["detail"]
    judged.apply(where.admin, model(step(100, "eu"), step(100, "us")))
    # nor may the environment take away what they name
    refused = judged.apply(where.admin, where.text(us="asia"), status=409)
    assert "has no target 'us'" in refused["detail"]
    judged.apply(where.admin, model(step(50, "eu"), step(100)))
