from __future__ import annotations

from anzoth.gateway.gone_tags import REMEMBERED_S, GoneTags


def test_a_tag_is_gone_for_a_while_and_then_as_any_other() -> None:
    now_s = 100.0
    tags = GoneTags(lambda: now_s)
    tags.add(["a", "b"])
    assert tags.among(("a", "c")) == ("a",)
    now_s += REMEMBERED_S - 1
    tags.add(["c"])
    assert tags.among(("b", "c")) == ("b", "c")
    now_s += 2
    assert tags.among(("a", "b", "c")) == ("c",)


def test_what_is_over_is_not_kept() -> None:
    now_s = 0.0
    tags = GoneTags(lambda: now_s)
    tags.add(map(str, range(100)))
    now_s += REMEMBERED_S
    tags.add(["new"])
    assert list(tags._until_s) == ["new"]
