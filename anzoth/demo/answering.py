"""What does a checkpoint answer to conversations? Greedy, by this project's own engine.

The prompts, the engine, the detokenizer and the reading of tool calls are those that serve
requests; only the sockets between them are missing.

Does not know: which answers are right.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from anzoth.demo.conversation import Conversation, ToolCall
from anzoth.demo.vocabulary import CHAT_TEMPLATE
from anzoth.frames import SamplingParams, Submit
from anzoth.model_config import EngineConfig
from anzoth.scheduler.engine import Engine
from anzoth.scheduler.model_runner import ModelRunner
from anzoth.text.chat_template import ChatTemplate
from anzoth.text.detokenizer import detokenize
from anzoth.text.prompt import chat_prompt
from anzoth.text.tokenizer import Tokenizer
from anzoth.text.tool_calls import ToolCallFormat, format_of

MAX_ANSWER_TOKENS = 200
_AT_ONCE = 64


@dataclass(slots=True, frozen=True)
class Answer:
    """What the assistant said and which tools it wants to be called."""

    text: str
    calls: tuple[ToolCall, ...] = ()


class Answering:
    """A loaded checkpoint."""

    def __init__(self, folder: Path) -> None:
        """Raises what the engine and the tokenizer raise for a folder that holds no checkpoint."""
        self._tokenizer = Tokenizer.load(folder)
        source = self._tokenizer.chat_template or CHAT_TEMPLATE
        self._template = ChatTemplate(source, self._tokenizer.special_tokens)
        self._calls: ToolCallFormat | None = format_of(source)
        config = EngineConfig(max_running_sequences=_AT_ONCE)
        self._engine = Engine(ModelRunner.load(folder, config), config, time.monotonic)

    def prompt(self, conversation: Conversation) -> list[int]:
        """The ids after which the assistant speaks."""
        tools = {"tools": list(conversation.tools) or None}
        return chat_prompt(self._tokenizer, self._template, conversation.messages(), tools)

    def answers(self, conversations: Sequence[Conversation]) -> Iterator[Answer]:
        """One answer to each conversation, in order; they are computed some dozens at a time."""
        for start in range(0, len(conversations), _AT_ONCE):
            some = conversations[start : start + _AT_ONCE]
            told = self._generate([self.prompt(conversation) for conversation in some])
            for conversation, token_ids in zip(some, told, strict=True):
                yield self._read(token_ids, conversation)

    def _generate(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """The likeliest tokens after each prompt, without the one that ends the answer."""
        places = {self._submit(prompt): place for place, prompt in enumerate(prompts)}
        told: list[list[int]] = [[] for _ in prompts]
        while self._engine.has_work:
            for row in self._engine.step():
                if row.token is not None and row.finish != "stop":
                    told[places[row.request]].append(row.token)
        return told

    def _submit(self, prompt: list[int]) -> int:
        submit = Submit(
            request=0,
            cache_salt="00",
            tenant="examination",
            num_choices=1,
            max_tokens=MAX_ANSWER_TOKENS,
            sampling=SamplingParams(temperature=0.0),
        )
        request = self._engine.submit(submit, prompt)
        if not isinstance(request, int):
            raise ValueError(f"the engine refuses a prompt of {len(prompt)} tokens: {request}")
        return request

    def _read(self, token_ids: list[int], conversation: Conversation) -> Answer:
        text = detokenize(self._tokenizer.pieces, token_ids)
        if self._calls is None or not conversation.tools:
            return Answer(text)
        parser = self._calls.parser([tool["function"]["name"] for tool in conversation.tools])
        events = [*parser.push(text), *parser.flush()]
        return Answer(
            "".join(event for event in events if isinstance(event, str)),
            tuple(
                ToolCall(event.name, json.loads(event.arguments))
                for event in events
                if not isinstance(event, str)
            ),
        )
