"""Which tools does a request's model get to see?

    key ∩ tenant ∩ alias ∩ request

    key       `label` grants all tools of a server, `label__tool` one; without a grant, none
    tenant    its catalogue: what is approved, now
    alias     one that names tools offers them to each of its requests, and is a ceiling for what
              these name; one that names none does neither
    request   names servers; of a server that it names it gets what it names, of the others what
              the alias offers

Nothing that a model or a document says is asked here: text cannot widen a grant. A server that is
there and not granted reads as one that is not there.

Does not know: what a call may do once its tool is granted (see `calling`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from anzoth.errors import ToolNotAllowed
from anzoth.gateway.principal import Principal
from anzoth.gateway.tools.definitions import SEPARATOR, Approval, GovernedTool

_STRICTNESS: Sequence[Approval] = ("never", "writes", "always")


@dataclass(slots=True, frozen=True)
class AskedServer:
    """One entry of a request's tools. Several may name one server: each adds to what it gets."""

    label: str
    tool_names: frozenset[str] | None = None
    """As the server calls them, without the label. None: all."""
    read_only: bool = False
    """Only those that do not write."""
    approval: Approval | None = None
    """None: as the server has it."""
    param: str = "tools"
    """Where the request says so."""


@dataclass(slots=True, frozen=True)
class GrantedTool:
    """A tool that the model sees."""

    tool: GovernedTool
    approval: Approval
    """The strictest of the server's and of all that the request says."""

    @property
    def needs_approval(self) -> bool:
        """Whatever the conversation holds; see `taint` for when that adds to it."""
        return needs_approval(self.approval, self.tool)


def granted(
    catalogue: Mapping[str, GovernedTool],
    principal: Principal,
    of_alias: Sequence[str] | None,
    asked: Sequence[AskedServer],
) -> Mapping[str, GrantedTool]:
    """The tools that the model sees, by the name in which it calls them, in this order.

    `of_alias`: the grants of the alias that was asked for; None: it has none, or it is no alias.

    Raises ToolNotAllowed for what a request names and does not get. What the alias offers and the
    key is not granted is left out.
    """
    allowed = [tool for tool in catalogue.values() if is_granted(tool, principal.tools)]
    if of_alias is not None:
        allowed = [tool for tool in allowed if is_granted(tool, of_alias)]
    named = {entry.label for entry in asked}
    found: dict[str, GrantedTool] = {}
    if of_alias is not None:
        _add(found, (tool for tool in allowed if tool.server.label not in named), None)
    for entry in asked:
        of_server = [tool for tool in allowed if tool.server.label == entry.label]
        _require(entry, of_server)
        _add(found, (tool for tool in of_server if _is_asked(tool, entry)), entry.approval)
    return dict(sorted(found.items()))


def is_granted(tool: GovernedTool, grants: Collection[str]) -> bool:
    """Whether one of the grants names the tool or its server."""
    return tool.server.label in grants or tool.name in grants


def stricter(one: Approval, other: Approval | None) -> Approval:
    """None: has no say."""
    if other is None or _STRICTNESS.index(one) >= _STRICTNESS.index(other):
        return one
    return other


def needs_approval(approval: Approval, tool: GovernedTool) -> bool:
    """Whether a person must approve a call of `tool` under this policy."""
    return approval == "always" or (approval == "writes" and not tool.definition.is_read_only)


def _require(entry: AskedServer, of_server: Sequence[GovernedTool]) -> None:
    """Raises ToolNotAllowed. The message has nothing that the request did not say."""
    missing = (entry.tool_names or frozenset()) - {tool.definition.name for tool in of_server}
    if missing:
        name = f"{entry.label}{SEPARATOR}{min(missing)}"
        raise ToolNotAllowed(f"This API key has no access to the tool {name!r}.", param=entry.param)
    if not of_server:
        raise ToolNotAllowed(
            f"This API key has no access to the tool server {entry.label!r}.", param=entry.param
        )


def _is_asked(tool: GovernedTool, entry: AskedServer) -> bool:
    return (entry.tool_names is None or tool.definition.name in entry.tool_names) and (
        tool.definition.is_read_only or not entry.read_only
    )


def _add(
    found: dict[str, GrantedTool], tools: Iterable[GovernedTool], approval: Approval | None
) -> None:
    for tool in tools:
        before = found.get(tool.name)
        of_others = tool.server.approval if before is None else before.approval
        found[tool.name] = GrantedTool(tool, stricter(of_others, approval))
