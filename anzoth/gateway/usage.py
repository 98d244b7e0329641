"""What is written down about one request?

Filled in while the request is served and recorded exactly once, when it is over, however it ended.

Does not know: where the record goes (see `ledger`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from anzoth.gateway.journal_counts import Counts, private_counts
from anzoth.gateway.journal_entries import OpenEntry
from anzoth.gateway.principal import Principal
from anzoth.price import Price


@dataclass(slots=True)
class UsageRecord:
    """One row of the usage ledger."""

    request_id: str
    principal: Principal
    endpoint: str
    """The route's pattern, for example `/v1/chat/completions`."""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    model: str | None = None
    price: Price | None = None
    """The model's when the request came, which is what it costs. None: nothing."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt tokens."""
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    """Of the completion tokens."""
    service_tier: str | None = None
    """The one it was served in. None: it never came to a model, or the endpoint has no tiers."""
    batch: bool = False
    finish_reason: str | None = None
    """Of the first choice; `cancelled` when the client left, `error` when the engine was lost."""
    streamed: bool = False
    status: int = 0
    """The HTTP status that was sent; 499 when the client left before any."""
    error_code: str | None = None
    ttft_ms: int | None = None
    """From the complete head to the first token."""
    duration_ms: int = 0
    end_user: str | None = None
    metadata: dict[str, str] | None = None
    counts: Counts = field(default_factory=private_counts, repr=False)
    """What the engine has done so far; kept up to date before any of it can reach the client."""
    entry: OpenEntry | None = field(default=None, repr=False)
    """Its place in the journal, once the ledger was told that it begins."""
    rule: str | None = None
    """Which rule refused it, or ended it with an error (see `rules`)."""
    refusal: str | None = None
    """What the caller was told then: for a limit, how much was left and when to come back."""
    shadow_rules: tuple[str, ...] = ()
    """Rules that are only watched and would have refused it (see `shadow`)."""
    target: str | None = None
    """What an alias of the tenant's led to in the end; None where no alias was asked for."""
    attempts: tuple[str, ...] = ()
    """Of an alias: each target that was tried, in order, and how that went: `TARGET OUTCOME`."""
    retrieval: str | None = None
    """What was found for it in knowledge bases (see `knowledge.kept_trace`). None: nothing was
    looked for."""
