"""The tool `mcp` of a request: which registered tool server, and what of it?

    server_label      the label under which the server is registered
    allowed_tools     names of its tools, or {"tool_names": […], "read_only": true}; absent: all
    require_approval  "never", "always", or {"always": {…}, "never": {…}} with filters such as those
                      of `allowed_tools`. It only ever adds to what the server's own policy asks
                      for: a request cannot do without an approval that the administrator wants.
                      With `never` alone, the tools that it does not name need approval
    trace             an extension: what was called stands in the answer, as `x_anzoth.tool_calls`

A server that the request itself describes (`server_url`, `headers`, …) is refused: which servers
are reached is not for a request to say.

Does not know: which servers there are, or who may use them (see `gateway.tools.grants`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from anzoth.api.fields import Field, array, boolean, nested, one_of, string, unsupported
from anzoth.gateway.tools.definitions import Approval, GovernedTool
from anzoth.gateway.tools.grants import AskedServer

TRACE = "x_anzoth.tool_calls"
"""In `include`: what was called is to stand in the answer."""
_MAX_NAMES = 128
_NAME = string(64, min_characters=1)
_NAMES = array(_NAME, _MAX_NAMES)


@dataclass(slots=True, frozen=True)
class ToolFilter:
    """Some tools of one server."""

    names: frozenset[str] | None = None
    """None: whatever their names."""
    read_only: bool | None = None
    """True: those that only read; False: those that may write; None: both."""

    def has(self, tool: GovernedTool) -> bool:
        of_kind = self.read_only in (None, tool.definition.is_read_only)
        return of_kind and (self.names is None or tool.definition.name in self.names)


@dataclass(slots=True, frozen=True)
class McpTool:
    """One tool of the type `mcp`."""

    asked: AskedServer
    always: ToolFilter | None = None
    never: ToolFilter | None = None
    """Both of approvals, where these differ between the tools."""
    shows_trace: bool = False

    def approval_of(self, tool: GovernedTool) -> Approval | None:
        """What the filters say about calls of `tool`. None: nothing."""
        if self.always is not None and self.always.has(tool):
            return "always"
        is_rest = self.never is not None and not self.never.has(tool)
        return "always" if is_rest and self.always is None else None


def _registered(_value: Any, param: str) -> NoReturn:
    raise unsupported(
        param,
        "is not supported by this server: tool servers are registered by an administrator, and a "
        "request names one by its 'server_label'",
    )


_FILTER = nested(Field("tool_names", _NAMES), Field("read_only", boolean))
_APPROVALS = nested(Field("always", _FILTER), Field("never", _FILTER))
_TOOL = nested(
    Field("server_label", _NAME, required=True),
    *(
        Field(name, _registered)
        for name in ("server_url", "connector_id", "tunnel_id", "authorization", "headers")
    ),
    Field("allowed_tools", lambda value, param: _filter(value, param)),
    Field("require_approval", lambda value, param: _approvals(value, param)),
    Field("trace", boolean, default=False),
)


def mcp_tool(value: Any, param: str) -> McpTool:
    """A check (see `fields`) of a tool whose `type` says that it is one."""
    given = _TOOL(value, param)
    allowed: ToolFilter = given["allowed_tools"] or ToolFilter()
    approvals = given["require_approval"]
    asked = AskedServer(
        given["server_label"],
        allowed.names,
        allowed.read_only is True,
        approvals if isinstance(approvals, str) else None,  # type: ignore[arg-type]  # checked
        param,
    )
    if isinstance(approvals, dict):
        return McpTool(asked, approvals["always"], approvals["never"], given["trace"])
    return McpTool(asked, shows_trace=given["trace"])


def _filter(value: Any, param: str) -> ToolFilter:
    if isinstance(value, list):
        return ToolFilter(frozenset(_NAMES(value, param)))
    return _filter_of(_FILTER(value, param))


def _filter_of(given: dict[str, Any]) -> ToolFilter:
    names = given["tool_names"]
    return ToolFilter(None if names is None else frozenset(names), given["read_only"])


def _approvals(value: Any, param: str) -> str | dict[str, ToolFilter | None]:
    if isinstance(value, str):
        return one_of("always", "never")(value, param)
    given = _APPROVALS(value, param)
    return {name: made and _filter_of(made) for name, made in given.items()}
