"""How many files are on their way at the same time?

Each holds a piece or two of a file in memory, for as long as its client takes. One tenant cannot
take all the places.

Does not know: what is transferred.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from uuid import UUID

from anzoth.errors import CapacityUnavailable, TooManyTransfers
from anzoth.gateway.principal import TenantHandle

_RETRY_MS = 1000


class FileTransfers:
    """The places. One per gateway."""

    def __init__(self, most: int, most_of_tenant: int) -> None:
        self._most = most
        self._most_of_tenant = most_of_tenant
        self._running: Counter[UUID] = Counter()

    def __len__(self) -> int:
        return self._running.total()

    def check(self, tenant: TenantHandle) -> None:
        """Raises TooManyTransfers or CapacityUnavailable when there is no place now."""
        if self._running[tenant.id] >= self._most_of_tenant:
            raise TooManyTransfers(retry_after_ms=_RETRY_MS)
        if len(self) >= self._most:
            raise CapacityUnavailable(
                "Too many files are sent or fetched at the same time.", retry_after_ms=_RETRY_MS
            )

    @contextlib.contextmanager
    def one_of(self, tenant: TenantHandle) -> Iterator[None]:
        """A place, whether there was one or not: to be entered right after `check`."""
        self._running[tenant.id] += 1
        try:
            yield
        finally:
            self._running[tenant.id] -= 1
            if not self._running[tenant.id]:
                del self._running[tenant.id]
