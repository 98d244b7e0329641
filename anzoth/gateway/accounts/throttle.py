"""How often may somebody guess?

A few attempts are free; from then on each costs twice the pause of the one before, up to a bound.
An attempt is counted before it is made, so that many at once gain nothing, and taken back when it
was right. What is forgotten first, when too many are remembered, is what was tried longest ago.

One gateway's memory: two nodes allow twice as many attempts.

Does not know: what is being guessed.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from anzoth.errors import TooManyAttempts


@dataclass(slots=True)
class _Subject:
    num_attempts: int = 0
    not_before_s: float = float("-inf")
    last_s: float = float("-inf")


class Throttle:
    """For one kind of subject: accounts, or addresses."""

    def __init__(
        self,
        *,
        num_free: int,
        first_pause_s: float = 1.0,
        longest_pause_s: float = 900.0,
        max_subjects: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_free = num_free
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._max_subjects = max_subjects
        self._clock = clock
        self._subjects: OrderedDict[str, _Subject] = OrderedDict()

    def attempt(self, subject: str) -> None:
        """Counts one. Raises TooManyAttempts, which counts none, with how long to wait."""
        now_s = self._clock()
        known = self._subjects.setdefault(subject, _Subject())
        self._subjects.move_to_end(subject)
        if len(self._subjects) > self._max_subjects:
            self._subjects.popitem(last=False)
        if now_s < known.not_before_s:
            wait_s = known.not_before_s - now_s
            raise TooManyAttempts(retry_after_ms=math.ceil(wait_s * 1000))
        if now_s - known.last_s > 2 * self._longest_pause_s:
            known.num_attempts = 0  # long ago
        known.num_attempts += 1
        known.last_s = now_s
        beyond = known.num_attempts - self._num_free
        if beyond >= 0:
            pause_s = self._first_pause_s * 2.0 ** min(beyond, 30)
            known.not_before_s = now_s + min(pause_s, self._longest_pause_s)

    def forget(self, subject: str) -> None:
        """It was right: nothing is held against the subject."""
        self._subjects.pop(subject, None)

    def take_back(self, subject: str) -> None:
        """The attempt was right, and says nothing about the others: somebody who has an account
        must not buy guesses at those of others by signing in between."""
        known = self._subjects.get(subject)
        if known is not None:
            known.num_attempts -= 1
            if known.num_attempts < self._num_free:
                known.not_before_s = float("-inf")


def network_of(peer: str) -> str:
    """The subject for an address: of IPv6 the /64, which is what one customer has."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
