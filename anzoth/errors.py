"""Which errors can a caller see, and with which HTTP status, OpenAI `type` and `code`?

One tree. The class fixes status, type and code; its docstring is the default message, so the code
and the documentation cannot drift apart. Three kinds are kept apart: the caller's fault (4xx), a
peer that is lost, full or late (502, 503, 504), and our own bug (500).

`rule` says which decision it was, finer than the code and as stable: it is written to the usage row
of the request (`anzoth.gateway.rules` explains each).

Does not know: how a response is written, or where an error was raised.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence


class AnzothError(Exception):
    """The server had an error while processing your request. It was logged; please retry."""

    status = 500
    type = "server_error"
    code: str | None = "internal_error"
    rule: str = "server.internal"
    """The stable id of the rule that refused, for example `limit.key.rpm`."""
    is_final: bool = False
    """What was asked for had effects before it failed: the SDKs are told not to ask again."""

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        rule: str | None = None,
    ) -> None:
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.param = param
        if code is not None:
            self.code = code
        if rule is not None:
            self.rule = rule
        super().__init__(self.message)

    @property
    def kept_message(self) -> str:
        """What of the message is written down: none of the caller's own words."""
        return self.message

    def body(self) -> dict[str, dict[str, str | None]]:
        """The JSON body: all four keys are always present (research: SDKs read them by name)."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    def body_bytes(self) -> bytes:
        return json.dumps(self.body(), ensure_ascii=False, separators=(",", ":")).encode()

    def headers(self) -> list[tuple[str, str]]:
        """Headers that steer the SDKs' retry logic; empty unless a subclass has a say."""
        return []


# --- 4xx: the caller's fault ------------------------------------------------------------------


class BadRequest(AnzothError):
    """The request could not be understood."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"
    rule = "request.invalid"


class MalformedJson(BadRequest):
    """The body of your request is not valid JSON."""


class InvalidValue(BadRequest):
    """A field of the request has an invalid value."""


class UnusableGrammar(InvalidValue):
    """The grammar or schema cannot be used."""

    @property
    def kept_message(self) -> str:
        # The answer says where it breaks, and so quotes it.
        return " ".join((type(self).__doc__ or "").split())


class MissingParameter(BadRequest):
    """A required parameter is missing."""

    code = "missing_required_parameter"


class UnsupportedParameter(BadRequest):
    """This server does not support that parameter."""

    code = "unsupported_parameter"
    rule = "request.unsupported"


class ContextLengthExceeded(BadRequest):
    """The prompt and the requested output do not fit in the model's context window."""

    code = "context_length_exceeded"
    rule = "request.context_length"


class PreviousResponseNotFound(BadRequest):
    """The previous response was not found. It was not stored, was deleted, or has expired."""

    code = "previous_response_not_found"

    def __init__(self) -> None:
        super().__init__(param="previous_response_id")


class Unauthorized(AnzothError):
    """Invalid API key. Check the Authorization header format: Bearer anz-…"""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"
    rule = "key.invalid"

    def headers(self) -> list[tuple[str, str]]:
        return [("www-authenticate", "Bearer")]


class MissingApiKey(Unauthorized):
    """No API key was sent. Put it in the Authorization header: Bearer anz-…"""

    code = None  # SDKs tell "no key" from "wrong key" by it
    rule = "key.missing"


class KeyRevoked(Unauthorized):
    """This API key was revoked while it was in use."""

    code = "key_revoked"
    rule = "key.revoked"


class NotSignedIn(AnzothError):
    """You are not signed in, or your session has ended."""

    status = 401
    type = "invalid_request_error"
    code = "not_signed_in"
    rule = "session.missing"


class SignInFailed(NotSignedIn):
    """The email or the password is wrong."""

    code = "invalid_credentials"
    rule = "session.failed"


class SecondFactorRequired(NotSignedIn):
    """A code of your authenticator is needed to finish signing in."""

    code = "second_factor_required"
    rule = "session.second_factor"


class WrongCode(NotSignedIn):
    """The code is wrong, or was used before."""

    code = "invalid_code"
    rule = "session.code"


class Forbidden(AnzothError):
    """This API key has no access to this endpoint."""

    status = 403
    type = "permission_error"
    code = "insufficient_scope"
    rule = "key.scope"


class ModelNotAllowed(Forbidden):
    """This API key has no access to this model."""

    code = "model_not_allowed"
    rule = "key.model"


class KnowledgeBaseNotAllowed(Forbidden):
    """This API key is granted certain vector stores only, and makes no others."""

    code = "knowledge_base_not_allowed"
    rule = "key.knowledge_base"


class ToolNotAllowed(Forbidden):
    """This API key has no access to this tool."""

    code = "tool_not_allowed"
    rule = "key.tool"


class EndpointNotAllowed(Forbidden):
    """This API key is not allowed to use this endpoint."""

    code = "endpoint_not_allowed"
    rule = "key.endpoint"


class AddressNotAllowed(Forbidden):
    """This API key must not be used from this address."""

    code = "address_not_allowed"
    rule = "key.ip"


class ForeignOrigin(Forbidden):
    """Pages of other sites must not use this endpoint. Ask from a program, without an Origin."""

    code = "origin_not_allowed"
    rule = "request.origin"


class ForgedRequest(Forbidden):
    """This request does not come from the server's own pages, or lacks its x-csrf-token header."""

    code = "csrf_refused"
    rule = "session.origin"


class NotFound(AnzothError):
    """Nothing was found here."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"
    rule = "request.not_found"


class ModelNotFound(NotFound):
    """The model does not exist or you do not have access to it."""

    code = "model_not_found"
    rule = "model.unknown"


class ResponseNotFound(NotFound):
    """There is no such response. It was not stored, was deleted, or has expired."""

    def __init__(self) -> None:
        super().__init__(param="response_id")


class ConversationNotFound(NotFound):
    """There is no such conversation. It was deleted, or has expired."""

    def __init__(self, param: str = "conversation_id") -> None:
        super().__init__(param=param)


class VectorStoreNotFound(NotFound):
    """There is no such vector store."""

    def __init__(self, message: str | None = None, *, rule: str | None = None) -> None:
        super().__init__(message, param="vector_store_id", rule=rule)


class ToolServerNotFound(NotFound):
    """There is no such tool server."""

    def __init__(self) -> None:
        super().__init__(param="tool_server_id")


class MethodNotAllowed(AnzothError):
    """This URL does not support that method."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"
    rule = "request.method"

    def __init__(self, message: str | None = None, *, allow: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.allow = tuple(allow)

    def headers(self) -> list[tuple[str, str]]:
        return [("allow", ", ".join(self.allow))]


class RequestTimeout(AnzothError):
    """The request did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"
    rule = "request.timeout"


class Conflict(AnzothError):
    """What was asked for contradicts what is there."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"
    rule = "request.conflict"


class PayloadTooLarge(AnzothError):
    """The request body is too large."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"
    rule = "request.too_large"


class UriTooLong(AnzothError):
    """The request target is too long."""

    status = 414
    type = "invalid_request_error"
    code = "uri_too_long"
    rule = "request.head"


class UnsupportedMediaType(AnzothError):
    """The request body must be JSON (Content-Type: application/json)."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"
    rule = "request.media_type"


class ExpectationFailed(AnzothError):
    """The only supported expectation is 100-continue."""

    status = 417
    type = "invalid_request_error"
    code = "expectation_failed"
    rule = "request.head"


class HeadersTooLarge(AnzothError):
    """The request headers are too many or too large."""

    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"
    rule = "request.head"


class RateLimited(AnzothError):
    """Rate limit reached for this API key. Wait and retry."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    rule = "limit.key"

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after_ms: int | None = None,
        rule: str | None = None,
    ) -> None:
        """`retry_after_ms=None` means waiting will not help: the SDKs are told not to retry."""
        super().__init__(message, rule=rule)
        self.retry_after_ms = retry_after_ms

    def headers(self) -> list[tuple[str, str]]:
        return _retry_headers(self.retry_after_ms)


class StorageFull(RateLimited):
    """The files of your organization take up all the room that it has. Delete some of them."""

    type = "insufficient_quota"
    code = "insufficient_quota"
    rule = "files.storage"


class TooManyTransfers(RateLimited):
    """Too many files of your organization are sent or fetched at the same time. Wait and retry."""

    rule = "files.transfers"


class TooManyBatches(RateLimited):
    """Your organization has as many unfinished batches as are allowed. Wait, or cancel one."""

    rule = "batches.unfinished"


class TooManyAttempts(RateLimited):
    """Too many attempts. Wait and try again."""

    code = "too_many_attempts"


# --- 5xx: a peer is lost, full or late ---------------------------------------------------------


class NotImplementedByServer(AnzothError):
    """This server does not implement that HTTP feature."""

    status = 501
    type = "invalid_request_error"
    code = "not_implemented"
    rule = "request.head"


class ModelUnavailable(AnzothError):
    """The model backend did not respond or is warming up. Retry in a few seconds."""

    status = 502
    type = "server_error"
    code = "model_unavailable"
    rule = "model.unavailable"


class ProviderUnavailable(AnzothError):
    """The single sign-on provider did not answer as it should. Try again."""

    status = 502
    code = "provider_unavailable"
    rule = "server.sign_on"


class CapacityUnavailable(AnzothError):
    """All inference capacity is in use. Retry after the time given in Retry-After."""

    status = 503
    type = "service_unavailable_error"
    code = "capacity_unavailable"
    rule = "server.capacity"

    def __init__(self, message: str | None = None, *, retry_after_ms: int = 1000) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms

    def headers(self) -> list[tuple[str, str]]:
        return _retry_headers(self.retry_after_ms)


class DatabaseUnavailable(CapacityUnavailable):
    """The key cannot be checked because the database is unavailable. Please retry."""

    code = "database_unavailable"
    rule = "server.database"


class LedgerUnavailable(CapacityUnavailable):
    """Usage cannot be written down at the moment, so nothing is served. Please retry."""

    code = "ledger_unavailable"
    rule = "server.ledger"


class RetrieverUnavailable(CapacityUnavailable):
    """Knowledge bases cannot be searched at the moment. Please retry."""

    code = "retriever_unavailable"
    rule = "server.retriever"


class DeadlineExceeded(AnzothError):
    """The answer was not complete within the time that the request gave it."""

    status = 504
    code = "deadline_exceeded"
    rule = "request.deadline"

    def headers(self) -> list[tuple[str, str]]:
        # Whoever set the deadline has stopped waiting: an SDK would only double the work.
        return _retry_headers(None)


class HttpVersionNotSupported(AnzothError):
    """Only HTTP/1.0 and HTTP/1.1 are supported."""

    status = 505
    type = "invalid_request_error"
    code = "http_version_not_supported"
    rule = "request.head"


def _retry_headers(retry_after_ms: int | None) -> list[tuple[str, str]]:
    """`retry-after-ms` is exact, `retry-after` rounded up to whole seconds; both only if known."""
    if retry_after_ms is None:
        return [("x-should-retry", "false")]
    return [
        ("retry-after-ms", str(retry_after_ms)),
        ("retry-after", str(max(1, math.ceil(retry_after_ms / 1000)))),
        ("x-should-retry", "true"),
    ]
