"""People with browsers, before the whole application on a real database; no engine, no socket.

argon2 is the real one with the least work that it takes.
"""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import orjson
from api_stand_ins import AlwaysReady, ListedDenials, ListedUsage, NothingBefore, Reply
from argon2 import PasswordHasher
from registry_kit import SaidByServers

from anzoth.account_config import AccountsConfig, OidcConfig
from anzoth.api.app import App
from anzoth.api.call import Services
from anzoth.batch_config import BatchesConfig
from anzoth.config import UsageConfig
from anzoth.db.pool import Database
from anzoth.file_config import FilesConfig
from anzoth.gateway import directory
from anzoth.gateway.accounts import people, service, totp
from anzoth.gateway.accounts.passwords import Passwords
from anzoth.gateway.accounts.service import Accounts
from anzoth.gateway.accounts.tokens import Vault
from anzoth.gateway.alias_directory import AliasDirectory
from anzoth.gateway.aliases import Aliases
from anzoth.gateway.audit_reader import AuditReader
from anzoth.gateway.auth import Authenticator
from anzoth.gateway.backends import Backends
from anzoth.gateway.background_responses import BackgroundResponses
from anzoth.gateway.batches.batches import Batches
from anzoth.gateway.conversations import Conversations
from anzoth.gateway.embedding import Embedder
from anzoth.gateway.files import Files
from anzoth.gateway.generation import Generator
from anzoth.gateway.keys import Pepper
from anzoth.gateway.knowledge.grounding import Grounding
from anzoth.gateway.knowledge.indexing import Indexes
from anzoth.gateway.knowledge.rerankers import Rerankers
from anzoth.gateway.knowledge.searching import Searcher
from anzoth.gateway.knowledge.store_cleanup import StoreCleanup
from anzoth.gateway.knowledge.stores import VectorStores
from anzoth.gateway.limits import Limiter
from anzoth.gateway.models import ModelRegistry
from anzoth.gateway.organization import service as organization_service
from anzoth.gateway.past_requests import PastRequests
from anzoth.gateway.remote_usage import RemoteAccounts
from anzoth.gateway.stored_responses import StoredResponses
from anzoth.gateway.tenant_crypt import MasterKey, TenantKeys
from anzoth.gateway.tools import service as tools_service
from anzoth.gateway.uploads import Uploads
from anzoth.gateway.usage_reports import UsageReports
from anzoth.http.messages import Headers, Request, Response
from anzoth.knowledge_config import KnowledgeConfig
from anzoth.response_config import ResponsesConfig
from anzoth.telemetry import Metrics
from anzoth.tool_config import ToolsConfig

PEPPER = Pepper("pepper-1", b"0123456789abcdef0123456789abcdef")
PASSWORD = "correct horse battery staple"
ANOTHER = "another long password"
COOKIE, DEVICE = "anzoth-session", "anzoth-device"
HOST = "127.0.0.1:8000"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Clock:
    """What time it is, for sessions and codes; a test moves it."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.elapsed_s = 0.0

    def __call__(self) -> datetime:
        return self.now

    def monotonic_s(self) -> float:
        return self.elapsed_s

    def unix_s(self) -> float:
        return self.now.timestamp()

    def pass_(self, **duration: float) -> None:
        passed = timedelta(**duration)
        self.now += passed
        self.elapsed_s += passed.total_seconds()


@dataclass
class BrowserReply(Reply):
    """An answer with all of its cookies."""

    set_cookies: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Browser:
    """Keeps cookies and the CSRF token, as a page of ours would."""

    site: Site
    peer: str = "127.0.0.1"
    cookies: dict[str, str] = field(default_factory=dict)
    csrf_token: str | None = None
    origin: str | None = f"http://{HOST}"
    headers: dict[str, str] = field(default_factory=dict)

    async def call(
        self, method: str, path: str, body: object = None, *, query: str = "", **headers: str
    ) -> BrowserReply:
        fields = {"host": HOST, "content-type": "application/json", **self.headers}
        if self.cookies:
            fields["cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        if self.csrf_token is not None:
            fields["x-csrf-token"] = self.csrf_token
        if self.origin is not None and method != "GET":
            fields["origin"] = self.origin
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        reply = await self.site.request(method, path, body, fields, self.peer, query)
        for name, value in reply.set_cookies:
            cookie: SimpleCookie = SimpleCookie(value)
            morsel = cookie[name]
            if morsel["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value
        if (
            reply.status == 200
            and reply.body
            and isinstance(reply.json, dict)
            and "csrf_token" in reply.json
        ):
            self.csrf_token = reply.json["csrf_token"]
        return reply

    async def get(self, path: str, **more: Any) -> BrowserReply:
        return await self.call("GET", path, **more)

    async def post(self, path: str, body: object = None, **more: Any) -> BrowserReply:
        return await self.call("POST", path, {} if body is None else body, **more)

    async def sign_up(
        self, email: str, organization: str, password: str = PASSWORD
    ) -> BrowserReply:
        body = {"email": email, "password": password, "organization": organization}
        reply = await self.post("/v1/auth/sign-up", body)
        assert reply.status == 200, reply.body
        return reply

    async def sign_in(self, email: str, password: str = PASSWORD) -> BrowserReply:
        return await self.post("/v1/auth/sign-in", {"email": email, "password": password})

    async def invite(self, email: str, role: str, **more: Any) -> str:
        """The token of an invitation into the current organization."""
        body = {"email": email, "role": role, **more}
        reply = await self.post("/v1/organization/invites", body)
        assert reply.status == 200, reply.body
        return reply.json["token"]


@dataclass
class Site:
    """A running application."""

    app: App
    dsn: str
    database: Database
    accounts: Accounts
    clock: Clock
    usage: ListedUsage

    def browser(self, **more: Any) -> Browser:
        return Browser(self, **more)

    @property
    def vault(self) -> Vault:
        return Vault(PEPPER)

    async def request(
        self,
        method: str,
        path: str,
        body: object,
        fields: dict[str, str],
        peer: str = "127.0.0.1",
        query: str = "",
    ) -> BrowserReply:
        content = b"" if body is None else orjson.dumps(body)

        async def read_body(limit_bytes: int) -> bytes:
            assert len(content) <= limit_bytes
            return content

        async def stream_body(limit_bytes: int, timeout_s: float) -> AsyncIterator[bytes]:
            yield await read_body(limit_bytes)

        answer = await self.app(
            Request(
                method=method,
                path=path,
                query=query,
                headers=Headers([(k.encode(), v.encode()) for k, v in fields.items()]),
                request_id=f"req_{uuid.uuid4().hex}",
                peer=peer,
                received_at_s=time.monotonic(),
                read_body=read_body,
                stream_body=stream_body,
            )
        )
        assert isinstance(answer, Response)
        cookies = [
            (value.partition("=")[0], value)
            for name, value in answer.headers
            if name == "set-cookie"
        ]
        return BrowserReply(answer.status, dict(answer.headers), answer.body, cookies)

    async def with_key(self, method: str, path: str, key: str, body: object = None) -> Reply:
        fields = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        return await self.request(method, path, body, fields)

    async def operator(self, email: str = "op@example.com") -> Browser:
        """Made by the bootstrap token of a first start."""
        await directory.ensure_default_tenant_and_key(self.dsn, PEPPER)
        made = await people.ensure_operator_can_be_made(self.dsn, self.vault)
        assert made is not None
        browser = self.browser()
        body = {"token": made.token, "email": email, "password": PASSWORD}
        reply = await browser.post("/v1/auth/bootstrap", body)
        assert reply.status == 200, reply.body
        return browser

    async def member(self, owner: Browser, email: str, role: str) -> Browser:
        """Invited by `owner` into the owner's organization."""
        token = await owner.invite(email, role)
        browser = self.browser()
        reply = await browser.post(
            "/v1/auth/invitations/accept", {"token": token, "password": PASSWORD}
        )
        assert reply.status == 200, reply.body
        return browser


Scenario = Callable[[Site], Awaitable[None]]


@asynccontextmanager
async def running_site(
    dsn: str, config: AccountsConfig | None = None, providers: Sequence[OidcConfig] = ()
) -> AsyncIterator[Site]:
    config = config or AccountsConfig(sign_up="open")
    database = await Database.open(dsn)
    clock, metrics, limiter = Clock(), Metrics(), Limiter()
    hasher = Passwords(CHEAP)
    accounts = service.build(
        database,
        PEPPER,
        config,
        providers,
        hasher=hasher,
        now=clock,
        clock=clock.monotonic_s,
        unix_s=clock.unix_s,
    )
    usage, models, backends = ListedUsage(), ModelRegistry(), Backends()
    tenant_keys = TenantKeys(database, dsn, MasterKey(bytes(32)))
    files = Files(database, tenant_keys, FilesConfig())
    indexes = Indexes(database, tenant_keys, Path("/no/retriever"), uuid.UUID(int=7))
    searcher = Searcher(database, tenant_keys, models, indexes, metrics)
    responses = StoredResponses(database, files.keys, ResponsesConfig())
    services = Services(
        authenticator=Authenticator(database, dsn, PEPPER),
        accounts=accounts,
        models=models,
        limiter=limiter,
        generator=Generator(limiter, usage, metrics),
        embedder=Embedder(limiter, usage, metrics),
        ledger=usage,
        denials=ListedDenials(),
        audit=AuditReader(database),
        metrics=metrics,
        health=AlwaysReady(),
        usage_reports=UsageReports(database, UsageConfig()),
        past_requests=PastRequests(database),
        past_usage=NothingBefore(),
        aliases=Aliases(database, dsn),
        alias_directory=AliasDirectory(database, models, backends),
        backends=backends,
        remote_accounts=RemoteAccounts(limiter, usage, metrics),
        organization=organization_service.build(database, PEPPER, models),
        files=files,
        uploads=Uploads(files),
        stores=VectorStores(
            *(database, files.keys, models, KnowledgeConfig()), StoreCleanup(database)
        ),
        searcher=searcher,
        grounding=Grounding(searcher),
        rerankers=Rerankers(models, Aliases(database, dsn), None),
        batches=Batches(files, BatchesConfig()),
        responses=responses,
        background=BackgroundResponses(responses),
        tools=tools_service.build(
            *(database, dsn, files.keys, metrics, ToolsConfig()), lambda on_listed: SaidByServers()
        ),
        conversations=Conversations(database, files.keys, ResponsesConfig()),
    )
    try:
        yield Site(App(services, 1 << 20), dsn, database, accounts, clock, usage)
    finally:
        accounts.close()
        await database.close()


def run_site(
    dsn: str,
    scenario: Scenario,
    config: AccountsConfig | None = None,
    providers: Sequence[OidcConfig] = (),
) -> None:
    async def main() -> None:
        async with running_site(dsn, config, providers) as site:
            await scenario(site)

    asyncio.run(main())


async def code_of(browser: Browser, secret_text: str) -> str:
    secret = base64.b32decode(secret_text)
    return totp.code_at(secret, int(browser.site.clock.unix_s() // 30))


async def enrolled(browser: Browser) -> tuple[str, list[str]]:
    """The secret, as text, and the recovery codes of a second factor in force."""
    made = (await browser.post("/v1/auth/totp", {"password": PASSWORD})).json
    reply = await browser.post(
        "/v1/auth/totp/confirm", {"code": await code_of(browser, made["secret"])}
    )
    assert reply.status == 200
    browser.site.clock.pass_(seconds=30)
    return made["secret"], reply.json["recovery_codes"]


async def owner(site: Site, email: str = "ann@example.com", organization: str = "acme") -> Browser:
    browser = site.browser()
    await browser.sign_up(email, organization)
    return browser
