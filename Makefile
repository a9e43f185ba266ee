# What a contributor runs. A fresh clone needs Python 3.11 or newer and make, nothing else.

PYTHON  ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(if $(shell $(p) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(p))))
BIN     := .venv/bin
# A company network signs with a certificate of its own, which the system knows and uv does not.
UV      := UV_SYSTEM_CERTS=$(if $(wildcard /etc/ssl/certs/ca-certificates.crt),1,0) UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=.venv $(BIN)/uv
SYNC    := $(UV) sync --quiet --frozen --inexact --python $(BIN)/python --extra api --extra embedded --extra uvloop --extra mysql --extra sqlite
CONSOLE := services/api/console
STATIC  := services/api/nomaflow_api/static
PROJECT ?= .
FAULTS  ?= short
# Each process has servers of its own; the files of a test go to one process.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install console demo dev test unit integration e2e lint format schema bench faults full clean ci

help: ## Show this list
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: .venv/.done console ## Make .venv with everything in it; leaves .venv/bin/nomaflow

.venv/.done: pyproject.toml uv.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found. Debian: apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "This Python comes without venv. Debian: apt install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv==0.13.*'
	@echo "Installing into .venv (about 300 MB the first time) ..."
	@$(SYNC)
	@touch $@

# The pages are built on the way, never committed. Without Node's registry all else still works.
console: .venv/.done ## Build the console and GraphiQL
	@$(BIN)/python $(CONSOLE)/build.py

demo: install ## Run the nightly sync for real and stay up; ONCE=1 ends after the green run
	$(BIN)/python examples/demo.py $(if $(ONCE),--once)

dev: install ## Serve your own project folder: make dev PROJECT=path
	$(BIN)/nomaflow up --project $(PROJECT)

test: install ## Run the unit, integration and end-to-end tests
	$(BIN)/pytest $(PARALLEL) tests/unit tests/integration
	$(BIN)/pytest $(PARALLEL) tests/e2e

unit: .venv/.done ## Run the tests without I/O
	$(BIN)/pytest tests/unit

integration: .venv/.done ## Run the tests against real PostgreSQL and Valkey
	$(BIN)/pytest $(PARALLEL) tests/integration

e2e: install ## Run the tests against three real processes
	$(BIN)/pytest $(PARALLEL) tests/e2e

lint: .venv/.done ## Check style, types and floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.done ## Put the code into the one form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

schema: .venv/.done ## Print the API's schema into schema.graphql
	$(BIN)/python -m nomaflow_api.schema > schema.graphql

bench: install ## Measure; each script prints ratios taken side by side
	@for script in bench/[a-z]*.py; do test -e "$$script" || continue; echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

faults: install ## Kill, freeze and cut things while work goes on; FAULTS=long for the figures of the docs
	FAULTS=$(FAULTS) $(BIN)/pytest tests/faults

full: export FULL = 1
full: export COPIES = long
full: FAULTS = long
full: lint test faults bench ## Everything, with a directory of 50 000 people

ci: ## What CI runs
	.ci/run

# As root a project may keep its data in /var/lib/nomaflow and a copy of the servers in /var/tmp.
clean: ## Remove what these targets made, and what runs as root left elsewhere
	rm -rf .venv .nomaflow dist $(STATIC) $(CONSOLE)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@test "$$(id -u)" != 0 || { set -x; rm -rf /var/lib/nomaflow /var/tmp/nomaflow-0-*; }
