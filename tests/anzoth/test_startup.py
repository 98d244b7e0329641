"""What must be true before anything is started."""

from __future__ import annotations

from anzoth.backend_config import BackendConfig
from anzoth.config import Config
from anzoth.startup import take_secrets


def test_what_is_secret_leaves_the_environment_and_nothing_else_does() -> None:
    backends = tuple(
        BackendConfig(name, "http://h/v1", ("m",), api_key_env=variable)
        for name, variable in (("a", "KEY_A"), ("b", "KEY_B"), ("same", "KEY_A"), ("none", None))
    )
    environ = {
        "ANZOTH_DATABASE_URL": "postgresql://u:password@h/x",
        "ANZOTH_LOG_LEVEL": "debug",
        "KEY_A": "sk-a",
        "PATH": "/bin",
    }
    assert take_secrets(Config(backends=backends), environ) == {"KEY_A": "sk-a"}
    assert environ == {"ANZOTH_LOG_LEVEL": "debug", "PATH": "/bin"}
