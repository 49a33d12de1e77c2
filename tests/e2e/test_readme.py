# SPDX-License-Identifier: Apache-2.0
"""The examples of README.md and docs/*.md are true: their fenced sh blocks are run as they stand.

The blocks of one page are one script. README's starts from nothing but the built programs; the
pages' find a running server, the person `admin` with every role logged in at it, and a directory
of their own. Blocks that are not marked sh show what cannot be run here.
"""
import os
import pathlib
import re
import signal
import subprocess

import pytest

from support.server import build_directory

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLES = ("contributor", "operator", "auditor", "evaluator")
KEPT = ("LANG", "LC_ALL", "TZ", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")


def blocks(text):
    """The fenced sh blocks of a Markdown text, in order."""
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def script(page):
    found = blocks((ROOT / page).read_text(encoding="utf-8"))
    assert found, f"{page} has no sh block"
    return "\n".join(found)


def shell(text, directory, env=None, timeout=240):
    """Runs the text as a person's shell would, in a checkout whose release build is the one under
    test; whatever it leaves running is stopped."""
    (directory / "build").mkdir()
    (directory / "build/release").symlink_to(build_directory())
    (directory / "home").mkdir()
    own = {k: v for k, v in os.environ.items() if k in KEPT}
    own.update(PATH=f"{build_directory()}:/usr/bin:/bin:/usr/sbin:/sbin", NO_COLOR="1",
               HOME=str(directory / "home"), **(env or {}))
    with open(directory / "out", "w+", encoding="utf-8") as out, \
            open(directory / "err", "w+", encoding="utf-8") as err:
        # files, since a server that a failed script leaves behind would keep pipes open
        with subprocess.Popen(["bash", "-euo", "pipefail", "-c", text], cwd=directory, env=own,
                              stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                              start_new_session=True) as one:
            try:
                one.wait(timeout)
            finally:
                try:
                    os.killpg(one.pid, signal.SIGTERM)
                except ProcessLookupError:
                    pass
        said = []
        for f in (out, err):
            f.seek(0)
            said.append(f.read())
    assert one.returncode == 0, f"exit {one.returncode}\n{said[0][-4000:]}\n{said[1][-4000:]}"
    return said


def test_blocks_finds_only_sh():
    text = "a\n```sh\none\n```\n```\ntwo\n```\n```sh\nthree\nfour\n```\n"
    assert blocks(text) == ["one\n", "three\nfour\n"]


def test_a_wrong_command_is_noticed(tmp_path):
    with pytest.raises(AssertionError, match="exit 2"):
        shell("mlctl list demo/a/b/c\n", tmp_path, {"MLCTL_SERVER": "http://127.0.0.1:1"})


def test_first_push_by_hand(tmp_path):
    out, _ = shell(script("README.md"), tmp_path)
    assert "demo/scorer:1" in out
    assert "that version exists already" in out
    assert "the log is whole" in out
    pulled = tmp_path / "first-push/pulled"
    assert sorted(p.name for p in pulled.iterdir()) == ["README.md", "weights.bin"]
    assert not (tmp_path / "first-push/data/address").exists()  # stopped


@pytest.mark.parametrize("page", ["docs/pushing.md", "docs/audit.md", "docs/api.md",
                                  "docs/operations.md", "docs/policies.md", "docs/ci.md"])
def test_examples_of(page, fresh_server, tmp_path):
    me = fresh_server.client(fresh_server.admin_token)
    who = me.ok("GET", "/api/v1/whoami")["user"]["id"]
    for role in ROLES:
        me.ok("POST", f"/api/v1/users/{who}/roles", json={"role": role})
    (tmp_path / "work").mkdir()
    (tmp_path / "work/data").symlink_to(fresh_server.directory)
    (tmp_path / "work/train.csv").write_text("amount,fraud\n12,0\n9000,1\n", encoding="utf-8")
    shell("cd work\n" + script(page), tmp_path,
          {"MLCTL_SERVER": fresh_server.url, "MLCTL_TOKEN": fresh_server.admin_token})


def operations():
    return (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def test_operations_has_every_command_and_setting():
    """The table of settings is what `mlctld --help` says, and every command is mentioned."""
    told = subprocess.run([build_directory() / "mlctld", "--help"], check=True, text=True,
                          capture_output=True).stdout
    commands, options = told.split("\noptions")
    wanted = {}
    for flag, text in re.findall(r"^  (--\S+(?: [A-Z:]+)?) +(.*)$", options, re.MULTILINE):
        default = re.search(r"\(default ([^)]+)\)", text)
        wanted[flag] = (re.search(r"\[(MLCTL_\w+)\]$", text).group(1), default and default[1])
    rows = dict((flag, (env, default)) for flag, env, default in re.findall(
        r"^\| `(--[^`]+)` \| `(MLCTL_\w+)` \| (.*) \|$", operations(), re.MULTILINE))
    assert len(wanted) > 5 and rows.keys() == wanted.keys()
    for flag, (env, default) in wanted.items():
        assert rows[flag][0] == env
        assert default is None or rows[flag][1] == default, flag
    for command in re.findall(r"^  ([a-z][a-z-]+)", commands, re.MULTILINE):
        assert re.search(rf"`(mlctld )?{command}\b|mlctld {command}\b", operations()), command
