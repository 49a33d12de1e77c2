# SPDX-License-Identifier: Apache-2.0
"""list, show, diff, alias and version against the real server."""
import datetime
import hashlib
import itertools
import json
import os
import re
import struct
import subprocess
import time

import pytest

from support.cli import Person
from support.server import build_directory

_numbers = itertools.count(1)
COMMIT = "5" * 40
DATASET = "fraud/train@sha256:" + "7" * 64


def safetensors(**tensors):
    """F32 tensors of these shapes, all zero."""
    header, at = {}, 0
    for name, shape in tensors.items():
        size = 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(at)


@pytest.fixture(scope="module")
def ns():
    return f"cli{os.getpid()}"


@pytest.fixture(scope="module")
def dana(server, ns, tmp_path_factory):
    """A person who pushed two versions of NS/scorer, and named the first champion."""
    home = tmp_path_factory.mktemp("dana")
    admin = Person(home / "admin", server.url, server.admin_token)
    made = admin.json("user", "add", f"dana-{ns}", "--role", f"contributor@{ns}")
    person = Person(home / "dana", server.url)
    person.run("login", server.url, "--invite", made["invite"])
    person.id, person.name = made["id"], made["name"]
    del person.env["MLCTL_SERVER"]  # the login is remembered
    one, two = person.home / "one", person.home / "two"
    for folder, shape in ((one, [4, 3]), (two, [4, 5])):
        folder.mkdir()
        (folder / "w.safetensors").write_bytes(safetensors(first=shape, second=[2, 2]))
    (one / "README.md").write_text("---\nlicense: mit\n---\n\n# Scorer\n\nScores \033[31mcards.\n",
                                   encoding="utf-8")
    (two / "notes.txt").write_text("x" * 2048, encoding="utf-8")
    person.run("push", f"{ns}/scorer", one, "--dataset", DATASET, "--run", "r-17",
               "--code", f"https://git.example/fraud@{COMMIT}",
               "--label", "tier=high", "--metric", "auc=0.96", "--metric", "n=171")
    person.run("push", f"{ns}/scorer", two, "--label", "tier=low", "--label", "hot=yes",
               "--metric", "auc=0.97")
    person.run("alias", "set", f"{ns}/scorer:champion", "1")
    return person


def table(text):
    """The titles of a table, blanks squeezed, and its rows."""
    lines = text.splitlines()
    return " ".join(lines[0].split()), lines[1:]


# list

def test_list_models(dana, ns):
    models = dana.json("list", ns)
    assert [m["model"] for m in models] == [f"{ns}/scorer"]
    assert models[0]["latest"] == 2 and models[0]["aliases"] == {"champion": 1}
    assert f"{ns}/scorer" in [m["model"] for m in dana.json("list")]
    done = dana.run("list", ns)
    assert done.stderr == ""
    titles, rows = table(done.stdout)
    assert titles == "MODEL VERSIONS ALIASES SINCE (UTC)"
    assert re.fullmatch(rf"{ns}/scorer 2 +champion=1 [\d-]+ [\d:]+\n?", rows[0].strip())


def test_list_versions(dana, ns):
    versions = dana.json("list", f"{ns}/scorer")
    assert [v["version"] for v in versions] == [2, 1]
    assert versions[1]["lineage"] == {"dataset": [DATASET], "run": "r-17", "base": None,
                                      "code": f"https://git.example/fraud@{COMMIT}"}
    titles, rows = table(dana.run("list", f"{ns}/scorer").stdout)
    assert titles == ("VERSION ALIASES SIZE DIGEST WHO WHEN (UTC) STATUS DATASET CODE "
                      "METRICS")
    assert len(rows) == 2
    first = re.split(r" +", rows[1].strip())
    assert first[0] == f"{ns}/scorer:1" and first[1] == "champion"
    assert f" sha256:{versions[1]['digest'][7:19]} {dana.name} " in rows[1]
    assert " ready " in rows[1] and f" fraud/train@sha256:{'7' * 12} " in rows[1]
    assert f" https://git.example/fraud@{'5' * 12} " in rows[1]
    assert rows[1].endswith(" auc=0.96, n=171")


def refs(dana, *args):
    return [v["ref"].rsplit(":", 1)[1] for v in dana.json("list", *args)]


def test_list_filters(dana, ns):
    model = f"{ns}/scorer"
    first = dana.json("show", f"{model}:1")
    for args, wanted in [
            ([model, "--label", "tier=low"], ["2"]), ([model, "--label", "tier"], ["2", "1"]),
            ([model, "--label", "tier=none"], []), ([ns, "--label=hot=yes"], ["2"]),
            ([model, "--metric", "auc>=0.97"], ["2"]), ([model, "--metric", "auc<0.97"], ["1"]),
            ([model, "--metric", "n"], ["1"]), ([ns, "--metric", "auc>0.9"], ["2", "1"]),
            ([model, "--alias", "champion"], ["1"]), ([model, "--status", "withdrawn"], []),
            ([model, "--digest", first["digest"]], ["1"]),
            (["--digest", first["files"][0]["digest"], ns], ["1"]),
            ([model, "--dataset", "fraud/train"], ["1"]), ([ns, "--dataset", DATASET], ["1"]),
            ([f"{ns}/sco", "--dataset", DATASET], []), ([ns[:-1], "--dataset", DATASET], []),
            ([model, "--limit", "1"], ["2"]), ([model, "--limit", "2"], ["2", "1"])]:
        assert refs(dana, *args) == wanted, args
    more = dana.run("list", model, "--limit", "1")
    assert more.stderr == "there is more: see --limit\n" and len(more.stdout.splitlines()) == 2
    assert dana.run("list", model, "--limit", "2").stderr == ""


def test_list_nothing(dana, ns):
    done = dana.run("list", f"{ns}/scorer", "--label", "tier=none")
    assert (done.stdout, done.stderr) == ("", "nothing found\n")
    assert dana.run("--quiet", "list", ns, "--label", "tier=none").stderr == ""
    assert dana.run("list", ns, "--label", "tier=none", "--output", "json").stdout == "[]\n"


def test_list_unknown_model(dana, ns):
    done = dana.run("list", f"{ns}/nothing", status=1)
    assert done.stdout == "" and f"{ns}/nothing" in done.stderr
    done = dana.run("list", f"{ns}/nothing", "--output=json", status=1)
    assert json.loads(done.stderr)["type"] == "urn:mlctl:error:not-found" and done.stdout == ""


# show

def test_show(server, dana, ns):
    version = dana.json("show", f"{ns}/scorer:champion")
    deadline = time.monotonic() + 10
    while version["leaf_index"] is None:
        assert time.monotonic() < deadline
        version = dana.json("show", f"{ns}/scorer:champion")
    assert version == dana.json("show", f"{ns}/scorer@{version['digest']}")
    assert version == server.client(server.admin_token).ok(
        "GET", f"/api/v1/models/{ns}/scorer/versions/1")
    time_ = version["created"].replace("T", " ")[:19]
    files = {f["path"]: f["digest"][:19] for f in version["files"]}
    assert dana.run("show", f"{ns}/scorer:v1").stdout == f"""\
{ns}/scorer:1
status       ready
aliases      champion
digest       {version['digest']}
size         {version['size']} B
pushed       {time_} UTC by {dana.name} ({dana.id})
commit       {version['commit']}
log          leaf {version['leaf_index']}

Made from
dataset      {DATASET}
code         https://git.example/fraud@{COMMIT}
run          r-17

Model
format       safetensors
parameters   16
precision    float32
tensors      F32=2
safety       no code: tensors only

Files
FILE           SIZE DIGEST              TYPE
README.md      {len((dana.home / 'one/README.md').read_bytes())} B {files['README.md']} doc
w.safetensors {version['files'][1]['size']} B {files['w.safetensors']} weight

Training metrics
NAME VALUE
auc  0.96
n    171

Labels
NAME VALUE
tier high

Card
# Scorer

Scores \\u{{1B}}[31mcards.
"""


def test_show_without_lineage(dana, ns):
    text = dana.run("show", f"{ns}/scorer").stdout
    assert text.startswith(f"{ns}/scorer:2\n")
    assert "\nMade from\nneither data nor code was named\n" in text
    assert "\nCard\n" not in text


def test_show_yaml(dana, ns):
    yaml = pytest.importorskip("yaml")
    text = dana.run("show", f"{ns}/scorer:2", "--output", "yaml").stdout
    loaded = yaml.load(text, Loader=yaml.BaseLoader)
    assert loaded["ref"] == f"{ns}/scorer:2"
    assert [f["path"] for f in loaded["files"]] == ["notes.txt", "w.safetensors"]


@pytest.mark.parametrize("what", [":9", ":nope", "@sha256:" + "0" * 64])
def test_show_unknown(dana, ns, what):
    done = dana.run("show", f"{ns}/scorer{what}", status=1)
    assert done.stdout == "" and done.stderr.startswith("mlctl: ")
    done = dana.run("--output", "json", "show", f"{ns}/scorer{what}", status=1)
    assert json.loads(done.stderr)["type"] == "urn:mlctl:error:not-found"


def test_colour_on_a_terminal_only(dana, ns):
    script = f"{build_directory()}/mlctl show {ns}/scorer"

    def shown(**env):
        done = subprocess.run(["script", "-qec", script, "/dev/null"], capture_output=True,
                              stdin=subprocess.DEVNULL, text=True, check=True,
                              env={**dana.env, "TERM": "xterm", **env})
        return done.stdout

    assert f"\033[1m{ns}/scorer:2\033[0m" in shown(NO_COLOR="")
    assert "\033" not in shown(NO_COLOR="1")
    piped = subprocess.run(script.split(), capture_output=True, text=True, check=True,
                           env={**dana.env, "NO_COLOR": "", "TERM": "xterm"})
    assert piped.stdout.startswith(f"{ns}/scorer:2\n") and "\033" not in piped.stdout


# diff

def test_diff(dana, ns):
    diff = dana.json("diff", f"{ns}/scorer:1", f"{ns}/scorer:2")
    one, two = (dana.json("show", f"{ns}/scorer:{n}") for n in (1, 2))
    assert diff["from"] == {k: one[k] for k in ("ref", "version", "digest", "size")}
    assert diff["to"]["ref"] == f"{ns}/scorer:2" and diff["identical"] is False
    assert {f["name"]: (f["from"], f["to"]) for f in diff["fields"]} == {
        "lineage.dataset": ([DATASET], []), "lineage.run": ("r-17", None), "parameters": (16, 24),
        "lineage.code": (f"https://git.example/fraud@{COMMIT}", None)}
    assert {f["name"]: f["change"] for f in diff["files"]} == {
        "README.md": "removed", "notes.txt": "added", "w.safetensors": "changed"}
    changed = next(f for f in diff["files"] if f["change"] == "changed")
    assert changed["to"] == {"size": two["files"][1]["size"], "digest": two["files"][1]["digest"]}
    assert diff["tensors"] == [{"name": "w.safetensors:first", "change": "changed",
                                "from": {"dtype": "F32", "shape": [4, 3]},
                                "to": {"dtype": "F32", "shape": [4, 5]}}]
    assert diff["metrics"] == [{"name": "auc", "from": 0.96, "to": 0.97, "delta": 0.01},
                               {"name": "n", "from": 171, "to": None, "delta": None}]
    assert sorted(diff["labels"], key=lambda l: l["name"]) == [
        {"name": "hot", "from": None, "to": "yes"}, {"name": "tier", "from": "high", "to": "low"}]
    text = dana.run("diff", f"{ns}/scorer:1", f"{ns}/scorer:2").stdout
    assert text.startswith(f"from         {ns}/scorer:1\nto           {ns}/scorer:2\n")
    assert "\nlineage.run\n  - r-17\n" in text and "\nparameters\n  - 16\n  + 24\n" in text
    assert re.search(r"^w\.safetensors changed +\d+ B +\d+ B sha256:\w{12} sha256:\w{12}$", text,
                     re.M)
    assert re.search(r"^auc +0\.96 0\.97 0\.01$", text, re.M)
    assert re.search(r"^w\.safetensors:first changed F32 +F32 +\[4,3\] \[4,5\]$", text, re.M)


def test_diff_of_the_same(dana, ns):
    diff = dana.json("diff", f"{ns}/scorer:2", f"{ns}/scorer")
    assert diff["identical"] is True
    assert not any(diff[k] for k in ("fields", "files", "tensors", "metrics", "labels"))
    assert dana.run("diff", f"{ns}/scorer:2", f"{ns}/scorer").stdout == (
        f"from         {ns}/scorer:2\nto           {ns}/scorer:2\n"
        "the artifact is the same\nnothing differs\n")
    other = f"{ns}/other"
    assert other in dana.run("diff", f"{ns}/scorer", other, status=1).stderr


# alias

@pytest.fixture
def alias(ns):
    """An alias of this test's own."""
    return f"{ns}/scorer:a{next(_numbers)}"


def test_alias_moves(dana, ns, alias):
    first = dana.run("alias", "set", alias, "1")
    digest = dana.json("show", f"{ns}/scorer:1")["digest"]
    assert first.stderr == ""
    assert first.stdout == f"alias        {alias}\nversion      1\ndigest       {digest}\n"
    again = dana.run("alias", "set", alias, "v1")
    assert again.stderr == "it named version 1 already\n" and again.stdout == first.stdout
    moved = dana.run("alias", "set", alias, "2")
    assert moved.stderr == "moved from version 1\n"
    assert dana.json("alias", "set", alias, "1", "--if", "2") == {
        "ref": alias, "model": f"{ns}/scorer", "alias": alias.split(":")[1], "version": 1,
        "digest": digest}
    history = dana.json("alias", "history", alias)
    assert [h["version"] for h in history] == [1, 2, 1]
    assert history[0]["actor"] == {"id": dana.id, "name": dana.name}
    assert alias.split(":")[1] in [a["alias"] for a in dana.json("alias", "list", f"{ns}/scorer")]
    titles, rows = table(dana.run("alias", "history", alias).stdout)
    assert titles == "SINCE (UTC) VERSION DIGEST BY" and len(rows) == 3
    assert rows[0].endswith(f" {digest[:19]} {dana.name}")


def test_alias_compare_and_set(dana, alias):
    dana.run("alias", "set", alias, "1")
    done = dana.run("alias", "set", alias, "1", "--if", "2", status=1)
    assert done.stdout == ""
    assert done.stderr == (f"mlctl: '{alias}' names version 1, not 2: it was moved meanwhile; "
                           "decide again, then say --if 1\n")
    refused = dana.run("alias", "set", alias, "2", "--if", "2", "--output=json", status=1)
    assert json.loads(refused.stderr)["type"] == "urn:mlctl:error:precondition-failed"
    assert [h["version"] for h in dana.json("alias", "history", alias)] == [1]


def test_alias_if_but_there_is_none(dana, alias):
    done = dana.run("alias", "set", alias, "1", "--if", "2", status=1)
    assert "does not exist" in done.stderr
    assert dana.json("alias", "history", alias) == []


def test_alias_unknown_version(dana, alias):
    assert dana.run("alias", "set", alias, "99", status=1).stdout == ""


def test_alias_remove(dana, ns, alias):
    dana.run("alias", "remove", alias, status=1)
    dana.run("alias", "set", alias, "2")
    dana.run("alias", "remove", alias, "--if", "1", status=1)
    assert dana.json("alias", "remove", alias)["version"] == 2
    assert alias.split(":")[1] not in [a["alias"]
                                       for a in dana.json("alias", "list", f"{ns}/scorer")]
    assert [h["version"] for h in dana.json("alias", "history", alias)] == [None, 2]
    assert " removed " in dana.run("alias", "history", alias).stdout
    dana.run("alias", "set", alias, "1")
    assert [h["version"] for h in dana.json("alias", "history", alias)] == [1, None, 2]


def test_alias_at_a_time(dana, alias):
    dana.run("alias", "set", alias, "1")
    time.sleep(0.05)
    between = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    time.sleep(0.05)
    dana.run("alias", "set", alias, "2")
    assert [h["version"] for h in dana.json("alias", "history", alias, "--at", between)] == [1]
    done = dana.run("alias", "history", alias, "--at", "2020-05-03")
    assert (done.stdout, done.stderr) == ("", "it did not exist then\n")
    assert dana.json("alias", "history", alias, "--at", "2020-05-03") == []


# version

def test_status(dana, ns):
    model = f"{ns}/status"
    (dana.home / "f").write_bytes(os.urandom(16))
    dana.run("push", model, "f")
    ref = f"{model}:1"
    done = dana.run("version", "deprecate", model, "--reason", "too \033old")
    assert done.stdout == (f"version      {ref}\nstatus       deprecated\n"
                           "reason       too \\u{1B}old\n")
    shown = dana.run("show", ref).stdout
    assert shown.startswith(f"{ref}  deprecated\nstatus       deprecated: too \\u{{1B}}old\n")
    withdrawn = dana.json("version", "withdraw", ref, "--reason", "leaks")
    assert (withdrawn["status"], withdrawn["status_reason"]) == ("withdrawn", "leaks")
    assert refs(dana, model, "--status", "withdrawn") == ["1"]
    assert dana.json("version", "restore", ref, "--reason", "it does not")["status"] == "ready"


def test_who_may_not(server, dana, ns, tmp_path, user):
    reader = user(f"evaluator@{ns}")
    for args in (["alias", "set", f"{ns}/scorer:mine", "1"],
                 ["alias", "remove", f"{ns}/scorer:champion"],
                 ["version", "withdraw", f"{ns}/scorer:1", "--reason", "x"]):
        done = reader.run(*args, status=2)
        assert done.stdout == ""
        done = reader.run(*args, "--output", "json", status=2)
        assert done.stdout == ""
        assert json.loads(done.stderr)["type"] == "urn:mlctl:error:forbidden"
    assert reader.json("show", f"{ns}/scorer:1")["status"] == "ready"
    stranger = Person(tmp_path / "stranger", server.url, "mlt_wrong")
    done = stranger.run("show", f"{ns}/scorer", "--output=json", status=2)
    assert done.stdout == ""
    assert json.loads(done.stderr)["type"] == "urn:mlctl:error:unauthenticated"


# dataset

def folder_digest(root):
    lines = b""
    for path in sorted(p.relative_to(root).as_posix().encode() for p in root.rglob("*")
                       if p.is_file()):
        data = (root / path.decode()).read_bytes()
        hexed = hashlib.sha256(data).hexdigest().encode()
        lines += path + b"\0" + str(len(data)).encode() + b"\0" + hexed + b"\n"
    return "sha256:" + hashlib.sha256(lines).hexdigest()


def test_dataset_digest(tmp_path):
    person = Person(tmp_path / "home")  # needs no server
    data = tmp_path / "data"
    (data / "b").mkdir(parents=True)
    for name, size in (("b/x.csv", 10), ("b.csv", 0), ("a", 1 << 20), ("b/é", (1 << 20) + 1)):
        (data / name).write_bytes(os.urandom(size))
    (data / "link").symlink_to("a")
    wanted = folder_digest(data)
    assert person.run("dataset", "digest", data).stdout == wanted + "\n"
    assert person.json("dataset", "digest", data) == {
        "digest": wanted, "files": 5, "bytes": 10 + (1 << 20) * 3 + 1}
    one = "sha256:" + hashlib.sha256((data / "a").read_bytes()).hexdigest()
    assert person.json("dataset", "digest", data / "a") == {"digest": one, "files": 1,
                                                            "bytes": 1 << 20}


def test_dataset_digest_refuses(tmp_path):
    person = Person(tmp_path / "home")
    data = tmp_path / "data"
    data.mkdir()
    person.run("dataset", "digest", data, status=2)
    person.run("dataset", "digest", data / "none", status=1)
    (data / "f").write_bytes(b"x")
    (data / "out").symlink_to("/etc/passwd")
    assert "out" in person.run("dataset", "digest", data, status=2).stderr
    (data / "out").unlink()
    os.mkfifo(data / "pipe")
    done = person.run("dataset", "digest", data, "--output=json", status=2)
    assert done.stdout == "" and "pipe" in json.loads(done.stderr)["detail"]
