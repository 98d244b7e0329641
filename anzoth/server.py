"""What is a gateway process made of, and in which order does it start and stop?

    python -m anzoth.server

Settings come from the supervisor (see `anzoth.child`): `listen_fd`, `control_socket`, `dsn`,
`data_dir`, `drain_s`, `http`, `journal`, `accounts`, `oidc`, `usage`, `files`, `knowledge`,
`responses`, `batches`, `egress`, `tools`, `models`, `backends`, `backend_keys`, `models_must_load`,
`retriever_socket`, `log_level`. The listening socket is the supervisor's, so that a gateway which
is started again finds the connections that came meanwhile.

Stopping (SIGTERM): readiness fails, no new connection is accepted, running requests finish within
`drain_s` or are ended with an error, the ledger is flushed; what the database cannot take then
stays in the journal. A second SIGTERM ends the wait.

Does not know: how any of its parts does its work.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from anzoth import child, control
from anzoth.account_config import AccountsConfig, OidcConfig
from anzoth.api.app import App
from anzoth.api.batch_lines import BatchLines
from anzoth.api.call import Services
from anzoth.backend_config import BackendConfig
from anzoth.batch_config import BatchesConfig
from anzoth.config import (
    ConfigError,
    HttpConfig,
    JournalConfig,
    UsageConfig,
    from_json,
    index_folder,
)
from anzoth.db.pool import Database
from anzoth.errors import CapacityUnavailable
from anzoth.file_config import FilesConfig
from anzoth.gateway import keys, tenant_crypt
from anzoth.gateway.accounts import service as accounts_service
from anzoth.gateway.alias_directory import AliasDirectory
from anzoth.gateway.aliases import Aliases
from anzoth.gateway.audit_reader import AuditReader
from anzoth.gateway.auth import Authenticator
from anzoth.gateway.backends import Backend, Backends
from anzoth.gateway.background_responses import BackgroundResponses
from anzoth.gateway.batches.batches import Batches
from anzoth.gateway.batches.claims import BatchClaims
from anzoth.gateway.batches.running import Parts
from anzoth.gateway.batches.worker import BatchWorker
from anzoth.gateway.conversations import Conversations
from anzoth.gateway.denials import Denials
from anzoth.gateway.egress.egress import Egress
from anzoth.gateway.embedding import Embedder
from anzoth.gateway.endings import Endings
from anzoth.gateway.files import Files
from anzoth.gateway.generation import Generator
from anzoth.gateway.health import Health
from anzoth.gateway.knowledge import service as knowledge_service
from anzoth.gateway.knowledge.gone_files import GoneFiles
from anzoth.gateway.knowledge.rerankers import Rerankers
from anzoth.gateway.ledger import Ledger
from anzoth.gateway.limit_leases import Leases
from anzoth.gateway.limits import Limiter
from anzoth.gateway.models import ModelLoadError, ModelRegistry
from anzoth.gateway.organization import service as organization_service
from anzoth.gateway.past_requests import PastRequests
from anzoth.gateway.past_usage import PastUsage
from anzoth.gateway.purging import Purges
from anzoth.gateway.remote_usage import RemoteAccounts
from anzoth.gateway.stored_responses import StoredResponses
from anzoth.gateway.tenant_crypt import TenantKeys
from anzoth.gateway.tools import service as tools_service
from anzoth.gateway.tools.connections import ToolConnections
from anzoth.gateway.tools.service import ToolService
from anzoth.gateway.uploads import Uploads
from anzoth.gateway.usage_reports import UsageReports
from anzoth.gateway.usage_retention import UsageRetention
from anzoth.http.client_address import parse_networks
from anzoth.http.server import HttpServer
from anzoth.knowledge_config import KnowledgeConfig
from anzoth.model_changes import ModelChanges
from anzoth.response_config import ResponsesConfig
from anzoth.telemetry import Metrics
from anzoth.tool_config import EgressConfig, ToolsConfig

_LEDGER_FLUSH_S = 3.0
_LAST_WORDS_S = 1.0
"""For error frames to reach their clients after a drain ran out of time."""


def main() -> None:
    settings = child.begin("gateway")
    try:
        uvloop.run(_serve(settings))
    except ConfigError as error:
        raise child.fail_config("gateway", error) from error


async def _serve(settings: Mapping[str, Any]) -> None:  # JSON from the supervisor
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, on_signal)
    loop.add_reader(child.parent_fd(), stop.set)
    http = from_json(HttpConfig, settings["http"])
    async with contextlib.AsyncExitStack() as stack:
        metrics = Metrics()
        changes = _models(settings, metrics)
        services = await _build(stack, settings, metrics, changes.registry)
        proxies = parse_networks(http.trusted_proxies)
        app = App(services, http.max_body_bytes, trusted_proxies=proxies)
        server = HttpServer(app, http)
        # What exists now lives as long as the process: the collector need not walk through it.
        gc.collect()
        gc.freeze()
        await server.start(socket.socket(fileno=settings["listen_fd"]))
        async with control.serving(Path(settings["control_socket"]), {"serve": changes.serve}):
            await stop.wait()
            services.health.is_draining = True
            await _drain(server, services, settings["drain_s"], hurry)


async def _drain(
    server: HttpServer, services: Services, drain_s: float, hurry: asyncio.Event
) -> None:
    """Requests may finish for `drain_s`, or until `hurry`; then they are ended with an error."""
    drain = asyncio.create_task(server.drain(drain_s + _LAST_WORDS_S))
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait({drain, hurried}, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
    if not drain.done():
        for running in (services.models, services.backends):
            running.end_all(CapacityUnavailable("The server is shutting down."))
        await asyncio.wait({drain}, timeout=_LAST_WORDS_S)
    for task in (drain, hurried):
        task.cancel()
    await asyncio.wait({drain, hurried})
    await server.drain(0)


def _models(settings: Mapping[str, Any], metrics: Metrics) -> ModelChanges:
    """Raises ConfigError: starting again cannot mend a model that is unusable."""
    changes = ModelChanges(metrics)
    try:
        changes.begin(settings["models"], must_load=settings["models_must_load"])
    except ModelLoadError as error:
        raise ConfigError(str(error)) from error
    return changes


async def _build(
    stack: contextlib.AsyncExitStack,
    settings: Mapping[str, Any],
    metrics: Metrics,
    models: ModelRegistry,
) -> Services:
    """All parts, running; `stack` ends them in the reverse order.

    Raises ConfigError for what starting again cannot mend: a pepper, master key or journal that is
    unusable.
    """
    data_dir = Path(settings["data_dir"])
    try:
        pepper = keys.load_pepper(data_dir)
        master_key = tenant_crypt.load_master_key(data_dir)
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from error
    database = await Database.open(settings["dsn"])
    stack.push_async_callback(database.close)
    authenticator = Authenticator(database, settings["dsn"], pepper)
    stack.push_async_callback(authenticator.close)
    accounts = accounts_service.build(
        database,
        pepper,
        from_json(AccountsConfig, settings["accounts"]),
        [from_json(OidcConfig, provider) for provider in settings["oidc"]],
    )
    stack.callback(accounts.close)
    journal = from_json(JournalConfig, settings["journal"])
    ledger = await Ledger.open(database, data_dir, journal, metrics)
    stack.push_async_callback(ledger.close, _LEDGER_FLUSH_S)
    denials = Denials(database)
    stack.push_async_callback(denials.close)
    tenant_keys = TenantKeys(database, settings["dsn"], master_key)
    files = Files(database, tenant_keys, from_json(FilesConfig, settings["files"]))
    knowledge_config = from_json(KnowledgeConfig, settings["knowledge"])
    responses_config = from_json(ResponsesConfig, settings["responses"])
    responses = StoredResponses(database, tenant_keys, responses_config)
    background_responses = BackgroundResponses(responses)
    conversations = Conversations(database, tenant_keys, responses_config)
    knowledge = knowledge_service.build(
        *(database, settings["dsn"], files, models, ledger, pepper, metrics),
        knowledge_config,
        retriever_socket=Path(settings["retriever_socket"]),
        index_folder=index_folder(data_dir),
    )
    stack.push_async_callback(knowledge.parsers.close)
    tools = _tools(settings, database, tenant_keys, metrics)
    stack.push_async_callback(tools.connections.close)
    background = await stack.enter_async_context(asyncio.TaskGroup())
    backends = Backends(
        Backend(from_json(BackendConfig, made), metrics, environ=settings["backend_keys"])
        for made in settings["backends"]
    )
    stack.push_async_callback(backends.close)
    purges = Purges(models)
    endings = Endings(database, settings["dsn"], pepper, purges, backends)
    limiter = Limiter()
    leases = Leases(database, settings["dsn"], ledger.writer, limiter.shares)
    stack.push_async_callback(leases.close)
    metrics.limits_shared(lambda: leases.num_gateways)
    await leases.join()
    past_usage = PastUsage(database, limiter, lambda: ledger.is_caught_up)
    aliases = Aliases(database, settings["dsn"])
    usage = from_json(UsageConfig, settings["usage"])
    parts = (
        authenticator,
        ledger,
        models,
        purges,
        endings,
        GoneFiles(database, settings["dsn"], pepper, purges),
        denials,
        leases,
        past_usage,
        UsageRetention(database, usage.minute_retention_days),
        aliases,
        tenant_keys,
        files.cleanup,
        responses,
        background_responses,
        conversations,
        tools.catalogue,
        *knowledge.parts,
    )
    tasks = [background.create_task(part.run()) for part in parts]
    stack.callback(lambda: [task.cancel() for task in tasks])
    batches = from_json(BatchesConfig, settings["batches"])
    services = Services(
        authenticator=authenticator,
        accounts=accounts,
        models=models,
        limiter=limiter,
        generator=Generator(limiter, ledger, metrics),
        embedder=Embedder(limiter, ledger, metrics),
        ledger=ledger,
        metrics=metrics,
        health=Health(models, database, ledger, backends, knowledge.retriever),
        audit=AuditReader(database),
        denials=denials,
        usage_reports=UsageReports(database, usage),
        past_requests=PastRequests(database),
        past_usage=past_usage,
        aliases=aliases,
        alias_directory=AliasDirectory(database, models, backends),
        backends=backends,
        remote_accounts=RemoteAccounts(limiter, ledger, metrics),
        organization=organization_service.build(database, pepper, models),
        files=files,
        uploads=Uploads(files),
        stores=knowledge.stores,
        searcher=knowledge.searcher,
        grounding=knowledge.grounding,
        rerankers=Rerankers(models, aliases, knowledge_config.reranker),
        responses=responses,
        background=background_responses,
        conversations=conversations,
        tools=tools,
        batches=Batches(files, batches),
    )
    max_body_bytes = from_json(HttpConfig, settings["http"]).max_body_bytes
    worker = BatchWorker(
        Parts(
            database,
            files,
            BatchClaims(database, ledger.writer, pepper),
            authenticator,
            BatchLines(App(services, max_body_bytes)).ask,
            batches,
            metrics,
        ),
        settings["dsn"],
    )
    tasks.append(background.create_task(worker.run()))
    return services


def _tools(
    settings: Mapping[str, Any], database: Database, tenant_keys: TenantKeys, metrics: Metrics
) -> ToolService:
    egress = Egress(from_json(EgressConfig, settings["egress"]))
    config = from_json(ToolsConfig, settings["tools"])
    return tools_service.build(
        *(database, settings["dsn"], tenant_keys, metrics, config),
        lambda on_listed: ToolConnections(egress, config, on_listed),
    )


if __name__ == "__main__":
    main()
