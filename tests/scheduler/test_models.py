"""Each family against transformers on the same random checkpoint, and what config.json may say."""

import json
import shutil

import pytest
import torch

from anzoth.frames import SamplingParams
from anzoth.scheduler.checkpoint import CheckpointError
from anzoth.scheduler.models.rotary import cos_sin_tables
from anzoth.scheduler.models.specs import Llama3Scaling, RopeSpec, read_spec

FAMILIES = ["llama", "llama-tied-biased", "mistral", "qwen2", "qwen2-windows", "qwen3"]
NUM_LOGPROBS = 20


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
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
@pytest.mark.parametrize("name", FAMILIES)
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
@pytest.mark.parametrize("name", FAMILIES)
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
def test_a_checkpoint_with_the_older_spelling_of_rotary_settings_computes_the_same(
    make_checkpoint, load_runner, driver_class, tmp_path
):
    checkpoint = make_checkpoint("llama")
    shutil.copytree(checkpoint.path, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    config["rope_scaling"] = scaling
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_spec(tmp_path) == read_spec(checkpoint.path)
    assert read_spec(tmp_path).rope == RopeSpec(5000.0, llama3=Llama3Scaling(4.0, 1.0, 4.0, 32))


# --- config.json ------------------------------------------------------------------------------

MINIMAL = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "eos_token_id": 2,
}


@pytest.fixture
def spec_of(tmp_path):
    """(changes to a minimal config, generation config) -> ModelSpec."""

    def read(changes=None, generation=None):
        config = {k: v for k, v in (MINIMAL | (changes or {})).items() if v is not ...}
        (tmp_path / "config.json").write_text(json.dumps(config))
        if generation is not None:
            (tmp_path / "generation_config.json").write_text(json.dumps(generation))
        return read_spec(tmp_path)

    return read


def test_what_a_minimal_config_leaves_out_has_the_usual_defaults(spec_of):
    spec = spec_of()
    assert (spec.num_kv_heads, spec.head_dim, spec.norm_eps) == (4, 8, 1e-6)
    assert spec.rope == RopeSpec(10_000.0)
    assert spec.windows == (None,) * 4
    assert not spec.has_tied_embeddings
    assert not spec.has_qkv_bias


def test_end_tokens_of_the_generation_config_win(spec_of):
    assert spec_of().eos_token_ids == (2,)
    assert spec_of(generation={"eos_token_id": [7, 9]}).eos_token_ids == (7, 9)
    assert spec_of({"eos_token_id": None}, generation={}).eos_token_ids == ()


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"sliding_window": 8}, (None,) * 4),
        ({"sliding_window": 8, "use_sliding_window": True}, (8,) * 4),
        (
            {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 3},
            (None, None, None, 8),
        ),
        (
            {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 0}
            | {"layer_types": ["sliding_attention", "full_attention"] * 2},
            (8, None, 8, None),
        ),
    ],
)
def test_windows_of_qwen_are_off_unless_switched_on(spec_of, changes, windows):
    assert spec_of({"architectures": ["Qwen2ForCausalLM"]} | changes).windows == windows


def test_mistral_has_its_window_on_every_layer_or_on_none(spec_of):
    mistral = {"architectures": ["MistralForCausalLM"]}
    assert spec_of(mistral | {"sliding_window": 8}).windows == (8,) * 4
    assert spec_of(mistral | {"sliding_window": None}).windows == (None,) * 4


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "'GPT2LMHeadModel' is not supported"),
        ({"architectures": ...}, "architectures is missing"),
        ({"vocab_size": ...}, "vocab_size is missing"),
        ({"hidden_size": "32"}, "hidden_size is '32'; expected int"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_key_value_heads": 3}, "4 attention heads cannot share 3"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised weights"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "'yarn' is not supported"),
        ({"rope_scaling": {"type": "linear"}}, "factor is None"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"rms_norm_eps": True}, "rms_norm_eps is True"),
        ({"eos_token_id": "end"}, "eos_token_id is 'end'"),
        (
            {"architectures": ["Qwen3ForCausalLM"], "sliding_window": 4}
            | {"use_sliding_window": True, "layer_types": ["sliding_attention"]},
            "for 4 layers",
        ),
    ],
)
def test_what_is_not_computed_here_is_refused_by_name(spec_of, changes, named):
    with pytest.raises(CheckpointError, match=r"config\.json") as raised:
        spec_of(changes)
    assert named in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'"x"', b"[" * 100_000])
def test_a_config_that_is_no_json_object_is_one_sentence(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_spec(tmp_path)


def test_a_missing_config_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot read .*config\.json"):
        read_spec(tmp_path)


# --- rotary -----------------------------------------------------------------------------------


def test_linear_scaling_stretches_positions():
    plain = cos_sin_tables(RopeSpec(100.0), 8, 9)
    stretched = cos_sin_tables(RopeSpec(100.0, linear_factor=2.0), 8, 17)
    for one, two in zip(plain, stretched, strict=True):
        torch.testing.assert_close(two[::2], one)


def test_llama3_scaling_leaves_fast_dimensions_and_divides_slow_ones():
    scaling = Llama3Scaling(8.0, 1.0, 4.0, 64)
    plain, scaled = (
        torch.atan2(*reversed(cos_sin_tables(rope, 16, 2)))[1]
        for rope in (RopeSpec(10_000.0), RopeSpec(10_000.0, llama3=scaling))
    )
    ratio = plain / scaled
    assert ratio[0] == pytest.approx(1.0)
    assert ratio[-1] == pytest.approx(8.0)
    assert (ratio.diff() >= -1e-4).all()
