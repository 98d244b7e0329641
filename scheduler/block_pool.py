"""Which KV blocks are taken, which may be taken, and which should be taken last?

Every block is in exactly one of three states, so the three counts always sum to the total:

    in use   refcount > 0: at least one sequence's block table names it
    cached   refcount 0, but its keys and values are a prefix that a later sequence may reuse
    free     refcount 0 and holds nothing

Allocation empties the free list first; only then does it evict, starting with the cached block that
has been unused for longest. A sequence gives its blocks back last block first: its tail, which few
others share, is evicted before its head.

What is in a block stays there until it is overwritten, also in a free one. So each block remembers
the origin of its bytes (see `origin`), and `take_scrubs` names those that must be zeroed before
anything is computed: blocks that went from one origin to another, and condemned ones that nobody
uses any more.

All block objects exist from the start, and the lists run through them (intrusive links), so nothing
is allocated while serving and a block leaves the middle of a list in constant time.

Does not know: tokens, hashes or sequences. What a cached block holds is the prefix cache's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from anzoth.scheduler.origin import Origin


class IntegrityError(Exception):
    """The engine's own bookkeeping contradicts itself; nothing it computes can be trusted now."""


class Block:
    """One KV block: its state and its place in at most one list."""

    __slots__ = ("id", "is_cached", "is_condemned", "next", "origin", "previous", "refcount")

    def __init__(self, block_id: int) -> None:
        self.id = block_id
        self.refcount = 0
        self.is_cached = False
        """Holds a reusable prefix. Also true of blocks in use whose prefix others may share."""
        self.is_condemned = False
        """In use, but what it holds was deleted: zeroed when its last user gives it back."""
        self.origin: Origin | None = None
        """Of the bytes in it. None: they are zero, or will be before anything is computed."""
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

    def pop_first(self) -> Block:
        """Takes out the block that has been in the list for longest."""
        first = self._sentinel.next
        assert first is not None
        assert first is not self._sentinel
        self.remove(first)
        return first


class BlockPool:
    """Refcounts and the order of reuse of a fixed number of blocks.

    `on_evict(block_id)` is called before a cached block is handed out for new content.
    """

    def __init__(self, num_blocks: int, on_evict: Callable[[int], None]) -> None:
        self._blocks = [Block(block_id) for block_id in range(num_blocks)]
        self._free = BlockList()
        self._cached = BlockList()
        self._on_evict = on_evict
        self._scrubs: set[int] = set()
        for block in self._blocks:
            self._free.append(block)

    @property
    def num_blocks(self) -> int:
        return len(self._blocks)

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_cached(self) -> int:
        return len(self._cached)

    @property
    def num_in_use(self) -> int:
        return len(self._blocks) - len(self._free) - len(self._cached)

    @property
    def num_available(self) -> int:
        """Blocks that an allocation may take: free ones, and cached ones by evicting them."""
        return len(self._free) + len(self._cached)

    def refcount(self, block_id: int) -> int:
        return self._blocks[block_id].refcount

    def is_cached(self, block_id: int) -> bool:
        return self._blocks[block_id].is_cached

    def origin(self, block_id: int) -> Origin | None:
        """Of the bytes in the block. None: they are zero."""
        return self._blocks[block_id].origin

    def try_allocate(
        self, num_blocks: int, origin: Origin, *, is_condemned: bool = False
    ) -> list[int] | None:
        """`num_blocks` blocks with refcount 1 for bytes of `origin`, or None and no effect.

        `is_condemned`: what will be written to them is deleted already.
        """
        if num_blocks > self.num_available:
            return None
        return [self._take(origin, is_condemned) for _ in range(num_blocks)]

    def _take(self, origin: Origin, is_condemned: bool) -> int:
        if len(self._free):
            block = self._free.pop_first()
        else:
            block = self._cached.pop_first()
            block.is_cached = False
            self._on_evict(block.id)
        if block.origin is not None and block.origin != origin:
            self._scrubs.add(block.id)
        block.refcount = 1
        block.origin = origin
        block.is_condemned = is_condemned
        return block.id

    def share(self, block_ids: Sequence[int]) -> None:
        """One more sequence uses these blocks, which hold a cached prefix."""
        for block_id in block_ids:
            block = self._blocks[block_id]
            assert block.is_cached
            if block.refcount == 0:
                self._cached.remove(block)
            block.refcount += 1

    def free(self, block_ids: Sequence[int]) -> None:
        """One sequence gives its block table back; its last block will be evicted first."""
        for block_id in reversed(block_ids):
            block = self._blocks[block_id]
            assert block.refcount > 0
            block.refcount -= 1
            if block.refcount == 0:
                if block.is_condemned:
                    self._scrub(block)
                (self._cached if block.is_cached else self._free).append(block)

    def set_cached(self, block_id: int, is_cached: bool) -> None:
        """Records whether the block's content may be reused; an unused block changes its list."""
        block = self._blocks[block_id]
        if block.refcount == 0 and block.is_cached != is_cached:
            (self._cached if block.is_cached else self._free).remove(block)
            (self._cached if is_cached else self._free).append(block)
        block.is_cached = is_cached

    def blocks_of(self, is_wanted: Callable[[Origin], bool]) -> list[int]:
        """Blocks whose bytes have a wanted origin, in whatever state. O(blocks)."""
        verdicts: dict[Origin, bool] = {}
        found: list[int] = []
        for block in self._blocks:
            if block.origin is None:
                continue
            verdict = verdicts.get(block.origin)
            if verdict is None:
                verdict = verdicts[block.origin] = is_wanted(block.origin)
            if verdict:
                found.append(block.id)
        return found

    def condemn(self, block_id: int) -> bool:
        """What the block holds, which is not cached any more, is deleted.

        True: nobody uses it, and `take_scrubs` names it next. False: that comes with its last use.
        """
        block = self._blocks[block_id]
        assert not block.is_cached
        if block.refcount:
            block.is_condemned = True
            return False
        self._scrub(block)
        return True

    def take_scrubs(self) -> list[int]:
        """Blocks that must be zeroed now, before the next step, each named once."""
        scrubs = sorted(self._scrubs)
        self._scrubs.clear()
        return scrubs

    def _scrub(self, block: Block) -> None:
        self._scrubs.add(block.id)
        block.origin = None
        block.is_condemned = False

    def check_integrity(self) -> None:
        """Raises IntegrityError unless every block is in exactly one state. O(n)."""
        free = [block.id for block in self._free]
        cached = [block.id for block in self._cached]
        if len(free) != len(self._free) or len(cached) != len(self._cached):
            raise IntegrityError("a list of KV blocks is not as long as it was counted")
        in_use = [block.id for block in self._blocks if block.refcount > 0]
        if sorted(free + cached + in_use) != list(range(len(self._blocks))):
            raise IntegrityError("a KV block is lost or is in two states at once")
        if any(self._blocks[i].is_cached for i in free):
            raise IntegrityError("a free KV block is marked as cached")
        if not all(self._blocks[i].is_cached for i in cached):
            raise IntegrityError("a block of the cached list is not marked as cached")
        if any(block.refcount < 0 for block in self._blocks):
            raise IntegrityError("a KV block has a negative refcount")
        for block in self._blocks:
            if block.is_condemned and (block.is_cached or not block.refcount):
                raise IntegrityError("a deleted KV block can be found or was not zeroed")
            if (block.refcount or block.is_cached) and block.origin is None:
                raise IntegrityError("a KV block holds something, but nobody knows of whom")
