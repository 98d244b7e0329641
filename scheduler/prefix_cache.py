"""Which blocks already hold the keys and values of the beginning of this sequence?

The keys and values of a block depend on all tokens up to its end, so a full block is known by the
end of a chain:

    key(i) = blake2b(key(i - 1) + tokens of block i), keyed with the tenant's secret

Two tenants have different secrets, hence different keys for equal text: a hit between them would
need a collision of a keyed 256-bit digest. And nothing rests on the digest alone. On a hit the
block's own tokens are compared, and its parent must be the very entry that was matched just before;
by induction the whole prefix is equal. The secret belongs to the authenticated tenant and never
comes from a request.

There are prompts that the operator approved to be shared by all tenants (`SharedPrompts`). Where a
sequence begins with all full blocks of one, their keys are made with a key that is no secret, and
the tenant's secret takes over right behind them:

    [ approved, full blocks | the rest of the approved text | the tenant's text ……… ]
      keyed for everybody     keyed with the tenant's secret from here on

A tenant that sends the approved text can see in the time it takes, or in the number of cached
tokens, that somebody used it lately. It sees nothing of what others wrote behind it, nor that
somebody sent a part of it only: that is all or nothing. What is approved is told by whoever starts
the engine; no request can add to it.

Two sequences may compute the same block side by side. The first registration stands, and the other
copy stays private to its sequence; blocks after it hang below the registered one. When a block is
evicted, everything below it is forgotten with it, since a match could not get there any more.

Does not know: refcounts, lists, or which blocks are in use. It only says what a block holds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from anzoth.scheduler.block_pool import IntegrityError
from anzoth.scheduler.origin import SHARED

TokenIds = Sequence[int]
_KEY_BYTES = 32


def _secret(cache_salt: str) -> bytes:
    # blake2b takes at most 64 bytes of key, and a salt may be longer: a digest stands for it.
    salt = cache_salt.encode()
    return blake2b(salt, digest_size=_KEY_BYTES, person=b"anzoth-secret").digest()


_SHARED_SECRET = _secret(SHARED.cache_salt)


class SharedPrompts:
    """The beginnings of prompts whose full blocks all tenants may share."""

    def __init__(self, prompts: Iterable[TokenIds], block_size_tokens: int) -> None:
        """`prompts`: their token ids; what does not fill a block at the end of one is not shared.
        A prompt that fills no block is ignored."""
        self._block_size_tokens = block_size_tokens
        full = (list(ids[: len(ids) // block_size_tokens * block_size_tokens]) for ids in prompts)
        self._prompts = sorted(filter(None, full), key=len, reverse=True)

    def num_blocks(self, token_ids: list[int]) -> int:
        """Leading blocks of these tokens that are those of a whole approved prompt, the longest."""
        for prompt in self._prompts:
            if token_ids[: len(prompt)] == prompt:
                return len(prompt) // self._block_size_tokens
        return 0


class KeyChain:
    """The keys of one sequence's full blocks; each block is hashed once, as the sequence grows."""

    __slots__ = ("_secret", "_tip", "keys", "num_shared_blocks")

    def __init__(self, cache_salt: str, num_shared_blocks: int = 0) -> None:
        """`num_shared_blocks`: so many leading ones have the same keys for every tenant."""
        self.num_shared_blocks = num_shared_blocks
        self._secret = _secret(cache_salt)
        root = _SHARED_SECRET if num_shared_blocks else self._secret
        self._tip = blake2b(b"root", digest_size=_KEY_BYTES, key=root).digest()
        self.keys: list[bytes] = []

    def extend(self, token_ids: Sequence[int], block_size_tokens: int) -> None:
        """Adds the keys of the full blocks of `token_ids` that were not full at the last call."""
        for index in range(len(self.keys), len(token_ids) // block_size_tokens):
            tokens = token_ids[index * block_size_tokens : (index + 1) * block_size_tokens]
            link = self._tip + array("q", tokens).tobytes()
            secret = _SHARED_SECRET if index < self.num_shared_blocks else self._secret
            self._tip = blake2b(link, digest_size=_KEY_BYTES, key=secret).digest()
            self.keys.append(self._tip)


class _Entry:
    """What one block holds. Compared by identity: a block with new content has a new entry."""

    __slots__ = ("block_id", "children", "key", "parent", "token_ids")

    def __init__(
        self, key: bytes, token_ids: Sequence[int], parent: _Entry | None, block_id: int
    ) -> None:
        self.key = key
        self.token_ids = token_ids
        self.parent = parent
        self.block_id = block_id
        self.children: set[_Entry] | None = None  # a set for each of 50k entries would cost 10 MB


class PrefixCache:
    """From the key of a prefix to the block that holds its end."""

    def __init__(self, num_blocks: int, block_size_tokens: int) -> None:
        self._block_size_tokens = block_size_tokens
        self._by_key: dict[bytes, _Entry] = {}
        self._by_block: list[_Entry | None] = [None] * num_blocks

    def __len__(self) -> int:
        return len(self._by_key)

    def num_matchable_blocks(self, num_tokens: int) -> int:
        """Blocks that a hit may cover: never the last token, because a step must compute one."""
        return max(0, num_tokens - 1) // self._block_size_tokens

    def match(self, keys: Sequence[bytes], token_ids: Sequence[int]) -> list[int]:
        """The blocks of the longest registered prefix of `token_ids`, in order. No effect."""
        matched: list[int] = []
        parent: _Entry | None = None
        for index in range(self.num_matchable_blocks(len(token_ids))):
            entry = self._by_key.get(keys[index])
            if (
                entry is None
                or entry.parent is not parent
                or entry.token_ids != self._tokens_of_block(token_ids, index)
            ):
                break
            matched.append(entry.block_id)
            parent = entry
        return matched

    def try_register(
        self, keys: Sequence[bytes], index: int, token_ids: Sequence[int], block_id: int
    ) -> bool:
        """Makes block `index` of a sequence, now computed and held in `block_id`, reusable.

        False, and no effect, when the prefix is registered already or the block before is not.
        """
        key = keys[index]
        parent = self._by_key.get(keys[index - 1]) if index else None
        if key in self._by_key or (index and parent is None):
            return False
        entry = _Entry(key, self._tokens_of_block(token_ids, index), parent, block_id)
        self._by_key[key] = self._by_block[block_id] = entry
        if parent is not None:
            if parent.children is None:
                parent.children = set()
            parent.children.add(entry)
        return True

    def forget(self, block_id: int) -> list[int]:
        """Drops what this block holds and all that continues it; returns every block dropped."""
        root = self._by_block[block_id]
        if root is None:
            return []
        if root.parent is not None and root.parent.children is not None:
            root.parent.children.discard(root)
        dropped: list[int] = []
        stack = [root]
        while stack:
            entry = stack.pop()
            stack.extend(entry.children or ())
            # Parents and children refer to each other: cut, so that no collector run is needed.
            entry.parent = entry.children = None
            del self._by_key[entry.key]
            self._by_block[entry.block_id] = None
            dropped.append(entry.block_id)
        return dropped

    def held(self) -> list[bool]:
        """Of every block, whether it is registered."""
        return [entry is not None for entry in self._by_block]

    def check_integrity(self) -> None:
        """Raises IntegrityError unless both tables agree and every parent is registered. O(n)."""
        entries = [entry for entry in self._by_block if entry is not None]
        if len(entries) != len(self._by_key):
            raise IntegrityError("the prefix cache's two tables have different sizes")
        for block_id, entry in enumerate(self._by_block):
            if entry is None:
                continue
            if entry.block_id != block_id or self._by_key.get(entry.key) is not entry:
                raise IntegrityError(f"prefix entry of block {block_id} is in one table only")
            if entry.parent is not None and (
                self._by_block[entry.parent.block_id] is not entry.parent
                or entry not in (entry.parent.children or ())
            ):
                raise IntegrityError(f"the parent of block {block_id}'s prefix is not registered")
            if len(entry.token_ids) != self._block_size_tokens:
                raise IntegrityError(f"block {block_id} is registered but not full")

    def _tokens_of_block(self, token_ids: Sequence[int], index: int) -> Sequence[int]:
        start = index * self._block_size_tokens
        return token_ids[start : start + self._block_size_tokens]
