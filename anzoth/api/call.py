"""What does a handler get, and what is a route?

A `Call` is one request on its way through the API, with everything a handler may use: the
services, the authenticated principal, the parsed body, and the usage record to be filled in.

Does not know: which routes exist (`routes`), or in which order a call is prepared (`app`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from anzoth.api.requests import Options
from anzoth.errors import AnzothError, InvalidValue
from anzoth.gateway.accounts.service import Accounts
from anzoth.gateway.accounts.sessions import Session
from anzoth.gateway.alias_directory import AliasDirectory
from anzoth.gateway.aliases import Aliases
from anzoth.gateway.audit_reader import AuditReader
from anzoth.gateway.auth import Authenticator
from anzoth.gateway.backends import Backends
from anzoth.gateway.background_responses import BackgroundResponses
from anzoth.gateway.batches.batches import Batches
from anzoth.gateway.conversations import Conversations
from anzoth.gateway.denials import Denials
from anzoth.gateway.embedding import Embedder
from anzoth.gateway.files import FileOwner, Files
from anzoth.gateway.generation import Generation, Generator
from anzoth.gateway.generation_request import GenerationRequest
from anzoth.gateway.health import Health
from anzoth.gateway.knowledge.grounding import Grounding
from anzoth.gateway.knowledge.rerankers import Rerankers
from anzoth.gateway.knowledge.searching import Searcher
from anzoth.gateway.knowledge.stores import VectorStores
from anzoth.gateway.ledger import Ledger
from anzoth.gateway.limits import Limiter, Reservation
from anzoth.gateway.models import ModelRegistry, ServedModel
from anzoth.gateway.organization.service import Organization
from anzoth.gateway.past_requests import PastRequests
from anzoth.gateway.past_usage import PastUsage
from anzoth.gateway.principal import Address, Principal
from anzoth.gateway.remote_usage import RemoteAccounts
from anzoth.gateway.stored_responses import StoredResponse, StoredResponses
from anzoth.gateway.tools.service import ToolService
from anzoth.gateway.uploads import Uploads
from anzoth.gateway.usage import UsageRecord
from anzoth.gateway.usage_reports import UsageReports
from anzoth.http.messages import HeaderList, Request, Response, StreamingResponse
from anzoth.http.render import error_response
from anzoth.telemetry import Metrics
from anzoth.text.embedding_text import EmbeddingText
from anzoth.text.rerank_text import RerankText

Answer = Response | StreamingResponse
T = TypeVar("T")

ANY_KEY = "any"
"""As a route's scope: any valid key will do, whatever its scopes. No key can have it."""
INLINE_BODY_BYTES = 4096
"""Bodies up to this size are rendered and tokenized on the loop (about a millisecond at most)."""


@dataclass(slots=True, frozen=True)
class Services:
    """What the API stands on. Built once by the gateway process."""

    authenticator: Authenticator
    accounts: Accounts
    models: ModelRegistry
    limiter: Limiter
    generator: Generator
    embedder: Embedder
    ledger: Ledger
    metrics: Metrics
    health: Health
    audit: AuditReader
    denials: Denials
    usage_reports: UsageReports
    past_requests: PastRequests
    past_usage: PastUsage
    aliases: Aliases
    alias_directory: AliasDirectory
    backends: Backends
    remote_accounts: RemoteAccounts
    organization: Organization
    files: Files
    uploads: Uploads
    stores: VectorStores
    searcher: Searcher
    grounding: Grounding
    rerankers: Rerankers
    responses: StoredResponses
    background: BackgroundResponses
    batches: Batches
    tools: ToolService
    conversations: Conversations


@dataclass(slots=True, frozen=True)
class Detached:
    """What goes on once a request has its answer (see `gateway.background_responses`)."""

    owner: FileOwner
    queued: StoredResponse
    run: Callable[[], Awaitable[None]]
    broke_off: Callable[[AnzothError], Awaitable[None]]
    """Tells of an error of `run`."""


@dataclass(slots=True)
class Call:
    """One request, as far as it has got."""

    request: Request
    services: Services
    identity: Principal | None = None
    """Who asks. None on public routes, and until the key or the session was checked."""
    session: Session | None = None
    """Whose browser asks, where it was a session."""
    usage: UsageRecord | None = None
    """None on routes that are not written to the ledger."""
    body: dict[str, Any] = field(default_factory=dict, repr=False)  # JSON
    num_body_bytes: int = 0
    headers: HeaderList = field(default_factory=list)
    """For the answer, whether it is whole, streamed or an error."""
    address: Address | None = None
    """Where it comes from; None: unknown, as over a Unix socket."""
    reservation: Reservation | None = None
    """None until the request met its limits; no inference route may answer without."""
    is_of_batch: bool = False
    """Nobody waits for it; `identity` is then known from the beginning."""
    detached: Detached | None = None
    """The request has not ended with its answer: this is done first."""
    failure: AnzothError | None = None
    """What it ended with, where that was not an answer of its handler's."""
    shadowed: list[str] = field(default_factory=list)
    """Rules that are only watched and would have refused it (see `shadow`)."""

    @property
    def principal(self) -> Principal:
        """Who asks, on a route with a scope."""
        assert self.identity is not None, "a public route has no principal"
        return self.identity

    @property
    def signed_in(self) -> Session:
        """Whose session it is, on a route with `session`."""
        assert self.session is not None, "this route needs no session"
        return self.session

    @property
    def record(self) -> UsageRecord:
        """The usage record, on a route with `inference`."""
        assert self.usage is not None, "this route keeps no usage"
        return self.usage

    def model(self, name: str) -> ServedModel:
        """Raises ModelNotFound or ModelNotAllowed."""
        model = self.services.models.get(name)
        self.principal.require_model(name)
        if self.usage is not None:
            self.usage.price = model.price
        return model

    def describe(self, options: Options) -> None:
        """Writes down what the caller said about the request, before anything can fail."""
        self.record.model = options.model
        self.record.streamed = options.stream
        self.record.end_user = options.end_user
        self.record.metadata = options.metadata

    async def off_loop(self, work: Callable[[], T]) -> T:
        """`work` in a thread when the body is large enough for it to hold up other requests."""
        if self.num_body_bytes <= INLINE_BODY_BYTES:
            return work()
        return await asyncio.to_thread(work)

    async def begin(self, model: ServedModel, request: GenerationRequest) -> Generation:
        """A generation for this caller; its limits are then among the answer's headers."""
        generation = await self.services.generator.begin(
            model, request, self.principal, self.record, self.request.received_at_s
        )
        self.hold(generation.reservation)
        return generation

    def forgo(self) -> None:
        """The request turned out to ask for nothing that is counted: it leaves no usage record."""
        self.usage = None

    def hold(self, reservation: Reservation) -> None:
        """The request met its limits; they are then among the answer's headers."""
        self.reservation = reservation
        self.headers += reservation.headers()


def must_generate(model: ServedModel) -> ServedModel:
    """Raises InvalidValue for a model that generates no text."""
    if model.embedding is not None or model.rerank is not None:
        raise _other_purpose(model)
    return model


def must_embed(model: ServedModel) -> EmbeddingText:
    """How its vectors are made. Raises InvalidValue for a model that makes none."""
    if model.embedding is None:
        raise _other_purpose(model)
    return model.embedding


def must_rerank(model: ServedModel) -> RerankText:
    """How its scores are made. Raises InvalidValue for a model that makes none."""
    if model.rerank is None:
        raise _other_purpose(model)
    return model.rerank


def _other_purpose(model: ServedModel) -> InvalidValue:
    if model.embedding is not None:
        purpose = "makes embeddings: use /v1/embeddings"
    elif model.rerank is not None:
        purpose = "ranks documents: use /v1/rerank"
    else:
        purpose = "generates text: use /v1/chat/completions or /v1/completions"
    leads = "" if model.target is None else f" leads to '{model.target}', which"
    return InvalidValue(f"The model '{model.name}'{leads} {purpose}.", param="model")


Handler = Callable[[Call], Awaitable[Answer]]
ErrorRenderer = Callable[[Call, AnzothError], Response]


def openai_error(call: Call, error: AnzothError) -> Response:
    return error_response(error)


@dataclass(slots=True, frozen=True)
class Route:
    """One line of the route table."""

    method: str
    pattern: str
    scope: str | None
    """What a key, or a role, needs; ANY_KEY: nothing more. None: public, no key at all."""
    handler: Handler
    takes_body: bool = False
    """It needs a JSON object. Larger than `max_body_bytes` (or HttpConfig's limit) is a 413."""
    inference: bool = False
    """Each authenticated request leaves one usage record, unless its handler forgoes it."""
    max_body_bytes: int | None = None
    session: bool = False
    """A user's session is needed, of whatever tenant or none; no key will do."""
    render_error: ErrorRenderer = openai_error
    """How it says what went wrong before there was an answer."""
