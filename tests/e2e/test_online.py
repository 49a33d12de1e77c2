# SPDX-License-Identifier: Apache-2.0
"""The main job of rollouts with nothing pretended: two MLServer with scikit-learn, nginx with our
module, real models, and deploy/example/load.py, which asks without end, never twice, and compares
every answer with what that version's own file predicts."""
import json
import signal
import subprocess
import time

import pytest

from support import judged, mlserver
from support.process import die_with_parent, wait_until
from support.server import ROOT, Directories, Server

from api.test_promotions import check, people_of
from api.test_registry import Model

NS = "demo"
EXAMPLE = ROOT / "deploy/example"
TRAINED = {1: ["--strength", "1"], 2: ["--strength", "0.3"], 3: ["--strength", "3"],
           4: ["--ensemble", "100", "--mislabelled"]}
CHECKS = [{"id": "errors", "type": "error-rate", "margin": "5%"},
          {"id": "slow", "type": "latency", "quantile": "50%", "margin": "100%"},
          {"id": "outputs", "type": "prediction-distribution"}]
CANARY = {"strategy": "canary",
          "steps": [{"mirror": "100%", "requests": 200, "advance": "proven"},
                    {"weight": "5%", "requests": 10, "for": "1s"},
                    {"weight": "25%", "requests": 50, "for": "1s"},
                    {"weight": "50%", "requests": 100, "for": "1s"}, {"weight": "100%"}],
          "checks": [CHECKS[0], CHECKS[2],
                     {"id": "slow", "type": "slower-than", "limit": "200ms", "margin": "20%"},
                     {"id": "agreement", "type": "shadow-agreement", "at_least": "90%"}]}
BLIND = {"strategy": "canary", "checks": CHECKS,
         "steps": [{"weight": "20%", "requests": 5000, "for": "10m"}, {"weight": "100%"}]}


class Application:
    """load.py as a process; report() is what it has seen."""

    def __init__(self, python, directory, gateway):
        self.path = directory / "load.json"
        self.child = subprocess.Popen(
            [python, EXAMPLE / "load.py", gateway, "scorer", directory / "data/holdout.csv",
             self.path, "--models", directory / "model"], stdout=subprocess.PIPE, text=True,
            preexec_fn=die_with_parent(signal.SIGKILL))

    def report(self):
        return json.loads(self.path.read_text(encoding="ascii")) if self.path.exists() else {}

    def answers(self, version):
        return self.report().get("versions", {}).get(str(version), {}).get("requests", 0)

    def end(self):
        self.child.terminate()
        output, _ = self.child.communicate(timeout=60)
        return self.child.returncode, output


class Online:
    """The environment, the model, and what people do with them."""

    def __init__(self, server, people, directory, instances):
        self.server, self.pat, self.directory = server, people["pat"], directory
        self.http = self.pat.http
        self.admin = server.client(server.admin_token)
        self.model = Model(self.http, name=f"{NS}/scorer")
        where = ", ".join(f"{{url: '{i.url}', repository: {{dir: '{i.repository}'}}}}"
                          for i in instances)
        judged.apply(self.admin, judged.policy("online") + "---\n" + judged.environment(
            "online", "policy: online\nalias: online\ntargets:\n  - name: here\n"
            f"    serving: {{driver: oip, drain: 3s, instances: [{where}]}}\n"
            f"    traffic: {{driver: nginx, control: 'unix:{server.directory}/gateway/"
            "control.sock'}\n"))

    def plan(self, rollout):
        judged.apply(self.admin, f"apiVersion: mlctl/v1\nkind: Model\nname: {self.model.name}\n"
                     "routes: [{route: scorer, key: 'header:X-User-Id', environments: [online]}]\n"
                     f"rollout: {json.dumps(rollout)}\n")

    def push(self, version):
        folder = self.directory / f"model{version}"
        made = self.model.version(files={p.name: p.read_bytes() for p in folder.iterdir()})
        assert made["version"] == version

    def promote(self, version, *states, seconds=120):
        """Until the promotion has ended; what happened to its rollout."""
        asked = self.http.ok("POST", "/api/v1/promotions", json={
            "model": self.model.name, "version": str(version), "environment": "online",
            "reason": "tests"})

        def ended():
            now = self.http.ok("GET", f"/api/v1/promotions/{asked['id']}")
            return now if now["state"] in ("live", "rolled_back", "failed") else None
        done = wait_until(ended, seconds, f"version {version} is live or taken back")
        rollout = self.http.ok("GET", f"/api/v1/rollouts/{done['rollout']}")
        assert done["state"] in states, rollout
        return rollout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if mlserver.environment() is None:
        pytest.skip("MLServer cannot be installed here")
    directory, directories = tmp_path_factory.mktemp("online"), Directories()
    instances = []
    for name in ("a", "b"):
        (directory / "serving" / name).mkdir(parents=True)
        instances.append(mlserver.MLServer(directory / "serving" / name).spawn())
    python = mlserver.environment() / "bin/python"
    for version, options in TRAINED.items():
        subprocess.run([python, EXAMPLE / "train.py", directory / "data",
                        directory / f"model{version}", *options], check=True, capture_output=True)
    server = Server(directories.new(), options=[
        "--gateway", "127.0.0.1:0", "--serving-root", directory / "serving"])
    server.start()
    for instance in instances:
        wait_until(instance.alive, 120, "MLServer to start")
    people = people_of(server, tmp_path_factory.mktemp("people"), NS)
    one = Online(server, people, directory, instances)
    one.python = python
    yield one
    assert check(server)["ok"] is True
    server.stop()
    for instance in instances:
        instance.stop()
    directories.remove()


@pytest.mark.timeout(900)  # it takes 1.5 min, more when others work
def test_versions_take_over_real_traffic_and_a_broken_one_is_taken_back(site):
    for version in TRAINED:
        site.push(version)
    site.plan({"strategy": "blue-green"})
    site.promote(1, "live")
    gateway = (site.server.directory / "gateway-address").read_text(encoding="ascii").strip()
    application = Application(site.python, site.directory, gateway)
    try:
        wait_until(lambda: application.answers(1) > 50, 60, "the application asks")
        site.promote(2, "live")
        wait_until(lambda: application.answers(2) > 50, 20, "version 2 answers")
        time.sleep(1)  # it reports every half second
        before = application.answers(1)

        site.plan(CANARY)
        done = site.promote(3, "live", seconds=180)
        assert done["state"] == "completed" and done["step"] == len(CANARY["steps"]) - 1
        wait_until(lambda: application.answers(3) > 100, 20, "version 3 answers")
        assert application.answers(1) == before, "blue-green was at once"

        bad = site.promote(4, "rolled_back", seconds=180)
        assert bad["state"] == "rolled_back" and bad["step"] == 0
        assert application.answers(4) == 0, "copies were enough to see it"

        site.plan(BLIND)
        worse = site.promote(4, "rolled_back", seconds=180)
        explained = site.http.ok("GET", f"/api/v1/rollouts/{worse['id']}/explain")
        assert explained["decision"]["decision"] == "harm"
        verdicts = {c["id"]: c["verdict"] for c in explained["decision"]["checks"]}
        assert "harm" in (verdicts["slow"], verdicts["outputs"])
        watched = site.pat.run("rollout", "watch", worse["id"], status=1).stdout
        assert watched.split() == ["rolled_back", *worse["outcome"].split()], "one line"
        shown = site.pat.run("rollout", "explain", worse["id"]).stdout
        assert worse["id"] + ", step 1: computed again here" in shown
        listed = next(row.split() for row in site.pat.run("env", "list").stdout.splitlines()
                      if row.startswith("online"))
        assert listed[1:4] == ["false", "demo/scorer", "3"]
        drift = site.http.ok("GET", "/api/v1/environments/online/drift")
        assert drift["ok"] is True, drift
        time.sleep(1)  # it reports every half second
        taken, asked = application.answers(4), application.report()["requests"]
        assert taken > 0
        wait_until(lambda: application.report()["requests"] > asked + 100, 20, "it goes on")
        assert application.answers(4) == taken
    finally:
        code, output = application.end()
    print(output)
    assert code == 0 and output.splitlines()[-1].endswith(
        " requests, 0 failed requests, 0 wrong versions")
