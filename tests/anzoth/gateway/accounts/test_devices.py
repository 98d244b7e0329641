"""Is a browser known only to whom it belongs?"""

from __future__ import annotations

from anzoth.gateway.accounts import tokens
from anzoth.gateway.accounts.devices import Devices
from anzoth.gateway.accounts.tokens import Vault
from anzoth.gateway.keys import Pepper


def devices(pepper: bytes = b"p" * 32) -> Devices:
    return Devices(Vault(Pepper("id", pepper)))


def test_a_device_is_recognised_for_its_user_alone() -> None:
    made = devices().mint("ann@example.com")
    another = devices().mint("ann@example.com")
    ids = {devices().try_recognise(device, "ann@example.com") for device in (made, another)}
    assert len(ids - {None}) == 2
    assert devices().try_recognise(made, "bob@example.com") is None
    assert devices(b"q" * 32).try_recognise(made, "ann@example.com") is None


def test_nothing_that_was_not_made_here_is_recognised() -> None:
    made = devices().mint("ann@example.com")
    nonce, _, digest = made.partition(".")
    assert len(made) < tokens.MAX_CHARS
    for wrong in (
        *(None, "", ".", nonce, digest, f".{digest}", f"x{made}", f"{made}x", made.swapcase()),
        *(f"{nonce}.{digest}.{digest}", "\u00e9" * 60, "x" * 5000),
    ):
        assert devices().try_recognise(wrong, "ann@example.com") is None
