"""What may come for one call of an MCP server, and why did nothing come?

The SDK runs what it sends for a caller in the caller's context (`contextvars`), in whichever task
that is; so what is below it knows for whom it works.

Does not know: how anything is sent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from anzoth.gateway.egress.allowance import Allowance
from anzoth.gateway.egress.failures import EgressFailure


@dataclass(slots=True)
class Watch:
    """What one call may take, and what became of it."""

    allowance: Allowance
    failure: EgressFailure | None = None
    is_session_gone: bool = False
    """The server says that it does not know this session: nothing was called."""


_watch: ContextVar[Watch | None] = ContextVar("mcp_watch", default=None)


def watched() -> Watch | None:
    """None: nobody waits for what is done in this context."""
    return _watch.get()


@contextlib.contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """What is sent in the block, and for it. Nothing more is sent on its behalf afterwards."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)
        watch.allowance.max_exchanges = 0
