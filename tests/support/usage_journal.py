"""Journals for tests: rows, folders, and what a folder would settle."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anzoth.db.store.usage_rows import UsageRow
from anzoth.gateway.journal import segment_path
from anzoth.gateway.journal_format import (
    HEADER_BYTES,
    Kind,
    decode_row,
    encode_frame,
    encode_header,
    encode_intent,
    encode_settlement,
    read_frames,
)

START = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
WRITER = uuid.UUID(int=77)

_ROW = UsageRow(
    tenant_id=uuid.UUID(int=1), project_id=uuid.UUID(int=3), request_id="r", started_at=START,
    key_id=uuid.UUID(int=2), endpoint="/v1/x", model="m", prompt_tokens=0, cached_tokens=0,
    completion_tokens=0, finish_reason=None, streamed=True, status=0, error_code=None, ttft_ms=None,
    duration_ms=0, end_user="ü", metadata='{"a":"b"}',
)  # fmt: skip


def row(request_id: str, **fields: Any) -> UsageRow:
    return replace(_ROW, request_id=request_id, **fields)


def intent(entry: int, request_id: str, **fields: Any) -> bytes:
    return encode_frame(Kind.INTENT, entry, encode_intent(row(request_id, **fields), 1, 100))


def settle(entry: int, request_id: str, tokens: int = 7) -> bytes:
    done = row(request_id, completion_tokens=tokens, finish_reason="stop", status=200)
    return encode_frame(Kind.SETTLE, entry, encode_settlement(done, tokens))


def write_segment(folder: Path, number: int, *frames: bytes) -> Path:
    path = segment_path(folder, number)
    path.write_bytes(encode_header(WRITER, number) + b"".join(frames))
    return path


def settled(folder: Path) -> list[UsageRow]:
    """The rows of all settlements in a folder, in order."""
    rows: list[UsageRow] = []
    for path in sorted(folder.glob("*.journal")):
        frames, _ = read_frames(path.read_bytes(), HEADER_BYTES)
        rows += [decode_row(frame.payload) for frame in frames if frame.kind is Kind.SETTLE]
    return rows
