# Every target installs what it needs and no more; stamps in $(VENV) make a second run instant.

PYTHON ?= python3
PORT ?= 8443
# What make test hands to pytest: make test ARGS="-x -k ledger"
ARGS ?=
# Seconds, users and users started per second of make load
LOAD_TIME ?= 60
LOAD_USERS ?= 40
LOAD_RATE ?= 20
# Seconds of make fuzz, and which part of the wire; all parts when none is named
FUZZ_TIME ?= 60
FUZZ_ROLE ?=
# Seconds of make soak (a day: SOAK_TIME=86400), processes of clients, clients in each, and the seed of the mix
SOAK_TIME ?= 600
SOAK_PROCESSES ?= 2
SOAK_THREADS ?= 6
SOAK_SEED ?= 1

VENV := .venv
BIN := $(VENV)/bin
LOAD_VENV := .venv-load
AUDIT_VENV := .venv-audit
NODE_TEST := tests/integration/node

export PIP_DISABLE_PIP_VERSION_CHECK = 1
PIP := $(BIN)/python -m pip install -q -c constraints.txt
# With the default editable mode twistd finds the plugin only when started in this directory.
EDITABLE := --no-build-isolation --config-settings editable_mode=compat -e

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check load reliability fuzz soak audit sbom format build coverage changelog clean

help:  ## What can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## A relay to try on 127.0.0.1, with its own certificates (PORT=8443)
	@exec $(BIN)/openai-relay demo --port $(PORT)

test: $(VENV)/.test $(VENV)/.node  ## Every test (ARGS="..." goes to pytest)
	$(BIN)/python -m pytest -n auto $(ARGS)

check: $(VENV)/.dev  ## Format, lint, types, floors, and a package that installs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --config setup.cfg
	@$(MAKE) --no-print-directory build

load: $(VENV)/.runtime $(LOAD_VENV)/.installed  ## 60 s of load on a demo relay; report in reports/load.html
	@PORT=$(PORT) LOAD_TIME=$(LOAD_TIME) LOAD_USERS=$(LOAD_USERS) LOAD_RATE=$(LOAD_RATE) \
		bash load/run $(BIN)/openai-relay $(LOAD_VENV)/bin/locust

reliability: $(VENV)/.test  ## Every request and every ending, case by case; writes docs/reliability.md
	@$(BIN)/python -m tests.reliability

fuzz: $(VENV)/.fuzz  ## Hostile bytes for the wire, for 60 s (FUZZ_TIME=seconds, FUZZ_ROLE=server|client|chunked|head)
	@$(BIN)/python -m tests.fuzz --seconds $(FUZZ_TIME) $(if $(FUZZ_ROLE),--role $(FUZZ_ROLE))

soak: $(VENV)/.test  ## 10 minutes of everything at once, nothing lost, nothing leaked (SOAK_TIME=seconds)
	@mkdir -p reports
	@exec $(BIN)/python -m tests.soak --seconds $(SOAK_TIME) --processes $(SOAK_PROCESSES) --threads $(SOAK_THREADS) \
		--seed $(SOAK_SEED) --report reports/soak.json

audit: $(AUDIT_VENV)/.relay  ## Known vulnerabilities in what the relay installs; exits with 3 if nobody can be asked
	@$(BIN)/python .ci/audit $(AUDIT_VENV)/bin/pip-audit $(AUDIT_VENV)/relay/bin/python

sbom: $(AUDIT_VENV)/.relay  ## The bill of materials of what the relay installs, as CycloneDX: reports/sbom.json
	@mkdir -p reports
	@$(AUDIT_VENV)/bin/cyclonedx-py environment --mc-type application --output-reproducible --validate \
		--output-file reports/sbom.json $(AUDIT_VENV)/relay/bin/python
	@echo "reports/sbom.json is written, and valid."

format: $(VENV)/.dev  ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

build: $(VENV)/.dev  ## sdist and wheel in dist/, checked
	rm -rf build dist
	$(BIN)/python -m build --no-isolation --outdir dist . > build.log 2>&1 || { cat build.log; rm -f build.log; exit 1; }
	@rm -f build.log
	$(BIN)/python -m twine check --strict dist/*

coverage: $(VENV)/.dev  ## Which branches of core/ its own tests do not take
	$(BIN)/python -m coverage run -m pytest -q tests/core
	$(BIN)/python -m coverage report --show-missing --skip-covered --include='openai_relay/core/*'

changelog: $(VENV)/.dev  ## What the next release's section of the changelog would say
	@$(BIN)/towncrier build --draft --version "$$($(BIN)/python -c 'from importlib.metadata import version; print(version("openai-relay"))')"

clean:  ## Remove everything that make made, the environments included
	rm -rf $(VENV) $(LOAD_VENV) $(AUDIT_VENV) .demo build dist reports *.egg-info $(NODE_TEST)/node_modules
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache _trial_temp*
	find openai_relay tests twisted load -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	rm -f .coverage twisted/plugins/dropin.cache twistd.pid twistd.log

# --- environments ----------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "openai_relay needs Python 3.11 or newer, and '$(PYTHON)' is not it or is not there." >&2; \
		echo "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make virtual environments. On Debian: apt install python3-venv" >&2; exit 1; }
	@echo "Making a virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: setup.cfg constraints.txt | $(BIN)/python
	@echo "Installing openai_relay into $(VENV) (once; well under a minute) ..."
	@$(PIP) setuptools
	@$(PIP) $(EDITABLE) .
	@touch $@

# The SDK is no part of the relay, but the demo prints a program for it that is there to be pasted.
$(VENV)/.demo: $(VENV)/.runtime
	@$(PIP) $(EDITABLE) '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.runtime
	@echo "Installing what the tests need ..."
	@$(PIP) $(EDITABLE) '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	@echo "Installing what the checks need ..."
	@$(PIP) $(EDITABLE) '.[dev]'
	@touch $@

# atheris guides the fuzzer by coverage; where there is no wheel of it, the fuzzer mutates its corpus without.
$(VENV)/.fuzz: $(VENV)/.test
	@$(PIP) $(EDITABLE) '.[fuzz]' || echo "atheris could not be installed: fuzzing without it."
	@touch $@

# The SDK for Node is a client in one of the tests, which is skipped where it cannot be installed.
$(VENV)/.node: $(NODE_TEST)/package.json $(NODE_TEST)/package-lock.json | $(BIN)/python
	@if ! command -v npm >/dev/null; then \
		echo "npm is not installed: the test with the SDK for Node will be skipped."; \
	elif (cd $(NODE_TEST) && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error); then \
		touch $@; \
	else \
		echo "npm could not install the SDK for Node: its test will be skipped."; \
	fi

# locust brings gevent and Flask along; they stay out of the relay's own environment.
$(LOAD_VENV)/.installed: constraints.txt | $(BIN)/python
	@echo "Installing locust into $(LOAD_VENV) ..."
	@$(PYTHON) -m venv $(LOAD_VENV)
	@$(LOAD_VENV)/bin/python -m pip install -q -c constraints.txt locust
	@touch $@

# The tools bring much along that the relay does not have, so what is audited is an environment apart, without even pip.
$(AUDIT_VENV)/.installed: constraints.txt | $(BIN)/python
	@echo "Installing pip-audit and cyclonedx-py into $(AUDIT_VENV) ..."
	@$(PYTHON) -m venv $(AUDIT_VENV)
	@$(AUDIT_VENV)/bin/python -m pip install -q -c constraints.txt pip-audit cyclonedx-bom
	@touch $@

$(AUDIT_VENV)/.relay: setup.cfg constraints.txt $(AUDIT_VENV)/.installed
	@rm -rf $(AUDIT_VENV)/relay
	@$(PYTHON) -m venv --without-pip $(AUDIT_VENV)/relay
	@$(AUDIT_VENV)/bin/python -m pip --python $(AUDIT_VENV)/relay/bin/python install -q -c constraints.txt .
	@rm -rf build *.egg-info  # which setuptools leaves here, and would take up again
	@touch $@
