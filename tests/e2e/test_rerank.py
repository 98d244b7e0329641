"""Reranking in a whole installation: scores are those of transformers on the same files.

No reranker ships with the product, so this one's weights are random.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from checkpoints import write_rerank_checkpoint

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
    config = transformers.BertConfig(
        vocab_size=10,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.5,
        num_labels=1,
    )
    torch.manual_seed(7)
    transformers.BertForSequenceClassification(config).save_pretrained(directory)
    return directory


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
def server(checkpoint: Path) -> Iterator[Installation]:
    with installation(ANZOTH_ENGINE_DTYPE="float32") as made:
        made.start("--model", f"ranker={checkpoint}")
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
    (model,) = client.get("/v1/models").json()["data"]
    assert model["id"] == "ranker"
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
