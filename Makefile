# Two commands on a fresh machine: `make demo` and `make test`. Python 3.11 or newer and make are all they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-base lint clean

demo: $(VENV)/.train
	$(BIN)/resnets demo

# A process a core, each with one thread: files are shared out among them.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

# With every other library there is: TensorFlow, Keras, transformers.
test-slow: $(VENV)/.convert
	$(BIN)/python -m pytest -m "(slow or convert) and not gpu and not network and not browser"

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

$(VENV)/.convert: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable ".[dev,convert]"
	touch $@

$(VENV)-base/.base: pyproject.toml
	test -x $(VENV)-base/bin/python || $(PYTHON) -m venv $(VENV)-base
	$(VENV)-base/bin/python -m pip install --quiet --editable . "pytest>=9"
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-base resnets-demo build dist .pytest_cache .ruff_cache
