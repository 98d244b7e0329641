"""`anzoth aliases`: what the operator may type."""

from __future__ import annotations

from pathlib import Path

import pytest

from anzoth.commands.aliases import _fields, _parse
from anzoth.config import Config
from anzoth.gateway.directory import DirectoryError
from anzoth.model_config import ModelConfig


def test_targets_for_different_purposes_are_refused_by_what_the_configuration_serves(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    config = Config(models=(ModelConfig(), ModelConfig("vectors", tmp_path, ("ada",))))

    def alias_of(*models: str) -> dict[str, object]:
        return {"name": "x", "targets": [{"model": model} for model in models]}

    with pytest.raises(DirectoryError, match="'ada' makes embeddings, and 'anzoth-default' gen"):
        _parse(config, alias_of("anzoth-default", "ada"))
    for fine in (("vectors", "ada"), ("anzoth-default", "loaded-later")):
        assert len(_parse(config, alias_of(*fine)).targets) == 2


@pytest.mark.parametrize(
    ("typed", "given"), [(["vs_1", "vs_2"], ["vs_1", "vs_2"]), (["none"], []), (None, None)]
)
def test_knowledge_bases_and_tools_are_all_that_were_typed_and_none_takes_them_away(
    typed: list[str] | None, given: list[str] | None
) -> None:
    fields = _fields(Config(), None, None, None, None, None, typed, typed)
    assert fields.get("knowledge_bases") == fields.get("tools") == given
