"""How many KV blocks may a tenant hold, and whose cached block is evicted next?

A tenant holds the blocks that it uses and those that are cached for it. Two bounds, both shares of
all blocks, keep tenants from taking the cache from each other:

    quota   The most that one tenant may hold, whoever else is there. One that holds so much evicts
            its own cached blocks; its sequences wait for each other where that is not enough.
    floor   So many of a tenant's cached blocks, the latest used, are protected: they are not
            evicted for others, who preempt or wait as if the cache were smaller by them. All floors
            together are at most a quarter of the cache: with many tenants each is lower.

A protected block does yield to work that has no other way: to a tenant that holds less than its own
floor, and to a sequence for which everybody else has been preempted (see `rows`, `scheduler`). So
idle blocks may delay work, but never stop it.

What all tenants share (see `origin`) is in an account of its own, from when it can be found: it
counts for no tenant's quota, has a floor as a tenant has, and no quota. It needs none: approved
prompts are finite, and unused blocks beyond the floor are evicted like any others.

Among blocks that are not protected the longest unused goes first, whoever holds it. Each tenant's
cached blocks are in order of use; a heap over the tenants above their floor tells which of their
oldest blocks is the oldest of all. Eviction costs O(log tenants), everything else O(1), apart from
the rare yielding of protected blocks and the change of the floor: O(tenants).

Does not know: prefixes, sequences, or free blocks.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from anzoth.scheduler.blocks import Account, Block
from anzoth.scheduler.origin import SHARED

_MAX_FLOORS = 0.25


@dataclass(slots=True, frozen=True)
class BlockShares:
    """Shares of all KV blocks, 0 to 1, the same for every tenant."""

    quota: float | None = None
    floor: float = 0.0


class TenantBlocks:
    """Who holds what, and the order in which cached blocks are evicted."""

    def __init__(self, num_blocks: int, shares: BlockShares) -> None:
        self._num_blocks = num_blocks
        self._shares = shares
        self.quota_blocks = num_blocks
        if shares.quota is not None:
            self.quota_blocks = max(1, int(num_blocks * shares.quota))
        self.num_cached = 0
        self._accounts: dict[str, Account] = {}
        """Of tenants that hold a block."""
        self._floor_blocks = 0
        self._num_protected = 0
        """Sum of every account's cached blocks up to the floor."""
        self._oldest: list[tuple[int, str]] = []
        """Heap of (stamp of its oldest cached block, tenant) for each account above the floor.
        Entries that are not true any more are dropped when they come up."""
        self._clock = 0

    # --- who holds what -----------------------------------------------------------------------

    def num_held(self, tenant: str) -> int:
        account = self._accounts.get(tenant)
        return account.num_held if account else 0

    def quota_left(self, tenant: str) -> int:
        """How many more blocks it may use, if need be by evicting its own cached ones."""
        account = self._accounts.get(tenant)
        return self.quota_blocks - (account.num_in_use if account else 0)

    def num_evictable(self, tenant: str, num_blocks: int, *, takes_any: bool = False) -> int:
        """Cached blocks that could be evicted for `num_blocks` more of this tenant, quota aside.

        `takes_any`: also those that are protected from it.
        """
        account = self._accounts.get(tenant)
        num_own = len(account.cached) if account else 0
        if takes_any or self.num_held(tenant) + num_blocks <= self._floor_blocks:
            return self.num_cached
        return self.num_cached - self._num_protected + min(num_own, self._floor_blocks)

    def num_gained(self, tenant: str, freed: Mapping[str, int]) -> int:
        """Of blocks that would be freed, by tenant, how many are not then protected from this one.

        A lower bound: those that hold no prefix would be free, and not protected.
        """
        gained = 0
        for other, num_blocks in freed.items():
            gained += num_blocks
            if other != tenant and (account := self._accounts.get(other)):
                num_cached, floor = len(account.cached), self._floor_blocks
                gained -= min(num_cached + num_blocks, floor) - min(num_cached, floor)
        return gained

    def use(self, block: Block, tenant: str) -> None:
        """A block that nobody held is used by this tenant."""
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = Account(tenant)
            self._set_floor()
        account.num_in_use += 1
        block.account = account

    def reuse(self, block: Block) -> None:
        """A cached block is used again by the tenant that holds it."""
        self._remove(block).num_in_use += 1

    def cache(self, block: Block) -> None:
        """Nobody uses the block any more, but it holds a prefix."""
        account = _holder(block)
        account.num_in_use -= 1
        self._clock += 1
        block.stamp = self._clock
        account.cached.append(block)
        self.num_cached += 1
        if len(account.cached) <= self._floor_blocks:
            self._num_protected += 1
        elif len(account.cached) == self._floor_blocks + 1:
            self._note_oldest(account)

    def hand_over(self, block: Block, tenant: str) -> None:
        """A block in use counts for this tenant from now on."""
        account = _holder(block)
        account.num_in_use -= 1
        self._leave(block, account)
        self.use(block, tenant)

    def let_go(self, block: Block) -> None:
        """Nobody uses the block any more, and it holds nothing."""
        account = _holder(block)
        account.num_in_use -= 1
        self._leave(block, account)

    def drop(self, block: Block) -> None:
        """A cached block loses its prefix, or is evicted: nobody holds it."""
        self._leave(block, self._remove(block))

    # --- eviction -----------------------------------------------------------------------------

    def victim(self, tenant: str, *, takes_any: bool = False) -> Block | None:
        """The cached block to evict for this tenant; None if there is none for it. No effect."""
        account = self._accounts.get(tenant)
        if account and account.num_held >= self.quota_blocks:
            return account.cached.first if account.cached else None
        while self._oldest:
            stamp, name = self._oldest[0]
            other = self._accounts.get(name)
            if other and self._is_above_floor(other) and other.cached.first.stamp == stamp:
                return other.cached.first
            heapq.heappop(self._oldest)
        if account and account.cached:
            return account.cached.first
        if takes_any or self.num_held(tenant) < self._floor_blocks:
            protected = [other.cached.first for other in self._accounts.values() if other.cached]
            return min(protected, key=lambda block: block.stamp, default=None)
        return None

    def _is_above_floor(self, account: Account) -> bool:
        return len(account.cached) > self._floor_blocks

    def _note_oldest(self, account: Account) -> None:
        heapq.heappush(self._oldest, (account.cached.first.stamp, account.tenant))
        if len(self._oldest) > 2 * len(self._accounts) + 64:
            self._rebuild()

    def _remove(self, block: Block) -> Account:
        account = _holder(block)
        if len(account.cached) <= self._floor_blocks:
            self._num_protected -= 1
        was_oldest = account.cached.first is block
        account.cached.remove(block)
        self.num_cached -= 1
        if was_oldest and self._is_above_floor(account):
            self._note_oldest(account)
        return account

    def _leave(self, block: Block, account: Account) -> None:
        block.account = None
        if not account.num_held:
            del self._accounts[account.tenant]
            self._set_floor()

    def _set_floor(self) -> None:
        """The number of tenants has changed, and with it perhaps the floor of each."""
        share = min(self._shares.floor, _MAX_FLOORS / max(len(self._accounts), 1))
        floor_blocks = int(self._num_blocks * share)
        if floor_blocks != self._floor_blocks:
            self._floor_blocks = floor_blocks
            self._rebuild()

    def _rebuild(self) -> None:
        accounts, floor = self._accounts.values(), self._floor_blocks
        self._num_protected = sum(min(len(account.cached), floor) for account in accounts)
        above = filter(self._is_above_floor, accounts)
        self._oldest = [(account.cached.first.stamp, account.tenant) for account in above]
        heapq.heapify(self._oldest)

    # --- integrity ----------------------------------------------------------------------------

    def find_problem(self, blocks: list[Block]) -> str | None:
        """What contradicts the state of all blocks; None if nothing does. O(blocks)"""
        num_in_use, num_unused = Counter[Account](), 0
        for block in blocks:
            if block.account is None:
                continue
            if block.refcount:
                num_in_use[block.account] += 1
            else:
                num_unused += 1
        listed = set(self._oldest)
        for account in self._accounts.values():
            last_stamp, num_cached = 0, 0
            for block in account.cached:
                if block.account is not account or block.refcount or block.stamp <= last_stamp:
                    return "a tenant's cached KV blocks are in use, another's, or out of order"
                last_stamp, num_cached = block.stamp, num_cached + 1
            if num_cached != len(account.cached) or num_in_use[account] != account.num_in_use:
                return "the KV blocks of a tenant are miscounted"
            is_bounded = account.tenant != SHARED.tenant
            if not account.num_held or (is_bounded and account.num_held > self.quota_blocks):
                return "a tenant holds more KV blocks than its quota, or none"
            is_above = self._is_above_floor(account)
            if is_above and (account.cached.first.stamp, account.tenant) not in listed:
                return "a tenant above its floor would never lose a cached KV block"
            num_unused -= num_cached
        if num_unused or len(num_in_use) > len(self._accounts):
            return "a KV block belongs to a tenant that does not know of it"
        counted = sum(len(account.cached) for account in self._accounts.values())
        floor = self._floor_blocks
        protected = sum(min(len(account.cached), floor) for account in self._accounts.values())
        if (counted, protected) != (self.num_cached, self._num_protected):
            return "cached or protected KV blocks are miscounted"
        if floor * len(self._accounts) > self._num_blocks * _MAX_FLOORS:
            return "the floors of all tenants are too high"
        return None


def _holder(block: Block) -> Account:
    assert block.account is not None, "nobody holds this block"
    return block.account
