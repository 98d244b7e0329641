"""What does the engine know about one running continuation?

A sequence is its tokens and four counters; everything else is derived.

    token_ids:  [ prompt …………………… | output …………… ]
                 0         num_prompt_tokens     len(token_ids)
                 [ computed ……… | owed …………………… ]
                 0   num_computed_tokens

"Owed" tokens have no keys and values in the cache yet. Prefill, chunked prefill, decode, prefix
hits and recomputation after a preemption are all the same subtraction:
len(token_ids) - num_computed_tokens.

Does not know: blocks beyond its own table, tensors, or who asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from anzoth.frames import FinishReason, SamplingParams
from anzoth.scheduler.constraint import Constraint
from anzoth.scheduler.origin import NO_TAGS


@dataclass(slots=True, eq=False)
class Sequence:
    """One choice of one request, from admission to its end."""

    request: int
    """The engine's own request number, unique over all connections."""
    choice: int
    tenant: str
    cache_salt: str = field(repr=False)
    token_ids: list[int] = field(repr=False)
    num_prompt_tokens: int
    max_tokens: int
    sampling: SamplingParams
    arrival_s: float
    num_computed_tokens: int = 0
    block_table: list[int] = field(default_factory=list)
    """Physical block of each run of `block_size_tokens` positions, in order."""
    num_cached_tokens: int = 0
    """Prompt tokens that a prefix hit saved at first admission: what `usage` reports."""
    finish: FinishReason | None = None
    constraint: Constraint | None = field(default=None, repr=False)
    """What the output has to follow, as far as the output has come."""
    priority: int = 0
    """From the request's service tier: -1 flex, 0 default, 1 priority."""
    deadline_s: float | None = None
    """On the clock of `arrival_s`: from here on nobody waits for the answer."""
    tags: frozenset[str] = NO_TAGS
    """Opaque ids of the documents in the prompt: what is computed from it can be deleted by them.
    """

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_owed_tokens(self) -> int:
        return len(self.token_ids) - self.num_computed_tokens


@dataclass(slots=True, frozen=True)
class ScheduledSequence:
    """`num_tokens` owed tokens of `sequence` are computed in this step.

    Positions [num_computed_tokens, num_computed_tokens + num_tokens); the block table already
    covers them. The step samples a token exactly when that range reaches the last known token.
    """

    sequence: Sequence
    num_tokens: int

    @property
    def samples(self) -> bool:
        return self.num_tokens == self.sequence.num_owed_tokens


@dataclass(slots=True, frozen=True)
class SampledToken:
    """The runner's answer for one sequence that sampled."""

    token_id: int
    logprob: float | None = None
    """Natural log, after bias and penalties, before temperature and truncation."""
    top_logprobs: list[tuple[int, float]] | None = None
    """(token id, logprob), most likely first."""


@dataclass(slots=True, frozen=True)
class RowFailure:
    """The runner's answer for one sequence whose step went wrong; the other rows are unaffected."""

    message: str
