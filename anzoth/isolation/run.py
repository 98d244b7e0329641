"""In which order is an installation verified?

    two tenants ─▶ each has one of everything ─▶ the second tries to see the first's ─▶
    what stands on the disk ─▶ the first is deleted ─▶ what is left of it ─▶ the second is deleted

Both are deleted however it ends.

Does not know: any check.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from anzoth.account_config import AccountsConfig
from anzoth.api.call import Route
from anzoth.api.routes import ROUTES
from anzoth.control import ControlError
from anzoth.db.errors import DatabaseError
from anzoth.gateway.directory_checks import DirectoryError
from anzoth.gateway.keys import Pepper
from anzoth.isolation import chats, client, ending, mcp, probing, recipes, showing, tenants
from anzoth.isolation.belongings import OF_PROJECTS, CannotPlant, Kind, Owner, Planter
from anzoth.isolation.client import NOBODY, AsksServer
from anzoth.isolation.places import Places
from anzoth.isolation.probing import Prober
from anzoth.isolation.report import Check, Report, failed, passed
from anzoth.isolation.tenants import Party

_PLANTING = "having"
_CLEAN_UP_S = 60.0
_UNAUTHORIZED = 401

Tell = Callable[[str], None]
"""What is going on, for whoever waits."""


@dataclass(slots=True)
class Verification:
    """Of one installation: where its database and its files are, and where it answers."""

    dsn: str
    pepper: Pepper
    accounts: AccountsConfig
    data_dir: Path
    is_embedded: bool
    url: str
    num_turns: int
    routes: Sequence[Route] = ROUTES
    tell: Tell = lambda sentence: None
    _checks: list[Check] = field(default_factory=list)

    async def run(self) -> Report:
        """Raises NotReached, ControlError, DirectoryError and DatabaseError where there was nothing
        to verify."""
        started_at = datetime.now(UTC)
        names = tenants.new_names()
        async with AsksServer(self.url) as server:
            await server.ask(NOBODY, "GET", "/healthz")  # before anything is made
            async with tenants.only_run(self.dsn):
                for name in await tenants.leftovers(self.dsn):
                    await tenants.end(self.dsn, name)
                    self.tell(f"Deleted {name}, which an earlier verification had left.")
                living: list[str] = []
                try:
                    await self._verify(server, names, living)
                finally:
                    await self._end(living)
        return Report(
            metadata.version("anzoth"),
            self.url,
            names,
            started_at,
            datetime.now(UTC),
            tuple(self._checks),
        )

    async def _verify(self, server: AsksServer, names: Sequence[str], living: list[str]) -> None:
        places = Places(self.dsn, self.data_dir, self.is_embedded, time.time())
        self.tell("Making two tenants.")
        a, b = [await self._tenant(name, living) for name in names]
        await self._require_same_installation(server, a)
        planter = Planter(server, frozenset((r.method, r.pattern) for r in self.routes))
        try:
            owners = [a, b, *await self._plant(planter, a, b)]
        except CannotPlant as error:
            self._checks.append(failed(_PLANTING, "a tenant has one of everything", str(error)))
            return
        await self._probe(server, owners)
        self.tell("Searching the disk and the database.")
        self._checks += await places.search(owners, "while it lives", await _metrics(server))
        self.tell(f"Deleting {a.party.name}.")
        had_index = await ending.has_index(a, self.data_dir)
        await tenants.end(self.dsn, a.party.name)
        living.remove(a.party.name)
        self._checks += await ending.gone(server, a, self.dsn)
        if Kind.STORE in a.ids:
            self._checks.append(await ending.index_gone(a, self.data_dir, had_index))
        self._checks += await places.search(owners, "after the deletion", await _metrics(server))
        await self._require_still_there(server, b)

    async def _tenant(self, name: str, living: list[str]) -> Owner:
        living.append(name)
        return self._owner(await tenants.make(self.dsn, self.pepper, self.accounts, name))

    def _owner(self, party: Party) -> Owner:
        return Owner(
            party,
            infers=client.with_key(party.infers.key.text),
            manages=client.with_key(party.manages.key.text),
            browser=client.with_session(party, self.accounts.public_url),
        )

    async def _require_same_installation(self, server: AsksServer, owner: Owner) -> None:
        answer = await server.ask(owner.infers, "GET", "/v1/models")
        if answer.status == _UNAUTHORIZED:
            raise ControlError(
                f"the server at {self.url} does not know the keys of this database: is it another "
                "installation's?"
            )

    async def _plant(self, planter: Planter, a: Owner, b: Owner) -> list[Owner]:
        """Returns the first tenant's second project, where it can have one. Raises CannotPlant."""
        self.tell("Filling them: one of everything that a tenant can have.")
        a.model = b.model = await planter.find_model(a)
        await planter.plant(a)
        self._checks += await showing.prefix_cache(planter, a, b)
        await planter.plant(b)
        kinds = sorted(a.ids)
        self._checks.append(passed(_PLANTING, "a tenant has one of everything", kinds=kinds))
        if (project := a.ids.get(Kind.PROJECT_NAME)) is None:
            return []
        c = self._owner(await tenants.in_project(self.dsn, self.pepper, a.party, project))
        c.model = a.model
        routes = frozenset((r.method, r.pattern) for r in self._of_projects())
        await replace(planter, routes=routes).plant(c)
        return [c]

    def _of_projects(self) -> list[Route]:
        return [r for r in self.routes if r.pattern.startswith(recipes.OF_PROJECTS)]

    async def _probe(self, server: AsksServer, owners: Sequence[Owner]) -> None:
        a, b, *projects = owners
        before = await showing.seen_by_owner(server, a, self.routes)
        self._checks += showing.unknown_routes(self.routes)
        for c in projects:
            self.tell("Asking from another project of the same tenant.")
            within = Prober(server, a, c, self.num_turns, OF_PROJECTS)
            await self._ask_for_everything(within, self._of_projects(), " (between projects)")
        self.tell("Asking from the other tenant, in turns for foreign and for unknown ids.")
        await self._ask_for_everything(Prober(server, a, b, self.num_turns), self.routes)
        self._checks += probing.together(self._checks)
        after = await showing.seen_by_owner(server, a, self.routes)
        self._checks += showing.untouched(before, after)

    async def _ask_for_everything(
        self, prober: Prober, routes: Sequence[Route], note: str = ""
    ) -> None:
        checks = await showing.lists(prober, routes)
        checks += await showing.searches(prober, routes)
        checks += await mcp.answers(prober, routes)
        checks += await prober.references(routes, that_make=False)
        checks += await prober.ids_in_paths(routes)
        checks += await prober.references(routes, that_make=True)
        checks += await chats.answers(prober)
        checks.append(prober.witness.check())
        self._checks += [replace(check, name=check.name + note) for check in checks]

    async def _require_still_there(self, server: AsksServer, b: Owner) -> None:
        """Everything above was asked by somebody who may ask."""
        name = "the other tenant could ask until the end"
        answers = [
            await server.ask(who, "GET", path)
            for who, path in (
                (b.infers, "/v1/models"),
                (b.manages, "/v1/organization/projects"),
                (b.browser, "/v1/auth/session"),
            )
        ]
        statuses = [answer.status for answer in answers]
        if all(answer.is_success for answer in answers):
            self._checks.append(passed(probing.WITNESS, name, statuses=statuses))
        else:
            self._checks.append(failed(probing.WITNESS, name, "it was refused", statuses=statuses))

    async def _end(self, living: Sequence[str]) -> None:
        """Whatever happened, and also when it was cancelled: then it takes a moment longer."""
        ended = asyncio.ensure_future(self._end_all(living))
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            await asyncio.wait({ended}, timeout=_CLEAN_UP_S)
            raise

    async def _end_all(self, living: Sequence[str]) -> None:
        for name in living:
            try:
                if await tenants.end(self.dsn, name):
                    self.tell(f"Deleted {name}.")
            except (DirectoryError, DatabaseError) as error:
                self.tell(f"{name} was not deleted ({error}): anzoth tenants delete {name}")


async def _metrics(server: AsksServer) -> bytes:
    return (await server.ask(NOBODY, "GET", "/metrics")).body
