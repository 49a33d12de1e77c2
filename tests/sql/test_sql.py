# SPDX-License-Identifier: Apache-2.0
"""The migrations, every statement on the schema that they make, and the pgTAP files here.

tests/sql/*.sql run in a transaction on the migrated schema, with pgTAP: plan(n) … finish().
"""
import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
PGTAP = sorted(HERE.glob("*.sql"))
MIGRATIONS = sorted((ROOT / "migrations").glob("*.sql"))


def _sqlgen():
    spec = importlib.util.spec_from_file_location("sqlgen", ROOT / "lib/api/gen/sqlgen.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STATEMENTS = [(path.name, name, text)
              for path in sorted((ROOT / "server").rglob("*.sql"))
              for name, text, *_ in _sqlgen().parse(path)]

# what PREPARE takes; the others (the table of migrations itself) are run
PREPARABLE = re.compile(r"\s*(select|insert|update|delete|merge|values|with)\b", re.I)


@pytest.fixture(scope="module")
def migrated(postgres):
    """A database with the whole schema, by name."""
    name = postgres.create()
    for _, _, text in STATEMENTS:
        if re.match(r"\s*create table if not exists", text, re.I):
            postgres.psql(text, name)  # by the runner, before the first migration
    for path in MIGRATIONS:
        postgres.psql(path.read_text(encoding="utf-8"), name)
    yield name
    postgres.drop(name)


def test_migrations_are_numbered_without_a_gap():
    names = [path.name for path in MIGRATIONS]
    assert [name[:5] for name in names] == [f"{i:04d}_" for i in range(1, len(names) + 1)]
    assert all(re.fullmatch(r"\d{4}_[a-z0-9_]+\.sql", name) for name in names)


def test_migrations_leave_transactions_to_the_runner():
    for path in MIGRATIONS:
        text = re.sub(r"\$\$.*?\$\$|--[^\n]*", "", path.read_text(encoding="utf-8"), flags=re.S)
        assert not re.search(r"^\s*(begin|commit|rollback)\s*;", text, re.I | re.M), path.name


@pytest.mark.parametrize("file, name, text", STATEMENTS,
                         ids=[f"{file}-{name}" for file, name, _ in STATEMENTS])
def test_statement_is_prepared(postgres, migrated, file, name, text):
    prepare = f"PREPARE {name} AS " if PREPARABLE.match(text) else ""
    postgres.psql(f"{prepare}{text};", migrated)


@pytest.mark.parametrize("path", PGTAP, ids=[path.stem for path in PGTAP])
def test_pgtap(postgres, migrated, path):
    name = postgres.create(template=migrated)
    try:
        postgres.psql("CREATE EXTENSION pgtap", name)
        rows = [row[0] for row in postgres.psql(path.read_text(encoding="utf-8"), name) if row]
        plan = [int(row[3:]) for row in rows if row.startswith("1..")]
        passed = [row for row in rows if row.startswith("ok ")]
        assert len(plan) == 1, "one plan()"
        assert len(passed) == plan[0], "\n".join(rows)
        assert not [row for row in rows if row.startswith("not ok")], "\n".join(rows)
    finally:
        postgres.drop(name)
