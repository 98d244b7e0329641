"""Which tools of servers does the model of this request get to see?

    none are asked for, and the alias offers none ─▶ None: nothing here has to do with it
    else ─▶ catalogue ─▶ grants (403) ─▶ the model's tools: the caller's functions, then these

Does not know: how they are called (see `tool_rounds`), or who may call what (`gateway.tools`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from anzoth.api.call import Answer, Call
from anzoth.api.fields import unsupported
from anzoth.api.mcp_tool import McpTool
from anzoth.api.requests import ChatRequest
from anzoth.api.server_calls import ServerCall
from anzoth.api.tools import OfferedTool
from anzoth.gateway.aliases import Alias, Target
from anzoth.gateway.knowledge.packing import Packed
from anzoth.gateway.tools import grants
from anzoth.gateway.tools.calling import ToolTurn
from anzoth.gateway.tools.definitions import GovernedTool
from anzoth.gateway.tools.grants import GrantedTool
from anzoth.gateway.tools.taint import Untrusted


@dataclass(slots=True, frozen=True)
class Governed:
    """A request whose model may call tools of servers."""

    request: ChatRequest
    """With all tools that the model sees."""
    granted: Mapping[str, GrantedTool] = field(repr=False)
    """By the name in which the model calls it."""

    @property
    def labels(self) -> list[str]:
        """Of the servers that the request names, each once, in its order."""
        servers = self.request.asked_tools.offered.servers
        return list(dict.fromkeys(server.asked.label for server in servers))

    def tools_of(self, label: str) -> list[GovernedTool]:
        """Of one server, as far as the model sees them."""
        return [made.tool for made in self.granted.values() if made.tool.server.label == label]

    def turn(
        self, call: Call, packed: Packed, answered: Sequence[ServerCall], *, was_searched: bool
    ) -> ToolTurn:
        """Of this request: `packed` is what of knowledge bases is in its prompt, `answered` the
        calls that a person has decided about. `was_searched`: the model has answered from knowledge
        bases before, so what it said may be theirs."""
        request = self.request
        said: dict[str, list[str]] = {role: [] for role in ("system", "user", "assistant", "tool")}
        for message in request.messages:
            said[message["role"]].append(message["content"])
        untrusted = Untrusted([*said["system"], *said["user"]])
        passages = [passage.text for passage in (*packed.passages, *request.documents)]
        for text in (*said["tool"], *passages, *(said["assistant"] if was_searched else ())):
            untrusted.add(text)
        return ToolTurn(
            call.principal,
            call.request.request_id,
            None if call.address is None else str(call.address),
            call.record.end_user,
            request.options.model,
            self.granted,
            untrusted,
            packed.file_ids,
            {
                made.id: made.approval_id
                for made in answered
                if made.is_approved and made.approval_id
            },
            frozenset(made.id for made in answered if not made.is_approved),
        )


async def govern(call: Call, alias: Alias | None, request: ChatRequest) -> Governed | None:
    """None: no tool of a server is asked for or offered.

    Raises ToolNotAllowed, InvalidValue, UnsupportedParameter or DatabaseUnavailable.
    """
    asked = request.asked_tools
    of_alias = None if alias is None else alias.tools or None
    servers = asked.offered.servers
    if asked.choice.mode == "none" or (of_alias is None and not servers):
        return None
    if request.options.num_choices > 1:
        raise unsupported("n", "above 1 cannot stand beside tools of servers")
    tools = call.services.tools
    catalogue = await tools.catalogue.of(call.principal.tenant)
    entries = [server.asked for server in servers]
    granted = grants.granted(catalogue, call.principal, of_alias, entries)
    if not granted and not servers:
        return None  # an alias offers what this key is not granted
    granted = {name: _as_asked(made, servers) for name, made in granted.items()}
    offered = [_offered(name, made) for name, made in granted.items()]
    return Governed(replace(request, tools=asked.use(offered)), granted)


async def refuse_elsewhere(target: Target) -> Answer:
    """For models of other servers: it is there that calls would be read. Raises
    UnsupportedParameter."""
    raise unsupported(
        "tools",
        f"of the type 'mcp', and tools that an alias offers, cannot be used with '{target.name}': "
        "it is another server's model",
    )


def _as_asked(made: GrantedTool, servers: Sequence[McpTool]) -> GrantedTool:
    """With the approvals that the request wants for some tools of a server."""
    approval = made.approval
    for server in servers:
        if server.asked.label == made.tool.server.label:
            approval = grants.stricter(approval, server.approval_of(made.tool))
    return replace(made, approval=approval)


def _offered(name: str, made: GrantedTool) -> OfferedTool:
    definition = made.tool.definition
    function = {
        "name": name,
        "description": definition.description,
        "parameters": dict(definition.input_schema),
    }
    return OfferedTool({"type": "function", "function": function}, is_strict=False)
