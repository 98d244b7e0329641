# Two commands matter: `make serve` and `make test`. Both call `make setup`, which does nothing when nothing changed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
SDK    := .sdk/.installed

# Strict editable installs link file by file, so the list of files is part of what "changed" means.
SOURCES := $(sort $(shell find anzoth scheduler kernels index -name '*.py' -o -name '*.sql' -o -path 'anzoth/demo/model/*'))
MANIFEST := $(VENV)/.manifest

.PHONY: setup serve test test-fast lint types bench bench-gpu clean FORCE

setup: $(STAMP)

serve: $(STAMP)
	@$(BIN)/anzoth serve --data-dir .anzoth $(ARGS)

test: $(STAMP) $(SDK)
	@echo "==> running the tests"
	@$(BIN)/pytest $(ARGS)

test-fast: $(STAMP)
	@$(BIN)/pytest -m "not slow" $(ARGS)

lint: $(STAMP)
	@echo "==> ruff"
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(STAMP)
	@echo "==> pyright"
	@$(BIN)/pyright

bench: $(STAMP)
	@$(BIN)/pytest bench --benchmark-only -m "not gpu" $(ARGS)

bench-gpu: $(STAMP)
	@$(BIN)/pytest bench --benchmark-only -m gpu $(ARGS)

clean:
	rm -rf build .venv .sdk *.egg-info

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "anzoth: no $(PYTHON) found; install Python 3.11 or newer, or run: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "anzoth: Python 3.11 or newer is needed, this is $$($(PYTHON) --version 2>&1); run: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "==> creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { echo "anzoth: could not create a virtual environment (on Debian: apt install python3-venv)"; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check "pip>=25,<27"

# Rewritten only when a file was added or removed, so that edits do not reinstall.
$(MANIFEST): $(VENV)/bin/python FORCE
	@printf '%s\n' $(SOURCES) | cmp -s - $@ || printf '%s\n' $(SOURCES) > $@

$(STAMP): $(MANIFEST) setup.py pyproject.toml
	@echo "==> installing anzoth and its dependencies (a few minutes the first time)"
	@rm -rf build/__editable__.*
	@$(BIN)/pip install --disable-pip-version-check --progress-bar on -e ".[test]" --config-settings editable_mode=strict | sed -u -n -e 's/^Collecting \([^ ]*\).*/    \1/p' -e 's/^Installing collected.*/    installing/p' -e '/^Successfully installed/p' | cut -c1-100; test $${PIPESTATUS:-0} = 0
	@$(BIN)/python -c 'import anzoth.frames' || { echo "anzoth: the installation failed; the lines above say why"; exit 1; }
	@touch $@

# The clients that the tests drive besides the installed one: openai 1.x for Python, and openai for Node.
$(SDK): tests/sdk/package.json tests/sdk/requirements-openai1.txt $(STAMP)
	@echo "==> installing the client SDKs that the tests use"
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade --target .sdk/openai1 -r tests/sdk/requirements-openai1.txt
	@mkdir -p .sdk/node && cp tests/sdk/package.json .sdk/node/
	@cd .sdk/node && PATH="$$PWD/../../$(BIN):$$PATH" npm install --silent --no-audit --no-fund
	@touch $@
