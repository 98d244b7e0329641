"""Drives a running server with `llama-index-llms-openai-like`, as its users do: completions, chats
and Responses, tools, types, and an index over documents. BASE_URL and API_KEY come from the
environment; see `flows` for what is printed.
"""

import asyncio
import os
from typing import Annotated, Any, Literal

from llama_index.core import Document, PromptTemplate, VectorStoreIndex
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike, OpenAILikeResponses
from pydantic import BaseModel, Field

from flows import run

SERVER: dict[str, Any] = {
    "api_base": os.environ["BASE_URL"],
    "api_key": os.environ["API_KEY"],
    "max_retries": 0,
}
COMMON: dict[str, Any] = {
    **SERVER,
    "model": "anzoth-default",
    "temperature": 0,
    "context_window": 2048,
    "is_function_calling_model": True,
}
QUESTION = "What is Anzoth?"
PROMPT = PromptTemplate("The {tank} tank is full. Report.")
BOAT = "The owner of the boat is Mara Velten."

completions = OpenAILike(**COMMON | {"is_function_calling_model": False}, max_tokens=24)
chats = OpenAILike(**COMMON, is_chat_model=True, max_tokens=120)
typed_chats = chats.model_copy(update={"should_use_structured_outputs": True})
responses = OpenAILikeResponses(**COMMON, max_output_tokens=120)


class Level(BaseModel):
    """How full something is."""

    level: Literal["low", "high"]
    note: Annotated[str, Field(max_length=8)]


def read_level(tank: Literal["north", "south"]) -> str:
    """Reads how full a tank is."""
    return f"The {tank} tank is full."


TOOL = FunctionTool.from_defaults(read_level)


def completion() -> Any:
    """What `OpenAILike` does unless it is told that the model chats."""
    *_, streamed = completions.stream_complete("Anzoth is")
    return {
        "whole": completions.complete("Anzoth is").text,
        "streamed": streamed.text,
        "chat": completions.chat([ChatMessage("Anzoth is")]).message.content,
    }


def answers_of(model: Any) -> Any:
    asked = [ChatMessage(QUESTION)]
    whole = model.chat(asked)
    streamed = list(model.stream_chat(asked))
    return {
        "whole": whole.message.content,
        "usage": whole.raw.usage.model_dump(),
        "streamed": streamed[-1].message.content,
        "deltas": "".join(piece.delta or "" for piece in streamed),
        "completed": model.complete(QUESTION).text,
        "asynchronous": asyncio.run(model.achat(asked)).message.content,
    }


def tools_of(model: Any) -> Any:
    """A call that has to come, its result, and the answer that follows."""
    asked = "How full is the north tank?"
    called = model.chat_with_tools([TOOL], asked, tool_required=True)
    *_, streamed = model.stream_chat_with_tools([TOOL], asked, tool_required=True)
    calls = model.get_tool_calls_from_response(called)
    results = [TOOL.call(**call.tool_kwargs).content for call in calls]
    history = [
        ChatMessage(asked),
        called.message,
        *(
            ChatMessage(result, role="tool", additional_kwargs={"tool_call_id": call.tool_id})
            for call, result in zip(calls, results, strict=True)
        ),
    ]
    # One step of LlamaIndex' own loop: the call, and what the tool says to it.
    done = model.predict_and_call([TOOL], asked, tool_required=True)
    return {
        "calls": [[call.tool_name, call.tool_kwargs] for call in calls],
        "streamed": [
            [call.tool_name, call.tool_kwargs]
            for call in model.get_tool_calls_from_response(streamed)
        ],
        "results": results,
        "answer": model.chat_with_tools(
            [TOOL], chat_history=history, tool_choice="none"
        ).message.content,
        "done": [source.content for source in done.sources],
    }


def types_of(model: Any) -> Any:
    return [
        model.structured_predict(Level, PROMPT, tank="north").model_dump(),
        model.as_structured_llm(Level).complete("Report.").raw.model_dump(),
    ]


def chat() -> Any:
    return answers_of(chats)


def chat_tools() -> Any:
    return tools_of(chats)


def chat_types() -> Any:
    """By a tool that has to be called, and by a format."""
    # Not streamed by a tool: there LlamaIndex leaves it to the model whether it calls.
    *_, streamed = typed_chats.stream_structured_predict(Level, PROMPT, tank="north")
    return [*types_of(chats), *types_of(typed_chats), streamed.model_dump()]


def responses_chat() -> Any:
    return answers_of(responses)


def responses_tools() -> Any:
    return tools_of(responses)


def responses_types() -> Any:
    return types_of(responses)


def remembered() -> Any:
    """The server keeps the conversation; LlamaIndex sends what is new and the id."""
    model = OpenAILikeResponses(**COMMON, max_output_tokens=24, track_previous_responses=True)
    usages = [
        model.chat([ChatMessage(asked)]).raw.usage for asked in (QUESTION, "And who may use it?")
    ]
    return [[usage.input_tokens, usage.total_tokens] for usage in usages]


def index() -> Any:
    """Retrieval as LlamaIndex does it itself, with this server's two models."""
    embedder = OpenAILikeEmbedding(model_name="anzoth-embed", **SERVER)
    documents = [Document(text=text) for text in (BOAT, "Revenue rose by nine percent.")]
    made = VectorStoreIndex.from_documents(documents, embed_model=embedder)
    engine = made.as_query_engine(llm=chats, similarity_top_k=1)
    answer = engine.query("Who owns the boat?")
    return {
        "found": [source.node.get_content() for source in answer.source_nodes],
        "answer": str(answer),
    }


run(
    *(completion, chat, chat_tools, chat_types, index),
    *(responses_chat, responses_tools, responses_types, remembered),
)
