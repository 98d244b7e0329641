"""A [[backends]] table is whole and possible, or the start stops and says why without secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anzoth import config
from anzoth.backend_config import BackendConfig
from anzoth.gateway.backends import Backend
from anzoth.price import Price
from anzoth.settings import ConfigError
from anzoth.telemetry import Metrics

TABLE = '[[backends]]\nname = "far"\nbase_url = "https://far.example/v1"\nmodels = ["big"]\n'


def load(tmp_path: Path, text: str) -> tuple[BackendConfig, ...]:
    file = tmp_path / "anzoth.toml"
    file.write_text(text)
    return config.load(file, environ={}).backends


def test_a_table_is_read_and_survives_the_way_to_the_gateway(tmp_path: Path) -> None:
    more = 'tenants = ["acme"]\napi_key_file = "/k"\nchunk_timeout_s = 2\n'
    more += 'prices.big = { input = "1.5", cached_input = "0.25", output = "6" }\n'
    (made,) = load(tmp_path, TABLE + more)
    assert made == BackendConfig(
        "far", "https://far.example/v1", ("big",), api_key_file=Path("/k"), tenants=("acme",),
        chunk_timeout_s=2.0, prices={"big": Price(1_500_000, 250_000, 6_000_000)},
    )  # fmt: skip
    sent = json.loads(json.dumps(config.to_json(made)))
    assert config.from_json(BackendConfig, sent) == made


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"far"', '"Far:1"'), "needs a `name`"),
        (('["big"]', "[]"), "`models` must list"),
        (('["big"]', '"big"'), "models must be a list"),
        (("https://far.example/v1", "far.example/v1"), "`base_url` must look like"),
        (("https://far.example/v1", "file:///etc/passwd"), "`base_url` must look like"),
        (("https://far", "https://me:hunter2@far"), "`base_url` must look like"),
        (("models", "tokens = 3\nmodels"), "unknown setting 'tokens'"),
        (("models", 'api_key = "hunter2"\nmodels'), "unknown setting 'api_key'"),
        (("models", 'api_key_env = "A"\napi_key_file = "/b"\nmodels'), "not both"),
        (("models", "max_connections = -1\nmodels"), "must not be negative"),
        (("models", 'prices = "1"\nmodels'), "a table by model as prices"),
        (("models", 'prices.small = { input = "1" }\nmodels'), "'small', which is not in `models`"),
        (("models", 'prices.big = { input = "1" }\nmodels'), "price of big: it has no 'output'"),
        (("models", "prices.big = { input = 1, output = '1' }\nmodels"), "big: input is 1; expec"),
    ],
)
def test_what_is_impossible_is_said(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        load(tmp_path, TABLE.replace(*change))
    assert "hunter2" not in str(raised.value)


def test_two_backends_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two backends"):
        load(tmp_path, TABLE + TABLE)


@pytest.mark.parametrize("key", [None, "", "two words", "line\nbreak"])
def test_a_key_that_is_missing_or_impossible_stops_the_start(key: str | None) -> None:
    made = BackendConfig("far", "https://far.example/v1", ("big",), api_key_env="KEY")
    environ = {} if key is None else {"KEY": key}
    with pytest.raises(ConfigError, match="the variable KEY holds no API key") as raised:
        Backend(made, Metrics(), environ=environ)
    assert not key or key not in str(raised.value)


def test_a_key_file_may_end_with_a_line_break(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-123\n")
    made = BackendConfig("far", "https://far.example/v1", ("big",), api_key_file=file)
    assert Backend(made, Metrics())._authorization == {"authorization": "Bearer sk-123"}
