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
    """200 when every component is ready, else 503; either way all of them with their states."""
    components = await call.services.health.components()
    is_ready = all(component.state == "ready" for component in components.values())
    body = {
        "status": "ready" if is_ready else "not ready",
        "components": {
            name: {"state": component.state, **component.facts}
            for name, component in components.items()
        },
    }
    return Response(200 if is_ready else 503, orjson.dumps(body), headers=[_NO_STORE])


async def metrics(call: Call) -> Answer:
    """Prometheus' text format."""
    return Response(
        200, call.services.metrics.render(), content_type=CONTENT_TYPE_LATEST, headers=[_NO_STORE]
    )
