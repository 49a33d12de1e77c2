# SPDX-License-Identifier: Apache-2.0
"""Starting, stopping and surviving: the embedded PostgreSQL, locks, refusals, accounts."""
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import time

import pytest

from support import process
from support.postgres import BIN
from support.server import build_directory

DAC_READ_SEARCH = 1 << 2
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def events(server, name):
    """The log lines of this event, over all runs of this server."""
    found = []
    for line in server.output().splitlines():
        if line.startswith("{") and f'"event":"{name}"' in line:
            found.append(json.loads(line))
    return found


def up(server, seconds=60):
    """Starts it and waits until its start is through."""
    before = len(events(server, "server.ready"))
    server.spawn()

    def ready():
        assert server.child.poll() is None, server.output()
        return len(events(server, "server.ready")) > before

    process.wait_until(ready, seconds, "server.ready")
    return server


def refused(server, status=1, seconds=60):
    """Starts it and returns the one line that it ends with."""
    before = len(server.output())
    server.spawn()
    rc = server.child.wait(seconds)
    server.child = None
    lines = [line for line in server.output()[before:].splitlines() if not line.startswith("{")]
    assert rc == status, server.output()
    assert len(lines) == 1, lines
    assert lines[0].startswith("mlctld: ")
    return lines[0]


def postmaster(server):
    """The process id in postmaster.pid, or None."""
    try:
        text = (server.directory / "postgres/data/postmaster.pid").read_text(encoding="ascii")
        return int(text.split("\n", maxsplit=1)[0])
    except FileNotFoundError:
        return None


def gone(pid, seconds=10):
    process.wait_until(lambda: not process.alive(pid), seconds, f"process {pid} ends")


def status_of(pid, field):
    text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return re.search(rf"^{field}:\s*(.*)$", text, re.M).group(1)


@pytest.mark.threads
def test_start_stop_start(make_server):
    server = up(make_server())
    pid = postmaster(server)
    server.stop()
    assert not process.alive(pid)
    assert postmaster(server) is None, "not a clean shutdown"
    up(server)
    applied = [e["version"] for e in events(server, "db.migrated")]
    assert applied and len(applied) == len(set(applied)), "a migration was applied twice"
    server.stop()


def test_files_while_it_runs(make_server):
    server = make_server().start()
    address = server.directory / "address"
    assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*\n", address.read_text(encoding="ascii"))
    assert (server.directory / "lock").read_text(encoding="ascii") == str(server.pid)
    token = server.directory / "admin-token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert [e["token_file"] for e in events(server, "server.admin_created")] == [str(token)]
    assert server.admin_token not in server.output()
    server.client(server.admin_token).ok("GET", "/api/v1/users")
    server.stop()
    assert not address.exists()
    first = token.read_text(encoding="ascii")
    server.start()
    assert token.read_text(encoding="ascii") == first
    assert len(events(server, "server.admin_created")) == 1


def admin_token(server, status=0):
    done = subprocess.run([build_directory() / "mlctld", "admin-token", "--data", server.directory],
                          capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout.strip()


def test_admin_token_beside_a_running_server_and_without(make_server):
    server = make_server().start()
    first, second = server.admin_token, admin_token(server)
    assert second != first and server.admin_token == second
    for token in (first, second):
        server.client(token).ok("GET", "/api/v1/users")
    server.stop()
    third = admin_token(server)
    assert postmaster(server) is None, "the cluster was left running"
    server.start()
    server.client(third).ok("GET", "/api/v1/users")


def test_admin_token_needs_a_directory(tmp_path):
    done = subprocess.run([build_directory() / "mlctld", "admin-token", "--data",
                           tmp_path / "none"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "none" in done.stderr and not (tmp_path / "none").exists()


@pytest.mark.threads
@pytest.mark.parametrize("pause", [0, 2])
def test_killed_server_takes_its_cluster_along(make_server, pause):
    server = up(make_server())
    server.sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)")
    pid = postmaster(server)
    server.kill()
    if pause:
        gone(pid)
    up(server)
    assert postmaster(server) != pid
    assert server.sql("SELECT n FROM kept") == "42"
    server.stop()


def test_interrupt_stops_it_too(make_server):
    server = up(make_server())
    server.child.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert server.child.poll() is None
    server.child.send_signal(signal.SIGINT)
    assert server.child.wait(30) == 0


def test_stop_during_start(make_server):
    server = make_server().spawn()
    blocked = 1 << (signal.SIGTERM - 1)  # from the first line of main()
    process.wait_until(lambda: int(status_of(server.pid, "SigBlk"), 16) & blocked, 20,
                       "mlctld handles signals")
    server.stop()


def test_second_server_names_the_first(make_server):
    first = up(make_server())
    second = make_server(first.directory)
    second.log = first.directory.with_name("second.stderr")
    assert f"process {first.pid}" in refused(second)
    assert process.alive(postmaster(first))
    first.stop()


def test_stray_cluster_is_stopped(make_server):
    """One that was not told of the death of its mlctld, as by a debugger."""
    server = up(make_server())
    command = pathlib.Path(f"/proc/{postmaster(server)}/cmdline").read_bytes().split(b"\0")[:-1]
    server.stop()
    child = subprocess.Popen(command, env={"LC_ALL": "C.UTF-8"}, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                             **stray_account(server))
    try:
        process.wait_until(lambda: postmaster(server) == child.pid, 20, "the stray runs")
        up(server)
        child.wait(5)
        assert postmaster(server) not in (None, child.pid)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    server.stop()


def stray_account(server):
    """As the cluster runs, given that its directories can be walked to."""
    if os.geteuid() == 0:
        os.chmod(server.directory.parent, 0o711)
    return process.account("postgres")


def test_pid_file_of_a_number_that_another_process_has_now(make_server):
    server = up(make_server())
    pid_file = server.directory / "postgres/data/postmaster.pid"
    text = pid_file.read_text(encoding="ascii")
    server.stop()
    other = subprocess.Popen(["sleep", "600"], cwd="/", **process.account("postgres"))
    try:
        pid_file.write_text("\n".join([str(other.pid), *text.split("\n")[1:]]), encoding="ascii")
        up(server)
        assert other.poll() is None
        server.stop()
    finally:
        other.kill()
        other.wait()


def test_postgres_killed(make_server):
    server = up(make_server())
    pid = postmaster(server)
    process.wait_until(lambda: events(server, "leader.gained"), 30, "it leads")
    os.kill(pid, signal.SIGKILL)
    process.wait_until(lambda: postmaster(server) not in (None, pid), 30, "a new postmaster")
    process.wait_until(lambda: len(events(server, "leader.gained")) >= 2, 30, "it leads again")
    assert events(server, "db.cluster_ended")
    assert server.sql("SELECT 1") == "1"
    server.stop()


def test_backend_killed(make_server):
    """PostgreSQL restarts all of its backends then; the server goes on."""
    server = up(make_server())
    backend = int(server.sql("SELECT max(pid) FROM pg_stat_activity WHERE backend_type = "
                             "'client backend' AND pid <> pg_backend_pid()"))
    os.kill(backend, signal.SIGKILL)
    process.wait_until(lambda: len(events(server, "leader.gained")) >= 2, 30, "it leads again")
    server.stop()


@as_root
def test_as_root_below_a_closed_parent(make_server):
    server = make_server()
    assert server.directory.parent.stat().st_mode & 0o777 == 0o700
    up(server)
    pid = postmaster(server)
    account = pwd.getpwnam("postgres")
    assert status_of(pid, "Uid").split() == [str(account.pw_uid)] * 4
    assert status_of(pid, "Gid").split() == [str(account.pw_gid)] * 4
    for kind in ("CapPrm", "CapEff", "CapAmb"):
        assert int(status_of(pid, kind), 16) == DAC_READ_SEARCH, kind
    assert server.directory.stat().st_mode & 0o777 == 0o711
    assert (server.directory / "postgres").stat().st_uid == account.pw_uid
    for path in server.directory.iterdir():
        if path.name != "postgres":
            assert path.stat().st_uid == 0 and path.stat().st_mode & 0o077 == 0, path
    server.stop()


@as_root
def test_as_root_below_an_open_parent_no_capability(make_server):
    server = make_server()
    os.chmod(server.directory.parent, 0o711)
    up(server)
    for kind in ("CapPrm", "CapEff", "CapAmb", "CapInh"):
        assert int(status_of(postmaster(server), kind), 16) == 0, kind
    server.stop()


@as_root
def test_copied_directory_that_belongs_to_root(make_server):
    server = up(make_server())
    server.sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
    server.stop()
    copy = make_server(server.directory.with_name("copy"))
    shutil.copytree(server.directory, copy.directory, copy_function=shutil.copyfile)
    os.chmod(copy.directory / "postgres/data", 0o700)
    up(server)     # both at once
    up(copy)
    assert copy.sql("SELECT n FROM kept") == "7"
    copy.stop()
    server.stop()


@as_root
def test_as_somebody_else(tmp_path_factory):
    """Not root: everything belongs to the caller, PostgreSQL included."""
    base = process.reachable_directory("mlc-n-")
    who = process.account("nobody")
    program = base / "mlctld"
    try:
        shutil.copy(build_directory() / "mlctld", program)
        home = base / "home"
        home.mkdir(mode=0o700)
        os.chown(home, who["user"], who["group"])
        env = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
        with open(base / "log", "wb") as log:
            child = subprocess.Popen([program, "serve", "--data", home / "d", "--listen",
                                      "127.0.0.1:0"], env=env, cwd="/", stderr=log,
                                     stdin=subprocess.DEVNULL,
                                     preexec_fn=process.die_with_parent(signal.SIGTERM), **who)
        try:
            process.wait_until(lambda: b"server.ready" in (base / "log").read_bytes() or
                               child.poll() is not None, 60, "ready")
            assert child.poll() is None, (base / "log").read_text()
            assert (home / "d/postgres/data").stat().st_uid == who["user"]
            assert (home / "d").stat().st_mode & 0o777 == 0o700
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 0
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
    finally:
        shutil.rmtree(base)


def test_long_path_gets_a_short_socket_directory(make_server):
    directory = make_server().directory.parent / ("x" * 120) / "it's a \"path\", with blanks"
    server = make_server(directory)
    directory.parent.mkdir()
    up(server)
    lines = (directory / "postgres/data/postmaster.pid").read_text(encoding="utf-8").split("\n")
    sockets = pathlib.Path(lines[4])
    assert len(str(sockets)) < 40 and sockets.stat().st_mode & 0o777 == 0o700
    server.stop()
    assert not sockets.exists()


def test_odd_characters_in_the_path(make_server):
    directory = make_server().directory.parent / "it's \"odd\", \\ and has blanks"
    server = up(make_server(directory))
    server.stop()
    up(server)
    server.stop()


def test_data_of_a_version_that_is_not_installed(make_server):
    server = up(make_server())
    server.stop()
    version = server.directory / "postgres/data/PG_VERSION"
    version.write_text("12\n", encoding="ascii")
    line = refused(server)
    for part in ("PostgreSQL 12", "apt-get install postgresql-12", "pg_upgrade"):
        assert part in line
    assert version.read_text(encoding="ascii") == "12\n"


def test_killed_while_the_cluster_was_made(make_server):
    server = make_server()
    fresh = server.directory / "postgres/data.new"
    server.spawn()
    process.wait_until(lambda: fresh.is_dir() and any(fresh.iterdir()), 30, "initdb works")
    server.kill()
    assert not (server.directory / "postgres/data").exists()
    up(server)
    assert not fresh.exists()
    server.stop()


def test_ended_while_the_cluster_was_made(make_server):
    """SIGTERM does not wait for initdb; the next start makes it anew."""
    server = make_server()
    fresh = server.directory / "postgres/data.new"
    server.spawn()
    process.wait_until(lambda: fresh.is_dir() and any(fresh.iterdir()), 30, "initdb works")
    child, began = server.child, time.monotonic()
    server.stop()
    assert child.returncode == 0 and time.monotonic() - began < 5
    assert "told to end before the database was made" in server.output()
    assert not (server.directory / "postgres/data").exists()
    up(server)
    server.stop()


def test_newer_database_is_refused(make_server):
    server = up(make_server())
    server.sql("INSERT INTO schema_migration (version, name, sha256) "
               "VALUES (9999, 'future', repeat('0', 64))")
    server.stop()
    line = refused(server)
    assert "newer than this program" in line and "9999 'future'" in line
    assert postmaster(server) is None, "the cluster was left running"


def test_changed_migration_is_refused(make_server):
    server = up(make_server())
    server.sql("UPDATE schema_migration SET sha256 = repeat('0', 64) WHERE version = 2")
    server.stop()
    line = refused(server)
    assert re.search(r"migration 2 '\w+' was changed after it was applied", line)


def test_two_servers_on_one_external_database(make_server, postgres, database):
    postgres.psql("CREATE ROLE plain LOGIN")
    postgres.psql(f"ALTER DATABASE {database} OWNER TO plain")
    try:
        conninfo = postgres.conninfo(database, "plain")
        one = make_server(postgres=conninfo)
        two = make_server(one.directory, postgres=conninfo)
        two.log = one.directory.with_name("two.stderr")
        up(one)
        up(two)
        assert not (one.directory / "postgres").exists()
        assert not events(one, "db.superuser")
        time.sleep(1.5)
        assert (len(events(one, "leader.gained")), len(events(two, "leader.gained"))) == (1, 0)
        embedded = make_server(one.directory)
        embedded.log = one.directory.with_name("embedded.stderr")
        assert "another mlctld" in refused(embedded)
        one.kill()
        process.wait_until(lambda: events(two, "leader.gained"), 10, "the other takes over")
        two.stop()
    finally:
        postgres.psql(f"ALTER DATABASE {database} OWNER TO postgres; DROP OWNED BY plain CASCADE",
                      database)
        postgres.psql("DROP ROLE plain")


def test_external_database_away(make_server):
    line = refused(make_server(postgres="host=/nonexistent dbname=x user=y"))
    assert "cannot connect to the database" in line


def test_external_superuser_is_warned_of(make_server, postgres, database):
    server = up(make_server(postgres=postgres.conninfo(database)))
    assert events(server, "db.superuser")
    server.stop()


def test_runtime_role_cannot_become_more(make_server):
    server = up(make_server())
    assert server.sql("SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication "
                      "OR rolbypassrls FROM pg_roles WHERE rolname = current_user") == "f"
    tcp = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=False).stdout
    assert f"pid={postmaster(server)}," not in tcp
    server.stop()


@pytest.mark.parametrize("arguments, says", [
    ([], "usage"),
    (["nope"], "unknown command 'nope'"),
    (["serve"], "--data DIR is missing"),
    (["serve", "--data", "/nonexistent/x", "--nope"], "unknown option '--nope'"),
    (["serve", "--data"], "--data needs DIR"),
    (["serve", "extra", "--data", "/tmp"], "takes 0 arguments"),
])
def test_usage(arguments, says):
    done = subprocess.run([build_directory() / "mlctld", *arguments], capture_output=True,
                          text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 2 and done.stdout == "" and says in done.stderr


def test_help_version_and_manual():
    program = build_directory() / "mlctld"
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert "serve" in done.stdout and "--data DIR" in done.stdout and done.stderr == ""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"mlctld \d+\.\d+\.\d+\n", done.stdout)
    manual = subprocess.run([program, "--man"], capture_output=True, check=True).stdout
    lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning"], input=manual,
                          capture_output=True, check=False)
    assert lint.returncode == 0, lint.stdout


def test_ready_within_half_a_second(make_server):
    """With an initialised cluster; the sanitizers' build is given three times as long."""
    server = up(make_server())
    server.stop()
    start = time.monotonic()
    up(server)
    assert time.monotonic() - start < 1.5
    server.stop()


def test_postgres_of_the_system_is_13_or_newer():
    assert int(re.search(r"postgresql/(\d+)/", str(BIN)).group(1)) >= 13
