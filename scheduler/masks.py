"""Which logits of this batch do grammars forbid?

The masks of all constrained rows are computed at once, in parallel, straight from the state of
their constraints. That needs no logits, so it happens while the forward pass runs: on a thread
beside it, which spends its time in native code. A batch without constrained rows has no masks and
costs nothing.

A row behind drafts needs the state behind them. They are tried on copies, so that a constraint only
ever meets tokens that were drawn.

Does not know: grammars, or how tokens are drawn.

Shape suffixes: R rows of the batch · M masked rows · V vocabulary · W words of 32 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import llguidance
import llguidance.numpy
import numpy as np
import numpy.typing as npt
import torch

from anzoth.kernels.cpu import pointwise
from anzoth.scheduler.sequence import Ahead, Place

_WORD_BITS = 32
Forbid = Callable[[torch.Tensor, Sequence[int], npt.NDArray[np.int32]], None]


@dataclass(slots=True, frozen=True, eq=False)
class TokenMasks:
    """What is forbidden in some rows of a batch."""

    rows: list[int]
    allowed_MW: npt.NDArray[np.int32]
    """Bit v of a row: whether it may be followed by token v."""
    failed: frozenset[int]
    """Rows whose grammar has hit a limit: nothing is known about their tokens."""
    forbid: Forbid = pointwise.forbid

    def apply_(self, logits_RV: torch.Tensor) -> None:
        """Sets the forbidden logits to -inf."""
        self.forbid(logits_RV, self.rows, self.allowed_MW)


class MaskComputer:
    """Owns the threads that compute masks; they are started for the first batch that needs them."""

    __slots__ = ("_beside", "_executor", "_forbid")

    def __init__(self, forbid: Forbid = pointwise.forbid) -> None:
        """`forbid`: the kernel that applies a mask (kernels/dispatch.py)."""
        self._forbid = forbid
        self._executor: llguidance.LLExecutor | None = None
        self._beside: ThreadPoolExecutor | None = None

    def start(self, places: Sequence[Place], vocab_size: int) -> Callable[[], TokenMasks | None]:
        """Begins to compute the masks of these rows; the answer waits for them.

        Until then nobody else may use the constraints. The rows behind a sequence's drafts follow
        its own, in order. None: no place has a constraint.
        """
        if all(place.constraint is None for place in places):
            return lambda: None
        if self._beside is None:
            self._beside = ThreadPoolExecutor(1, "masks")
        return self._beside.submit(self.compute, places, vocab_size).result

    def compute(self, places: Sequence[Place], vocab_size: int) -> TokenMasks | None:
        """What `start` computes, on the caller's thread."""
        rows: list[int] = []
        matchers: list[llguidance.LLMatcher] = []
        for row, place in enumerate(places):
            if (constraint := place.constraint) is None:
                continue
            if isinstance(place, Ahead):
                matchers.append(matchers[-1].deep_copy())
                matchers[-1].consume_token(place.drafts[-1])
            else:
                matchers.append(constraint.matcher)
            rows.append(row)
        if not rows:
            return None
        words_MW = np.zeros((len(rows), -(-vocab_size // _WORD_BITS)), dtype=np.int32)
        if len(matchers) == 1:
            llguidance.numpy.fill_next_token_bitmask(matchers[0], words_MW)
        else:
            if self._executor is None:
                self._executor = llguidance.LLExecutor()
            numbered = [(matcher, index) for index, matcher in enumerate(matchers)]
            llguidance.numpy.fill_next_token_bitmask_par(self._executor, numbered, words_MW)
        failed = frozenset(
            row for row, matcher in zip(rows, matchers, strict=True) if matcher.is_error()
        )
        return TokenMasks(rows, words_MW, failed, self._forbid)
