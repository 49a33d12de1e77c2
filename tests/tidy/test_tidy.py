# SPDX-License-Identifier: Apache-2.0
"""Every rule is shown something bad, which it must name, and something good, which it must not."""
import hashlib
import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import rules  # noqa: E402
import tools  # noqa: E402
from tree import Tree  # noqa: E402

SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
LONG = "int long_one(void)\n{\n" + "        call();\n" * 68 + "}\n"
README = "# x\n" * 41


@pytest.fixture
def check(tmp_path):
    """check(rule, {path: text}) → findings."""
    def run(rule, files, build=None):
        subprocess.run(["git", "init", "-q", tmp_path], check=True)
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return list(rule(Tree(tmp_path, build)))
    return run


BAD = [
    (rules.migrations, {"migrations/SHA256SUMS": "0" * 64 + "  0001_a.sql\n",
                        "migrations/0001_a.sql": "x"}, "0001_a.sql was published"),
    (rules.sizes, {"lib/a.c": "\n" * 801}, "lib/a.c:801: more than 800"),
    (rules.sizes, {"tool": "#!/usr/bin/env bash\n" + "\n" * 800}, "tool:801: more than 800"),
    (rules.columns, {"lib/a.h": "x" * 101}, "lib/a.h:1: 101 columns"),
    (rules.columns, {"lib/a.c": "\t" * 12 + "12345"}, "lib/a.c:1: 101 columns"),
    (rules.columns, {"server/a/a.sql": "x" * 121}, "a.sql:1: 121 columns"),
    (rules.function_sizes, {"lib/a.c": "int ok(void)\n{\n}\n\n" + LONG},
     "lib/a.c:5: long_one has 71"),
    (rules.function_sizes, {"lib/a.c": 'char *s = "}{";\n' + LONG}, "long_one has 71"),
    (rules.function_sizes, {"lib/a.c": "#define X {\n" + LONG}, "long_one has 71"),
    (rules.parameters, {"lib/a.c": "int f(int a, int b, int c, int d, int e, int g)\n{\n}\n"},
     "lib/a.c:1: f takes 6"),
    (rules.parameters,
     {"lib/a.h": "int f(int a, void (*b)(int, int), int c,\n int d, int e, int g);"},
     "lib/a.h:1: f takes 6"),
    (rules.cleanups,
     {"lib/a.c": "int f(void)\n{\n        _cleanup_(done) struct s x;\n\n        if (g())\n"
                 "                return 0;\n        init(&x);\n        return 0;\n}\n"},
     "lib/a.c:3: x is cleaned up before"),
    (rules.spdx, {"lib/a.c": "int a;\n"}, "lib/a.c:1: no line"),
    (rules.spdx, {"x/y.py": "import os\n"}, "x/y.py:1: no line"),
    (rules.spdx, {"deploy/go": "#!/bin/sh\ntrue\n"}, "deploy/go:1: no line"),
    (rules.spdx, {"server/a/a.sql": "SELECT 1;\n"}, "a.sql:1: no line"),
    (rules.layers, {"lib/a/a.c": '#include "db/db.h"\n', "server/db/db.h": ""},
     "lib/a/a.c:1: lib knows neither"),
    (rules.layers, {"lib/a/a.c": '#include "../../cli/out.h"\n', "cli/out.h": ""},
     "lib/a/a.c:1: lib knows neither"),
    (rules.layers, {"lib/a/a.c": '#include "server/gone.h"\n'}, "lib knows neither"),
    (rules.layers, {"cli/a.c": '#include "gate/gate.h"\n', "server/gate/gate.h": ""},
     "cli/a.c:1: cli does not know the server"),
    (rules.layers, {"server/a/a.c": '#include "../../cli/out.h"\n', "cli/out.h": ""},
     "server does not know the command line"),
    (rules.layers, {"server/a/a.c": '#include "b/b_db.h"\n', "server/b/b_db.h": ""},
     "server/a/a.c:1: only the public header of b is for others, not server/b/b_db.h"),
    (rules.layers, {"server/doors/oci/o.c": '#include "../../b/in.h"\n', "server/b/in.h": ""},
     "only the public header of b"),
    (rules.layers, {"server/a/a.c": '#include "doors/oci/in.h"\n', "server/doors/oci/in.h": ""},
     "only the public header of doors/oci"),
    (rules.layers, {"include/mlctl/a.h": '#include "registry/registry.h"\n',
                    "server/registry/registry.h": ""}, "public headers stand alone"),
    (rules.third_party, {"server/a/a.c": "#include <jansson.h>\n"}, "belongs to lib/codec"),
    (rules.third_party, {"lib/codec/a.c": "#include <openssl/evp.h>\n"}, "belongs to lib/crypto"),
    (rules.third_party, {"lib/base/a.c": "#include <curl/curl.h>\n"}, "belongs to lib/client"),
    (rules.third_party, {"cli/a.c": "#include <archive_entry.h>\n"}, "belongs to lib/archive"),
    (rules.third_party, {"server/a/a.c": "#include <microhttpd.h>\n"}, "belongs to server/http"),
    (rules.third_party, {"server/a/a.c": "#include <postgresql/libpq-fe.h>\n"}, "to server/db"),
    (rules.third_party, {"server/a/a.h": "#include <libpq-fe.h>\n"}, "belongs to server/db"),
    (rules.third_party, {"server/a/a.c": "#include <git2.h>\n"}, "belongs to server/git"),
    (rules.third_party, {"server/a/a.c": "#include <git2/oid.h>\n"}, "belongs to server/git"),
    (rules.sql_in_c, {"server/a/a.c": 'x("SELECT a"\n  " FROM b");\n'}, "a.c:1: SQL belongs"),
    (rules.sql_in_c, {"server/a/a.c": 'x("insert into b values (1)");\n'}, "a.c:1: SQL belongs"),
    (rules.sql_in_c, {"server/a/a.c": '\nx("UPDATE b SET c = 1");\n'}, "a.c:2: SQL belongs"),
    (rules.sql_in_c, {"cli/a.c": 'x("DELETE FROM b");\n'}, "cli/a.c:1: SQL belongs"),
    (rules.leftovers, {"lib/a.c": "/* TO" "DO: later */\n"}, "lib/a.c:1: leftover"),
    (rules.leftovers, {"docs/a.md": "\nFIX" "ME\n"}, "docs/a.md:2: leftover"),
    (rules.foreign_words, {"docs/a.md": "see /wo" "rk/main\n"}, "docs/a.md:1: '/wo" "rk/'"),
    (rules.foreign_words, {"a.py": "# /tmp/bash" "_jobs.0\n"}, "a.py:1:"),
    (rules.links, {"docs/a.md": "see [b](b.md)\n"}, "docs/a.md:1: broken link b.md"),
    (rules.links, {"docs/a.md": "[x](b.md#gone)\n", "docs/b.md": "# Here\n"},
     "no heading for b.md#gone"),
    (rules.links, {"a.md": "[x](../outside.md)\n"}, "broken link ../outside.md"),
    (rules.readmes, {"server/b/b.h": ""}, "server/b/README.md:1: missing"),
    (rules.readmes, {"server/doors/oci/oci.h": ""}, "server/doors/oci/README.md:1: missing"),
    (rules.readmes, {"server/b/b.h": "", "server/b/README.md": README}, "41 lines, at most 40"),
    (tools.clang_format, {".clang-format": "BasedOnStyle: LLVM\n", "lib/a.c": "int a;\nint  b;\n"},
     "lib/a.c:2: clang-format-14 would change it"),
    (tools.shellcheck, {"deploy/x": "#!/bin/sh\necho $1\n"}, "deploy/x:2:"),
    (tools.headers, {"lib/a.h": "size_t f(void);\n"}, "lib/a.h:1: does not compile alone"),
    (tools.headers, {"lib/a.h": "#include <stddef.h>\nstruct s { int a; };\n"}, "redefinition"),
]


def name(value):
    return getattr(value, "__name__", None)


@pytest.mark.parametrize("rule, files, what", BAD, ids=name)
def test_bad_is_named(check, rule, files, what):
    findings = check(rule, files)
    assert any(what in finding for finding in findings), findings


GOOD = [
    (rules.migrations,
     {"migrations/SHA256SUMS": hashlib.sha256(b"x").hexdigest() + "  0001_a.sql\n",
      "migrations/0001_a.sql": "x", "migrations/0002_b.sql": "y"}),
    (rules.sizes, {"lib/a.c": "\n" * 800, "docs/a.md": "\n" * 900}),
    (rules.columns, {"lib/a.c": "x" * 100, "docs/a.md": "x" * 200, "b.c": "ü" * 100}),
    (rules.function_sizes, {"lib/a.c": LONG.replace("call();\n", "call();\n", 1).replace(
        "        call();\n", "", 1) + "/* } */\nstatic int b(void)\n{\n}\n"}),
    (rules.parameters, {
        "lib/a.h": "int f(int a, void (*b)(int, int, int, int, int, int), int c, int d, ...);\n"
                   "#define M(a, b, c, d, e, f) g((a), (b), (c), (d), (e), (f))\n",
        "lib/a.c": "int g(void)\n{\n        call(1, 2, 3, 4, 5, 6, 7);\n}\n"
                   "int h(int a, int b, const char *file, int line,\n      const char *fmt, ...)\n"
                   "{\n}\n"}),
    (rules.cleanups,
     {"lib/a.c": "int f(void)\n{\n        _cleanup_(done) struct s x;\n"
                 "        _cleanup_(done) struct s y = {0};\n\n        init(&x);\n"
                 "        return 0;\n}\n"}),
    (rules.spdx, {"lib/a.c": SPDX, "deploy/go": "#!/bin/sh\n# " + SPDX, "a.md": "x"}),
    (rules.layers, {
        "lib/a/a.c": '#include "base/arena.h"\n#include "mlctl/error.h"\n', "lib/base/arena.h": "",
        "include/mlctl/error.h": "", "server/a/a.h": "", "server/b/b_db.h": "",
        "server/b/b.c": '#include "b_db.h"\n#include "a/a.h"\n', "server/doors/oci/oci.h": "",
        "server/app.c": '#include "b/b.h"\n#include "doors/oci/oci.h"\n', "server/b/b.h": "",
        "cli/c.c": '#include "out.h"\n#include "client/client.h"\n', "cli/out.h": ""}),
    (rules.third_party, {
        "lib/crypto/a.c": "#include <openssl/evp.h>\n",
        "lib/codec/json.h": "#include <jansson.h>\n",
        "server/a/a.c": '#include "codec/json.h"\n#include "archive/archive.h"\n',
        "lib/archive/archive.h": "#include <archive.h>\n",
        "server/db/db.c": "#include <libpq-fe.h>\n",
        "tests/unit/a.c": "#include <git2.h>\n"}),
    (rules.sql_in_c, {
        "server/a/a.c": '/* "SELECT a FROM b" */ x("select a", "select a key from it");\n',
        "server/a/a.sql": "SELECT a FROM b;", "tests/a.c": 'x("DELETE FROM b");'}),
    (rules.leftovers, {"lib/a.c": "int todo_count;\n"}),
    (rules.foreign_words, {"a.md": "server/work/ and ./network/x\n"}),
    (rules.links, {"docs/a.md": "[x](b.md#a-b) [y](https://e.example/x) `[z](gone.md)` [me](#top)\n"
                                "# Top\n```\n[n](no.md)\n```\n", "docs/b.md": "## A `B`!\n"}),
    (rules.readmes, {"server/b/b.h": "", "server/b/README.md": "# b\n", "server/b/c.h": ""}),
    (tools.clang_format, {".clang-format": "BasedOnStyle: LLVM\n", "lib/a.c": "int a;\n"}),
    (tools.shellcheck, {"deploy/x": '#!/bin/sh\necho "$1"\n'}),
    (tools.headers, {"lib/a.h": "#pragma once\n#include <stddef.h>\nsize_t f(void);\n"}),
]


@pytest.mark.parametrize("rule, files", GOOD, ids=name)
def test_good_is_left_alone(check, rule, files):
    assert check(rule, files) == []


def test_every_rule_has_both_proofs():
    every = {rule.__name__ for rule in [*rules.ALL, *tools.ALL]}
    assert every == {bad[0].__name__ for bad in BAD} == {good[0].__name__ for good in GOOD}


def test_headers_use_the_flags_of_the_build(check, tmp_path):
    build = tmp_path / "build"
    build.mkdir()
    command = f"gcc -DSIZE=int -I{tmp_path}/lib -o a.o -c {tmp_path}/lib/a.c"
    (build / "compile_commands.json").write_text(json.dumps(
        [{"directory": str(tmp_path), "command": command, "file": f"{tmp_path}/lib/a.c"}]))
    files = {"lib/a.c": "", "lib/a.h": "#pragma once\nSIZE f(void);\n"}
    assert check(tools.headers, files, build) == []
    assert check(tools.headers, files, None) != []


def test_exit_status_and_report(check, tmp_path):
    def run(*args):
        return subprocess.run([HERE / "run", "--root", tmp_path, *args], capture_output=True,
                              text=True, check=False)
    check(rules.spdx, {"lib/a.c": "int a;\n"})
    done = run("--junit", tmp_path / "o.xml", "spdx", "sizes")
    assert done.returncode == 1 and done.stdout.startswith("lib/a.c:1: no line")
    report = (tmp_path / "o.xml").read_text()
    assert report.count("<testcase") == 2 and report.count("<failure") == 1
    assert run("sizes").returncode == 0
    assert run("unknown").returncode == 2
