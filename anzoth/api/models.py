"""GET /v1/models and /v1/models/{id}: which models may this key use?

Does not know: what a model is made of, or whether its engine is up.
"""

from __future__ import annotations

from typing import Any

import orjson

from anzoth.api.call import Answer, Call
from anzoth.gateway.models import ServedModel
from anzoth.http.messages import Response


async def list_all(call: Call) -> Answer:
    granted = [
        _model(model) for model in call.services.models if call.principal.may_use_model(model.name)
    ]
    return Response(200, orjson.dumps({"object": "list", "data": granted}), headers=call.headers)


async def retrieve(call: Call) -> Answer:
    """Model names may hold slashes: the pattern takes the rest of the path."""
    model = call.model(call.request.path_params["id"])
    return Response(200, orjson.dumps(_model(model)), headers=call.headers)


def _model(model: ServedModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "anzoth"}
