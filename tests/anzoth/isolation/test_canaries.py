"""A canary is found in every disguise that a program puts a text in, wherever a block ends."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Callable

import pytest

from anzoth.isolation import canaries
from anzoth.isolation.canaries import Canaries, Needles

DISGUISES: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "hex": lambda text: text.hex().encode(),
    "HEX": lambda text: text.hex().upper().encode(),
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    **{
        f"base64 at {n}": lambda text, n=n: base64.b64encode(b"~" * n + text + b"~")
        for n in range(3)
    },
    "base64url": base64.urlsafe_b64encode,
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_canary_is_found_in_each_disguise(disguise: str) -> None:
    planted = Canaries()
    needles = Needles({"it": planted.document, "other": planted.label})
    noise = random.Random(1).randbytes(500)
    hidden = DISGUISES[disguise](planted.text("file").encode())
    assert needles.within(noise + hidden + noise) == ["it"]
    assert needles.within(noise) == []


def test_a_canary_across_the_blocks_of_a_file_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canaries, "_BLOCK_BYTES", 64)
    planted = Canaries()
    needles = Needles({"it": planted.document})
    for before in range(0, 200, 7):
        file = io.BytesIO(b"." * before + planted.document.encode() + b"." * 100)
        assert needles.within_file(file) == {"it"}
    assert needles.within_file(io.BytesIO(b"." * 500)) == set()
