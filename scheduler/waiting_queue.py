"""Which sequences hold no blocks, and which of its own does a tenant want to run first?

One lane per tenant, in the order in which its sequences are due. A sequence is due at its deadline
or when the patience that its priority implies has run out, whichever comes first. So the more
urgent go ahead, but only until then: one that has waited for long is passed by nothing that arrives
later. Preempted sequences stand in the same lane; having arrived before the others, they are mostly
at its head.

Whose lane comes next is not decided here (see `fairness`).

Does not know: blocks, budgets, or how much service a tenant has had.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, KeysView

from anzoth.scheduler.sequence import Sequence

PATIENCE_S = {-2: 3600.0, -1: 300.0, 0: 30.0, 1: 3.0}
"""By priority: for how long a tenant's own more urgent sequences may pass this one."""


def age_order(sequence: Sequence) -> tuple[int, int]:
    """Sort key, oldest first: the engine numbers requests in the order of their arrival."""
    return sequence.request, sequence.choice


def due_s(arrival_s: float, priority: int, deadline_s: float | None) -> float:
    """When a sequence is due, on the clock of its arrival."""
    patient_until_s = arrival_s + PATIENCE_S[priority]
    if deadline_s is not None and deadline_s < patient_until_s:
        return deadline_s
    return patient_until_s


def due_order(sequence: Sequence) -> tuple[float, int, int]:
    """Sort key within a tenant: due first, then oldest first."""
    due = due_s(sequence.arrival_s, sequence.priority, sequence.deadline_s)
    return due, sequence.request, sequence.choice


class WaitingQueue:
    """Sequences that hold no blocks: new ones and preempted ones, by tenant."""

    def __init__(self) -> None:
        self._lanes: dict[str, list[Sequence]] = {}
        """Per tenant, in the order of `due_order`. No lane is empty."""
        self._by_age: list[Sequence] = []
        """All of them, oldest first."""
        self._preempted: set[Sequence] = set()
        self._num_new_choices: dict[int, int] = {}
        """Of each request with choices that were never admitted."""
        self.num_new_tokens = 0
        """Prompt tokens of those requests, each request's prompt counted once."""

    def __len__(self) -> int:
        return len(self._by_age)

    def __iter__(self) -> Iterator[Sequence]:
        """Oldest first."""
        return iter(self._by_age)

    @property
    def num_new_requests(self) -> int:
        return len(self._num_new_choices)

    @property
    def num_owed_tokens(self) -> int:
        """What must be computed before every sequence here has its next token. O(n)."""
        return sum(sequence.num_owed_tokens for sequence in self)

    @property
    def tenants(self) -> KeysView[str]:
        """Those with a sequence here: a live view."""
        return self._lanes.keys()

    @property
    def oldest(self) -> Sequence | None:
        return self._by_age[0] if self._by_age else None

    def first(self, tenant: str) -> Sequence | None:
        """The tenant's sequence that is due first."""
        lane = self._lanes.get(tenant)
        return lane[0] if lane else None

    def lane(self, tenant: str) -> Iterator[Sequence]:
        """The tenant's sequences as they stand now; taking one meanwhile does not disturb it."""
        return iter(tuple(self._lanes.get(tenant, ())))

    def num_requests_due_by(self, tenant: str, until_s: float) -> int:
        """How many of the tenant's requests here go ahead of one that is due then. O(those)."""
        lane = self._lanes.get(tenant, [])
        num_ahead = bisect_right(lane, until_s, key=lambda sequence: due_order(sequence)[0])
        return len({sequence.request for sequence in lane[:num_ahead]})

    def add(self, sequence: Sequence) -> None:
        """A new sequence takes its place in its tenant's lane."""
        self._insert(sequence)
        if sequence.request not in self._num_new_choices:
            self._num_new_choices[sequence.request] = 0
            self.num_new_tokens += sequence.num_prompt_tokens
        self._num_new_choices[sequence.request] += 1

    def put_back(self, sequence: Sequence) -> None:
        """A preempted sequence waits again."""
        self._insert(sequence)
        self._preempted.add(sequence)

    def take(self, sequence: Sequence) -> bool:
        """Takes a sequence out to run it; True if that is its first admission."""
        is_first = sequence not in self._preempted
        self.remove(sequence)
        return is_first

    def remove(self, sequence: Sequence) -> None:
        """Takes a sequence out. Raises ValueError if it is not waiting. O(n), but for a memmove
        O(log n)."""
        lane = self._lanes.get(sequence.tenant, [])
        _remove(lane, bisect_left(lane, due_order(sequence), key=due_order), sequence)
        if not lane:
            del self._lanes[sequence.tenant]
        index = bisect_left(self._by_age, age_order(sequence), key=age_order)
        _remove(self._by_age, index, sequence)
        if sequence in self._preempted:
            self._preempted.remove(sequence)
        else:
            self._forget_new(sequence)

    def _insert(self, sequence: Sequence) -> None:
        insort(self._lanes.setdefault(sequence.tenant, []), sequence, key=due_order)
        insort(self._by_age, sequence, key=age_order)

    def _forget_new(self, sequence: Sequence) -> None:
        self._num_new_choices[sequence.request] -= 1
        if not self._num_new_choices[sequence.request]:
            del self._num_new_choices[sequence.request]
            self.num_new_tokens -= sequence.num_prompt_tokens


def _remove(ordered: list[Sequence], index: int, sequence: Sequence) -> None:
    if index == len(ordered) or ordered[index] is not sequence:
        raise ValueError("the sequence is not in the waiting queue")
    del ordered[index]
