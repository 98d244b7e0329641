"""Is a password kept as argon2id, compared off the loop, and never for less work?"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
from argon2 import PasswordHasher

from anzoth.errors import CapacityUnavailable
from anzoth.gateway.accounts.passwords import Passwords

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Counting(PasswordHasher):
    """Counts verifications, and holds them while told to."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified: list[str] = []
        self.threads: set[int] = set()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
        self.may_go_on.wait(10)
        self.verified.append(str(hash))
        self.threads.add(threading.get_ident())
        return super().verify(hash, password)


def run(hasher: PasswordHasher, scenario: Callable[[Passwords], Awaitable[None]]) -> None:
    async def main() -> None:
        passwords = Passwords(hasher)
        try:
            await scenario(passwords)
        finally:
            passwords.close()

    asyncio.run(main())


def test_new_hashes_have_the_parameters_of_rfc_9106() -> None:
    made = PasswordHasher()
    assert (made.time_cost, made.memory_cost, made.parallelism) == (3, 64 * 1024, 4)
    passwords = Passwords()
    assert passwords._nobodys.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert not passwords.needs_rehash(passwords._nobodys)
    assert passwords.needs_rehash(CHEAP.hash("x"))
    passwords.close()


def test_a_password_matches_itself_alone_in_whatever_unicode_form() -> None:
    async def scenario(passwords: Passwords) -> None:
        kept = await passwords.hash("caf\u00e9 au lait")
        assert kept != await passwords.hash("caf\u00e9 au lait")  # salted
        assert await passwords.verify(kept, "cafe\u0301 au lait")
        assert not await passwords.verify(kept, "cafe au lait")
        for broken in ("", "not a hash", "$argon2id$v=19$m=8,t=1,p=1$x$y"):
            assert not await passwords.verify(broken, "x")

    run(CHEAP, scenario)


def test_nobody_costs_as_much_as_somebody_and_never_matches() -> None:
    hasher = Counting()

    async def scenario(passwords: Passwords) -> None:
        kept = await passwords.hash("x")
        assert not await passwords.verify(kept, "y")
        assert not await passwords.verify(None, "y")
        known, unknown = hasher.verified
        assert known.split("$")[:4] == unknown.split("$")[:4]  # algorithm, version, parameters
        assert [len(part) for part in known.split("$")] == [
            len(part) for part in unknown.split("$")
        ]

    run(hasher, scenario)
    assert threading.get_ident() not in hasher.threads


def test_more_than_a_few_at_once_are_told_to_come_back() -> None:
    hasher = Counting()

    async def scenario(passwords: Passwords) -> None:
        hasher.may_go_on.clear()
        waiting = [asyncio.create_task(passwords.verify(None, "x")) for _ in range(34)]
        await asyncio.sleep(0)
        with pytest.raises(CapacityUnavailable):
            await passwords.verify(None, "x")
        hasher.may_go_on.set()
        assert await asyncio.gather(*waiting) == [False] * 34
        assert not await passwords.verify(None, "x")

    run(hasher, scenario)
    assert len(hasher.threads) <= 2
