# SPDX-License-Identifier: Apache-2.0
import itertools
import os

import pytest

from support.cli import Person, invite
from support.postgres import Postgres
from support.server import Directories, Server

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres():
    """A running cluster for this session (of this worker)."""
    with Postgres() as one:
        yield one


@pytest.fixture
def database(postgres):
    """An empty database of this test's own, by name."""
    name = postgres.create()
    yield name
    postgres.drop(name)


def _running():
    directories = Directories()
    one = Server(directories.new())
    try:
        yield one.start()
        one.stop()
    finally:
        one.kill()
        directories.remove()


@pytest.fixture(scope="session")
def server():
    """One server with its embedded PostgreSQL for the whole session: leave others' data alone."""
    yield from _running()


@pytest.fixture(scope="module")
def own_server():
    """One for a module whose environments bind aliases that other modules use freely."""
    yield from _running()


@pytest.fixture
def make_server():
    """make_server(**arguments of Server): a server object of this test's own, not yet started."""
    directories = Directories()
    made = []

    def make(directory=None, **kwargs):
        made.append(Server(directory or directories.new(), **kwargs))
        return made[-1]

    yield make
    try:
        for one in made:
            one.stop()
    finally:
        for one in made:
            one.kill()
        directories.remove()


@pytest.fixture
def fresh_server(make_server):
    """A running server with its own directory and embedded PostgreSQL."""
    return make_server().start()


@pytest.fixture
def admin(server):
    """HTTP as the administrator of the session's server."""
    return server.client(server.admin_token)


@pytest.fixture
def admin_cli(server, tmp_path):
    """mlctl as the administrator of the session's server."""
    return Person(tmp_path / "admin", server.url, server.admin_token)


@pytest.fixture
def user(server, tmp_path):
    """user("contributor@ns", …): a new person with these roles, with .http and .run()."""
    def make(*roles, name=None):
        name = name or f"person-{os.getpid()}-{next(_numbers)}"
        return invite(server, tmp_path / f"home-{name}", name, roles)
    return make
