# SPDX-License-Identifier: Apache-2.0
"""An environment with owners, and people whose roles and keys they sign for."""
import subprocess

from . import signing
from .cli import invite
from .judged import apply, environment, fresh, policy


def person_with_key(server, root, roles=(), name=None):
    person = invite(server, root / fresh("home"), name or fresh("person"), roles)
    person.key_file = person.key()
    add_key(person)
    return person


def prove(person, key_file):
    """The body of POST keys for this key."""
    line = (key_file.parent / f"{key_file.name}.pub").read_text().strip()
    who = person.http.ok("GET", "/api/v1/whoami")
    fingerprint = subprocess.run(["ssh-keygen", "-lf", f"{key_file}.pub"], check=True,
                                 capture_output=True, text=True).stdout.split()[1]
    text = (f"mlctl key proof v1\nlog {who['origin']}\nuser {person.id}\n"
            f"key {fingerprint}\n")
    return {"public": line, "proof": signing.sign(key_file, text, "key-proof@mlctl")}


def add_key(person, key_file=None, status=201):
    reply = person.http.post("/api/v1/keys", json=prove(person, key_file or person.key_file))
    assert reply.status_code == status, reply.text
    return reply.json()


class Guarded:
    """An environment with two owners, whose policy names role:approver."""

    def __init__(self, server, root):
        self.server, self.root = server, root
        self.admin = server.client(server.admin_token)
        self.dana, self.eli = (person_with_key(server, root) for _ in range(2))
        self.env = fresh("guarded")
        apply(self.admin, policy(self.env, "[]", "[{name: risk, from: ['role:approver'], "
                                                 "count: 1}]") + "---\n" + self.text(2))

    def text(self, threshold):
        return environment(self.env, f"policy: {self.env}\nowners: ['user:{self.dana.name}', "
                                     f"'user:{self.eli.name}']\nthreshold: {threshold}\n")

    def person(self, roles=()):
        return person_with_key(self.server, self.root, roles)

    def roles(self, user):
        return self.admin.ok("GET", f"/api/v1/users/{user}")["roles"]

    def grant(self, user, role, status=202):
        reply = self.admin.post(f"/api/v1/users/{user}/roles", json={"role": role})
        assert reply.status_code == status, reply.text
        return reply.json()

    def ask(self, user, role):
        """The change that the owners must sign."""
        return self.grant(user, role)["pending"][0]["id"]

    def change(self, change):
        return self.admin.ok("GET", f"/api/v1/changes/{change}")["change"]

    def sign(self, change):
        signing.approve(self.dana, change)
        return signing.approve(self.eli, change)
