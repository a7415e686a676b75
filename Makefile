# Two commands on a fresh machine: `make demo` and `make test`. Python 3.11 or newer and make are all they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-base lint clean

demo: $(VENV)/.train
	$(BIN)/resnets demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

# The base install alone, in an environment of its own: predicting needs no PyTorch, not even installed.
test-base: $(VENV)-base/.base
	$(VENV)-base/bin/python -m pytest tests/test_base_install.py -m "not gpu"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

$(VENV)/.train: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[train]"
	touch $@

$(VENV)/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/.train

$(VENV)-base/.base: pyproject.toml
	test -x $(VENV)-base/bin/python || $(PYTHON) -m venv $(VENV)-base
	$(VENV)-base/bin/python -m pip install --quiet --editable . "pytest>=9"
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-base resnets-demo build dist .pytest_cache .ruff_cache
