"""Documents in, an answer out: the bundled models, OpenAI's SDK, nothing in between."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docx
import openai
import pytest
from documents import pdf
from typer.testing import CliRunner, Result

from anzoth.cli import build
from installation import Installation

pytestmark = pytest.mark.slow

MODEL = "anzoth-default"
# Sentences and questions of the kind that the small bundled model was taught; the values are new.
BOAT = "The owner of the boat is Mara Velten."
PRINTER = "The serial number of the printer is KX-4471."


@pytest.fixture(scope="module")
def client(whole_server: Installation) -> Iterator[openai.OpenAI]:
    key = whole_server.create_key("knowledge")
    with openai.OpenAI(
        base_url=f"{whole_server.url}/v1",
        api_key=key,
        max_retries=2,
        _strict_response_validation=True,
    ) as made:
        yield made


@pytest.fixture(scope="module")
def store(client: openai.OpenAI) -> Iterator[str]:
    """A vector store with a pdf and a docx, made with the SDK's own helpers."""
    handbook = docx.Document()
    handbook.add_paragraph(PRINTER)
    saved = io.BytesIO()
    handbook.save(saved)
    saved.seek(0)
    made = client.vector_stores.create(name="town")
    batch = client.vector_stores.file_batches.upload_and_poll(
        made.id,
        files=[
            ("boat.pdf", pdf([[(BOAT, 12)]])),
            ("printer.docx", saved),
        ],
    )
    assert (batch.status, batch.file_counts.completed) == ("completed", 2)
    yield made.id
    for file in client.vector_stores.files.list(made.id):
        client.files.delete(file.id)
    client.vector_stores.delete(made.id)


def ask(client: openai.OpenAI, store: str, question: str, **more: Any) -> Any:
    return client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        tools=[{"type": "file_search", "vector_store_ids": [store]}],  # type: ignore[list-item]  # Responses' tool
        temperature=0,
        **more,
    )


@pytest.mark.parametrize(
    ("question", "value", "sentence", "filename", "page"),
    [
        ("Who is the owner of the boat?", "Mara Velten", BOAT, "boat.pdf", 1),
        ("What is the serial number of the printer?", "KX-4471", PRINTER, "printer.docx", None),
    ],
)
def test_the_right_value_comes_with_a_verified_citation(
    client: openai.OpenAI, store: str, question: str, value: str, sentence: str, filename: str,
    page: int | None,
) -> None:  # fmt: skip
    message = ask(client, store, question).choices[0].message
    assert value in message.content
    (annotation,) = message.model_dump()["annotations"]
    assert annotation["type"] == "url_citation"
    citation = annotation["file_citation"]
    assert (citation["filename"], citation["page"]) == (filename, page)
    assert citation["verified"] is True
    assert sentence in citation["quote"]
    marked = message.content[citation["start_index"] : citation["end_index"]]
    assert marked.startswith("[")


@pytest.mark.parametrize("is_streamed", [False, True])
def test_what_is_not_there_is_refused_honestly(
    client: openai.OpenAI, store: str, is_streamed: bool
) -> None:
    question = "Which spices belong in a goulash?"
    if is_streamed:
        chunks = list(ask(client, store, question, stream=True))
        content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        content = ask(client, store, question).choices[0].message.content
    assert content == "Your documents do not contain an answer to this question."


def test_a_document_that_is_taken_out_answers_no_more(client: openai.OpenAI, store: str) -> None:
    question = "What is the founding date of the brewery?"
    file = client.files.create(
        file=("brewery.txt", b"The founding date of the brewery is 12 May 1688."),
        purpose="assistants",
    )
    client.vector_stores.files.create_and_poll(file.id, vector_store_id=store)
    found = client.vector_stores.search(store, query=question).data
    assert found[0].file_id == file.id
    client.files.delete(file.id)
    found = client.vector_stores.search(store, query=question).data
    assert file.id not in [hit.file_id for hit in found]


def test_nothing_computed_from_a_deleted_file_is_used_again(
    client: openai.OpenAI, whole_server: Installation
) -> None:
    text, question = "The keeper of the lighthouse is Jon Aldrin.", "Who keeps the lighthouse?"
    store = client.vector_stores.create(name="coast").id

    def add() -> str:
        file = client.files.create(file=("coast.txt", text.encode()), purpose="assistants")
        client.vector_stores.files.create_and_poll(file.id, vector_store_id=store)
        return file.id

    def cached_tokens(file: str) -> int:
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[
                # Nobody else's prompt begins with the same block.
                {"role": "system", "content": "You answer questions about the coast, shortly."},
                {"role": "user", "content": question},
            ],
            tools=[{"type": "file_search", "vector_store_ids": [store], "trace": True}],  # type: ignore[list-item]  # Responses' tool
        ).model_dump()
        (passage,) = answer["x_anzoth"]["retrieval"]["passages"]
        assert passage["file_id"] == file
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    file = add()
    assert cached_tokens(file) == 0
    assert cached_tokens(file) > 0
    client.files.delete(file)
    again = add()  # the same words, so the same prompt
    # Until it has forgotten, the engine counts the second file's answers to the first file.
    deadline_s = time.monotonic() + 60
    while cached_tokens(again) > 0:
        assert time.monotonic() < deadline_s, whole_server.log()
    assert cached_tokens(again) > 0
    client.files.delete(again)
    client.vector_stores.delete(store)


def kb(server: Installation, key: str, *arguments: str) -> Result:
    environment = {"ANZOTH_URL": f"{server.url}/v1", "ANZOTH_API_KEY": key}
    return CliRunner().invoke(build(), ["kb", *arguments], env=environment)


def test_a_folder_is_added_again_and_again_from_the_command_line(
    whole_server: Installation, tmp_path: Path
) -> None:
    key = whole_server.create_key("kb")
    folder = tmp_path / "town"
    (folder / "port").mkdir(parents=True)
    (folder / "boat.txt").write_text(BOAT)
    (folder / "port" / "printer.md").write_text(f"# Office\n\n{PRINTER}\n")
    (folder / "damaged.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    made = json.loads(kb(whole_server, key, "create", "harbour", "--json").stdout)
    first = kb(whole_server, key, "add", "harbour", str(folder))
    assert first.exit_code == 1
    assert "town/damaged.pdf: " in first.stdout
    assert "2 added, 1 failed, 0 were there already" in first.stdout
    (folder / "damaged.pdf").unlink()
    (folder / "boat.txt").write_text(BOAT.replace("Mara Velten", "Ilse Brandt"))
    again = kb(whole_server, key, "add", "harbour", str(folder))
    assert (again.exit_code, again.stdout) == (
        0,
        "1 added, 0 failed, 1 were there already, 0 of other kinds left out.\n",
    )
    found = kb(whole_server, key, "search", "harbour", "Who is the owner of the boat?", "--json")
    texts = [part["text"] for hit in json.loads(found.stdout)["data"] for part in hit["content"]]
    assert any("Ilse Brandt" in text for text in texts)
    assert not any("Mara Velten" in text for text in texts)
    assert "no knowledge base 'village'" in kb(whole_server, key, "files", "village").stderr
    deleted = kb(whole_server, key, "delete", made["id"], "--with-files")
    assert "and 3 documents" in deleted.stdout
    left = json.loads(kb(whole_server, key, "list", "--json").stdout)
    assert made["id"] not in [store["id"] for store in left]
