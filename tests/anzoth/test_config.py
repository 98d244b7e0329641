"""Where does a setting come from, and what happens to an impossible one?"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from anzoth import config, model_config
from anzoth.account_config import OidcConfig
from anzoth.config import Config, ConfigError, HttpConfig, ServerConfig
from anzoth.model_config import EngineConfig
from anzoth.price import Price


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "anzoth.toml"
    file.write_text(text)
    return file


def checkpoint(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_defaults_need_no_file_and_no_environment() -> None:
    assert config.load(None, {}, {}) == Config()


def test_command_line_beats_environment_beats_file(tmp_path: Path) -> None:
    file = written(tmp_path, "[server]\nport = 1\nhost = 'file'\ndrain_s = 3\n")
    environ = {"ANZOTH_PORT": "2", "ANZOTH_HOST": "environment"}
    server = config.load(file, {"port": 3, "host": None}, environ).server
    assert (server.port, server.host, server.drain_s) == (3, "environment", 3.0)


def test_every_section_is_reachable_from_file_and_environment(tmp_path: Path) -> None:
    file = written(tmp_path, "[engine]\nnum_blocks = 7\n[http]\nmax_connections = 9\n")
    environ = {"ANZOTH_ENGINE_DTYPE": "float32", "ANZOTH_HTTP_HEAD_TIMEOUT_S": "0.5"}
    loaded = config.load(file, {}, environ)
    assert (loaded.engine.num_blocks, loaded.engine.dtype) == (7, "float32")
    assert (loaded.http.max_connections, loaded.http.head_timeout_s) == (9, 0.5)


def test_trusted_proxies_are_a_list_in_the_file_and_words_in_the_environment(
    tmp_path: Path,
) -> None:
    file = written(tmp_path, "[http]\ntrusted_proxies = ['10.0.0.0/8', '::1']\n")
    assert config.load(file, {}, {}).http.trusted_proxies == ("10.0.0.0/8", "::1")
    environ = {"ANZOTH_HTTP_TRUSTED_PROXIES": "192.0.2.1 192.0.2.2"}
    assert config.load(file, {}, environ).http.trusted_proxies == ("192.0.2.1", "192.0.2.2")


def test_models_from_command_line_environment_and_file(tmp_path: Path) -> None:
    a, b = checkpoint(tmp_path, "a"), checkpoint(tmp_path, "b")
    file = written(tmp_path, f"[[models]]\nname = 'from-file'\npath = '{a}'\n")
    assert [m.name for m in config.load(file, {}, {}).models] == ["from-file"]
    environ = {"ANZOTH_MODELS": f"x={a} y={b}"}
    assert [m.path for m in config.load(file, {}, environ).models] == [a, b]
    given = {"models": [f"z={b}"]}
    assert [m.name for m in config.load(file, given, environ).models] == ["z"]


def test_the_embedding_model_is_served_where_installed_and_can_be_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / model_config.EMBEDDING_PACKAGE
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('it must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, model_config.EMBEDDING_PACKAGE, raising=False)
    assert [m.name for m in config.load(None, {}, {}).models] == ["anzoth-default"]
    (package / "model" / "config.json").write_text("{}")
    models = config.load(None, {}, {}).models
    assert [m.name for m in models] == ["anzoth-default", "anzoth-embed"]
    assert models[1].path == package / "model"
    off = config.load(None, {"embeddings": None}, {"ANZOTH_EMBEDDINGS": "false"})
    assert [m.name for m in off.models] == ["anzoth-default"]
    file = written(tmp_path, "[server]\nembeddings = false\n")
    assert config.load(file, {}, {}).models == off.models
    given = {"models": [f"mine={checkpoint(tmp_path, 'a')}"]}
    assert [m.name for m in config.load(None, given, {}).models] == ["mine"]


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        ("[server]\nprot = 1\n", {}, "prot"),
        ("[sever]\n", {}, "sever"),
        ("[server]\nport = 'x'\n", {}, "port is 'x'; expected a whole number"),
        ("[server]\nport = 1.5\n", {}, "port is 1.5"),
        ("[server]\nport = true\n", {}, "port is True"),
        ("", {"ANZOTH_DRAIN_S": "soon"}, "ANZOTH_DRAIN_S is 'soon'; expected a number"),
        ("", {"ANZOTH_DRAIN_S": "-1"}, "must not be negative"),
        ("", {"ANZOTH_EMBEDDINGS": "perhaps"}, "expected true or false"),
        ("[server]\nembeddings = 'perhaps'\n", {}, "expected true or false"),
        ("", {"ANZOTH_PORT": ""}, "expected a whole number"),
        ("", {"ANZOTH_MODELS": "nameless"}, "expected NAME=PATH"),
        ("", {"ANZOTH_MODELS": "m=/nowhere"}, "has no config.json"),
        ("models = 3\n", {}, "[[models]]"),
        ("[[models]]\nname = 'm'\n", {}, "needs a `name` and a `path`"),
        (
            "[[models]]\nname = 'm'\npath = '/'\ncolour = 1\n",
            {},
            "model m: unknown setting 'colour'",
        ),
        ("[[models]]\nname = 'm'\npath = '/'\nkv_cache_mib = 'x'\n", {}, "model m: kv_cache_mib"),
        ("[[models]]\nname = 'm'\npath = '/'\naliases = 'x'\n", {}, "expected a list of names"),
        ("", {"ANZOTH_MODELS": "m=org/name"}, "anzoth models pull org/name"),
        ("", {"ANZOTH_ALIASES": "a"}, "expected NAME=MODEL"),
        ("", {"ANZOTH_ALIASES": "a=nothing"}, "no model is called 'nothing'"),
        ("", {"ANZOTH_ALIASES": "anzoth-default=anzoth-default"}, "two models are called"),
        ("[http]\ntrusted_proxies = '10.0.0.300'\n", {}, "trusted_proxies names '10.0.0.300'"),
        ("[http]\ntrusted_proxies = [7]\n", {}, "expected a list of texts"),
        ("this is not toml", {}, "not valid TOML"),
    ],
)
def test_an_impossible_setting_is_named(tmp_path, text, environ, says) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(written(tmp_path, text), {}, environ)
    assert says in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        config.load(tmp_path / "nowhere.toml", {}, {})


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    a = checkpoint(tmp_path, "a")
    with pytest.raises(ConfigError, match="two models"):
        config.load(None, {"models": [f"m={a}", f"m={a}"]}, {})


@pytest.mark.parametrize(
    "section",
    [
        ServerConfig(data_dir=Path("/x"), database_url="u"),
        HttpConfig(trusted_proxies=("10.0.0.0/8", "::1")),
        EngineConfig(num_blocks=3),
    ],
)
def test_a_section_survives_the_way_to_a_child_process(section) -> None:
    assert config.from_json(type(section), config.to_json(section)) == section


def test_run_dir_is_short_enough_for_a_socket(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    assert len(str(config.run_dir(long) / "engine-99.sock")) <= 107
    assert config.run_dir(long) == config.run_dir(long)
    assert config.run_dir(Path("/d")) == Path("/d/run")


def test_a_models_own_settings_win_over_those_of_all_engines(tmp_path: Path) -> None:
    a, b = checkpoint(tmp_path, "a"), checkpoint(tmp_path, "b")
    file = written(
        tmp_path,
        f"[engine]\nkv_cache_mib = 5\nnum_threads = 2\n"
        f"[[models]]\nname = 'a'\npath = '{a}'\nkv_cache_mib = 7\ndtype = 'float32'\n"
        f"[[models]]\nname = 'b'\npath = '{b}'\n",
    )
    environ = {"ANZOTH_ENGINE_KV_CACHE_MIB": "6"}
    first, second = config.load(file, {}, environ).models
    assert (first.engine.kv_cache_mib, first.engine.num_threads) == (7, 2)
    assert first.engine.dtype == "float32"
    assert second.engine == EngineConfig(kv_cache_mib=6, num_threads=2)


def test_aliases_from_tables_environment_and_command_line(tmp_path: Path) -> None:
    a = checkpoint(tmp_path, "a")
    file = written(tmp_path, f"[[models]]\nname = 'm'\npath = '{a}'\naliases = ['x', 'y']\n")
    environ = {"ANZOTH_ALIASES": "z=m"}
    assert config.load(file, {}, environ).models[0].names == ("m", "x", "y", "z")
    given = {"aliases": ["w=m"]}
    assert config.load(file, given, environ).models[0].names == ("m", "x", "y", "w")
    assert config.load(None, {"aliases": ["gpt=anzoth-default"]}, {}).models[0].aliases == ("gpt",)
    with pytest.raises(ConfigError, match="two models are called 'x'"):
        config.load(file, {"aliases": ["x=m"]}, {})


def test_a_hub_id_is_the_pulled_checkpoint_unless_there_is_such_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    pulled = tmp_path / "data" / "models" / "org" / "name" / commit
    pulled.mkdir(parents=True)
    (pulled / "config.json").write_text("{}")
    (pulled.parent / "current").write_text(f"{commit}\n")
    given = {"data_dir": tmp_path / "data", "models": ["m=org/name"]}
    assert config.load(None, given, {}).models[0].path == pulled
    (tmp_path / "org").mkdir()
    directory = checkpoint(tmp_path, "org/name")
    monkeypatch.chdir(tmp_path)
    assert config.load(None, given, {}).models[0].path == directory


def test_the_server_section_is_read_whatever_the_models_are(tmp_path: Path) -> None:
    file = written(tmp_path, "[server]\nport = 7\n[[models]]\nname = 'm'\npath = 'org/name'\n")
    assert config.load_server(file, {"data_dir": tmp_path}, {}).port == 7
    with pytest.raises(ConfigError):
        config.load(file, {}, {})


@pytest.mark.parametrize(
    ("text", "sign_up"),
    [
        ("", "open"),
        ("[server]\nhost = '::1'\n", "open"),
        ("[server]\nhost = 'localhost'\n", "open"),
        ("[server]\nhost = '0.0.0.0'\n", "invite"),
        ("[server]\nhost = 'gpu.example.com'\n", "invite"),
        ("[accounts]\npublic_url = 'https://ai.example.com/'\n", "invite"),
        ("[server]\nhost = '0.0.0.0'\n[accounts]\nsign_up = 'open'\n", "open"),
        ("[accounts]\nsign_up = 'closed'\n", "closed"),
    ],
)
def test_sign_up_is_open_by_default_where_only_this_machine_reaches_the_server(
    tmp_path: Path, text: str, sign_up: str
) -> None:
    assert config.load(written(tmp_path, text), {}, {}).accounts.sign_up == sign_up


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("sign_up = 'perhaps'", "expected one of open, invite, closed"),
        ("public_url = 'ai.example.com'", "expected https://host"),
        ("public_url = 'https://ai.example.com/path'", "expected https://host"),
        ("public_url = 'http://ai.example.com'", "need https"),
        ("session_idle_s = 'x'", "expected a number"),
    ],
)
def test_impossible_settings_of_accounts_stop_the_start(
    tmp_path: Path, setting: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        config.load(written(tmp_path, f"[accounts]\n{setting}\n"), {}, {})


OIDC = """
[accounts]
public_url = 'https://ai.example.com'
[[oidc]]
name = 'corp'
issuer = 'https://login.example.com'
client_id = 'anzoth'
domains = ['Example.com']
client_secret_file = '{secret}'
"""


def test_a_provider_s_secret_may_live_in_a_file_of_its_own(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary\n")
    loaded = config.load(written(tmp_path, OIDC.format(secret=secret)), {}, {})
    (provider,) = loaded.oidc
    assert (provider.client_secret, provider.domains) == ("canary", ("example.com",))
    assert "canary" not in repr(loaded)
    assert config.from_json(OidcConfig, config.to_json(provider)) == provider


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("public_url = 'https://ai.example.com'", "", "needs [accounts] public_url"),
        ("name = 'corp'", "name = 'a/b'", "expected letters and digits"),
        ("client_id = 'anzoth'", "", "client_id is missing"),
        ("domains = ['Example.com']", "domains = []", "domains is missing"),
        ("domains = ['Example.com']", "domains = 'x'", "expected a list of domains"),
        ("https://login.example.com", "http://login.example.com", "expected https"),
        ("client_id", "role = 'owner'\nclient_id", "expected viewer, member or admin"),
        ("client_id", "colour = 1\nclient_id", "unknown setting 'colour'"),
        ("{secret}", "/nowhere", "cannot read its secret"),
    ],
)
def test_impossible_providers_stop_the_start(tmp_path: Path, old: str, new: str, says: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary")
    text = OIDC.replace(old, new).format(secret=secret)
    with pytest.raises(ConfigError, match=re.escape(says)):
        config.load(written(tmp_path, text), {}, {})


def test_prices_are_read_by_model_and_by_alias(tmp_path: Path) -> None:
    a, b = checkpoint(tmp_path, "a"), checkpoint(tmp_path, "b")
    text = f"""
        [usage]
        currency = "EUR"
        [[models]]
        name = "a"
        path = "{a}"
        aliases = ["cheap", "same"]
        price = {{ input = "0.15", cached_input = "0.075", output = "0.6" }}
        alias_prices.cheap = {{ input = "0.1", output = "0.2" }}
        [[models]]
        name = "free"
        path = "{b}"
    """
    loaded = config.load(written(tmp_path, text), {}, {"ANZOTH_USAGE_MINUTE_RETENTION_DAYS": "3"})
    assert (loaded.usage.currency, loaded.usage.minute_retention_days) == ("eur", 3)
    full = Price(150_000, 75_000, 600_000)
    assert loaded.models[0].prices == {
        "a": full,
        "cheap": Price(100_000, 100_000, 200_000),
        "same": full,
    }
    assert loaded.models[1].prices == {}


def test_impossible_prices_stop_the_start_and_say_why(tmp_path: Path) -> None:
    a = checkpoint(tmp_path, "a")
    for line, message in (
        ("price = { input = 0.15, output = '1' }", "the price of a: input is 0.15; expected a dec"),
        ("price = { input = '0.15' }", "the price of a: it has no 'output'"),
        ("price = '0.15'", "the price of a: expected a table of input, cached_input, output"),
        ("alias_prices.b = { input = '1', output = '1' }", "names 'b', which is no alias"),
    ):
        file = written(tmp_path, f"[[models]]\nname = 'a'\npath = '{a}'\n{line}\n")
        with pytest.raises(ConfigError, match=message):
            config.load(file, {}, {})
    for name, value in (("currency", "'dollars'"), ("minute_retention_days", 0)):
        with pytest.raises(ConfigError, match=name):
            config.load(written(tmp_path, f"[usage]\n{name} = {value}\n"), {}, {})


def test_the_reranker_of_knowledge_bases_is_a_model_that_ranks(tmp_path: Path) -> None:
    chat, ranker = checkpoint(tmp_path, "chat"), checkpoint(tmp_path, "ranker")
    (ranker / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    models = "".join(
        f"[[models]]\nname = '{path.name}'\npath = '{path}'\naliases = ['{path.name}-2']\n"
        for path in (chat, ranker)
    )
    for name in ("ranker", "ranker-2"):
        file = written(tmp_path, f"[knowledge]\nreranker = '{name}'\n{models}")
        assert config.load(file, {}, {}).knowledge.reranker == name
    off = config.load(file, {}, {"ANZOTH_KNOWLEDGE_RERANKER": ""})
    assert off.knowledge.reranker is None
    for name, why in (("chat", "that model ranks nothing"), ("x", "no model is called that")):
        with pytest.raises(ConfigError) as caught:
            config.load(file, {}, {"ANZOTH_KNOWLEDGE_RERANKER": name})
        said = str(caught.value)
        assert f"reranker of [knowledge] is {name!r}, but {why}" in said
        assert said.endswith("of which there is ranker, ranker-2")


def test_there_is_room_for_the_largest_response_twice(tmp_path: Path) -> None:
    file = written(tmp_path, "[responses]\nretention_days = 0\ntenant_mib = 16\n")
    kept = config.load(file, {}, {"ANZOTH_RESPONSES_MAX_KIB": "4096"}).responses
    assert (kept.retention_days, kept.max_kib, kept.tenant_mib) == (0, 4096, 16)
    for name, value in (("TENANT_MIB", "15"), ("MAX_KIB", "0")):
        with pytest.raises(ConfigError, match=name.lower()):
            config.load(file, {}, {f"ANZOTH_RESPONSES_{name}": value})


def test_a_gateway_must_be_able_to_answer_a_batch(tmp_path: Path) -> None:
    file = written(tmp_path, "[batches]\nconcurrency = 2\nmax_requests = 10\n")
    batches = config.load(file, {}, {"ANZOTH_BATCHES_MAX_MIB": "3"}).batches
    assert (batches.concurrency, batches.max_requests, batches.max_mib) == (2, 10, 3)
    with pytest.raises(ConfigError, match="concurrency is 0"):
        config.load(file, {}, {"ANZOTH_BATCHES_CONCURRENCY": "0"})
