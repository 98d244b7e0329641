"""Maps the top-level folders to import packages, so that no generic name lands in site-packages.

The native CPU kernels will be built here; until they land, installation needs no compiler of ours.
"""

from setuptools import setup

# Import package -> folder. One line per package: nothing is discovered by accident. Folders that
# hold only data are packages to setuptools too.
PACKAGES = {
    "anzoth": "anzoth",
    "anzoth.api": "anzoth/api",
    "anzoth.commands": "anzoth/commands",
    "anzoth.db": "anzoth/db",
    "anzoth.db.migrations": "anzoth/db/migrations",
    "anzoth.demo": "anzoth/demo",
    "anzoth.demo.model": "anzoth/demo/model",
    "anzoth.gateway": "anzoth/gateway",
    "anzoth.http": "anzoth/http",
    "anzoth.text": "anzoth/text",
    "anzoth.scheduler": "scheduler",
    "anzoth.scheduler.models": "scheduler/models",
    "anzoth.kernels": "kernels",
    "anzoth.kernels.cpu": "kernels/cpu",
    "anzoth.index": "index",
}

setup(
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    package_data={
        "anzoth.db": ["*.sql"],
        "anzoth.db.migrations": ["*.sql"],
        "anzoth.demo.model": ["*"],
    },
)
