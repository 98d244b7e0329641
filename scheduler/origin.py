"""Whose text, and which documents, were the bytes of a KV block computed from?

Every block remembers the origin of what was last written to it, registered or not, until it is
zeroed. Two rules rest on that. A block that is handed to a sequence of another origin is zeroed
first, so no block holds bytes of two origins. And a deletion finds everything it has to reach.

Tags are opaque to the engine: ids of documents that a prompt contains. A sequence that takes over
the blocks of another one takes over its tags: its own blocks depend on the same text.

What was computed from a prompt that the operator approved for all, and from nothing else, is
`SHARED`: it belongs to no tenant, no document is in it, and no tenant's deletion covers it.

Does not know: blocks, sequences, or which documents exist.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

NO_TAGS: frozenset[str] = frozenset()


@dataclass(slots=True, frozen=True)
class Origin:
    """One tenant's text with certain documents in it."""

    tenant: str
    cache_salt: str = field(repr=False)
    tags: frozenset[str] = NO_TAGS

    def with_tags_of(self, others: Iterable[Origin]) -> Origin:
        """This origin, and all documents of the others."""
        tags = self.tags.union(*(other.tags for other in others))
        return self if tags == self.tags else replace(self, tags=tags)

    def answers_for(self, other: Origin) -> bool:
        """Whether every deletion that covers `other` covers this one, too."""
        return other is SHARED or (other.cache_salt == self.cache_salt and other.tags <= self.tags)


SHARED = Origin(tenant="", cache_salt="")
"""No tenant's: a request's tenant and salt are never empty (see `admission`)."""


@dataclass(slots=True, frozen=True)
class Deletion:
    """What must be found no more: all of these tenants, or only what carries one of the tags."""

    cache_salts: frozenset[str] = field(repr=False)
    tags: frozenset[str] | None = None
    """None: everything."""

    def covers(self, origin: Origin) -> bool:
        if origin.cache_salt not in self.cache_salts:
            return False
        return self.tags is None or not self.tags.isdisjoint(origin.tags)
