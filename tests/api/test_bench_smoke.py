# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run, with sizes that say nothing about speed: so that they do not rot."""
import json
import subprocess

import pytest

from support.server import ROOT, build_directory

RUN = ROOT / "tests" / "bench" / "run"
NAMES = ["push", "pull", "audited-writes", "verify", "read", "gateway", "verdict", "promote",
         "rollout-sim", "rollouts"]


def run(*args, status=0):
    done = subprocess.run([RUN, *args], capture_output=True, text=True, timeout=280, check=False,
                          env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent",
                               "MLC_BUILD": str(build_directory()), "LC_ALL": "C.UTF-8"})
    assert done.returncode == status, done.stderr[-4000:]
    return done.stdout


def test_names():
    assert run().split() == NAMES
    run("nothing", status=2)


@pytest.mark.parametrize("name", NAMES)
def test_one_line(name):
    out = run(name, "--quick", "--json")
    assert out.count("\n") == 1
    result = json.loads(out)
    assert result["name"] == name and result["quick"] is True
    assert result["better"] in ("lower", "higher") and result["ratio"] > 0
    assert result["ours"] and result["against"]["what"] and result["samples"]
    assert result["machine"]["cores"] > 0 and result["versions"]["mlctld"]
    assert {"what", "value", "limit", "better", "met"} == set(result["targets"][0])


def test_table():
    table = run("verify", "--quick")
    assert table.startswith("verify (quick") and "\n  ratio " in table
