"""Each family against transformers on the same random checkpoint.

Company, chunks, preemption and prefix hits: test_model_runner.py, test_engine_with_model.py.
"""

import dataclasses
import json
import shutil

import pytest
import torch

from anzoth.frames import SamplingParams
from anzoth.scheduler.checkpoint import CheckpointError
from anzoth.scheduler.models.families import FAMILIES, read_spec
from anzoth.scheduler.models.specs import LayerNorms, Llama3Scaling, RopeSpec

MODELS = [
    "llama",
    "llama-tied-biased",
    "llama-dynamic",
    "mistral",
    "qwen2",
    "qwen2-windows",
    "qwen3",
    "qwen3-yarn",
    "phi3",
    "gemma2",
    "gemma3",
    "smollm3",
    "smollm3-windows",
    "olmo2",
    "granite",
    "mixtral",
    "qwen3-moe",
    "qwen3-moe-windows",
]
NUM_LOGPROBS = 20


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_greedy_tokens_in_float32_equal_those_of_transformers(
    make_checkpoint, load_runner, driver_class, prompts, name
):
    checkpoint = make_checkpoint(name)
    driver = driver_class(load_runner(checkpoint.path))
    prompt = prompts(1, seed=1)[0] + [7, 8, 9]
    driver.add(prompt, 40)
    assert driver.run() == [checkpoint.greedy(prompt, 40)]


def _scored(runner, driver_class, token_ids):
    """{token: logprob} of the best tokens after each prefix of `token_ids`: [(length, scores)]."""
    scored = []
    for length in (1, 12, len(token_ids)):
        driver = driver_class(runner)
        params = SamplingParams(temperature=0, num_logprobs=NUM_LOGPROBS)
        driver.add(token_ids[:length], 1, params)
        driver.run()
        scored.append((length, dict(driver.answers[0][0].top_logprobs)))
    return scored


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_logprobs_in_float32_are_those_of_transformers(
    make_checkpoint, load_runner, driver_class, prompts, name
):
    checkpoint = make_checkpoint(name)
    runner = load_runner(checkpoint.path)
    token_ids = prompts(1, seed=2)[0] + [5] * 20
    expected = checkpoint.logits(token_ids).log_softmax(-1)
    for length, scores in _scored(runner, driver_class, token_ids):
        for token, logprob in scores.items():
            assert logprob == pytest.approx(expected[length - 1, token].item(), abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_logprobs_in_bfloat16_are_as_near_to_float32_as_those_of_transformers(
    make_checkpoint, load_runner, driver_class, prompts, name
):
    """Error against float32 at most twice transformers' own in bfloat16, plus one step at 4…8."""
    checkpoint = make_checkpoint(name)
    runner = load_runner(checkpoint.path, dtype="bfloat16")
    token_ids = prompts(1, seed=3)[0] + [5] * 20
    exact = checkpoint.logits(token_ids).log_softmax(-1)
    coarse = _in_bfloat16(checkpoint, token_ids)
    for length, scores in _scored(runner, driver_class, token_ids):
        tokens = list(scores)
        theirs = (coarse[length - 1, tokens] - exact[length - 1, tokens]).abs().max().item()
        ours = max(abs(scores[t] - exact[length - 1, t].item()) for t in tokens)
        assert ours <= 2 * theirs + 2**-5


def _in_bfloat16(checkpoint, token_ids):
    import copy

    model = copy.deepcopy(checkpoint.oracle).bfloat16()
    with torch.inference_mode():
        return model(torch.tensor([token_ids])).logits[0].float().log_softmax(-1)


@pytest.mark.slow
def test_every_family_is_compared(make_checkpoint):
    compared = {read_spec(make_checkpoint(name).path).architecture for name in MODELS}
    assert compared == set(FAMILIES)


# What a family switches, switched off: (model, field of the spec or of its scales, other value).
SWITCHES = [
    ("llama-tied-biased", "ropes", (RopeSpec(10_000.0),) * 3),
    ("llama", "ropes", (RopeSpec(5000.0),) * 3),
    ("mistral", "windows", (None,) * 3),
    ("qwen2-windows", "windows", (7,) * 3),
    ("qwen2-windows", "windows", (None,) * 3),
    ("qwen3-yarn", "ropes", (RopeSpec(5000.0),) * 3),
    ("phi3", "windows", (None,) * 3),
    ("phi3", "ropes", (RopeSpec(5000.0, turning_share=0.5),) * 3),
    ("gemma2", "windows", (None, 9, None)),
    ("gemma2", "activation", "silu"),
    ("gemma2", "has_zero_centred_norms", False),
    (
        "gemma2",
        "norms",
        LayerNorms(
            *[
                f"{n}_layernorm"
                for n in ("post_attention", "input", "pre_feedforward", "post_feedforward")
            ]
        ),
    ),
    (
        "gemma2",
        "norms",
        LayerNorms(
            *[
                f"{n}_layernorm"
                for n in ("input", "post_attention", "post_feedforward", "pre_feedforward")
            ]
        ),
    ),
    ("gemma2", "attention", 20**-0.5),
    ("gemma2", "embedding", 1.0),
    ("gemma2", "attention_cap", None),
    ("gemma2", "logits_cap", None),
    ("gemma3", "windows", (None,) * 6),
    ("gemma3", "ropes", (RopeSpec(1e6),) * 6),
    ("gemma3", "ropes", (RopeSpec(1e4),) * 6),
    ("gemma3", "has_zero_centred_norms", False),
    ("smollm3", "ropes", (RopeSpec(2e6),) * 4),
    ("smollm3-windows", "windows", (None,) * 3),
    (
        "olmo2",
        "norms",
        LayerNorms("post_attention_layernorm", None, "post_feedforward_layernorm", None),
    ),
    ("granite", "attention", 8**-0.5),
    ("granite", "embedding", 1.0),
    ("granite", "residual", 1.0),
    ("granite", "logits", 1.0),
    ("mixtral", "windows", (None,) * 3),
    ("mixtral", "num_active", 1),
    ("mixtral", "has_normed_weights", False),
    ("qwen3-moe", "num_active", 2),
    ("qwen3-moe", "has_normed_weights", False),
    ("qwen3-moe-windows", "has_normed_weights", True),
    ("qwen3-moe-windows", "windows", (None,) * 3),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "switch", "value"), SWITCHES)
def test_these_checkpoints_notice_every_switch(
    make_checkpoint, load_runner, driver_class, prompts, monkeypatch, name, switch, value
):
    """The comparisons with transformers would fail: logprobs move by far more than they allow."""
    path = make_checkpoint(name).path
    spec = read_spec(path)
    if hasattr(spec, switch):
        changed = dataclasses.replace(spec, **{switch: value})
    elif hasattr(spec.scales, switch):
        changed = dataclasses.replace(
            spec, scales=dataclasses.replace(spec.scales, **{switch: value})
        )
    else:
        experts = [e and dataclasses.replace(e, **{switch: value}) for e in spec.experts]
        changed = dataclasses.replace(spec, experts=tuple(experts))
    assert changed != spec
    token_ids = prompts(1, seed=2)[0] + [5] * 20
    expected = _scored(load_runner(path), driver_class, token_ids)[-1][1]
    monkeypatch.setattr("anzoth.scheduler.model_runner.read_spec", lambda _path: changed)
    scores = _scored(load_runner(path), driver_class, token_ids)[-1][1]
    assert max(abs(scores.get(token, -99) - expected[token]) for token in expected) > 1e-2


# --- rotary settings ----------------------------------------------------------------------------


def _with_config(source, target, changes):
    """A copy of a checkpoint whose config.json differs."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    config = json.loads((target / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v != ...}))
    return target


@pytest.mark.slow
def test_a_checkpoint_with_the_older_spelling_of_rotary_settings_computes_the_same(
    make_checkpoint, tmp_path
):
    source = make_checkpoint("llama").path
    scaling = json.loads((source / "config.json").read_text())["rope_parameters"]
    theta = scaling.pop("rope_theta")
    older = {"rope_parameters": ..., "rope_theta": theta, "rope_scaling": scaling}
    path = _with_config(source, tmp_path, older)
    assert read_spec(path) == read_spec(source)
    assert read_spec(path).ropes[0] == RopeSpec(5000.0, Llama3Scaling(4.0, 1.0, 4.0, 32))


@pytest.mark.slow
@pytest.mark.parametrize("limit", [32, None])
def test_longrope_divides_by_the_list_for_the_longest_sequence_that_is_served(
    make_checkpoint, load_runner, driver_class, tmp_path, limit
):
    """Transformers changes lists when a sequence grows past the original context; here a limit
    within it chooses the short list, and a wider one the long list, for all sequences."""
    import transformers

    source = make_checkpoint("phi3")
    rope = {
        "rope_type": "longrope",
        "rope_theta": 5000.0,
        "partial_rotary_factor": 0.75,
        "short_factor": [1.0, 1.3, 2.0],
        "long_factor": [1.5, 3.0, 8.0],
    }
    changes = {"rope_parameters": rope, "original_max_position_embeddings": 32}
    path = _with_config(source.path, tmp_path, changes)
    oracle = transformers.AutoModelForCausalLM.from_pretrained(path).float().eval()
    checkpoint = dataclasses.replace(source, path=path, oracle=oracle)
    prompt = [3 + i * 11 % 200 for i in range(20 if limit else 40)]
    driver = driver_class(load_runner(path, max_model_tokens=limit))
    driver.add(prompt, 12)
    assert driver.run() == [checkpoint.greedy(prompt, 12)]
    expected = checkpoint.logits(prompt).log_softmax(-1)[-1]
    params = SamplingParams(temperature=0, num_logprobs=NUM_LOGPROBS)
    scored = driver_class(load_runner(path, max_model_tokens=limit))
    scored.add(prompt, 1, params)
    scored.run()
    for token, logprob in scored.answers[0][0].top_logprobs:
        assert logprob == pytest.approx(expected[token].item(), abs=2e-5)


# --- tensors ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "wrong", "named"),
    [
        ("phi3", {"architectures": ["LlamaForCausalLM"]}, r"missing: .*q_proj.*unexpected: .*qkv"),
        ("mixtral", {"num_local_experts": 6}, r"missing: .*experts\.5.*wrong shape: .*gate"),
        ("qwen3-moe", {"mlp_only_layers": []}, r"missing: .*layers\.1\.mlp\.experts"),
        ("olmo2", {"architectures": ["Qwen3ForCausalLM"]}, r"input_layernorm.*wrong shape: .*norm"),
    ],
)
def test_a_config_that_does_not_fit_the_tensors_is_told_before_any_is_read(
    make_checkpoint, load_runner, tmp_path, name, wrong, named
):
    path = _with_config(make_checkpoint(name).path, tmp_path, wrong)
    with pytest.raises(CheckpointError, match=named):
        load_runner(path)
