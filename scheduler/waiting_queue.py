"""Which waiting sequence should be admitted next?

The one place where the order between tenants is decided. Preempted sequences come first, oldest
first: their work was begun and is partly cached. Then the tenants take turns, one sequence each,
and within a tenant the order is that of arrival. A tenant that floods the queue therefore delays
itself, not the others.

Does not know: blocks, budgets, or how much service a tenant has had.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator

from anzoth.scheduler.sequence import Sequence


def age_order(sequence: Sequence) -> tuple[int, int]:
    """Sort key, oldest first: the engine numbers requests in the order of their arrival."""
    return sequence.request, sequence.choice


class WaitingQueue:
    """Sequences that hold no blocks: new ones by tenant, and preempted ones."""

    def __init__(self) -> None:
        self._preempted: list[Sequence] = []
        self._lanes: dict[str, deque[Sequence]] = {}
        """Per tenant; the first lane has the next turn. No lane is empty."""
        self._num_new_choices: dict[int, int] = {}
        """Of each request with choices that were never admitted."""
        self._num_sequences = 0
        self.num_new_tokens = 0
        """Prompt tokens of those requests, each request's prompt counted once."""

    def __len__(self) -> int:
        return self._num_sequences

    @property
    def num_new_requests(self) -> int:
        return len(self._num_new_choices)

    @property
    def num_owed_tokens(self) -> int:
        """What must be computed before every sequence here has its next token. O(n)."""
        return sum(sequence.num_owed_tokens for sequence in self)

    def __iter__(self) -> Iterator[Sequence]:
        """In the order of admission; taking a sequence meanwhile does not disturb it."""
        yield from tuple(self._preempted)
        lanes = [iter(tuple(lane)) for lane in self._lanes.values()]
        while lanes:
            unfinished = []
            for lane in lanes:
                sequence = next(lane, None)
                if sequence is not None:
                    yield sequence
                    unfinished.append(lane)
            lanes = unfinished

    def add(self, sequence: Sequence) -> None:
        """A new sequence joins the end of its tenant's lane."""
        self._lanes.setdefault(sequence.tenant, deque()).append(sequence)
        if sequence.request not in self._num_new_choices:
            self._num_new_choices[sequence.request] = 0
            self.num_new_tokens += sequence.num_prompt_tokens
        self._num_new_choices[sequence.request] += 1
        self._num_sequences += 1

    def put_back(self, sequence: Sequence) -> None:
        """A preempted sequence will be admitted before every new one."""
        insort(self._preempted, sequence, key=age_order)
        self._num_sequences += 1

    def take(self, sequence: Sequence) -> bool:
        """Takes a sequence out to run it; True if that is its first admission.

        A first admission uses up its tenant's turn.
        """
        is_first = sequence not in self._preempted
        self.remove(sequence)
        if is_first and (lane := self._lanes.pop(sequence.tenant, None)):
            self._lanes[sequence.tenant] = lane
        return is_first

    def remove(self, sequence: Sequence) -> None:
        """Takes a sequence out, whoever's turn it is. Raises ValueError if it is not waiting."""
        if sequence in self._preempted:
            self._preempted.remove(sequence)
        else:
            self._remove_new(sequence)
        self._num_sequences -= 1

    def _remove_new(self, sequence: Sequence) -> None:
        lane = self._lanes.get(sequence.tenant, deque())
        lane.remove(sequence)
        if not lane:
            del self._lanes[sequence.tenant]
        self._num_new_choices[sequence.request] -= 1
        if not self._num_new_choices[sequence.request]:
            del self._num_new_choices[sequence.request]
            self.num_new_tokens -= sequence.num_prompt_tokens
