"""Does a changed key keep what was not named, and is a rotation the same key?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from anzoth.db import pool
from anzoth.gateway import directory, key_changes, project_directory
from anzoth.gateway.directory import CreatedKey, KeyRequest
from anzoth.gateway.directory_checks import DirectoryError
from anzoth.gateway.key_changes import KeyChange
from anzoth.gateway.keys import Pepper
from anzoth.gateway.limit_rules import Limits

pytestmark = pytest.mark.slow

PEPPER = Pepper("pepper-1", b"0123456789abcdef0123456789abcdef")


@pytest.fixture
def run(dsn: str) -> Callable[[Callable[[str, CreatedKey], Awaitable[None]]], None]:
    """With a key of a fresh tenant."""

    def run_scenario(scenario: Callable[[str, CreatedKey], Awaitable[None]]) -> None:
        async def main() -> None:
            await directory.create_tenant(dsn, "acme")
            request = KeyRequest(
                "acme", "k", scopes=("chat",), models=("a",), limits=Limits(rpm=5, tpm=6)
            )
            await scenario(dsn, await directory.create_key(dsn, PEPPER, request))

        asyncio.run(main())

    return run_scenario


def test_only_what_is_named_changes(run) -> None:
    async def scenario(dsn: str, created: CreatedKey) -> None:
        change = KeyChange(
            values={"networks": [], "name": "other"},
            added={
                "scopes": ["rerank"],
                "models": ["b"],
                "networks": [ip_network("::1")],
                "default_knowledge_bases": ["vs_1", "vs_2"],
            },
            removed={"models": ["a"]},
            limits={"rpm": None, "concurrency": 2},
        )
        changed = await key_changes.update_key(dsn, created.key.kid, change)
        assert changed.limits == Limits(tpm=6, concurrency=2)
        await key_changes.update_key(
            dsn, str(created.id), KeyChange(limits={"rpm": 1}, limits_of_model="b")
        )
        (listed,) = await directory.list_keys(dsn)
        assert listed.id == created.id
        assert (listed.name, listed.scopes, listed.models) == ("other", ["chat", "rerank"], ["b"])
        assert listed.networks == [ip_network("::1")]
        assert listed.default_knowledge_bases == ["vs_1", "vs_2"]
        assert (listed.rpm, listed.tpm, listed.concurrency) == (None, 6, 2)
        limits = await project_directory.list_limits(dsn, "acme")
        assert [(limit.model, limit.rpm, limit.tpm) for limit in limits] == [
            (None, None, 6),
            ("b", 1, None),
        ]
        await key_changes.update_key(
            dsn, created.key.kid, KeyChange(limits={"tpm": None, "concurrency": None})
        )
        assert len(await project_directory.list_limits(dsn, "acme")) == 1

    run(scenario)


def test_impossible_changes_are_refused_in_one_sentence_and_change_nothing(run) -> None:
    async def scenario(dsn: str, created: CreatedKey) -> None:
        (before,) = await directory.list_keys(dsn)
        for change, sentence in (
            (KeyChange(removed={"scopes": ["chat"]}), "at least one scope"),
            (KeyChange(removed={"scopes": ["rerank"]}), "rerank is not among the scopes"),
            (KeyChange(added={"scopes": ["x"]}), "unknown scope"),
            (KeyChange(added={"endpoints": ["/v1/*"]}), "not restricted to certain endpoints"),
            (KeyChange(values={"name": ""}), "printable"),
            (KeyChange(values={"name": "x"}, limits={"rpm": 0}), "rpm is 0"),
        ):
            with pytest.raises(DirectoryError, match=sentence):
                await key_changes.update_key(dsn, created.key.kid, change)
        assert await directory.list_keys(dsn) == [before]
        with pytest.raises(DirectoryError, match="no such key"):
            await key_changes.update_key(dsn, "a" * 12, KeyChange())

    run(scenario)


def test_what_cannot_be_rotated_is_said(run) -> None:
    async def scenario(dsn: str, created: CreatedKey) -> None:
        for grace in (timedelta(days=7, seconds=1), timedelta(seconds=-1)):
            with pytest.raises(DirectoryError, match="at most 7 days"):
                await key_changes.rotate_key(dsn, PEPPER, created.key.kid, grace)
        expired = KeyChange(values={"expires_at": datetime(2020, 1, 1, tzinfo=UTC)})
        await key_changes.update_key(dsn, created.key.kid, expired)
        with pytest.raises(DirectoryError, match="has expired"):
            await key_changes.rotate_key(dsn, PEPPER, created.key.kid)
        await directory.revoke_key(dsn, created.key.kid)
        for change in (
            key_changes.rotate_key(dsn, PEPPER, created.key.kid),
            key_changes.update_key(dsn, created.key.kid, KeyChange()),
        ):
            with pytest.raises(DirectoryError, match="was revoked on"):
                await change

    run(scenario)


def test_an_archived_project_has_no_key_that_works_and_its_name_is_free(run) -> None:
    async def scenario(dsn: str, created: CreatedKey) -> None:
        for name in ("p", "q"):
            await project_directory.create_project(dsn, "acme", name, Limits(rpm=3))
        there = await directory.create_key(dsn, PEPPER, KeyRequest("acme", "k", project="p"))
        archived = await project_directory.archive_project(dsn, "acme", "p")
        assert archived.num_revoked_keys == 1
        listed = {key.id: key.revoked_at for key in await directory.list_keys(dsn)}
        assert listed[there.id] is not None
        assert listed[created.id] is None
        with pytest.raises(DirectoryError, match="no project named 'p'"):
            await directory.create_key(dsn, PEPPER, KeyRequest("acme", "k", project="p"))
        with pytest.raises(DirectoryError, match="already has a project named 'q'"):
            await project_directory.update_project(dsn, "acme", None, new_name="q", limits={})
        with pytest.raises(DirectoryError, match="default project cannot"):
            await project_directory.archive_project(dsn, "acme", "default")
        await project_directory.create_project(dsn, "acme", "p", Limits())
        states = [
            (project.name, project.archived_at is None)
            for project in await project_directory.list_projects(dsn, "acme")
        ]
        assert states == [("default", True), ("q", True), ("p", True), ("p", False)]

    run(scenario)


def test_every_change_is_in_the_tenants_audit_log_and_a_refused_one_is_not(run) -> None:
    async def scenario(dsn: str, created: CreatedKey) -> None:
        change = KeyChange(added={"scopes": ["rerank"]}, limits={"rpm": None})
        await key_changes.update_key(dsn, created.key.kid, change)
        with pytest.raises(DirectoryError):
            await key_changes.update_key(dsn, created.key.kid, KeyChange(limits={"rpm": 0}))
        rotated = await key_changes.rotate_key(dsn, PEPPER, created.key.kid, timedelta(0))
        await project_directory.create_project(dsn, "acme", "p", Limits(rpm=3))
        await project_directory.update_project(
            dsn, "acme", "p", new_name="q", limits={"tpm": 4}, model="m"
        )
        await project_directory.update_tenant(dsn, "acme", limits={"concurrency": 5})
        await project_directory.archive_project(dsn, "acme", "q")
        async with pool.operator(dsn) as connection:
            rows = await connection.fetch(
                "SELECT type, target, details FROM anzoth.audit_log WHERE tenant_id = $1 "
                "ORDER BY seq OFFSET 2",
                created.tenant_id,
            )
        found = [(row["type"], json.loads(row["details"])) for row in rows]
        assert found == [
            ("api_key.updated", {"scopes": ["chat", "rerank"], "rpm": None}),
            ("api_key.updated", {"rotated_to_kid": rotated.key.kid, "old_secret_until": None}),
            ("project.created", {"name": "p", "rpm": 3}),
            ("project.updated", {"name": "q", "tpm": 4, "limits_of_model": "m"}),
            ("organization.updated", {"concurrency": 5}),
            ("project.archived", {"name": "q", "num_revoked_keys": 0}),
        ]
        assert json.loads(rows[0]["target"])["id"] == str(created.id)

    run(scenario)
