# SPDX-License-Identifier: Apache-2.0
"""A verdict over 20 checks with paired examples, against SHA-256 of the same files."""
import json
import subprocess

import rig
from report import target


def judge(rows):
    out = subprocess.run([rig.helper("bench-verdict"), str(rows), "20"], capture_output=True,
                         text=True, check=True).stdout
    return json.loads(out)


def run(args):
    rows = 1000 if args.quick else 100000
    samples = [judge(rows) for _ in range(args.samples or (1 if args.quick else 3))]
    large = judge(rows * 10)
    seconds = rig.median(s["seconds"] for s in samples)
    floor = rig.median(s["hash_seconds"] for s in samples)
    return {"rows": rows, "checks": 20,
            "ours": {"seconds": seconds, "peak_mib": max(s["peak_mib"] for s in samples),
                     "ten_times_seconds": large["seconds"],
                     "ten_times_peak_mib": large["peak_mib"]},
            "against": {"what": "SHA-256 of the examples", "seconds": floor},
            "ratio": seconds / max(floor, 1e-9), "better": "lower", "samples": samples,
            "targets": [target("seconds of a verdict", seconds, 1.0, "lower")]}
