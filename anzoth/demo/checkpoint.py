"""How are training state and finished weights written to disk?

As safetensors and JSON only, each file under a temporary name first and then renamed: a reader sees
the old file or the new one, never half of one.

Does not know: what is trained, or how.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from tokenizers import Tokenizer
from torch import Tensor

from anzoth.demo.decoder import Decoder
from anzoth.demo.vocabulary import END, token_id, tokenizer_config

# Resolved: an editable installation is a tree of links, and a replaced link leaves its target.
MODEL_DIR = Path(__file__).resolve().parent / "model"


def write_json(path: Path, value: Mapping[str, Any]) -> None:  # Any: JSON
    _replace(path, lambda temporary: temporary.write_text(json.dumps(value, indent=2) + "\n"))


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Not `save_file`: it makes files that only their owner can read.
    _replace(path, lambda temporary: temporary.write_bytes(save(whole, dict(metadata or {}))))


def export(model: Decoder, tokenizer: Tokenizer, folder: Path, facts: Mapping[str, Any]) -> None:
    """A Hugging Face checkpoint directory. `facts` says how it was made (training.json)."""
    folder.mkdir(parents=True, exist_ok=True)
    end_id, shape = token_id(tokenizer, END), model.shape
    write_json(folder / "config.json", shape.hf_config(end_id))
    write_json(
        folder / "generation_config.json",
        {"eos_token_id": end_id, "pad_token_id": end_id, "do_sample": False},
    )
    write_json(folder / "tokenizer_config.json", tokenizer_config(shape.max_positions))
    write_json(folder / "training.json", facts)
    _replace(folder / "tokenizer.json", lambda temporary: tokenizer.save(str(temporary)))
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    # Last: whoever finds new weights finds their tokenizer too.
    write_tensors(folder / "model.safetensors", weights, {"format": "pt"})


def save_state(
    folder: Path,
    step: int,
    settings: Mapping[str, Any],
    tokenizer: Tokenizer,
    master: Mapping[str, Tensor],
    optimizer_state: Mapping[str, Tensor],
    progress: Mapping[str, Any],  # Any: JSON
) -> None:
    """Everything that a run needs to go on as if it had never stopped, as one atomic file."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"master/{name}": tensor for name, tensor in master.items()}
    tensors |= {f"optimizer/{name}": tensor for name, tensor in optimizer_state.items()}
    tensors["step"] = torch.tensor(step)
    state = {
        "settings": json.dumps(settings),
        "tokenizer": tokenizer.to_str(),
        "progress": json.dumps(progress),
    }
    write_tensors(folder / "state.safetensors", tensors, state)


@dataclass(slots=True, frozen=True)
class State:
    """What `save_state` wrote. The tensors are under `master/…` and `optimizer/…`."""

    step: int
    settings: dict[str, Any]  # Any: JSON
    tokenizer: Tokenizer
    progress: dict[str, Any]  # Any: JSON
    tensors: dict[str, Tensor]


def load_state(folder: Path) -> State:
    """The inverse of `save_state`. Raises OSError where there is none."""
    path = folder / "state.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    step = int(tensors.pop("step"))
    return State(
        step,
        json.loads(metadata["settings"]),
        Tokenizer.from_str(metadata["tokenizer"]),
        json.loads(metadata["progress"]),
        tensors,
    )


def _replace(path: Path, write: Any) -> None:  # Any: a function of one Path, whatever it returns
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    write(temporary)
    os.replace(temporary, path)
