"""Maps the top-level folders to import packages, so that no generic name lands in site-packages,
and compiles the native CPU kernels and those of the retriever.

All are plain shared libraries. Of the CPU kernels there is one per instruction set; which one is
loaded is decided when an engine starts (kernels/cpu/library.py). Without a C++ compiler the
installation goes on without them: torch computes instead, and numpy where it is scores.
"""

import platform
from pathlib import Path

from setuptools import Extension, setup

# Import package -> folder. One line per package: nothing is discovered by accident. Folders that
# hold only data are packages to setuptools too.
PACKAGES = {
    "anzoth": "anzoth",
    "anzoth.api": "anzoth/api",
    "anzoth.commands": "anzoth/commands",
    "anzoth.db": "anzoth/db",
    "anzoth.db.migrations": "anzoth/db/migrations",
    "anzoth.db.queries": "anzoth/db/queries",
    "anzoth.db.store": "anzoth/db/store",
    "anzoth.demo": "anzoth/demo",
    "anzoth.demo.model": "anzoth/demo/model",
    "anzoth.gateway": "anzoth/gateway",
    "anzoth.gateway.accounts": "anzoth/gateway/accounts",
    "anzoth.gateway.batches": "anzoth/gateway/batches",
    "anzoth.gateway.egress": "anzoth/gateway/egress",
    "anzoth.gateway.knowledge": "anzoth/gateway/knowledge",
    "anzoth.gateway.organization": "anzoth/gateway/organization",
    "anzoth.gateway.tools": "anzoth/gateway/tools",
    "anzoth.http": "anzoth/http",
    "anzoth.ingest": "anzoth/ingest",
    "anzoth.ingest.parsers": "anzoth/ingest/parsers",
    "anzoth.isolation": "anzoth/isolation",
    "anzoth.text": "anzoth/text",
    "anzoth.scheduler": "scheduler",
    "anzoth.scheduler.models": "scheduler/models",
    "anzoth.kernels": "kernels",
    "anzoth.kernels.cpu": "kernels/cpu",
    "anzoth.index": "index",
}

# Library -> what the compiler may use.
AVX2 = ["-mavx2", "-mfma", "-mbmi2", "-mf16c"]
AVX512 = [f"-mavx512{part}" for part in ("f", "bw", "cd", "dq", "vl")]
LIBRARIES = {"native_v3": AVX2, "native_v4": [*AVX2, *AVX512]}
NATIVE = Path("kernels/cpu/native")

setup(
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    package_data={
        "anzoth.db": ["*.sql"],
        "anzoth.db.migrations": ["*.sql"],
        "anzoth.db.queries": ["*.sql"],
        "anzoth.demo.model": ["*"],
    },
    ext_modules=[
        Extension(
            f"anzoth.kernels.cpu.{name}",
            sources=sorted(map(str, NATIVE.glob("*.cpp"))),
            depends=sorted(map(str, NATIVE.glob("*.h"))),
            language="c++",
            extra_compile_args=[
                *("-std=c++20", "-O2", "-fvisibility=hidden", "-pthread", "-Wno-psabi"),
                *flags,
            ],
            extra_link_args=["-pthread"],
            optional=True,
        )
        for name, flags in LIBRARIES.items()
        if platform.machine() in ("x86_64", "AMD64")
    ]
    + [
        # Keyword search computes what numpy does, to the last bit: no multiplication may melt into
        # an addition. Functions that need more than every processor has say so, and ask for it.
        Extension(
            "anzoth.index.native_search",
            sources=sorted(map(str, Path("index/native").glob("*.cpp"))),
            depends=sorted(map(str, Path("index/native").glob("*.h"))),
            language="c++",
            extra_compile_args=["-std=c++20", "-O3", "-fvisibility=hidden", "-ffp-contract=off"],
            optional=True,
        )
    ],
)
