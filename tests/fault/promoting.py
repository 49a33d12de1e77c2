# SPDX-License-Identifier: Apache-2.0
"""Chapters of promotions that the fault tests break; each may be run again until it is through."""
import time

import requests

from fault.story import Broken, read_log
from support import signing
from support.cli import invite
from support.judged import apply, environment, evaluate, evaluation, metric, policy
from support.oci import Repository, digest, manifest
from support.process import wait_until
from support.transitions import Reading

NS = "fault"
CHECKS = ("[{id: accuracy, type: threshold, metric: accuracy, dataset: fraud/holdout, "
          "at_least: 0.9}]")
RULE = "[{{name: risk, from: ['role:approver'], count: {}, request_ttl: {}}}]"
SHUT = "windows: {deny: [{schedule: '* * * * *', duration: 2m}]}\n"
ENVIRONMENTS = {"two": (RULE.format(2, "72h"), ""), "open": ("[]", ""),
                "short": (RULE.format(1, "1s"), ""), "shut": ("[]", SHUT)}


class World:
    """Who takes part, on servers that come and go; what was acknowledged is in `seen`."""

    def __init__(self, server, root):
        self.server = server
        self.seen = []
        self.number = 0
        self.people = {}
        for name, roles in (("pat", ["contributor", "evaluator", "operator"]),
                            ("dana", ["approver"]), ("eli", ["approver"])):
            person = invite(server, root / name, f"{name}-p", [f"{r}@{NS}" for r in roles])
            person.key_file = person.key()
            person.run("key", "add", f"{person.key_file}.pub")
            self.people[name] = person
        for name, (approvals, more) in ENVIRONMENTS.items():
            self.document(name, approvals, more)
        owners = ", ".join(f"'user:{self.people[n].name}'" for n in ("dana", "eli"))
        self.document("own", "[]", f"owners: [{owners}]\nthreshold: 2\n")

    def document(self, name, approvals, more=""):
        apply(self.server.client(self.server.admin_token), policy(name, CHECKS, approvals)
              + "---\n" + environment(name, f"policy: {name}\nalias: {name}\n{more}"))

    def http(self, name="pat"):
        person = self.people[name]
        person.http = self.server.client(person.token)
        return person.http

    def died(self):
        return self.server.died()

    def ask(self, method, path, name="pat", status=(200, 201), **kwargs):
        try:
            reply = self.http(name).request(method, path, timeout=30, **kwargs)
        except requests.RequestException as e:
            raise Broken(f"{method} {path}: {e}") from e
        if reply.status_code >= 500 or reply.status_code in (408, 429):
            raise Broken(f"{method} {path}: {reply.status_code} {reply.text[:300]}")
        assert reply.status_code in status, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json()

    def model(self):
        self.number += 1
        return Model(self, f"{NS}/p{self.number}")

    def read(self):
        """The log as a second verifier reads it, and what it says about promotions."""
        log = read_log(self.server)
        need = {"two": 2, "short": 1}
        return log, Reading(lambda env: need.get(env, 0)).read(log.entries)

    def check(self):
        """Nothing acknowledged is lost, nothing illegal happened; returns the log."""
        last = {}

        def complete():
            log, reading = self.read()
            missing = [s for s in self.seen if s[1] not in reading.history.get(s[0], [])]
            last.update(log=log, reading=reading, missing=missing)
            return not missing

        wait_until(complete, 15, "what was acknowledged is in the log")
        assert last["reading"].wrong == []
        return last["log"]


class Model:
    """Of one chapter. Versions are pushed before anything breaks."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.ids = {}

    def version(self, text, accuracy=0.95):
        http = self.world.http()
        repo = Repository(http, self.name)
        data = f"{self.name} {text}".encode()
        for blob in (b"{}", data):
            repo.push(blob)
        body = manifest(layers=[data])
        repo.put_manifest(digest(body), body)
        made = http.ok("POST", f"/api/v1/models/{self.name}/versions",
                       json={"digest": digest(body)})["version"]
        if accuracy is not None:
            evaluate(http, self.name, made, evaluation(metric("accuracy", accuracy, 171)))
        return made

    def evaluate(self, version, accuracy, n=500):
        self.world.ask("POST", f"/api/v1/models/{self.name}/versions/{version}/evaluations",
                       json=evaluation(metric("accuracy", accuracy, n)))

    def promote(self, key, version, environment_name, **more):
        if key not in self.ids:
            made = self.world.ask("POST", "/api/v1/promotions", json={
                "model": self.name, "version": str(version), "environment": environment_name,
                "reason": "drill", **more})
            self.ids[key] = made["id"]
            self.world.seen.append((made["id"], made["state"]))
        return self.ids[key]

    def get(self, key):
        return self.world.ask("GET", f"/api/v1/promotions/{self.ids[key]}")

    def wait(self, key, *states, seconds=20):
        end = time.monotonic() + seconds
        while True:
            shown = self.get(key)
            self.world.seen.append((shown["id"], shown["state"]))
            if shown["state"] in states:
                return shown
            if self.world.died() or time.monotonic() > end:
                raise Broken(f"{key} is {shown['state']}, not {states}")
            time.sleep(0.03)

    def approve(self, key, *names):
        for name in names:
            shown = self.wait(key, "awaiting_approval", "approved", "scheduled", "live", "replaced")
            person = self.world.people[name]
            if shown["state"] != "awaiting_approval" or person.id in {
                    a["signer"]["id"] for a in shown["approvals"] if not a["void"]}:
                continue
            sign(self.world, name, f"/api/v1/promotions/{shown['id']}")

    def live(self, environment_name):
        page = self.world.ask("GET", "/api/v1/environments",
                              params={"environment": environment_name, "model": self.name})
        rows = [r for r in page["items"][0]["live"] if r["model"] == self.name]
        alias = self.world.ask("GET", f"/api/v1/models/{self.name}/aliases/{environment_name}",
                               status=(200, 404)).get("version")
        assert [r["version"] for r in rows] == ([alias] if alias else []), (rows, alias)
        return alias


def sign(world, name, path, **more):
    evidence = world.ask("GET", f"{path}/evidence", name, status=(200, 409))
    if "statement" not in evidence:
        raise Broken(f"{path} is judged again")
    body = signing.body(evidence, world.people[name].key_file, **more)
    return world.ask("POST", f"{path}/approvals", name, status=(201, 409, 422), json=body)


# --- chapters: each prepares, and gives the part that is broken ---

def two_approvals(world):
    m = world.model()
    version = m.version("a")

    def run():
        m.promote("a", version, "two")
        m.approve("a", "dana", "eli")
        m.wait("a", "live")
        assert m.live("two") == version
    return run


def replaced(world):
    m = world.model()
    one, two = m.version("a"), m.version("b")
    m.promote("a", one, "open")
    m.wait("a", "live")

    def run():
        m.promote("b", two, "open")
        m.wait("b", "live", "rolled_back")
        m.wait("a", "replaced")
        if m.get("b")["state"] == "live":
            world.ask("POST", "/api/v1/rollbacks", json={
                "environment": "open", "model": m.name, "reason": "drill"})
        m.wait("b", "rolled_back")
        assert m.live("open") == one
    return run


def held(world):
    m = world.model()
    version = m.version("a", None)

    def run():
        m.promote("a", version, "two")
        m.wait("a", "held", "awaiting_approval", "cancelled")
        m.evaluate(version, 0.95)
        m.wait("a", "awaiting_approval", "cancelled")
        world.ask("POST", f"/api/v1/promotions/{m.ids['a']}/cancel", json={"reason": "drill"})
        m.wait("a", "cancelled")
    return run


def superseded(world):
    m = world.model()
    one, two = m.version("a"), m.version("b", 0.5)

    def run():
        m.promote("a", one, "two")
        m.wait("a", "awaiting_approval", "superseded")
        m.promote("b", two, "two", supersede=True)
        m.wait("a", "superseded")
        m.wait("b", "rejected")
        assert m.live("two") is None
    return run


def expired(world):
    m = world.model()
    version = m.version("a")

    def run():
        m.promote("a", version, "short")
        m.wait("a", "expired")
    return run


def judged_again(world):
    """A bound digest changes: the approval is void, and it is evaluated anew."""
    m = world.model()
    version = m.version("a")
    m.promote("a", version, "two")
    m.approve("a", "dana")

    def run():
        m.evaluate(version, 0.93)
        end = time.monotonic() + 15
        while not all(a["void"] for a in m.get("a")["approvals"][:1]):
            if world.died() or time.monotonic() > end:
                raise Broken("its approval still stands")
            time.sleep(0.03)
        m.approve("a", "dana", "eli")
        m.wait("a", "live")
        assert m.live("two") == version
    return run


def rejected_by_a_person(world):
    m = world.model()
    version = m.version("a")
    m.promote("a", version, "two")
    m.wait("a", "awaiting_approval")

    def run():
        if m.get("a")["state"] != "rejected":
            sign(world, "dana", f"/api/v1/promotions/{m.ids['a']}", decision="reject")
        m.wait("a", "rejected")
    return run


def scheduled(world):
    m = world.model()
    version = m.version("a")
    world.document("shut", "[]", SHUT)

    def run():
        m.promote("a", version, "shut")
        m.wait("a", "scheduled", "live")
        try:
            world.document("shut", "[]")
        except requests.RequestException as e:
            raise Broken(str(e)) from e
        m.wait("a", "live")
        assert m.live("shut") == version
    return run


def change_applied(world):
    checks = CHECKS.replace("0.9}", f"0.9{world.number:03}}}")
    world.number += 1
    pending = apply(world.server.client(world.server.admin_token),
                    policy("own", checks, "[]"))["pending"][0]["id"]

    def state():
        return world.ask("GET", f"/api/v1/changes/{pending}")["change"]

    def run():
        for name in ("dana", "eli"):
            now = state()
            if now["state"] == "pending" and world.people[name].id not in {
                    a["signer"]["id"] for a in now["approvals"]}:
                sign(world, name, f"/api/v1/changes/{pending}")
        assert state()["state"] == "applied" and state()["have"] == 2
        shown = world.ask("GET", "/api/v1/documents/Policy/own")
        assert shown["digest"] == state()["after"]
    return run


# which moves, in one transaction each, happen in which chapter
CHAPTERS = {
    two_approvals: ["evaluating", "awaiting_approval", "approval", "approval+approved", "live"],
    replaced: ["approved", "replaced+live", "rolled_back+rollback"],
    held: ["held", "evaluating", "cancelled"],
    superseded: ["superseded+evaluating", "rejected"],
    expired: ["expired"],
    judged_again: ["evaluating"],
    rejected_by_a_person: ["approval+rejected"],
    scheduled: ["scheduled"],
    change_applied: ["approval", "approval+applied"],
}
