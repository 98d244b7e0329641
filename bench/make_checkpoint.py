"""Writes a checkpoint of a real model's shape with random weights, to measure speed with.

    python bench/make_checkpoint.py qwen2.5-0.5b /tmp/qwen
    anzoth serve --model qwen=/tmp/qwen

Speed does not depend on what the weights are, and random ones need no download. The tokenizer is
the bundled model's, filled up with made-up words so that every token id has a text: then each
token is one event of a stream, as with a real tokenizer. Needs transformers (a test tool).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers

from anzoth.model_config import BUNDLED_MODEL_DIR

# Name -> (transformers' configuration class, what its config.json says).
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2.5-0.5b": (
        "Qwen2Config",
        {
            "vocab_size": 151_936,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32_768,
            "tie_word_embeddings": True,
        },
    ),
    "llama-3.2-1b": (
        "LlamaConfig",
        {
            "vocab_size": 128_256,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "max_position_embeddings": 131_072,
            "tie_word_embeddings": True,
        },
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("directory", type=Path)
    given = parser.parse_args()
    class_name, settings = SHAPES[given.shape]
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = transformers.AutoModelForCausalLM.from_config(
        getattr(transformers, class_name)(**settings)
    )
    model.save_pretrained(given.directory)
    write_tokenizer(given.directory, settings["vocab_size"])
    print(f"{given.directory}: {model.num_parameters() / 1e6:.0f} M random parameters")


def write_tokenizer(directory: Path, vocab_size: int) -> None:
    tokenizer = json.loads((BUNDLED_MODEL_DIR / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    taken = {*words.values(), *(token["id"] for token in tokenizer["added_tokens"])}
    # "Ġ" is how byte-level vocabularies write a leading space.
    words |= {
        f"Ġword{token_id}": token_id for token_id in range(vocab_size) if token_id not in taken
    }
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    shutil.copy(BUNDLED_MODEL_DIR / "tokenizer_config.json", directory)


if __name__ == "__main__":
    main()
