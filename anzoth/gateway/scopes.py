"""Which scopes are there, and which of them manage?

A key either infers or manages. Scopes that can change who may do what (`keys:write`, `admin`) make
it a management key: it is refused by every inference endpoint, so that a key which sits in a
deployment cannot hand out access, and one that hands out access is not spent on answers. The
inference scopes that a management key has beside are what it may give to the keys it makes.

`all` is every inference scope and never a management one; `admin` is every management scope, and a
key that has it is an admin key: it is made as one, expires, and shows by its kid what it is.

Does not know: keys, or endpoints.
"""

from __future__ import annotations

from collections.abc import Collection

from anzoth.gateway.accounts.roles import MANAGEMENT_SCOPES

ADMIN_SCOPE = "admin"
PRIORITY_SCOPE = "priority"
"""To go ahead of others (see `service_tiers`)."""
INFERENCE_SCOPES = (
    "models:read",
    "chat",
    "completions",
    "embeddings",
    "rerank",
    "files:read",
    "files:write",
    "vector_stores:read",
    "vector_stores:write",
    "vector_stores:search",
    "batches:read",
    "batches:write",
    PRIORITY_SCOPE,
    "all",
)
"""What `all` covers. A new inference endpoint's scope is added here; any other scope manages."""
SCOPES = (*INFERENCE_SCOPES, *MANAGEMENT_SCOPES)

_READ = ":read"


def covers(scopes: Collection[str], scope: str) -> bool:
    """Whether `scopes` hold `scope`, or its verb-less parent, or the one that stands for its kind.

    A scope that nobody has heard of counts as management: forgetting to list one grants nothing.
    """
    whole = "all" if is_inference(scope) else ADMIN_SCOPE
    return scope in scopes or scope.partition(":")[0] in scopes or whole in scopes


def is_inference(scope: str) -> bool:
    return scope in INFERENCE_SCOPES


def spends(scope: str) -> bool:
    """Whether it lets its holder run a model: seeing which ones there are does not."""
    return is_inference(scope) and not scope.endswith(_READ)


def manages(scopes: Collection[str]) -> bool:
    """Whether a key with these can change who may do what. Reading alone manages nothing."""
    return any(not is_inference(scope) and not scope.endswith(_READ) for scope in scopes)
