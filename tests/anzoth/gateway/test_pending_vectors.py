"""Vectors are taken once each, from whoever was asked, or the engine is not trusted any more."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from anzoth.frames import Embedded, FrameError
from anzoth.gateway.pending_vectors import PendingVectors


def pending(num_inputs: int) -> PendingVectors:
    async def make() -> PendingVectors:
        return PendingVectors(frozenset({UUID(int=1)}), num_inputs)

    return asyncio.run(make())


def test_vectors_that_come_in_any_order_end_up_in_the_inputs_order() -> None:
    made = pending(3)
    made.add(Embedded(1, (2, 0)), b"ccccaaaa")
    assert not made.is_complete
    made.add(Embedded(1, (1,)), b"bbbb")
    assert made.is_complete
    assert made.vectors() == [b"aaaa", b"bbbb", b"cccc"]


@pytest.mark.parametrize(
    ("inputs", "payload"),
    [
        ((3,), b"aaaa"),
        ((-1,), b"aaaa"),
        ((0,), b"aaaa"),  # it is there already
        ((1, 1), b"aaaabbbb"),
        ((1, 2), b"aaaabbb"),
        ((1, 2), b"aaabbb"),
        ((1,), b""),
        ((), b""),
    ],
)
def test_vectors_that_nobody_asked_for_are_a_frame_error(inputs, payload: bytes) -> None:
    made = pending(3)
    made.add(Embedded(1, (0,)), b"aaaa")
    with pytest.raises(FrameError):
        made.add(Embedded(1, inputs), payload)
