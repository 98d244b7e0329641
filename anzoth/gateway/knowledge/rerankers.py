"""Which model ranks what a search has found, and who may choose it?

    the operator's    of every search that does not say otherwise; no key needs a grant for it
    a caller's own    a served model, or an alias of the tenant's, that the key is granted

Does not know: how anything is ranked (see `reranking`), or what that costs (see `Score`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from anzoth.errors import InvalidValue, ModelNotFound
from anzoth.gateway.aliases import Alias, Aliases
from anzoth.gateway.embedding import EmbeddingRequest
from anzoth.gateway.models import ModelRegistry, ServedModel
from anzoth.gateway.principal import Principal
from anzoth.gateway.routes_of_models import in_order

Score = Callable[[ServedModel, EmbeddingRequest], Awaitable[Sequence[bytes]]]
"""Each pair's score, as a little-endian float32. Raises what `EngineClient.embed` does, and what
refuses the tokens: the search then goes on without."""


@dataclass(slots=True, frozen=True)
class Reranker:
    """A model that ranks."""

    name: str
    model: ServedModel | None
    """None: it is not served now."""


@dataclass(slots=True, frozen=True)
class Reranking:
    """That a search is to be ranked anew: by what, and at whose cost."""

    by: Reranker
    score: Score


class Rerankers:
    """One per gateway."""

    def __init__(self, models: ModelRegistry, aliases: Aliases, default: str | None) -> None:
        """`default`: the operator's. None: a search that does not say otherwise is not ranked."""
        self._models = models
        self._aliases = aliases
        self.default = default

    def of_operator(self) -> Reranker | None:
        """None: there is none."""
        if self.default is None:
            return None
        model = self._models.find(self.default)
        return Reranker(self.default, model if model and model.kind == "rerank" else None)

    async def named(self, principal: Principal, name: str, request_id: str, param: str) -> Reranker:
        """The one of this name, which the caller gave as `param`.

        Raises ModelNotFound, ModelNotAllowed, InvalidValue (it does not rank) or
        DatabaseUnavailable.
        """
        alias = (await self._aliases.of(principal.tenant)).get(name)
        if alias is not None:
            principal.require_model(name)
            return Reranker(name, self._target(alias, request_id, param))
        model = self._models.find(name)
        if model is None:
            raise ModelNotFound(param=param)
        principal.require_model(name)
        return Reranker(name, _ranking(model, name, param))

    def _target(self, alias: Alias, request_id: str, param: str) -> ServedModel | None:
        """The first in order that would answer now, else the first that is served."""
        served: list[ServedModel] = []
        for target in in_order(alias.targets, request_id.encode()):
            model = None if target.backend is not None else self._models.find(target.model)
            if model is not None:
                model = replace(model, name=alias.name, target=target.name)
                served.append(_ranking(model, alias.name, param))
        if not served and all(target.backend is not None for target in alias.targets):
            raise InvalidValue(
                f"The model '{alias.name}' leads to a server that ranks nothing here.", param=param
            )
        return next((model for model in served if model.engine.healthy), next(iter(served), None))


def _ranking(model: ServedModel, name: str, param: str) -> ServedModel:
    """Raises InvalidValue."""
    if model.kind != "rerank":
        raise InvalidValue(f"The model '{name}' does not rank documents.", param=param)
    return model
