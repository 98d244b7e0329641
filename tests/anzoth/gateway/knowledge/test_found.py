"""What the gateway knows of the index without loading it is still true."""

from __future__ import annotations

from anzoth.gateway.knowledge import found
from anzoth.index import fusion


def test_the_threshold_is_the_one_that_was_measured() -> None:
    assert found.ANSWERABLE == fusion.ANSWERABLE
