# SPDX-License-Identifier: Apache-2.0
"""Shadowing behind an HAProxy, which copies nothing: nginx mirrors requests, mlctld asks both."""
import http.client
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import time

import pytest

from support import haproxy, process
from support.gateway import NGINX, ROOT, Client, free_port
from support.haproxy import Haproxy
from support.rollouts import Case, Site, SiteLoad, serving

from .test_promotions import people_of
from .test_registry import Model

pytestmark = pytest.mark.skipif(not os.access(haproxy.HAPROXY, os.X_OK), reason="needs haproxy")
SHADOW = {"strategy": "shadow",
          "steps": [{"mirror": "50%", "requests": 60, "for": "1s"}, {"weight": "100%"}],
          "checks": [{"id": "same", "type": "shadow-agreement", "at_least": "90%"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("serving"), "--mirror-listen", "127.0.0.1:0") as one:
        one.copies = (one.directory / "mirror-address").read_text(encoding="ascii").strip()
        yield one
    assert not (one.directory / "mirror-address").exists()


@pytest.fixture(scope="module")
def people(server, tmp_path_factory):
    return people_of(server, tmp_path_factory.mktemp("people"), "mirrored")


class Nginx:
    """The shipped example, between clients and HAProxy."""

    def __init__(self, directory, behind, copies):
        self.port = free_port()
        text = (ROOT / "deploy/nginx/mlctl-mirror.conf").read_text(encoding="utf-8")
        for old, new in (("listen 8088", f"listen 127.0.0.1:{self.port}"),
                         ("127.0.0.1:8090", f"127.0.0.1:{behind}"),
                         ("127.0.0.1:8089", copies.removeprefix("http://"))):
            assert old in text
            text = text.replace(old, new)
        folders = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in (
            "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config = directory / "nginx.conf"
        config.write_text(f"daemon off;\npid {directory}/pid;\nerror_log {directory}/error.log;\n"
                          f"events {{}}\nhttp {{\naccess_log off;\n{folders}{text}}}\n",
                          encoding="utf-8")
        self.child = subprocess.Popen([NGINX, "-p", directory, "-c", config],
                                      preexec_fn=process.die_with_parent(signal.SIGTERM))

    def stop(self):
        self.child.terminate()
        self.child.wait(20)


@pytest.fixture
def case(server, people, tmp_path):
    with tempfile.TemporaryDirectory() as folder:  # short enough for a socket
        site = Site(server, people, server.roots, traffic=(
            f"{{driver: haproxy, control: 'unix:{folder}/admin.sock', map: {folder}/mlctl.map}}"))
        one = Case(site, Model(people["pat"].http, ns="mirrored"), SHADOW)
        servers = [i.url.removeprefix("http://") for i in site.instances]
        with Haproxy(folder, servers, route=one.route) as one.proxy:
            one.front = Nginx(tmp_path, one.proxy.port, server.copies)
            one.first = one.version()
            one.to_live(one.first)
            yield one
            one.front.stop()
        site.close()


def load(case):
    return SiteLoad(case.front.port, threads=2, pause=0.01, route=case.route)


def agreement(case, rollout):
    explained = case.model.http.ok("GET", f"/api/v1/rollouts/{rollout['id']}/explain")
    return explained["statistics"]["agreement"]["same"]


def metric(server, name):
    text = server.client(server.admin_token).get("/metrics").text
    return float(re.search(rf"(?m)^mlctl_mirror_{name}_total (\S+)$", text)[1])


def settled(server, name):
    """Its value once it stays for a second."""
    seen = []

    def stays():
        seen.append(metric(server, name))
        time.sleep(0.5)
        return seen[-3:].count(seen[-1]) == 3
    process.wait_until(stays, 30, f"{name} stays")
    return seen[-1]


def test_the_same_answers_go_live(case, server):
    second = case.version()
    with load(case) as running:
        promotion = case.promote(second)
        case.wait(promotion, "live", seconds=90)
    assert running.failed == [] and running.versions[str(case.first)] > 60
    rollout = case.rollout(promotion)
    counted = agreement(case, rollout)
    assert counted["n"] == counted["agree"] >= 60
    assert counted["noise_n"] == counted["noise_agree"] == counted["n"]  # stable is asked twice
    assert metric(server, "unanswered") == 0


@pytest.mark.threads
def test_other_answers_are_taken_back(case):
    other = case.version(2)
    with load(case) as running:
        promotion = case.promote(other)
        case.wait(promotion, "rolled_back", seconds=90)
    assert running.failed == [] and set(running.versions) == {str(case.first)}
    assert "same" in case.rollout(promotion)["outcome"]


def test_noise_of_stable_is_no_disagreement(case):
    second = case.version()
    dice = random.Random(5)

    def noisy(status, reply):
        if dice.random() < 0.2:
            reply["outputs"][0]["data"][0] += dice.random()
        return status, reply
    for instance in case.instances:
        for version in (case.first, second):
            instance.says[case.name(version)] = noisy
    case.apply({**SHADOW, "steps": [{"mirror": "100%", "requests": 150, "for": "1s"},
                                    {"weight": "100%"}]})
    with load(case):
        promotion = case.promote(second)
        case.wait(promotion, "live", seconds=90)
    counted = agreement(case, case.rollout(promotion))
    assert 0.4 < counted["agree"] / counted["n"] < 0.85  # of 90 % that are asked for
    assert 0.4 < counted["noise_agree"] / counted["noise_n"] < 0.85


@pytest.mark.threads
def test_whatever_comes_is_answered_at_once(server):
    host, _, port = server.copies.removeprefix("http://").rpartition(":")
    before = metric(server, "received")
    asked = settled(server, "asked")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    sent = [("POST", "/v2/models/nobody/infer", json.dumps({"inputs": []})),
            ("POST", "/v2/models/nobody/infer", "x" * 300_000), ("GET", "/", None),
            ("POST", "/v2/models//infer", ""), ("POST", "/v2/models/a/versions/1/infer", "{}"),
            ("DELETE", "/%2e%2e/" + "a" * 3000, None)]
    for method, path, body in sent:
        connection.request(method, path, body)
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (204, b"")
    connection.request("POST", "/v2/models/nobody/infer", iter([b"{", b"}"]), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})
    reply = connection.getresponse()
    assert (reply.status, reply.read()) == (204, b"")
    connection.request("POST", "/v2/models/nobody/infer", "{}", {"X-Mlctl-Shadow": "1"})
    assert connection.getresponse().status == 204  # one that mlctld asked itself
    connection.close()
    assert metric(server, "received") == before + len(sent) + 1
    assert metric(server, "asked") == asked


def test_without_mlctld_and_without_the_option(case, server, people):
    case.apply({**SHADOW, "steps": [{"mirror": "100%", "requests": 1000000}, {"weight": "100%"}]})
    promotion = case.promote(case.version())
    case.wait_rollout(promotion, lambda r: r["state"] == "running" and r["in_force"])
    server.stop()
    options = server.options
    server.options = options[:options.index("--mirror-listen")]
    try:
        client = Client(case.front.port)
        for n in range(5):  # clients do not notice
            status, headers, _ = client.infer(route=case.route, user=f"u{n}")
            assert (status, headers["X-Mlctl-Version"]) == (200, str(case.first))
        client.close()
        server.start()
        case.model.http = server.client(people["pat"].http.token)
        held = case.wait_rollout(promotion, lambda r: "--mirror-listen" in (r["hold"] or ""))
        assert held["state"] == "running" and held["weight"] == 0
    finally:
        server.stop()
        server.options = options
        server.start()


def test_who_listens_to_others_is_told(server):
    """No harm here: it is 127.0.0.1 written as nobody would."""
    assert "mirror.open_to_others" not in server.output()
    server.stop()
    options = server.options
    at = options.index("--mirror-listen") + 1
    server.options = [*options[:at], "[::ffff:127.0.0.1]:0", *options[at + 1:]]
    try:
        server.start()
        assert server.output().count('"mirror.open_to_others"') == 1
    finally:
        server.stop()
        server.options = options
        server.start()
