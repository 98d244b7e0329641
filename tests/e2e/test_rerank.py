"""Reranking in a whole installation: scores are those of transformers on the same files.

No reranker ships with the product, so this one's weights are random, and so are those of the model
whose vectors find what it ranks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from checkpoints import write_embedding_checkpoint, write_rerank_checkpoint

from anzoth.gateway.directory import DEFAULT_SCOPES
from installation import Installation, installation

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

QUERY = "hi there"
DOCUMENTS = ["hello", "hi hello there", "query : passage", "", "hello " * 100, "hi"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    directory = write_rerank_checkpoint(tmp_path_factory.mktemp("reranker"))
    torch.manual_seed(7)
    transformers.BertForSequenceClassification(tiny_config(num_labels=1)).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_embedding_checkpoint(tmp_path_factory.mktemp("embedder"))
    transformers.BertModel(tiny_config()).save_pretrained(directory)
    return directory


def tiny_config(**more: Any) -> Any:
    return transformers.BertConfig(
        vocab_size=10,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.5,
        **more,
    )


@pytest.fixture(scope="module")
def expected(checkpoint: Path) -> list[float]:
    """What a cross-encoder of sentence-transformers gives, written with transformers."""
    import torch

    tokenizer = transformers.BertTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    scores = []
    with torch.inference_mode():
        for document in DOCUMENTS:
            inputs = tokenizer(
                [QUERY],
                [document],
                truncation="only_second",
                max_length=64,
                padding=False,
                return_tensors="pt",
            )
            scores.append(torch.sigmoid(model(**inputs).logits)[0, 0].item())
    return scores


@pytest.fixture(scope="module")
def server(checkpoint: Path, embedder: Path) -> Iterator[Installation]:
    with installation(
        ANZOTH_ENGINE_DTYPE="float32",
        ANZOTH_ENGINE_NUM_THREADS="1",
        ANZOTH_ENGINE_EMBEDDING_NICE="0",
        ANZOTH_KNOWLEDGE_RERANKER="ranker",
    ) as made:
        made.start("--model", f"ranker={checkpoint}", "--model", f"embed={embedder}")
        yield made


@pytest.fixture(scope="module")
def client(server: Installation) -> Iterator[httpx2.Client]:
    with server.client(server.create_key("ranks")) as made:
        yield made


def rerank(client: httpx2.Client, **fields: Any) -> httpx2.Response:
    body = {"model": "ranker", "query": QUERY, "documents": DOCUMENTS, **fields}
    return client.post("/v1/rerank", json=body)


def test_scores_and_order_are_those_of_transformers(client, expected: list[float]) -> None:
    answer = rerank(client, return_documents=True).json()
    results = answer["results"]
    by_index = {result["index"]: result["relevance_score"] for result in results}
    assert [by_index[index] for index in range(len(DOCUMENTS))] == pytest.approx(expected, abs=2e-5)
    scores = [result["relevance_score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[-1] > 0.01
    assert [result["document"]["text"] for result in results] == [
        DOCUMENTS[result["index"]] for result in results
    ]
    assert rerank(client, top_n=2).json()["results"] == [
        {"index": result["index"], "relevance_score": result["relevance_score"]}
        for result in results[:2]
    ]
    # 5 tokens around and of the query; the longest document is cut at 64.
    assert answer["usage"]["prompt_tokens"] == 6 * 5 + 1 + 3 + 3 + 0 + 59 + 1


def test_what_a_model_is_for_is_said(client) -> None:
    models = client.get("/v1/models").json()["data"]
    assert [model["id"] for model in models] == ["ranker", "embed"]
    messages = [{"role": "user", "content": "hi"}]
    for path, body in (
        ("/v1/chat/completions", {"messages": messages}),
        ("/v1/embeddings", {"input": "hi"}),
    ):
        answer = client.post(path, json={"model": "ranker", **body})
        assert answer.status_code == 400
        assert "use /v1/rerank" in answer.json()["error"]["message"]


def test_only_keys_with_the_scope_may_rerank(server: Installation) -> None:
    assert "rerank" in DEFAULT_SCOPES
    for scope, status in (("embeddings", 403), ("rerank", 200)):
        with server.client(server.create_key(scope, "--scope", scope)) as other:
            assert rerank(other).status_code == status


def test_a_knowledge_base_is_ranked_by_it(server: Installation, expected: list[float]) -> None:
    key = server.create_key("searches")
    wanted = dict(zip(DOCUMENTS, expected, strict=True))
    kept = [text for text in DOCUMENTS if text and len(text) < 100]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key) as sdk, server.client(key) as http:
        store = sdk.vector_stores.create(name="texts")
        batch = sdk.vector_stores.file_batches.upload_and_poll(
            store.id,
            files=[(f"{number}.txt", text.encode()) for number, text in enumerate(kept)],
            chunking_strategy={  # whose chunks are indexed as they are, without a heading
                "type": "static",
                "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
            },
        )
        assert batch.file_counts.completed == len(kept)
        found = sdk.vector_stores.search(store.id, query=QUERY).model_dump()
        assert found["trace"]["rerank"]["skipped"] is None
        texts = [result["content"][0]["text"] for result in found["data"]]
        assert texts == sorted(kept, key=lambda text: -wanted[text])
        scores = [result["chunk"]["rerank"]["score"] for result in found["data"]]
        assert scores == pytest.approx([wanted[text] for text in texts], abs=2e-5)
        assert all(0 < result["score"] < 1 for result in found["data"])
        # Written down under the reranker, in the row that belongs to the search.
        said = http.post(f"/v1/vector_stores/{store.id}/search", json={"query": QUERY})
        request_id = said.headers["x-request-id"]
        num_tokens = said.json()["trace"]["rerank"]["tokens"]
        row: dict[str, Any] = {}
        deadline_s = time.monotonic() + 20
        while "usage" not in row:
            assert time.monotonic() < deadline_s
            row = http.get(f"/v1/requests/{request_id}.rerank").json()
        assert (row["model"], row["endpoint"], row["status"]) == ("ranker", "/v1/rerank", 200)
        assert row["usage"]["prompt_tokens"] == num_tokens
        whole = http.get(f"/v1/requests/{request_id}").json()
        assert (whole["model"], whole["usage"]["prompt_tokens"]) == ("embed", 4)
