"""A Hypothesis machine whose steps are a table: what can happen, and to whom.

Does not know: what can happen (see `test_random_operations`).
"""

from __future__ import annotations

import asyncio
import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import marked_files
import snapshot_damage
import tenants_model
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from marked_files import COMMON, KINDS, Words
from snapshot_damage import Kept
from stores_model import File, Placed, Store
from tenants_model import Party
from two_gateways import Background, Node, TwoGateways

from anzoth.index.snapshot import QUARANTINE

COLOURS = ("red", "blue")
RANKINGS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"fusion": "convex"},
    {"fusion": "rrf"},
    {"hybrid_search": {"embedding_weight": 0, "text_weight": 1}},
)
MAX_STORES = 4
MAX_FILES = 5
"""In a store, so that one search shows all of it."""

_COLOURED = {"colour": st.sampled_from(COLOURS)}
_DATED = {"year": st.integers(2020, 2026)}
ATTRIBUTES = (
    st.fixed_dictionaries(_COLOURED, optional=_DATED)
    | st.fixed_dictionaries({}, optional=_DATED)
    | st.none()
)

Draw = st.DataObject
Act = Callable[["Machine", Draw], None]


@dataclass(slots=True, frozen=True)
class Action:
    run: Act
    when: Callable[[Machine], object]
    weight: int


ACTIONS: dict[str, Action] = {}


def action(
    when: Callable[[Machine], object] = lambda machine: True, weight: int = 2
) -> Callable[[Act], Act]:
    """One of the things that can happen, `when` it can. `weight`: how often, beside others."""

    def add(run: Act) -> Act:
        ACTIONS[run.__name__] = Action(run, when, weight)
        return run

    return add


class Machine(RuleBasedStateMachine):
    """One example: three parties that nobody had before.

    There is one rule, which draws what happens. Hypothesis would leave out half of the rules in
    each example, and the suite has three.
    """

    def __init__(
        self, site: TwoGateways, run: Background, words: Words, seen: Counter[str]
    ) -> None:
        super().__init__()
        self.site = site
        self.words = words
        self.seen = seen
        self.parties: list[Party] = []
        self.kept: dict[tuple[Node, Store], Kept] = {}
        """Snapshots as they were once."""
        self.turn = 0
        self.is_broken = False
        self._run = run

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What it returns. Hypothesis does not show an error that does not come a second time."""
        try:
            return self._run(work)
        except BaseException:
            self.is_broken = True
            traceback.print_exc()
            raise

    @initialize(kinds=st.lists(st.sampled_from(list(KINDS)), min_size=3, max_size=3))
    def begin(self, kinds: list[str]) -> None:
        async def one(party: Party, kind: str) -> None:
            node = self.site.nodes[0]
            document = marked_files.make(self.words, party, kind, 2)
            store = await party.create_store(node, [await party.upload(node, document)])
            await party.settle(node, store)

        async def work() -> None:
            if not self.site.can_embed:
                await self.site.start_embedding()
            self.parties = await tenants_model.make_parties(self.site, self.words)
            await asyncio.gather(*map(one, self.parties, kinds))
            await self.search_all(self.site.nodes[1])

        self.run(work())

    @rule(data=st.data())
    def act(self, data: Draw) -> None:
        can = [name for name, one in ACTIONS.items() for _ in range(one.weight) if one.when(self)]
        # The first example of Hypothesis draws the first of everything: so it goes through all.
        names = list(ACTIONS)
        while (turn := names[self.turn % len(names)]) not in can:
            self.turn += 1
        self.turn += 1
        first = can.index(turn)
        name = data.draw(st.sampled_from(can[first:] + can[:first]), "what happens")
        ACTIONS[name].run(self, data)
        self.seen[name] += 1

    def teardown(self) -> None:
        if not self.is_broken:
            self.run(self._end())

    async def _end(self) -> None:
        if not self.site.can_embed:
            await self.site.start_embedding()
        for party in self.living():
            for store in party.usable():
                await party.settle(self.site.nodes[0], store)
        for node in self.site.nodes:
            await self.search_all(node)
            stats = node.indexes.client.last_stats
            self.seen["evictions"] += 0 if stats is None else stats.evictions

    # --- what is there ------------------------------------------------------------------------

    def node(self, data: Draw) -> Node:
        return data.draw(st.sampled_from(self.site.nodes))

    def living(self) -> list[Party]:
        return [party for party in self.parties if not party.is_ended]

    def some(self, data: Draw, having: Callable[[Party], object]) -> Party:
        return data.draw(st.sampled_from([party for party in self.living() if having(party)]))

    def some_store(
        self, data: Draw, having: Callable[[Store], object] = lambda store: True
    ) -> tuple[Party, Store]:
        """One that has not expired."""
        party = self.some(data, lambda party: any(map(having, party.usable())))
        return party, data.draw(st.sampled_from(list(filter(having, party.usable()))))

    def some_placed(self, data: Draw) -> tuple[Party, Store, Placed]:
        party, store = self.some_store(data, lambda store: store.files)
        return party, store, data.draw(st.sampled_from(list(store.files.values())))

    def some_file(self, data: Draw) -> tuple[Party, File]:
        party = self.some(data, lambda party: party.files)
        return party, data.draw(st.sampled_from(list(party.files.values())))

    def some_room(self, data: Draw) -> tuple[Party, Store]:
        party = self.some(data, party_has_room)
        return party, data.draw(st.sampled_from(list(filter(room, party.usable()))))

    def some_word(self, data: Draw, party: Party, store: Store) -> str:
        """Of a file in the store, of all, that is not there any more, or of somebody else."""
        own = [word for p in store.files.values() for word in p.file.document.words]
        foreign = [
            file.document.words[0]
            for other in self.parties
            if other is not party
            for file in other.files.values()
        ]
        kinds = {"own": own, "common": [COMMON], "gone": party.gone, "foreign": foreign}
        kind = data.draw(st.sampled_from([kind for kind, words in kinds.items() if words]))
        return data.draw(st.sampled_from(kinds[kind]))

    def looks(self, data: Draw, party: Party, *stores: Store) -> None:
        """Perhaps each gateway is asked now, and not only when more has changed."""
        if not data.draw(st.sampled_from([True, False]), "is searched"):
            return
        colour = data.draw(st.sampled_from(COLOURS))
        for node in self.site.nodes:
            for store in stores:
                self.run(party.search(node, store, COMMON))
                self.run(party.search(node, store, COMMON, colour))

    async def settled(self, node: Node, party: Party, store: Store) -> None:
        if self.site.can_embed:
            await party.settle(node, store)

    async def search_all(self, node: Node) -> None:
        for party in self.living():
            for store in party.usable():
                await party.search(node, store, COMMON)

    async def generation(self, node: Node, party: Party, store: Store) -> int:
        """That the database knows of this gateway's index."""
        async with node.services.files.database.tenant(party.tenant) as connection:
            found = await connection.fetchval(
                "SELECT generation FROM anzoth.index_generations "
                "WHERE store_id = $1 AND gateway = $2",
                *(store.id, node.indexes.gateway),
            )
        return found or 0

    async def damage(
        self, how: str | None, node: Node, party: Party, store: Store, seed: int
    ) -> bool:
        """What is on the disk of a store, if anything is. Whether it must be refused now."""
        folders = {
            one: folder
            for of in self.living()
            for one in of.usable()
            if (folder := node.folder_of(of.tenant.id, one.id)).is_dir()
            and snapshot_damage.generation_of(snapshot_damage.keep(folder))
        }
        then = self.kept.get((node, store), {})
        self.kept |= {(node, one): snapshot_damage.keep(at) for one, at in folders.items()}
        folder = folders.pop(store, None)
        shutil.rmtree(node.folder_of(party.tenant.id, store.id) / QUARANTINE, ignore_errors=True)
        if how is None or folder is None or (how == "rolled back" and not then):
            return False
        if how == "rolled back":
            known = await self.generation(node, party, store)
            snapshot_damage.put_back(folder, then)
            is_refused = snapshot_damage.generation_of(then) < known
        else:
            is_refused = snapshot_damage.try_damage(how, folder, [*folders.values()], seed)
        self.seen["refused snapshots"] += is_refused
        return is_refused


def room(store: Store) -> int:
    return MAX_FILES - len(store.files)


def party_has_room(party: Party) -> bool:
    return bool(party.files) and any(map(room, party.usable()))


def is_whole(party: Party) -> bool:
    return bool(party.files and party.usable())


def has_file(machine: Machine) -> bool:
    return any(party.files for party in machine.living())


def has_store(machine: Machine) -> bool:
    return any(party.usable() for party in machine.living())


def has_placed(machine: Machine) -> bool:
    return any(store.files for party in machine.living() for store in party.usable())


def has_room(machine: Machine) -> bool:
    return any(map(party_has_room, machine.living()))
