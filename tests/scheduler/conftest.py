"""What tests of the tensor side share: tiny random checkpoints with their oracle, and a driver.

The shapes are awkward on purpose: 6 query heads over 2 key/value heads, a head dimension that is
not width / heads, a window shorter than the prompts. torch and transformers are imported only by
tests that ask for a checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from anzoth.frames import SamplingParams
from anzoth.scheduler.sequence import RowFailure, SampledToken, ScheduledSequence, Sequence

GREEDY = SamplingParams(temperature=0.0)

_COMMON = {
    "vocab_size": 211,
    "hidden_size": 48,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # Large enough that logits differ clearly: greedy choices must not hang on rounding.
    "initializer_range": 0.2,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 5000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
_DYNAMIC = {"rope_type": "dynamic", "rope_theta": 5000.0, "factor": 2.0}
_PARTIAL = {"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 0.75}
_GEMMA = {
    "head_dim": 20,
    "query_pre_attn_scalar": 11,
    "sliding_window": 9,
    # Small enough to bend most scores and logits of such a model.
    "attn_logit_softcapping": 1.5,
    "final_logit_softcapping": 4.0,
}
_LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.5}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {"head_dim": 20, "rope_parameters": _LLAMA3}),
    "llama-tied-biased": (
        "LlamaConfig",
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "head_dim": 16}
        | {"rope_parameters": _LINEAR},
    ),
    "mistral": ("MistralConfig", {"head_dim": 20, "sliding_window": 9}),
    "qwen2": ("Qwen2Config", {}),
    "qwen2-windows": (
        "Qwen2Config",
        {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3Config", {"head_dim": 24, "tie_word_embeddings": True}),
    "qwen3-yarn": (
        "Qwen3Config",
        {"head_dim": 24, "attention_bias": True, "rope_parameters": _YARN},
    ),
    "llama-dynamic": ("LlamaConfig", {"rope_parameters": _DYNAMIC}),
    "phi3": ("Phi3Config", {"sliding_window": 9, "rope_parameters": _PARTIAL, "pad_token_id": 0}),
    "gemma2": ("Gemma2Config", _GEMMA),
    "gemma3": (
        "Gemma3TextConfig",
        _GEMMA | {"num_hidden_layers": 6, "attn_logit_softcapping": None},
    ),
    "smollm3": ("SmolLM3Config", {"num_hidden_layers": 4, "pad_token_id": 0}),
    "smollm3-windows": (
        "SmolLM3Config",
        {"no_rope_layer_interval": 2, "use_sliding_window": True, "sliding_window": 7}
        | {"attention_bias": True, "mlp_bias": True, "pad_token_id": 0},
    ),
    "olmo2": ("Olmo2Config", {"pad_token_id": 0}),
    "granite": (
        "GraniteConfig",
        {"attention_bias": True, "mlp_bias": True, "embedding_multiplier": 3.0}
        | {"attention_multiplier": 0.17, "residual_multiplier": 0.6, "logits_scaling": 2.5},
    ),
    "mixtral": (
        "MixtralConfig",
        {"head_dim": 20, "sliding_window": 9, "num_local_experts": 5, "num_experts_per_tok": 2},
    ),
    "qwen3-moe": (
        "Qwen3MoeConfig",
        {"head_dim": 20, "moe_intermediate_size": 40, "num_experts": 6, "num_experts_per_tok": 3}
        | {"norm_topk_prob": True, "mlp_only_layers": [1]},
    ),
    "qwen3-moe-windows": (
        "Qwen3MoeConfig",
        {"head_dim": 20, "moe_intermediate_size": 40, "num_experts": 6, "num_experts_per_tok": 3}
        | {"decoder_sparse_step": 2, "use_sliding_window": True, "sliding_window": 7},
    ),
}


@dataclass(slots=True)
class Checkpoint:
    """A checkpoint on disk and the model that wrote it, in float32."""

    path: Path
    oracle: Any  # transformers' model classes are not typed
    _known: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    def greedy(self, prompt: list[int], num_tokens: int) -> list[int]:
        """What transformers' own `generate` appends to the prompt; computed once."""
        key = (num_tokens, *prompt)
        if key not in self._known:
            self._known[key] = self._generated(prompt, num_tokens)
        return list(self._known[key])

    def _generated(self, prompt: list[int], num_tokens: int) -> list[int]:
        import torch

        ids = self.oracle.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=num_tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        return ids[0, len(prompt) :].tolist()

    def greedy_after(self, prompt: list[int], output: list[int]) -> list[int]:
        """What transformers would choose in the place of each token of `output`, all computed at
        once: equal to `output` exactly if `greedy` would append that."""
        chosen = self.logits(prompt + output[:-1]).argmax(-1).tolist()
        return chosen[len(prompt) - 1 :]

    def logits(self, token_ids: list[int]) -> Any:
        """[tokens, vocabulary]"""
        import torch

        with torch.inference_mode():
            return self.oracle(torch.tensor([token_ids])).logits[0]


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory):
    """name of MODELS -> Checkpoint; each is made once."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    # These sizes gain nothing from a second thread, and lose much beside a busy neighbour.
    torch.set_num_threads(1)
    made: dict[str, Checkpoint] = {}

    def make(name: str) -> Checkpoint:
        if name not in made:
            class_name, settings = MODELS[name]
            config = getattr(transformers, class_name)(**(_COMMON | settings))
            torch.manual_seed(len(name))
            model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
            with torch.no_grad():
                for parameter_name, parameter in model.named_parameters():
                    # Freshly made biases and norms change nothing: forgetting them goes unseen.
                    if "bias" in parameter_name:
                        parameter.normal_(0, 0.3)
                    elif "norm" in parameter_name:
                        parameter.add_(0.2 * torch.randn_like(parameter))
            path = tmp_path_factory.mktemp(name)
            model.save_pretrained(path)
            made[name] = Checkpoint(path, model)
        return made[name]

    return make


@pytest.fixture
def load_runner():
    """Loads a ModelRunner with small blocks."""
    from anzoth.model_config import EngineConfig
    from anzoth.scheduler.model_runner import ModelRunner

    def load(path: Path, **settings: Any):
        defaults = {"dtype": "float32", "num_blocks": 160, "block_size_tokens": 4, "num_threads": 1}
        return ModelRunner.load(path, EngineConfig(**(defaults | settings)))

    return load


@dataclass
class Driver:
    """The simplest scheduler there is: all sequences, in order, within a token budget.

    Blocks are given out from the end of the pool, whole sequences at once.
    """

    runner: Any
    budget: int = 10_000
    free: list[int] = field(default_factory=list)
    sequences: list[Sequence] = field(default_factory=list)
    answers: list[list[SampledToken | RowFailure]] = field(default_factory=list)
    steps: list[list[int]] = field(default_factory=list)
    """Tokens of each sequence in each step."""

    def __post_init__(self) -> None:
        self.free = self.free or list(range(self.runner.num_blocks))

    def add(
        self, prompt: list[int], max_tokens: int, params: SamplingParams = GREEDY, choice: int = 0
    ) -> Sequence:
        sequence = Sequence(
            request=len(self.sequences),
            choice=choice,
            tenant="t",
            cache_salt="salt",
            token_ids=list(prompt),
            num_prompt_tokens=len(prompt),
            max_tokens=max_tokens,
            sampling=params,
            arrival_s=0.0,
        )
        num_blocks = -(-(len(prompt) + max_tokens) // self.runner.block_size_tokens)
        sequence.block_table.extend(self.free.pop() for _ in range(num_blocks))
        self.sequences.append(sequence)
        self.answers.append([])
        return sequence

    def step(self) -> bool:
        """One step; False if no sequence had anything left to do."""
        left = self.budget
        batch: list[ScheduledSequence] = []
        for sequence in self.sequences:
            is_done = sequence.num_output_tokens >= sequence.max_tokens or sequence.finish
            num_tokens = 0 if is_done else min(left, sequence.num_owed_tokens)
            if num_tokens:
                batch.append(ScheduledSequence(sequence, num_tokens))
                left -= num_tokens
        if not batch:
            return False
        self.steps.append([item.num_tokens for item in batch])
        for item, answers in zip(batch, self.runner.execute(batch), strict=True):
            sequence = item.sequence
            assert len(answers) == item.samples
            sequence.num_computed_tokens += item.num_tokens
            for answer in answers:
                self.answers[sequence.request].append(answer)
                if isinstance(answer, SampledToken):
                    sequence.token_ids.append(answer.token_id)
                else:
                    sequence.finish = "error"
        return True

    def run(self) -> list[list[int]]:
        """The outputs of all sequences."""
        while self.step():
            pass
        return [s.token_ids[s.num_prompt_tokens :] for s in self.sequences]


@pytest.fixture
def driver_class():
    return Driver


@pytest.fixture
def prompts():
    """(count, seed) -> prompts of very different lengths, none with a special token."""
    import random

    def make(count: int, seed: int = 0, longest: int = 60) -> list[list[int]]:
        rng = random.Random(seed)
        return [
            [rng.randrange(3, 211) for _ in range(rng.randint(1, longest))] for _ in range(count)
        ]

    return make
