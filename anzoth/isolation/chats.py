"""Does a chat answer from another tenant's documents?

It can name a knowledge base in the request, or through something of one's own that names it: an
alias, or a key. Whatever was written there, a chat is like one about a knowledge base that nobody
has. (What names one in the request itself is among `recipes.REFERENCES`.)

Does not know: how an answer is made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from anzoth.isolation import client, comparing
from anzoth.isolation.belongings import Kind, Owner, message_of
from anzoth.isolation.client import Content
from anzoth.isolation.comparing import Answer
from anzoth.isolation.probing import REFERENCES, Prober, Question, told_apart
from anzoth.isolation.report import Check, failed, passed
from anzoth.isolation.showing import CONTENT

_CHAT = "/v1/chat/completions"
_NOT_FOUND = 404


async def answers(prober: Prober) -> list[Check]:
    """Nothing where the tenant can have no knowledge base, or no model answers."""
    a, b = prober.a, prober.b
    if b.model is None or not {Kind.STORE, Kind.ALIAS}.issubset(a.ids.keys() & b.ids.keys()):
        return []
    return [
        await _of_own(prober),
        await _through(prober, "an alias of one's own that names the other's store", _by_alias),
        await _through(prober, "a key of one's own that names the other's store", _by_key),
    ]


async def _of_own(prober: Prober) -> Check:
    """The same question, about the store of who asks: `file_search` with its trace."""
    a, b = prober.a, prober.b
    name = "a chat about the other's words finds nothing of the other's"
    question = a.canaries.text("file")
    own = await prober.server.ask(a.infers, "POST", _CHAT, _about(a, question))
    other = await prober.ask(Question(b.infers, "POST", _CHAT, _about(b, question)))
    found = {"own": {"status": own.status}, "other": {"status": other.status}}
    if not own.is_success or a.ids[Kind.FILE] not in _trace(own):
        reason = f"its own tenant's chat does not find its document: {message_of(own)}"
        return failed(CONTENT, name, reason, **found)
    if not other.is_success:
        return failed(CONTENT, name, f"it was refused: {message_of(other)}", **found)
    if a.ids[Kind.FILE] in other.body.decode():
        return failed(CONTENT, name, "it finds the other's document", **found)
    return passed(CONTENT, name, **found)


def _about(owner: Owner, question: str) -> Content:
    tool = {"type": "file_search", "vector_store_ids": [owner.ids[Kind.STORE]], "trace": True}
    return _asking(owner.model, question, tools=[tool])


def _asking(model: str | None, question: str, **more: Any) -> Content:
    messages = [{"role": "user", "content": question}]
    return Content({"model": model, "messages": messages, "max_tokens": 1, **more})


def _trace(answer: Answer) -> str:
    return orjson.dumps(orjson.loads(answer.body).get("x_anzoth", {})).decode()


# --- what of one's own can name -----------------------------------------------------------------

_Name = Callable[[Prober, str], Awaitable[Question]]
"""Writes a store's id somewhere, and returns the chat that it is used in. Raises _Refused."""


class _Refused(Exception):
    """Nothing can be written there: the answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


async def _through(prober: Prober, name: str, write: _Name) -> Check:
    foreign, unknown = prober.a.ids[Kind.STORE], comparing.unknown_like(prober.a.ids[Kind.STORE])
    name = f"POST {_CHAT}: {name}"
    asked: list[tuple[Question, Answer]] = []
    for id in (foreign, unknown):
        try:
            question = await write(prober, id)
        except _Refused as refused:
            question = Question(prober.b.manages, "POST", _CHAT, ids=(id,))
            asked.append((question, refused.answer))
        else:
            asked.append((question, await prober.ask(question)))
    (one, its), (other, others) = asked
    return told_apart(REFERENCES, name, one, other, its, others, must_be=_NOT_FOUND)


async def _by_alias(prober: Prober, id: str) -> Question:
    b = prober.b
    path = f"/v1/organization/model_aliases/{b.ids[Kind.ALIAS]}"
    await _written(prober, path, {"knowledge_bases": [id]})
    content = _asking(b.ids[Kind.ALIAS_NAME], "What does it say?")
    return Question(b.infers, "POST", _CHAT, content, (id,))


async def _by_key(prober: Prober, id: str) -> Question:
    b = prober.b
    body = {"name": "mine", "scopes": ["chat"], "default_knowledge_bases": [id]}
    made = await _written(prober, f"{b.project}/api_keys", body)
    who = client.with_key(orjson.loads(made.body)["value"])
    return Question(who, "POST", _CHAT, _asking(b.model, "What does it say?"), (id,))


async def _written(prober: Prober, path: str, body: dict[str, Any]) -> Answer:
    """Raises _Refused."""
    answer = await prober.ask(Question(prober.b.manages, "POST", path, Content(body)))
    if not answer.is_success:
        raise _Refused(answer)
    return answer
