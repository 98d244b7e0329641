"""The model list shows what the key may use, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from api_harness import MODEL, Api, Scenario
from api_stand_ins import PRINCIPAL

Run = Callable[[Scenario], None]


def test_a_model_has_exactly_the_documented_shape_in_the_list_and_alone(run: Run) -> None:
    async def scenario(api: Api) -> None:
        listed = (await api.call("GET", "/v1/models")).json
        model = {
            "id": MODEL,
            "object": "model",
            "created": api.model.created,
            "owned_by": "anzoth",
        }
        assert listed == {"object": "list", "data": [model]}
        # The id holds a slash.
        assert (await api.call("GET", f"/v1/models/{MODEL}")).json == model

    run(scenario)


def test_a_model_that_the_key_may_not_use_is_not_listed(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["other"] = replace(PRINCIPAL, models=("other",))
        listed = await api.call("GET", "/v1/models", key="other")
        assert listed.json == {"object": "list", "data": []}
        alone = await api.call("GET", f"/v1/models/{MODEL}", key="other")
        assert (alone.status, alone.error["code"]) == (403, "model_not_allowed")

    run(scenario)


def test_an_unknown_model_is_a_404(run: Run) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.call("GET", "/v1/models/nothing")
        assert (reply.status, reply.error["code"]) == (404, "model_not_found")

    run(scenario)


def test_a_model_is_listed_while_its_engine_is_down(run: Run) -> None:
    async def scenario(api: Api) -> None:
        await api.peer.stop()
        assert len((await api.call("GET", "/v1/models")).json["data"]) == 1

    run(scenario)
