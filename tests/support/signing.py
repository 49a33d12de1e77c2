# SPDX-License-Identifier: Apache-2.0
"""Signed decisions as the tests make them, with ssh-keygen."""
import hashlib
import json
import secrets
import subprocess


def canonical(j):
    """RFC 8785 for what statements hold: strings, integers, null, lists, objects."""
    return json.dumps(j, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sign(key, text, namespace="approval@mlctl"):
    return subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", namespace],
        input=text.encode(), capture_output=True, check=True).stdout.decode()


def body(shown, key, /, decision="approve", reason="looked at it", namespace="approval@mlctl",
         **changes):
    """What is posted: the statement that is shown, completed, changed, and signed."""
    salt = secrets.token_bytes(32)
    hashed = hashlib.sha256(salt + reason.encode())
    statement = {**shown["statement"], "decision": decision,
                 "meaning": shown["meanings"].get(decision, "?"),
                 "reason_commitment": "sha256:" + hashed.hexdigest(), **changes}
    text = canonical(statement)
    return {"statement": text, "signature": sign(key, text, namespace), "reason": reason,
            "salt": salt.hex()}


KINDS = {"p": "promotions", "c": "changes", "r": "rollouts"}


def evidence(person, subject):
    return person.http.ok("GET", f"/api/v1/{KINDS[subject[0]]}/{subject}/evidence")


def post(person, subject, what):
    return person.http.post(f"/api/v1/{KINDS[subject[0]]}/{subject}/approvals", json=what)


def approve(person, subject, status=201, **more):
    """Fetches the evidence, signs and posts; the reply's body."""
    reply = post(person, subject, body(evidence(person, subject), person.key_file, **more))
    assert reply.status_code == status, reply.text
    return reply.json()
