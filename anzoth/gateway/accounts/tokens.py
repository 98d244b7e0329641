"""What are the secrets that an account hands out, and what is kept of them?

A token is 256 random bits. The database keeps HMAC-SHA-256 of it under the installation's pepper,
with what it is for: a dump opens no session, who can write to the database cannot forge one, and a
token of one kind is nothing as another. What must be read back (a TOTP secret) is sealed with
AES-256-GCM under a key that comes from the same pepper.

Does not know: where digests are stored, or for how long a token works.
"""

from __future__ import annotations

import base64
import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from anzoth.gateway.keys import Pepper

SESSION, INVITATION, BOOTSTRAP, PASSWORD_RESET = (
    "session",
    "invitation",
    "bootstrap",
    "password_reset",
)
RECOVERY_CODE = "recovery_code"

MAX_CHARS = 128
"""Nothing longer is looked up."""
_TOKEN_BYTES = 32
_NONCE_BYTES = 12


def mint() -> str:
    """A new token: 43 characters that need no escaping in a cookie or a URL."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


class Vault:
    """What is done with the pepper."""

    def __init__(self, pepper: Pepper) -> None:
        self._secret = pepper.secret

    def digest(self, kind: str, token: str) -> bytes:
        return hmac.digest(self._secret, f"token:{kind}:{token}".encode(), "sha256")

    def csrf_token(self, session_token: str) -> str:
        """What requests with this session's cookie must also say; gone when the cookie changes."""
        digest = self.digest("csrf", session_token)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def seal(self, purpose: str, secret: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher(purpose).encrypt(nonce, secret, None)

    def open(self, purpose: str, sealed: bytes) -> bytes | None:
        """None: it was not sealed here, or not for this purpose."""
        nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        if len(nonce) < _NONCE_BYTES:
            return None
        try:
            return self._cipher(purpose).decrypt(nonce, text, None)
        except InvalidTag:
            return None

    def _cipher(self, purpose: str) -> AESGCM:
        return AESGCM(hmac.digest(self._secret, f"seal:{purpose}".encode(), "sha256"))
