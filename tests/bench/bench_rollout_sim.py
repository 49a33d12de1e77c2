# SPDX-License-Identifier: Apache-2.0
"""Rollouts by simulation: false aborts, samples to promote a healthy candidate, harm found; beside
them a z-test repeated at every look and a rule of three bad batches."""
import json
import subprocess

import rig
from report import target

NEVER = 20000  # requests of each arm at which the simulation ends


def of(scenes, begin):
    return next(s for s in scenes if s["scene"].startswith(begin))


def run(args):
    runs = 20 if args.quick else 2000
    out = json.loads(subprocess.run([rig.helper("bench-rollout-sim"), str(runs)],
                                    capture_output=True, text=True, check=True).stdout)
    scenes = out["scenes"]
    steady, ramp = of(scenes, "a/a, margin 0, looked"), of(scenes, "a/a, margin 0, ramp")
    frequent = of(scenes, "a/a, margin 0, frequent")
    healthy, doubled = of(scenes, "healthy, margin 0.5 %"), of(scenes, "doubled")
    shared, worse = of(scenes, "doubled, one of two"), of(scenes, "worse by the margin")
    false_aborts = max(s["harm"] for s in (steady, ramp, frequent))
    median = healthy["proven_median"] if healthy["proven_median"] > 0 else 10 * NEVER
    ratio, strict = median / out["fixed_n_equal"], median / out["fixed_n_80"]
    return {"runs": runs,
            "ours": {"false_aborts": steady["harm"], "false_aborts_ramp": ramp["harm"],
                     "false_aborts_frequent": frequent["harm"],
                     "healthy_promoted": healthy["proven"], "healthy_median": median,
                     "worse_by_margin_promoted": worse["proven"],
                     "doubled_found": doubled["harm"], "doubled_median": doubled["harm_median"],
                     "doubled_found_alpha_shared": shared["harm"],
                     "doubled_median_alpha_shared": shared["harm_median"],
                     "seconds": out["seconds"]},
            "against": {"what": "fixed-n test of equal power, repeated z-test, three bad batches",
                        "fixed_n_equal_power": out["fixed_n_equal"],
                        "fixed_n_80": out["fixed_n_80"],
                        "z_false_aborts": steady["z"], "z_false_aborts_ramp": ramp["z"],
                        "z_doubled_median": doubled["z_median"],
                        "rule_false_aborts": steady["rule"],
                        "rule_doubled_found": doubled["rule"]},
            "ratio": ratio, "better": "lower", "samples": scenes,
            "targets": [target("false aborts of A/A rollouts, worst scene", false_aborts, 0.05,
                               "lower"),
                        target("median samples to promote, of the fixed test of equal power",
                               ratio, 1.5, "lower"),
                        target("the same, of the fixed test of power 80 %", strict, 1.5, "lower"),
                        target("promoted though worse by the margin", worse["proven"], 0.05,
                               "lower"),
                        target("doubled error rate found", min(doubled["harm"], shared["harm"]),
                               0.95, "higher"),
                        target("its median, requests of each arm", doubled["harm_median"], NEVER,
                               "lower")]}
