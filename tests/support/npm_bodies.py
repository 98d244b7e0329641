"""Are the bodies and events that this server sends of the types of the `openai` package for Node?

They are compiled as values of these types. So nothing is missing, null or of another type where the
types do not say so, and what is there beyond them is listed: the extensions in `npm_types.ts`.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx2

from client_drivers import NODE, NODE_MODULES, SCRIPTS


class Bodies:
    """What the server sent, each body with its type."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client
        self._sent: list[tuple[str, Any]] = []

    def get(self, type: str, path: str) -> Any:
        return self._add(type, self._client.get(path))

    def when(self, status: str, path: str) -> None:
        """Returns when it is so."""
        while (state := self._client.get(path).json()["status"]) != status:
            assert state in ("validating", "in_progress", "finalizing")

    def post(self, type: str, path: str, body: Any = None, **options: Any) -> Any:
        return self._add(type, self._client.post(path, json=body, **options))

    def delete(self, type: str, path: str) -> Any:
        return self._add(type, self._client.delete(path))

    def stream(self, type: str, path: str, body: Any) -> None:
        answer = self._client.post(path, json={**body, "stream": True})
        assert answer.status_code == 200, answer.text
        frames = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
        assert len(frames) > 2
        self._sent += [(type, json.loads(frame)) for frame in frames]

    def add_each(self, type: str, bodies: list[Any]) -> None:
        assert bodies
        self._sent += [(type, body) for body in bodies]

    def errors(self, folder: Path) -> list[str]:
        """What the compiler says of them, each with the value that it says it of."""
        head = (SCRIPTS / "npm_types.ts").read_text().splitlines()
        lines = head + [
            f"export const sent{number}: {type} = {json.dumps(body)};"
            for number, (type, body) in enumerate(self._sent)
        ]
        compiled = folder / "sent.ts"
        compiled.write_text("\n".join(lines))
        (folder / "package.json").write_text('{"type": "module"}')
        (folder / "node_modules").symlink_to(NODE_MODULES / "node_modules")
        compiler = NODE_MODULES / "node_modules" / "typescript" / "bin" / "tsc"
        options = ["--noEmit", "--strict", "--skipLibCheck", "--pretty", "false"]
        done = subprocess.run(
            [str(NODE), str(compiler), *options, "--module", "nodenext", str(compiled)],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        found = [line for line in done.stdout.splitlines() if line.startswith("sent.ts(")]
        assert bool(found) == (done.returncode != 0), done.stdout + done.stderr
        return [_with_value(error, lines) for error in found]

    def _add(self, type: str, answer: httpx2.Response) -> Any:
        assert answer.status_code == 200, answer.text
        body = answer.json()
        self._sent.append((type, body))
        return body


def _with_value(error: str, lines: list[str]) -> str:
    place, _, message = error.removeprefix("sent.ts(").partition("): ")
    line, column = map(int, place.split(","))
    return f"{message} At: {lines[line - 1][column - 1 :][:80]}"
