"""JSON and JSON Lines: one line per value, named by its path.

    {"customer": {"name": "Acme", "cities": ["Oslo", "Bern"]}}
    customer.name: Acme
    customer.cities: Oslo, Bern

An entry of the outermost array or object is one paragraph. Text that is no JSON after all is read
as plain text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from anzoth.ingest.document import DocumentBuilder
from anzoth.ingest.limits import UnreadableFile
from anzoth.ingest.parsers import text as plain_text

_MAX_DEPTH = 200


def read(text: str, out: DocumentBuilder) -> None:
    """One paragraph per entry of the outermost value."""
    try:
        values: Iterable[object] = [orjson.loads(text)]
    except orjson.JSONDecodeError:
        try:
            values = [orjson.loads(line) for line in text.split("\n") if line.strip()]
        except orjson.JSONDecodeError:
            out.note("The file is not valid JSON: it was read as plain text.")
            plain_text.read(text, out)
            return
    for value in values:
        for entry in _entries(value):
            out.add("paragraph", "\n".join(entry))


def _entries(value: object) -> Iterator[Iterator[str]]:
    if isinstance(value, dict) and any(isinstance(v, dict | list) for v in value.values()):
        for key, inner in value.items():
            yield from _entries_of(key, inner)
    elif isinstance(value, list):
        for inner in value:
            yield _lines("", inner, 0)
    else:
        yield _lines("", value, 0)


def _entries_of(key: str, value: object) -> Iterator[Iterator[str]]:
    """A list of records is as many entries, however it is wrapped."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for item in value:
            yield _lines(key, item, 0)
    else:
        yield _lines(key, value, 0)


def _lines(path: str, value: object, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise UnreadableFile("invalid_file", f"The JSON is nested deeper than {_MAX_DEPTH} levels.")
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lines(f"{path}.{key}" if path else key, inner, depth + 1)
    elif isinstance(value, list):
        if any(isinstance(item, dict | list) for item in value):
            for item in value:
                yield from _lines(path, item, depth + 1)
        elif value:
            yield _line(path, ", ".join(map(_scalar, value)))
    else:
        yield _line(path, _scalar(value))


def _line(path: str, text: str) -> str:
    return f"{path}: {text}" if path else text


def _scalar(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
