"""Does a verification pass where tenants are kept apart, and fail where they are not?

The gateway runs in this process, so that a test can break it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from gateway_kit import config_of, gateway

from anzoth.api import files
from anzoth.api.call import Answer, Call, Route
from anzoth.api.routes import ROUTES
from anzoth.control import ControlError, NotReached
from anzoth.db import pool
from anzoth.gateway import directory, keys
from anzoth.gateway.directory_checks import DirectoryError
from anzoth.http.messages import Response
from anzoth.isolation import recipes, tenants
from anzoth.isolation.report import Report
from anzoth.isolation.run import Verification

pytestmark = pytest.mark.slow

FILE = "/v1/files/{file_id}"
OF_FILES = tuple(
    route
    for route in ROUTES
    if route.pattern.startswith("/v1/files") or route.pattern == "/v1/organization/projects"
)
"""And of projects, whose names are what a search of the database has to find."""
Handler = Callable[[Call], Awaitable[Answer]]


def verification(dsn: str, data_dir: Path, url: str, **more: Any) -> Verification:
    """Of what concerns files, without times, unless `more` says otherwise."""
    return Verification(
        dsn=dsn,
        pepper=keys.load_pepper(data_dir),
        accounts=config_of(data_dir).accounts,
        data_dir=data_dir,
        is_embedded=False,
        url=url,
        **{"num_turns": 0, "routes": OF_FILES, **more},
    )


def with_handler(method: str, pattern: str, handler: Handler) -> tuple[Route, ...]:
    """The table with one line changed."""
    return tuple(
        replace(route, handler=handler)
        if (route.method, route.pattern) == (method, pattern)
        else route
        for route in ROUTES
    )


def report_of(dsn: str, data_dir: Path, served: tuple[Route, ...] = ROUTES, **more: Any) -> Report:
    async def main() -> Report:
        async with gateway(dsn, data_dir, served) as url:
            return await verification(dsn, data_dir, url, **more).run()

    return asyncio.run(main())


def bad(report: Report) -> dict[str, str]:
    """What is seen from the other tenant. What its own tenant's other project sees has a note."""
    found = {check.name: check.reason for check in report.checks if not check.is_good}
    return {name: reason for name, reason in found.items() if not name.endswith("projects)")}


def living_tenants(dsn: str) -> list[str]:
    return [t.name for t in asyncio.run(directory.list_tenants(dsn)) if t.deleted_at is None]


def test_a_gateway_as_it_is_passes_and_keeps_nothing(dsn: str, tmp_path: Path) -> None:
    report = report_of(dsn, tmp_path, routes=ROUTES)
    assert report.has_passed, [check for check in report.checks if not check.is_good]
    assert living_tenants(dsn) == [directory.DEFAULT_TENANT]
    areas = {check.area for check in report.checks}
    assert areas > {"ids in paths", "references", "lists", "data at rest", "after the deletion"}
    named = " ".join(check.name for check in report.checks)
    for route in ROUTES:
        key = (route.method, route.pattern)
        if "{" in route.pattern and key not in recipes.NOT_A_TENANTS:
            assert " ".join(key) in named


def test_every_route_with_parameters_is_probed_or_said_not_to_be(dsn: str, tmp_path: Path) -> None:
    strange = Route("GET", "/v1/things/{thing_id}", "files:read", files.retrieve)
    silent = Route("POST", "/v1/things", "files:write", files.create)
    bodiless = Route("POST", FILE, "files:write", files.create, takes_body=True)

    async def main() -> Report:
        async with gateway(dsn, tmp_path) as url:
            routes = (*OF_FILES, strange, silent, bodiless)
            return await verification(dsn, tmp_path, url, routes=routes).run()

    report = asyncio.run(main())
    assert set(bad(report)) == {f"{r.method} {r.pattern}" for r in (strange, silent, bodiless)}
    assert {check.state for check in report.checks if not check.is_good} == {"not probed"}


def file_of_anybody(dsn: str) -> Handler:
    """What a handler does that forgot the tenant."""

    async def retrieve(call: Call) -> Answer:
        async with pool.operator(dsn) as connection:
            purpose = await connection.fetchval(
                "SELECT purpose FROM anzoth.files WHERE id = $1", files.file_id(call)
            )
        if purpose is None:
            return await files.retrieve(call)
        return Response(200, orjson.dumps({"id": files.file_id(call), "purpose": purpose}))

    return retrieve


def test_a_route_that_forgot_the_tenant_fails(dsn: str, tmp_path: Path) -> None:
    report = report_of(dsn, tmp_path, with_handler("GET", FILE, file_of_anybody(dsn)))
    assert bad(report) == {f"GET {FILE}": "the status is 200, for an unknown id 404"}


def test_a_refusal_that_says_more_of_a_foreign_id_fails(dsn: str, tmp_path: Path) -> None:
    async def retrieve(call: Call) -> Answer:
        async with pool.operator(dsn) as connection:
            owner = await connection.fetchval(
                "SELECT tenant_id FROM anzoth.files WHERE id = $1", files.file_id(call)
            )
        if owner in (None, call.principal.tenant.id):
            return await files.retrieve(call)
        return Response(404, orjson.dumps({"error": {"message": f"It belongs to {owner}."}}))

    found = bad(report_of(dsn, tmp_path, with_handler("GET", FILE, retrieve)))
    assert set(found) == {
        f"GET {FILE}",
        "no answer to the other showed anything of the first",
    }
    assert "shows the id of the other's tenant" in " ".join(found.values())


def test_a_foreign_id_that_takes_longer_fails(dsn: str, tmp_path: Path) -> None:
    async def retrieve(call: Call) -> Answer:
        async with pool.operator(dsn) as connection:
            owner = await connection.fetchval(
                "SELECT tenant_id FROM anzoth.files WHERE id = $1", files.file_id(call)
            )
        if owner not in (None, call.principal.tenant.id):
            await asyncio.sleep(0.2)
        return await files.retrieve(call)

    routes = with_handler("GET", FILE, retrieve)
    found = bad(report_of(dsn, tmp_path, routes, num_turns=4))
    assert set(found) == {f"GET {FILE}"}
    assert "more than an unknown id" in found[f"GET {FILE}"]


def test_a_list_of_everybodys_files_fails(dsn: str, tmp_path: Path) -> None:
    async def list_all(call: Call) -> Answer:
        async with pool.operator(dsn) as connection:
            rows = await connection.fetch("SELECT id FROM anzoth.files WHERE deleted_at IS NULL")
        data = [{"id": row["id"]} for row in rows]
        return Response(200, orjson.dumps({"object": "list", "data": data}))

    found = bad(report_of(dsn, tmp_path, with_handler("GET", "/v1/files", list_all)))
    assert "shows the id of the other's file" in found["GET /v1/files"]


def test_what_is_written_in_clear_is_found(dsn: str, tmp_path: Path) -> None:
    async def retrieve(call: Call) -> Answer:
        answer = await files.retrieve(call)
        assert isinstance(answer, Response)
        with (tmp_path / "debug.log").open("ab") as log:
            log.write(answer.body)
        return answer

    found = bad(report_of(dsn, tmp_path, with_handler("GET", FILE, retrieve)))
    assert found
    assert all("debug.log holds the canary in documents" in reason for reason in found.values())


def test_a_change_by_the_other_tenant_fails(dsn: str, tmp_path: Path) -> None:
    async def delete(call: Call) -> Answer:
        async with pool.operator(dsn) as connection:
            await connection.execute(
                "UPDATE anzoth.files SET deleted_at = now(), filename = NULL, layout = NULL "
                "WHERE id = $1",
                files.file_id(call),
            )
        return await files.delete(call)  # which says 404, as if nothing had happened

    found = bad(report_of(dsn, tmp_path, with_handler("DELETE", FILE, delete)))
    assert set(found) == {"everything of the first tenant is as it was"}
    assert FILE in found["everything of the first tenant is as it was"]


# --- whatever happens, the tenants are deleted ------------------------------------------------


def test_an_interrupted_verification_deletes_its_tenants(dsn: str, tmp_path: Path) -> None:
    async def main() -> None:
        began = asyncio.Event()

        async def hang(call: Call) -> Answer:
            began.set()
            await asyncio.sleep(3600)
            raise AssertionError

        async with gateway(dsn, tmp_path, with_handler("GET", FILE, hang)) as url:
            running = asyncio.create_task(verification(dsn, tmp_path, url).run())
            await began.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(main())
    assert living_tenants(dsn) == [directory.DEFAULT_TENANT]


def test_what_a_killed_verification_left_is_deleted_by_the_next(dsn: str, tmp_path: Path) -> None:
    async def main() -> Report:
        async with gateway(dsn, tmp_path) as url:
            verified = verification(dsn, tmp_path, url)
            name = tenants.new_names()[0]
            await tenants.make(dsn, verified.pepper, verified.accounts, name)
            return await verified.run()

    assert asyncio.run(main()).has_passed
    assert living_tenants(dsn) == [directory.DEFAULT_TENANT]


def test_two_verifications_at_once_are_refused(dsn: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with gateway(dsn, tmp_path) as url, tenants.only_run(dsn):
            with pytest.raises(DirectoryError, match="another"):
                await verification(dsn, tmp_path, url).run()

    asyncio.run(main())


def test_a_server_that_is_away_or_anothers_is_said_so(dsn: str, tmp_path: Path) -> None:
    async def away() -> None:
        await verification(dsn, tmp_path, "http://127.0.0.1:9/v1").run()

    async def anothers() -> None:
        (tmp_path / "other").mkdir()
        async with gateway(dsn, tmp_path) as url:
            with pytest.raises(ControlError, match="does not know the keys"):
                await verification(dsn, tmp_path / "other", url).run()

    with pytest.raises(NotReached):
        asyncio.run(away())
    asyncio.run(anothers())
    assert living_tenants(dsn) == [directory.DEFAULT_TENANT]
