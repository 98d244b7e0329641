"""How does the gateway ask another OpenAI-compatible server, and what can go wrong there?

The operator names each backend with its address, key and models (`[[backends]]`); a caller can name
none of them, so a request never decides where a connection goes. Redirects, proxies of the
environment, netrc and compressed bodies are not followed, used or accepted.

Whatever fails there becomes one of our errors: what it did not answer, or answered by its own
fault, is `model_unavailable`; that it refuses *our* key is a misconfiguration of ours, never the
caller's 401. Its messages are not passed on (they may name accounts, addresses, keys), only a
field's name and a code, if they look like one.

Does not know: what becomes of an answer that began (see `backend_exchange`), chats or embeddings,
limits, or which backend to ask.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from anzoth.backend_config import BackendConfig
from anzoth.errors import (
    AnzothError,
    CapacityUnavailable,
    ContextLengthExceeded,
    InvalidValue,
    KeyRevoked,
    PayloadTooLarge,
)
from anzoth.gateway.backend_errors import (
    BackendFailed,
    BackendMisconfigured,
    NoAnswer,
    TargetPaused,
)
from anzoth.gateway.backend_exchange import Attempt, Exchange
from anzoth.gateway.breaker import Breaker, State
from anzoth.settings import ConfigError
from anzoth.telemetry import Metrics

if TYPE_CHECKING:
    from anzoth.gateway.backend_client import Client, Reply

log = logging.getLogger(__name__)

_MAX_ERROR_BYTES = 64 << 10
_MAX_RETRY_AFTER_S = 60
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}", re.ASCII)
_KEY = re.compile(r"[\x21-\x7e]{1,4096}")
_LEVELS: Mapping[State, float] = {"closed": 0, "half_open": 0.5, "open": 1}


class Backend:
    """One other server."""

    def __init__(
        self,
        config: BackendConfig,
        metrics: Metrics,
        *,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ConfigError for a key that is missing."""
        self.config = config
        self.breakers = {model: Breaker(clock) for model in config.models}
        self._metrics = metrics
        self._authorization = _authorization(config, environ)
        self._client: Client | None = None
        self._running: set[Attempt] = set()
        self._ended: set[UUID] = set()
        for model, breaker in self.breakers.items():
            metrics.breaker(config.name, model, lambda breaker=breaker: _LEVELS[breaker.state])

    def __repr__(self) -> str:
        return f"Backend({self.config.name!r})"

    def serves(self, model: str, tenant: str) -> bool:
        """Whether an alias of this tenant may lead to `model` here."""
        allowed = self.config.tenants
        return model in self.breakers and (allowed is None or tenant in allowed)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def ask(
        self,
        model: str,
        path: str,
        body: Mapping[str, Any],
        *,
        streamed: bool,
        owners: frozenset[UUID],
    ) -> Exchange:
        """POSTs `body`; returns when the head of a 200 is there. The caller must `close` it.

        `owners`: the tenant and the key; when one of them ends, so does this. Raises AnzothError as
        the module says, and at once while the breaker is open.
        """
        if not self._ended.isdisjoint(owners):
            raise KeyRevoked()
        breaker = self.breakers[model]
        permit = breaker.try_begin()
        if permit is None:
            raise TargetPaused()
        config = self.config
        timeout_s = config.first_byte_timeout_s if streamed else config.answer_timeout_s
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        attempt = Attempt(self, model, breaker, permit, owners, deadline_s)
        self._running.add(attempt)
        try:
            return await self._begin(attempt, path, orjson.dumps(body))
        except BaseException:
            self._running.discard(attempt)
            raise

    async def _begin(self, attempt: Attempt, path: str, content: bytes) -> Exchange:
        with attempt:
            async with attempt.patience():
                response = await self._connected().post(path, content)
            try:
                if response.status != 200:
                    async with attempt.patience():
                        raise await self._error_of(response)
                if response.header("content-encoding") not in (None, "identity"):
                    raise self.failed("a compressed answer")
            except BaseException:
                await response.close()
                raise
            return Exchange(response, attempt, self.config.chunk_timeout_s)

    def _connected(self) -> Client:
        if self._client is None:
            from anzoth.gateway.backend_client import Client  # without backends it is not needed

            self._client = Client(self.config, self._authorization)
        return self._client

    def failed(self, what: str) -> BackendFailed:
        """`what` is for the log: never text of the peer's or of the caller's."""
        log.warning("backend %s: %s", self.config.name, what)
        return BackendFailed()

    async def _error_of(self, response: Reply) -> AnzothError:
        status = response.status
        log.warning("backend %s: status %d", self.config.name, status)
        if status in (401, 402, 403, 404, 405) or 300 <= status < 400:
            return BackendMisconfigured()
        if status in (408, 409, 429, 503, 529):
            return CapacityUnavailable(retry_after_ms=_retry_after_ms(response))
        if status == 413:
            return PayloadTooLarge()
        if status not in (400, 422):
            return BackendFailed()
        code, param = _named(await self._short_body(response))
        if code == "context_length_exceeded":
            return ContextLengthExceeded(param=param)
        about = "" if param is None else f" It names the field '{param}'."
        return InvalidValue(
            f"The server that this model is asked at refused the request as it is.{about}",
            param=param,
            rule="backend.refused",
        )

    async def _short_body(self, response: Reply) -> bytes:
        body = bytearray()
        try:
            async for piece in response.pieces():
                body += piece
                if len(body) > _MAX_ERROR_BYTES:
                    return b""
        except NoAnswer:
            return b""
        return bytes(body)

    @property
    def num_running(self) -> int:
        return len(self._running)

    def end_all(self, error: AnzothError) -> None:
        """Ends every running request with `error`."""
        for attempt in self._running:
            attempt.end(error)

    def end_owners(self, owners: Collection[UUID]) -> None:
        """Ends every request of these tenants and keys, and begins no more of them, ever."""
        self._ended.update(owners)
        for attempt in self._running:
            if not attempt.owners.isdisjoint(owners):
                attempt.end(KeyRevoked())

    def forget(self, attempt: Attempt) -> None:
        """Its connection is closed."""
        self._running.discard(attempt)

    def attempted(self, model: str, outcome: str) -> None:
        self._metrics.backend_attempt(self.config.name, model, outcome)


class Backends:
    """All backends, by name."""

    def __init__(self, backends: Iterable[Backend] = ()) -> None:
        self._backends = {backend.config.name: backend for backend in backends}

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._backends.values())

    def get(self, name: str) -> Backend | None:
        return self._backends.get(name)

    @property
    def num_running(self) -> int:
        return sum(backend.num_running for backend in self)

    def end_all(self, error: AnzothError) -> None:
        """Ends every running request of every backend with `error`."""
        for backend in self:
            backend.end_all(error)

    def end_owners(self, owners: Collection[UUID]) -> None:
        """See `Backend.end_owners`."""
        for backend in self:
            backend.end_owners(owners)

    async def close(self) -> None:
        for backend in self._backends.values():
            await backend.close()


def _authorization(config: BackendConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """Raises ConfigError, without the key."""
    if config.api_key_env is not None:
        key, source = environ.get(config.api_key_env), f"the variable {config.api_key_env}"
    elif config.api_key_file is not None:
        source = f"the file {config.api_key_file}"
        try:
            key = config.api_key_file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            key = None
    else:
        return {}
    if key is None or not _KEY.fullmatch(key):
        raise ConfigError(f"backend {config.name}: {source} holds no API key")
    return {"authorization": f"Bearer {key}"}


def _retry_after_ms(response: Reply) -> int:
    text = response.header("retry-after") or ""
    is_number = text.isascii() and text.isdigit() and len(text) <= 9
    return 1000 * max(1, min(int(text), _MAX_RETRY_AFTER_S)) if is_number else 1000


def _named(body: bytes) -> tuple[str | None, str | None]:
    """The code and the field that an error names, if they look like it."""
    try:
        error = orjson.loads(body)["error"]
        named = error.get("code"), error.get("param")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None, None
    code, param = (
        value if isinstance(value, str) and _IDENTIFIER.fullmatch(value) else None
        for value in named
    )
    return code, param
