# Needs Python 3.11 and make, nothing else. `make PYTHON=/path/to/python3.11 ...` names another one.
PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test test-all site lint clean

# One test process a core; a process that has finished takes tests over from the others.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist worksteal --durations 10

demo: $(INSTALLED)
	$(BIN)/ddfm demo -o ddfm-demo

test: $(INSTALLED) lint
	$(PYTEST) -m "not slow"

# The long and rare tests that `make test` leaves out.
test-all: $(INSTALLED)
	$(PYTEST) -m "slow or hypothesis" --hypothesis-profile slow

site: $(INSTALLED)
	$(BIN)/mkdocs build

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv
