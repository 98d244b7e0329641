"""Is the house still the house? Imports run one way, and some things are never imported at all."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Which of our packages each package may import, besides itself. One line per package.
COMMON = {
    *("anzoth.errors", "anzoth.config", "anzoth.model_config", "anzoth.frames", "anzoth.child"),
    *("anzoth.memory", "anzoth.model_kind", "anzoth.account_config", "anzoth.settings"),
    *("anzoth.price", "anzoth.backend_config", "anzoth.file_config", "anzoth.framing"),
    *("anzoth.index_frames", "anzoth.unix_socket", "anzoth.knowledge_config"),
    *("anzoth.response_config", "anzoth.tool_config", "anzoth.batch_config"),
}
MAY_IMPORT = {
    "anzoth.kernels": set(),
    "anzoth.index": COMMON,
    "anzoth.scheduler": {"anzoth.kernels", *COMMON},
    "anzoth.http": {"anzoth.errors", "anzoth.config"},
    "anzoth.text": {"anzoth.errors"},
    "anzoth.db": COMMON,
    "anzoth.ingest": COMMON,
    "anzoth.gateway": {"anzoth.db", "anzoth.ingest", "anzoth.text", "anzoth.telemetry", *COMMON},
    "anzoth.api": {"anzoth.gateway", "anzoth.text", "anzoth.http", "anzoth.telemetry", *COMMON},
    # It asks over HTTP; of the API it reads the table of routes and nothing else.
    "anzoth.isolation": {
        *("anzoth.api.routes", "anzoth.api.call", "anzoth.gateway", "anzoth.db"),
        *("anzoth.control", "anzoth.server_over_http"),
        *COMMON,
    },
}
FOLDERS = {
    "anzoth.kernels": "kernels",
    "anzoth.index": "index",
    "anzoth.scheduler": "scheduler",
    **{
        f"anzoth.{name}": f"anzoth/{name}"
        for name in ("http", "text", "db", "ingest", "gateway", "api", "isolation")
    },
}
NEVER = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
NEVER_CALLED = {"torch.load", "torch.save", "yaml.load", "eval", "exec"}

PRODUCT = [
    path
    for folder in ("anzoth", "scheduler", "kernels", "index")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
# `anzoth.cli` imports each of them only when it is called.
COMMANDS = ", ".join(
    f"anzoth.commands.{path.stem}"
    for path in sorted((ROOT / "anzoth/commands").glob("*.py"))
    if path.stem != "__init__"
)


def imported_modules(path: Path) -> set[str]:
    """Every module a file imports, wherever in the file; `from a import b` counts as a and a.b."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            modules.add(node.module)
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


@pytest.mark.parametrize("package", FOLDERS)
def test_imports_between_packages_run_one_way(package: str) -> None:
    allowed = {package, *MAY_IMPORT[package]}
    files = sorted((ROOT / FOLDERS[package]).rglob("*.py"))
    assert files
    for path in files:
        ours = {m for m in imported_modules(path) if m == "anzoth" or m.startswith("anzoth.")}
        for module in ours - {"anzoth"}:
            assert any(module == a or module.startswith(f"{a}.") for a in allowed), (
                f"{path.relative_to(ROOT)} imports {module}"
            )


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_ever_unpickled_or_evaluated(path: Path) -> None:
    assert not {m.partition(".")[0] for m in imported_modules(path)} & NEVER
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in NEVER_CALLED, f"{path}:{node.lineno}"


def test_init_files_hold_only_a_docstring() -> None:
    for path in PRODUCT:
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            assert len(body) == 1, path
            assert isinstance(body[0], ast.Expr), path


@pytest.mark.slow
@pytest.mark.parametrize(
    "modules",
    ["anzoth.server", "anzoth.supervisor", "anzoth.ingest.host", f"anzoth.cli, {COMMANDS}"],
    ids=["server", "supervisor", "ingestion host", "commands"],
)
def test_gateway_side_processes_never_load_torch_or_parsers(modules: str) -> None:
    code = (
        f"import sys, {modules}; "
        "unwanted = {'torch', 'hnswlib', 'transformers', 'safetensors', 'lxml', 'pypdfium2'}; "
        "print(sorted(unwanted & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "[]"
