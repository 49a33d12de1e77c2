# SPDX-License-Identifier: Apache-2.0
"""An administrator with every token, the database's superuser and leaves that the server signs for
them, but without an owner's key, makes a version live: `mlctl audit verify --trust` names it."""
import hashlib
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from support import gate, signing
from support.cli import Person, invite
from support.fake_adapter import FakeAdapter
from support.gateway import Gateway
from support.process import account, wait_until
from support.server import Directories, Server

REPLICA = "SET session_replication_role = replica;"  # no triggers, as who owns the cluster can
NS = "prom"
MODEL = f"{NS}/scorer"
APPROVALS = 'approvals: [{name: risk, from: ["role:approver"], count: 2}]'
PROTECTED = gate.documents(approvals=APPROVALS).replace(
    "alias: champion\n", "alias: champion\nowners: [user:dana, user:eli]\nthreshold: 2\n")
LAX = PROTECTED.replace("count: 2", "count: 1").replace("role:approver", "user:mallory")


class Scene:
    """A server, and people by name as attributes; `admin` has every token there is."""

    def __init__(self, server, homes, people=()):
        self.server = server
        self.homes = homes
        for name, token in people:
            self.add(name, token)

    def add(self, name, token):
        person = Person(self.homes / name, self.server.url, token)
        person.name = name
        person.http = self.server.client(token)
        person.key_file = person.home / ".ssh/id_ed25519"
        setattr(self, name, person)
        return person

    def invite(self, name, *roles):
        person = invite(self.server, self.homes / name, name, roles)
        person.key_file = person.key()
        person.run("key", "add", f"{person.key_file}.pub")
        setattr(self, name, person)
        return person

    # --- the legitimate way ---

    def push(self, content):
        """One more version, evaluated."""
        ref = gate.push(self.kim, self.kim.home / "m", content, model=MODEL)
        self.kim.run("evaluate", ref, "-f",
                     gate.write_evaluation(self.kim.home / "eval.json", 0.95))
        return ref

    def promote(self, ref, *approvers):
        """Promoted and approved; waits until it is live."""
        made = self.kim.json("promote", ref, "--to", "production", "--reason", "better")
        for person in approvers:
            person.run("approve", made["id"], "--key", person.key_file, "--reason", "looked at it")
        self.live(made["id"])
        return made["id"]

    def live(self, promotion):
        def state():
            shown = self.kim.json("promotion", "show", promotion)
            assert shown["state"] in ("approved", "rolling_out", "live"), shown
            return shown["state"] == "live"
        wait_until(state, 30, "it is live")

    def sign(self, change):
        for person in (self.dana, self.eli):
            person.run("approve", change, "--key", person.key_file, "--reason", "agreed")

    def change(self, documents):
        """Applied and signed by the owners."""
        done = self.root.json("apply", "-f", "-", stdin=documents)
        assert done["pending"], done
        for pending in done["pending"]:
            self.sign(pending["id"])

    # --- the other way ---

    def sql(self, text):
        host = self.server.directory / "postgres"
        done = subprocess.run(
            ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", text,
             f"host={host} user=postgres dbname=mlctl"], capture_output=True, text=True,
            check=False, cwd="/", env={"PATH": os.environ["PATH"]}, **account("postgres"))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def forge(self, action, oid, state, detail=None):
        """A leaf as the server would write it; the leader signs it with the rest. Its hash."""
        kind = "document" if action.startswith("document") else action.split(".")[0]
        before = next((json.loads(text)["after"] for text in self.leaves(kind, oid)), None)
        now = time.gmtime()
        doc = {"type": "urn:mlctl:leaf:v1", "log": self.origin, "actor": "system", "action": action,
               "time": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", now), "kind": kind, "id": oid,
               "before": before, "state": state, "detail": detail or {},
               "after": "sha256:" + hashlib.sha256(signing.canonical(state).encode()).hexdigest()}
        leaf = signing.canonical(doc).encode()
        hashed = hashlib.sha256(b"\0" + leaf).hexdigest()
        model = f"'{MODEL}'" if MODEL in oid else "null"
        self.sql("INSERT INTO audit_outbox (leaf, leaf_hash, actor, action, kind, object_id,"
                 f" model, time) VALUES ('\\x{leaf.hex()}', '\\x{hashed}', 'system', '{action}',"
                 f" '{kind}', '{oid}', {model}, now())")
        return hashed

    def leaves(self, kind, oid):
        """Of an object, the newest first."""
        rows = self.sql(
            "SELECT encode(leaf, 'hex') FROM (SELECT leaf, 1 AS w, id AS i, kind, object_id FROM"
            " audit_outbox UNION ALL SELECT l.leaf, 0, l.idx, s.kind, s.object_id FROM audit_log l"
            " JOIN audit_search s ON s.log_id = l.log_id AND s.idx = l.idx) x"
            f" WHERE kind = '{kind}' AND object_id = '{oid}' ORDER BY w DESC, i DESC")
        return [bytes.fromhex(row).decode() for row in rows.splitlines()]

    @property
    def origin(self):
        return self.sql("SELECT origin FROM audit_origin ORDER BY log_id DESC LIMIT 1")

    def state(self, view, kind, oid):
        """A governed object as its row says."""
        return json.loads(self.sql(f"SELECT state FROM {view} WHERE object_kind = '{kind}' AND"
                                   f" id = '{oid}'"))

    def make_live(self, promotion, ref):
        """Rows and leaves of a version that goes live, whatever its promotion says."""
        version = int(ref.rsplit(":", 1)[1])
        live = f"production/{MODEL}"
        old = json.loads(self.leaves("live", live)[0])["state"]["promotion"]
        self.sql(f"{REPLICA} UPDATE promotion SET state = 'replaced' WHERE id = '{old}'; UPDATE"
                 f" promotion SET state = 'live', live_since = date_trunc('milliseconds', now())"
                 f" WHERE id = '{promotion}'; UPDATE environment_live SET version = {version},"
                 f" digest = (SELECT digest FROM promotion WHERE id = '{promotion}'), promotion ="
                 f" '{promotion}', since = date_trunc('milliseconds', now())")
        for one in (old, promotion):
            self.forge("promotion.change", one, self.state("promotion_states", "promotion", one))
        self.forge("live.set", live, self.state("promotion_states", "live", live))
        self.move_alias(ref)

    def move_alias(self, ref):
        version = int(ref.rsplit(":", 1)[1])
        self.sql(f"{REPLICA} UPDATE alias SET number = {version} WHERE alias = 'champion'")
        digest = self.sql(f"SELECT digest FROM version WHERE number = {version}")
        leaf = self.forge("alias.set", f"{MODEL}:champion",
                          {"model": MODEL, "alias": "champion", "version": version,
                           "digest": digest})
        self.sql(f"{REPLICA} INSERT INTO alias_history (model_id, alias, number, at, actor, leaf)"
                 f" SELECT id, 'champion', {version}, now(), 'system', '\\x{leaf}' FROM model")

    def write_document(self, kind, text):
        """A version of a document that no owner signed: rows and leaf."""
        old = self.state("gate_state", "document", f"{kind}/production")
        normal = text(json.loads(self.sql("SELECT v.normal FROM document d JOIN document_version v"
                                          f" USING (kind, name, number) WHERE kind = '{kind}' AND"
                                          " name = 'production'")))
        canonical = signing.canonical(normal)
        digest = "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
        commit = hashlib.sha1(canonical.encode()).hexdigest()
        state = {**old, "version": old["version"] + 1, "digest": digest, "commit": commit,
                 "owners": normal.get("owners"), "threshold": normal.get("threshold")}
        leaf = self.forge("document.apply", f"{kind}/production", state, {"document": normal})
        self.sql(f"{REPLICA} INSERT INTO document_version (kind, name, number, seq, digest, yaml,"
                 f" normal, commit_oid, author, at, leaf) SELECT '{kind}', 'production',"
                 f" {state['version']}, max(seq) + 1, '{digest}', '{canonical}', '{canonical}',"
                 f" '{commit}', '{old['author']}', now(), '\\x{leaf}' FROM document_version;"
                 f" UPDATE document SET number = {state['version']}, digest = '{digest}' WHERE kind"
                 f" = '{kind}' AND name = 'production'; UPDATE document_head SET seq = seq + 1")

    def impersonate(self, name):
        """Logged in as somebody else, by an invitation: administrators may send one."""
        admin = self.server.client(self.server.admin_token)
        made = admin.ok("POST", f"/api/v1/users/{name}/invite")
        token = self.server.client().ok("POST", "/api/v1/login",
                                        json={"invite": made["invite"]})["token"]
        person = Person(self.homes / f"not-{name}", self.server.url, token)
        person.http = self.server.client(token)
        person.key_file = person.key()
        person.id = made["id"]
        return person

    def give_key(self, person):
        """The administrator's key, as that person's."""
        kind, public = person.key_file.with_suffix(".pub").read_text().split()[:2]
        shown = subprocess.run(["ssh-keygen", "-l", "-f", f"{person.key_file}.pub"], check=True,
                               capture_output=True, text=True).stdout
        fingerprint = shown.split()[1]
        key = "k" + hashlib.sha256(public.encode()).hexdigest()[:12]
        self.sql(f"INSERT INTO ssh_key (id, user_id, type, public, fingerprint) VALUES ('{key}',"
                 f" '{person.id}', '{kind}', '{public}', '{fingerprint}')")
        self.forge("key.add", key, {"user": person.id, "type": kind, "public": public,
                                    "fingerprint": fingerprint, "revoked": False})

    def give_role(self, user, role, ns):
        self.sql(f"INSERT INTO role_grant (user_id, role, ns) VALUES ('{user}', '{role}', '{ns}')")
        self.forge("role.grant", f"{user}/{role}@{ns}",
                   {"user": user, "role": role, "namespace": ns})

    # --- what auditors see ---

    def verify(self, *where, status=0):
        done = self.dana.run("--output", "json", "audit", "verify", "--trust", self.trust, *where,
                             status=status)
        return json.loads(done.stdout)

    def verify_both(self, status=0):
        """By the server, and by a copy of its files once all that happened is in them."""
        online = self.verify(status=status)
        wait_until(lambda: self.sql("SELECT count(*) FROM audit_outbox") == "0", 20,
                   "all is sequenced")
        copy = self.homes / "log"
        for _ in range(20):  # a copy of files that change meanwhile may not fit together
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(self.server.directory / "log", copy)
            done = self.dana.run("--output", "json", "audit", "verify", "--trust", self.trust,
                                 "--log", copy, status=None)
            offline = json.loads(done.stdout)
            if offline["ok"] == online["ok"]:
                break
            time.sleep(0.3)
        return online, offline

    def caught(self, *words):
        for found in self.verify_both(status=1):
            assert found["ok"] is False
            for word in words:
                assert re.search(word, found["what"]), found
            assert found["index"] > 0


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Stopped: an environment of dana's and eli's with two versions gone live, one waiting."""
    directories = Directories()
    one = Server(directories.new())
    homes = tmp_path_factory.mktemp("custody")
    try:
        one.start()
        scene = Scene(one, homes)
        scene.invite("root", "admin", "auditor")
        scene.invite("kim", f"contributor@{NS}", f"evaluator@{NS}", f"operator@{NS}")
        scene.invite("dana", "auditor")
        scene.invite("eli")
        scene.invite("ada", f"approver@{NS}")
        scene.invite("bob", f"approver@{NS}")
        scene.invite("mallory", f"contributor@{NS}")
        scene.invite("trent", f"contributor@{NS}")
        done = scene.root.json("apply", "-f", "-", stdin=PROTECTED)
        assert len(done["applied"]) == 2, done
        first, second, _ = scene.push("one"), scene.push("two"), scene.push("three")
        scene.promote(first, scene.ada, scene.bob)
        scene.promote(second, scene.ada, scene.bob)
        scene.trust = homes / "trust"
        scene.trust.write_text(scene.mallory.run("audit", "trust").stdout)
        people = [(name, getattr(scene, name).token) for name in
                  ("root", "kim", "dana", "eli", "ada", "bob", "mallory", "trent")]
        ids = {name: getattr(scene, name).id for name, _ in people}
        one.stop()
        yield one.directory, homes, people, ids
    finally:
        one.kill()
        directories.remove()


@pytest.fixture
def scene(template, tmp_path):
    directory, homes, people, ids = template
    directories = Directories()
    directories.base.chmod(0o711)  # psql runs as postgres
    where = directories.new()
    subprocess.run(["cp", "-aT", directory, where], check=True)
    subprocess.run(["cp", "-aT", homes, tmp_path / "homes"], check=True)
    for pin in (tmp_path / "homes").glob("*/.local/state/mlctl/log-*.json"):
        pin.unlink()  # it was another address
    server = Server(where)
    try:
        server.start()
        one = Scene(server, tmp_path / "homes", people)
        for name, user in ids.items():
            getattr(one, name).id = user
            getattr(one, name).run("whoami", "--quiet")
        one.trust = tmp_path / "homes/trust"
        yield one
        server.stop()
    finally:
        server.kill()
        directories.remove()


def awaiting(scene, ref=f"{MODEL}:3"):
    return scene.kim.json("promote", ref, "--to", "production", "--reason", "mine")["id"]


def test_the_owners_way_passes(scene):
    text = scene.trust.read_text(encoding="utf-8").splitlines()
    assert text[1] == "environment production 2" and text[2].startswith("ssh-ed25519 ")
    for found in scene.verify_both():
        assert found["ok"] is True
        assert found["environments"] == [{"name": "production", "protected": True}]
    assert "protected  production" in scene.dana.run("audit", "verify", "--trust",
                                                     scene.trust).stdout

    scene.kim.run("rollback", MODEL, "--in", "production", "--reason", "slow")
    scene.promote(f"{MODEL}:3", scene.ada, scene.bob)
    shown = scene.kim.run("rollback", MODEL, "--in", "production", "--to", f"{MODEL}:2", "--key",
                          scene.kim.key_file, "--reason", "the one before that")
    assert "live" in shown.stdout
    scene.root.http.ok("POST", "/api/v1/users/trent/roles", json={"role": f"approver@{NS}"})
    wait = [i for i in scene.dana.json("inbox") if i["kind"] == "change"]
    assert len(wait) == 1
    scene.sign(wait[0]["id"])
    new = scene.ada.key(name="second")
    scene.ada.run("key", "add", f"{new}.pub")
    wait = [i for i in scene.dana.json("inbox") if i["kind"] == "change"]
    assert len(wait) == 1
    scene.sign(wait[0]["id"])
    scene.change(PROTECTED.replace("name: risk", "name: danger"))
    scene.ada.key_file = new
    scene.promote(scene.push("four"), scene.ada, scene.trent)
    scene.change(PROTECTED.replace("user:eli", "user:eli, user:ada"))
    scene.change(PROTECTED.replace("user:eli", "user:ada"))
    for found in scene.verify_both():
        assert found["ok"] is True, found
    assert scene.mallory.run("audit", "trust").stdout.splitlines()[:5] == text[:5]

    unprotected = gate.documents("staging", "next")
    scene.root.run("apply", "-f", "-", stdin=unprotected)
    assert {"name": "staging", "protected": False} in scene.verify()["environments"]
    shown = scene.dana.run("audit", "verify", "--trust", scene.trust).stdout
    assert "unprotected  staging" in shown


class Trusting(FakeAdapter):
    """An inference server that does not ask who calls."""

    def __init__(self):
        super().__init__(bytes(32))

    def verify(self, headers, body):
        return True


def test_the_owners_way_passes_with_rollouts(scene, tmp_path):
    """What is live, and the alias, move with the traffic and by the same approvals."""
    gateway = Gateway(tmp_path / "gw").start()
    with Trusting() as adapter:
        targets = (f"targets:\n  - name: eu\n    serving: {{driver: webhook, instances: [{{url: "
                   f"'{adapter.url}/hook'}}]}}\n    traffic: {{driver: nginx, control: "
                   f"'unix:{gateway.path}'}}\n")
        scene.change(PROTECTED.replace("threshold: 2\n", f"threshold: 2\n{targets}"))
        # owners sign for a model's routes: they must be able to read it
        scene.root.http.ok("POST", "/api/v1/users/eli/roles", json={"role": "auditor"})
        for wait in [i for i in scene.dana.json("inbox") if i["kind"] == "change"]:
            scene.sign(wait["id"])
        scene.change(
            f"apiVersion: mlctl/v1\nkind: Model\nname: {MODEL}\nrollout: {{strategy: blue-green}}"
            "\nroutes: [{route: fraud, environments: [production]}]\n")
        promotion = scene.promote(f"{MODEL}:3", scene.ada, scene.bob)
        assert scene.kim.json("promotion", "show", promotion)["rollout"]
        assert [v["version"] for r in gateway.table()["routes"] for v in r["variants"]] == [3]
        scene.kim.run("rollback", MODEL, "--in", "production", "--reason", "slow")
        wait_until(lambda: [v["version"] for r in gateway.table()["routes"]
                            for v in r["variants"]] == [2], 30, "the one before gets the traffic")
        for found in scene.verify_both():
            assert found["ok"] is True, found
            assert {"name": "production", "protected": True} in found["environments"]
        assert "protected  production" in scene.dana.run("audit", "verify", "--trust",
                                                         scene.trust).stdout
    gateway.stop()


STEPS = ("{strategy: none, steps: [{weight: 50%, approvals: [{name: go, from: ['role:approver'], "
         "count: 2}]}, {weight: 100%}]}")


def test_steps_of_rollouts(scene, tmp_path):
    """Each step by its own signatures; a version that is made live past them is named."""
    gateway = Gateway(tmp_path / "gw").start()
    with Trusting() as adapter:
        targets = (f"targets:\n  - name: eu\n    serving: {{driver: webhook, instances: [{{url: "
                   f"'{adapter.url}/hook'}}]}}\n    traffic: {{driver: nginx, control: "
                   f"'unix:{gateway.path}'}}\n")
        scene.change(PROTECTED.replace("threshold: 2\n", f"threshold: 2\n{targets}"))
        done = scene.root.json("apply", "-f", "-", stdin="apiVersion: mlctl/v1\nkind: Model\n"
                               f"name: {MODEL}\nrollout: {STEPS}\n")
        assert done["pending"] == [], done

        def begin(ref):
            made = scene.kim.json("promote", ref, "--to", "production", "--reason", "better")["id"]
            for person in (scene.ada, scene.bob):
                person.run("approve", made, "--key", person.key_file, "--reason", "looked at it")
            rollout = wait_until(lambda: scene.kim.json("promotion", "show", made)["rollout"], 30,
                                 "it rolls out")
            wait_until(lambda: scene.kim.json("rollout", "show", rollout)["approval"], 30,
                       "approvals are asked for")
            return made, rollout
        promotion, rollout = begin(f"{MODEL}:3")
        scene.kim.run("approve", rollout, "--key", scene.kim.key_file, "--reason", "mine", status=2)
        for person in (scene.ada, scene.bob):
            person.run("approve", rollout, "--key", person.key_file, "--reason", "it is fine")
        scene.live(promotion)
        for found in scene.verify_both():
            assert found["ok"] is True, found
        ref = scene.push("five")
        promotion, rollout = begin(ref)
        scene.make_live(promotion, ref)
        scene.caught("without the approvals that steps of its rollout ask for")
    gateway.stop()


def test_other_founding_owners(scene):
    lines = scene.trust.read_text(encoding="utf-8").splitlines(keepends=True)
    mine = (scene.mallory.home / ".ssh/id_ed25519.pub").read_text()
    scene.trust.write_text("".join([*lines[:3], mine, *lines[4:]]))
    scene.caught("environment 'production' has other founding owners")
    scene.trust.write_text(lines[0])
    for found in scene.verify_both():
        assert found["environments"] == [{"name": "production", "protected": False}]


def test_leaves_alone(scene):
    """Everything as if it had been approved, but for the signatures."""
    promotion = awaiting(scene)
    scene.make_live(promotion, f"{MODEL}:3")
    scene.caught(rf"{MODEL}:3 goes live in 'production' .* rule 'risk' has 0 of 2")


def test_the_alias_alone(scene):
    scene.move_alias(f"{MODEL}:3")
    scene.caught("alias 'prom/scorer:champion' moves to what is not live in 'production'")


def test_approvers_of_ones_own(scene):
    for person in (scene.mallory, scene.trent):
        reply = scene.root.http.post(f"/api/v1/users/{person.name}/roles",
                                     json={"role": f"approver@{NS}"})
        assert reply.status_code == 202, reply.text  # by the API it waits for the owners
        scene.give_role(person.id, "approver", NS)
    scene.server.restart()  # what it remembers of roles
    for name in ("kim", "dana", "mallory", "trent"):
        getattr(scene, name).env["MLCTL_SERVER"] = scene.server.url
    scene.promote(f"{MODEL}:3", scene.mallory, scene.trent)  # all the rest by the API
    scene.caught("rule 'risk' has 0 of 2", "no owners signed for role 'u[0-9a-f]*/approver@prom'")


def test_keys_of_ones_own(scene):
    approvers = [scene.impersonate(name) for name in ("ada", "bob")]
    for person in approvers:
        scene.give_key(person)
    scene.promote(f"{MODEL}:3", *approvers)
    scene.caught("rule 'risk' has 0 of 2", "no owners signed for its key")


def test_rules_of_ones_own(scene):
    scene.write_document("Policy", lambda doc: {**doc, "approvals": []})
    promotion = awaiting(scene)
    scene.live(promotion)
    scene.caught("goes live in 'production'", "Policy/production of leaf [0-9]+ is not signed")


def test_owners_of_ones_own(scene):
    """The protection is taken away; the rules then change as in any other environment."""
    scene.write_document("Environment", lambda doc: {**doc, "owners": [], "threshold": 0})
    done = scene.root.json("apply", "-f", "-", stdin=LAX.replace(
        "owners: [user:dana, user:eli]\nthreshold: 2\n", ""))
    assert len(done["applied"]) == 1, done
    scene.promote(f"{MODEL}:3", scene.mallory)
    scene.caught("goes live in 'production'", "Policy/production of leaf [0-9]+ is not signed")


def test_signatures_of_another_time(scene):
    """The owners' signatures of a change, and the approvers' of another version, once more."""
    promotion = awaiting(scene)
    rows = scene.sql("SELECT id FROM approval WHERE subject_id = 'p2' ORDER BY id").split()
    for number, approval in enumerate(rows):
        leaf = json.loads(scene.leaves("approval", approval)[0])
        scene.forge("approval.create", f"a{90 + number}",
                    {**leaf["state"], "subject": f"promotion:{promotion}"}, leaf["detail"])
        scene.sql(f"{REPLICA} INSERT INTO approval (id, subject_kind, subject_id, decision, signer,"
                  " key_id, statement, statement_digest, signature, signature_digest, role,"
                  f" reason_commitment, nonce, time, expires, leaf) SELECT 'a{90 + number}',"
                  f" subject_kind, '{promotion}', decision, signer, key_id, statement,"
                  " statement_digest, signature, signature_digest, role, reason_commitment,"
                  f" 'n' || nonce, time, expires, leaf FROM approval WHERE id = '{approval}'")
    scene.make_live(promotion, f"{MODEL}:3")
    scene.caught("rule 'risk' has 0 of 2", "its statement was used before")


def test_another_artifact_under_the_number(scene):
    leaf = json.loads(scene.leaves("version", f"{MODEL}:2")[0])
    digest = "sha256:" + "e" * 64
    scene.sql(f"{REPLICA} UPDATE version SET digest = '{digest}' WHERE number = 2")
    scene.forge("version.status", f"{MODEL}:2", {**leaf["state"], "digest": digest})
    scene.caught(f"version '{MODEL}:2' changes its digest")
