# make run    install and show the main job on the sample sessions
# make test   install what the tests need and run them all
# make check  lint, types, import contracts, documentation checks, style figures
# make lock   resolve the dependencies again
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check lock clean

run: $(VENV)/installed
	@scripts/demo.sh $(BIN)/knowledge

test: $(VENV)/installed-dev
	@scripts/install-test-servers.sh
	$(BIN)/python -m pytest $(if $(filter true,$(CI)),-n 2,-n auto) $(PYTEST_ARGS)

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check src tests bench scripts
	$(BIN)/ruff check src tests bench scripts
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/reference.py --check
	$(BIN)/python scripts/monitoring.py --check
	$(BIN)/python scripts/reviewed.py
	$(BIN)/python scripts/style_figures.py

lock: $(VENV)/installed-dev
	PYTHON=$(BIN)/python scripts/lock.sh

$(VENV)/bin/python:
	$(PYTHON) scripts/make_venv.py $(VENV)

$(VENV)/installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache
