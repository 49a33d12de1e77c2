# SPDX-License-Identifier: Apache-2.0
import hashlib
import importlib.util
import os
import subprocess

import pytest

ROOT = os.path.join(os.path.dirname(__file__), "../../..")
SCRIPT = os.path.join(ROOT, "lib/api/gen/migrations.py")
spec = importlib.util.spec_from_file_location("migrations", SCRIPT)
migrations = importlib.util.module_from_spec(spec)
spec.loader.exec_module(migrations)


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8"))
    return str(path)


def test_order_and_checksum(tmp_path):
    text = "CREATE TABLE ü (\n\ta text\n);\n"
    two = write(tmp_path, "0002_b_c.sql", "SELECT 1;\n")
    one = write(tmp_path, "0001_a.sql", text)
    found = migrations.read([two, one])
    assert [(m[0], m[1]) for m in found] == [(1, "a"), (2, "b_c")]
    assert found[0][2] == hashlib.sha256(text.encode("utf-8")).hexdigest()
    assert found[0][3] == text


@pytest.mark.parametrize("name", ["1_a.sql", "0000_a.sql", "0001_A.sql", "0001-a.sql", "0001_.sql",
                                  "0001_a.txt", "00001_a.sql"])
def test_names_that_are_refused(tmp_path, name):
    with pytest.raises(migrations.MigrationError, match="not named NNNN_name.sql"):
        migrations.read([write(tmp_path, name, "SELECT 1;")])


def test_a_number_taken_twice(tmp_path):
    paths = [write(tmp_path, name, "SELECT 1;") for name in ("0003_a.sql", "0003_b.sql")]
    with pytest.raises(migrations.MigrationError, match="number 0003 is taken by a"):
        migrations.read(paths)


@pytest.mark.parametrize("text", ["BEGIN;\nSELECT 1;", "SELECT 1;\n  commit ;", "rollback;",
                                  "START  TRANSACTION;", "SELECT 1;\nEND;"])
def test_transactions_are_the_runners(tmp_path, text):
    with pytest.raises(migrations.MigrationError, match="begins or ends a transaction"):
        migrations.read([write(tmp_path, "0001_a.sql", text)])


def test_bodies_of_functions_may_say_begin_and_end(tmp_path):
    text = ("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $body$\n"
            "BEGIN\n  RETURN NULL;\nEND;\n$body$;\n")
    assert len(migrations.read([write(tmp_path, "0001_a.sql", text)])) == 1


def test_the_compiler_reads_what_the_file_says(tmp_path):
    """Quotes, backslashes, trigraphs, tabs and what is not ASCII come back byte by byte."""
    text = "SELECT '\\n \"q\" ??= %s\t' || 'ü€';\r\n-- \\\n"
    out, program, main = tmp_path / "m.c", tmp_path / "m", tmp_path / "main.c"
    subprocess.run([SCRIPT, out, write(tmp_path, "0007_odd.sql", text)], check=True)
    main.write_text('#include <stdio.h>\n#include "db/migrations.h"\nint main(void) {\n'
                    'const struct db_migration *m = gen_migrations;\n'
                    'return printf("%d %s %s\\n%s", m->version, m->name, m->sha256, m->text) < 0 ||'
                    ' gen_n_migrations != 1; }\n')
    subprocess.run(["cc", "-std=gnu17", "-I", os.path.join(ROOT, "server"), "-o", program, out,
                    main], check=True)
    printed = subprocess.run([program], check=True, capture_output=True).stdout
    head, _, body = printed.partition(b"\n")
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    assert head.decode("ascii").split() == ["7", "odd", digest]
    assert body.rstrip(b"\n") == text.encode("utf-8").rstrip(b"\n")


def test_errors_are_one_line(tmp_path):
    done = subprocess.run([SCRIPT, tmp_path / "o.c", write(tmp_path, "bad.sql", "")],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "bad.sql" in done.stderr
    assert not (tmp_path / "o.c").exists()
