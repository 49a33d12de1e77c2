# SPDX-License-Identifier: Apache-2.0
"""promql checks: asked of a Prometheus beside the leader's looks; what is not known holds."""
import shutil
import socket
import subprocess
import time

import pytest

from support.fake_prometheus import FakePrometheus
from support.judged import fresh
from support.process import wait_until
from support.rollouts import GATEWAY, Case, Site, serving

from .test_promotions import people_of
from .test_registry import Model

NS = "measured"
PROMETHEUS = shutil.which("prometheus")


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return tmp_path_factory.mktemp("measured-serving")


@pytest.fixture(scope="module")
def prometheus():
    with FakePrometheus() as fake:
        yield fake


@pytest.fixture(scope="module")
def server(roots):
    with serving(roots, *GATEWAY) as one:
        yield one


@pytest.fixture(scope="module")
def people(server, tmp_path_factory):
    return people_of(server, tmp_path_factory.mktemp("measurers"), NS)


@pytest.fixture(scope="module")
def where(server, people, roots, prometheus):
    one = Site(server, people, roots, f"metrics: {{prometheus: '{prometheus.url}'}}\n")
    yield one
    one.close()


@pytest.fixture
def begin(where, people, prometheus):
    """begin(**CHECK): a rollout in its first step, which needs this check alone; its promotion."""
    prometheus.honest()

    def make(query=None, steps=({"weight": "50%"}, {"weight": "100%"}), **more):
        query = query or f"max(queue_depth{{route=\"{fresh('q')}\"}}) > 0 & más"
        one = Case(where, Model(people["pat"].http, ns=NS), {
            "strategy": "canary", "steps": list(steps),
            "checks": [{"id": "queue", "type": "promql", "query": query, **more}]})
        one.query = query
        one.to_live(one.version())  # a first version waits for no value
        one.promotion_id = one.promote(one.version(2))
        one.wait_rollout(one.promotion_id, lambda r: r["state"] == "running" and r["in_force"])
        return one
    return make


def rule(one, text, seconds=25):
    """Waits until the check says so."""
    def said():
        decision = one.rollout(one.promotion_id)["decision"] or {"checks": []}
        return next((c["rule"] for c in decision["checks"] if text in c["rule"]), None)
    return wait_until(said, seconds, f"the check says {text!r}")


def end(one, people):
    one.act(people["olga"], one.rollout(one.promotion_id)["id"], "abort")
    one.wait(one.promotion_id, "rolled_back")


def test_a_good_value_lets_it_go_on(begin, prometheus):
    one = begin(at_most=100)
    with one.load(threads=1):
        rule(one, "finds no series")
        assert one.rollout(one.promotion_id)["step"] == 0
        prometheus.values[one.query] = 7
        done = one.wait_rollout(one.promotion_id, lambda r: r["state"] == "completed", 60)
    assert done["decision"]["checks"][0]["value"] == "7.00000000"


def test_asked_every_few_seconds(begin, prometheus, people):
    one = begin(at_most=100)
    time.sleep(8)
    times = [at for at, query in prometheus.asked if query == one.query]
    assert 2 <= len(times) <= 4
    assert all(b - a > 2.5 for a, b in zip(times, times[1:]))
    end(one, people)


def test_beyond_the_bound_three_times(begin, prometheus):
    one = begin(at_most=100, steps=({"weight": "50%", "for": "10m"}, {"weight": "100%"}))
    with one.load(threads=1):
        prometheus.values[one.query] = 101
        rule(one, "not yet 3 times")
        one.wait(one.promotion_id, "rolled_back", seconds=40)
    assert "queue" in one.rollout(one.promotion_id)["outcome"]


def test_what_is_not_known_holds(begin, prometheus, people):
    one = begin(at_most=100, consecutive=1)
    with one.load(threads=1):
        rule(one, "finds no series")
        for value, text in (("NaN", "the value is NaN"), ("+Inf", "the value is +Inf"),
                            ([1, 2], "several series")):
            prometheus.values[one.query] = value
            rule(one, text)
        prometheus.values[one.query] = 1000  # and it would be harm
        for status, text in ((400, "refuses the query: boom"), (422, "refuses the query: boom"),
                             (503, "answers 503: boom"), (500, "answers 500: boom")):
            prometheus.honest()
            prometheus.fault("query", status=status, body={"status": "error", "error": "boom"})
            rule(one, text)
        prometheus.honest()
        prometheus.fault("query", status=200, body=b"<html>")
        rule(one, "no JSON")
        prometheus.honest()
        prometheus.fault("query", drop=True)
        rule(one, "no value: ")
        assert one.rollout(one.promotion_id)["state"] == "running"
        assert one.rollout(one.promotion_id)["step"] == 0
    end(one, people)


def test_a_slow_one_delays_no_look(begin, prometheus, people):
    one = begin(at_most=100)
    prometheus.fault("query", hang=20)
    with one.load(threads=1):
        time.sleep(3)
        before = one.rollout(one.promotion_id)["changed"]
        wait_until(lambda: one.rollout(one.promotion_id)["changed"] != before, 2.5, "a look")
    rule(one, "no value: ")
    end(one, people)


def test_only_whom_it_may_call(begin, prometheus, people):
    one = begin(at_most=100, source="http://192.0.2.1:9090")
    assert "--egress-allow" in rule(one, "no value: ")
    end(one, people)


@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")
def test_the_real_one(begin, people, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    (tmp_path / "prometheus.yml").write_text("scrape_configs: []\n", encoding="ascii")
    with open(tmp_path / "log", "wb") as log, subprocess.Popen(
            [PROMETHEUS, f"--config.file={tmp_path}/prometheus.yml",
             f"--storage.tsdb.path={tmp_path}/tsdb", f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log, stderr=log, cwd=tmp_path) as process:
        try:
            url = f"http://127.0.0.1:{port}/"  # with a slash, as people write it
            for query, text in (("up{job=\"none\"}", "finds no series"), ("0/0", "value is NaN"),
                                ("sum(", "refuses the query"), ("1", "within the bound"),
                                ("vector(2) or label_replace(vector(3), \"a\", \"b\", \"\", \"\")",
                                 "several series"), ("vector(5)[1m:10s]", "of type 'matrix'")):
                one = begin(query=query, at_most=4, source=url,
                            steps=({"weight": "50%", "for": "10m"}, {"weight": "100%"}))
                rule(one, text)
                end(one, people)
        finally:
            process.terminate()
            process.wait(20)
