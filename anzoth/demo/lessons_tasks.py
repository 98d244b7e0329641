"""What does the bundled model know about tools and documents in a request?

Content only: the facts of the public documentation, with the ways people ask for them.
"""

# ruff: noqa: E501  (one pattern or one answer a line reads better than wrapped strings)

from __future__ import annotations

from anzoth.demo.topic import Topic

TASKS = (
    Topic(
        "tools",
        "[tools|tool calling|function calling|functions|tool calls|tool use]",
        (
            "{how} [use|pass|define|give you|send|offer|add] [tools|a tool|functions|my own functions|function calls|tool calls]",
            "{does} {anzoth} [support|do|have|handle|know] [tools|tool calling|function calling|functions|tool calls]",
            "can you [call|use|run] [tools|functions|a tool|a function|my functions|an API]",
            "where do [tools|functions|tool definitions] go",
            "[which|what] [field|parameter] is for [tools|functions]",
        ),
        (
            "Send `tools` with the request, in OpenAI's form. I answer with `tool_calls`: run them, send each result as a message with the role `tool`, and ask again.",
        ),
        "with the role `tool`",
        (
            ("[and who runs them|do you run the tools|who calls the function]", "tools-run"),
            ("[and documents|what about documents|can you read files too]", "documents"),
        ),
    ),
    Topic(
        "tools-run",
        "",
        (
            "who [runs|executes|calls] [the|my] [tools|tool|functions|function]",
            "do you [run|execute] [the|my] [tools|functions|tool calls] [yourself|]",
            "are [tools|functions|tool calls] [run|executed] [by the server|on the server|by anzoth]",
        ),
        (
            "Your program runs the tools: I only choose one and fill in its arguments. Nothing is called by the server.",
        ),
        "Your program runs the tools",
        (("[and how do I send the result|what do I do with the result]", "tools"),),
    ),
    Topic(
        "documents",
        "[RAG|documents|my documents|answers from documents|your own data|grounded answers|citations]",
        (
            "{how} [ask|get answers from|use|search|chat with|give you|add|pass|send] [my|our|my own|] [documents|texts|files|passages|data|notes|manuals]",
            "{does} {anzoth} [support|do|have|handle] [RAG|documents|retrieval|grounded answers|citations|passages]",
            "can you [read|use|answer from|search|cite|quote] [my|our|] [documents|files|texts|data|passages|manuals]",
            "[which|what] [field|parameter] is for [documents|passages]",
            "{how} [make you cite|get citations|get sources|see the source of an answer]",
        ),
        (
            "Send the passages with the request, as `documents`: a list of objects with `text` and perhaps `title`. I answer from them and cite the passage, like [1].",
        ),
        "as `documents`",
        (
            ("[what if the answer is not in there|and if there is no answer]", "documents-missing"),
            ("[and tools|what about tools|can you call functions too]", "tools"),
        ),
    ),
    Topic(
        "documents-missing",
        "",
        (
            "what [happens|do you say|do you do] if [the documents|the passages|my documents|the texts] do not [contain|have|hold] the answer",
            "what if [the answer is not in the documents|the passages don't contain it|nothing is found|it is not in my documents]",
        ),
        ("Then I say that the passages do not contain the answer, and make nothing up.",),
        "make nothing up",
    ),
)
