#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check_contract.py [--junit XML] [--api DIR] RECORD: judges the exchanges that the tests made.

Every operation of include/api/*.yaml was answered with success at least once, every status is one
that the contract knows, and every JSON reply matches its schema. One test result per operation.
"""
import argparse
import base64
import collections
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support import junit  # noqa: E402
from support.contract import JSON_TYPE, Contract  # noqa: E402

MOST = 10  # distinct complaints shown per operation
# the front door's answers for any operation, before its handler is reached
ANYWHERE = {
    304,
    400,
    401,
    403,
    404,
    405,
    406,
    408,
    411,
    413,
    414,
    415,
    417,
    429,
    431,
    500,
    503,
    505,
}


def schema_of(contract, op, status, kind):
    """The contract's word on this reply; refusals that it does not list are problem documents."""
    schema = op.schema(status, kind)
    if schema is None and kind.startswith("application/problem+json"):
        return contract.document.get("components", {}).get("schemas", {}).get("Problem")
    return schema


def judge(contract, op, entry):
    """Complaints about one exchange."""
    status, kind = entry["status"], entry["type"]
    if op.response(status) is None and status not in ANYWHERE:
        return [f"{status} is not in the contract"]
    if "body" not in entry or op.method == "HEAD":
        return []
    body = base64.b64decode(entry["body"])
    if not JSON_TYPE.match(kind) or not body:
        return []
    schema = schema_of(contract, op, status, kind)
    if schema is None:
        known = (op.response(status) or {}).get("content", {})
        if known and kind.split(";")[0] not in known and 200 <= status < 300:
            return [f"{status}: the contract has no {kind}"]
        return []
    try:
        return [f"{status}: {what}" for what in contract.violations(schema, json.loads(body))]
    except ValueError as e:
        return [f"{status}: not JSON: {e}"]


def check(contract, entries):
    """One junit.Case per operation, in the contract's order."""
    complaints = collections.defaultdict(dict)
    succeeded = set()
    for entry in entries:
        op = contract.find(entry["method"], entry["path"])
        if op is None:
            continue
        if op.fulfilled(entry["status"]):
            succeeded.add(op.id)
        for what in judge(contract, op, entry):
            complaints[op.id].setdefault(what, f"{entry['method']} {entry['path']} → {what}")
    cases = []
    for op in sorted(contract.operations, key=lambda op: (op.path, op.method)):
        bad = list(complaints[op.id].values())[:MOST]
        if op.id not in succeeded:
            bad.insert(0, f"{op.method} {op.path}: no test got a success from this operation")
        cases.append(junit.Case(op.id, "failed" if bad else "passed", 0.0, "\n".join(bad)))
    return cases


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--junit")
    parser.add_argument("--api", default=ROOT / "include" / "api")
    parser.add_argument("record")
    args = parser.parse_args(argv)
    contract = Contract.load(args.api)
    with open(args.record, encoding="ascii") as f:
        cases = check(contract, map(json.loads, f))
    if args.junit:
        junit.write(args.junit, "contract", cases)
    bad = [case for case in cases if case.status == "failed"]
    for case in bad:
        print(case.text)
    print(f"{len(cases)} operations, {len(bad)} with complaints")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
