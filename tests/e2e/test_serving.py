# SPDX-License-Identifier: Apache-2.0
"""Serving drivers: one suite for all of them. MLServer is the real one, Triton and the webhook's
receiver are stand-ins (tests/support/fake_*.py)."""
import json
import os
import pathlib
import shutil
import signal
import threading
import time

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support import mlserver
from support.fake_adapter import FakeAdapter
from support.fake_triton import FakeTriton
from support.serving import DRIVERS, SEED, Artifact, Drive

REQUEST = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1.5, 2.5]}]}


class Backend:
    """A driver and the server that it drives."""

    def __init__(self, driver, root):
        self.driver = driver
        self.root = root
        self.repository = root / f"{driver}-repository"
        self.repository.mkdir()
        self.server = None
        self.url = None
        self.made = 0

    def artifact(self, factor=1, broken=False, slow=False):
        self.made += 1
        directory = self.root / f"{self.driver}-{self.made}"
        head = b"broken" if broken else b"slow" if slow else b"times %d" % factor
        if self.driver == "oip":
            data = b"no pickle" if broken else mlserver.pickled(factor)
            files = {"model.pkl": data, "model.yaml": b"format: sklearn\n"}
        elif self.driver == "triton":
            files = {"model.onnx": head, "model.yaml": b"format: onnx\n"}
        else:
            files = {"model.bin": head}
        return Artifact(directory, files)

    def job(self, artifact, version, **more):
        return {"driver": self.driver, "url": self.url, "settings": self.settings(),
                "model": {"model": "fraud/scorer", "version": version, "digest": artifact.digest,
                          "dir": str(self.repository / f"fraud--scorer--{version}")},
                "roots": [str(self.root)], "repository": str(self.repository),
                **artifact.source(), **more}

    def settings(self, **more):
        return {"driver": self.driver,
                "instances": [{"url": self.url, "repository": {"dir": str(self.repository)}}],
                **more}

    def answers(self, version):
        """What the version answers, asked past the driver; None when it is not there."""
        if self.driver == "webhook":
            return self.server.models.get(f"fraud--scorer--{version}")
        reply = requests.post(f"{self.url}/v2/models/fraud--scorer--{version}/versions/{version}"
                              "/infer", json=REQUEST, timeout=10)
        return reply.json()["outputs"][0]["data"][0] if reply.status_code == 200 else None


@pytest.fixture(scope="module", params=DRIVERS)
def backend(request, tmp_path_factory):
    one = Backend(request.param, tmp_path_factory.mktemp(request.param))
    if request.param == "oip":
        if mlserver.environment() is None:
            pytest.skip("MLServer cannot be installed here")
        one.server = mlserver.MLServer(one.repository).start()
        one.url = one.server.url
    elif request.param == "triton":
        one.server = FakeTriton(one.repository)
        one.url = one.server.url
    else:
        key = Ed25519PrivateKey.from_private_bytes(SEED).public_key()
        one.server = FakeAdapter(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
        one.url = one.server.url + "/hook"
    yield one
    if request.param == "oip":
        one.server.stop()
    else:
        one.server.close()


@pytest.fixture
def drive():
    one = Drive()
    yield one
    one.close()


_versions = iter(range(1, 1000))


def test_a_version_comes_up_beside_the_other_and_goes(backend, drive):
    first, second = next(_versions), next(_versions)
    one, two = backend.artifact(1), backend.artifact(10)
    for artifact, version in ((one, first), (two, second)):
        job = backend.job(artifact, version, ms=60000)
        assert drive(do="ready", **job)["outcome"] in ("not_ready", "not_found")
        assert drive(do="make", **job)["ok"] is True
        if backend.driver != "webhook":
            job["model"]["example"] = REQUEST
        assert drive(do="bring_up", **job)["outcome"] == "ok"
        assert drive(do="ready", **job)["outcome"] == "ok"
    if backend.driver == "webhook":
        assert backend.answers(first)["ready"] and backend.answers(second)["ready"]
    else:
        assert backend.answers(first) == pytest.approx(4)
        assert backend.answers(second) == pytest.approx(40)
    listed = {m["name"]: m for m in drive(do="list", **backend.job(one, first))["models"]}
    assert listed[f"fraud--scorer--{first}"] == {
        "name": f"fraud--scorer--{first}", "version": str(first), "state": "ready"}
    assert f"fraud--scorer--{second}" in listed

    down = backend.job(one, first)
    assert drive(do="take_down", **down)["outcome"] == "ok"
    assert drive(do="ready", **down)["outcome"] in ("not_ready", "not_found")
    assert drive(do="take_down", **down)["outcome"] == "ok", "again is no error"
    assert drive(do="remove", **down)["ok"] is True
    assert backend.answers(first) is None
    assert backend.answers(second) is not None, "the other was not touched"
    names = [m["name"] for m in drive(do="list", **backend.job(two, second))["models"]]
    assert f"fraud--scorer--{first}" not in names and f"fraud--scorer--{second}" in names
    assert drive(do="take_down", **backend.job(two, second))["outcome"] == "ok"
    assert drive(do="remove", **backend.job(two, second))["ok"] is True
    assert list(backend.repository.iterdir()) == []


def test_a_load_that_fails_leaves_nothing(backend, drive):
    version = next(_versions)
    artifact = backend.artifact(broken=True)
    job = backend.job(artifact, version, ms=8000)
    assert drive(do="make", **job)["ok"] is True
    answer = drive(do="bring_up", **job)
    assert answer["outcome"] == ("transient" if backend.driver == "oip" else "refused")
    wanted = {"oip": "Internal Server Error", "triton": "Protobuf parsing failed",
              "webhook": "cannot parse model.bin"}
    assert wanted[backend.driver] in answer["text"]
    assert drive(do="ready", **job)["outcome"] in ("not_ready", "not_found")
    assert drive(do="remove", **job)["ok"] is True
    assert drive(do="list", **job)["models"] == []


def test_a_version_that_is_up_is_not_loaded_again(backend, drive):
    version = next(_versions)
    job = backend.job(backend.artifact(), version, ms=60000)
    assert drive(do="make", **job)["ok"] is True
    assert drive(do="bring_up", **job)["outcome"] == "ok"
    if backend.driver == "oip":
        before = backend.server.output().count("Loaded model")
    assert drive(do="make", **job)["ok"] is True
    assert drive(do="bring_up", **job)["outcome"] == "ok"
    if backend.driver == "oip":
        assert backend.server.output().count("Loaded model") == before
    elif backend.driver == "triton":
        assert drive(do="load", **job)["outcome"] == "ok"
        assert backend.server.reloads == []
    assert drive(do="take_down", **job)["outcome"] == "ok"
    assert drive(do="remove", **job)["ok"] is True


def test_a_cancelled_call_ends_at_once(backend, drive):
    job = backend.job(backend.artifact(), next(_versions), ms=60000, cancel=True)
    answer = drive(do="bring_up", **job)
    assert answer["outcome"] == "unreachable" and answer["took_ms"] < 3000


def test_drift(backend, drive):
    good, other = next(_versions), next(_versions)
    jobs, trees = [], []
    for version in (good, other):
        jobs.append(backend.job(backend.artifact(version), version, ms=60000))
        trees.append(drive(do="make", **jobs[-1])["tree"])
        assert drive(do="bring_up", **jobs[-1])["outcome"] == "ok"
    expected = [{**job["model"], "tree": tree} for job, tree in zip(jobs, trees)]

    def drift(expected, **more):
        answer = drive(do="drift", expected=expected, **{**jobs[0], **more})
        return answer["clean"], {e["name"]: (e["state"], e["reason"]) for e in answer["report"]}

    names = [f"fraud--scorer--{v}" for v in (good, other)]
    clean, report = drift(expected)
    assert clean and {name: state for name, (state, _) in report.items()} == {
        names[0]: "ok", names[1]: "ok"}
    clean, report = drift(expected[:1])
    assert not clean and report[names[1]][0] == "unapproved"

    file = next(p for p in (backend.repository / names[0]).rglob("model.*")
                if p.suffix in (".pkl", ".onnx", ".bin"))
    kept = file.read_bytes()
    file.write_bytes(kept + b" ")
    clean, report = drift(expected)
    assert not clean and report[names[0]][0] == "changed" and report[names[1]][0] == "ok"
    file.write_bytes(kept)
    assert drift(expected)[0]
    (file.parent / "more").symlink_to("/etc/passwd")
    assert drift(expected)[1][names[0]][0] == "changed"
    (file.parent / "more").unlink()

    assert drive(do="take_down", **jobs[1])["outcome"] == "ok"
    clean, report = drift(expected)
    assert not clean and report[names[1]][0] == "missing"
    clean, report = drift([expected[0], {**expected[1], "optional": True}])
    assert clean
    assert drive(do="remove", **jobs[1])["ok"] is True
    clean, report = drift(expected[:1], retired=[jobs[1]["model"]])
    assert clean and list(report) == [names[0]]
    assert drive(do="remove", **jobs[0])["ok"] is True
    clean, report = drift([], retired=[jobs[0]["model"]])
    assert not clean and report[names[0]][0] == "unapproved", "loaded, though its folder is gone"
    assert drive(do="take_down", **jobs[0])["outcome"] == "ok"
    clean, report = drift([], retired=[jobs[0]["model"]])
    assert clean and report == {}
    clean, report = drift(expected, url="http://127.0.0.1:9")
    assert not clean and {state for state, _ in report.values()} == {"unreachable"}
    clean, report = drift([], url="http://127.0.0.1:9")
    assert not clean and report[None][0] == "unreachable"


def test_unknown_settings_are_refused(backend, drive):
    def check(**settings):
        return drive(do="check", driver=backend.driver, settings=settings)

    good = backend.settings()
    assert "error" not in check(**good)
    assert "error" not in check(**good, ready_timeout_ms=60000, drain_ms=1000)
    for name, value, field in (
            ("canaryTrafficPercent", 10, "/canaryTrafficPercent"),
            ("ready_timeout_ms", 10, "/ready_timeout"),
            ("call_timeout_ms", 1000, "/call_timeout_ms"),
            ("drain_ms", "1m", "/drain"), ("instances", [], "/instances"),
            ("instances", [{"url": "ftp://x:1", "repository": {"dir": "/x"}}], "/instances/0/url"),
            ("instances", [{"url": "http://u@x:1", "repository": {"dir": "/x"}}],
             "/instances/0/url")):
        answer = check(**{**good, name: value})
        assert answer["error"] == "invalid" and answer["field"] == field, answer
    own = {"oip": "implementation", "triton": "backend", "webhook": "token"}
    for driver, key in own.items():
        answer = check(**{**good, key: "x"})
        assert answer.get("field") == (None if driver == backend.driver else f"/{key}")
    bare = check(**{**good, "instances": [{"url": "http://x:1", "repository": None}]})
    if backend.driver == "webhook":
        assert "error" not in bare
    else:
        assert bare["field"] == "/instances/0/repository"


# --- servers that misbehave: stand-ins, one for each driver ---


class Liar:
    """A server that is whatever its faults say."""

    def __init__(self, driver, tmp_path):
        self.backend = Backend(driver, tmp_path)
        if driver == "webhook":
            key = Ed25519PrivateKey.from_private_bytes(SEED).public_key()
            self.server = FakeAdapter(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
            self.backend.url = self.server.url + "/hook"
        else:
            self.server = FakeTriton(self.backend.repository)
            self.backend.url = self.server.url
        self.backend.server = self.server
        self.artifact = self.backend.artifact() if driver != "oip" else Artifact(
            tmp_path / "a", {"model.pkl": b"", "model.yaml": b"format: sklearn\n"})

    def job(self, **more):
        return self.backend.job(self.artifact, 3, **more)

    def where(self, call):
        if self.backend.driver == "webhook":
            return "POST /hook"
        return {"load": r"/repository/models/.*/load", "ready": r"/ready$",
                "unload": r"/repository/models/.*/unload", "list": "/repository/index",
                "infer": "/infer$"}[call]


@pytest.fixture(params=DRIVERS)
def liar(request, tmp_path):
    one = Liar(request.param, tmp_path)
    yield one
    one.server.close()


NOT_SO = {  # status → outcome, of every driver and call unless said otherwise below
    301: "refused", 302: "refused", 307: "refused", 400: "refused", 401: "refused",
    403: "refused", 404: "not_found", 405: "refused", 408: "transient", 409: "refused",
    410: "refused", 422: "refused", 425: "transient", 429: "transient", 500: "transient",
    501: "refused", 502: "transient", 503: "transient", 504: "transient", 507: "transient"}


@pytest.mark.parametrize("call", ["load", "ready", "unload", "list"])
def test_every_status_has_an_outcome(liar, drive, call):
    driver = liar.backend.driver
    for status, outcome in NOT_SO.items():
        liar.server.honest()
        liar.server.fault(liar.where(call), status=status, body={"error": f"because {status}"})
        answer = drive(do=call, **liar.job())
        if call == "ready" and status == 400 and driver != "webhook":
            outcome = "not_ready"
        elif call == "unload" and status == 404:
            outcome = "ok"
        elif call == "unload" and status == 400 and driver == "triton":
            outcome = "ok"  # and /ready says that it is not there
        elif call == "list" and status == 404:
            outcome = "refused"
        assert (answer["outcome"], answer["status"] in (status, 400)) == (outcome, True), answer
        if outcome not in ("ok",):
            assert answer["text"] == f"because {status}"
    assert not any("evil" in s for s in liar.server.seen)


def test_redirects_are_not_followed(liar, drive):
    with FakeTriton(liar.backend.repository) as elsewhere:
        liar.server.fault(".", status=307, headers=[("Location", elsewhere.url + "/v2")])
        for call in ("load", "ready", "unload", "list"):
            assert drive(do=call, **liar.job())["outcome"] == "refused"
        assert elsewhere.seen == []


def test_a_hung_server_costs_the_deadline_and_no_more(liar, drive):
    liar.server.fault(".", hang=30)
    for call in ("load", "ready", "unload", "list"):
        answer = drive(do=call, **liar.job(ms=400))
        assert answer["outcome"] == "unreachable" and 300 <= answer["took_ms"] < 2000, answer
        assert "within" in answer["text"]


def test_a_dropped_connection_is_unreachable(liar, drive):
    liar.server.fault(".", drop=True)
    for call in ("load", "ready", "unload", "list"):
        assert drive(do=call, **liar.job())["outcome"] == "unreachable"


def test_garbage_is_not_believed(liar, drive):
    for garbage in (b"<html>hello</html>", b"\xff\xfe{", b"[[[[", b'{"name": 1', b"[1]", b"{}",
                    b'"ok"', b'{"a": 1, "a": 2}', b'[{"name": 7}]', b"{}" * 3):
        liar.server.honest()
        liar.server.fault(".", status=200, body=garbage)
        answer = drive(do="list", **liar.job())
        assert answer["outcome"] == "transient", (garbage, answer)
        answer = drive(do="ready", **liar.job())
        if not (garbage == b"{}" and liar.backend.driver != "webhook"):
            assert answer["outcome"] in ("transient", "not_ready"), (garbage, answer)
        if liar.backend.driver != "webhook":
            answer = drive(do="load", **liar.job())
            assert answer["outcome"] in ("transient", "refused"), (garbage, answer)


def test_a_huge_answer_is_cut_off(liar, drive):
    liar.server.fault(".", status=200, body=b"[" + b" " * (5 << 20) + b"]")
    for call in ("ready", "list"):
        answer = drive(do=call, **liar.job())
        assert answer["outcome"] == "transient" and "larger" in answer["text"]
    liar.server.honest()
    liar.server.fault(".", status=500, headers=[("X-Padding", "a" * 9000)] * 8)
    assert drive(do="ready", **liar.job())["outcome"] == "transient"


def test_what_servers_say_is_shown_on_one_printable_line(liar, drive):
    liar.server.fault(".", status=400, body={"error": "a\x1b[31mb\u202ec\n\n-" + "e" * 2000})
    text = drive(do="list", **liar.job())["text"]
    assert text.startswith("a?[31mb?c  -") and len(text) < 384


def test_ready_once_is_not_ready(liar, drive):
    """Readiness that flaps: two times ready, then not, and so on."""
    if liar.backend.driver == "webhook":
        good = {"ready": True, "name": "fraud--scorer--3", "version": 3,
                "digest": liar.artifact.digest}
        bad = (200, {**good, "ready": False})
    else:
        good, bad = b"", (400, {"error": "Model version not ready"})
    liar.server.fault("POST /v2/.*/load", status=200)
    plan = [(200, good), (200, good), bad]
    original = liar.server.answer
    asked = []

    def answer(method, path, headers, body):
        if method == "GET" and path.endswith("/ready") or b"serving.ready" in body:
            asked.append(path)
            return plan[len(asked) % 3]
        if b"serving.load" in body:
            return 202, b""
        return original(method, path, headers, body)

    liar.server.answer = answer
    got = drive(do="bring_up", **liar.job(ms=2500))
    assert got["outcome"] in ("not_ready", "transient") and len(asked) > 6, got
    assert got["took_ms"] >= 2300


def test_another_version_than_asked_is_refused(tmp_path, drive):
    for driver in ("oip", "triton"):
        (tmp_path / driver).mkdir()
        liar = Liar(driver, tmp_path / driver)
        reply = {"model_name": "fraud--scorer--3", "model_version": "3", "outputs": []}
        for change in ({"model_version": "2"}, {"model_name": "fraud--scorer--2"},
                       {"model_version": 3}, {"model_version": None}, {"id": "other"},
                       {"outputs": None}):
            liar.server.honest()
            liar.server.fault(liar.where("infer"), status=200, body={**reply, **change})
            answer = drive(do="infer", request=REQUEST, **liar.job())
            assert answer["outcome"] == "refused", change
            if "model_version" in change or "model_name" in change:
                assert "wrong version" in answer["text"]
        liar.server.honest()
        liar.server.fault(liar.where("infer"), status=200, body=reply)
        answer = drive(do="infer", request=REQUEST, **liar.job())
        assert answer["outcome"] == "ok" and json.loads(answer["reply"]) == reply
        liar.server.close()


def test_an_example_that_fails_takes_the_version_down_again(tmp_path, drive):
    liar = Liar("triton", tmp_path)
    job = liar.job(ms=10000)
    job["model"]["example"] = REQUEST
    assert drive(do="make", **job)["ok"] is True
    liar.server.fault(liar.where("infer"), status=400, body={"error": "shape mismatch"})
    answer = drive(do="bring_up", **job)
    assert answer["outcome"] == "refused"
    assert answer["text"] == "the recorded example failed: shape mismatch"
    assert liar.server.loaded == {}
    liar.server.honest()
    assert drive(do="bring_up", **job)["outcome"] == "ok"
    liar.server.close()


def test_only_some_addresses_may_be_called(drive, liar):
    for url in ("http://192.0.2.1:80", "http://example.test:8080", "http://[2001:db8::1]:80"):
        answer = drive(do="ready", **{**liar.job(), "url": url})
        assert answer["outcome"] == "refused" and "--egress-allow" in answer["text"]
        assert answer["took_ms"] < 1000
    port = liar.server.port
    answer = drive(do="ready", **{**liar.job(), "allow": [f"127.0.0.1:{port + 1}"]})
    assert answer["outcome"] == "refused", "a list replaces the default"
    answer = drive(do="ready", **{**liar.job(), "allow": [f"127.0.0.1:{port}"]})
    assert answer["outcome"] in ("not_ready", "not_found")


# --- what is special to one of them ---


def test_triton_must_run_in_explicit_mode(tmp_path, drive):
    liar = Liar("triton", tmp_path)
    liar.server.control_mode = "poll"
    assert drive(do="make", **liar.job())["ok"] is True
    answer = drive(do="bring_up", **liar.job(ms=60000))
    assert answer["outcome"] == "refused"
    assert answer["text"].startswith("Triton must run with --model-control-mode=explicit")
    assert answer["took_ms"] < 20000
    liar.server.close()


def test_a_web_server_is_no_inference_server(tmp_path, drive):
    liar = Liar("oip", tmp_path)
    liar.server.fault(".", status=200, body=b"<html>")
    assert drive(do="bring_up", **liar.job(ms=2000))["outcome"] == "transient"
    liar.server.honest()
    liar.server.fault("GET /v2$", status=404, body=b"nginx")
    answer = drive(do="bring_up", **liar.job(ms=2000))
    assert answer["outcome"] == "refused" and "no Open Inference Protocol" in answer["text"]
    liar.server.close()


def test_webhooks_are_signed_and_say_what_happens(tmp_path, drive):
    liar = Liar("webhook", tmp_path)
    job = liar.job(ms=5000)
    job["model"].pop("dir")
    assert drive(do="bring_up", **job)["outcome"] == "ok"
    assert drive(do="take_down", **job)["outcome"] == "ok"
    weights = {"route": "fraud", "generation": 12, "weights": [
        {"name": "fraud--scorer--3", "version": 3, "weight": 500}]}
    assert drive(do="weights", weights=weights, **job)["outcome"] == "ok"
    kinds = [kind for kind, _ in liar.server.calls]
    assert set(kinds) == {"serving.load", "serving.ready", "serving.unload", "serving.weights"}
    document = liar.server.calls[kinds.index("serving.load")][1]
    assert set(document) == {"type", "time", "environment", "target", "data"}
    assert (document["environment"], document["target"]) == ("production", "eu")
    assert document["data"] == {"name": "fraud--scorer--3", "model": "fraud/scorer", "version": 3,
                                "digest": liar.artifact.digest, "dir": None}
    assert liar.server.calls[-1][1]["data"] == weights
    assert len(liar.server.ids) == len(kinds)
    assert liar.server.tokens == {None}
    settings = liar.backend.settings(token={"env": "open-sesame"})
    assert drive(do="list", **{**job, "settings": settings})["outcome"] == "ok"
    assert liar.server.tokens == {None, "Bearer open-sesame"}
    for bad in ("a\r\nX: y", "", "a b"):
        settings = liar.backend.settings(token={"env": bad})
        assert "no header" in drive(do="list", **{**job, "settings": settings})["text"]
    liar.server.key = Ed25519PrivateKey.generate().public_key()
    assert drive(do="ready", **job)["text"] == "the signature does not hold"
    liar.server.close()


def test_a_webhook_that_means_another_version_is_refused(tmp_path, drive):
    liar = Liar("webhook", tmp_path)
    good = {"ready": True, "name": "fraud--scorer--3", "version": 3,
            "digest": liar.artifact.digest}
    for change, outcome in (({}, "ok"), ({"ready": False}, "not_ready"),
                            ({"ready": 1}, "not_ready"), ({"version": 2}, "refused"),
                            ({"version": "3"}, "refused"),
                            ({"digest": "sha256:" + "0" * 64}, "refused"),
                            ({"name": "fraud--scorer--2"}, "refused")):
        liar.server.honest()
        liar.server.fault(".", status=200, body={**good, **change})
        assert drive(do="ready", **liar.job())["outcome"] == outcome, change
    liar.server.honest()
    liar.server.fault(".", status=202, body=good)
    assert drive(do="ready", **liar.job())["outcome"] == "not_ready"
    liar.server.close()


# --- MLServer, as it really is ---


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if mlserver.environment() is None:
        pytest.skip("MLServer cannot be installed here")
    one = Backend("oip", tmp_path_factory.mktemp("mlserver"))
    one.server = mlserver.MLServer(one.repository).start()
    one.url = one.server.url
    yield one
    one.server.stop()


def test_code_in_an_artifact_is_not_run_by_mlserver(real, drive, tmp_path):
    """MLServer puts the folder of model-settings.json first in Python's path while it imports the
    runtime: whatever is called joblib.py, numpy.py or mlserver_sklearn.py there would run."""
    proof = tmp_path / "ran"
    evil = f"open({str(proof)!r}, 'w').write('ran')\nraise SystemExit\n".encode()
    files = {"model.pkl": mlserver.pickled(3), "model.yaml": b"format: sklearn\n",
             "mlserver_sklearn.py": evil, "joblib.py": evil, "sklearn/__init__.py": evil,
             "mlserver_sklearn/__init__.py": evil, "artifact.py": evil}
    artifact = Artifact(tmp_path / "evil", files)
    version = next(_versions)
    job = real.job(artifact, version, ms=60000)
    assert drive(do="make", **job)["ok"] is True
    assert drive(do="bring_up", **job)["outcome"] == "ok"
    assert real.answers(version) == pytest.approx(12)
    assert not proof.exists()

    # the test tells the difference: one folder higher it is run
    folder = real.repository / "trap"
    folder.mkdir()
    (folder / "mlserver_sklearn.py").write_bytes(evil.replace(b"raise SystemExit\n", b""))
    (folder / "model-settings.json").write_text(json.dumps({
        "name": "trap", "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.pkl"}}), encoding="ascii")
    requests.post(real.url + "/v2/repository/models/trap/load", json={}, timeout=30)
    assert proof.exists()
    shutil.rmtree(folder)
    assert drive(do="take_down", **job)["outcome"] == "ok"
    assert drive(do="remove", **job)["ok"] is True


def test_settings_in_an_artifact_are_refused(drive, tmp_path):
    one = Backend("oip", tmp_path)
    one.url = "http://127.0.0.1:9"
    for path in ("model-settings.json", "deep/er/model-settings.json"):
        artifact = Artifact(tmp_path / path.replace("/", "_"), {
            "model.pkl": b"x", "model.yaml": b"format: sklearn\n", path: b"{}"})
        answer = drive(do="make", **one.job(artifact, 1))
        assert answer["error"] == "invalid" and path in answer["message"]
        assert list(one.repository.iterdir()) == []


def test_a_killed_mlserver_comes_back_with_what_lies_there(real, drive):
    version = next(_versions)
    job = real.job(real.artifact(2), version, ms=60000)
    tree = drive(do="make", **job)["tree"]
    assert drive(do="bring_up", **job)["outcome"] == "ok"
    real.server.kill()
    answer = drive(do="ready", **job)
    assert answer["outcome"] == "unreachable" and answer["took_ms"] < 1000
    assert not drive(do="drift", expected=[{**job["model"], "tree": tree}], **job)["clean"]
    real.server.start()
    assert drive(do="ready", **job)["outcome"] == "ok"
    assert drive(do="drift", expected=[{**job["model"], "tree": tree}], **job)["clean"]
    assert drive(do="take_down", **job)["outcome"] == "ok"
    assert drive(do="remove", **job)["ok"] is True


def test_two_instances_are_one_each(real, drive, tmp_path):
    """Whatever happens to one, the other goes on, and both say so."""
    second = Backend("oip", tmp_path)
    second.server = mlserver.MLServer(second.repository).start()
    second.url = second.server.url
    version, artifact = next(_versions), real.artifact(5)
    jobs = [one.job(artifact, version, ms=60000) for one in (real, second)]
    expected = []
    for job in jobs:
        expected.append({**job["model"], "tree": drive(do="make", **job)["tree"]})
        assert drive(do="bring_up", **job)["outcome"] == "ok"
    assert expected[0]["tree"] == expected[1]["tree"]

    def states():
        answers = [drive(do="drift", expected=[e], **{**job, "ms": 3000})
                   for e, job in zip(expected, jobs)]
        return [[entry["state"] for entry in answer["report"]] for answer in answers]

    assert states() == [["ok"], ["ok"]]
    os.kill(second.server.pid, signal.SIGSTOP)  # it hangs
    answer = drive(do="ready", **{**jobs[1], "ms": 700})
    assert answer["outcome"] == "unreachable" and 600 <= answer["took_ms"] < 2000
    assert states() == [["ok"], ["unreachable"]]
    assert real.answers(version) == pytest.approx(20)
    os.kill(second.server.pid, signal.SIGCONT)
    assert drive(do="ready", **jobs[1])["outcome"] == "ok"
    second.server.kill()  # as for want of memory
    answer = drive(do="take_down", **{**jobs[1], "ms": 1500})
    assert answer["outcome"] == "unreachable" and answer["took_ms"] < 4000
    assert states() == [["ok"], ["unreachable"]]
    shutil.rmtree(second.repository / f"fraud--scorer--{version}")
    second.server.start()
    assert states() == [["ok"], ["missing"]]
    assert drive(do="make", **jobs[1])["tree"] == expected[1]["tree"]
    assert drive(do="bring_up", **jobs[1])["outcome"] == "ok"
    assert states() == [["ok"], ["ok"]]
    for job in jobs:
        assert drive(do="take_down", **job)["outcome"] == "ok"
        assert drive(do="remove", **job)["ok"] is True
    second.server.stop()


def test_no_request_is_lost_while_another_version_comes_and_goes(real, drive):
    version = next(_versions)
    stable = real.job(real.artifact(1), version, ms=60000)
    assert drive(do="make", **stable)["ok"] is True
    assert drive(do="bring_up", **stable)["outcome"] == "ok"
    wrong, done = [], threading.Event()
    slowest = [0.0]

    def load():
        with requests.Session() as session:
            while not done.is_set():
                began = time.monotonic()
                reply = session.post(f"{real.url}/v2/models/fraud--scorer--{version}/infer",
                                     json=REQUEST, timeout=30)
                slowest[0] = max(slowest[0], time.monotonic() - began)
                body = reply.json() if reply.status_code == 200 else {}
                if body.get("model_version") != str(version) or \
                        body["outputs"][0]["data"] != [pytest.approx(4)]:
                    wrong.append((reply.status_code, body))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for factor in (2, 3):
        other = next(_versions)
        job = real.job(real.artifact(factor), other, ms=60000)
        assert drive(do="make", **job)["ok"] is True
        assert drive(do="bring_up", **job)["outcome"] == "ok"
        assert real.answers(other) == pytest.approx(4 * factor)
        assert drive(do="take_down", **job)["outcome"] == "ok"
        assert drive(do="remove", **job)["ok"] is True
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert drive(do="take_down", **stable)["outcome"] == "ok"
    assert drive(do="remove", **stable)["ok"] is True
    print(f"slowest request {slowest[0] * 1000:.0f} ms")
    assert pathlib.Path(f"/proc/{real.server.pid}").exists()
