# SPDX-License-Identifier: Apache-2.0
"""Asks a gateway for predictions, on and on, and checks every answer.

    load.py GATEWAY-URL ROUTE HOLDOUT.csv REPORT.json --models PREFIX

Sends real rows, one a request, of 5000 users in turn at random, over connections that stay open.
Nothing is sent twice: whatever is not a 200 is a failed request. An answer is of a wrong version
when it does not say the route's name, when its model_version and X-Mlctl-Version differ, or when it
is not what that version's own file, PREFIX<N>/model.pkl, predicts for the row here. Writes
REPORT.json every half second and when it is told to end (SIGTERM), and then says it in a line;
exits with 1 when something was wrong.
"""
import argparse
import csv
import http.client
import json
import os
import pathlib
import pickle
import random
import signal
import sys
import threading
import time
import urllib.parse

USERS = 5000
KEPT = 20  # of what went wrong, in the report


class Load:
    def __init__(self, args):
        gateway = urllib.parse.urlsplit(args.gateway)
        self.host, self.port = gateway.hostname, gateway.port
        self.path = f"/v2/models/{args.route}/infer"
        self.route, self.report_path, self.models = args.route, args.report, args.models
        self.pause = args.connections / args.rate
        with open(args.holdout, newline="", encoding="ascii") as f:
            rows = list(csv.reader(f))[1:]
        self.rows = [[float(v) for v in row[:-1]] for row in rows]
        self.expected = {}
        self.bodies = [json.dumps({"inputs": [{
            "name": "features", "datatype": "FP64", "shape": [1, len(row)], "data": row}]})
            for row in self.rows]
        self.lock, self.end = threading.Lock(), threading.Event()
        self.began = time.monotonic()
        self.failed, self.wrong, self.examples, self.took = 0, 0, [], {}

    def predictions(self, version):
        """Of all rows, by the file that version is."""
        with self.lock:
            if version not in self.expected:
                with open(pathlib.Path(f"{self.models}{int(version)}") / "model.pkl", "rb") as f:
                    self.expected[version] = [int(c) for c in pickle.load(f).predict(self.rows)]
            return self.expected[version]

    def wrong_version(self, row, headers, document):
        """Why the answer is not of the version that it says it is; None when it is."""
        version = headers.get("X-Mlctl-Version")
        if document.get("model_name") != self.route:
            return f"model_name is {document.get('model_name')!r}"
        if document.get("model_version") != version:
            return f"X-Mlctl-Version {version}, model_version {document.get('model_version')}"
        answer = document["outputs"][0]["data"]
        if answer != [self.predictions(version)[row]]:
            return f"version {version} answers {answer} to row {row}"
        return None

    def ask(self, connection):
        row = random.randrange(len(self.rows))
        failed, wrong, version, took = None, None, None, None
        began = time.monotonic()
        try:
            connection.request("POST", self.path, self.bodies[row], {
                "Content-Type": "application/json",
                "X-User-Id": f"user-{random.randrange(USERS)}"})
            reply = connection.getresponse()
            body = reply.read()
            took = time.monotonic() - began
            if reply.status != 200:
                failed = f"{reply.status} {body[:200]!r}"
            else:
                version = reply.headers.get("X-Mlctl-Version")
                wrong = self.wrong_version(row, reply.headers, json.loads(body))
        except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
            failed = repr(error)
            connection.close()
        if took is None:
            took = time.monotonic() - began
        with self.lock:
            self.failed += failed is not None
            self.wrong += wrong is not None
            self.took.setdefault(version, []).append(took)
            if (failed or wrong) and len(self.examples) < KEPT:
                self.examples.append(failed or wrong)
        return took

    def run(self):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        while not self.end.is_set():
            self.end.wait(self.pause - self.ask(connection))
        connection.close()

    def report(self):
        with self.lock:
            versions = {}
            for version, took in sorted((v or "", t) for v, t in self.took.items()):
                ordered = sorted(took)
                versions[version or "none"] = {
                    "requests": len(took),
                    "p50_ms": round(ordered[len(ordered) // 2] * 1000, 1),
                    "p99_ms": round(ordered[len(ordered) * 99 // 100] * 1000, 1)}
            return {"requests": sum(len(t) for t in self.took.values()), "failed": self.failed,
                    "wrong_versions": self.wrong,
                    "seconds": round(time.monotonic() - self.began, 1),
                    "versions": versions, "examples": list(self.examples)}

    def write(self):
        report = self.report()
        temporary = self.report_path + ".tmp"
        with open(temporary, "w", encoding="ascii") as f:
            json.dump(report, f, indent=1)
        os.replace(temporary, self.report_path)
        return report


def main():
    parser = argparse.ArgumentParser()
    for name in ("gateway", "route", "holdout", "report"):
        parser.add_argument(name)
    parser.add_argument("--models", required=True, metavar="PREFIX")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rate", type=float, default=120, help="requests a second, of all")
    args = parser.parse_args()
    load = Load(args)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: load.end.set())
    threads = [threading.Thread(target=load.run) for _ in range(args.connections)]
    for thread in threads:
        thread.start()
    while not load.end.wait(0.5):
        load.write()
    for thread in threads:
        thread.join()
    report = load.write()
    print(f"{report['requests']} requests, {report['failed']} failed requests, "
          f"{report['wrong_versions']} wrong versions")
    for example in report["examples"]:
        print(f"    {example}")
    sys.exit(0 if report["requests"] and not report["failed"] + report["wrong_versions"] else 1)


if __name__ == "__main__":
    main()
