"""How often are words enough? Titles against their own abstracts, and against others."""

from __future__ import annotations

import json
import random
import re

import pytest

import cranfield
from anzoth.gateway.knowledge.citations import ENOUGH, Citation, Evidence
from anzoth.gateway.knowledge.packing import PackedPassage, Piece


@pytest.mark.slow
def test_titles_have_support_in_their_own_abstracts_and_not_in_others() -> None:
    folder = cranfield.find()
    if folder is None:
        pytest.skip(f"no Cranfield here: {cranfield.VARIABLE} is to name its folder")
    rows: list[tuple[str, str]] = []
    for document in json.loads((folder / "cran_docs.json").read_text()):
        title, body = document["title"].strip(" ."), document["body"]
        # Abstracts begin with their title.
        begin = re.match(r"\W*".join(map(re.escape, re.findall(r"\w+", title))), body)
        body = body[begin.end() :] if begin else body
        if len(title.split()) >= 5 and len(body.split()) >= 60:
            rows.append((title, body))
    rows = rows[:300]
    abstracts = [
        Evidence([PackedPassage("vs", "f", "f", "", (Piece(0, len(body), body),), 0.5)])
        for _, body in rows
    ]

    def scores(rows_of_abstracts: list[int]) -> list[float]:
        made = [
            abstracts[row].citations(f"{title} [1]")[0]
            for (title, _), row in zip(rows, rows_of_abstracts, strict=True)
        ]
        return [mark.score for mark in made if isinstance(mark, Citation)]

    rng = random.Random(1)
    others = [(row + rng.randrange(1, len(rows))) % len(rows) for row in range(len(rows))]
    own, other = scores([*range(len(rows))]), scores(others)

    def part(values: list[float]) -> float:
        return sum(value >= ENOUGH for value in values) / len(values)

    assert part(own) == pytest.approx(0.79, abs=0.01)
    assert part(other) == pytest.approx(0.02, abs=0.01)
