"""How does a prompt say which JSON the answer has to be?

The schema is appended to the system message, so that a model which has never heard of
`response_format` knows what is expected of it. Whether the answer then really has that form is
decided elsewhere; the bundled model is trained on exactly this text (`anzoth.demo`).

Does not know: what a schema means, or how tokens are constrained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

INSTRUCTION = "Answer with JSON that follows this schema:"


def with_schema(
    messages: Sequence[Mapping[str, Any]],  # JSON
    schema: Mapping[str, Any],  # JSON Schema
) -> list[Mapping[str, Any]]:
    """`messages` with the schema at the end of the system message, which is made if missing."""
    text = f"{INSTRUCTION} {json.dumps(schema, ensure_ascii=False)}"
    if messages and messages[0]["role"] == "system":
        first = {**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]
