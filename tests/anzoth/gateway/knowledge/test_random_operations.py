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

import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import canary_places
import httpx2
import marked_files
import pytest
import tenants_model
from canaries import Canaries
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from knowledge_machine import (
    ATTRIBUTES,
    COLOURS,
    MAX_STORES,
    RANKINGS,
    Draw,
    Machine,
    action,
    has_file,
    has_placed,
    has_room,
    has_store,
    is_whole,
    room,
)
from marked_files import COMMON, HOSTILE, KINDS, Words
from snapshot_damage import DAMAGES
from two_gateways import Background, TwoGateways

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


@action(lambda machine: sum(map(is_whole, machine.living())) > 1, weight=1)
def name_foreign_ids(machine: Machine, data: Draw) -> None:
    """They are like ids of nobody."""
    whole = list(filter(is_whole, machine.living()))
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
    holding = [store for store in party.usable() if file.id in store.files and room(store)]
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
    some = data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=room(store)))
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
