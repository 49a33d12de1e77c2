# SPDX-License-Identifier: Apache-2.0
"""An environment with serving instances, a gateway and traffic, for tests of rollouts."""
import collections
import contextlib
import http.client
import json
import random
import socket
import subprocess
import threading
import time

from . import judged
from .fake_triton import FakeTriton
from .gateway import Client
from .process import wait_until
from .server import Directories, Server, build_directory

GATEWAY = ("--gateway", "127.0.0.1:0")


@contextlib.contextmanager
def serving(root, *options):
    """A server that writes below `root` (its .roots); in the end `mlctld check` finds it whole."""
    directories = Directories()
    one = Server(directories.new(), options=["--serving-root", root, *options])
    one.roots = root
    one.start()
    yield one
    done = subprocess.run([build_directory() / "mlctld", "check", "--data", one.directory],
                          capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["ok"] is True, done.stdout
    one.stop()
    directories.remove()


MODEL_YAML = b"format: onnx\nprotocol: oip\n"


class Serving(FakeTriton):
    """A fake Triton whose models may err, be slow, or die while they answer.

    errors: {name: share of inferences that get a 500}; slow: {name: seconds}; says: {name: what
    becomes of (status, reply)}; flaps: {name: how many questions whether it is ready get no for
    every second answer}.
    """

    def __init__(self, repository, **more):
        self.errors, self.slow, self.says, self.flaps = {}, {}, {}, {}
        self.random = random.Random(7)
        self.connections = set()
        self.alive = True
        super().__init__(repository, **more)
        accept = self._server.get_request

        def get_request():
            made = accept()
            self.connections.add(made[0])
            return made
        self._server.get_request = get_request

    def kill(self):
        """As kill -9 would: nobody listens, connections break."""
        self.alive = False
        self._server.socket.close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def start_anew(self):
        """With nothing loaded."""
        Serving.__init__(self, self.repository, port=self.port)

    def ready(self, name, version, body):
        left = self.flaps.get(name, 0)
        if left:
            self.flaps[name] = left - 1
            if left % 2:
                return 400, {"error": "Model version not ready"}
        return super().ready(name, version, body)

    def infer(self, name, version, body):
        if name in self.says:
            return self.says[name](*super().infer(name, version or name.rpartition("--")[2], body))
        time.sleep(self.slow.get(name, 0))
        if self.random.random() < self.errors.get(name, 0):
            return 500, {"error": "out of memory"}
        return super().infer(name, version or name.rpartition("--")[2], body)


class Site:
    """An environment whose models are served by two instances behind the server's gateway.

    The server runs with --gateway and --serving-root ROOT; repositories are made below ROOT.
    """

    def __init__(self, server, people, root, more="", traffic=None, serving=Serving):
        self.server, self.people = server, people
        self.admin = server.client(server.admin_token)
        self.env = judged.fresh("online")
        self.alias = f"alias: {self.env}\n"
        self.control = f"unix:{server.directory}/gateway/control.sock"
        self.traffic = traffic or f"{{driver: nginx, control: '{self.control}'}}"
        self.serving = ""  # more settings, "key: value, "
        self.instances = []
        for name in ("a", "b"):
            folder = root / f"{self.env}-{name}"
            folder.mkdir()
            self.instances.append(serving(folder))
        self.apply(more)

    def apply(self, more=""):
        instances = ", ".join(f"{{url: {i.url}, repository: {{dir: {i.repository}}}}}"
                              for i in self.instances)
        judged.apply(self.admin, judged.policy(self.env) + "---\n" + judged.environment(
            self.env, f"policy: {self.env}\n{self.alias}targets:\n"
            "  - name: eu\n"
            f"    serving: {{driver: triton, {self.serving}instances: [{instances}]}}\n"
            f"    traffic: {self.traffic}\n{more}"))

    @property
    def port(self):
        address = (self.server.directory / "gateway-address").read_text(encoding="ascii")
        return int(address.strip().rpartition(":")[2])

    def close(self):
        for instance in self.instances:
            instance.close()


class Case:
    """A model of this test's own, behind a route of its own."""

    def __init__(self, site, model, rollout):
        self.site, self.model, self.admin = site, model, site.admin
        self.env, self.instances = site.env, site.instances
        self.route = judged.fresh("route")
        self.apply(rollout)

    def document(self, rollout, more="", key="header:X-User-Id"):
        """`more`: further members of the route."""
        return ("apiVersion: mlctl/v1\nkind: Model\n"
                f"name: {self.model.name}\nroutes: [{{route: {self.route}, "
                f"key: '{key}', environments: [{self.env}]{more}}}]\n"
                f"rollout: {json.dumps(rollout)}\n")

    def apply(self, rollout, *more, **how):
        judged.apply(self.admin, self.document(rollout, *more, **how))

    def version(self, factor=1, declares=""):
        """`declares`: further lines of model.yaml."""
        made = self.model.version(files={"model.onnx": b"times %d\n" % factor + random.randbytes(8),
                                         "model.yaml": MODEL_YAML + declares.encode()})
        return made["version"]

    def promote(self, version, **more):
        reply = self.model.http.post("/api/v1/promotions", json={
            "model": self.model.name, "version": str(version), "environment": self.env,
            "reason": "tests", **more})
        assert reply.status_code in (200, 201), reply.text
        return reply.json()["id"]

    def promotion(self, promotion):
        return self.model.http.ok("GET", f"/api/v1/promotions/{promotion}")

    def rollout(self, promotion):
        rollout = wait_until(lambda: self.promotion(promotion)["rollout"], 20,
                             f"{promotion} rolls out")
        return self.model.http.ok("GET", f"/api/v1/rollouts/{rollout}")

    def wait(self, promotion, *states, seconds=60):
        try:
            return wait_until(lambda: (lambda p: p if p["state"] in states else None)(
                self.promotion(promotion)), seconds, f"{promotion} becomes {states}")
        except TimeoutError as error:  # why not: what the rollout says
            raise TimeoutError(f"{error}: {json.dumps(self.rollout(promotion))}") from None

    def wait_rollout(self, promotion, test, seconds=60, what="the rollout gets there"):
        return wait_until(lambda: (lambda r: r if test(r) else None)(self.rollout(promotion)),
                          seconds, what)

    def to_live(self, version, seconds=60):
        promotion = self.promote(version)
        self.wait(promotion, "live", seconds=seconds)
        return promotion

    def act(self, who, rollout, what, status=200):
        reply = who.http.post(f"/api/v1/rollouts/{rollout}/{what}", json={"reason": "tests"})
        assert reply.status_code == status, reply.text
        return reply.json()

    def client(self):
        return Client(self.site.port)

    def infer(self, user="u"):
        client = self.client()
        try:
            return client.infer(route=self.route, user=user)
        finally:
            client.close()

    def load(self, threads=4, pause=0.002, check=None):
        return SiteLoad(self.site.port, threads=threads, pause=pause, check=check, route=self.route)

    def name(self, version):
        ns, _, model = self.model.name.partition("/")
        return f"{ns}--{model}--{version}"

    def fail(self, version, share):
        for instance in self.instances:
            instance.errors[self.name(version)] = share


class SiteLoad:
    """Threads that ask all the time, each on one connection; what failed is kept, not repeated."""

    def __init__(self, port, route, threads=4, pause=0.002, check=None):
        self.port, self.route, self.pause, self.check = port, route, pause, check
        self.done, self.failed, self.versions = 0, [], collections.Counter()
        self.failed_of = collections.Counter()  # by version; None: not even an answer
        self._end, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True)
                         for n in range(threads)]

    def _run(self, number):
        client = Client(self.port)
        n = 0
        while not self._end.is_set():
            n += 1
            try:
                status, headers, document = client.infer(route=self.route, user=f"u{number}-{n}")
                wrong = None if status == 200 else f"{status} {document}"
                if wrong is None and self.check:
                    wrong = self.check(headers, document)
                version = headers.get("X-Mlctl-Version")
            except (OSError, http.client.HTTPException) as error:
                wrong, version = repr(error), None
                client.close()
            with self._lock:
                self.done += 1
                self.versions[version] += 1
                if wrong:
                    self.failed.append(wrong)
                    self.failed_of[version] += 1
            time.sleep(self.pause)
        client.close()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join(30)
