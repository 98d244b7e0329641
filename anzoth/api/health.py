"""GET /healthz, /readyz and /metrics: is the process alive, can it serve, what has it done?

Public: load balancers and scrapers carry no key. Nothing here names a tenant.

Does not know: what makes a component ready (see `gateway.health`).
"""

from __future__ import annotations

import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from anzoth.api.call import Answer, Call
from anzoth.http.messages import Response

_NO_STORE = ("cache-control", "no-store")


async def healthz(call: Call) -> Answer:
    return Response(200, b'{"status":"ok"}', headers=[_NO_STORE])


async def readyz(call: Call) -> Answer:
    """200 when every component is ready or degraded, else 503; always all of them with their
    states."""
    components = await call.services.health.components()
    states = {component.state for component in components.values()}
    status = "ready" if states == {"ready"} else "not ready"
    if states == {"ready", "degraded"}:
        status = "degraded"
    body = {
        "status": status,
        "components": {
            name: {"state": component.state, **component.facts}
            for name, component in components.items()
        },
    }
    code = 503 if status == "not ready" else 200
    return Response(code, orjson.dumps(body), headers=[_NO_STORE])


async def metrics(call: Call) -> Answer:
    """Prometheus' text format."""
    return Response(
        200, call.services.metrics.render(), content_type=CONTENT_TYPE_LATEST, headers=[_NO_STORE]
    )
