"""Comma-separated values, and values separated by semicolons, tabs or bars.

The first row is the header when its cells are all filled, all different and no numbers.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence

from anzoth.ingest.document import DocumentBuilder
from anzoth.ingest.limits import UnreadableFile

_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 50


def read(text: str, out: DocumentBuilder) -> None:
    """One row per record."""
    csv.field_size_limit(2 * out.limits.max_text_chars)
    reader = csv.reader(
        io.StringIO(text.replace("\x00", ""), newline=""), delimiter=_delimiter(text)
    )
    try:
        first = next((row for row in reader if any(cell.strip() for cell in row)), None)
        if first is None:
            return
        out.add_row(first, is_header=is_header(first))
        for row in reader:
            out.add_row(row)
    except csv.Error as error:
        raise UnreadableFile(
            "invalid_file", f"The file is not csv: line {reader.line_num}: {error}."
        ) from None


def is_header(cells: Sequence[str]) -> bool:
    """Whether a table's first row names its columns."""
    names = [cell.strip().lower() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return (
        len(names) > 1
        and all(names)
        and len(set(names)) == len(names)
        and not any(_is_number(name) for name in names)
    )


def _is_number(text: str) -> bool:
    return text.strip("-+%€$£ ").replace(",", "").replace(".", "").replace("/", "").isdigit()


def _delimiter(text: str) -> str:
    """The one that cuts most of the first lines into the same number of cells, above one."""
    lines = [line for line in itertools.islice(io.StringIO(text), _SAMPLE_LINES) if line.strip()]
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        counts = [line.count(delimiter) for line in lines]
        common = max(set(counts), key=counts.count, default=0)
        score = counts.count(common) / len(lines) * min(common, 20) if lines else 0.0
        if score > best_score:
            best, best_score = delimiter, score
    return best
