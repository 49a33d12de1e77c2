# SPDX-License-Identifier: Apache-2.0
"""What every command has in common: help, manual page, completions, refusals, no server."""
import json
import os
import pathlib
import pty
import re
import shutil
import socket
import subprocess

import pytest

from support.cli import Person
from support.server import ROOT, build_directory


@pytest.fixture
def nobody(tmp_path):
    """Somebody who has no server and never logged in."""
    return Person(tmp_path / "home")


def overview(text):
    """The commands of an overview, without their arguments."""
    first = text.split("\n\n")[1]
    return re.findall(r"^  ([a-z-]+(?: [a-z-]+)?)(?= |$)", first, re.M)


def commands():
    done = subprocess.run([build_directory() / "mlctl", "--help"], capture_output=True, text=True,
                          check=True)
    found = overview(done.stdout)
    assert {"login", "list", "alias set", "dataset digest", "completion"} <= set(found)
    return found


COMMANDS = commands() if (build_directory() / "mlctl").exists() else ["login"]


def is_noun(word):
    return any(c.startswith(word + " ") for c in COMMANDS)


def man():
    return (build_directory() / "mlctl.1").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_help(nobody, command):
    for flags in (["--help"], ["-h"], ["--help", "--output", "json"]):
        done = nobody.run(*command.split(), *flags)
        assert done.stderr == ""
        assert done.stdout.startswith(f"usage: mlctl {command}")
        assert max(map(len, done.stdout.splitlines())) <= 100
        assert not re.search(r"[ \t]$|\t", done.stdout, re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_in_man_page(nobody, command):
    page = man()
    assert re.search(rf"^\.It Cm {command}(?: |$)", page, re.M)
    section = page.split(f".It Cm {command}", 1)[1].split(".It Cm ", 1)[0]
    options = nobody.run(*command.split(), "--help").stdout.split("global options:")[0]
    for option in re.findall(r"^  --([a-z-]+)", options, re.M):
        assert f".It Fl Fl {option}" in section


def test_man_pages_are_clean():
    for page in ("mlctl.1", "mlctld.8"):
        path = build_directory() / page
        done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", path], capture_output=True,
                              text=True, check=False)
        assert (done.returncode, done.stdout) == (0, ""), page
    rendered = subprocess.run(["mandoc", "-Tascii", build_directory() / "mlctl.1"], check=True,
                              capture_output=True, text=True).stdout
    for word in ("EXIT STATUS", "ENVIRONMENT", "FILES"):
        assert re.sub(".\b", "", rendered).count(f"\n{word}\n") == 1
    for name in ("MLCTL_SERVER", "MLCTL_TOKEN", "NO_COLOR"):
        assert name in man()


def test_man_page_of_server_has_its_options():
    said = subprocess.run([build_directory() / "mlctld", "--help"], check=True, text=True,
                          capture_output=True).stdout
    page = (build_directory() / "mlctld.8").read_text(encoding="utf-8")
    options = re.findall(r"^  --([a-z-]+)", said, re.M)
    assert "data" in options and "listen" in options
    for option in options:
        assert re.search(rf"^\.It Fl Fl {option}\b", page, re.M), option
        assert f".Ev MLCTL_{option.upper().replace('-', '_')}" in page


@pytest.mark.parametrize("noun", sorted({c.split()[0] for c in COMMANDS if " " in c}))
def test_noun_alone_shows_its_commands(nobody, noun):
    wanted = [c for c in COMMANDS if c.startswith(noun + " ")]
    done = nobody.run(noun, status=2)
    assert done.stdout == "" and overview(done.stderr) == wanted
    assert overview(nobody.run(noun, "--help").stdout) == wanted
    problem(nobody.run("--output", "json", noun, status=2), "usage")


def test_overview(nobody):
    done = nobody.run("--help")
    assert done.stderr == "" and max(map(len, done.stdout.splitlines())) <= 100
    nothing = nobody.run(status=2)
    assert nothing.stdout == "" and nothing.stderr == done.stdout
    assert re.fullmatch(r"mlctl \d+\.\d+\.\d+\n", nobody.run("--version").stdout)


def problem(done, slug):
    """stdout is empty and stderr is exactly one problem document."""
    assert done.stdout == ""
    document = json.loads(done.stderr)
    assert done.stderr.count("\n") == 1
    assert document["type"] == f"urn:mlctl:error:{slug}"
    assert set(document) >= {"type", "title", "status", "detail"}
    return document


WRONG = [
    (["frobnicate"], "unknown command 'frobnicate'"),
    (["frobnicate", "--hard"], "unknown command 'frobnicate'"),
    (["alias", "frobnicate"], None),
    (["list", "--frobnicate"], "unknown option '--frobnicate'; see 'mlctl list --help'"),
    (["list", "a", "b"], "usage: mlctl list"),
    (["show"], "usage: mlctl show REF"),
    (["show", "no-slash"], "no-slash"),
    (["show", "UPPER/case"], "namespace 'UPPER'"),
    (["show", "a/b:"], "alias ''"),
    (["show", "a/b@sha256:12"], "sha256"),
    (["diff", "a/b"], "usage: mlctl diff REF REF"),
    (["diff", "a/b", "c"], "'c'"),
    (["list", "--limit", "0"], "--limit '0'"),
    (["list", "--limit", "1e3"], "--limit '1e3'"),
    (["list", "--limit"], "a value is missing after '--limit'"),
    (["list", "--limit=1", "--limit=2"], "given twice"),
    (["list", "--alias", "x"], "--alias and --status need NS/MODEL"),
    (["list", "a", "--status", "ready"], "--alias and --status need NS/MODEL"),
    (["list", "a/b", "--alias", "x", "--dataset", "d"], "--alias and --status"),
    (["list", "API"], "API"),
    (["list", "--quiet=yes"], "no value is taken by"),
    (["alias", "set", "a/b:3", "1"], "names no alias"),
    (["alias", "set", "a/b:latest", "1"], "names no alias"),
    (["alias", "set", "a/b", "1"], "names no alias"),
    (["alias", "set", "a/b:x", "0"], "'0' is no version number"),
    (["alias", "set", "a/b:x", "-1"], "'-1' is no version number"),
    (["alias", "set", "a/b:x", "latest"], "'latest' is no version number"),
    (["alias", "history", "a/b:x", "--at", "yesterday"], "--at 'yesterday' is no time"),
    (["alias", "list", "a/b:x"], "model 'b:x'"),
    (["version", "withdraw", "a/b:1"], "--reason"),
    (["version", "withdraw", "a/b:1", "--reason="], "--reason"),
    (["dataset", "digest"], "usage: mlctl dataset digest PATH"),
    (["completion", "tcsh"], "no completion for 'tcsh'"),
    (["login", "http://127.0.0.1:1"], "--invite CODE or --token-file FILE"),
    (["login", "http://127.0.0.1:1", "--invite=a", "--token-file=b"], "either"),
    (["token", "create", "--expires", "soon"], "--expires 'soon'"),
    (["list", "--output", "xml"], "--output takes table, json or yaml"),
    (["list"], "run 'mlctl login URL' or set MLCTL_SERVER"),
    (["--server", "http://127.0.0.1:1", "list"], "not logged in at http://127.0.0.1:1"),
]


@pytest.mark.parametrize("args,says", WRONG, ids=[" ".join(args) for args, _ in WRONG])
def test_wrong_usage(nobody, args, says):
    done = nobody.run(*args, status=2)
    assert done.stdout == ""
    if says:
        assert done.stderr.startswith("mlctl: ") and says in done.stderr
        assert done.stderr.count("\n") == 1
    if "xml" not in args:
        document = problem(nobody.run("--output=json", *args, status=2), slug_of(args))
        assert not says or says.split(";")[0] in document["detail"]


def slug_of(args):
    """References that cannot be read are invalid, the rest is wrong usage."""
    invalid = (["show", "no-slash"], ["show", "UPPER/case"], ["show", "a/b:"],
               ["show", "a/b@sha256:12"], ["diff", "a/b", "c"], ["list", "API"],
               ["alias", "list", "a/b:x"])
    return "invalid" if args in invalid else "usage"


def test_too_many_options(nobody):
    for extra in (["-h"], ["--label=x"]):
        done = nobody.run("push", "a/b", "f", *["--dataset=d"] * 64, *extra, status=2)
        assert "too many options" in done.stderr


@pytest.fixture(scope="module")
def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield s.getsockname()[1]  # bound, but nobody listens


@pytest.mark.parametrize("args", [["list"], ["show", "a/b"], ["whoami"], ["alias", "list", "a/b"]],
                         ids=" ".join)
def test_no_server(tmp_path, closed_port, args):
    person = Person(tmp_path / "home", f"http://127.0.0.1:{closed_port}", "mlt_x")
    done = person.run(*args, status=5)
    assert done.stdout == "" and done.stderr.startswith("mlctl: ")
    problem(person.run(*args, "--output", "json", status=5), "unreachable")
    problem(person.run("--output=yaml", *args, status=5), "unreachable")


# completions

def bash_completes(*words):
    script = f"""
        source <({build_directory()}/mlctl completion bash)
        COMP_WORDS=(mlctl "$@"); COMP_CWORD=$#
        _mlctl
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True,
                          check=True, cwd=ROOT / "deploy")
    assert done.stderr == ""
    return done.stdout.split()


def zsh_completes(*words):
    script = f"""
        compadd() {{ shift; print -l -- "$@" }}
        _files() {{ print -l -- * }}
        source <({build_directory()}/mlctl completion zsh)
        words=(mlctl "$@") CURRENT=$(($# + 1))
        _mlctl
    """
    done = subprocess.run(["zsh", "-f", "-c", script, "zsh", *words], capture_output=True,
                          text=True, check=True, cwd=ROOT / "deploy")
    assert done.stderr == ""
    return [w for w in done.stdout.split() if w.startswith(words[-1])]


def fish_completes(*words):
    script = f"""
        {build_directory()}/mlctl completion fish | source
        complete -C 'mlctl {' '.join(words)}'
    """
    done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True,
                          check=True, cwd=ROOT / "deploy",
                          env={**os.environ, "HOME": "/nonexistent"})
    return [line.split("\t")[0] for line in done.stdout.splitlines()]


SHELLS = {"bash": bash_completes, "zsh": zsh_completes, "fish": fish_completes}


@pytest.mark.parametrize("shell", SHELLS)
def test_completion(shell):
    assert shutil.which(shell), f"{shell} is not installed"
    complete = SHELLS[shell]
    nouns = {c.split()[0] for c in COMMANDS}
    assert {w for w in complete("") if not w.startswith("-")} == nouns
    assert complete("ali") == ["alias"]
    assert set(complete("alias", "")) - {"-h"} == {"set", "list", "history", "remove"}
    assert complete("alias", "re") == ["remove"]
    assert complete("--output", "js") == ["json"]
    assert complete("--output", "json", "li") == ["list"]
    assert set(complete("list", "--l")) == {"--label", "--limit"}
    assert set(complete("list", "--status", "")) >= {"ready", "deprecated", "withdrawn"}
    assert complete("list", "a/b", "--sta") == ["--status"]
    assert "--reason" in complete("version", "withdraw", "a/b", "--re")
    assert complete("completion", "z") == ["zsh"]
    assert [w.rstrip("/") for w in complete("dataset", "digest", "sys")] == ["systemd"]


def test_completion_is_installed():
    for shell in SHELLS:
        done = subprocess.run([build_directory() / "mlctl", "completion", shell], check=True,
                              capture_output=True)
        assert (build_directory() / f"completion.{shell}").read_bytes() == done.stdout
    subprocess.run(["shellcheck", "-s", "bash", build_directory() / "completion.bash"], check=True)


# the unit of systemd

def test_unit_of_systemd(tmp_path):
    unit = (ROOT / "deploy/systemd/mlctld.service").read_text(encoding="utf-8")
    there = unit.replace("/usr/bin/mlctld", str(build_directory() / "mlctld"))
    assert there != unit
    path = tmp_path / "mlctld.service"
    path.write_text(there, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    judged = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=15",
                             path], capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout


def on_terminal(person, *args, env=None):
    """stdout of a run whose standard output is a terminal."""
    parent, child = pty.openpty()
    process = subprocess.Popen([build_directory() / "mlctl", *args], stdin=subprocess.DEVNULL,
                               stdout=child, stderr=subprocess.PIPE, cwd=person.home,
                               env={**person.env, **(env or {})})
    os.close(child)
    text = b""
    while True:
        try:
            chunk = os.read(parent, 65536)
        except OSError:
            break
        if not chunk:
            break
        text += chunk
    os.close(parent)
    process.communicate(timeout=60)
    assert process.returncode == 0
    return text.decode().replace("\r\n", "\n")


def test_dataset_digest_is_not_coloured(nobody):
    pathlib.Path(nobody.home / "f").write_bytes(b"x")
    assert "\033" not in on_terminal(nobody, "dataset", "digest", "f", env={"NO_COLOR": ""})
