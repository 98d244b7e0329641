"""In which order is a request prepared, answered, and written down?

    route ─▶ key or session ─▶ address, endpoint, scope ─▶ body ─▶ handler ─▶ answer ─▶
                                                           one usage record, one metric

This is the application that the HTTP layer calls, and the edge at which every error becomes a
response (or, once a stream has begun, an error frame). Each authenticated inference request leaves
exactly one usage record, however it ends; one that goes on when it was answered does so at its end.

Does not know: what any endpoint does.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Sequence
from typing import Any

import orjson

from anzoth.api import authentication
from anzoth.api.call import ANY_KEY, Answer, Call, Detached, Route, Services
from anzoth.api.routes import ROUTES, patterns
from anzoth.errors import AnzothError, BadRequest, MalformedJson, UnsupportedMediaType
from anzoth.gateway import database_errors, keys, shadow
from anzoth.gateway.batches.patience import can_wait
from anzoth.gateway.denials import DENIALS
from anzoth.gateway.principal import Principal
from anzoth.gateway.usage import UsageRecord
from anzoth.http import sse
from anzoth.http.client_address import Network, client_address
from anzoth.http.messages import (
    ClientDisconnected,
    HeaderList,
    Request,
    Response,
    Sink,
    StreamingResponse,
)
from anzoth.http.render import error_response
from anzoth.http.router import Router

log = logging.getLogger(__name__)

API_VERSION = "2020-10-01"
STATUS_CLIENT_CLOSED = 499
"""Never sent: written down when the client left before there was a status."""
UNKNOWN_ENDPOINT = "unknown"
"""The metrics' label for a URL that is in no table: a client must not be able to add labels."""


class App:
    """The API as an `Application` of the HTTP layer."""

    def __init__(
        self,
        services: Services,
        max_body_bytes: int,
        routes: Sequence[Route] = ROUTES,
        *,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        self._services = services
        self._max_body_bytes = max_body_bytes
        self._trusted_proxies = trusted_proxies
        self._router: Router[Route] = Router()
        for route in routes:
            for pattern in patterns(route):
                self._router.add(route.method, pattern, route)

    async def __call__(self, request: Request) -> Answer:
        return await self.serve(Call(request, self._services, shadowed=shadow.watch()))

    def call_of_batch(self, request: Request, principal: Principal) -> Call:
        """To be served as every request is, but for its key, which was checked already."""
        return Call(
            request,
            self._services,
            identity=principal,
            is_of_batch=True,
            shadowed=shadow.watch(),
        )

    async def serve(self, call: Call) -> Answer:
        """Never raises but for cancellation and a client that is gone."""
        request, endpoint = call.request, UNKNOWN_ENDPOINT
        route: Route | None = None
        try:
            if request.method == "OPTIONS" and (
                allow := self._router.allowed_methods(request.path)
            ):
                return Response(204, headers=[("allow", ", ".join(allow))])
            route, request.path_params = self._router.match(request.method, request.path)
            endpoint = route.pattern
            answer = await self._answer(call, route)
        except (asyncio.CancelledError, ClientDisconnected):
            self._finish(call, endpoint, STATUS_CLIENT_CLOSED, None)
            raise
        except Exception as error:  # noqa: BLE001  # the edge: the client gets an answer
            call.failure = known = self._known(call, error)
            answer = error_response(known) if route is None else route.render_error(call, known)
            answer.headers += [*call.headers, *self._headers(call)]
            if known.status in DENIALS and not _will_come_again(call):
                ip = request.peer if call.address is None else str(call.address)
                self._services.denials.note(known, call.identity, endpoint, ip)
            self._finish(call, endpoint, known.status, known)
            return answer
        answer.headers += self._headers(call)
        if isinstance(answer, StreamingResponse):
            return self._watched(call, endpoint, answer)
        if call.detached is not None:
            self._detach(call, endpoint, call.detached, answer.status)
            return answer
        self._finish(call, endpoint, answer.status, None)
        return answer

    async def _answer(self, call: Call, route: Route) -> Answer:
        call.address = client_address(call.request, self._trusted_proxies)
        if not call.is_of_batch:
            await authentication.identify(call, route)
        if route.scope is not None:
            self._admit(call, route, route.scope)
        if route.inference:
            await self._services.past_usage.known(call.principal)
        if route.takes_body:
            await self._read_body(call, route)
        answer = await route.handler(call)
        if call.usage is not None and call.reservation is None:
            raise RuntimeError(f"{route.pattern} answered without having met the limits")
        return answer

    def _admit(self, call: Call, route: Route, scope: str) -> None:
        """What every identified request passes, but for those about the caller's own account.

        Raises Forbidden.
        """
        principal = call.principal
        if route.inference:
            call.usage = UsageRecord(
                call.request.request_id, principal, route.pattern, batch=call.is_of_batch
            )
        principal.require_address(call.address)
        principal.require_endpoint(route.pattern)
        if scope != ANY_KEY:
            principal.require_scope(scope)

    async def _read_body(self, call: Call, route: Route) -> None:
        content_type = call.request.headers.get("content-type")
        if content_type is not None and _media_type(content_type) != "application/json":
            raise UnsupportedMediaType()
        limit = self._max_body_bytes
        if route.max_body_bytes is not None:
            limit = min(limit, route.max_body_bytes)
        content = await call.request.read_body(limit)
        call.num_body_bytes = len(content)
        call.body = _json_object(content)

    def _watched(self, call: Call, endpoint: str, answer: StreamingResponse) -> StreamingResponse:
        """`answer`, whose end is noticed: the usage is recorded. An error becomes a frame, or cuts
        off what does not consist of frames."""
        run = answer.run
        call.body = {}  # a stream may last for minutes, and a body may have megabytes

        async def watched(sink: Sink) -> None:
            failure: AnzothError | None = None
            try:
                await run(sink)
            except ClientDisconnected:
                pass  # there is nobody to tell; the record says `cancelled`
            except Exception as error:  # noqa: BLE001  # the edge: the head is out
                failure = self._known(call, error)
                if not answer.content_type.startswith(sse.MEDIA_TYPE):
                    raise failure from None  # no text of ours must end up in a file
                sink.write(answer.error_frame(failure))
            finally:
                self._finish(call, endpoint, answer.status, failure)

        answer.run = watched
        return answer

    def _detach(self, call: Call, endpoint: str, detached: Detached, status: int) -> None:
        """Has the rest of it done while nobody waits; its end is noticed as that of a stream is."""
        call.body = {}

        async def work() -> None:
            ended_with, failure = status, None
            try:
                await detached.run()
            except asyncio.CancelledError:
                ended_with = STATUS_CLIENT_CLOSED
                raise
            except Exception as error:  # noqa: BLE001  # the edge: it is told in the response
                failure = self._known(call, error)
                await detached.broke_off(failure)
            finally:
                self._finish(call, endpoint, ended_with, failure)

        self._services.background.start(detached.owner, detached.queued, work)

    def _known(self, call: Call, error: Exception) -> AnzothError:
        """As it may be told and written down: a message can quote a path or the name of a model,
        and some put their key there."""
        if isinstance(error, AnzothError):
            error.message = keys.redact(error.message)
            error.param = error.param and keys.redact(error.param)
            return error
        if (unavailable := database_errors.try_translate(error)) is not None:
            log.warning("request %s failed: %s", call.request.request_id, error)
            return unavailable
        # Where, but not what: the message of an unexpected error may quote a prompt.
        log.error(
            "request %s failed: %s\n%s",
            call.request.request_id,
            type(error).__name__,
            "".join(traceback.format_tb(error.__traceback__)),
        )
        return AnzothError()

    def _finish(self, call: Call, endpoint: str, status: int, failure: AnzothError | None) -> None:
        """Called exactly once per request, when nothing more will be sent."""
        duration_s = time.monotonic() - call.request.received_at_s
        self._services.metrics.request_finished(endpoint, status, duration_s)
        if failure is not None:
            self._services.metrics.refused(failure.rule)
        for rule in call.shadowed:
            self._services.metrics.refused(rule, in_shadow=True)
        usage = call.usage
        if usage is None or _will_come_again(call):
            return
        usage.status = status
        usage.duration_ms = int(duration_s * 1000)
        usage.shadow_rules = tuple(call.shadowed)
        if failure is not None:
            usage.error_code = failure.code
            usage.rule, usage.refusal = failure.rule, failure.kept_message
        elif status == STATUS_CLIENT_CLOSED:
            usage.finish_reason = "cancelled"
        self._services.ledger.record(usage)

    @staticmethod
    def _headers(call: Call) -> HeaderList:
        elapsed_ms = int((time.monotonic() - call.request.received_at_s) * 1000)
        headers = [("openai-processing-ms", str(elapsed_ms)), ("openai-version", API_VERSION)]
        if call.identity is not None and (until := call.identity.rotating_until) is not None:
            headers.append(("x-anzoth-key-rotating", f"{until:%Y-%m-%dT%H:%M:%SZ}"))
        return headers


def _will_come_again(call: Call) -> bool:
    """Whether it was refused, no engine was asked, and its batch waits: such a request has not
    ended, and leaves no record of its own however often it has to wait."""
    refused = call.is_of_batch and call.failure is not None and can_wait(call.failure)
    return refused and (call.usage is None or call.usage.entry is None)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _json_object(content: bytes) -> dict[str, Any]:
    """Raises BadRequest: the message says where the JSON breaks, not what stands there."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise MalformedJson(
            f"The body of your request is not valid JSON (at character {error.pos})."
        ) from error
    if not isinstance(body, dict):
        raise BadRequest("The body of your request must be a JSON object.")
    return body
