"""Which KV blocks are taken, which may be taken, and which should be taken last?

Every block is in exactly one of three states, so the three counts always sum to the total:

    in use   refcount > 0: at least one sequence's block table names it
    cached   refcount 0, but its keys and values are a prefix that a later sequence may reuse
    free     refcount 0 and holds nothing

Allocation empties the free list first; only then does it evict (see `tenant_blocks` for whose block
goes, and for how many a tenant may have). A sequence gives its blocks back last block first: its
tail, which few others share, is evicted before its head.

What is in a block stays there until it is overwritten, also in a free one. So each block remembers
the origin of its bytes (see `origin`), and `take_scrubs` names those that must be zeroed before
anything is computed: blocks that went from one origin to another, and condemned ones that nobody
uses any more.

Does not know: tokens, hashes or sequences. What a cached block holds is the prefix cache's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anzoth.scheduler.blocks import Block, BlockList
from anzoth.scheduler.origin import SHARED, Origin
from anzoth.scheduler.tenant_blocks import BlockShares, TenantBlocks


class IntegrityError(Exception):
    """The engine's own bookkeeping contradicts itself; nothing it computes can be trusted now."""


class BlockPool:
    """Refcounts and the order of reuse of a fixed number of blocks.

    `on_evict(block_id)` is called before a cached block is handed out for new content.
    """

    def __init__(
        self,
        num_blocks: int,
        on_evict: Callable[[int], None],
        shares: BlockShares | None = None,
    ) -> None:
        self._blocks = [Block(block_id) for block_id in range(num_blocks)]
        self._free = BlockList()
        self.tenants = TenantBlocks(num_blocks, shares or BlockShares())
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
        return self.tenants.num_cached

    @property
    def num_in_use(self) -> int:
        return len(self._blocks) - self.num_available

    @property
    def num_available(self) -> int:
        """Blocks that nobody uses: free ones, and cached ones, which may be evicted."""
        return len(self._free) + self.tenants.num_cached

    def num_lacking(
        self, tenant: str, num_blocks: int, *, beside: int = 0, takes_any: bool = False
    ) -> int:
        """How many of `num_blocks` more blocks this tenant could not have now; 0: all are there.

        Its quota aside. `beside`: so many others are spoken for. `takes_any`: blocks that are
        protected from it, too.
        """
        num_evictable = self.tenants.num_evictable(tenant, num_blocks, takes_any=takes_any)
        return max(0, num_blocks + beside - len(self._free) - num_evictable)

    def refcount(self, block_id: int) -> int:
        return self._blocks[block_id].refcount

    def is_cached(self, block_id: int) -> bool:
        return self._blocks[block_id].is_cached

    def holder(self, block_id: int) -> str:
        """The tenant that a block in use, or cached, counts for."""
        account = self._blocks[block_id].account
        assert account is not None
        return account.tenant

    def origin(self, block_id: int) -> Origin | None:
        """Of the bytes in the block. None: they are zero."""
        return self._blocks[block_id].origin

    def is_condemned(self, block_id: int) -> bool:
        """Whether what the block holds is deleted, and only kept for who uses it."""
        return self._blocks[block_id].is_condemned

    def try_allocate(
        self,
        num_blocks: int,
        origin: Origin,
        *,
        is_condemned: bool = False,
        takes_any: bool = False,
    ) -> list[int] | None:
        """`num_blocks` blocks with refcount 1 for bytes of `origin`, or None and no effect.

        `is_condemned`: what will be written to them is deleted already. `takes_any`: see
        `num_lacking`.
        """
        if num_blocks > self.tenants.quota_left(origin.tenant):
            return None
        if self.num_lacking(origin.tenant, num_blocks, takes_any=takes_any):
            return None
        return [self._take(origin, is_condemned, takes_any) for _ in range(num_blocks)]

    def _take(self, origin: Origin, is_condemned: bool, takes_any: bool) -> int:
        tenants = self.tenants
        if len(self._free) and tenants.num_held(origin.tenant) < tenants.quota_blocks:
            block = self._free.pop_first()
        else:
            block = tenants.victim(origin.tenant, takes_any=takes_any)
            if block is None:  # a tenant has lost its last block: the others' floors have risen
                block = tenants.victim(origin.tenant, takes_any=True)
            if block is None:
                raise IntegrityError("a KV block that was counted as available is not")
            tenants.drop(block)
            block.is_cached = False
            self._on_evict(block.id)
        if block.origin is not None and block.origin != origin:
            self._scrubs.add(block.id)
        tenants.use(block, origin.tenant)
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
                self.tenants.reuse(block)
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
                if block.is_cached:
                    self.tenants.cache(block)
                else:
                    self.tenants.let_go(block)
                    self._free.append(block)

    def set_cached(self, block_id: int, is_cached: bool) -> None:
        """Records whether the block's content may be reused; an unused block changes its list."""
        block = self._blocks[block_id]
        if block.refcount == 0 and block.is_cached and not is_cached:
            self.tenants.drop(block)
            self._free.append(block)
        assert block.refcount or not is_cached, "what an unused block held is gone"
        block.is_cached = is_cached

    def give_to_all(self, block_id: int) -> None:
        """The block, which is in use, holds what all tenants may share: it is nobody's own."""
        block = self._blocks[block_id]
        assert block.refcount
        assert block.is_cached
        self.tenants.hand_over(block, SHARED.tenant)
        block.origin = SHARED

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

    def will_overwrite(self, block_id: int) -> None:
        """All bytes of this block are replaced before `take_scrubs` is obeyed: it is not scrubbed
        for what was in it until now."""
        self._scrubs.discard(block_id)

    def take_scrubs(self) -> list[int]:
        """Blocks that must be zeroed now, before the next step, each named once."""
        scrubs = sorted(self._scrubs)
        self._scrubs.clear()
        return scrubs

    def _scrub(self, block: Block) -> None:
        self._scrubs.add(block.id)
        block.origin = None
        block.is_condemned = False

    def states(self) -> tuple[list[int], list[bool]]:
        """Every block's refcount, and whether its content may be reused."""
        blocks = self._blocks
        return [block.refcount for block in blocks], [block.is_cached for block in blocks]

    def check_integrity(self) -> None:
        """Raises IntegrityError unless every block is in exactly one state. O(n)."""
        free = [block.id for block in self._free]
        cached = [block.id for block in self._blocks if block.account and not block.refcount]
        if len(free) != len(self._free):
            raise IntegrityError("a list of KV blocks is not as long as it was counted")
        in_use = [block.id for block in self._blocks if block.refcount > 0]
        if sorted(free + cached + in_use) != list(range(len(self._blocks))):
            raise IntegrityError("a KV block is lost or is in two states at once")
        if any(self._blocks[i].is_cached or self._blocks[i].account for i in free):
            raise IntegrityError("a free KV block is marked as cached or belongs to a tenant")
        if not all(self._blocks[i].is_cached for i in cached):
            raise IntegrityError("a block of the cached list is not marked as cached")
        if problem := self.tenants.find_problem(self._blocks):
            raise IntegrityError(problem)
        if any(block.refcount < 0 for block in self._blocks):
            raise IntegrityError("a KV block has a negative refcount")
        for block in self._blocks:
            if block.is_condemned and (block.is_cached or not block.refcount):
                raise IntegrityError("a deleted KV block can be found or was not zeroed")
            if (block.refcount or block.is_cached) and block.origin is None:
                raise IntegrityError("a KV block holds something, but nobody knows of whom")
