"""How do calls of servers' tools become items of a response, and events of its stream?

    item                   opened by                         closed by
    mcp_list_tools         the request, that names a server  itself
    mcp_call               the call, when it is made         what came of it
    mcp_approval_request   a call that nobody has approved   itself

A call that somebody has said no to is no item: the answer that says so is one, in the input.

Does not know: which calls are made.
"""

from __future__ import annotations

from collections.abc import Sequence

from anzoth.api.call_ids import sibling
from anzoth.api.citing import CitationReader
from anzoth.api.response_items import Item, call_error, new_item
from anzoth.api.response_output import ResponseOutput
from anzoth.api.server_calls import ServerCall
from anzoth.gateway.tools.definitions import GovernedTool, ToolOutcome


def list_tools(output: ResponseOutput, label: str, tools: Sequence[GovernedTool]) -> None:
    """What of a server the model may call."""
    begun = new_item("mcp_list_tools", server_label=label, tools=[], error=None)
    index = output.open(begun)
    place = {"item_id": begun["id"], "output_index": index}
    output.emit("response.mcp_list_tools.in_progress", place)
    output.emit("response.mcp_list_tools.completed", place)
    output.close(index, {**begun, "tools": list(map(_listed, tools))})


def _listed(tool: GovernedTool) -> Item:
    definition = tool.definition
    return {
        "name": definition.name,
        "description": definition.description,
        "input_schema": dict(definition.input_schema),
        "annotations": {"readOnlyHint": definition.is_read_only},
    }


class CallItems:
    """The watcher of an answer that shows its calls (see `server_calls.Watcher`)."""

    def __init__(self, output: ResponseOutput, citations: CitationReader | None) -> None:
        """`citations`: through which `output` gets its text, if it cites anything."""
        self._output = output
        self._citations = citations
        self._begun: dict[str, tuple[int, Item]] = {}
        """By the call's id, with its place in the output."""

    def turn_ended(self) -> None:
        if self._citations is not None:
            self._citations.turn_ended(0)
        self._output.end_turn()

    def call_began(self, call: ServerCall) -> None:
        if call.approval_id is None or call.is_approved:
            self._begin(call)

    def call_ended(self, call: ServerCall, outcome: ToolOutcome) -> None:
        begun = self._begun.get(call.id)
        if begun is None and outcome.decision in ("needs_approval", "rejected"):
            if outcome.decision == "needs_approval":
                self._ask(call)
            return
        index, item = begun or self._begin(call)
        has_failed = outcome.is_error or outcome.decision != "allowed"
        place = {"item_id": item["id"], "output_index": index}
        ending = "failed" if has_failed else "completed"
        self._output.emit(f"response.mcp_call.{ending}", place)
        came: Item = {"error": call_error(outcome.text)} if has_failed else {"output": outcome.text}
        self._output.close(index, {**item, "arguments": call.arguments, "status": ending, **came})

    def _begin(self, call: ServerCall) -> tuple[int, Item]:
        """The arguments come in one event: clients join pieces of them, and one will do."""
        item: Item = {
            "id": call.id,
            "type": "mcp_call",
            "server_label": call.label,
            "name": call.tool_name,
            "arguments": "",
            "approval_request_id": call.approval_id,
            "error": None,
            "output": None,
            "status": "in_progress",
        }
        index = self._output.open(item)
        place = {"item_id": call.id, "output_index": index}
        self._output.emit("response.mcp_call.in_progress", place)
        said = {**place, "delta": call.arguments}
        self._output.emit("response.mcp_call_arguments.delta", said)
        done = {**place, "arguments": call.arguments}
        self._output.emit("response.mcp_call_arguments.done", done)
        self._begun[call.id] = index, item
        return index, item

    def _ask(self, call: ServerCall) -> None:
        item: Item = {
            "id": sibling("mcpr", call.id),
            "type": "mcp_approval_request",
            "server_label": call.label,
            "name": call.tool_name,
            "arguments": call.arguments,
        }
        self._output.close(self._output.open(item), item)
