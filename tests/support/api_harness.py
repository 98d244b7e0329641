"""The whole API in one process: the application, a scripted engine behind a real socket, no HTTP.

Authentication and the ledger are replaced by a dictionary and a list; limits, metrics, tokenizer,
chat template, engine client and generation are the real ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import orjson
from api_stand_ins import (
    AlwaysReady,
    GivenAliases,
    KnownKeys,
    ListedDenials,
    ListedRequests,
    ListedUsage,
    MemorySink,
    NoDatabase,
    NothingBefore,
    Reply,
)
from checkpoints import EOS_ID
from engine_peer import HELLO, EnginePeer, Said, Script
from registry_kit import SaidByServers

from anzoth.account_config import AccountsConfig
from anzoth.api.app import App
from anzoth.api.call import Services
from anzoth.backend_config import BackendConfig
from anzoth.batch_config import BatchesConfig
from anzoth.config import UsageConfig
from anzoth.db.pool import Database
from anzoth.file_config import FilesConfig
from anzoth.frames import FinishReason, Hello, Submit
from anzoth.gateway.accounts import service as accounts_service
from anzoth.gateway.alias_directory import AliasDirectory
from anzoth.gateway.audit_reader import AuditReader
from anzoth.gateway.backends import Backend, Backends
from anzoth.gateway.background_responses import BackgroundResponses
from anzoth.gateway.batches.batches import Batches
from anzoth.gateway.conversations import Conversations
from anzoth.gateway.embedding import Embedder
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.files import Files
from anzoth.gateway.generation import Generator
from anzoth.gateway.keys import Pepper
from anzoth.gateway.knowledge.found import Searches
from anzoth.gateway.knowledge.grounding import Grounding
from anzoth.gateway.knowledge.indexing import Indexes
from anzoth.gateway.knowledge.rerankers import Rerankers
from anzoth.gateway.knowledge.searching import Searcher
from anzoth.gateway.knowledge.store_cleanup import StoreCleanup
from anzoth.gateway.knowledge.stores import VectorStores
from anzoth.gateway.limits import Limiter
from anzoth.gateway.models import ModelRegistry, ServedModel, load_model
from anzoth.gateway.organization import service as organization_service
from anzoth.gateway.remote_usage import RemoteAccounts
from anzoth.gateway.stored_responses import StoredResponses
from anzoth.gateway.tenant_crypt import MasterKey, TenantKeys
from anzoth.gateway.tools import service as tools_service
from anzoth.gateway.tools.service import ToolService
from anzoth.gateway.uploads import Uploads
from anzoth.gateway.usage_reports import UsageReports
from anzoth.http.messages import Headers, Request, Response, StreamingResponse
from anzoth.knowledge_config import KnowledgeConfig
from anzoth.model_config import ModelConfig
from anzoth.price import Price
from anzoth.response_config import ResponsesConfig
from anzoth.telemetry import Metrics
from anzoth.tool_config import ToolsConfig

MODEL = "org/tiny"


@dataclass
class Api:
    """A running application and everything around it."""

    app: App
    peer: EnginePeer
    model: ServedModel
    keys: KnownKeys
    ledger: ListedUsage
    metrics: Metrics
    denials: ListedDenials
    aliases: GivenAliases
    services: Services
    indexes: Indexes
    saying: list[str] = field(default_factory=lambda: ["hello there"])
    """Choice i says entry i (the last one for all further choices)."""

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = "good",
        headers: dict[str, str] | None = None,
        peer: str = "unix",
    ) -> Request:
        content = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        fields = {"authorization": f"Bearer {key}"} if key is not None else {}
        fields |= {"content-type": "application/json"} | (headers or {})

        async def read_body(limit_bytes: int) -> bytes:
            assert len(content) <= limit_bytes
            return content

        async def stream_body(limit_bytes: int, timeout_s: float) -> AsyncIterator[bytes]:
            yield await read_body(limit_bytes)

        path, _, query = path.partition("?")
        return Request(
            method=method,
            path=path,
            query=query,
            headers=Headers([(k.encode(), v.encode()) for k, v in fields.items()]),
            request_id="req_test",
            peer=peer,
            received_at_s=time.monotonic(),
            read_body=read_body,
            stream_body=stream_body,
        )

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        sink: MemorySink | None = None,
        **how: Any,
    ) -> Reply:
        async with asyncio.timeout(10):
            answer = await self.app(self.request(method, path, body, **how))
            if isinstance(answer, Response):
                return Reply(answer.status, dict(answer.headers), answer.body)
            assert isinstance(answer, StreamingResponse)
            sink = sink or MemorySink()
            await answer.run(sink)
            return Reply(answer.status, dict(answer.headers), sink.data)

    async def chat(self, **fields: Any) -> Reply:
        how = {name: fields.pop(name) for name in ("key", "sink", "headers") if name in fields}
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **fields}
        return await self.call("POST", "/v1/chat/completions", body, **how)

    async def respond(self, **fields: Any) -> Reply:
        how = {name: fields.pop(name) for name in ("key", "sink", "headers") if name in fields}
        body = {"model": MODEL, "input": "hi", **fields}
        return await self.call("POST", "/v1/responses", body, **how)

    async def embed(self, **fields: Any) -> Reply:
        how = {name: fields.pop(name) for name in ("key", "sink", "headers") if name in fields}
        body = {"model": MODEL, "input": "hi", **fields}
        return await self.call("POST", "/v1/embeddings", body, **how)

    async def rerank(self, **fields: Any) -> Reply:
        how = {name: fields.pop(name) for name in ("key", "sink", "headers") if name in fields}
        body = {"model": MODEL, "query": "hi", "documents": ["hello there", "hi"], **fields}
        return await self.call("POST", "/v1/rerank", body, **how)

    async def complete(self, **fields: Any) -> Reply:
        how = {name: fields.pop(name) for name in ("key", "sink", "headers") if name in fields}
        body = {"model": MODEL, "prompt": "hi", **fields}
        return await self.call("POST", "/v1/completions", body, **how)

    def tokens(self, text: str) -> list[int]:
        return self.model.tokenizer.encode(text, add_special_tokens=False)

    def script(self, submit: Submit, prompt: list[int], choice: int) -> list[Said]:
        """Says the text, then the end marker; or as much as `max_tokens` allows."""
        if submit.max_tokens == 0:
            return [Said(None, "length")]
        tokens = self.tokens(self.saying[min(choice, len(self.saying) - 1)])
        ending: list[tuple[int, FinishReason | None]] = [(token, None) for token in tokens]
        ending.append((EOS_ID, "stop"))
        if len(ending) > submit.max_tokens:
            ending = ending[: submit.max_tokens]
            ending[-1] = (ending[-1][0], "length")
        num_top = submit.sampling.num_logprobs
        return [
            Said(
                token,
                finish,
                None if num_top is None else -0.5 - position,
                None if num_top is None else [(t, -0.25 * t) for t in range(4, 4 + num_top)],
            )
            for position, (token, finish) in enumerate(ending)
        ]


Scenario = Callable[[Api], Awaitable[None]]


@asynccontextmanager
async def running_api(
    checkpoint: Path,
    socket: Path,
    script: Script | None = None,
    hello: Hello = HELLO,
    *,
    aliases: Sequence[str] = (),
    database: Database | None = None,
    reports: UsageReports | None = None,
    backends: Sequence[BackendConfig] = (),
    price: Price | None = None,
    file_config: FilesConfig | None = None,
    knowledge_config: KnowledgeConfig | None = None,
    retriever: Path | None = None,
    gateway: UUID = UUID(int=7),  # noqa: B008  # immutable
    searcher: Searches | None = None,
    tool_servers: SaidByServers | None = None,
    batch_config: BatchesConfig | None = None,
    tools: Callable[[ToolService], ToolService] = lambda made: made,
) -> AsyncIterator[Api]:
    """An API whose engine is ready. `database`: for what reads one. `price`: the model's.
    `retriever`: the socket of one. `searcher`: what chats are answered from instead.
    `tool_servers`: what they say that they can do. `tools`: makes what there is for tools of what
    is usual."""
    metrics = Metrics()
    engine = EngineClient(MODEL, socket, metrics)
    model = replace(load_model(ModelConfig(MODEL, checkpoint), engine), price=price)
    registry = ModelRegistry()
    registry.add(model, aliases)
    keys, ledger, limiter, denials = KnownKeys(), ListedUsage(), Limiter(), ListedDenials()
    far = Backends(Backend(made, metrics) for made in backends)
    given = GivenAliases()
    accounts = accounts_service.build(
        NoDatabase(), Pepper("pepper", bytes(32)), AccountsConfig(sign_up="open")
    )
    stored_in = database or NoDatabase()
    tenant_keys = TenantKeys(stored_in, "", MasterKey(bytes(32)))
    files = Files(stored_in, tenant_keys, file_config or FilesConfig())
    no_retriever = socket.with_name("no retriever")
    indexes = Indexes(stored_in, tenant_keys, retriever or no_retriever, gateway)
    responses = StoredResponses(stored_in, tenant_keys, ResponsesConfig())
    real_searcher = Searcher(stored_in, tenant_keys, registry, indexes, metrics)
    services = Services(
        usage_reports=reports or UsageReports(NoDatabase(), UsageConfig()),
        authenticator=keys,
        accounts=accounts,
        models=registry,
        limiter=limiter,
        generator=Generator(limiter, ledger, metrics),
        embedder=Embedder(limiter, ledger, metrics),
        ledger=ledger,
        metrics=metrics,
        health=AlwaysReady(),
        audit=AuditReader(database or NoDatabase()),
        denials=denials,
        past_requests=ListedRequests(ledger),
        past_usage=NothingBefore(),
        aliases=given,
        alias_directory=AliasDirectory(cast(Database, database), registry, far),
        backends=far,
        remote_accounts=RemoteAccounts(limiter, ledger, metrics),
        organization=organization_service.build(
            database or NoDatabase(), Pepper("pepper", bytes(32)), registry
        ),
        files=files,
        uploads=Uploads(files),
        stores=VectorStores(
            *(stored_in, tenant_keys, registry, knowledge_config or KnowledgeConfig()),
            StoreCleanup(stored_in),
        ),
        searcher=real_searcher,
        grounding=Grounding(searcher or real_searcher),
        rerankers=Rerankers(registry, given, (knowledge_config or KnowledgeConfig()).reranker),
        responses=responses,
        background=BackgroundResponses(responses),
        tools=tools(
            tools_service.build(
                *(stored_in, "", tenant_keys, metrics, ToolsConfig()),
                lambda on_listed: tool_servers or SaidByServers(),
            )
        ),
        batches=Batches(files, batch_config or BatchesConfig()),
        conversations=Conversations(stored_in, tenant_keys, ResponsesConfig()),
    )
    peer = EnginePeer(socket, script or (lambda submit, prompt, choice: []), hello)
    api = Api(
        App(services, 8 << 20),
        peer,
        model,
        keys,
        ledger,
        metrics,
        denials,
        given,
        services,
        indexes,
    )
    if script is None:
        peer.script = api.script
    await peer.start()
    runners = [asyncio.create_task(part.run()) for part in (registry, services.background)]
    if retriever is not None:
        runners.append(asyncio.create_task(indexes.run()))
    try:
        await until(lambda: engine.healthy)
        yield api
    finally:
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)
        accounts.close()
        await services.backends.close()
        await peer.stop()


async def until(condition: Callable[[], bool]) -> None:
    """For conditions that only the loop's own progress makes true."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0.001)


def record(api: Api) -> dict[str, Any]:
    """The one record there is."""
    (found,) = api.ledger.records
    return {
        name: getattr(found, name)
        for name in ("status", "finish_reason", "error_code", "completion_tokens", "streamed")
    }
