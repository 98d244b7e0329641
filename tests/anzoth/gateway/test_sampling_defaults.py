"""What a checkpoint recommends holds where nothing was said, and nothing impossible is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anzoth.api.requests import COMMON_FIELDS
from anzoth.errors import InvalidValue
from anzoth.frames import SamplingParams
from anzoth.gateway.sampling_defaults import RECOMMENDABLE, SamplingDefaults, SamplingDefaultsError


def recommending(directory: Path, **fields: Any) -> SamplingDefaults:
    (directory / "generation_config.json").write_text(json.dumps(fields))
    return SamplingDefaults.read(directory)


def filled(defaults: SamplingDefaults, *said: str) -> SamplingParams:
    return defaults.fill(SamplingParams(seed=5), RECOMMENDABLE.keys() - set(said))


def test_a_checkpoint_without_the_file_recommends_nothing(tmp_path: Path) -> None:
    assert filled(SamplingDefaults.read(tmp_path)) == SamplingParams(seed=5)
    assert filled(recommending(tmp_path, eos_token_id=3, top_p=None)) == SamplingParams(seed=5)


def test_what_is_unsaid_is_as_recommended_and_the_rest_stays(tmp_path: Path) -> None:
    given = recommending(
        tmp_path,
        do_sample=True,
        temperature=0.6,
        top_k=20,
        top_p=0.95,
        min_p=0.01,
        typical_p=0.9,
        repetition_penalty=1.05,
        max_new_tokens=7,
    )
    assert filled(given) == SamplingParams(0.6, 0.95, 20, 0.01, 0.9, 5, repetition_penalty=1.05)
    only_top_k = filled(given, *(RECOMMENDABLE.keys() - {"top_k"}))
    assert only_top_k == SamplingParams(top_k=20, seed=5)


def test_a_model_that_is_not_to_be_sampled_is_greedy(tmp_path: Path) -> None:
    assert filled(recommending(tmp_path, do_sample=False, temperature=0.7)).temperature == 0
    assert filled(recommending(tmp_path, do_sample=False), "temperature").temperature == 1


def test_limits_that_are_none_are_none(tmp_path: Path) -> None:
    for top_k in (0, -1):
        assert filled(recommending(tmp_path, top_k=top_k)).top_k is None
    assert 0 < filled(recommending(tmp_path, top_p=0)).top_p < 1e-3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", value) for value in (-0.1, 2.5, "hot", True, [1])),
        *(("top_k", value) for value in (1.5, -2, 1 << 21)),
        *(("top_p", value) for value in (1.1, -1)),
        ("typical_p", 0),
        ("repetition_penalty", 0),
        ("min_p", 2),
    ],
)
def test_what_cannot_be_is_said_with_its_place(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(SamplingDefaultsError, match=rf"{name} in .*generation_config.json is"):
        recommending(tmp_path, **{name: value})


@pytest.mark.parametrize("text", ["[1]", "{", "null"])
def test_a_file_that_is_no_object_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(SamplingDefaultsError, match=r"generation_config\.json"):
        SamplingDefaults.read(tmp_path)


@pytest.mark.parametrize("name", RECOMMENDABLE)
@pytest.mark.parametrize("value", [-2, -1, -0.1, 0, 0.5, 1, 2, 2.5, 10, 10.5, 1 << 20, 1 << 21])
def test_a_checkpoint_may_recommend_what_a_request_may_say(
    tmp_path: Path, name: str, value: float
) -> None:
    (field,) = (field for field in COMMON_FIELDS if field.name == name)
    try:
        field.check(value, name)
    except InvalidValue:
        with pytest.raises(SamplingDefaultsError):
            recommending(tmp_path, **{name: value})
    else:
        recommending(tmp_path, **{name: value})
