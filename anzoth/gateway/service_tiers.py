"""In which service tier is a request served, and what does that mean to the engine?

A tier is the order in which a tenant's requests are taken, and within bounds its place among the
tenants (`FairnessPolicy.priority_tokens`, scheduler/fairness.py): `priority` may go ahead of others
that have had less, `flex` waits until others have had more. To go ahead is a grant of the key's;
without it `priority` is served as `default`, and the answer says so, as OpenAI's does.

Does not know: queues, or what a tier costs.
"""

from __future__ import annotations

from anzoth.gateway.principal import Principal
from anzoth.gateway.scopes import PRIORITY_SCOPE

DEFAULT_TIER = "default"

ENGINE_PRIORITIES = {"flex": -1, DEFAULT_TIER: 0, "priority": 1}
"""`Submit.priority` of each tier there is."""
BATCH_PRIORITY = -2
"""Of a batch's requests: below every tier, because somebody may wait for any other."""


def engine_priority(tier: str, *, is_of_batch: bool) -> int:
    return BATCH_PRIORITY if is_of_batch else ENGINE_PRIORITIES[tier]


def served_tier(asked: str | None, principal: Principal, *, is_of_batch: bool = False) -> str:
    """The tier for a request that asks for `asked`. There are no others than those above: `auto`,
    and tiers of contracts that this server does not know, mean the default; so does what a batch
    asks for."""
    if is_of_batch:
        return DEFAULT_TIER
    if asked == "flex" or (asked == "priority" and principal.has_scope(PRIORITY_SCOPE)):
        return asked
    return DEFAULT_TIER
