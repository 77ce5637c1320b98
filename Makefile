# `make up` runs all of Halfdrop on this machine; `make test` tests it. Python 3.11 or newer is all that is needed.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8080
DATA ?= data
HUBS ?= 1
WORKERS ?= 2
ARGS ?=
PIP_FLAGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --require-virtualenv
INSTALL := $(PIP) install $(PIP_FLAGS) -c requirements.lock
# A line that counts, for the hundreds that pip prints; what it warns of goes past this. PIP_LOG=cat shows all.
PIP_LOG ?= awk '/^Collecting / { printf "\r  %d packages found  ", ++found; fflush() } \
	/^Installing collected/ { print "and being unpacked"; fflush() }'
PINS := pyproject.toml requirements.lock requirements-binaries.lock
PACKAGES := $(foreach part,contracts runtime models cache edge hub forecaster operator deploy,$(part)/halfdrop)
SOURCES := $(PACKAGES) bench tests

# Resolved beside the extras: what builds us, and versions held back (the reasons stand in docs/dependencies.md).
LOCK_ALSO := pip==26.0 hatchling editables setuptools async-timeout "huggingface_hub<1"

.PHONY: help up setup test test-cluster check bench manifests train lock clean

help: ## list what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(VENV)/.ready-up ## run everything on this machine: PORT=8080 DATA=data HUBS=1
	@exec $(BIN)/halfdrop up --port $(PORT) --data-dir $(DATA) --hubs $(HUBS)

setup: $(VENV)/.ready-up ## install what `make up` needs into .venv, and stop

# Real servers share the cores with each other: what fails beside others is run once more, alone, and counts if it fails.
test: $(VENV)/.ready-dev ## install what the tests need, and run every test: ARGS="-k name" WORKERS=2
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS) || \
		$(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(ARGS)

test-cluster: $(VENV)/.ready-dev ## run the operator's tests against the cluster of KUBECONFIG=…
	@test -n "$(KUBECONFIG)" || { echo "make: say which cluster: make test-cluster KUBECONFIG=FILE" >&2; exit 1; }
	HALFDROP_TEST_KUBECONFIG=$(KUBECONFIG) $(BIN)/python -m pytest tests/cluster $(ARGS)

check: $(VENV)/.ready-dev ## lint, format, types, import order
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports

bench: $(VENV)/.ready-dev ## run every benchmark; each prints one JSON object last
	@for script in $$(grep -l __main__ bench/*.py); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

manifests: $(VENV)/.ready-dev ## render the kustomize overlays' bases from the Helm chart
	$(BIN)/python deploy/kustomize/render.py

train: $(VENV)/.ready-dev ## train the house model and write its bundle: about 50 minutes on two idle cores
	$(BIN)/python -m halfdrop.models.house.make_bundle $(ARGS)

lock: ## resolve every extra anew and write requirements.lock
	@set -e; room=$$(mktemp -d); trap 'rm -rf "$$room"' EXIT; \
	$(PYTHON) -m venv $$room/venv; \
	$$room/venv/bin/python -m pip install -q pip==26.0; \
	$$room/venv/bin/python -m pip install -q --dry-run --ignore-installed --report $$room/report.json \
		-e ".[all,dev]" $(LOCK_ALSO); \
	$(PYTHON) deploy/halfdrop/deploy/lock.py $$room/report.json > $$room/lock; \
	cp $$room/lock requirements.lock; git diff --stat -- requirements.lock

clean: ## remove the environment and caches; keeps data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: installed once, again only when a pin changes. .ready-dev covers what .ready-up covers.

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "make: Python 3.11 or newer is needed and $(PYTHON) is not; set it with make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "make: $(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "make: creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.tools: $(VENV)/.created $(PINS)
	@echo "make: installing into $(VENV); the first time this takes some minutes"
	@$(INSTALL) pip hatchling editables setuptools | $(PIP_LOG)
	@$(PIP) install $(PIP_FLAGS) --require-hashes --no-deps -r requirements-binaries.lock | $(PIP_LOG)
	@touch $@

$(VENV)/.ready-up: $(VENV)/.tools
	@$(INSTALL) --no-build-isolation -e ".[up]" | $(PIP_LOG)
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.tools
	@$(INSTALL) --no-build-isolation -e ".[dev]" | $(PIP_LOG)
	@touch $@ $(VENV)/.ready-up
