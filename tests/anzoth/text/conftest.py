"""Small real tokenizers of the two kinds that causal language models use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "the cat sat on the mat. the dog sat on the log.",
    "hello world, hello there! 1234567890",
    "naïve café über straße, emoji 🙂🙃🎉, 漢字 and かな.",
] * 4


def byte_level() -> tokenizers.Tokenizer:
    """As Llama 3 and Qwen have it: BPE over bytes, special tokens, a BOS before plain text."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|bos|>", "<|end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens(["<tool call>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", 0)]
    )
    return tokenizer


def byte_fallback() -> tokenizers.Tokenizer:
    """As Llama 2 and Mistral have it: a word mark, unknown characters as single bytes."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", *"abcdehlorstw", "▁he", "ll", "▁the", "▁cat"]
    vocabulary = {word: index for index, word in enumerate(words)}
    merges = [("▁", "h"), ("▁h", "e"), ("l", "l"), ("▁", "t"), ("▁t", "h"), ("▁th", "e")]
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


def write_checkpoint(
    directory: Path, backend: tokenizers.Tokenizer, config: dict[str, object]
) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    backend.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture
def byte_level_dir(tmp_path: Path) -> Path:
    config = {
        "bos_token": "<|bos|>",
        "eos_token": {"content": "<|end|>", "special": True},
        "chat_template": "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}",
    }
    return write_checkpoint(tmp_path / "byte_level", byte_level(), config)


@pytest.fixture(scope="session")
def backends() -> dict[str, tokenizers.Tokenizer]:
    return {"byte_level": byte_level(), "byte_fallback": byte_fallback()}
