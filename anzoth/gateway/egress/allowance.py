"""How much may still come, and until when?

One allowance is for all exchanges of one purpose: a call of a tool, however often its answer breaks
off and is asked for again.

Does not know: what comes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from anzoth.gateway.egress.failures import EgressFailure


@dataclass(slots=True)
class Allowance:
    """What is left. `max_bytes` counts bodies as they come over the wire."""

    max_bytes: int
    deadline_s: float | None = None
    """On the loop's clock. None: there is none."""
    max_exchanges: int = 1
    num_bytes: int = 0
    num_exchanges: int = 0

    @classmethod
    def of(cls, max_bytes: int, timeout_s: float, max_exchanges: int = 1) -> Allowance:
        """From now on."""
        now_s = asyncio.get_running_loop().time()
        return cls(max_bytes, now_s + timeout_s, max_exchanges)

    def begin(self) -> None:
        """Raises EgressFailure where one more exchange is one too many."""
        if self.num_exchanges >= self.max_exchanges:
            raise EgressFailure("protocol", "The server has its answer asked for again and again.")
        self.num_exchanges += 1

    def take(self, num_bytes: int) -> None:
        """Raises EgressFailure."""
        self.num_bytes += num_bytes
        if self.num_bytes > self.max_bytes:
            raise EgressFailure("too_large", "The server's answer is too large.")
