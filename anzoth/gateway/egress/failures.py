"""Why is there no answer from outside?

Does not know: who asked, or for whom.
"""

from __future__ import annotations

from typing import Literal

FailureKind = Literal["refused", "unreachable", "timeout", "too_large", "protocol"]


class EgressFailure(Exception):
    """Nothing came, or what came was not taken. The message may be shown to whoever named the host:
    it holds no address that a name led to, no secret, and nothing that the other side wrote."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
