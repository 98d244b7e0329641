"""Drives a running server with `langchain-openai`, as its users do: chats and Responses, tools,
types, embeddings and retrieval. BASE_URL and API_KEY come from the environment; see `flows` for
what is printed.
"""

import os
from typing import Annotated, Any, Literal

import openai
from langchain_core.documents import Document
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

from flows import run

SERVER: dict[str, Any] = {
    "base_url": os.environ["BASE_URL"],
    "api_key": os.environ["API_KEY"],
    "max_retries": 0,
}
COMMON: dict[str, Any] = {"model": "anzoth-default", "temperature": 0, "max_tokens": 24, **SERVER}
QUESTION = "What is Anzoth?"
REPORT = "The north tank is full. Report."

chats = ChatOpenAI(**COMMON, stream_usage=True)
responses = ChatOpenAI(**COMMON, use_responses_api=True, output_version="responses/v1")


class Level(BaseModel):
    """How full something is."""

    level: Literal["low", "high"]
    note: Annotated[str, Field(max_length=8)]


@tool
def read_level(tank: Literal["north", "south"]) -> str:
    """Reads how full a tank is."""
    return f"The {tank} tank is full."


def joined(stream: Any) -> AIMessageChunk:
    """As LangChain's own consumers do: chunks are added up."""
    first, *others = stream
    return sum(others, start=first)


def said(message: AIMessage) -> dict[str, Any]:
    return {
        "text": message.text,
        "usage": message.usage_metadata,
        "calls": [{"name": call["name"], "args": call["args"]} for call in message.tool_calls],
        "invalid_calls": message.invalid_tool_calls,
        "finish": message.response_metadata.get("finish_reason"),
        "status": message.response_metadata.get("status"),
        "model": message.response_metadata.get("model_name"),
    }


def chat() -> Any:
    whole, other = chats.batch([QUESTION, "Who may use it?"])
    return {
        "whole": said(whole),
        "other": said(other),
        "streamed": said(joined(chats.stream(QUESTION))),
    }


def chain() -> Any:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{asked}")])
    made = prompt | chats | StrOutputParser()
    asked = {"asked": QUESTION}
    return {"whole": made.invoke(asked), "pieces": list(made.stream(asked))}


def logprobs() -> Any:
    scored = chats.bind(logprobs=True, top_logprobs=2).invoke(QUESTION)
    content = scored.response_metadata["logprobs"]["content"]
    return {
        "text": "".join(token["token"] for token in content),
        "whole": scored.text,
        "tops": [len(token["top_logprobs"]) for token in content],
    }


def tools_of(model: ChatOpenAI) -> Any:
    """A call that has to come, its result, and the answer that follows."""
    model = model.model_copy(update={"max_tokens": 120})  # the call is whole
    forced = model.bind_tools(
        [read_level], tool_choice="any", strict=True, parallel_tool_calls=False
    )
    asked: list[Any] = [HumanMessage("How full is the north tank?")]
    call = forced.invoke(asked)
    streamed = joined(forced.stream(asked))
    results = [read_level.invoke(made) for made in call.tool_calls]
    answer = model.bind_tools([read_level], tool_choice="none").invoke([*asked, call, *results])
    return {
        "call": said(call),
        "streamed": said(streamed),
        "results": [result.content for result in results if isinstance(result, ToolMessage)],
        "answer": said(answer),
    }


def chat_tools() -> Any:
    return tools_of(chats)


def types_of(model: ChatOpenAI) -> Any:
    made = {}
    model = model.model_copy(update={"max_tokens": 120})  # the value is whole
    for method in ("json_schema", "function_calling"):
        raw = model.with_structured_output(Level, method=method, strict=True, include_raw=True)
        typed = model.with_structured_output(Level, method=method, strict=True)
        answer = raw.invoke(REPORT)
        *_, streamed = typed.stream(REPORT)
        made[method] = {
            "whole": answer["parsed"].model_dump(),
            "streamed": streamed.model_dump(),
            "usage": answer["raw"].usage_metadata,
        }
    return made


def chat_types() -> Any:
    return types_of(chats)


def embeddings() -> Any:
    """Retrieval as LangChain does it itself, with this server's two models."""
    texts = ["The owner of the boat is Mara Velten.", "Revenue rose by nine percent."]
    # Otherwise token ids of an OpenAI model are sent instead of texts.
    embedder = OpenAIEmbeddings(model="anzoth-embed", check_embedding_ctx_length=False, **SERVER)
    store = InMemoryVectorStore(embedder)
    store.add_documents([Document(text) for text in texts])
    found = store.as_retriever(search_kwargs={"k": 1}).invoke("Who owns the ship?")
    return {
        "sizes": [len(vector) for vector in embedder.embed_documents(texts)],
        "found": [document.page_content for document in found],
        "queried": embedder.embed_query(texts[0]) == embedder.embed_documents(texts[:1])[0],
    }


def responses_chat() -> Any:
    whole = responses.invoke(QUESTION)
    return {"whole": said(whole), "streamed": said(joined(responses.stream(QUESTION)))}


def responses_tools() -> Any:
    return tools_of(responses)


def responses_types() -> Any:
    return types_of(responses)


def remembered() -> Any:
    """The server keeps the conversation; LangChain sends what is new and the id."""
    model = ChatOpenAI(**COMMON, use_responses_api=True, use_previous_response_id=True)
    asked: list[Any] = [HumanMessage(QUESTION)]
    first = model.invoke(asked)
    second = model.invoke([*asked, first, HumanMessage("And who may use it?")])
    resent = responses.invoke([*asked, first, HumanMessage("And who may use it?")])
    return {"first": said(first), "second": said(second), "resent": said(resent)}


def file_search() -> Any:
    """A tool that the server runs itself."""
    client = openai.OpenAI(**SERVER)
    store = client.vector_stores.create(name="boats")
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("boat.txt", b"The owner of the boat is Mara Velten.")
    )
    searching = responses.bind_tools([{"type": "file_search", "vector_store_ids": [store.id]}])
    whole = searching.invoke("Who is the owner of the boat?")
    streamed = joined(searching.stream("Who is the owner of the boat?"))
    client.vector_stores.delete(store.id)
    client.files.delete(file.id)
    return [
        {**said(message), "blocks": [block["type"] for block in message.content]}
        for message in (whole, streamed)
    ]


def refusals() -> Any:
    made = {}
    long = QUESTION * 2000
    for name, model in (("chats", chats), ("responses", responses)):
        try:
            model.invoke(long)
        except ContextOverflowError as error:
            made[name] = [isinstance(error, openai.BadRequestError), error.code]
    try:
        OpenAIEmbeddings(
            model="anzoth-embed", check_embedding_ctx_length=False, **SERVER
        ).embed_query("")
    except openai.BadRequestError as error:
        made["embeddings"] = [True, error.code]
    return made


run(
    *(chat, chain, logprobs, chat_tools, chat_types, embeddings),
    *(responses_chat, responses_tools, responses_types, remembered, file_search, refusals),
)
