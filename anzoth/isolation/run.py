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
from dataclasses import dataclass, field
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
from anzoth.isolation import client, ending, probing, showing, tenants
from anzoth.isolation.belongings import CannotPlant, Owner, Planter
from anzoth.isolation.client import NOBODY, AsksServer
from anzoth.isolation.places import Places
from anzoth.isolation.probing import Prober
from anzoth.isolation.report import Check, Report, failed, passed

_PLANTING, _WITNESS = "having", "witness"
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
        a, b = [await self._owner(name, living) for name in names]
        await self._require_same_installation(server, a)
        prober = Prober(server, a, b, self.num_turns)
        try:
            await self._plant(server, prober)
        except CannotPlant as error:
            self._checks.append(failed(_PLANTING, "a tenant has one of everything", str(error)))
            return
        await self._probe(prober)
        self.tell("Searching the disk and the database.")
        self._checks += await places.search([a, b], "while it lives", await _metrics(server))
        self.tell(f"Deleting {a.party.name}.")
        await tenants.end(self.dsn, a.party.name)
        living.remove(a.party.name)
        self._checks += await ending.gone(server, a, self.dsn, self.data_dir)
        self._checks += await places.search([a, b], "after the deletion", await _metrics(server))
        await self._require_still_there(server, b)

    async def _owner(self, name: str, living: list[str]) -> Owner:
        living.append(name)
        party = await tenants.make(self.dsn, self.pepper, self.accounts, name)
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

    async def _plant(self, server: AsksServer, prober: Prober) -> None:
        self.tell("Filling them: one of everything that a tenant can have.")
        a, b = prober.a, prober.b
        planter = Planter(server, frozenset((r.method, r.pattern) for r in self.routes))
        a.model = b.model = await planter.find_model(a)
        await planter.plant(a)
        self._checks += await showing.prefix_cache(planter, prober)
        await planter.plant(b)
        kinds = sorted(a.ids)
        self._checks.append(passed(_PLANTING, "a tenant has one of everything", kinds=kinds))

    async def _probe(self, prober: Prober) -> None:
        routes = self.routes
        before = await showing.seen_by_owner(prober, routes)
        self._checks += showing.unknown_routes(routes)
        self.tell("Looking at every list, search and conversation.")
        self._checks += await showing.lists(prober, routes)
        self._checks += await showing.searches(prober, routes)
        self.tell("Asking for every foreign id, in turns with unknown ones.")
        self._checks += await prober.references(routes)
        self._checks += await prober.ids_in_paths(routes)
        self._checks += probing.together(self._checks)
        after = await showing.seen_by_owner(prober, routes)
        self._checks += showing.untouched(before, after)
        name = "no answer to the other tenant showed anything of the first"
        witness = prober.witness
        if witness.seen:
            self._checks.append(failed(_WITNESS, name, "; ".join(dict.fromkeys(witness.seen))))
        else:
            self._checks.append(passed(_WITNESS, name, num_answers=witness.num_answers))

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
            self._checks.append(passed(_WITNESS, name, statuses=statuses))
        else:
            self._checks.append(failed(_WITNESS, name, "it was refused", statuses=statuses))

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
