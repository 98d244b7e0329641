"""A kernel that cannot be loaded is none: searches go on with numpy."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from anzoth.index import compiled


@pytest.fixture
def unloaded() -> Iterator[None]:
    compiled.load.cache_clear()
    yield
    compiled.load.cache_clear()


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("is_there", [True, False])
def test_a_library_that_does_not_load_is_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_there: bool,
) -> None:
    library = tmp_path / "native_search.other-machine.so"
    if is_there:
        library.write_bytes(b"for another machine")
    else:
        library.symlink_to(tmp_path / "gone.so")  # what a build left behind
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    with caplog.at_level(logging.WARNING):
        assert compiled.load() is None
    assert "numpy computes instead" in caplog.text
