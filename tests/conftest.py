# SPDX-License-Identifier: Apache-2.0
import pytest

from support.postgres import Postgres


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
