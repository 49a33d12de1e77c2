# SPDX-License-Identifier: Apache-2.0
"""A fake Triton in a process of its own with little memory, started anew by whoever looks after it
when it dies. A model file with a line "needs N MB" takes so much when it is loaded.

As a program: small_triton.py REPOSITORY PORT refuse|die, which says what it does without memory.
"""
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

from support.fake_triton import FakeTriton
from support.gateway import free_port
from support.process import die_with_parent, wait_until

SPARE = 256 << 20  # of address space, beyond what it has when it starts


class SmallTriton:
    """Has what support.rollouts.Site wants of an instance. deaths: how often it died by itself;
    it is started anew after five seconds."""

    def __init__(self, repository, how):
        self.repository, self.how, self.port = repository, how, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.deaths, self.alive, self._ends = 0, True, threading.Event()
        self._start()
        wait_until(self._answers, 20, f"port {self.port}")
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def _start(self):
        self.child = subprocess.Popen(
            [sys.executable, "-m", "support.small_triton", str(self.repository), str(self.port),
             self.how], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            preexec_fn=die_with_parent(signal.SIGKILL))

    def _answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def _keep(self):
        while True:
            self.child.wait()
            if self._ends.is_set():
                return
            self.deaths += 1
            time.sleep(5)
            self._start()

    def honest(self):
        pass

    def close(self):
        self._ends.set()
        self.child.kill()
        self._keeper.join()


class Program(FakeTriton):
    def __init__(self, repository, port, how):
        self.how, self.held = how, {}
        super().__init__(repository, port=port)

    def _read(self, name):
        found = super()._read(name)
        if isinstance(found, str):
            return found
        for version in found:
            text = (self.repository / name / version / "model.onnx").read_bytes()
            needs = re.search(rb"^needs (\d+) MB$", text, re.M)
            try:
                self.held[name] = bytearray(int(needs[1]) << 20) if needs else None
            except MemoryError:
                if self.how == "die":  # as the kernel ends who takes too much
                    os.kill(os.getpid(), signal.SIGKILL)
                return f"load failed for model '{name}': out of memory: {needs[1].decode()} MB"
        return found

    def unload(self, name, _):
        self.held.pop(name, None)
        return super().unload(name, _)


def main():
    with open("/proc/self/statm", encoding="ascii") as f:
        has = int(f.read().split()[0]) * resource.getpagesize()
    threading.stack_size(1 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (has + SPARE, has + SPARE))
    Program(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    signal.pause()


if __name__ == "__main__":
    main()
