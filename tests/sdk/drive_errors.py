"""Makes the calls that a test names, with the `openai` package; says what it made of each answer.

One JSON object a line comes in (`key`, `model`, `text`, `max_tokens`, `max_retries`), one goes out.
The Node twin is drive_errors.mjs.
"""

import json
import os
import sys
from typing import Any

import openai


def outcome(call: dict[str, Any]) -> list[object]:
    client = openai.OpenAI(
        base_url=os.environ["BASE_URL"], api_key=call["key"], max_retries=call["max_retries"]
    )
    try:
        client.chat.completions.create(
            model=call["model"],
            messages=[{"role": "user", "content": call["text"]}],
            max_tokens=call["max_tokens"],
            temperature=0,
        )
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.code]
    return ["ok"]


for line in sys.stdin:
    print(json.dumps(outcome(json.loads(line))), flush=True)
