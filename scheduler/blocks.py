"""What is one KV block, what is a queue of them, and what does a tenant hold?

All block objects exist from the start, and the lists run through them (intrusive links), so nothing
is allocated while serving and a block leaves the middle of a list in constant time.

Does not know: which block is taken next, or why.
"""

from __future__ import annotations

from collections.abc import Iterator

from anzoth.scheduler.origin import Origin


class Block:
    """One KV block: its state and its place in at most one list."""

    __slots__ = (
        "account",
        "id",
        "is_cached",
        "is_condemned",
        "next",
        "origin",
        "previous",
        "refcount",
        "stamp",
    )

    def __init__(self, block_id: int) -> None:
        self.id = block_id
        self.refcount = 0
        self.is_cached = False
        """Holds a reusable prefix. Also true of blocks in use whose prefix others may share."""
        self.is_condemned = False
        """In use, but what it holds was deleted: zeroed when its last user gives it back."""
        self.origin: Origin | None = None
        """Of the bytes in it. None: they are zero, or will be before anything is computed."""
        self.account: Account | None = None
        """Of the tenant that holds it, in use or cached. None: it is free."""
        self.stamp = 0
        """When it was last given back; grows with each block."""
        self.previous: Block | None = None
        self.next: Block | None = None


class BlockList:
    """A queue of blocks linked through the blocks themselves. All but iteration is O(1)."""

    __slots__ = ("_sentinel", "_size")

    def __init__(self) -> None:
        # One circular sentinel, so that neither end is a special case.
        self._sentinel = sentinel = Block(-1)
        sentinel.previous = sentinel.next = sentinel
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Block]:
        block = self._sentinel.next
        while block is not None and block is not self._sentinel:
            yield block
            block = block.next

    def append(self, block: Block) -> None:
        """Puts a block that is in no list at the end."""
        last = self._sentinel.previous
        assert last is not None
        assert block.next is None
        block.previous, block.next = last, self._sentinel
        last.next = self._sentinel.previous = block
        self._size += 1

    def remove(self, block: Block) -> None:
        """Takes a block of this list out, wherever it stands."""
        before, after = block.previous, block.next
        assert before is not None
        assert after is not None
        before.next, after.previous = after, before
        block.previous = block.next = None
        self._size -= 1

    @property
    def first(self) -> Block:
        """The block that has been in the list, which is not empty, for longest."""
        first = self._sentinel.next
        assert first is not None
        assert first is not self._sentinel
        return first

    def pop_first(self) -> Block:
        """Takes out the block that has been in the list for longest."""
        first = self.first
        self.remove(first)
        return first


class Account:
    """What one tenant holds."""

    __slots__ = ("cached", "num_in_use", "tenant")

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.cached = BlockList()
        """Its unused blocks with a reusable prefix, longest unused first."""
        self.num_in_use = 0

    @property
    def num_held(self) -> int:
        return self.num_in_use + len(self.cached)
