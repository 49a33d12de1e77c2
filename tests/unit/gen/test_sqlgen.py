# SPDX-License-Identifier: Apache-2.0
import importlib.util
import os
import subprocess

import pytest

ROOT = os.path.join(os.path.dirname(__file__), "../../..")
SCRIPT = os.path.join(ROOT, "lib/api/gen/sqlgen.py")
spec = importlib.util.spec_from_file_location("sqlgen", SCRIPT)
sqlgen = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sqlgen)


def write(tmp_path, text, name="x.sql"):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


def test_blocks_and_parameters(tmp_path):
    path = write(
        tmp_path,
        "-- SPDX\n\n-- name: one_get\n-- why\n"
        "SELECT a\n  FROM t WHERE a = $1 AND b = $2 AND c = $1;\n\n"
        "-- name: two_add\nINSERT INTO t VALUES ($1::text)\n",
    )
    assert sqlgen.parse(path) == [
        ("one_get", "SELECT a\n  FROM t WHERE a = $1 AND b = $2 AND c = $1", 2),
        ("two_add", "INSERT INTO t VALUES ($1::text)", 1),
    ]


@pytest.mark.parametrize(
    "sql,n",
    [
        ("SELECT 1", 0),
        ("SELECT '$1'", 0),
        ("SELECT 'it''s $1; --', $1", 1),
        (r"SELECT E'\'$1', $1", 1),
        ('SELECT "$1", $1', 1),
        ("SELECT $$ $1 ; -- $$, $1", 1),
        ("SELECT $a$ $2 $$ $a$, $1", 1),
        ("SELECT /* $9 /* ; */ */ $1", 1),
        ("SELECT $1 -- $2 ; '", 1),
        ("SELECT a$2 FROM t WHERE b = $1", 1),
        ("SELECT $10, $1, $2, $3, $4, $5, $6, $7, $8, $9", 10),
    ],
)
def test_what_counts_as_parameter(sql, n):
    text, found = sqlgen.clean(sql)
    assert found == n
    assert "/*" not in text and "-- $2" not in text


@pytest.mark.parametrize(
    "sql,message",
    [
        ("SELECT $2", "$1 is not used"),
        ("SELECT $0", "$0 is not used"),
        ("SELECT 1; SELECT 2", "more than one"),
        ("SELECT 1; 2", "more than one"),
        ("SELECT 1;;", "more than one"),
        ("SELECT 'a", "not closed"),
        ('SELECT "a', "not closed"),
        ("SELECT $$a", "not closed"),
        ("SELECT /* a", "not closed"),
        ("-- only a comment\n ;", "no statement"),
    ],
)
def test_refused(sql, message):
    with pytest.raises(sqlgen.SqlError, match=message.replace("$", r"\$")):
        sqlgen.clean(sql)


def test_names_are_checked(tmp_path):
    with pytest.raises(sqlgen.SqlError, match="x.sql:1: 'a b'"):
        sqlgen.parse(write(tmp_path, "-- name: a b\nSELECT 1"))
    with pytest.raises(sqlgen.SqlError, match="named twice, first at line 1"):
        sqlgen.parse(write(tmp_path, "-- name: a\nSELECT 1\n-- name: A\nSELECT 2"))
    with pytest.raises(sqlgen.SqlError, match="x.sql:1: text before"):
        sqlgen.parse(write(tmp_path, "SELECT 1\n-- name: a\nSELECT 1"))


def test_duplicates_across_files(tmp_path):
    a = write(tmp_path, "-- name: same\nSELECT 1", "a.sql")
    b = write(tmp_path, "-- name: same\nSELECT 1", "b.sql")
    with pytest.raises(sqlgen.SqlError, match="also named in .*a.sql"):
        sqlgen.table([a, b])
    c = write(tmp_path, "-- name: other\nSELECT 1", "sub/a.sql")
    with pytest.raises(sqlgen.SqlError, match="same file name"):
        sqlgen.table([a, c])


def test_output_compiles_and_holds_the_text(tmp_path):
    sql = 'SELECT "a", \'x\\y ??)\' /* c */,\n\t$1::text'
    x = write(tmp_path, f"-- name: get_it\n{sql};\n", "x.sql")
    y = write(tmp_path, "-- name: nothing\nSELECT 1\n", "y.sql")
    gen = tmp_path / "gen"
    (tmp_path / "db").mkdir()
    (tmp_path / "db/db.h").write_text(
        "#pragma once\n#include <stddef.h>\n"
        "struct db_stmt { const char *name, *text; int n_params; };\n"
    )
    for source in (x, y):
        assert sqlgen.main(["header", source, str(gen / (os.path.basename(source) + ".h"))]) == 0
    assert sqlgen.main(["table", str(gen / "all.c"), str(gen / "all_statements.h"), y, x]) == 0
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "gen/all_statements.h"\n'
        "int main(void) { for (unsigned i = 0; gen_all_statements[i]; i++)"
        ' printf("%s|%d|%s|", gen_all_statements[i]->name, gen_all_statements[i]->n_params,'
        " gen_all_statements[i]->text); return gen_n_all_statements != 2; }\n"
    )
    exe = str(tmp_path / "a.out")
    subprocess.run(
        ["gcc", "-Wall", "-Wextra", "-Werror", "-I", str(tmp_path), "-o", exe,
         str(tmp_path / "main.c"), str(gen / "all.c")],
        check=True,
    )
    out = subprocess.run([exe], check=True, capture_output=True, text=True).stdout
    assert out == "get_it|1|SELECT \"a\", 'x\\y ??)'  ,\n\t$1::text|nothing|0|SELECT 1|"


def test_errors_are_one_line_and_exit_1(tmp_path, capsys):
    bad = write(tmp_path, "-- name: a\nSELECT $2")
    assert sqlgen.main(["header", bad, str(tmp_path / "o.h")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("sqlgen: ") and err.count("\n") == 1
    assert not (tmp_path / "o.h").exists()
    assert sqlgen.main([]) == 2
