"""What does an MCP server say of its tools, and what did one answer?

Does not know: how a server is spoken to, or which of its tools can be offered to a model (see
`pins`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from anzoth.gateway.tools.definitions import ToolDefinition, ToolFailure, ToolResult

if TYPE_CHECKING:
    import mcp_types
    from mcp.shared.exceptions import MCPError

MAX_TOOLS = 256
"""That one server may list."""


def definitions_of(tools: Iterable[mcp_types.Tool]) -> Mapping[str, ToolDefinition]:
    """As the server named them, by name and in the order of names.

    Raises ToolFailure where two have one name: which of them was approved could not be told.
    """
    found: dict[str, ToolDefinition] = {}
    for tool in tools:
        if tool.name in found:
            raise ToolFailure("protocol", "The server lists two tools with the same name.")
        hints = tool.annotations
        found[tool.name] = ToolDefinition(
            tool.name,
            tool.description or "",
            tool.input_schema,
            is_read_only=hints is not None and hints.read_only_hint is True,
        )
    return {name: found[name] for name in sorted(found)}


def result_of(result: mcp_types.CallToolResult, max_bytes: int, num_bytes: int) -> ToolResult:
    """The text of it; what is none is named. Raises ToolFailure."""
    pieces = [_text_of(block) for block in result.content]
    if not pieces and result.structured_content is not None:
        pieces = [json.dumps(result.structured_content, ensure_ascii=False)]
    return _bounded("\n".join(pieces), result.is_error is True, max_bytes, num_bytes)


def error_of(error: MCPError, max_bytes: int, num_bytes: int) -> ToolResult:
    """What a server says where it gives no result. Raises ToolFailure."""
    return _bounded(error.message, True, max_bytes, num_bytes)


def _bounded(text: str, is_error: bool, max_bytes: int, num_bytes: int) -> ToolResult:
    size = len(text.encode(errors="replace"))
    if size > max_bytes:
        raise ToolFailure("too_large", f"The tool's result is larger than {max_bytes} bytes.")
    return ToolResult(text, is_error, num_bytes or size)


def _text_of(block: Any) -> str:  # one of the content types of the SDK, told apart by `type`
    match block.type:
        case "text":
            return block.text
        case "image" | "audio":
            return f"[{block.type}, not shown]"
        case "resource_link":
            return f"[resource {block.name}: {block.uri}]"
        case _:
            text = getattr(block.resource, "text", None)
            return text if isinstance(text, str) else "[binary resource, not shown]"
