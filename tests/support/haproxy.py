# SPDX-License-Identifier: Apache-2.0
"""HAProxy with the shipped example, as a gateway."""
import pathlib
import re
import signal
import socket
import subprocess

from . import process
from .gateway import ROOT, Client, free_port

HAPROXY = "/usr/sbin/haproxy"
EXAMPLE = ROOT / "deploy/haproxy/mlctl.cfg"


class Haproxy:
    """start(), stop(), restart(); `port`, `control` (as traffic drivers have it), `map`."""

    def __init__(self, directory, servers, route="fraud"):
        self.directory = pathlib.Path(directory)
        self.port = free_port()
        self.socket, self.map = self.directory / "admin.sock", self.directory / "mlctl.map"
        self.control = f"unix:{self.socket};map={self.map}"
        self.map.touch()
        text = EXAMPLE.read_text(encoding="utf-8")
        for old, new in (("/run/haproxy/mlctl.sock mode 660", f"{self.socket} mode 600"),
                         ("/etc/haproxy/mlctl.map", str(self.map)),
                         ("bind :8090", f"bind 127.0.0.1:{self.port}"),
                         *(("127.0.0.1:%d" % (8081 + n), s) for n, s in enumerate(servers))):
            assert old in text, old
            text = text.replace(old, new)
        # stand-ins take connections, and know nothing of health
        text = text.replace("    option httpchk GET /v2/health/ready\n", "")
        text = text.replace(" check\n", " check inter 100ms\n")
        text, n = re.subn(r"(?m)^backend fraud[.]", f"backend {route}.", text)
        assert n == 2
        self.config = self.directory / "haproxy.cfg"
        self.config.write_text(text, encoding="utf-8")
        self.child = None

    def start(self):
        with open(self.directory / "log", "ab") as out:
            self.child = subprocess.Popen([HAPROXY, "-db", "-f", self.config], stdout=out,
                                          stderr=out,
                                          preexec_fn=process.die_with_parent(signal.SIGTERM))
        process.wait_until(self._up, 20, "haproxy answers")
        return self

    def _up(self):
        if self.child.poll() is not None:
            raise RuntimeError((self.directory / "log").read_text(encoding="utf-8"))
        try:
            return "UP" in self.ask("show stat") and "DOWN" not in self.ask("show stat")
        except OSError:
            return False

    def ask(self, command):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(str(self.socket))
            s.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: s.recv(65536), b"")).decode()

    def stop(self):
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()
            self.child.wait(20)

    def restart(self):
        self.stop()
        self.start()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def client(self):
        return Client(self.port)
