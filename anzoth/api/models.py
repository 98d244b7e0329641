"""GET /v1/models and /v1/models/{id}: which models may this key use, served ones and aliases?

Does not know: what a model is made of, or whether its engine is up.
"""

from __future__ import annotations

from typing import Any

import orjson

from anzoth.api.call import Answer, Call
from anzoth.gateway.aliases import Alias
from anzoth.gateway.models import ServedModel
from anzoth.http.messages import Response


async def list_all(call: Call) -> Answer:
    aliases = await call.services.aliases.of(call.principal.tenant)
    listed = [_model(model) for model in call.services.models if model.name not in aliases]
    listed += map(_alias, aliases.values())
    granted = [model for model in listed if call.principal.may_use_model(model["id"])]
    return Response(200, orjson.dumps({"object": "list", "data": granted}), headers=call.headers)


async def retrieve(call: Call) -> Answer:
    """Model names may hold slashes: the pattern takes the rest of the path."""
    name = call.request.path_params["id"]
    aliases = await call.services.aliases.of(call.principal.tenant)
    if (alias := aliases.get(name)) is not None:
        call.principal.require_model(name)
        return Response(200, orjson.dumps(_alias(alias)), headers=call.headers)
    model = call.model(name)
    return Response(200, orjson.dumps(_model(model)), headers=call.headers)


def _alias(alias: Alias) -> dict[str, Any]:
    """What it leads to is not for everybody who may use it."""
    created = int(alias.created_at.timestamp())
    return {"id": alias.name, "object": "model", "created": created, "owned_by": "organization"}


def _model(model: ServedModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "anzoth"}
