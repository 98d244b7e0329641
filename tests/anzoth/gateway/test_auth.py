"""Who gets in, with which answer, how fast is that taken back, and what if the database is away?"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import asyncpg
import pytest

from anzoth.db import pool
from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import key_rows, project_rows
from anzoth.errors import (
    AddressNotAllowed,
    DatabaseUnavailable,
    EndpointNotAllowed,
    KeyRevoked,
    Unauthorized,
)
from anzoth.gateway import auth, directory, key_changes, keys, project_directory
from anzoth.gateway.auth import Authenticator
from anzoth.gateway.directory import CreatedKey, KeyRequest
from anzoth.gateway.keys import Key, Pepper
from anzoth.gateway.limit_rules import LimitRule, Limits

pytestmark = pytest.mark.slow

PEPPER = Pepper("pepper-1", b"0123456789abcdef0123456789abcdef")


@dataclasses.dataclass
class Clock:
    """Monotonic seconds and the wall clock, moved by the test."""

    s: float = 1000.0
    start: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> float:
        return self.s

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.s - 1000.0)


class Severable:
    """A real database behind a switch that cuts it off, and a count of what reaches it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.is_cut = False
        self.num_reads = 0
        self.has_read = asyncio.Event()
        self.pause: asyncio.Event | None = None

    @contextlib.asynccontextmanager
    async def authenticating(self, kid: str) -> AsyncIterator[Any]:
        self.num_reads += 1
        if self.is_cut:
            raise DatabaseDown()
        async with self.database.authenticating(kid) as connection:
            yield connection
            self.has_read.set()
            if self.pause is not None:
                await self.pause.wait()

    @contextlib.asynccontextmanager
    async def tenant(self, handle: Any) -> AsyncIterator[Any]:
        if self.is_cut:
            raise DatabaseDown()
        async with self.database.tenant(handle) as connection:
            yield connection


@dataclasses.dataclass
class Gateway:
    dsn: str
    database: Any
    authenticator: Authenticator
    clock: Clock

    async def create_key(self, **options: Any) -> CreatedKey:
        return await directory.create_key(self.dsn, PEPPER, KeyRequest("acme", "k", **options))

    async def status(self, key: Key) -> int:
        try:
            await self.authenticator.authenticate(f"Bearer {key.text}")
        except (Unauthorized, DatabaseUnavailable) as error:
            return error.status
        return 200


def run(dsn: str, scenario: Callable[[Gateway], Awaitable[None]]) -> None:
    async def main() -> None:
        await directory.create_tenant(dsn, "acme")
        database = await Database.open(dsn)
        clock = Clock()
        severable = Severable(database)
        authenticator = Authenticator(
            severable,  # type: ignore[arg-type]  # the two methods that it uses
            dsn,
            PEPPER,
            clock=clock,
            now=clock.now,
        )
        try:
            async with asyncio.timeout(30):
                await scenario(Gateway(dsn, severable, authenticator, clock))
        finally:
            await database.close()

    asyncio.run(main())


@contextlib.asynccontextmanager
async def listening(gateway: Gateway) -> AsyncIterator[None]:
    """With `run` running, and the connection that listens established."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(gateway.authenticator.run())

        async def is_listening() -> bool:
            return gateway.authenticator._generation > 0

        await within(10.0, is_listening)
        yield
        task.cancel()


async def within(timeout_s: float, condition: Callable[[], Awaitable[bool]]) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.005)


def test_a_good_key_gives_a_principal_with_its_grants(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        created = await gateway.create_key(
            scopes=("chat",), models=("llama-*",), limits=Limits(rpm=5, tpm=7), expires_at=None
        )
        header = f"bearer  {created.key.text} "
        principal = await gateway.authenticator.authenticate(header)
        assert principal.key_id == created.id
        assert principal.tenant.name == "acme"
        assert principal.tenant.cache_salt == PEPPER.cache_salt(principal.tenant.id)
        assert (principal.scopes, principal.models) == ({"chat"}, ("llama-*",))
        assert principal.limits == (LimitRule("key", created.id, Limits(rpm=5, tpm=7)),)

    run(dsn, scenario)


def test_no_header_and_a_bad_key_differ_and_bad_keys_do_not(dsn: str) -> None:
    async def refusal(gateway: Gateway, header: str | None) -> tuple[int, bytes, str]:
        with pytest.raises(Unauthorized) as caught:
            await gateway.authenticator.authenticate(header)
        return caught.value.status, caught.value.body_bytes(), str(caught.value.headers())

    async def scenario(gateway: Gateway) -> None:
        good, revoked = await gateway.create_key(), await gateway.create_key()
        await directory.revoke_key(dsn, str(revoked.id))
        expired = await gateway.create_key(expires_at=gateway.clock.now() - timedelta(seconds=1))
        other_pepper = await directory.create_key(
            dsn, Pepper("pepper-2", bytes(32)), KeyRequest("acme", "k")
        )
        unknown = keys.mint()
        head = f"anz-{good.key.kid}_{'0' * 36}"
        wrong_secret = head + keys._checksum(head)
        answers = {
            await refusal(gateway, f"Bearer {text}")
            for text in (
                unknown.text,
                wrong_secret,
                revoked.key.text,
                expired.key.text,
                other_pepper.key.text,
                good.key.text[:-1] + ("0" if good.key.text[-1] != "0" else "1"),
                "",
                "nonsense",
            )
        }
        answers |= {
            await refusal(gateway, header)
            for header in ("", good.key.text, f"Basic {good.key.text}")
        }
        assert len(answers) == 1
        status, body, _ = answers.pop()
        assert status == 401
        assert b'"code":"invalid_api_key"' in body
        assert b"Bearer anz-" in body
        _, missing, _ = await refusal(gateway, None)
        assert b'"code":null' in missing
        assert b"Bearer anz-" in missing
        assert await gateway.status(good.key) == 200

    run(dsn, scenario)


def test_a_bad_checksum_never_reaches_the_database(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        text = keys.mint().text
        for header in (f"Bearer {text[:-1]}!", f"Bearer {text[::-1]}", "Bearer anz-0_0", "x"):
            with pytest.raises(Unauthorized):
                await gateway.authenticator.authenticate(header)
        assert gateway.database.num_reads == 0

    run(dsn, scenario)


def test_a_key_is_read_once_a_second_and_once_for_many_at_once(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        created = await gateway.create_key()
        statuses = await asyncio.gather(*(gateway.status(created.key) for _ in range(50)))
        assert set(statuses) == {200}
        assert gateway.database.num_reads == 1
        gateway.clock.s += 0.99
        assert await gateway.status(created.key) == 200
        assert gateway.database.num_reads == 1
        gateway.clock.s += 0.01
        assert await gateway.status(created.key) == 200
        assert gateway.database.num_reads == 2

    run(dsn, scenario)


def test_revocation_is_heard_at_once_and_a_new_key_works_at_once(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        async with listening(gateway):
            created = await gateway.create_key()
            assert await gateway.status(created.key) == 200
            await directory.revoke_key(dsn, created.key.kid)

            async def is_refused() -> bool:
                return await gateway.status(created.key) == 401

            # The test's clock stands still, so only the notification can have done it.
            await within(2.0, is_refused)
            assert await gateway.status(await make_known_as_unknown(gateway)) == 200

    async def make_known_as_unknown(gateway: Gateway) -> Key:
        """A key that was tried before it existed."""
        key = keys.mint()
        assert await gateway.status(key) == 401
        (tenant,) = await directory.list_tenants(dsn)
        async with pool.operator(dsn) as connection:
            project = await project_rows.find_project(connection, tenant.id, None)
        assert project is not None
        row = key_rows.NewKey(
            uuid.uuid4(), tenant.id, project.id, key.kid, "k", PEPPER.digest(key), keys.HASH_ALG,
            PEPPER.id, key.redacted, ["chat"], None, None, None, None, None, None,
        )  # fmt: skip
        async with pool.operator(dsn) as connection:
            await key_rows.try_insert_key(connection, row)

        async def is_known() -> bool:
            return await gateway.status(key) == 200

        await within(2.0, is_known)
        return key

    run(dsn, scenario)


def test_revocation_without_a_notification_takes_a_second(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        created = await gateway.create_key()
        assert await gateway.status(created.key) == 200
        await directory.revoke_key(dsn, created.key.kid)
        gateway.clock.s += 1.0
        assert await gateway.status(created.key) == 401

    run(dsn, scenario)


def test_what_was_read_before_a_notification_is_not_kept(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        created = await gateway.create_key()
        gateway.database.pause = asyncio.Event()
        reading = asyncio.create_task(gateway.status(created.key))
        await gateway.database.has_read.wait()
        await directory.revoke_key(dsn, created.key.kid)
        gateway.authenticator._changed(created.key.kid)
        gateway.database.pause.set()
        await reading
        assert await gateway.status(created.key) == 401

    run(dsn, scenario)


def test_the_listener_comes_back_after_its_connection_was_cut(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        async with listening(gateway):
            connection = await asyncpg.connect(dsn)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'anzoth listener' AND datname = current_database()"
            )
            await connection.close()
            created = await gateway.create_key()

            async def is_heard() -> bool:
                before = gateway.authenticator._generation
                async with pool.operator(dsn) as connection:
                    await connection.execute("UPDATE anzoth.api_keys SET name = 'other'")
                await asyncio.sleep(0.02)
                return gateway.authenticator._generation > before

            await within(10.0, is_heard)
            assert (await gateway.status(created.key)) == 200

    run(dsn, scenario)


def test_an_expired_key_is_refused_on_the_second(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        created = await gateway.create_key(expires_at=gateway.clock.now() + timedelta(seconds=0.5))
        assert await gateway.status(created.key) == 200
        gateway.clock.s += 0.5  # what is known about it is still fresh
        assert await gateway.status(created.key) == 401

    run(dsn, scenario)


def test_without_a_database_known_keys_work_for_a_minute_and_others_get_503(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        known, other = await gateway.create_key(), await gateway.create_key()
        assert await gateway.status(known.key) == 200
        gateway.database.is_cut = True
        gateway.clock.s += 2
        assert await gateway.status(known.key) == 200
        with pytest.raises(DatabaseUnavailable) as caught:
            await gateway.authenticator.authenticate(f"Bearer {other.key.text}")
        assert caught.value.body()["error"]["code"] == "database_unavailable"
        assert caught.value.status == 503
        reads = gateway.database.num_reads
        assert await gateway.status(other.key) == 503
        assert gateway.database.num_reads == reads, "each request waits for the time-out"
        gateway.clock.s += 57
        assert await gateway.status(known.key) == 200
        gateway.clock.s += 2
        assert await gateway.status(known.key) == 503
        gateway.database.is_cut = False
        gateway.clock.s += 1
        assert await gateway.status(known.key) == 200
        assert await gateway.status(other.key) == 200

    run(dsn, scenario)


def test_what_is_remembered_is_bounded(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_MAX_UNKNOWN", 10)
    monkeypatch.setattr(auth, "_MAX_KEYS", 3)

    async def scenario(gateway: Gateway) -> None:
        for _ in range(30):
            assert await gateway.status(keys.mint()) == 401
        for _ in range(6):
            assert await gateway.status((await gateway.create_key()).key) == 200
        assert len(gateway.authenticator._unknown) == 10
        assert len(gateway.authenticator._known) == 3
        assert len(gateway.authenticator._reading) == 0

    run(dsn, scenario)


def test_the_last_use_is_written_down_on_close(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        used, unused = await gateway.create_key(), await gateway.create_key()
        assert await gateway.status(used.key) == 200
        await gateway.authenticator.close()
        dates = {key.id: key.last_used_at for key in await directory.list_keys(dsn)}
        assert dates == {used.id: gateway.clock.now(), unused.id: None}
        gateway.clock.s -= 5  # a late batch from another gateway does not turn it back
        assert await gateway.status(used.key) == 200
        await gateway.authenticator.close()
        (key, _) = await directory.list_keys(dsn)
        assert key.last_used_at == dates[key.id]

    run(dsn, scenario)


def test_no_log_and_no_repr_shows_a_secret(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def scenario(gateway: Gateway) -> None:
        created = await gateway.create_key()
        secret = created.key.text.partition("_")[2]
        principal = await gateway.authenticator.authenticate(f"Bearer {created.key.text}")
        logging.getLogger("canary").info("%r %r", principal, gateway.authenticator._known)
        await directory.revoke_key(dsn, created.key.kid)
        gateway.clock.s += 2
        assert await gateway.status(created.key) == 401
        gateway.database.is_cut = True
        gateway.clock.s += 2
        with pytest.raises(DatabaseUnavailable):
            await gateway.authenticator.authenticate(f"Bearer {keys.mint().text}")
        digest = PEPPER.digest(created.key)
        for canary in (secret[:8], principal.tenant.cache_salt, digest.hex(), repr(digest)):
            assert canary not in caplog.text
        assert created.key.kid in caplog.text  # the canary line itself was captured

    run(dsn, scenario)


def test_both_secrets_of_a_rotated_key_work_for_the_grace_and_the_old_one_is_counted(
    dsn: str,
) -> None:
    async def scenario(gateway: Gateway) -> None:
        created = await gateway.create_key(limits=Limits(rpm=5))
        assert await gateway.status(created.key) == 200
        rotated = await key_changes.rotate_key(dsn, PEPPER, created.key.kid, timedelta(hours=1))
        assert rotated.id == created.id
        assert rotated.key.kid != created.key.kid
        gateway.clock.s += 1
        for _ in range(2):
            assert await gateway.status(created.key) == 200
        old = await gateway.authenticator.authenticate(f"Bearer {created.key.text}")
        new = await gateway.authenticator.authenticate(f"Bearer {rotated.key.text}")
        assert old.rotating_until == rotated.old_until
        assert new.rotating_until is None
        assert old.key_id == new.key_id == created.id
        assert old.limits == new.limits == (LimitRule("key", created.id, Limits(rpm=5)),)
        mixed = Key(created.key.kid, created.key.text[:17] + rotated.key.text[17:])
        assert await gateway.status(mixed) == 401
        await gateway.authenticator.close()
        (listed,) = await directory.list_keys(dsn)
        assert listed.predecessor_uses == 3
        assert listed.predecessor_expires_at == rotated.old_until
        gateway.clock.s += 3600
        assert await gateway.status(created.key) == 401
        assert await gateway.status(rotated.key) == 200

    run(dsn, scenario)


def test_there_is_one_old_secret_at_most_and_revocation_ends_both(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        first = (await gateway.create_key()).key
        second = (await key_changes.rotate_key(dsn, PEPPER, first.kid)).key
        third = (await key_changes.rotate_key(dsn, PEPPER, second.kid)).key
        assert [await gateway.status(key) for key in (first, second, third)] == [401, 200, 200]
        await directory.revoke_key(dsn, second.text)
        gateway.clock.s += 1
        assert [await gateway.status(key) for key in (second, third)] == [401, 401]

    run(dsn, scenario)


def test_rotation_without_a_grace_ends_the_old_secret_at_once(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        async with listening(gateway):
            created = await gateway.create_key()
            assert await gateway.status(created.key) == 200
            rotated = await key_changes.rotate_key(dsn, PEPPER, created.key.kid, timedelta(0))
            assert rotated.old_until is None

            async def is_refused() -> bool:
                return await gateway.status(created.key) == 401

            await within(2.0, is_refused)  # the clock stands still: it was notified
            assert await gateway.status(rotated.key) == 200

    run(dsn, scenario)


def test_limits_of_tenant_project_and_key_come_with_the_principal(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        created = await gateway.create_key(limits=Limits(tpm=10))
        await project_directory.update_tenant(dsn, "acme", limits={"rpm": 7})
        project, _ = await project_directory.update_project(
            dsn, "acme", None, limits={"concurrency": 2}, model="m"
        )
        principal = await gateway.authenticator.authenticate(f"Bearer {created.key.text}")
        assert set(principal.limits) == {
            LimitRule("tenant", principal.tenant.id, Limits(rpm=7)),
            LimitRule("project", project.id, Limits(concurrency=2), "m"),
            LimitRule("key", created.id, Limits(tpm=10)),
        }
        await project_directory.update_tenant(dsn, "acme", limits={"rpm": None})
        gateway.clock.s += 1
        principal = await gateway.authenticator.authenticate(f"Bearer {created.key.text}")
        assert {rule.level for rule in principal.limits} == {"project", "key"}

    run(dsn, scenario)


def test_a_principal_says_where_its_key_may_be_used_and_the_last_address_is_kept(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        created = await gateway.create_key(
            networks=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
            endpoints=("/v1/chat/*",),
            tools=("weather",),
            default_knowledge_bases=("vs_1", "vs_2"),
        )
        header = f"Bearer {created.key.text}"
        principal = await gateway.authenticator.authenticate(header, ip_address("10.1.2.3"))
        principal.require_address(ip_address("10.1.2.3"))
        principal.require_address(ip_address("2001:db8::1"))
        for other in (ip_address("11.0.0.1"), ip_address("::1"), None):
            with pytest.raises(AddressNotAllowed):
                principal.require_address(other)
        principal.require_endpoint("/v1/chat/completions")
        with pytest.raises(EndpointNotAllowed):
            principal.require_endpoint("/v1/models")
        assert principal.tools == {"weather"}
        assert principal.knowledge_bases is None
        assert principal.default_knowledge_bases == ("vs_1", "vs_2")
        await gateway.authenticator.close()
        (listed,) = await directory.list_keys(dsn)
        assert listed.last_used_ip == ip_address("10.1.2.3")

    run(dsn, scenario)


@pytest.mark.parametrize("is_listening", [False, True], ids=["silent", "told"])
def test_work_for_a_key_is_done_as_the_key_is_then(dsn: str, is_listening: bool) -> None:
    async def scenario(gateway: Gateway) -> None:
        made = await gateway.create_key(scopes=("chat",), limits=Limits(rpm=5))
        stranger = await gateway.create_key()
        asked = await gateway.authenticator.authenticate(f"Bearer {made.key.text}")
        assert asked.key_id is not None
        tenant = asked.tenant

        async def of_key() -> Any:
            assert asked.key_id is not None
            if not is_listening:
                gateway.clock.s += 1.1  # as old as what is known may be
            return await gateway.authenticator.of_key(tenant, asked.key_id)

        assert dataclasses.replace(await of_key()) == asked
        turned = await key_changes.rotate_key(dsn, PEPPER, made.key.kid, timedelta(hours=1))
        found = await of_key()
        assert (found.key_id, found.rotating_until) == (asked.key_id, None)
        await directory.revoke_key(dsn, turned.key.kid)

        async def is_revoked() -> bool:
            try:
                await of_key()
            except KeyRevoked:
                return True
            return False

        await within(10.0, is_revoked)
        with pytest.raises(KeyRevoked):
            await gateway.authenticator.of_key(tenant, uuid.uuid4())
        other = dataclasses.replace(tenant, id=uuid.uuid4())
        with pytest.raises(KeyRevoked):
            await gateway.authenticator.of_key(other, stranger.id)

    async def listened(gateway: Gateway) -> None:
        async with listening(gateway):
            await scenario(gateway)

    run(dsn, listened if is_listening else scenario)


def test_a_key_that_has_expired_has_nothing_done_for_it(dsn: str) -> None:
    async def scenario(gateway: Gateway) -> None:
        soon = gateway.clock.now() + timedelta(seconds=60)
        made = await gateway.create_key(expires_at=soon)
        asked = await gateway.authenticator.authenticate(f"Bearer {made.key.text}")
        assert asked.key_id is not None
        await gateway.authenticator.of_key(asked.tenant, asked.key_id)
        gateway.clock.s += 61
        with pytest.raises(KeyRevoked):
            await gateway.authenticator.of_key(asked.tenant, asked.key_id)

    run(dsn, scenario)
