"""Running servers for the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from installation import Installation, installation


@pytest.fixture(scope="session")
def server() -> Iterator[Installation]:
    """One running server shared by the tests that do it no harm."""
    with installation() as made:
        made.start()
        yield made


@pytest.fixture(scope="session")
def key(server: Installation) -> str:
    """A key without limits."""
    return server.create_key("tests")


@pytest.fixture
def client(server: Installation, key: str) -> Iterator[httpx2.Client]:
    with server.client(key) as made:
        yield made


@pytest.fixture
def fragile_server() -> Iterator[Installation]:
    """A server of its own for a test that kills parts of it."""
    with installation() as made:
        made.start()
        yield made
