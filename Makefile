# The habits of this repository. `make run` is the whole story, from nothing to a promoted model.
.DEFAULT_GOAL := help
.PHONY: help setup run test check bench serve docs
SHELL := /bin/bash

PYTHON ?= python3.11
# Processes that run the tests. Modules are handed out in order, so that the long ones come first.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

help: ## Say what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 14

setup: $(STAMP) ## Make .venv from requirements.lock (skipped while that is unchanged)

$(STAMP):
	@command -v $(PYTHON) >/dev/null || { \
	  echo "Catena needs Python 3.11, and there is no $(PYTHON) in the path;" \
	       "install it, or name another with \`make setup PYTHON=/path/to/python3.11\`." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.installed-*
	@touch $@

run: setup ## Fetch data and backbone, run the whole chain, print how good the model is
	@$(BIN)/catena fetch
	@$(BIN)/python flows/finetune.py

test: setup ## All tests: end to end, integration, unit; in WORKERS processes
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

check: setup ## Lint, format, types, import rules, the manual
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m docs.generate_settings --check
	@$(BIN)/python -m docs.generate_methods --check
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: setup ## Measure: the chain with its costs, training speed, a million records
	@$(BIN)/python -m benchmarks.chain --costs
	@$(BIN)/python -m benchmarks.training_speed
	@$(BIN)/python -m benchmarks.prepare_million

serve: setup ## MLflow's pages on this machine: runs, curves, models
	@$(BIN)/mlflow ui --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///mlflow.db

docs: setup ## The manual on this machine, rebuilt as it is edited
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve
