"""How is a second model counted that one request needs?

Its tokens meet the limits of that model, and it has a usage row of its own under the model's name
and price, whose id is the request's with a suffix. It is no further request to the limits.

Does not know: what the model is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from anzoth.api.call import Call
from anzoth.errors import AnzothError
from anzoth.gateway.embedding import EmbeddingRequest
from anzoth.gateway.models import ServedModel
from anzoth.gateway.usage import UsageRecord

_ABANDONED = 499
"""As of a request whose caller left: it was computed, and nobody used it."""


async def embed(
    call: Call, suffix: str, endpoint: str, model: ServedModel, request: EmbeddingRequest
) -> Sequence[bytes]:
    """Vectors, or scores. What the limits do not cover is not computed. An attempt that was begun
    and then given up, because it took too long or the caller left, counts in full.

    Raises what `Embedder.reserve` and `Embedder.embed` raise.
    """
    services, principal = call.services, call.principal
    reservation = services.embedder.reserve(model, request, principal, is_part=True)
    usage = UsageRecord(
        f"{call.request.request_id}.{suffix}",
        principal,
        endpoint,
        model=model.name,
        target=model.target,
        price=model.price,
        status=_ABANDONED,
        batch=call.is_of_batch,
    )
    began_s = time.monotonic()
    try:
        made = await services.embedder.embed(model, request, principal, reservation, usage)
        usage.status = 200
    except AnzothError as error:
        usage.status, usage.error_code, usage.rule = error.status, error.code, error.rule
        usage.refusal = error.kept_message
        raise
    finally:
        usage.duration_ms = int(1000 * (time.monotonic() - began_s))
        if usage.entry is not None or usage.prompt_tokens:
            services.ledger.record(usage)
    return made
