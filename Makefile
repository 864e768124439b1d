# `make check` is the one command: format, lint, types, import rules, tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo setup check test lint format docs gallery bench lock clean

demo: $(VENV)/.demo
	$(BIN)/bbdiag demo

$(VENV)/.demo: requirements/runtime.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/runtime.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps .
	touch $@

setup: $(VENV)/.ready

# --require-hashes: what is tested is what was pinned. bbdiag itself is installed from the checkout.
$(VENV)/.ready: requirements/dev.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

check: lint test

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Most tests wait for something: four at a time. The gallery runs its cases side by side by itself.
test: setup
	$(BIN)/python -m pytest -n 4 --ignore tests/gallery
	$(BIN)/python -m pytest tests/gallery

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What is generated from the code: the list of verdicts, the schema, the golden files of the tests.
docs: setup
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q tests/test_golden.py

# As root, with nmap, monitoring-plugins-basic and prometheus-blackbox-exporter beside what CI needs.
gallery: setup
	$(BIN)/python -m tests.gallery.document

# As root, for about an hour: says what else is needed. `make bench PARTS="startup fleet"` measures these
# anew; `PARTS=--quick` is for who works on it.
bench: setup
	$(BIN)/python -m bench $(PARTS)

# Only names, versions and hashes stand in the files: no index, no host.
lock:
	uv pip compile --generate-hashes --universal --python-version 3.11 --no-header --no-annotate \
	  --extra dev pyproject.toml --output-file requirements/dev.txt
	uv pip compile --generate-hashes --universal --python-version 3.11 --no-header --no-annotate \
	  pyproject.toml --output-file requirements/runtime.txt

clean:
	rm -rf $(VENV) .bench build dist *.egg-info .*_cache
