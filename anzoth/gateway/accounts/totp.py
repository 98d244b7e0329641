"""Is this the code that the user's authenticator shows now?

RFC 6238 as authenticator apps have it: HMAC-SHA-1, 30 seconds, 6 digits. Fifteen lines of the
standard library; a package for them would be one more to trust.

Does not know: users, or which codes were used before.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import struct
from urllib.parse import quote

_STEP_S = 30
_DIGITS = 6
_SECRET_BYTES = 20  # RFC 4226 §4: 160 bits are recommended
_TOLERANCE = 1
"""Steps that a clock may be off, either way."""
_NUM_RECOVERY_CODES = 10
_RECOVERY_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that reads like another
_RECOVERY_CHARS = 12  # 59 bits


def mint_secret() -> bytes:
    return secrets.token_bytes(_SECRET_BYTES)


def as_text(secret: bytes) -> str:
    """As a person types it into an app."""
    return base64.b32encode(secret).decode().rstrip("=")


def uri(secret: bytes, email: str, issuer: str) -> str:
    """What a QR code for an app holds."""
    label = quote(f"{issuer}:{email}", safe="@:")
    return f"otpauth://totp/{label}?secret={as_text(secret)}&issuer={quote(issuer)}"


def code_at(secret: bytes, step: int) -> str:
    digest = hmac.digest(secret, struct.pack(">Q", step), "sha1")
    offset = digest[-1] & 0xF
    (number,) = struct.unpack(">I", digest[offset : offset + 4])
    return str((number & 0x7FFFFFFF) % 10**_DIGITS).zfill(_DIGITS)


def matching_step(secret: bytes, code: str, unix_s: float) -> int | None:
    """The time step whose code this is, around `unix_s`; None: it is wrong."""
    now = int(unix_s // _STEP_S)
    found = None
    for step in range(max(0, now - _TOLERANCE), now + _TOLERANCE + 1):
        if hmac.compare_digest(code_at(secret, step).encode(), code.encode()):
            found = step
    return found


def mint_recovery_codes() -> list[str]:
    """To be written down, each good once when the authenticator is lost."""
    return [_recovery_code() for _ in range(_NUM_RECOVERY_CODES)]


def normalised_recovery_code(code: str) -> str:
    return "".join(code.lower().replace("-", "").split())


def _recovery_code() -> str:
    code = "".join(secrets.choice(_RECOVERY_ALPHABET) for _ in range(_RECOVERY_CHARS))
    return f"{code[:4]}-{code[4:8]}-{code[8:]}"
