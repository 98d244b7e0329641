"""Which vectors of one `Embed` has the engine sent, and which are still to come?

Does not know: connections, or what the vectors are for.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

from anzoth.frames import Embedded, FrameError


class PendingVectors:
    """The vectors of one request, in the order of its inputs."""

    __slots__ = ("_num_missing", "_vectors", "answer", "owners")

    def __init__(self, owners: frozenset[UUID], num_inputs: int) -> None:
        """`owners`: the tenant, and the key if it is known."""
        self.owners = owners
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when every vector is there, or with the error that ended the request."""
        self._vectors: list[bytes | None] = [None] * num_inputs
        self._num_missing = num_inputs

    @property
    def is_complete(self) -> bool:
        return not self._num_missing

    def add(self, message: Embedded, payload: bytes) -> None:
        """Raises FrameError for vectors that nobody asked for."""
        num_vectors = len(message.inputs)
        size, rest = divmod(len(payload), max(num_vectors, 1))
        if rest or size % 4 or not size:
            raise FrameError(f"{len(payload)} bytes are not {num_vectors} vectors")
        for position, index in enumerate(message.inputs):
            if not 0 <= index < len(self._vectors) or self._vectors[index] is not None:
                raise FrameError(f"a vector of input {index} was not expected")
            self._vectors[index] = payload[position * size : (position + 1) * size]
        self._num_missing -= num_vectors

    def vectors(self) -> list[bytes]:
        """All of them, once the request is complete."""
        return [vector for vector in self._vectors if vector is not None]
