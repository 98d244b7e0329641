"""Which URLs are there, and what does each require?

One line per endpoint: nothing is reachable that is not in this table, and everything in it needs a
key with the named scope unless its scope is None. A feature enters as a new file and a line here.

Does not know: how a request is answered.
"""

from __future__ import annotations

from anzoth.api import audit_logs, chat, completions, embeddings, health, models, rerank
from anzoth.api.call import Route

V1 = "/v1"

ROUTES: tuple[Route, ...] = (
    Route("GET", V1 + "/models", "models:read", models.list_all),
    Route("GET", V1 + "/models/{id:path}", "models:read", models.retrieve),
    Route("POST", V1 + "/chat/completions", "chat", chat.create, takes_body=True, inference=True),
    Route(
        "POST",
        V1 + "/completions",
        "completions",
        completions.create,
        takes_body=True,
        inference=True,
    ),
    Route(
        "POST", V1 + "/embeddings", "embeddings", embeddings.create, takes_body=True, inference=True
    ),
    Route("POST", V1 + "/rerank", "rerank", rerank.create, takes_body=True, inference=True),
    Route("GET", V1 + "/organization/audit_logs", "audit:read", audit_logs.list_all),
    Route("GET", "/healthz", None, health.healthz),
    Route("GET", "/readyz", None, health.readyz),
    Route("GET", "/metrics", None, health.metrics),
)


def patterns(route: Route) -> tuple[str, ...]:
    """Where a route is reachable: also without `/v1`, which some clients leave out."""
    if route.pattern.startswith(V1 + "/"):
        return (route.pattern, route.pattern.removeprefix(V1))
    return (route.pattern,)
