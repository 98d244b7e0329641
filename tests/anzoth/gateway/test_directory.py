"""Do tenants and keys come into being as asked, once, and does the database keep no secret?"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from anzoth.db import pool, programs
from anzoth.db.store import key_rows
from anzoth.gateway import directory, keys
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.directory_checks import DirectoryError
from anzoth.gateway.keys import Pepper
from anzoth.gateway.limit_rules import Limits

pytestmark = pytest.mark.slow

PEPPER = Pepper("pepper-1", b"0123456789abcdef0123456789abcdef")


def test_an_empty_installation_gets_one_key_however_many_start_it(dsn: str) -> None:
    async def scenario() -> None:
        made = await asyncio.gather(
            *(directory.ensure_default_tenant_and_key(dsn, PEPPER) for _ in range(4))
        )
        fresh = [key for key in made if key is not None]
        assert len(fresh) == 1
        assert keys.try_parse(fresh[0]) is not None
        assert [tenant.name for tenant in await directory.list_tenants(dsn)] == ["default"]
        listed = await directory.list_keys(dsn)
        assert [set(key.scopes) for key in listed] == [set(directory.DEFAULT_SCOPES)]
        assert await directory.ensure_default_tenant_and_key(dsn, PEPPER) is None

    asyncio.run(scenario())


def test_an_installation_with_a_tenant_gets_no_key_by_itself(dsn: str) -> None:
    async def scenario() -> None:
        await directory.create_tenant(dsn, "acme")
        assert await directory.ensure_default_tenant_and_key(dsn, PEPPER) is None
        assert await directory.list_keys(dsn) == []

    asyncio.run(scenario())


def test_what_cannot_be_made_is_said_in_one_sentence(dsn: str) -> None:
    async def scenario() -> None:
        await directory.create_tenant(dsn, "acme")
        with pytest.raises(DirectoryError, match="already a tenant named 'acme'"):
            await directory.create_tenant(dsn, "acme")
        for name in ("", "  ", "a\nb", "x" * 201, "\x1b[31m"):
            with pytest.raises(DirectoryError, match="printable"):
                await directory.create_tenant(dsn, name)
        for request, sentence in (
            (KeyRequest("nobody", "k"), "anzoth tenants create nobody"),
            (KeyRequest("acme", ""), "printable"),
            (KeyRequest("acme", "k", scopes=("chatt",)), "unknown scope 'chatt'"),
            (KeyRequest("acme", "k", scopes=()), "at least one scope"),
            (KeyRequest("acme", "k", limits=Limits(rpm=0)), "rpm is 0"),
            (KeyRequest("acme", "k", limits=Limits(tpm=2**31)), "tpm is"),
        ):
            with pytest.raises(DirectoryError, match=sentence):
                await directory.create_key(dsn, PEPPER, request)
        with pytest.raises(DirectoryError, match="no tenant named 'x'"):
            await directory.list_keys(dsn, "x")
        assert await directory.list_keys(dsn) == []

    asyncio.run(scenario())


def test_a_key_is_revoked_by_any_of_its_names_and_only_once(dsn: str) -> None:
    async def scenario() -> None:
        await directory.create_tenant(dsn, "acme")
        for number in range(4):
            request = KeyRequest("acme", f"k{number}")
            created = await directory.create_key(dsn, PEPPER, request)
            kid = created.key.kid
            name = [str(created.id), kid, f"anz-{kid}", created.key.text][number]
            revoked = await directory.revoke_key(dsn, name)
            assert (revoked.id, revoked.tenant) == (created.id, "acme")
            again = await directory.revoke_key(dsn, name)
            assert again.revoked_at == revoked.revoked_at
        for unknown in ("", "x", "a" * 12, "00000000-0000-0000-0000-000000000000"):
            with pytest.raises(DirectoryError, match="no such key"):
                await directory.revoke_key(dsn, unknown)
        assert all(key.revoked_at is not None for key in await directory.list_keys(dsn))

    asyncio.run(scenario())


def test_a_deleted_tenant_has_no_key_that_works_and_gets_none(dsn: str) -> None:
    async def scenario() -> None:
        for name in ("acme", "other"):
            await directory.create_tenant(dsn, name)
            for number in range(2):
                await directory.create_key(dsn, PEPPER, KeyRequest(name, f"k{number}"))
        first, *_ = await directory.list_keys(dsn, "acme")
        revoked = await directory.revoke_key(dsn, first.kid)
        deleted = await directory.delete_tenant(dsn, "acme")
        assert (deleted.name, deleted.num_revoked_keys) == ("acme", 1)
        keys_by_kid = {key.kid: key for key in await directory.list_keys(dsn)}
        assert keys_by_kid[first.kid].revoked_at == revoked.revoked_at
        alive = {key.tenant for key in keys_by_kid.values() if key.revoked_at is None}
        assert alive == {"other"}
        states = {t.name: t.deleted_at for t in await directory.list_tenants(dsn)}
        assert states == {"acme": deleted.deleted_at, "other": None}
        for again in (
            directory.delete_tenant(dsn, "acme"),
            directory.create_key(dsn, PEPPER, KeyRequest("acme", "k")),
        ):
            with pytest.raises(DirectoryError, match="'acme' was deleted on"):
                await again
        with pytest.raises(DirectoryError, match="or was one"):
            await directory.create_tenant(dsn, "acme")
        with pytest.raises(DirectoryError, match="no tenant named 'ghost'"):
            await directory.delete_tenant(dsn, "ghost")

    asyncio.run(scenario())


def test_no_key_comes_into_being_beside_the_deletion_of_its_tenant(dsn: str) -> None:
    async def scenario() -> None:
        await directory.create_tenant(dsn, "acme")
        await asyncio.gather(
            *(directory.create_key(dsn, PEPPER, KeyRequest("acme", f"k{n}")) for n in range(6)),
            directory.delete_tenant(dsn, "acme"),
            *(directory.create_key(dsn, PEPPER, KeyRequest("acme", f"l{n}")) for n in range(6)),
            return_exceptions=True,
        )
        assert all(key.revoked_at is not None for key in await directory.list_keys(dsn))

    asyncio.run(scenario())


def test_neither_the_database_nor_an_error_holds_the_secret(dsn: str) -> None:
    async def scenario() -> str:
        await directory.create_tenant(dsn, "acme")
        created = await directory.create_key(dsn, PEPPER, KeyRequest("acme", "k"))
        secret = created.key.text.partition("_")[2]
        assert secret not in repr(created)
        mistyped = created.key.text[:-1] + "!"
        with pytest.raises(DirectoryError) as caught:
            await directory.revoke_key(dsn, mistyped)
        assert secret[:8] not in str(caught.value)
        async with pool.operator(dsn) as connection:
            async with connection.transaction():
                pass
            listed = await key_rows.list_keys(connection, None)
        assert secret[:8] not in repr(listed)
        return secret

    secret = asyncio.run(scenario())
    parts = urlsplit(dsn)
    host = parse_qs(parts.query)["host"][0]
    pg_dump = programs.find(owner_of=Path(host)).folder / "pg_dump"
    # As the operator's role: it is the one that sees every row.
    dumped = subprocess.run(
        [pg_dump, "--data-only", "--enable-row-security", "--role=anzoth_operator"]
        + ["--exclude-table=anzoth.migrations", f"--host={host}", "--username=anzoth"]
        + [f"--dbname={parts.path[1:]}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "acme" in dumped
    for text in (secret[:8], PEPPER.secret.decode(), PEPPER.secret.hex()):
        assert text not in dumped
