"""Which tenant has had least, and so comes next?

Every tenant has a virtual token counter (VTC, Sheng et al., OSDI 2024; the bounded preference for
prefix hits is the deficit idea of DLPM, Cao et al., 2025):

    counter += (prompt_weight * prompt tokens computed + output_weight * tokens sampled) / share

Only what is computed is charged. Prompt tokens that a prefix hit saved are free: they took nothing
from others, and a price on them would reward tenants whose prompts are never alike. What is
computed again after a preemption is charged: it took as much as the first time, and those who are
preempted are those who had most. A draft is charged like a token of a prompt, whether or not it was
right: it is one more row of a step that is made anyway. A token that a draft saved a step is not
charged again.

    who wants more than it gets is backlogged; the lowest counter is served first
    who begins to want more         is lifted to the lowest counter of the backlogged, or, if there
                                    are none, to the highest of all: being away earns no credit
    who is away for `recent_steps`  is forgotten, credit and debt alike

Between two backlogged tenants service per share thus differs by a bounded amount: one turn in one
step, plus what the policy grants on purpose (priority, locality, sparse). Nobody waits
for a tenant's past, and a flood only delays itself.

Does not know: sequences, blocks, rows, clocks. Time is counted in steps.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil


@dataclass(slots=True, frozen=True)
class FairnessPolicy:
    """What is fair. The bounds in tokens are weighted like the counters."""

    shares: Mapping[str, float] = field(default_factory=dict)
    """Of the service under contention, relative to the others. Unnamed tenants: 1. Above 0."""
    prompt_weight: float = 1.0
    output_weight: float = 2.0
    """A sampled token holds a row for a whole step; prompt tokens share one."""
    priority_tokens: float = 4096.0
    """So much more service may a tenant have had and still go first with a priority request; a
    flex request waits until others have had so much more, one of a batch twice as much."""
    locality_tokens: int = 1024
    """The same for a prefix hit, token for token, up to this many."""
    sparse_tokens: float = 2048.0
    """The same for a tenant that is not backlogged for longer than patience: its few tokens go
    first, and only if they stay few."""
    margin_tokens: float = 4096.0
    """Running tenants whose service differs by less count as equal when somebody must yield."""
    patience_steps: int = 4
    """So long is a tenant refused rows or blocks before others are preempted for it."""
    elder_patience_steps: int = 256
    """So long does the oldest sequence of all wait, whatever its tenant has had."""
    recent_steps: int = 512
    """So long after its last sequence is room kept for a tenant that may come back."""
    contended_prefill_tokens: int | None = None
    """Prompt tokens per step while there are other tenants and one of all is sparse: its next
    request has to wait for the step in progress, whoever fills that. None: as many as arrive (see
    `prompt_pace`), but at most a quarter of the budget."""


@dataclass(slots=True)
class _Tenant:
    share: float
    counter: float = 0.0
    num_live: int = 0
    num_rows: int = 0


class FairShares:
    """The counters of all tenants, and who is present, backlogged or refused."""

    def __init__(self, policy: FairnessPolicy) -> None:
        self.policy = policy
        self._tenants: dict[str, _Tenant] = {}
        """Those with sequences, and those that had some within `recent_steps`."""
        self._idle: dict[str, int] = {}
        """Tenants without sequences: the step in which they lost the last, in that order."""
        self._backlogged: dict[str, int] = {}
        """Tenants that wanted more than they were given, or that came since: from which step on."""
        self._refused: dict[str, int] = {}
        """Tenants that wait for rows or blocks: the step since which they were given none."""
        self._virtual_time = 0.0
        self.step = 0

    def __len__(self) -> int:
        return len(self._tenants)

    # --- who is here --------------------------------------------------------------------------

    def arrive(self, tenant: str) -> None:
        """One more sequence of this tenant is alive; it waits."""
        state = self._tenants.get(tenant)
        if state is None:
            state = self._tenants[tenant] = _Tenant(self.policy.shares.get(tenant, 1.0))
        self._idle.pop(tenant, None)
        state.num_live += 1
        self.want(tenant)

    def want(self, tenant: str) -> None:
        """The tenant has a sequence that waits: if all it wanted was given before, it is lifted."""
        if tenant in self._backlogged:
            return
        if self._backlogged:
            lowest = min(self._tenants[name].counter for name in self._backlogged)
        else:
            lowest = max(state.counter for state in self._tenants.values())
        self._virtual_time = max(self._virtual_time, lowest)
        state = self._tenants[tenant]
        state.counter = max(state.counter, self._virtual_time)
        self._backlogged[tenant] = self.step + 1

    def leave(self, tenant: str) -> None:
        """One sequence of this tenant, without a row, has ended."""
        state = self._tenants[tenant]
        state.num_live -= 1
        if not state.num_live:
            self._idle[tenant] = self.step
            self._backlogged.pop(tenant, None)
            self._refused.pop(tenant, None)

    def take_row(self, tenant: str) -> None:
        """A waiting sequence was admitted."""
        self._tenants[tenant].num_rows += 1
        self._refused.pop(tenant, None)

    def give_row(self, tenant: str) -> None:
        """A running sequence was preempted or has ended."""
        self._tenants[tenant].num_rows -= 1

    def num_rows(self, tenant: str) -> int:
        return self._tenants[tenant].num_rows

    def share(self, tenant: str) -> float:
        return self._tenants[tenant].share

    def num_kept_rows(self, tenant: str, num_rows: int) -> int:
        """Of `num_rows`, how many must stay free when this tenant is given one more.

        One for each tenant, present or recent, that has fewer rows per share than this one would
        have; at most an eighth of the rows in all. With a single tenant nothing is kept. O(tenants)
        """
        state = self._tenants[tenant]
        held = (state.num_rows + 1) / state.share
        num_kept = 0
        for other in self._tenants.values():
            num_kept += other is not state and (other.num_rows + 1) / other.share < held
        return min(num_kept, num_rows // 8)

    # --- counters -----------------------------------------------------------------------------

    def counter(self, tenant: str) -> float:
        return self._tenants[tenant].counter

    def level(self, tenant: str, priority: int) -> float:
        """The counter as it counts for a request of this priority; lower goes first."""
        state = self._tenants[tenant]
        return state.counter - priority * self.policy.priority_tokens / state.share

    def charge(self, tenant: str, service: float) -> None:
        """`service`: weighted tokens."""
        state = self._tenants[tenant]
        state.counter += service / state.share

    def turn_level(self, tenant: str, priority: int) -> float:
        """`level`, and the preference for sparse tenants: the order of turns within a step."""
        level = self.level(tenant, priority)
        since = self._backlogged.get(tenant)
        if since is None or not self._is_lasting(since):
            level -= self.policy.sparse_tokens / self._tenants[tenant].share
        return level

    def is_over(self, tenant: str, other: str) -> bool:
        """Whether `tenant` has had more than `other` by more than the margin."""
        difference = self._tenants[tenant].counter - self._tenants[other].counter
        return difference > self.policy.margin_tokens

    # --- steps --------------------------------------------------------------------------------

    def begin_step(self) -> None:
        """Forgets tenants that have been away for long."""
        self.step += 1
        while self._idle:
            tenant, since = next(iter(self._idle.items()))
            if self.step - since <= self.policy.recent_steps:
                break
            del self._idle[tenant], self._tenants[tenant]

    def end_step(self, waiting: Collection[str], cut_short: Iterable[str]) -> None:
        """`waiting`: tenants with waiting sequences; `cut_short`: with prompts that got too little
        of the step."""
        since = self._backlogged
        self._backlogged = {name: since.get(name, self.step) for name in {*waiting, *cut_short}}
        if self._refused:
            self._refused = {name: at for name, at in self._refused.items() if name in waiting}

    @property
    def is_contended(self) -> bool:
        """Whether there are two tenants, here or expected back, of which one is sparse."""
        num_lasting = sum(map(self._is_lasting, self._backlogged.values()))
        return len(self._tenants) > 1 and num_lasting < len(self._tenants)

    def _is_lasting(self, since: int) -> bool:
        return self.step - since > self.policy.patience_steps

    def refuse(self, tenants: Iterable[str]) -> None:
        """These wait for rows or blocks. Their wait ends with `take_row`."""
        for tenant in tenants:
            self._refused.setdefault(tenant, self.step)

    def overdue(self) -> list[str]:
        """Tenants that were refused for longer than patience; lowest counter first."""
        latest = self.step - self.policy.patience_steps
        late = [name for name, since in self._refused.items() if since <= latest]
        return sorted(late, key=self.counter) if len(late) > 1 else late

    def postpone(self, tenant: str) -> None:
        """Nothing could be done for an overdue tenant: its patience begins anew."""
        self._refused[tenant] = self.step

    def find_problem(self, num_live: Mapping[str, int], num_rows: Mapping[str, int]) -> str | None:
        """What contradicts these counts of all tenants' sequences; None if nothing does."""
        for name, state in self._tenants.items():
            if (state.num_live, state.num_rows) != (num_live.get(name, 0), num_rows.get(name, 0)):
                return "the sequences or rows of a tenant are miscounted"
            if (name in self._idle) == (state.num_live > 0):
                return "a tenant is idle and has sequences, or neither"
        if not {*num_live, *self._idle, *self._backlogged, *self._refused} <= set(self._tenants):
            return "a tenant that was forgotten is in use"
        return None


class Round:
    """One step's tokens, in turns: whoever is lowest gets enough to be so no longer.

    A turn ends `turn_tokens` above the level of the next tenant: that much unevenness within a
    step (the counters make up for it in the next) buys fewer and longer pieces of prompt.
    """

    def __init__(self, weight: float, turn_tokens: int) -> None:
        self._weight = weight
        self._turn_tokens = turn_tokens
        self._heap: list[tuple[float, int, int, str, float]] = []

    def join(self, tenant: str, level: float, num_rows: int, age: int, share: float) -> None:
        """`level`: the counter and what is added to it on purpose. Equal levels: fewest rows first,
        then the older request."""
        heapq.heappush(self._heap, (level, num_rows, age, tenant, share))

    def next(self, budget: int) -> tuple[str, int] | None:
        """Takes out the lowest tenant: (tenant, tokens that it may have now)."""
        if not self._heap:
            return None
        level, _, _, tenant, share = heapq.heappop(self._heap)
        if not self._heap:
            return tenant, budget
        gap_tokens = ceil((self._heap[0][0] - level) * share / self._weight)
        return tenant, min(gap_tokens + self._turn_tokens, budget)
