"""Tenants, their stores and files, against dictionaries: whatever happens, in whatever order.

Through the HTTP API of two gateways on one database, with real retrievers that hold two stores at a
time, and real parsers. In the suite it is short, and the same each time; ANZOTH_TEST_EXAMPLES makes
it long, and another one each time (see bench/README.md).

What holds throughout:

- A search finds each chunk that the dictionary has, once, with its text, and no other.
- No answer to anybody has a word of anybody else: of another tenant, or of another project.
- An id of somebody else is answered like one that never was.
- What is `completed` is found from that moment on, what was deleted is never found again.
- No word stands in a log, in metrics, in the database or in a file in the clear.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import canary_places
import httpx2
import marked_files
import pytest
import snapshot_damage
import tenants_model
from canaries import Canaries
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from marked_files import COMMON, HOSTILE, KINDS, Words
from snapshot_damage import DAMAGES, Kept
from tenants_model import File, Party, Placed, Store
from two_gateways import Background, Node, TwoGateways

from anzoth.index.snapshot import QUARANTINE

pytestmark = pytest.mark.slow

NUM_EXAMPLES = int(os.environ.get("ANZOTH_TEST_EXAMPLES", "0"))
"""0: as it is in the suite."""
SETTINGS = settings(
    max_examples=NUM_EXAMPLES or 3,
    stateful_step_count=50 if NUM_EXAMPLES else 35,
    derandomize=not NUM_EXAMPLES,
    phases=[Phase.generate],  # to make it smaller would take an hour
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
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
        self.run = run

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
        self.is_broken = True
        ACTIONS[name].run(self, data)
        self.is_broken = False
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
        party = self.some(data, _has_room)
        return party, data.draw(st.sampled_from(list(filter(_room, party.usable()))))

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
            snapshot_damage.damage(how, folder, list(folders.values()), seed)
            is_refused = True
        self.seen["refused snapshots"] += is_refused
        return is_refused


def _room(store: Store) -> int:
    return MAX_FILES - len(store.files)


def _has_room(party: Party) -> bool:
    return bool(party.files) and any(map(_room, party.usable()))


def _is_whole(party: Party) -> bool:
    return bool(party.files and party.usable())


def has_file(machine: Machine) -> bool:
    return any(party.files for party in machine.living())


def has_store(machine: Machine) -> bool:
    return any(party.usable() for party in machine.living())


def has_placed(machine: Machine) -> bool:
    return any(store.files for party in machine.living() for store in party.usable())


def has_room(machine: Machine) -> bool:
    return any(map(_has_room, machine.living()))


# --- looking --------------------------------------------------------------------------------------


@action(has_store, weight=8)
def search(machine: Machine, data: Draw) -> None:
    party, store = machine.some_store(data)
    word = machine.some_word(data, party, store)
    colour = data.draw(st.sampled_from([None, *COLOURS]))
    ranking = data.draw(st.sampled_from(RANKINGS))
    machine.run(party.search(machine.node(data), store, word, colour, ranking))


@action(has_store, weight=4)
def chat(machine: Machine, data: Draw) -> None:
    party, store = machine.some_store(data)
    more = data.draw(st.sampled_from(party.usable()))
    word = machine.some_word(data, party, store)
    ranking = data.draw(st.sampled_from(RANKINGS))
    machine.run(party.chat(machine.node(data), list({store: 0, more: 0}), word, ranking))


@action(has_store, weight=3)
def search_everywhere(machine: Machine, data: Draw) -> None:
    """More stores than are held in memory: each is put aside for another."""
    machine.run(machine.search_all(machine.node(data)))


@action()
def look(machine: Machine, data: Draw) -> None:
    machine.run(machine.some(data, bool).look(machine.node(data)))


@action(lambda machine: sum(map(_is_whole, machine.living())) > 1, weight=1)
def name_foreign_ids(machine: Machine, data: Draw) -> None:
    """They are like ids of nobody."""
    whole = list(filter(_is_whole, machine.living()))
    party, node = data.draw(st.sampled_from(whole)), machine.node(data)
    for other in whole:
        if other is not party:
            machine.run(party.name_foreign_ids(node, other))


# --- files ----------------------------------------------------------------------------------------


@action(weight=3)
def upload(machine: Machine, data: Draw) -> None:
    party, node = machine.some(data, bool), machine.node(data)
    kind = data.draw(st.sampled_from(list(KINDS)))
    num_sections, is_static = data.draw(st.integers(1, 3)), data.draw(st.booleans())
    document = marked_files.make(machine.words, party, kind, num_sections, is_static=is_static)
    machine.run(party.upload(node, document))


@action(has_file)
def upload_again(machine: Machine, data: Draw) -> None:
    """Another file that says the same, perhaps beside the first."""
    party, file = machine.some_file(data)
    node = machine.node(data)
    copy = machine.run(party.upload(node, file.document))
    holding = [store for store in party.usable() if file.id in store.files and _room(store)]
    for store in holding[:1]:
        attributes = data.draw(ATTRIBUTES)
        machine.run(party.attach(node, store, copy, attributes))
        machine.run(machine.settled(node, party, store))
        machine.looks(data, party, store)


@action(has_file)
def delete_file(machine: Machine, data: Draw) -> None:
    party, file = machine.some_file(data)
    holding = [store for store in party.usable() if file.id in store.files]
    machine.run(party.delete_file(machine.node(data), file))
    machine.looks(data, party, *holding)


# --- stores ---------------------------------------------------------------------------------------


@action(lambda machine: any(len(party.stores) < MAX_STORES for party in machine.living()))
def create_store(machine: Machine, data: Draw) -> None:
    party = machine.some(data, lambda party: len(party.stores) < MAX_STORES)
    node = machine.node(data)
    files = [file for file in party.files.values() if file.document.chunking is None]
    wanted = data.draw(st.sets(st.sampled_from(files), max_size=2)) if files else set()

    async def work() -> None:
        store = await party.create_store(node, [file for file in files if file in wanted])
        await machine.settled(node, party, store)

    machine.run(work())


@action(has_store, weight=1)
def modify_store(machine: Machine, data: Draw) -> None:
    party, store = machine.some_store(data)
    machine.run(party.modify_store(machine.node(data), store))


@action(has_store, weight=1)
def delete_store(machine: Machine, data: Draw) -> None:
    party, store = machine.some_store(data)
    machine.run(party.delete_store(machine.node(data), store))


@action(has_store, weight=1)
def expire_store(machine: Machine, data: Draw) -> None:
    """And use it all the same."""
    party, store = machine.some_store(data)
    node = machine.node(data)

    async def work() -> None:
        await party.expire_store(node, store)
        await party.use_expired(node, store)

    machine.run(work())


# --- files in stores ------------------------------------------------------------------------------


@action(has_room, weight=5)
def attach(machine: Machine, data: Draw) -> None:
    party, store = machine.some_room(data)
    node, file = machine.node(data), data.draw(st.sampled_from(list(party.files.values())))
    attributes, waits = data.draw(ATTRIBUTES), data.draw(st.booleans())

    async def work() -> None:
        await party.refresh(node, store)
        await party.attach(node, store, file, attributes)
        if waits:
            await machine.settled(node, party, store)

    machine.run(work())
    machine.looks(data, party, store)


@action(has_room, weight=3)
def attach_batch(machine: Machine, data: Draw) -> None:
    party, store = machine.some_room(data)
    files = list(party.files.values())
    some = data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=_room(store)))
    wanted = {file: data.draw(ATTRIBUTES) for file in dict.fromkeys(some)}
    node, other = machine.node(data), machine.node(data)
    cancels, waits = data.draw(st.booleans()), data.draw(st.booleans())

    async def work() -> None:
        await party.refresh(node, store)
        batch = await party.attach_batch(node, store, wanted)
        if cancels:
            await party.cancel_batch(other, store, batch)
        if waits:
            await machine.settled(node, party, store)

    machine.run(work())
    machine.looks(data, party, store)


@action(has_room)
def attach_hostile(machine: Machine, data: Draw) -> None:
    """It fails, and others go on."""
    party, store = machine.some_room(data)
    node, kind = machine.node(data), data.draw(st.sampled_from(list(HOSTILE)))

    async def work() -> None:
        document = marked_files.make_hostile(machine.words, party, kind)
        await party.attach(node, store, await party.upload(node, document), None)
        await machine.settled(node, party, store)

    machine.run(work())


@action(has_placed)
def set_attributes(machine: Machine, data: Draw) -> None:
    party, store, placed = machine.some_placed(data)
    attributes = data.draw(ATTRIBUTES) or {}
    machine.run(party.set_attributes(machine.node(data), store, placed, attributes))
    machine.looks(data, party, store)


@action(has_placed, weight=3)
def detach(machine: Machine, data: Draw) -> None:
    """And perhaps attach it again at once."""
    party, store, placed = machine.some_placed(data)
    node, other, attaches = machine.node(data), machine.node(data), data.draw(st.booleans())

    async def work() -> None:
        await party.detach(node, store, placed)
        if attaches:
            await party.attach(other, store, placed.file, None)

    machine.run(work())
    machine.looks(data, party, store)


# --- processes and disks --------------------------------------------------------------------------


@action(has_store)
def restart_retriever(machine: Machine, data: Draw) -> None:
    """And damage what it wrote of a store, which it then refuses and has replaced."""
    (party, store), node = machine.some_store(data), machine.node(data)
    number = data.draw(st.sampled_from([signal.SIGTERM, signal.SIGKILL]))
    how = data.draw(st.sampled_from([*DAMAGES, "rolled back", None]))
    seed = data.draw(st.integers(0, 1000))

    async def work() -> None:
        await node.end_retriever(number)
        for other in machine.living():
            await other.search_in_vain(node)
        is_refused = await machine.damage(how, node, party, store, seed)
        await node.start_retriever()
        await party.search(node, store, COMMON)
        aside = node.folder_of(party.tenant.id, store.id) / QUARANTINE
        assert aside.is_dir() or not is_refused

    machine.run(work())


@action(lambda machine: machine.site.can_embed, weight=1)
def restart_gateway(machine: Machine, data: Draw) -> None:
    node = machine.node(data)

    async def work() -> None:
        await node.stop()
        await node.start()

    machine.run(work())


@action(lambda machine: machine.site.can_embed and has_store(machine), weight=1)
def lose_embedder(machine: Machine, data: Draw) -> None:
    """Then words alone decide, and files wait."""
    party, store = machine.some_store(data)
    word = machine.some_word(data, party, store)
    machine.run(machine.site.stop_embedding())
    machine.run(party.search(machine.node(data), store, word))


@action(lambda machine: not machine.site.can_embed, weight=6)
def find_embedder(machine: Machine, data: Draw) -> None:
    machine.run(machine.site.start_embedding())


@action(lambda machine: len(machine.living()) == len(machine.parties), weight=1)
def end_tenant(machine: Machine, data: Draw) -> None:
    tenant = data.draw(st.sampled_from([machine.parties[0], machine.parties[-1]])).tenant
    ended = [party for party in machine.parties if party.tenant.id == tenant.id]
    machine.run(tenants_model.end(machine.site, tenant, ended))


# --- what is written down -------------------------------------------------------------------------


def told(site: TwoGateways, run: Background, records: str) -> Iterator[tuple[str, str | bytes]]:
    """Everything that somebody may read without being a tenant, and where it is."""
    yield "the log", records
    for node in site.nodes:
        url = httpx2.URL(node.url).copy_with(path="/metrics")
        yield f"metrics of {node}", run(site.client.get(url)).text
    for place in (*canary_places.database(site.dsn), *canary_places.files(site.folder)):
        yield f"{place.kind} {place.name}", place.content


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


@pytest.fixture
def site(dsn: str, tmp_path: Path, background: Background) -> Iterator[TwoGateways]:
    made = background(TwoGateways.start(dsn, tmp_path))
    yield made
    background(made.end())


def test_tenants_find_what_is_theirs_and_nobody_finds_anything_else(
    site: TwoGateways, background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "anzoth")
    words, seen = Words(), Counter[str]()
    run_state_machine_as_test(
        lambda: Machine(site, background, words, seen),  # type: ignore[arg-type]  # a factory will do
        settings=SETTINGS,
    )
    print("how often what happened:", dict(sorted(seen.items())))
    canaries = Canaries()
    canaries.plant("a word", marked_files.MARK)
    for place, content in told(site, background, caplog.text):
        assert canaries.seek(place, content) == []
    # It was a test of something.
    assert all(seen[what] for what in ("evictions", "refused snapshots"))
