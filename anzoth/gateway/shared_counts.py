"""What did other gateways count of a quota (tokens per day, budgets)?

Such a count is whole: what every gateway used is in it. With each exchange (see `limit_leases`)
each one tells how much it has counted itself, and adds what the others have told since it looked
last. So a quota can be exceeded by what the others admit between two exchanges, a second.

What others had counted before this gateway began to count a period is in the ledger, where it is
read from (see `past_usage`), but for requests that were running then: these it does not count.

Does not know: how others are told.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from anzoth.gateway.limit_shares import Shares
from anzoth.gateway.share_table import Counted, Name


class SharedCounts:
    """Of one gateway."""

    def __init__(self, shares: Shares, gateway: UUID) -> None:
        self._shares = shares
        self._gateway = gateway
        self._began: int | None = None
        self._seen: dict[tuple[Name, str, UUID], Counted] = {}

    def to_tell(self) -> list[Counted]:
        """What others do not know yet. Nobody is told while nobody else is there."""
        if self._began is None or self._shares.num_gateways == 1:
            return []
        return [
            Counted(name, quota, self._gateway, self._began, count.begin_ns, count.own)
            for name, quota, count in self._shares.counts()
            if count.own != count.told
        ]

    def told(self, counts: Iterable[Counted], joined: int) -> None:
        """They know it now. `joined`: the version when this gateway did."""
        if self._began is None:
            self._began = joined
        for counted in counts:
            count = self._shares.count(counted.name, counted.quota)
            if count is not None and count.begin_ns == counted.begin_ns:
                count.told = counted.used

    def heard(self, counts: Iterable[Counted]) -> None:
        """What others have told since the last time. To be told the same again does no harm."""
        for counted in counts:
            if counted.gateway == self._gateway:
                continue
            key = counted.name, counted.quota, counted.gateway
            before = self._seen.get(key)
            self._seen[key] = counted
            if before is not None and before.began == counted.began:
                used = counted.used - (before.used if before.begin_ns == counted.begin_ns else 0)
            elif self._began is None or counted.began < self._began:
                continue  # it was there before: what it had counted is in the ledger
            else:
                used = counted.used
            count = self._shares.count(counted.name, counted.quota)
            if count is not None:
                count.add(counted.begin_ns, used)
