# Sets itself up: a virtual environment in the checkout, installed with the pinned constraints.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
BASE   := $(VENV)/.base
DEV    := $(VENV)/.dev
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test test-all lint docs ui sbom clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

demo: $(BASE)  ## the main job on a simulated ward, then the leaderboard
	$(BIN)/flowsheet run demo

test: $(DEV) lint  ## what has to pass before a change lands
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(DEV) lint  ## the slow tests too
	$(BIN)/python -m pytest

lint: $(DEV)  ## ruff, mypy and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DEV)  ## the documentation site, in site/; a broken link is an error
	$(BIN)/mkdocs build --strict

ui: $(BASE)  ## the MLflow and Prefect pages on loopback
	$(BIN)/flowsheet ui

sbom:  ## a bill of materials of the pinned dependencies (CycloneDX); its tool has its own environment
	$(PYTHON) -m venv $(VENV)/sbom
	$(VENV)/sbom/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0
	$(VENV)/sbom/bin/cyclonedx-py requirements constraints.txt --output-reproducible \
		--output-file sbom.json

$(BASE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Flowsheet needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; say make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "installing into $(VENV) (a few minutes, once) ..."
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(DEV): $(BASE)
	$(PIP) -e ".[dev,docs]"
	@touch $@

clean:  ## remove the virtual environment
	rm -rf $(VENV)
