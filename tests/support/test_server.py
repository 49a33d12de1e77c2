# SPDX-License-Identifier: Apache-2.0
"""The harness itself, against a stand-in for mlctld that keeps what it needs of the contract."""
import os
import stat
import textwrap

import pytest

from support import process
from support.cli import Person

FAKE_MLCTLD = """
    #!/usr/bin/python3
    import http.server, os, pathlib, signal, sys, threading
    args = sys.argv[1:]
    data = pathlib.Path(args[args.index("--data") + 1])
    assert args[0] == "serve" and args[args.index("--listen") + 1].endswith(":0")
    assert not any(k.startswith(("MLCTL_", "PG")) for k in os.environ)
    mode = os.environ.get("FAKE", "")
    if mode == "refuse":
        sys.exit("cannot start: no")
    data.mkdir(exist_ok=True)
    (data / "admin-token").write_text("t0ken\\n")
    asked = []
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(503 if self.path == "/readyz" and len(asked) < 3 else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    def end(*_):
        if mode != "deaf":
            os._exit(1 if mode == "dirty" else 0)
    signal.signal(signal.SIGTERM, end)
    (data / "address").write_text(f"http://127.0.0.1:{server.server_port}\\n")
    server.serve_forever()
"""
FAKE_MLCTL = """
    #!/usr/bin/python3
    import json, os, sys
    print(json.dumps({"args": sys.argv[1:], "env": dict(os.environ)}))
    sys.exit(int(os.environ.get("FAKE_EXIT", "0")))
"""


@pytest.fixture(autouse=True)
def programs(tmp_path, monkeypatch):
    for name, text in (("mlctld", FAKE_MLCTLD), ("mlctl", FAKE_MLCTL)):
        path = tmp_path / "build" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
        path.chmod(0o755)
    monkeypatch.setenv("MLC_BUILD", str(tmp_path / "build"))
    monkeypatch.setenv("MLCTL_TOKEN", "of the caller")
    monkeypatch.delenv("MLC_RECORD", raising=False)


def test_waits_until_ready_and_stops(make_server):
    one = make_server().start()
    pid = one.pid
    assert one.client().get("/healthz").status_code == 200
    assert one.admin_token == "t0ken"
    one.restart()
    assert one.pid != pid and not process.alive(pid)
    one.stop()
    one.stop()  # twice does no harm


def test_killed_and_started_again(make_server):
    one = make_server().start()
    first = one.url
    one.kill()
    assert (one.directory / "address").exists()  # stale, and must not be believed
    assert one.start().url != first


def test_refused_start_shows_why(make_server):
    with pytest.raises(RuntimeError, match="cannot start: no"):
        make_server(env={"FAKE": "refuse"}).start()


def test_bad_exit_fails_the_test(make_server):
    one = make_server(env={"FAKE": "dirty"}).start()
    with pytest.raises(AssertionError, match="ended with 1"):
        one.stop()


def test_deaf_server_fails_the_test(make_server):
    one = make_server(env={"FAKE": "deaf"}).start()
    pid = one.pid
    with pytest.raises(AssertionError, match="did not end on SIGTERM"):
        one.stop(seconds=0.5)
    assert not process.alive(pid)


def test_data_lies_below_a_closed_directory(make_server):
    assert stat.S_IMODE(os.stat(make_server().directory.parent).st_mode) == 0o700


def test_mlctl_sees_nothing_of_the_caller(tmp_path, monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    person = Person(tmp_path / "home", "http://127.0.0.1:1")
    said = person.json("show", "a/b")
    assert said["args"] == ["--output", "json", "show", "a/b"]
    assert said["env"]["HOME"] == str(tmp_path / "home")
    assert said["env"]["XDG_STATE_HOME"].startswith(str(tmp_path / "home"))
    assert said["env"]["MLCTL_SERVER"] == "http://127.0.0.1:1"
    assert not {"MLCTL_TOKEN", "SSH_AUTH_SOCK"} & set(said["env"])


def test_unexpected_exit_of_mlctl_fails_the_test(tmp_path):
    person = Person(tmp_path / "home")
    with pytest.raises(AssertionError, match="exit 3"):
        person.run("show", env={"FAKE_EXIT": "3"})
    assert person.run("show", env={"FAKE_EXIT": "3"}, status=3).returncode == 3
    with pytest.raises(AssertionError):  # a sanitizer's report is never what was expected
        person.run("show", env={"FAKE_EXIT": "23"}, status=None)


def test_key_is_what_openssh_makes(tmp_path):
    path = Person(tmp_path / "home").key()
    assert path.with_suffix(".pub").read_text().startswith("ssh-ed25519 ")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
