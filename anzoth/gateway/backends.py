"""How does the gateway ask another OpenAI-compatible server, and what can go wrong there?

The operator names each backend with its address, key and models (`[[backends]]`); a caller can name
none of them, so a request never decides where a connection goes. Redirects, proxies of the
environment, netrc and compressed bodies are not followed, used or accepted.

Whatever fails there becomes one of our errors: what it did not answer, or answered by its own
fault, is `model_unavailable`; that it refuses *our* key is a misconfiguration of ours, never the
caller's 401. Its messages are not passed on (they may name accounts, addresses, keys), only a
field's name and a code, if they look like one.

Does not know: chats or embeddings, limits, or which backend to ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
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
    ModelUnavailable,
    PayloadTooLarge,
)
from anzoth.gateway.backend_errors import (
    BackendFailed,
    BackendMisconfigured,
    NoAnswer,
    NoConnectionFree,
    TargetPaused,
)
from anzoth.gateway.breaker import Breaker, State
from anzoth.gateway.sse_reader import EventReader, EventStreamError
from anzoth.settings import ConfigError
from anzoth.telemetry import Metrics

if TYPE_CHECKING:
    from anzoth.gateway.backend_client import Client, Reply

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 64 << 20
_MAX_ERROR_BYTES = 64 << 10
_MAX_RETRY_AFTER_S = 60
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}", re.ASCII)
_KEY = re.compile(r"[\x21-\x7e]{1,4096}")
_DONE = b"[DONE]"
_LEVELS: Mapping[State, float] = {"closed": 0, "half_open": 0.5, "open": 1}
_INLINE_BYTES = 64 << 10
"""An answer up to this size is parsed on the loop."""


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
        self._running: set[_Attempt] = set()
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
        if not breaker.try_begin():
            raise TargetPaused()
        config = self.config
        timeout_s = config.first_byte_timeout_s if streamed else config.answer_timeout_s
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        attempt = _Attempt(self, model, breaker, owners, deadline_s)
        self._running.add(attempt)
        try:
            return await self._begin(attempt, path, orjson.dumps(body))
        except BaseException:
            self._running.discard(attempt)
            raise

    async def _begin(self, attempt: _Attempt, path: str, content: bytes) -> Exchange:
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

    def forget(self, attempt: _Attempt) -> None:
        """Its connection is closed."""
        self._running.discard(attempt)

    def attempted(self, model: str, outcome: str) -> None:
        self._metrics.backend_attempt(self.config.name, model, outcome)


class _Attempt:
    """One request to a backend, whose outcome its breaker learns: once, or twice where an answer
    that had begun well breaks.

    A context manager around each part of it: an error that leaves one is that outcome, unless the
    caller went away or the error came from here.
    """

    __slots__ = (
        *("_backend", "_breaker", "_error", "_is_broken", "_is_over", "_model", "_waiting"),
        *("deadline_s", "owners"),
    )

    def __init__(
        self,
        backend: Backend,
        model: str,
        breaker: Breaker,
        owners: frozenset[UUID],
        deadline_s: float,
    ) -> None:
        self.owners = owners
        self._error: AnzothError | None = None
        """What it is to end with, from elsewhere."""
        self._waiting: asyncio.Timeout | None = None
        self._backend = backend
        self._model = model
        self._breaker = breaker
        self._is_over = False
        self._is_broken = False
        self.deadline_s = deadline_s
        """On the loop's clock: until then the next part has to be there."""

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None and error is self._error:
            self.abandoned()
        elif isinstance(error, ModelUnavailable | CapacityUnavailable):
            self.failed(error.code or "error")
        elif isinstance(error, AnzothError):
            self.succeeded(error.code or "error")  # it answered: the fault is the caller's
        elif error is not None:
            self.abandoned()

    def succeeded(self, outcome: str = "ok") -> None:
        self._end(outcome, self._breaker.succeeded)

    def failed(self, outcome: str) -> None:
        if self._is_over and not self._is_broken:
            self._breaker.failed()
            self._backend.attempted(self._model, "broken")
        self._is_broken = True
        self._end(outcome, self._breaker.failed)

    def abandoned(self) -> None:
        self._end("abandoned", self._breaker.abandoned)

    def _end(self, outcome: str, tell_breaker: Callable[[], None]) -> None:
        if not self._is_over:
            self._is_over = True
            tell_breaker()
            self._backend.attempted(self._model, outcome)

    def unreadable(self, what: str) -> BackendFailed:
        """An answer that is none. `what`: for the log."""
        return self._backend.failed(what)

    @contextlib.asynccontextmanager
    async def patience(self) -> AsyncIterator[None]:
        """Until the deadline. Translates what the client library raises."""
        try:
            async with asyncio.timeout_at(self.deadline_s) as self._waiting:
                if self._error is not None:
                    raise self._error
                yield
        except NoConnectionFree:
            self._error = CapacityUnavailable()  # that says nothing about the peer
            raise self._error from None
        except TimeoutError:
            if self._error is not None:
                raise self._error from None
            raise self._backend.failed("no answer in time") from None
        except NoAnswer as error:
            raise self._backend.failed(str(error)) from None
        finally:
            self._waiting = None

    def end(self, error: AnzothError) -> None:
        """Whatever it waits for raises `error`, now or when it waits again."""
        self._error = error
        if self._waiting is not None:
            self._waiting.reschedule(0.0)

    def forget(self) -> None:
        self._backend.forget(self)


class Exchange:
    """A 200 of a backend, whose body is still to come."""

    __slots__ = ("_attempt", "_chunk_timeout_s", "_response")

    def __init__(self, response: Reply, attempt: _Attempt, chunk_timeout_s: float) -> None:
        self._response = response
        self._attempt = attempt
        self._chunk_timeout_s = chunk_timeout_s

    async def close(self) -> None:
        """Ends the connection if the body was not read to its end: the peer stops its work."""
        self._attempt.abandoned()
        self._attempt.forget()
        await self._response.close()

    def garbage(self, what: str) -> BackendFailed:
        """The error for a body that is JSON and still no answer. `what`: for the log."""
        self._attempt.failed("model_unavailable")
        return self._attempt.unreadable(what)

    async def read(self) -> dict[str, Any]:
        """The whole body, a JSON object. Raises ModelUnavailable."""
        with self._attempt:
            body = bytearray()
            async with self._attempt.patience():
                async for piece in self._response.pieces():
                    body += piece
                    if len(body) > MAX_ANSWER_BYTES:
                        raise self._attempt.unreadable("an answer that is too large")
                answer = await _parsed(bytes(body))
            if not isinstance(answer, dict) or "error" in answer:
                raise self._attempt.unreadable("an answer that is an error, or no JSON object")
            self._attempt.succeeded()
            return answer

    async def events(self) -> AsyncGenerator[dict[str, Any]]:
        """The JSON object of each event, up to `[DONE]` or the end. Raises ModelUnavailable, also
        for an error that the peer streams.
        """
        loop = asyncio.get_running_loop()
        reader, pieces = EventReader(), self._response.pieces()
        while True:
            with self._attempt:
                async with self._attempt.patience():
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                try:
                    events = reader.push(piece)
                except EventStreamError as error:
                    raise self._attempt.unreadable(str(error)) from None
            for data in events:
                if data == _DONE:
                    return
                with self._attempt:
                    event = self._event(data)
                    self._attempt.succeeded()
                yield event
            if events:
                self._attempt.deadline_s = loop.time() + self._chunk_timeout_s

    def _event(self, data: bytes) -> dict[str, Any]:
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            event = None
        if not isinstance(event, dict) or "error" in event:
            raise self._attempt.unreadable("an event that is an error, or no JSON object")
        return event


async def _parsed(body: bytes) -> Any:
    """None for what is no JSON."""
    try:
        if len(body) > _INLINE_BYTES:
            return await asyncio.to_thread(orjson.loads, body)
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


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
