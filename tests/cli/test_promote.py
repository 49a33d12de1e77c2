# SPDX-License-Identifier: Apache-2.0
"""`mlctl promote`, `promotion …`, `inbox`: waiting, exit codes and JUnit, on a real server."""
import signal
import subprocess
import threading
import time
import xml.etree.ElementTree as ET

import pytest

from support import gate
from support.cli import invite
from support.server import build_directory


@pytest.fixture(scope="module")
def server(own_server):
    return own_server


@pytest.fixture(scope="module")
def scene(server, tmp_path_factory):
    """kim may do all but approve; ada and bob approve; `open` asks for nobody, `two` for two."""
    home = tmp_path_factory.mktemp("promote")
    one = invite(server, home / "kim", "kim-p", ["admin", "contributor@prom", "evaluator@prom",
                                                 "operator@prom"])
    one.ada = invite(server, home / "ada", "ada-p", ["approver@prom"])
    one.bob = invite(server, home / "bob", "bob-p", ["approver@prom"])
    for person in (one.ada, one.bob):
        person.key_file = person.key()
        person.run("key", "add", f"{person.key_file}.pub")
    two = 'approvals: [{name: risk, from: ["role:approver"], count: 2}]'
    for name, approvals in (("p-open", ""), ("p-two", two)):
        done = one.run("apply", "-f", "-", stdin=gate.documents(name, name, approvals))
        assert f"Environment/{name}  new  (unprotected: no owners" in done.stdout
    one.serial = 0
    one.server = server
    return one


def version(scene, tmp_path, value=0.95, model="scorer"):
    """A new version of a model of its own, evaluated; value None: not evaluated."""
    scene.serial += 1
    ref = gate.push(scene, tmp_path / "m", f"weights {scene.serial}",
                    model=f"prom/{model}{scene.serial}")
    if value is not None:
        scene.run("evaluate", ref, "-f", gate.write_evaluation(tmp_path / "eval.json", value))
    return ref


def promote(scene, ref, to, *more, **kwargs):
    return scene.json("promote", ref, "--to", to, "--reason", "test", *more, **kwargs)


def test_live_when_nobody_has_to_approve(scene, tmp_path):
    ref = version(scene, tmp_path)
    p = promote(scene, ref, "p-open", "--wait", "--timeout", "60s")
    assert p["state"] == "live" and p["verdict"] == "pass"
    alias = scene.json("show", ref.split(":")[0] + ":p-open")
    assert alias["ref"] == ref
    assert "live" in scene.run("promotion", "show", p["id"]).stdout
    listed = scene.run("promotion", "list", "--model", ref.split(":")[0]).stdout
    assert p["id"] in listed and "p-open (unprotected)" in listed


def test_refused(scene, tmp_path):
    ref = version(scene, tmp_path, 0.5)
    junit = tmp_path / "j.xml"
    for more in ([], ["--wait"], ["--wait=approved"]):
        p = promote(scene, ref, "p-open", "--junit", junit, *more, status=1)
        assert p["state"] == "rejected"
    done = scene.run("promote", ref, "--to", "p-open", "--reason", "x", status=1)
    assert "rejected" in done.stdout and "accuracy" in done.stdout
    root = ET.parse(junit).getroot()
    assert root.get("name") == f"{ref} to p-open (unprotected)"
    suite = root.find("testsuite[@name='Policy/p-open']")
    assert suite.get("failures") == "1" and suite.get("tests") == "3"
    case = suite.find("testcase[@name='accuracy']")
    assert case.find("failure").get("type") == "threshold"
    assert "0.5" in case.find("failure").get("message") + case.find("failure").text
    assert suite.find("testcase[@name='card']").find("failure") is None
    assert suite.find("testcase[@name='big']").find("skipped") is not None  # mode: observe


def test_held(scene, tmp_path):
    ref = version(scene, tmp_path, None)
    junit = tmp_path / "j.xml"
    assert promote(scene, ref, "p-open", "--junit", junit, status=4)["state"] == "held"
    began = time.monotonic()
    assert promote(scene, ref, "p-open", "--wait", "--timeout", "60s", status=4)["state"] == "held"
    assert time.monotonic() - began < 20  # at once
    case = ET.parse(junit).getroot().find(".//testcase[@name='accuracy']")
    assert case.find("skipped") is not None and case.find("failure") is None


def test_pending_and_time_is_up(scene, tmp_path):
    ref = version(scene, tmp_path)
    assert promote(scene, ref, "p-two")["state"] == "awaiting_approval"
    p = promote(scene, ref, "p-two", "--wait", "--timeout", "2s", status=3)
    assert p["state"] == "awaiting_approval"
    assert p["waiting_for"][0]["need"] == 2
    scene.json("promotion", "cancel", p["id"], "--reason", "enough")
    assert scene.json("promotion", "show", p["id"])["state"] == "cancelled"


def test_another_version_waits_unless_it_supersedes(scene, tmp_path):
    ref = version(scene, tmp_path)
    model = ref.split(":")[0]
    first = promote(scene, ref, "p-two")
    other = gate.push(scene, tmp_path / "m", "other weights", model=model)
    scene.run("evaluate", other, "-f", tmp_path / "eval.json")
    scene.run("promote", other, "--to", "p-two", "--reason", "x", status=1)
    second = promote(scene, other, "p-two", "--supersede")
    assert scene.json("promotion", "show", first["id"])["superseded_by"] == second["id"]


def waiting(scene, ref, *more):
    """`promote --wait` in the background."""
    return subprocess.Popen(
        [str(build_directory() / "mlctl"), "promote", ref, "--to", "p-two", "--reason", "ci",
         "--output", "json", *more], env=scene.env, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)


def decision_count(scene, promotion):
    """How often the server was asked for its decision."""
    return scene.server.output().count(f"/api/v1/promotions/{promotion}/decision")


def test_inbox_approve_and_the_wait_ends(scene, tmp_path):
    ref = version(scene, tmp_path)
    job = waiting(scene, ref, "--wait", "--timeout", "90s")
    model = ref.split(":")[0]
    listed = []
    for _ in range(100):
        listed = [i for i in scene.ada.json("inbox") if i["model"] == model]
        if listed:
            break
        time.sleep(0.1)
    assert listed[0]["protected"] is False
    shown = scene.ada.run("inbox").stdout
    assert "p-two (unprotected)" in shown
    assert f"mlctl approve {listed[0]['id']} --key" in shown
    for person in (scene.ada, scene.bob):
        person.run("approve", listed[0]["id"], "--key", person.key_file, "--reason", "looks right")
    out, err = job.communicate(timeout=90)
    assert job.returncode == 0, err
    assert '"state": "live"' in out
    assert not [i for i in scene.ada.json("inbox") if i["model"] == model]


def test_a_job_that_is_ended_leaves_it_pending(scene, tmp_path):
    ref = version(scene, tmp_path)
    shown = promote(scene, ref, "p-two")
    for sig in (signal.SIGTERM, signal.SIGINT):
        decisions = decision_count(scene, shown["id"])
        job = waiting(scene, ref, "--wait", "--timeout", "90s")
        for _ in range(200):
            if decision_count(scene, shown["id"]) > decisions:
                break
            time.sleep(0.05)
        job.send_signal(sig)
        out, err = job.communicate(timeout=30)
        assert job.returncode == -sig and out == "", err
        assert f"{shown['id']} stays pending" in err and f"cancel {shown['id']}" in err
        assert scene.json("promotion", "show", shown["id"])["state"] == "awaiting_approval"


def test_the_wait_survives_a_restart(fresh_server, tmp_path):
    kim = invite(fresh_server, tmp_path / "kim", "kim", ["admin", "contributor@prom",
                                                         "evaluator@prom"])
    ada = invite(fresh_server, tmp_path / "ada", "ada", ["approver@prom"])
    key = ada.key()
    ada.run("key", "add", f"{key}.pub")
    kim.serial = 0
    kim.run("apply", "-f", "-", stdin=gate.documents(
        "p-two", "p-two", 'approvals: [{name: risk, from: ["role:approver"], count: 1}]'))
    ref = version(kim, tmp_path)
    job = waiting(kim, ref, "--wait", "--timeout", "120s")
    for _ in range(100):
        if kim.json("promotion", "list"):
            break
        time.sleep(0.1)
    address = fresh_server.url.rsplit(":", 1)[1]
    fresh_server.stop()
    time.sleep(2)
    fresh_server.options += ["--listen", f"127.0.0.1:{address}"]
    fresh_server.start()
    assert job.poll() is None
    ada.run("approve", "p1", "--key", key, "--reason", "ok")
    out, err = job.communicate(timeout=90)
    assert job.returncode == 0, err
    assert '"state": "live"' in out


def test_unreachable_is_its_own_exit(scene):
    done = scene.run("promote", "prom/x:1", "--to", "p-open", "--reason", "x", "--wait",
                     "--timeout", "2s", status=5, env={"MLCTL_SERVER": "http://127.0.0.1:1"})
    assert done.stdout == ""


@pytest.mark.parametrize("args", [
    ["--to", "p-open"], ["--reason", "x"],
    ["--to", "p-open", "--reason", "x", "--wait=soon"],
    ["--to", "p-open", "--reason", "x", "--wait", "--timeout", "soon"],
    ["--to", "p-open", "--reason", "x", "--timeout", "5s"],
])
def test_usage(scene, args):
    assert scene.run("promote", "prom/x:1", *args, status=2).stdout == ""


def test_rollback_brings_back_what_was_before(scene, tmp_path):
    ref = version(scene, tmp_path)
    model = ref.split(":")[0]
    promote(scene, ref, "p-open", "--wait")
    other = gate.push(scene, tmp_path / "m", "better weights", model=model)
    scene.run("evaluate", other, "-f", tmp_path / "eval.json")
    promote(scene, other, "p-open", "--wait")
    assert scene.json("show", f"{model}:p-open")["ref"] == other
    back = scene.json("rollback", model, "--in", "p-open", "--reason", "worse in fact")
    assert back["version"] == 1 and back["rollback_of"]
    for _ in range(50):
        if scene.json("show", f"{model}:p-open")["ref"] == ref:
            break
        time.sleep(0.1)
    assert scene.json("show", f"{model}:p-open")["ref"] == ref
    scene.run("rollback", model, "--in", "p-open", "--reason", "again", status=1)


def test_readers_of_the_alias_never_see_none(scene, tmp_path):
    ref = version(scene, tmp_path)
    model = ref.split(":")[0]
    promote(scene, ref, "p-open", "--wait")
    other = gate.push(scene, tmp_path / "m", "next weights", model=model)
    scene.run("evaluate", other, "-f", tmp_path / "eval.json")
    seen, stop = set(), threading.Event()

    def read():
        while not stop.is_set():
            reply = scene.http.get(f"/api/v1/models/{model}/aliases/p-open")
            seen.add(reply.json().get("version") if reply.status_code == 200 else "none")

    readers = [threading.Thread(target=read) for _ in range(4)]
    for one in readers:
        one.start()
    try:
        promote(scene, other, "p-open", "--wait")
    finally:
        stop.set()
        for one in readers:
            one.join()
    assert seen <= {1, 2} and 1 in seen
