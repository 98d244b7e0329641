"""Drives a running server with the OpenAI Agents SDK, as its users do: agents that speak Responses
and chats, with tools, types, a handoff, a session and a search. BASE_URL and API_KEY come from the
environment; see `flows` for what is printed.
"""

import os
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import openai
from agents import (
    Agent,
    FileSearchTool,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunContextWrapper,
    Runner,
    SQLiteSession,
    function_tool,
    handoff,
    set_tracing_disabled,
)
from pydantic import BaseModel, Field

from flows import run

QUESTION = "What is Anzoth?"
ASKED = "How full is the north tank?"
SERVER: dict[str, Any] = {
    "base_url": os.environ["BASE_URL"],
    "api_key": os.environ["API_KEY"],
    "max_retries": 0,
}
CLIENT = openai.AsyncOpenAI(**SERVER)
RESPONSES = OpenAIResponsesModel(model="anzoth-default", openai_client=CLIENT)
CHATS = OpenAIChatCompletionsModel(model="anzoth-default", openai_client=CLIENT)
SETTINGS = ModelSettings(temperature=0, max_tokens=120, include_usage=True)
FORCED = SETTINGS.resolve(ModelSettings(tool_choice="required", parallel_tool_calls=False))


@dataclass
class Calls:
    """What the tool was called with."""

    tanks: list[str]


class Level(BaseModel):
    """How full something is."""

    level: Literal["low", "high"]
    note: Annotated[str, Field(max_length=8)]


def is_uncalled(context: RunContextWrapper[Calls], _agent: Any) -> bool:
    """The tool is offered once: what the model would like to do next is not looked at here."""
    return not context.context.tanks


@function_tool(is_enabled=is_uncalled)
def read_level(context: RunContextWrapper[Calls], tank: Literal["north", "south"]) -> str:
    """Reads how full a tank is."""
    context.context.tanks.append(tank)
    return f"The {tank} tank is full."


def items_of(result: Any) -> Any:
    usage = result.context_wrapper.usage
    return {
        "items": [item.type for item in result.new_items],
        "output": result.final_output
        if isinstance(result.final_output, str)
        else result.final_output.model_dump(),
        "usage": [usage.requests, usage.input_tokens, usage.output_tokens, usage.total_tokens],
    }


async def streamed(agent: Agent[Any], asked: str, context: Any = None) -> Any:
    result = Runner.run_streamed(agent, asked, context=context, max_turns=3)
    types = []
    text = ""
    async for event in result.stream_events():
        types.append(event.type)
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            text += event.data.delta
    return {**items_of(result), "text": text, "events": sorted(set(types))}


async def tools() -> Any:
    made = []
    for model in (RESPONSES, CHATS):
        agent = Agent[Calls]("reader", model=model, tools=[read_level], model_settings=FORCED)
        calls, streamed_calls = Calls([]), Calls([])
        result = await Runner.run(agent, ASKED, context=calls, max_turns=3)
        made.append(
            {
                "whole": items_of(result),
                "streamed": await streamed(agent, ASKED, streamed_calls),
                "tanks": [calls.tanks, streamed_calls.tanks],
            }
        )
    return made


async def types() -> Any:
    made = []
    for model in (RESPONSES, CHATS):
        agent = Agent("typist", model=model, output_type=Level, model_settings=SETTINGS)
        whole = await Runner.run(agent, "The north tank is full. Report.")
        made += [items_of(whole), await streamed(agent, "The north tank is full. Report.")]
    return made


async def handoffs() -> Any:
    """One agent has to hand over to another, which answers."""
    made = []
    for model in (RESPONSES, CHATS):
        second = Agent("expert", "You are an expert.", model=model, model_settings=SETTINGS)
        first = Agent("clerk", model=model, handoffs=[handoff(second)], model_settings=FORCED)
        result = await Runner.run(first, QUESTION, max_turns=3)
        made.append({**items_of(result), "last": result.last_agent.name})
    return made


async def sessions() -> Any:
    """Kept here by the SDK, kept by the server, and the same conversation either way."""
    made = []
    settings = SETTINGS.resolve(ModelSettings(max_tokens=24))
    for model in (RESPONSES, CHATS):
        agent = Agent("teller", model=model, model_settings=settings)
        session = SQLiteSession("conversation")
        first = await Runner.run(agent, QUESTION, session=session)
        second = await Runner.run(agent, "And who may use it?", session=session)
        made.append([items_of(first), items_of(second)])
        if model is RESPONSES:
            kept = await Runner.run(
                agent, "And who may use it?", previous_response_id=first.last_response_id
            )
            made.append([items_of(first), items_of(kept)])
    return made


async def file_search() -> Any:
    store = await CLIENT.vector_stores.create(name="boats")
    file = await CLIENT.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("boat.txt", b"The owner of the boat is Mara Velten.")
    )
    tool = FileSearchTool([store.id], max_num_results=2, include_search_results=True)
    agent = Agent("searcher", model=RESPONSES, tools=[tool], model_settings=SETTINGS)
    asked = "Who is the owner of the boat?"
    made = [items_of(await Runner.run(agent, asked)), await streamed(agent, asked)]
    await CLIENT.vector_stores.delete(store.id)
    await CLIENT.files.delete(file.id)
    return made


async def close() -> Any:
    await CLIENT.close()


set_tracing_disabled(True)
run(tools, types, handoffs, sessions, file_search, close)
