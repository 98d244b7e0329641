"""The gateway's half of tiny checkpoints: a tokenizer, a template, and what a model is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers

BOS, END, USER, ASSISTANT = "<|bos|>", "<|end|>", "<|user|>", "<|assistant|>"
EOS_ID = 1
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% if m.role == 'user' and 'refuse me' in m.content %}{{ raise_exception('no') }}{% endif %}"
    "{% endfor %}<|assistant|>"
)
CORPUS = ["hello there, general. how are you today? 🙂🙃 naïve café"] * 3


def tiny_tokenizer() -> tokenizers.Tokenizer:
    """Byte-level BPE: emoji are several tokens, common words are one."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[BOS, END, USER, ASSISTANT],
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def write_checkpoint(directory: Path, template: str | None = TEMPLATE) -> Path:
    """The gateway's half of a checkpoint."""
    directory.mkdir(parents=True, exist_ok=True)
    tiny_tokenizer().save(str(directory / "tokenizer.json"))
    config = {"bos_token": BOS, "eos_token": END, "chat_template": template}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    (directory / "config.json").write_text("{}")
    return directory


def write_embedding_checkpoint(directory: Path, **described: Any) -> Path:
    """The same for an embedding model; `described`: its config_sentence_transformers.json."""
    directory.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", "passage", ":", "hello", "there", "hi"]
    backend = tokenizers.Tokenizer(
        models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.enable_truncation(5)
    backend.enable_padding(length=5)
    backend.save(str(directory / "tokenizer.json"))
    (directory / "config.json").write_text(
        json.dumps({"architectures": ["BertModel"], **described.pop("config", {})})
    )
    (directory / "config_sentence_transformers.json").write_text(json.dumps(described))
    return directory


def write_rerank_checkpoint(
    directory: Path, architecture: str = "BertForSequenceClassification"
) -> Path:
    """The same for a reranker: of BERT with token types, of another family without."""
    write_embedding_checkpoint(directory, config={"architectures": [architecture]})
    file = str(directory / "tokenizer.json")
    backend = tokenizers.Tokenizer.from_file(file)
    is_bert = architecture.startswith("Bert")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1" if is_bert else "[CLS] $A [SEP] [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    backend.save(file)
    return directory


def add_tokens(checkpoint: Path, *texts: str, special: bool = False) -> list[int]:
    """Gives the tokenizer of a checkpoint these tokens; their ids."""
    file = str(checkpoint / "tokenizer.json")
    backend = tokenizers.Tokenizer.from_file(file)
    backend.add_tokens([AddedToken(text, normalized=False, special=special) for text in texts])
    backend.save(file)
    added = {token.content: i for i, token in backend.get_added_tokens_decoder().items()}
    return [added[text] for text in texts]
