# On a fresh machine this needs git, make and Python 3.11 or later with venv; the rest is installed into .venv from the
# hashed lists in requirements/.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEV    := $(VENV)/.installed-dev
DEMO   := $(VENV)/.installed-demo
CODE   := daemon tests $(wildcard bench)

# Otherwise each of the processes that the tests start compiles the package again.
export PYTHONDONTWRITEBYTECODE :=

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo test test-all boot-test check format bench coverage lock clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO) ## See the main job on a PostgreSQL of its own, in a minute
	@$(BIN)/paidwatch demo --once

test: $(DEV) ## Run the tests, four at a time
	@$(BIN)/pytest -q -n 4 --dist worksteal -m 'not thorough' $(ARGS)

test-all: $(DEV) ## Run every test, on every shape of the application's schema
	@$(BIN)/pytest -q -n 4 --dist worksteal $(ARGS)

boot-test: $(DEV) ## The units in a Debian of their own, under systemd; as root, with debootstrap and systemd-nspawn
	@PAIDWATCH_BOOT_TEST=1 $(BIN)/pytest -q tests/boot $(ARGS)

check: $(DEV) ## Style, formatting, types twice, and who may import whom: all of them, whatever the first ones say
	@$(MAKE) -k check-style check-format check-imports check-mypy check-pyright

.PHONY: check-style check-format check-imports check-mypy check-pyright
check-style: ; $(BIN)/ruff check $(CODE)
check-format: ; $(BIN)/ruff format --check $(CODE)
check-imports: ; $(BIN)/lint-imports --no-logo
check-mypy: ; $(BIN)/mypy
check-pyright: ; $(BIN)/basedpyright --pythonpath $(BIN)/python

format: $(DEV) ## Format, and repair what can be repaired safely
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(DEV) ## Measure, and print one table
	@$(BIN)/python -m bench

coverage: $(DEV) ## Run every test once more and show the lines and branches that none of them reached
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report

COMPILE := $(BIN)/uv pip compile pyproject.toml --group build --universal --python-version 3.11 --generate-hashes \
           --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" --quiet

lock: $(DEV) ## Bring the hashed lists up to date with pyproject.toml and the newest releases
	$(COMPILE) --upgrade --extra dev --output-file requirements/dev.txt
	$(COMPILE) --upgrade --extra demo --constraints requirements/dev.txt --output-file requirements/demo.txt

clean: ## Remove what was built and installed here, and nothing else
	rm -rf $(VENV) dist build .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find daemon tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The development list holds everything in the demo's, in the same versions: whoever has it needs no second install.
$(DEMO): requirements/demo.txt pyproject.toml | $(BIN)/python
	@test -e $(DEV) || sh requirements/install $(BIN)/python demo
	@touch $@

$(DEV): requirements/dev.txt pyproject.toml | $(BIN)/python
	@sh requirements/install $(BIN)/python dev
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'paidwatch needs Python 3.11 or later, and $(PYTHON) is older or missing. Name another: make PYTHON=/path/to/python3' >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo '$(PYTHON) has no venv. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
