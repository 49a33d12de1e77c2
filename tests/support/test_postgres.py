# SPDX-License-Identifier: Apache-2.0
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from support import process
from support.postgres import Postgres


def test_databases_are_copies_of_their_template(postgres):
    first = postgres.create()
    postgres.psql("CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x|y'), (2, 'z');",
                  first)
    second = postgres.create(template=first)
    postgres.psql("DELETE FROM t WHERE a = 2", second)
    assert postgres.psql("SELECT a, b FROM t ORDER BY a", first) == [["1", "x|y"], ["2", "z"]]
    assert postgres.psql("SELECT a, b FROM t", second) == [["1", "x|y"]]
    postgres.drop(second)
    with pytest.raises(RuntimeError, match="does not exist"):
        postgres.psql("SELECT 1", second)


def test_psql_raises_and_rolls_back(postgres):
    name = postgres.create()
    with pytest.raises(RuntimeError, match="division by zero"):
        postgres.psql("CREATE TABLE gone (a int); SELECT 1/0;", name)
    assert postgres.psql("SELECT to_regclass('gone') IS NULL", name) == [["t"]]


def test_listens_on_no_address(postgres):
    assert postgres.psql("SHOW listen_addresses") == [[""]]


def test_runs_below_a_closed_temporary_directory(tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr("tempfile.tempdir", str(closed))
    path = process.reachable_directory("mlc-t-")
    try:
        assert process.open_to_all(path)
        assert not process.open_to_all(closed)
    finally:
        path.rmdir()


def test_stop_leaves_nothing():
    with Postgres() as one:
        pid, directory = one.child.pid, one.directory
        assert process.alive(pid)
        assert one.psql("SELECT 40 + 2") == [["42"]]
    assert not process.alive(pid)
    assert not directory.exists()


def test_dies_with_the_test_run(tmp_path):
    script = tmp_path / "start.py"
    script.write_text(textwrap.dedent("""
        import time
        from support.postgres import Postgres
        one = Postgres().start()
        print(one.child.pid, one.directory, flush=True)
        time.sleep(60)
    """))
    env = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(__file__)))
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True,
                          env=env) as run:
        pid, directory = run.stdout.readline().split()
        run.send_signal(signal.SIGKILL)
    process.wait_until(lambda: not process.alive(pid), 20, "the cluster stops")
    subprocess.run(["rm", "-rf", directory], check=True)
