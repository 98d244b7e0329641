"""What holds for all tests: two variables of the environment, and in which order they run."""

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# Before any test imports torch: an OpenMP thread that waits must sleep, not spin. Beside any other
# busy process spinning costs the suite minutes (see scheduler/process.py).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# No test speaks TLS with strangers, and an HTTP client that trusts nobody is made in a hundredth of
# the time in which one reads the system's certificates.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(HERE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that at the end no process works alone on one of them."""
    items.sort(key=lambda item: HERE / "e2e" not in item.path.parents)
