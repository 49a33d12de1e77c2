# SPDX-License-Identifier: Apache-2.0
"""Inference servers without memory, and sources of metrics that lie: what the user sees, and that
live traffic stays on the stable version."""
import concurrent.futures
import itertools
import random
import shutil

import pytest

from fault.rolling import FAST, only, staged, story
from fault.story import check_ok
from support.fake_prometheus import FakePrometheus
from support.gateway import Gateway
from support.process import wait_until
from support.rollouts import MODEL_YAML
from support.server import Server
from support.small_triton import SmallTriton

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with staged(tmp_path_factory, lambda directories, options: Server(
            directories.new(), options=["--gateway", "127.0.0.1:0", *options])) as one:
        yield one
        check_ok(one.server.directory)


@pytest.fixture
def gateway(tmp_path):
    """An nginx of its own."""
    one = Gateway(tmp_path / "gw").start()
    yield one
    one.stop()


def of_size(one, megabytes):
    content = b"times 2\nneeds %d MB\n" % megabytes + random.randbytes(8)
    return one.model.version(files={"model.onnx": content, "model.yaml": MODEL_YAML})["version"]


@pytest.mark.parametrize("how", ["refuse", "die"])
def test_instance_out_of_memory(stage, gateway, how):
    """The candidate does not fit into the memory of one instance, which refuses it, or is ended by
    the system and started anew: the rollout fails and says where; nothing moved. What was in flight
    on it when it died fails, no other request."""
    site = stage.site(gateway)
    other, small = site.instances
    other.close()
    small.close()
    shutil.rmtree(small.repository)
    small.repository.mkdir()
    site.instances = [type(other)(other.repository), SmallTriton(small.repository, how)]
    site.serving = "ready_timeout: 3s, "  # what died while it loaded is not waited for longer
    site.apply()
    small = site.instances[1]
    one = stage.case(FAST, site)
    first, second = of_size(one, 8), of_size(one, 1000)
    one.to_live(first)
    with one.load(threads=2) as load:
        wait_until(lambda: load.done > 100, 20, "requests")
        promotion = one.promote(second)
        one.wait(promotion, "failed", seconds=120)
        wait_until(lambda: one.model.http.ok(
            "GET", f"/api/v1/environments/{one.env}/drift")["ok"], 60, "no drift")
        done = load.done
        wait_until(lambda: load.done > done + 100, 20, "requests")
    rollout = one.rollout(promotion)
    assert small.url in rollout["outcome"], rollout
    if how == "refuse":
        assert "out of memory: 1000 MB" in rollout["outcome"], rollout["outcome"]
        assert small.deaths == 0 and load.failed == []
    else:
        assert small.deaths >= 1
        assert len(load.failed) <= 2 * small.deaths, load.failed  # one for each thread
    assert set(load.versions) <= {str(first), None}, load.versions
    assert "running" not in [e["state"]["state"] for e in story(stage.server, rollout["id"])]
    only(one, first)


# what Prometheus says → what the user reads
LIES = {"no series": ({"value": []}, "finds no series"),
        "0/0": ({"value": "NaN"}, "the value is NaN"),
        "infinite": ({"value": "-Inf"}, "the value is -Inf"),
        "two series": ({"value": [1, 2]}, "several series"),
        "of an hour ago": ({"value": 1, "age": 3600}, "s ago"),
        "ahead of time": ({"value": 1, "age": -3600}, "ahead of this clock"),
        "no number": ({"value": "1 apple"}, "is no number"),
        "html": ({"status": 200, "body": b"<html>log in first</html>"}, "no JSON"),
        "500": ({"status": 500, "body": b"<html>oops</html>"}, "answers 500"),
        "elsewhere": ({"status": 302, "headers": [("Location", "http://127.0.0.1:1/")]}, "302"),
        "hangs": ({"hang": 30, "drop": True}, "no value: "),
        "dropped": ({"drop": True}, "no value: ")}


def lied_to(stage, lie, on_deadline):
    how, text = LIES[lie]
    with FakePrometheus() as prometheus:
        one = stage.case({**FAST, "deadline": "12s", "on_deadline": on_deadline,
                          "steps": [{"weight": "20%"}, {"weight": "100%"}],
                          "checks": [{"id": "queue", "type": "promql", "query": "depth",
                                      "at_most": 100, "source": prometheus.url}]})
        first, second = one.version(), one.version(2)
        one.to_live(first)
        if "value" in how:
            prometheus.values["depth"], prometheus.age = how["value"], how.get("age", 0)
        else:
            prometheus.fault("query", **how)
        with one.load(threads=1, pause=0.02) as load:
            promotion = one.promote(second)

            def holds(rollout):
                assert rollout["step"] == 0 and rollout["state"] in ("preparing", "running"), lie
                checks = (rollout["decision"] or {}).get("checks") or [{"rule": ""}]
                return text in checks[0]["rule"] and rollout["hold"]
            held = one.wait_rollout(promotion, holds, 25, f"{lie}: it holds")
            assert held["hold"] == "check 'queue' has no value"
            if on_deadline == "rollback":
                one.wait(promotion, "rolled_back", seconds=40)
                only(one, first)
            else:
                paused = one.wait_rollout(promotion, lambda r: r["paused"], 40)
                assert (paused["state"], paused["step"]) == ("running", 0)
        rollout = one.rollout(promotion)
        if on_deadline == "rollback":
            assert rollout["outcome"] == (
                "the deadline of the step is over: check 'queue' has no value"), rollout
        else:  # a person decides; the truth alone moves nothing while it is paused
            one.act(stage.people["olga"], rollout["id"], "abort")
            one.wait(promotion, "rolled_back")
        assert load.failed == [] and set(load.versions) == {str(first), str(second)}, lie
        story(stage.server, rollout["id"])


def test_metrics_source_lies(stage):
    """It is never good and never harm: the rollout holds and says why, until the deadline of its
    step; then what the plan says."""
    stage.case(FAST)
    with concurrent.futures.ThreadPoolExecutor(len(LIES)) as pool:
        for run in [pool.submit(lied_to, stage, lie, on_deadline) for lie, on_deadline in
                    zip(LIES, itertools.cycle(("rollback", "pause")))]:
            run.result()


def test_counter_of_metrics_begins_anew(stage):
    """A value that jumps once, as when a counter began anew, is no harm; three in a row are."""
    with FakePrometheus() as prometheus:
        one = stage.case({**FAST, "steps": [{"weight": "50%", "for": "10m"}, {"weight": "100%"}],
                          "checks": [{"id": "served", "type": "promql", "query": "served",
                                      "at_least": 100, "source": prometheus.url}]})
        first, second = one.version(), one.version(2)
        one.to_live(first)
        prometheus.values["served"] = 100000

        def said(text):
            return one.wait_rollout(promotion, lambda r: text in (
                (r["decision"] or {}).get("checks") or [{"rule": ""}])[0]["rule"], 20, text)
        with one.load(threads=1) as load:
            promotion = one.promote(second)
            said("within the bound")
            prometheus.values["served"] = 3
            said("not yet 3 times")
            prometheus.values["served"] = 200
            assert said("within the bound")["state"] == "running"
            prometheus.values["served"] = 3
            one.wait(promotion, "rolled_back", seconds=40)
            only(one, first)
        assert load.failed == []
        assert "served" in one.rollout(promotion)["outcome"]
