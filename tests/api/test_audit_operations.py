# SPDX-License-Identifier: Apache-2.0
"""mlctld check, backup, restore, log rotate and log succeed, with real servers."""
import json
import shutil
import subprocess

from support.client import Client
from support.process import wait_until
from support.server import build_directory


def mlctld(directory, *args, status=0):
    done = subprocess.run([build_directory() / "mlctld", *args, "--data", directory], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    said = done.stdout + done.stderr[-4000:]
    assert done.returncode == status, f"{args}: exit {done.returncode}\n{said}"
    return json.loads(done.stdout) if done.stdout else None


def refuses(server, status, why):
    """Starting ends with this exit status, and says why."""
    server.spawn()
    assert server.child.wait(60) == status
    server.kill()  # forgets the child
    assert why in server.output()


def check(directory):
    verdict = mlctld(directory, "check")
    assert verdict["ok"] is True
    return verdict


def check_fails(directory, what):
    verdict = mlctld(directory, "check", status=1)
    assert verdict["ok"] is False and what in verdict["what"], verdict
    return verdict["index"]


def people(server, *names):
    admin = server.client(server.admin_token)
    made = [admin.ok("POST", "/api/v1/users", json={"name": n, "roles": ["contributor@ns"]})
            for n in names]
    return [person["id"] for person in made]


def published(server):
    reply = server.client().get("/log/checkpoint")
    return int(reply.text.split("\n")[1]) if reply.ok else 0


def settle(server):
    """Until everything so far is published."""
    size = wait_until(lambda: published(server), 10, "a checkpoint")
    wait_until(lambda: mlctld(server.directory, "check")["entries"] == published(server), 20,
               "all is published")
    return max(size, published(server))


def test_check_beside_a_server_and_of_a_copy(fresh_server, tmp_path):
    people(fresh_server, "ann", "bob")
    settle(fresh_server)
    check(fresh_server.directory)
    fresh_server.stop()
    verdict = check(fresh_server.directory)
    shutil.copytree(fresh_server.directory, tmp_path / "moved", symlinks=True)
    again = check(tmp_path / "moved")
    assert (again["root"], again["size"]) == (verdict["root"], verdict["size"])


def test_a_role_granted_by_sql_is_named(fresh_server):
    person = people(fresh_server, "ann")[0]
    size = settle(fresh_server)
    fresh_server.sql("insert into role_grant (user_id, role, ns)"
                     f" values ('{person}', 'admin', '*')")
    assert check_fails(fresh_server.directory, f"role '{person}/admin@*'") >= size
    fresh_server.sql("delete from role_grant where ns = 'ns'")
    fresh_server.sql("delete from role_grant where role = 'admin' and user_id = '" + person + "'")
    index = check_fails(fresh_server.directory, f"role '{person}/contributor@ns'")
    leaf = fresh_server.sql(f"select convert_from(leaf, 'UTF8') from audit_log where idx = {index}")
    assert json.loads(leaf)["id"] == f"{person}/contributor@ns"


def test_a_backup_is_whole_and_a_flipped_byte_in_it_is_named(fresh_server, tmp_path):
    people(fresh_server, "ann", "bob", "eve")
    settle(fresh_server)
    backup = tmp_path / "backup"
    mlctld(fresh_server.directory, "backup", str(backup))
    people(fresh_server, "later")
    size = check(backup)["size"]
    bundles = sorted((backup / "log/tile/entries/000.p").iterdir(), key=lambda p: int(p.name))
    data = bytearray(bundles[-1].read_bytes())
    data[-10] ^= 1  # in the last entry
    bundles[-1].write_bytes(data)
    assert check_fails(backup, "entry") == size - 1
    check(fresh_server.directory)  # a copy, not a link
    mlctld(fresh_server.directory, "backup", str(backup), status=2)


def test_a_backup_starts_as_a_server(fresh_server, make_server, tmp_path):
    mlctld(fresh_server.directory, "backup", str(tmp_path / "backup"))
    fresh_server.stop()
    shutil.copy(fresh_server.directory / "admin-token", tmp_path / "backup" / "admin-token")
    copy = make_server(tmp_path / "backup").start()
    people(copy, "ann")
    settle(copy)
    check(copy.directory)


def test_restored_over_a_newer_log_it_only_reads_until_a_successor(make_server, tmp_path):
    server = make_server().start()
    people(server, "ann")
    settle(server)
    mlctld(server.directory, "backup", str(tmp_path / "backup"))
    lost = people(server, "bob", "eve")
    settle(server)
    token = server.admin_token
    mlctld(server.directory, "restore", str(tmp_path / "backup"), status=1)  # a server runs
    server.stop()
    # an anchor may have followed what was settled
    checkpoint = (server.directory / "log/checkpoint").read_text(encoding="utf-8")
    signed = int(checkpoint.split("\n")[1])
    assert mlctld(server.directory, "restore", str(tmp_path / "backup"))["signed"] == signed

    server.spawn()
    address = server.directory / "address"
    wait_until(address.exists, 30, "it serves")
    client = Client(address.read_text(encoding="ascii").strip(), token)
    for path in ("/readyz", "/api/v1/whoami"):
        wait_until(lambda p=path: client.get(p).status_code in (200, 503), 10, "it answers")
    problem = client.refused(503, "GET", "/readyz")
    assert problem["detail"] == "database is older than the log"
    assert problem["type"].endswith(":read-only")
    refused = client.refused(503, "POST", "/api/v1/users", json={"name": "no"})
    assert refused["detail"] == problem["detail"]
    assert "Retry-After" not in client.post("/api/v1/users", json={"name": "no"}).headers
    assert client.ok("GET", "/api/v1/whoami")["user"]["name"] == "admin"
    client.refused(404, "GET", f"/api/v1/users/{lost[0]}")
    note = client.ok("GET", "/log/checkpoint").decode()
    assert int(note.split("\n")[1]) == signed  # nothing was signed
    server.stop()
    check_fails(server.directory, "database is older than the log")

    mlctld(server.directory, "log", "succeed", status=2)
    done = mlctld(server.directory, "log", "succeed", "--reason", "the disk of Monday")
    check(server.directory)
    server.start()
    people(server, "zoe")
    settle(server)
    verdict = check(server.directory)
    assert verdict["origin"] == done["origin"] != done["predecessor"]
    leaf = json.loads(server.sql("select convert_from(leaf, 'UTF8') from audit_log"
                                 " where log_id = 2 and idx = 0"))
    assert leaf["action"] == "log.succeed" and leaf["detail"]["lost"] == [done["agreed"], signed]
    assert "Monday" not in json.dumps(leaf)
    archived = server.directory / "log/archive/1/checkpoint"
    assert archived.read_text(encoding="utf-8").split("\n")[1] == str(signed)
    text = archived.read_text(encoding="utf-8")
    archived.write_text(text.replace(f"\n{signed}\n", f"\n{signed - 1}\n"), encoding="utf-8")
    check_fails(server.directory, "checkpoint")


def test_older_log_files_make_it_read_only(make_server, tmp_path):
    server = make_server().start()
    people(server, "ann")
    settle(server)
    shutil.copytree(server.directory / "log", tmp_path / "log")
    for name in ("bob", "eve"):
        people(server, name)
        settle(server)
    server.stop()
    for name in ("tile", "checkpoint"):
        old, now = tmp_path / "log" / name, server.directory / "log" / name
        if now.is_dir():
            shutil.rmtree(now)
            shutil.copytree(old, now)
        else:
            shutil.copy(old, now)
    check_fails(server.directory, "log is older than its signing state")
    server.spawn()
    wait_until((server.directory / "address").exists, 30, "it serves")
    client = Client((server.directory / "address").read_text(encoding="ascii").strip())
    wait_until(lambda: client.get("/healthz").ok, 10, "it answers")
    assert client.refused(503, "GET", "/readyz")["detail"] == "log is older than its signing state"


def test_rotated_keys_sign_together(make_server):
    server = make_server().start()
    people(server, "ann")
    settle(server)
    first = server.client().ok("GET", "/log/vkey").decode().strip()
    mlctld(server.directory, "log", "rotate", status=1)  # a server runs
    server.stop()
    added = mlctld(server.directory, "log", "rotate")["vkey"]
    check(server.directory)
    server.start()
    people(server, "bob")
    settle(server)
    assert server.client().ok("GET", "/log/vkey").decode().split() == [first, added]
    note = server.client().ok("GET", "/log/checkpoint").decode()
    assert note.count("\u2014 ") == 2
    check(server.directory)
    signers = server.client().ok("GET", "/keys/allowed_signers").decode()
    assert signers.count('namespaces="git"') == 2
    server.stop()
    (server.directory / "keys" / "server.key").rename(server.directory / "hidden")
    refuses(server, 1, "put it back")


def test_names_of_logs_are_checked(make_server):
    directory = make_server().directory
    for origin in ("a+b", "with space", "x" * 300, "\u00e4"):
        refuses(make_server(directory, options=["--origin", origin]), 2, "--origin takes")


def test_the_name_is_fixed_at_first_start(make_server):
    server = make_server(options=["--origin", "log.example.org/main"]).start()
    assert server.client().ok("GET", "/log/vkey").decode().startswith("log.example.org/main+")
    server.stop()
    other = make_server(server.directory, options=["--origin", "log.example.org/other"])
    refuses(other, 2, "log.example.org/main")
    plain = make_server(server.directory).start()
    assert plain.client().ok("GET", "/log/vkey").decode().startswith("log.example.org/main+")


def test_a_killed_server_leaves_a_log_that_checks(make_server):
    server = make_server().start()
    names = (f"p{i}" for i in range(1000))
    for _ in range(4):
        people(server, next(names), next(names), next(names))
        server.kill()
        check(server.directory)
        server.start()
    settle(server)
    assert int(server.sql("select count(*) from app_user")) == 13
    check(server.directory)
