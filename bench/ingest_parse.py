"""How many files a second are read and cut into chunks, and what does that take?

    python bench/ingest_parse.py                    a few seconds per kind
    python bench/ingest_parse.py --seconds 10 --running 4

Files of every kind, small (a page) and large, made as the tests make theirs. Two ways, in turn, on
the same files:

    inside   `parse` and `chunk` in this process: what reading itself costs
    child    `ParserHost`: a process per file, with all its limits, as the gateway does it

The difference of the two is what isolation costs a file. Tokens are counted by a tokenizer of
words, not by an embedder's. Milliseconds are the median of at least five rounds with its 20th and
80th percentile; the last line is one JSON object. `peak_mib` is what reading the file adds to the
peak memory of a process that reads nothing else (`VmHWM`, Linux).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import documents

from anzoth.ingest.chunker import chunk
from anzoth.ingest.chunks import Structural
from anzoth.ingest.host import ParserHost
from anzoth.ingest.limits import Limits
from anzoth.ingest.parse import parse
from anzoth.ingest.wire import Job

_MIN_ROUNDS = 5
_WORDS = ("the", "museum", "ticket", "opening", "hours", "visitor", "entry", "garden", "price")
_PEAK = """
import sys
from anzoth.ingest.parse import parse
def peak_kib():
    return open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
before = peak_kib()
document = parse(open(sys.argv[1], "rb").read(), sys.argv[1])
print(before, peak_kib(), len(document.text))
"""


def _sentences(seed: int, count: int) -> Iterator[str]:
    source = random.Random(seed)
    for _ in range(count):
        yield " ".join(source.choices(_WORDS, k=12)).capitalize() + "."


def _large(kind: str) -> tuple[str, bytes] | None:
    """About a megabyte of text of a kind, where that is easily made."""
    text = list(_sentences(1, 12_000))
    paragraphs = [" ".join(text[n : n + 6]) for n in range(0, len(text), 6)]
    rows = [line.replace(" ", ",") for line in text]
    match kind:
        case "txt":
            return "large.txt", "\n\n".join(paragraphs).encode()
        case "md":
            return "large.md", "\n\n".join(f"## Part\n\n{p}" for p in paragraphs).encode()
        case "html":
            body = "".join(f"<h2>Part</h2><p>{p}</p>" for p in paragraphs)
            return "large.html", f"<!doctype html><body>{body}".encode()
        case "csv":
            return "large.csv", "\n".join(rows).encode()
        case "code":
            return "large.py", "\n\n".join(f"def f():\n    x = '{p}'" for p in paragraphs).encode()
        case "json":
            return "large.json", json.dumps([{"text": p, "n": 1} for p in paragraphs]).encode()
        case "rtf":
            body = "\\par ".join(paragraphs)
            return "large.rtf", b"{\\rtf1\\ansi " + body.encode() + b"}"
        case "pdf":
            pages = [[(line, 10) for line in text[n : n + 48]] for n in range(0, len(text), 48)]
            return "large.pdf", documents.pdf(pages)
        case "docx":
            w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
            body = "".join(f"<w:p><w:r><w:t>{p}</w:t></w:r></w:p>" for p in paragraphs)
            xml = f"<w:document {w}><w:body>{body}</w:body></w:document>".encode()
            return "large.docx", documents.zipped({"word/document.xml": xml}, documents.word())
        case "xlsx":
            s = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
            cells = (
                "".join(f'<c t="inlineStr"><is><t>{cell}</t></is></c>' for cell in row.split(","))
                for row in rows
            )
            body = "".join(f"<row>{row}</row>" for row in cells)
            xml = f"<worksheet {s}><sheetData>{body}</sheetData></worksheet>".encode()
            part = {"xl/worksheets/sheet1.xml": xml}
            return "large.xlsx", documents.zipped(part, documents.workbook())
    return None


def _quantiles(values: list[float]) -> tuple[float, float, float]:
    cuts = statistics.quantiles(values, n=10)
    return statistics.median(values), cuts[1], cuts[7]


def _inside(name: str, data: bytes, seconds: float, tokenizer: Tokenizer) -> list[float]:
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while len(taken) < _MIN_ROUNDS or time.perf_counter() < until:
        begun = time.perf_counter()
        document = parse(data, name)
        chunk(document, Structural(), lambda text: len(tokenizer.encode(text).ids))
        taken.append(time.perf_counter() - begun)
    return taken


async def _child(
    host: ParserHost, name: str, data: bytes, seconds: float, running: int
) -> list[float]:
    """Seconds per file, `running` at the same time: time of a round over its files."""
    job = Job(name, Limits(), Structural(), "words")
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while len(taken) < _MIN_ROUNDS or time.perf_counter() < until:
        begun = time.perf_counter()
        await asyncio.gather(*(host.read(job, data, len(data)) for _ in range(running)))
        taken.append((time.perf_counter() - begun) / running)
    return taken


def _peak_mib(folder: Path, name: str, data: bytes) -> tuple[float, int]:
    """Memory that reading adds to a process, and the characters that it read."""
    path = folder / name
    path.write_bytes(data)
    printed = subprocess.run(
        [sys.executable, "-P", "-c", _PEAK, str(path)], capture_output=True, text=True, check=True
    ).stdout
    before, after, num_chars = map(int, printed.split())
    return (after - before) / 1024, num_chars


async def measure(seconds: float, running: int, folder: Path) -> list[dict[str, object]]:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]  # as documented
    tokenizer.save(str(folder / "tokenizer.json"))
    host = ParserHost({"words": str(folder / "tokenizer.json")}, max_running=running)
    results: list[dict[str, object]] = []
    begun = time.perf_counter()
    await host.read(Job("a.txt", Limits()), b"warm-up", 7)
    print(f"start of the zygote and its first file: {time.perf_counter() - begun:.2f} s")
    for kind, small in documents.one_of_each().items():
        for size, file in (("small", small), ("large", _large(kind))):
            if file is None:
                continue
            inside = _quantiles(_inside(*file, seconds, tokenizer))
            child = _quantiles(await _child(host, *file, seconds, running))
            peak_mib, num_chars = _peak_mib(folder, *file)
            results.append(
                {
                    "kind": kind,
                    "size": size,
                    "file_bytes": len(file[1]),
                    "text_chars": num_chars,
                    "inside_ms": [round(value * 1000, 2) for value in inside],
                    "child_ms": [round(value * 1000, 2) for value in child],
                    "files_per_s": round(1 / child[0], 1),
                    "peak_mib": round(peak_mib, 1),
                }
            )
            print(results[-1], flush=True)
    await host.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="per kind, size and way")
    parser.add_argument("--running", type=int, default=2, help="files read at the same time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(measure(options.seconds, options.running, Path(folder)))
    print(json.dumps({"command": " ".join(sys.argv), "results": results}))


if __name__ == "__main__":
    main()
