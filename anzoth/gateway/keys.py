"""What is an API key, and what of it is kept?

    anz-k7QmT2xWb9aZ_<36 random characters><6 checksum characters>
        └── kid ───┘ └──────── secret half ────────────────────┘

All of it is base62. The kid is public: it finds the row. That of an admin key, and of no other,
begins with `adm`, so that a leaked one is known for what it is. The checksum (CRC-32 of everything
before it) lets a scanner, and our own edge, tell a typo from a key without a database. The database
keeps HMAC-SHA-256 of the whole key under a pepper that is not in the database. A slow hash would
add nothing: 36 random characters (214 bits) cannot be guessed.

Does not know: where rows are stored, or what a key may do.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
import secrets
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from anzoth.gateway import secret_file

PREFIX = "anz-"
HASH_ALG = "hmac-sha256"
KEY_PATTERN = r"\banz-[0-9A-Za-z]{12}_[0-9A-Za-z]{42}\b"
"""For secret scanners. What matches is ours if `try_parse` accepts it."""

ADMIN_KID = "adm"
"""How the kids of admin keys begin, and no others."""

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KID_CHARS = 12
_SECRET_CHARS = 36
_CRC_CHARS = 6  # 62**6 > 2**32
_SHAPE = re.compile(r"anz-([0-9A-Za-z]{12})_[0-9A-Za-z]{42}", re.ASCII)
_PATTERN = re.compile(KEY_PATTERN)
_ALMOST = re.compile(r"anz-([0-9A-Za-z]{4})[0-9A-Za-z]{8}_[0-9A-Za-z]{8,}")
"""A key, or what became of one when it was cut off or mistyped."""


@dataclass(slots=True, frozen=True)
class Key:
    """A key as its owner holds it. Its repr shows only the public half."""

    kid: str
    text: str = field(repr=False)

    @property
    def redacted(self) -> str:
        """What lists and pages show."""
        return f"{PREFIX}{self.kid[:4]}…{self.text[-4:]}"


@dataclass(slots=True, frozen=True)
class Pepper:
    """The installation's secret, without which the database's digests are of no use."""

    id: str
    """A short hash: says which pepper a row was made with, and nothing about it."""
    secret: bytes = field(repr=False)

    def digest(self, key: Key) -> bytes:
        return hmac.digest(self.secret, key.text.encode(), "sha256")

    def cache_salt(self, tenant_id: uuid.UUID) -> str:
        """The secret root of a tenant's prefix cache; the same after every restart."""
        return hmac.digest(self.secret, f"cache-salt:{tenant_id}".encode(), "sha256").hex()


def mint(*, is_admin: bool = False) -> Key:
    """A new key from the operating system's randomness."""
    while True:
        kid = _random(_KID_CHARS)
        if is_admin:
            kid = ADMIN_KID + kid[len(ADMIN_KID) :]
        if kid.startswith(ADMIN_KID) is is_admin:
            break
    text = f"{PREFIX}{kid}_{_random(_SECRET_CHARS)}"
    return Key(kid, text + _checksum(text))


def try_parse(text: str) -> Key | None:
    """None unless shape and checksum are right. Says nothing about whether the key exists."""
    match = _SHAPE.fullmatch(text)
    if match is None or _checksum(text[:-_CRC_CHARS]) != text[-_CRC_CHARS:]:
        return None
    return Key(match[1], text)


def is_kid(text: str) -> bool:
    """Whether `text` has the shape of a key's public half."""
    return len(text) == _KID_CHARS and all(character in _ALPHABET for character in text)


def holds_key(text: str) -> bool:
    """Whether something in `text` looks like one of our keys."""
    return _PATTERN.search(text) is not None


def redact(text: str) -> str:
    """`text` without the secret half of any key in it, whole or almost: for what is told or kept
    about requests that put a key where none belongs."""
    return _ALMOST.sub(rf"{PREFIX}\1…", text) if PREFIX in text else text


def load_pepper(data_dir: Path) -> Pepper:
    """Reads DATA_DIR/pepper, which is made (readable by its owner only) when there is none.

    Raises OSError, and ValueError when the file is not a pepper.
    """
    secret = secret_file.load(data_dir / "pepper")
    return Pepper(hashlib.sha256(b"anzoth pepper id:" + secret).hexdigest()[:12], secret)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    number = binascii.crc32(text.encode())
    digits = ""
    for _ in range(_CRC_CHARS):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
