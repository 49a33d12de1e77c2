# SPDX-License-Identifier: Apache-2.0
import subprocess

import pytest

pytest.register_assert_rewrite("fault.story")

# pylint: disable=wrong-import-position
from support.cli import invite
from support.faults import FaultServer
from support.server import Directories, Server


@pytest.fixture(scope="session")
def template():
    """The data directory of a stopped server, and the token of a person who may push to fault/…:
    made once, copied by each test that ruins its own."""
    directories = Directories()
    one = Server(directories.new())
    try:
        one.start()
        person = invite(one, directories.base / "home", "pat",
                        ["contributor@fault", "auditor", "operator@fault"])
        one.stop()
        yield one.directory, person.http.token
    finally:
        one.kill()
        directories.remove()


@pytest.fixture
def ruin(template):
    """ruin(): a server on its own copy of the template, not started, with .token and .board."""
    directories = Directories()
    made = []

    def make(directory=None, copy=True, **kwargs):
        directory = directory or directories.new()
        if copy:
            # with owners and modes
            subprocess.run(["cp", "-aT", template[0], directory], check=True)
        one = FaultServer(directory, **kwargs)
        one.token = template[1]
        made.append(one)
        return one

    make.directories = directories
    try:
        yield make
        for one in made:
            one.stop()
    finally:
        for one in made:
            one.kill()
        directories.remove()
