"""Is this the user's password?

argon2id with the parameters that RFC 9106 §4 recommends second (3 passes over 64 MiB, 4 lanes). It
is slow and large by intent, so it runs in threads of its own, two at a time, and no more than a few
wait. Who is unknown costs the same work as who is known.

Does not know: users.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from anzoth.errors import CapacityUnavailable

T = TypeVar("T")

MIN_CHARS = 12
MAX_CHARS = 256
_MAX_AT_ONCE = 2
_MAX_WAITING = 32


class Passwords:
    """One per process. `close` when done."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        """`hasher`: tests take one that does less work."""
        self._hasher = hasher or PasswordHasher()
        self._nobodys = _hash_of_nothing(self._hasher)
        self._threads = ThreadPoolExecutor(_MAX_AT_ONCE, thread_name_prefix="argon2")
        self._num_pending = 0

    async def hash(self, password: str) -> str:
        """In PHC's string format: with salt and parameters. Raises CapacityUnavailable."""
        return await self._off_loop(lambda: self._hasher.hash(_normalised(password)))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """No hash: False, after the same work. Raises CapacityUnavailable."""
        return await self._off_loop(lambda: self._verify(password_hash, password))

    def needs_rehash(self, password_hash: str) -> bool:
        """Whether it was made with other parameters than new ones are."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password_hash: str | None, password: str) -> bool:
        try:
            self._hasher.verify(password_hash or self._nobodys, _normalised(password))
        except (VerificationError, InvalidHashError):
            return False
        return password_hash is not None

    async def _off_loop(self, work: Callable[[], T]) -> T:
        if self._num_pending >= _MAX_AT_ONCE + _MAX_WAITING:
            raise CapacityUnavailable("Too many people are signing in at once. Please retry.")
        self._num_pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._num_pending -= 1


def _normalised(password: str) -> str:
    """The same characters, typed on another keyboard, are the same password (NIST SP 800-63B)."""
    return unicodedata.normalize("NFC", password)


def _hash_of_nothing(hasher: PasswordHasher) -> str:
    """Verifying against it is all of the work; no password is known to match."""

    def text(num_bytes: int) -> str:
        return base64.b64encode(secrets.token_bytes(num_bytes)).rstrip(b"=").decode()

    return (
        f"$argon2id$v=19$m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
        f"${text(hasher.salt_len)}${text(hasher.hash_len)}"
    )
