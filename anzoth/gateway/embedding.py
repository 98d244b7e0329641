"""How do the inputs of one validated request become vectors, and what does that cost?

    count ─▶ reserve ─▶ submit ─▶ vectors ─▶ settle

There is no output whose length could vary, so what is reserved is what is used: all tokens of all
inputs. A request that the engine refuses, or that is lost with its engine, counts for nothing; one
whose caller leaves before its end counts in full, because it was being computed.

Scores are made the same way: an input is then a pair of texts, and its vector one number.

Does not know: JSON, texts, or where usage is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from anzoth.errors import (
    ContextLengthExceeded,
    InvalidValue,
    ModelUnavailable,
    UnsupportedParameter,
)
from anzoth.frames import Hello
from anzoth.gateway.ledger import Ledger
from anzoth.gateway.limits import Limiter, Reservation
from anzoth.gateway.models import ServedModel
from anzoth.gateway.principal import Principal
from anzoth.gateway.usage import UsageRecord
from anzoth.telemetry import Metrics


@dataclass(slots=True, frozen=True)
class EmbeddingRequest:
    """Of which inputs to make vectors."""

    inputs: tuple[Sequence[int], ...] = field(repr=False)
    """Each as token ids, special tokens included."""
    dimensions: int | None
    """The leading numbers to keep of each vector. None: all."""
    input_param: str = "input"
    """The field of the request's body that errors about the inputs name."""
    second_at: tuple[int, ...] = ()
    """Of pairs: where in each input the tokens of the second type begin. Empty: nowhere."""

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.inputs))


class Embedder:
    """Makes vectors of requests."""

    __slots__ = ("_ledger", "_limiter", "_metrics")

    def __init__(self, limiter: Limiter, ledger: Ledger, metrics: Metrics) -> None:
        self._limiter = limiter
        self._ledger = ledger
        self._metrics = metrics

    def reserve(
        self,
        model: ServedModel,
        request: EmbeddingRequest,
        principal: Principal,
        *,
        is_part: bool = False,
    ) -> Reservation:
        """Everything that can be refused before the engine is asked. `is_part`: see `Limiter`.

        Raises ModelUnavailable, InvalidValue, UnsupportedParameter, ContextLengthExceeded or
        RateLimited.
        """
        hello = model.engine.require_ready()
        check_inputs(request, hello)
        check_dimensions(request, hello, model)
        return self._limiter.reserve(
            principal, model.name, request.num_tokens, 0, model.price, is_part=is_part
        )

    async def embed(
        self,
        model: ServedModel,
        request: EmbeddingRequest,
        principal: Principal,
        reservation: Reservation,
        usage: UsageRecord,
    ) -> list[bytes]:
        """Each input's vector, as little-endian float32. Ends the reservation.

        Raises ModelUnavailable, CapacityUnavailable, or AnzothError for what a model cannot
        compute; nothing is then charged.
        """
        try:
            self._ledger.begin(usage, 0)
            vectors = await model.engine.embed(
                request.inputs,
                dimensions=request.dimensions,
                second_at=request.second_at,
                tenant=principal.tenant,
                key_id=principal.key_id,
                background=usage.batch,
            )
            await self._ledger.begun(usage)
        except asyncio.CancelledError:
            self._settle(model, request, reservation, usage)
            raise
        except BaseException as error:
            reservation.cancel()
            if isinstance(error, ModelUnavailable):
                usage.finish_reason = "error"
            raise
        usage.finish_reason = "stop"
        self._settle(model, request, reservation, usage)
        return vectors

    def _settle(
        self,
        model: ServedModel,
        request: EmbeddingRequest,
        reservation: Reservation,
        usage: UsageRecord,
    ) -> None:
        usage.prompt_tokens = request.num_tokens
        reservation.settle(request.num_tokens, 0)
        self._metrics.tokens_used(model.label, request.num_tokens, 0, 0)


def check_inputs(request: EmbeddingRequest, hello: Hello) -> None:
    """Raises InvalidValue or ContextLengthExceeded for an input that the model cannot take."""
    limit = hello.max_model_tokens
    for index, token_ids in enumerate(request.inputs):
        param = request.input_param
        if len(request.inputs) > 1:
            param = f"{param}[{index}]"
        if len(token_ids) > limit:
            raise ContextLengthExceeded(
                f"This model takes at most {limit} tokens per input, but '{param}' has "
                f"{len(token_ids)}. Split it into shorter inputs.",
                param=param,
            )
        if not token_ids:
            raise InvalidValue(f"'{param}' must hold at least one token.", param=param)
        if min(token_ids) < 0 or max(token_ids) >= hello.vocab_size:
            raise InvalidValue(
                f"Invalid value for '{param}': token ids of this model are 0 to "
                f"{hello.vocab_size - 1}.",
                param=param,
            )


def check_dimensions(request: EmbeddingRequest, hello: Hello, model: ServedModel) -> None:
    """Raises InvalidValue or UnsupportedParameter for a size that the model's vectors lack."""
    wanted, size = request.dimensions, hello.dimensions
    if wanted is None or wanted == size:
        return
    if size is not None and wanted > size:
        raise InvalidValue(
            f"Invalid value for 'dimensions': the vectors of this model have {size} numbers.",
            param="dimensions",
        )
    shorter = model.embedding.shorter_dimensions if model.embedding is not None else ()
    if shorter is not None and wanted not in shorter:
        # Cutting other models' vectors gives numbers that compare badly, without any sign of it.
        sizes = ", ".join(map(str, sorted({*shorter, size or 0} - {0})))
        raise UnsupportedParameter(
            f"Unsupported parameter: 'dimensions' of the model '{model.name}' can only be {sizes}; "
            f"it was not trained for shorter vectors.",
            param="dimensions",
        )
