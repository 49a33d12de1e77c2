# SPDX-License-Identifier: Apache-2.0
"""Documents and evaluations as the tests write them."""
import itertools
import json
import os

from . import oci

_names = itertools.count(1)
HOLDOUT = "fraud/holdout@sha256:" + "5" * 64


def fresh(prefix):
    """A name that no other test uses."""
    return f"{prefix}-{os.getpid()}-{next(_names)}"


def apply(http, yaml, status=200, **query):
    reply = http.post("/api/v1/documents", data=yaml.encode(), params=query,
                      headers={"Content-Type": "text/yaml"})
    assert reply.status_code == status, reply.text
    return reply.json()


def log(server):
    """All leaves, oldest first; those that wait to be sequenced too."""
    text = server.sql("select convert_from(leaf, 'UTF8') from "
                      "(select leaf, 0 as o, idx as i from audit_log union all "
                      " select leaf, 1, id from audit_outbox) x order by o, i")
    return [json.loads(line) for line in text.splitlines()]


def policy(name, checks="[]", approvals="[]"):
    return (f"apiVersion: mlctl/v1\nkind: Policy\nname: {name}\nchecks: {checks}\n"
            f"approvals: {approvals}\n")


def environment(name, more=""):
    return f"apiVersion: mlctl/v1\nkind: Environment\nname: {name}\n{more}"


def evaluation(*metrics, dataset=HOLDOUT, **more):
    return {"schema": "evaluation/v1", "dataset": dataset,
            "evaluated_at": "2026-11-23T10:00:00Z", "metrics": list(metrics), **more}


def metric(name, value, n, **more):
    return {"name": name, "value": value, "n": n, **more}


def evaluate(http, model, version, doc, examples=None, status=201):
    """Submits it (a dict, or bytes), uploading the examples (bytes) first."""
    query = {}
    if examples is not None:
        query["examples"] = oci.Repository(http, model).push(examples)
    data = doc if isinstance(doc, bytes) else json.dumps(doc).encode()
    reply = http.post(f"/api/v1/models/{model}/versions/{version}/evaluations", data=data,
                      params=query, headers={"Content-Type": "application/json"})
    assert reply.status_code == status, reply.text
    return reply.json()


def test_policy(http, model, version, env, status=200):
    reply = http.post("/api/v1/policy-tests",
                      json={"model": model, "version": str(version), "environment": env})
    assert reply.status_code == status, reply.text
    return reply.json()


test_policy.__test__ = False
