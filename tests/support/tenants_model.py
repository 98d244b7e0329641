"""Vector stores over HTTP, each answer compared with what a dictionary says (`stores_model`).

A `Party` is a key: of a tenant, or of another project of one. Whatever it asks for is asked through
`Party.ask`, which looks for everybody else's words in the head and body of each answer.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import marked_files
import orjson
import pytest
from marked_files import COMMON, Document, Words
from stores_model import (
    Attributes,
    File,
    Placed,
    Store,
    assert_whole,
    assert_words,
    has_colour,
    probes,
    without_echoes,
)
from two_gateways import CHAT, Named, Node, TwoGateways, until

from anzoth.db import pool
from anzoth.errors import KeyRevoked
from anzoth.gateway import directory, project_directory
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.principal import TenantHandle

MAX_RESULTS = 50
_READ_S = 90.0
_END_S = 10.0
_PAUSE_S = 0.005


@dataclass(slots=True, frozen=True)
class Answer:
    status: int
    body: bytes
    json: Any
    """None: the body is something else."""


@dataclass(eq=False)
class Party(Named):
    """A key, and what its project has."""

    label: str
    site: TwoGateways
    words: Words
    tenant: TenantHandle
    key: str = field(repr=False)
    files: dict[str, File] = field(default_factory=dict)
    stores: dict[str, Store] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    """Words of documents that were deleted or taken out somewhere."""
    is_ended: bool = False

    def __repr__(self) -> str:
        return self.label

    def usable(self) -> list[Store]:
        return [store for store in self.stores.values() if not store.is_expired]

    # --- asking -----------------------------------------------------------------------------------

    async def ask(self, node: Node, method: str, path: str, body: Any = None, **how: Any) -> Answer:
        """`how`: of httpx2."""
        response = await self.site.client.request(
            *(method, f"{node.url}{path}"),
            headers={"authorization": f"Bearer {self.key}"},
            json=body,
            **how,
        )
        content = response.content
        said = None
        if response.headers.get("content-type", "").startswith("application/json"):
            said = orjson.loads(content)
        heard = content.decode(errors="replace") if said is None else str(without_echoes(said))
        where = f"{method} {path} on {node} says to {self}"
        assert not self.words.foreign(heard, self), f"{where}: {heard}"
        assert not self.words.foreign(str(response.headers.raw), self), where
        return Answer(response.status_code, content, said)

    async def get(self, node: Node, method: str, path: str, body: Any = None, **how: Any) -> Any:
        """What a request says that is granted."""
        answer = await self.ask(node, method, path, body, **how)
        assert answer.status == 200, (method, path, answer)
        return answer.json

    async def every(self, node: Node, path: str, page: int = 3) -> list[Any]:
        """All pages of a list."""
        found: list[Any] = []
        query = f"{'&' if '?' in path else '?'}limit={page}&order=asc"
        after = ""
        while True:
            listed = await self.get(node, "GET", f"{path}{query}{after}")
            found += listed["data"]
            if not listed["has_more"]:
                return found
            after = f"&after={listed['data'][-1]['id']}"

    # --- files ------------------------------------------------------------------------------------

    async def upload(self, node: Node, document: Document) -> File:
        made = await self.get(
            *(node, "POST", "/files"),
            files={"file": (document.filename, document.content)},
            data={"purpose": "assistants"},
        )
        assert (made["filename"], made["bytes"]) == (document.filename, len(document.content))
        file = self.files[made["id"]] = File(made["id"], document)
        return file

    async def delete_file(self, node: Node, file: File) -> None:
        await self.get(node, "DELETE", f"/files/{file.id}")
        del self.files[file.id]
        for store in self.stores.values():
            store.files.pop(file.id, None)
        self.gone += file.document.words

    # --- stores -----------------------------------------------------------------------------------

    async def create_store(self, node: Node, files: Collection[File] = ()) -> Store:
        name = self.words.take(self)
        ids = [file.id for file in files]
        body = {"name": name, "metadata": {"of": name}, "file_ids": ids}
        made = await self.get(node, "POST", "/vector_stores", body)
        store = self.stores[made["id"]] = Store(made["id"], name)
        store.files = {file.id: Placed(file) for file in files}
        return store

    async def modify_store(self, node: Node, store: Store) -> None:
        store.name = self.words.take(self)
        body = {"name": store.name, "expires_after": None}
        body = {"name": store.name} if store.is_expired else body
        made = await self.get(node, "POST", f"/vector_stores/{store.id}", body)
        assert made["name"] == store.name

    async def expire_store(self, node: Node, store: Store) -> None:
        async with node.services.files.database.tenant(self.tenant) as connection:
            await connection.execute(
                "UPDATE anzoth.vector_stores SET expires_after_days = 1, expires_at = now() "
                "WHERE id = $1",
                store.id,
            )
        store.is_expired = True
        self.gone += [word for p in store.files.values() for word in p.file.document.words]

    async def delete_store(self, node: Node, store: Store) -> None:
        await self.get(node, "DELETE", f"/vector_stores/{store.id}")
        del self.stores[store.id]
        self.gone += [word for p in store.files.values() for word in p.file.document.words]

    # --- files in stores --------------------------------------------------------------------------

    async def attach(
        self, node: Node, store: Store, file: File, attributes: Attributes | None
    ) -> None:
        body: dict[str, Any] = {"file_id": file.id}
        if attributes is not None:
            body["attributes"] = attributes
        if file.document.chunking is not None:
            body["chunking_strategy"] = file.document.chunking
        made = await self.get(node, "POST", f"/vector_stores/{store.id}/files", body)
        self._placed(store, file, attributes)
        assert made["attributes"] == store.files[file.id].attributes

    async def attach_batch(
        self, node: Node, store: Store, wanted: Mapping[File, Attributes | None]
    ) -> str:
        listed = []
        for file, attributes in wanted.items():
            entry: dict[str, Any] = {"file_id": file.id}
            if attributes is not None:
                entry["attributes"] = attributes
            if file.document.chunking is not None:
                entry["chunking_strategy"] = file.document.chunking
            listed.append(entry)
        path = f"/vector_stores/{store.id}/file_batches"
        made = await self.get(node, "POST", path, {"files": listed})
        for file, attributes in wanted.items():
            self._placed(store, file, attributes)
        store.batches.append(made["id"])
        assert {file["id"] for file in await self.every(node, f"{path}/{made['id']}/files")} == {
            file.id for file in wanted
        }
        return made["id"]

    def _placed(self, store: Store, file: File, attributes: Attributes | None) -> None:
        """What is there already, or on its way, stays; but for attributes that are given."""
        before = store.files.get(file.id)
        if before is None or before.state in ("failed", "cancelled"):
            store.files[file.id] = Placed(file, attributes or {})
        elif attributes is not None:
            before.attributes = attributes

    async def cancel_batch(self, node: Node, store: Store, batch: str) -> None:
        await self.get(node, "POST", f"/vector_stores/{store.id}/file_batches/{batch}/cancel")
        for placed in store.waiting():
            placed.may_be_cancelled = True

    async def set_attributes(
        self, node: Node, store: Store, placed: Placed, attributes: Attributes
    ) -> None:
        path = f"/vector_stores/{store.id}/files/{placed.file.id}"
        made = await self.get(node, "POST", path, {"attributes": attributes})
        assert made["attributes"] == attributes
        placed.attributes = attributes

    async def detach(self, node: Node, store: Store, placed: Placed) -> None:
        path = f"/vector_stores/{store.id}/files/{placed.file.id}"
        await self.get(node, "DELETE", path)
        del store.files[placed.file.id]
        self.gone += placed.file.document.words

    async def refresh(self, node: Node, store: Store) -> None:
        """Learns which files have been read by now."""
        listed = await self.every(node, f"/vector_stores/{store.id}/files")
        ids = [file["id"] for file in listed]
        assert Counter(ids) == Counter(store.files.keys()), (ids, store.files)
        for file in listed:
            placed = store.files[file["id"]]
            assert file["attributes"] == placed.attributes
            assert (file["last_error"] is not None) == (file["status"] == "failed")
            if file["status"] == placed.state:
                continue
            assert placed.state == "in_progress", (placed, file)
            placed.state = file["status"]
            document = placed.file.document
            match placed.state:
                case "completed":
                    assert document.is_readable, document
                    if not store.is_expired:
                        await self._read(node, store, placed)
                case "failed":
                    assert not document.is_readable, (document, file)
                    assert file["last_error"]["code"] in ("invalid_file", "unsupported_file")
                case _:
                    assert placed.may_be_cancelled or store.is_expired, placed

    async def _read(self, node: Node, store: Store, placed: Placed) -> None:
        """Its text has all that it says."""
        path = f"/vector_stores/{store.id}/files/{placed.file.id}/content"
        said = await self.get(node, "GET", path)
        (text,) = (entry["text"] for entry in said["data"])
        document = placed.file.document
        assert set(document.words) == set(marked_files.MARKED.findall(text)), document
        assert document.text in (None, text)
        document.text = text

    async def settle(self, node: Node, store: Store) -> None:
        """Returns when everything in it has been read."""
        async with asyncio.timeout(_READ_S):
            await self.refresh(node, store)
            while store.waiting():
                await asyncio.sleep(_PAUSE_S)
                await self.refresh(node, store)

    # --- searches ---------------------------------------------------------------------------------

    async def search(
        self,
        node: Node,
        store: Store,
        query: str,
        colour: str | None = None,
        ranking: Mapping[str, Any] | None = None,
    ) -> None:
        """It finds every chunk that there is, each once; without vectors, those with the words."""
        await self.refresh(node, store)
        must = store.searched(colour)
        body: dict[str, Any] = {"query": query, "max_num_results": MAX_RESULTS}
        if colour is not None:
            body["filters"] = {"type": "eq", "key": "colour", "value": colour}
        if ranking is not None:
            body["ranking_options"] = ranking
        found = await self.get(node, "POST", f"/vector_stores/{store.id}/search", body)
        assert found["search_query"] == [query]
        assert (found["trace"]["degraded"] is None) == self.site.can_embed
        results = found["data"]
        assert len(results) < MAX_RESULTS, "too many for this test"
        by_id = {p.file.id: p for p in store.files.values() if has_colour(p, colour)}
        for result in results:
            placed = by_id[result["file_id"]]
            assert placed in must or placed.state == "in_progress", placed
            assert result["filename"] == placed.file.document.filename
            assert result["attributes"] == placed.attributes
        places = [(result["file_id"], result["chunk"]["id"]) for result in results]
        assert len(set(places)) == len(places)
        if self.site.can_embed:
            assert_whole(must, results)
        assert_words(must, results, query, is_degraded=not self.site.can_embed)

    async def chat(self, node: Node, stores: Sequence[Store], word: str, ranking: Any) -> None:
        """The model reads nothing but what is in these stores, and what is asked for."""
        for store in stores:
            await self.refresh(node, store)
        must = [p for store in stores for p in store.searched()]
        tool: dict[str, Any] = {
            "type": "file_search",
            "vector_store_ids": [store.id for store in stores],
            "max_num_results": MAX_RESULTS,
            "trace": True,
        }
        if ranking is not None:
            tool["ranking_options"] = ranking
        question = f"What do the documents say about the {COMMON} of {word}?"
        body = {
            "model": CHAT,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": 50,
            "tools": [tool],
        }
        said = await self.get(node, "POST", "/chat/completions", body)
        ids = {p.file.id for store in stores for p in [*store.searched(), *store.waiting()]}
        retrieval = said["x_anzoth"]["retrieval"]
        for place in ("results", "passages", "dropped"):
            assert {entry["file_id"] for entry in retrieval[place]} <= ids
        for annotation in said["choices"][0]["message"]["annotations"]:
            assert annotation["file_citation"]["file_id"] in ids
        (read,) = self.site.prompts() or [""]
        read = read.replace(question, "", 1)
        known = {p.file.document for store in stores for p in store.files.values()}
        assert set(marked_files.MARKED.findall(read)) <= {
            word for document in known for word in document.all_words
        }
        if any(word in p.file.document.words for p in must) and (read or ranking is not None):
            assert word in read, read  # only a calibrated score may say that nothing answers

    async def search_in_vain(self, node: Node) -> None:
        """Its retriever is away."""
        for store in self.usable()[:1]:
            path = f"/vector_stores/{store.id}/search"
            answer = await self.ask(node, "POST", path, {"query": COMMON})
            assert answer.status == 503, answer

    async def use_expired(self, node: Node, store: Store) -> None:
        path = f"/vector_stores/{store.id}"
        answer = await self.ask(node, "POST", f"{path}/search", {"query": COMMON})
        assert answer.status == 400, answer
        for file in [*self.files][:1]:
            answer = await self.ask(node, "POST", f"{path}/files", {"file_id": file})
            assert answer.status == 400, answer

    # --- others -----------------------------------------------------------------------------------

    async def name_foreign_ids(self, node: Node, other: Party) -> None:
        """In every place that takes an id: what they are answered is what ids of nobody are."""
        own = {"store": self.usable()[0].id, "file": next(iter(self.files))}
        unknown = {
            kind: prefix + secrets.token_hex(16)
            for kind, prefix in (("store", "vs_"), ("file", "file-"), ("batch", "vsfb_"))
        }
        store = other.usable()[0]
        foreign = {
            "store": store.id,
            "file": next(iter(other.files)),
            "batch": next(iter(store.batches), unknown["batch"]),
        }
        for probe, of_nobody in zip(probes(foreign, own), probes(unknown, own), strict=True):
            answer = await self.ask(node, *probe)
            expected = await self.ask(node, *of_nobody)
            assert expected.status in (400, 404), (probe, expected)
            assert (answer.status, answer.body) == (expected.status, expected.body), probe

    # --- looking ----------------------------------------------------------------------------------

    async def look(self, node: Node) -> None:
        """What is listed is what there is."""
        files = {file["id"]: file for file in await self.every(node, "/files")}
        assert {id: file["filename"] for id, file in files.items()} == {
            file.id: file.document.filename for file in self.files.values()
        }
        stores = {store["id"]: store for store in await self.every(node, "/vector_stores")}
        assert {id: store["name"] for id, store in stores.items()} == {
            store.id: store.name for store in self.stores.values()
        }
        for store in self.stores.values():
            await self.refresh(node, store)
            if not store.waiting():
                counts = stores[store.id]["file_counts"]
                assert counts["total"] == len(store.files)
            assert (stores[store.id]["status"] == "expired") == store.is_expired
        for file in list(self.files.values())[:2]:
            answer = await self.ask(node, "GET", f"/files/{file.id}/content")
            assert answer.body == file.document.content


async def make_parties(site: TwoGateways, words: Words) -> list[Party]:
    """Two tenants, the first with two projects."""
    name = uuid.uuid4().hex
    tenants = [await directory.create_tenant(site.dsn, f"{name}-{letter}") for letter in "ab"]
    await project_directory.create_project(
        site.dsn, tenants[0].name, "second", project_directory.Limits()
    )
    made = []
    for label, tenant, project in (
        ("a", tenants[0], "default"),
        ("a's other project", tenants[0], "second"),
        ("b", tenants[1], "default"),
    ):
        request = KeyRequest(tenant.name, "machine", project, ("all",))
        key = await directory.create_key(site.dsn, site.pepper, request)
        handle = TenantHandle(tenant.id, tenant.name, "salt")
        made.append(Party(label, site, words, handle, key.key.text))
    return made


async def end(site: TwoGateways, tenant: TenantHandle, parties: Sequence[Party]) -> None:
    """Deletes it: no key opens anything any more, and what opened its words is gone."""
    await directory.delete_tenant(site.dsn, tenant.name)
    for party in parties:
        party.is_ended = True
    for node in site.nodes:
        for party in parties:
            async with asyncio.timeout(_END_S):
                while (await party.ask(node, "GET", "/files")).status != 401:  # noqa: ASYNC110
                    await asyncio.sleep(_PAUSE_S)
        await until(lambda node=node: not (node.retriever.index / str(tenant.id)).exists())
        with pytest.raises(KeyRevoked):
            await node.services.files.keys.cipher(tenant)
    async with pool.operator(site.dsn) as connection:
        left = await connection.fetch("SELECT tenant_id FROM anzoth.tenant_keys")
    assert tenant.id not in {row["tenant_id"] for row in left}
