"""Which kinds of plain text does a file name tell apart?

Does not know: how a file is read, or what its content says.
"""

from __future__ import annotations

_CODE = {
    "py", "pyi", "js", "mjs", "cjs", "ts", "tsx", "jsx", "java", "kt", "kts", "scala", "c", "h",
    "cc", "cpp", "cxx", "hpp", "hh", "cs", "go", "rs", "rb", "php", "swift", "m", "mm", "sh",
    "bash", "zsh", "fish", "ps1", "bat", "sql", "r", "jl", "lua", "pl", "pm", "ex", "exs", "erl",
    "hs", "ml", "mli", "clj", "lisp", "el", "vim", "dart", "zig", "nim", "proto", "thrift",
    "graphql", "css", "scss", "less", "vue", "svelte", "tex", "bib", "toml", "yaml", "yml", "ini",
    "cfg", "conf", "properties", "xml", "xsd", "xsl", "svg", "gradle", "cmake", "tf",
    "dockerfile", "makefile", "diff", "patch", "ipynb",
}  # fmt: skip

EXTENSIONS: dict[str, str] = {
    **dict.fromkeys(_CODE, "code"),
    **dict.fromkeys(("csv", "tsv"), "csv"),
    **dict.fromkeys(("html", "htm", "xhtml"), "html"),
    **dict.fromkeys(("md", "markdown", "mdown", "mkd"), "md"),
    **dict.fromkeys(("json", "jsonl", "ndjson"), "json"),
}
"""Of files that are plain text. Every other name is `txt`."""
