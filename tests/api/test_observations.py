# SPDX-License-Identifier: Apache-2.0
"""Predictions and labels that come late: recorded once, joined by id, counted once."""
import random
import time

import pytest

from support.cli import invite
from support.judged import fresh
from support.process import wait_until
from support.rollouts import GATEWAY, Case, Site, serving

from .test_promotions import people_of
from .test_registry import Model

NS = "late"
LABELS = {"strategy": "canary", "steps": [{"weight": "50%", "labels": 60}, {"weight": "100%"}],
          "checks": [{"id": "truth", "type": "labels", "margin": "20%"}]}
PATH = "/api/v1/observations"


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return tmp_path_factory.mktemp("late-serving")


@pytest.fixture(scope="module")
def server(roots):
    with serving(roots, *GATEWAY) as one:
        yield one


@pytest.fixture(scope="module")
def people(server, tmp_path_factory):
    return people_of(server, tmp_path_factory.mktemp("laters"), NS)


@pytest.fixture(scope="module")
def where(server, people, roots):
    one = Site(server, people, roots)
    yield one
    one.close()


@pytest.fixture
def site(where, people):
    """site(ROLLOUT): a model of this test's own, with one version live."""
    def make(rollout):
        one = Case(where, Model(people["pat"].http, ns=NS), rollout)
        one.first = one.version()
        one.to_live(one.first)
        return one
    return make


@pytest.fixture(scope="module")
def live(where, people):
    one = Case(where, Model(people["pat"].http, ns=NS), {"strategy": "blue-green"})
    one.to_live(one.version())
    return one


def report(who, items, status=200):
    reply = who.http.post(PATH, json=items)
    assert reply.status_code == status, reply.text
    return reply.json()


def place(one, **more):
    return {"environment": one.env, "model": one.model.name, **more}


def truth(one, promotion):
    """The labels check of the last decision."""
    decision = one.rollout(promotion)["decision"] or {"checks": []}
    return next((c for c in decision["checks"] if c["id"] == "truth"), None)


def running(one):
    promotion = one.promote(one.version(2))
    one.wait_rollout(promotion, lambda r: r["state"] == "running" and r["in_force"])
    return promotion


def test_recorded_once(live, people):
    olga, route = people["olga"], {"environment": live.env, "route": live.route}
    items = [place(live, id=f"once-{n}", version=1, output=n % 2) for n in range(10)]
    assert report(olga, items) == {"received": 10, "predictions": 10, "labels": 0, "different": 0}
    assert report(olga, items) == {"received": 10, "predictions": 0, "labels": 0, "different": 0}
    again = [{**item, "output": str(item["output"])} for item in items]  # a number is its text
    assert report(olga, again)["different"] == 0
    labels = [{**route, "id": f"once-{n}", "label": "1"} for n in range(10)]
    assert report(olga, labels) == {"received": 10, "predictions": 0, "labels": 10, "different": 0}
    assert report(olga, labels)["labels"] == 0
    other = [{**items[0], "output": "other"}, {**labels[1], "label": True}]
    assert report(olga, other) == {"received": 2, "predictions": 0, "labels": 0, "different": 2}
    both = {**route, "id": "both", "variant": "stable", "output": "cat", "label": "dog",
            "time": "2026-01-01T00:00:00Z"}
    assert report(olga, [both, {**both, "output": "cow"}])["different"] == 1


def test_many_at_once(live, people):
    items = [place(live, id=f"many-{n}", version=1, output=0.5, label=0.5) for n in range(10000)]
    started = time.monotonic()
    assert report(people["olga"], items)["predictions"] == 10000
    assert time.monotonic() - started < 20
    wrong = report(people["olga"], [*items, items[0]], 400)
    assert "10000" in wrong["detail"]


@pytest.mark.parametrize("change, pointer", [
    ({"id": None}, "/1/id"), ({"id": ""}, "/1/id"), ({"id": "x" * 129}, "/1/id"),
    ({"id": 7}, "/1/id"), ({"environment": None}, "/1/environment"),
    ({"model": None}, "/1"), ({"route": "also"}, "/1"), ({"model": 1}, "/1/model"),
    ({"model": "nobody"}, "/1/model"), ({"version": 0}, "/1/version"),
    ({"version": 2}, "/1/version"), ({"version": "1"}, "/1/version"),
    ({"version": 1.5}, "/1/version"), ({"version": None}, "/1"),
    ({"version": None, "variant": "other"}, "/1/variant"),
    ({"version": None, "variant": "candidate"}, "/1/variant"),
    ({"variant": "stable"}, "/1"), ({"output": None}, "/1"), ({"output": []}, "/1/output"),
    ({"output": {}}, "/1/output"), ({"output": "x" * 257}, "/1/output"),
    ({"label": [1]}, "/1/label"), ({"label": "é" * 129}, "/1/label"), ({"time": 5}, "/1/time"),
    ({"time": "yesterday"}, "/1/time"), ({"time": "2026-11-24"}, "/1/time"),
    ({"time": "2999-01-01T00:00:00Z"}, "/1/time"), ({"unknown": 1}, "/1/unknown")])
def test_bad_items(live, people, change, pointer):
    good = place(live, id="good" + fresh("x"), version=1, output=1)
    bad = {k: v for k, v in {**good, "id": "bad", **change}.items() if v is not None}
    problem = report(people["olga"], [good, bad], 400)
    assert [e["pointer"] for e in problem["errors"]] == [pointer]
    assert report(people["olga"], [good])["predictions"] == 1  # nothing of it was recorded


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'"x"', b"[", b"[1]", b"[[]]",
                                  b"[{}]", b'[{"id":"a","id":"b"}]', b"[" * 3000])
def test_bad_bodies(people, body):
    reply = people["olga"].http.post(PATH, data=body,
                                     headers={"Content-Type": "application/json"})
    assert reply.status_code == 400, reply.text
    other = people["olga"].http.post(PATH, data=b"[]", headers={"Content-Type": "text/csv"})
    assert other.status_code == 415


def test_whom_it_is_taken_from(live, people, server, tmp_path):
    item = place(live, id="roles", version=1, output=1)
    assert people["dana"].http.post(PATH, json=[item]).status_code == 403
    stranger = invite(server, tmp_path / "stranger", fresh("stranger"), ["evaluator@elsewhere"])
    assert report(stranger, [item], 404)["errors"][0]["pointer"] == "/0/model"
    by_route = {"environment": live.env, "route": live.route, "id": "r", "label": 1}
    assert report(stranger, [by_route], 404)["errors"][0]["pointer"] == "/0/route"
    assert report(people["olga"], [{**item, "environment": "none"}], 404)
    assert report(people["olga"], [{**by_route, "route": "none"}], 404)


def test_labels_let_it_go_on(site, people):
    one = site(LABELS)
    promotion = running(one)
    items = [place(one, id=f"{v}-{n}", variant=v, output=n % 3)
             for v in ("candidate", "stable") for n in range(100)]
    with one.load(threads=1):
        report(people["olga"], items)
        time.sleep(2.5)
        assert truth(one, promotion)["n"] == {"candidate": 0, "stable": 0}
        labels = [place(one, id=item["id"], label=item["output"]) for item in items]
        report(people["olga"], labels[:50] + labels[100:])
        wait_until(lambda: truth(one, promotion)["n"] == {"candidate": 50, "stable": 100}, 20,
                   "labels are counted")
        assert one.rollout(promotion)["step"] == 0  # of 60
        report(people["olga"], labels)
        rollout = one.wait_rollout(promotion, lambda r: r["state"] == "completed", 30)
    explained = one.model.http.ok("GET", f"/api/v1/rollouts/{rollout['id']}/explain")
    rate = explained["statistics"]["rates"]["truth"]
    assert (rate["candidate"]["n"], rate["stable"]["n"]) == (100, 100)  # each of them once


def test_wrong_answers_take_it_back(site, people):
    one = site(LABELS)
    promotion = running(one)
    pick = random.Random(5)
    with one.load(threads=1):
        for batch in range(4):
            report(people["olga"], [
                place(one, id=f"{v}-{batch}-{n}", variant=v, label="yes",
                      output="yes" if pick.random() < share else "no")
                for v, share in (("candidate", 0.3), ("stable", 0.9)) for n in range(30)])
        one.wait(promotion, "rolled_back", seconds=40)
    assert "truth" in one.rollout(promotion)["outcome"]
    assert one.infer()[2]["model_version"] == str(one.first)


def test_pairs_of_the_same_request(site, people):
    one = site({**LABELS, "steps": [{"weight": "50%", "labels": 5000}, {"weight": "100%"}]})
    promotion = running(one)
    items = [place(one, id=f"pair-{n}", variant=v, label=1, output=int(n % d > 0))
             for v, d in (("candidate", 4), ("stable", 5)) for n in range(100)]
    with one.load(threads=1):
        report(people["olga"], items[:100])
        report(people["olga"], items[100:])
        rollout = one.rollout(promotion)["id"]

        def rate():
            explained = one.model.http.ok("GET", f"/api/v1/rollouts/{rollout}/explain")
            return explained["statistics"]["rates"].get("truth", {}).get("pairs", {})
        counted = wait_until(lambda: (lambda r: r if r.get("n") else None)(rate()), 20, "pairs")
    one.act(people["olga"], rollout, "abort")
    one.wait(promotion, "rolled_back")
    wrong = [{n for n in range(100) if n % d == 0} for d in (4, 5)]
    assert counted == {"n": 100, "only_stable": len(wrong[0] - wrong[1]),
                       "only_candidate": len(wrong[1] - wrong[0])}
