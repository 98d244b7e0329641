"""From which browsers has this person signed in before?

Whoever fails on purpose makes sign-in slow for the person that they name. A browser in which that
person has signed in keeps a cookie that says so, and its attempts are counted by themselves: no
stranger delays them, and a stolen one buys a few guesses of its own and nothing else ("device
cookies", OWASP). The cookie opens nothing.

    NONCE.HMAC(pepper, NONCE and email)

The server keeps nothing. Does not know: how attempts are counted (see `throttle`), or cookies.
"""

from __future__ import annotations

import base64
import hmac

from anzoth.gateway.accounts import tokens
from anzoth.gateway.accounts.tokens import Vault

LIFETIME_S = 400 * 86400
"""The longest that browsers keep a cookie."""
_KIND = "device"


class Devices:
    """One per gateway."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def mint(self, email: str) -> str:
        """What a browser keeps in which the user with this (normalised) email signed in."""
        return self._signed(tokens.mint(), email)

    def try_recognise(self, device: str | None, email: str) -> str | None:
        """The device's own id; None: it is none of theirs."""
        if device is None or len(device) > tokens.MAX_CHARS:
            return None
        nonce = device.partition(".")[0]
        is_theirs = hmac.compare_digest(device.encode(), self._signed(nonce, email).encode())
        return nonce if is_theirs else None

    def _signed(self, nonce: str, email: str) -> str:
        digest = self._vault.digest(_KIND, f"{nonce}:{email}")
        return f"{nonce}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
