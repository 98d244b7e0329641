"""`anzoth kb`: knowledge bases on a running server, with an API key.

Does not know: how a server keeps or searches them; whatever can be done here is a call of
/v1/vector_stores that any client can make.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from anzoth.commands import kb_folder
from anzoth.commands.api_client import DEFAULT_URL, ApiClient, ApiError, Json, Key, Url
from anzoth.commands.kb_folder import PATH, SHA256, Plan
from anzoth.commands.options import AsJson, command, fail, print_json

app = typer.Typer(
    help="Knowledge bases: documents that answers come from. Talks to a running server.",
    no_args_is_help=True,
)

Kb = Annotated[str, typer.Argument(help="The name of the knowledge base, or its id.")]
_STORES = "/vector_stores"
_TRANSFERS = 4
"""Files that are sent at the same time."""
_POLL_S = 0.5
_QUOTE_CHARS = 240


@app.command("create")
@command
async def create(
    name: Annotated[str, typer.Argument(help="Its name.")],
    key: Key,
    url: Url = DEFAULT_URL,
    description: Annotated[str | None, typer.Option(help="What is in it.")] = None,
    embedding_model: Annotated[
        str | None, typer.Option(help="Which makes its vectors. Default: the server's choice.")
    ] = None,
    expires_days: Annotated[
        int | None, typer.Option(help="It ends when it was not used for so many days.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an empty knowledge base."""
    wanted: Json = {"name": name, "description": description, "embedding_model": embedding_model}
    if expires_days is not None:
        wanted["expires_after"] = {"anchor": "last_active_at", "days": expires_days}
    async with ApiClient(url, key) as api:
        made = await api.post(_STORES, {k: v for k, v in wanted.items() if v is not None})
    if as_json:
        print_json(made)
    else:
        _say(f"Made {name} ({made['id']}). Add documents: anzoth kb add {made['id']} PATH…")


@app.command("list")
@command
async def list_(key: Key, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List the knowledge bases that the key may see."""
    async with ApiClient(url, key) as api:
        stores = [store async for store in api.pages(_STORES)]
    if as_json:
        print_json(stores)
        return
    table = Table("Name", "Files", "Being read", "Failed", "MiB", "State")
    table.add_column("Id", overflow="fold")
    for store in stores:
        counts = store["file_counts"]
        table.add_row(
            Text(store["name"] or ""),
            f"{counts['completed']:,}",
            f"{counts['in_progress']:,}",
            f"{counts['failed']:,}",
            f"{store['usage_bytes'] / (1 << 20):,.1f}",
            store["status"],
            Text(store["id"]),
        )
    Console().print(table)


@app.command("files")
@command
async def files(kb: Kb, key: Key, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List the documents of a knowledge base, and why one could not be read."""
    async with ApiClient(url, key) as api:
        store = await _find(api, kb)
        found = [file async for file in api.pages(f"{_STORES}/{store['id']}/files")]
    if as_json:
        print_json(found)
        return
    table = Table("Document", "State")
    table.add_column("Id", overflow="fold")
    for file in found:
        error = file.get("last_error")
        state = file["status"] if error is None else f"{file['status']}: {error['message']}"
        table.add_row(Text(_name_of(file)), Text(state), Text(file["id"]))
    Console().print(table)


@app.command("add")
@command
async def add(
    kb: Kb,
    paths: Annotated[
        list[Path],
        typer.Argument(help="Documents, and folders of them.", exists=True, show_default=False),
    ],
    key: Key,
    url: Url = DEFAULT_URL,
    attribute: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, to filter by in searches. May be repeated."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Until all of it can be searched.")] = True,
    as_json: AsJson = False,
) -> None:
    """Add documents. What is in the knowledge base already is left alone, or replaced where it
    has changed."""
    attributes = dict(map(_attribute, attribute or []))
    found, num_skipped = kb_folder.candidates(paths)
    async with ApiClient(url, key) as api:
        store = await _find(api, kb)
        path = f"{_STORES}/{store['id']}/files"
        in_store = kb_folder.known([file async for file in api.pages(path)])
        plans = await asyncio.to_thread(lambda: list(kb_folder.plan(found, in_store)))
        with _progress(silent=as_json) as progress:
            added = await _send(api, path, plans, attributes, progress)
            results = await _settled(api, path, added, progress) if wait else []
        failed = [file for file in results if file["status"] != "completed"]
        if wait:
            await _remove_replaced(api, path, plans, added, failed)
    if as_json:
        print_json(results if wait else [{"id": id} for id in added])
    else:
        for file in failed:
            message = (file.get("last_error") or {}).get("message", file["status"])
            _say(f"{_name_of(file)}: {message}")
        done = f"{len(added) - len(failed):,} added" if wait else f"{len(added):,} sent"
        same = f"{len(found) - len(plans):,} were there already"
        _say(f"{done}, {len(failed):,} failed, {same}, {num_skipped:,} of other kinds left out.")
    if failed:
        raise typer.Exit(1)


@app.command("search")
@command
async def search(
    kb: Kb,
    query: Annotated[str, typer.Argument(help="A question, or words.")],
    key: Key,
    url: Url = DEFAULT_URL,
    limit: Annotated[int, typer.Option("--limit", "-k", help="How many results.")] = 5,
    filter: Annotated[
        str | None,
        typer.Option(help='Of attributes, for example {"type":"eq","key":"year","value":2026}.'),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search a knowledge base, without asking a model."""
    wanted: Json = {"query": query, "max_num_results": limit}
    if filter is not None:
        try:
            wanted["filters"] = orjson.loads(filter)
        except orjson.JSONDecodeError:
            fail("--filter is not valid JSON")
    async with ApiClient(url, key) as api:
        store = await _find(api, kb)
        page = await api.post(f"{_STORES}/{store['id']}/search", wanted)
    if as_json:
        print_json(page)
        return
    if not page["data"]:
        _say("Nothing was found.")
    for result in page["data"]:
        text = " ".join(" ".join(part["text"] for part in result["content"]).split())
        quote = text if len(text) <= _QUOTE_CHARS else f"{text[:_QUOTE_CHARS]}…"
        _say(f"{result['score']:.2f}  {result['filename']}\n      {quote}")


@app.command("remove")
@command
async def remove(
    kb: Kb,
    ids: Annotated[list[str], typer.Argument(help="Ids of documents.", show_default=False)],
    key: Key,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Take documents out of a knowledge base, and delete them."""
    async with ApiClient(url, key) as api:
        store = await _find(api, kb)
        for id in ids:
            await api.delete(f"{_STORES}/{store['id']}/files/{id}")
            await api.delete(f"/files/{id}")
            if not as_json:
                _say(f"Removed {id}.")
    if as_json:
        print_json([{"id": id, "deleted": True} for id in ids])


@app.command("delete")
@command
async def delete(
    kb: Kb,
    key: Key,
    url: Url = DEFAULT_URL,
    with_files: Annotated[bool, typer.Option(help="Its documents, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a knowledge base. Its documents stay stored, unless --with-files."""
    async with ApiClient(url, key) as api:
        store = await _find(api, kb)
        path = f"{_STORES}/{store['id']}"
        ids = [f["id"] async for f in api.pages(f"{path}/files")] if with_files else []
        answer = await api.delete(path)
        for id in ids:
            await api.delete(f"/files/{id}")
    if as_json:
        print_json(answer)
    else:
        _say(f"Deleted {kb}" + (f" and {len(ids):,} documents." if with_files else "."))


# --- adding ----------------------------------------------------------------------------------


async def _send(
    api: ApiClient, path: str, plans: Collection[Plan], attributes: Json, progress: Progress
) -> dict[str, Plan]:
    """Uploads each and adds it to the store: by id, what it is. Ends at the first refusal."""
    bar = progress.add_task("sending", total=sum(p.candidate.num_bytes for p in plans), unit="B")
    places = asyncio.Semaphore(_TRANSFERS)
    added: dict[str, Plan] = {}

    async def send(plan: Plan) -> None:
        candidate = plan.candidate
        async with places:
            file = await api.upload(candidate.path, candidate.path.name)
            marks = {**attributes, PATH: candidate.name, SHA256: plan.sha256}
            await api.post(path, {"file_id": file["id"], "attributes": marks})
        added[file["id"]] = plan
        progress.advance(bar, candidate.num_bytes)

    try:
        async with asyncio.TaskGroup() as group:
            for plan in plans:
                group.create_task(send(plan))
    except* (ApiError, OSError) as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        fail(f"{len(added):,} of {len(plans):,} documents were sent, then: {first}")
    return added


async def _settled(
    api: ApiClient, path: str, added: Collection[str], progress: Progress
) -> list[Json]:
    """How each of them ended, once all have."""
    bar = progress.add_task("reading", total=len(added), unit="")
    waiting = set(added)
    while waiting:
        still = {file["id"] async for file in api.pages(path, {"filter": "in_progress"})}
        waiting &= still
        progress.update(bar, completed=len(added) - len(waiting))
        if waiting:
            await asyncio.sleep(_POLL_S)
    return [file async for file in api.pages(path) if file["id"] in added]


async def _remove_replaced(
    api: ApiClient, path: str, plans: Iterable[Plan], added: dict[str, Plan], failed: list[Json]
) -> None:
    """Older contents leave when the newer ones can be searched, not before."""
    lost = {added[file["id"]].candidate.name for file in failed}
    for plan in plans:
        if plan.replaces is not None and plan.candidate.name not in lost:
            await api.delete(f"{path}/{plan.replaces}")
            await api.delete(f"/files/{plan.replaces}")


# --- shared ----------------------------------------------------------------------------------


async def _find(api: ApiClient, kb: str) -> Json:
    """By id or by name, which must then be one store's alone."""
    if kb.startswith("vs_"):
        return await api.get(f"{_STORES}/{kb}")
    named = [store async for store in api.pages(_STORES) if store["name"] == kb]
    if not named:
        fail(f"there is no knowledge base {kb!r}: anzoth kb list")
    if len(named) > 1:
        ids = ", ".join(store["id"] for store in named)
        fail(f"several knowledge bases are named {kb!r}; use an id: {ids}")
    return named[0]


def _attribute(text: str) -> tuple[str, str | float | bool]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        fail(f"--attribute {text!r} is not NAME=VALUE")
    if name in (PATH, SHA256):
        fail(f"the attribute {name!r} is set by this command itself")
    return name, _value(value)


def _value(text: str) -> str | float | bool:
    """A number or a boolean where it is one in JSON."""
    try:
        value: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if isinstance(value, bool | int | float) else text


def _name_of(file: Json) -> str:
    return str((file.get("attributes") or {}).get(PATH) or file["id"])


def _progress(*, silent: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), _Amount(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True, quiet=silent))


class _Amount(MofNCompleteColumn):
    """Bytes where a bar counts bytes, else how many of how many."""

    _bytes = DownloadColumn()

    def render(self, task: Any) -> Text:
        return self._bytes.render(task) if task.fields.get("unit") == "B" else super().render(task)


def _say(sentence: str) -> None:
    Console(soft_wrap=True).print(sentence, markup=False, highlight=False)
