# SPDX-License-Identifier: Apache-2.0
"""Verification of a generated log on one core, against SHA-256 of the same bytes."""
import json
import subprocess
import tempfile

import rig
from report import target


def helper(*args):
    return subprocess.run([rig.helper("bench-log"), *map(str, args)], capture_output=True,
                          text=True, check=True).stdout.strip()


def timed(*args):
    result = json.loads(helper(*args))
    return {"cpu_s": result["seconds"],
            "entries_s": result["entries"] / max(result["seconds"], 1e-6)}


def run(args):
    entries = 2000 if args.quick else 200000
    samples = []
    with tempfile.TemporaryDirectory(prefix="mlc-bench-") as directory:
        vkey = helper("make", directory, entries)
        size = json.loads(helper("hash", directory, entries))["bytes"]
        for _ in range(args.samples or (1 if args.quick else 3)):
            samples.append({"ours": timed("verify", directory, vkey),
                            "sha256": timed("hash", directory, entries),
                            "replay": timed("replay", directory, vkey)})
    rates = {side: rig.median(s[side]["entries_s"] for s in samples) for side in samples[0]}
    return {"entries": entries, "bytes": size,
            "ours": {"entries_s": rates["ours"], "with_replay_entries_s": rates["replay"]},
            "against": {"what": "SHA-256 of the entry bundles", "entries_s": rates["sha256"]},
            "ratio": rates["ours"] / rates["sha256"], "better": "higher", "samples": samples,
            "targets": [target("entries verified in a second of one core", rates["ours"], 200000,
                               "higher")]}
