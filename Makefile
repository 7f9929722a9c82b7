# Two commands do all set-up: `make up` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: up test check format ci-deps bench soak docs clean
.DEFAULT_GOAL := up

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "llmtap needs Python 3.11 or newer (set PYTHON=…)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/.server: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[server,demo]'
	@touch $@

.venv/.test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[server,demo,test]'
	@touch $@ .venv/.server

up: .venv/.server  ## install into .venv and start llmtap on the embedded store
	@exec $(BIN)/llmtap up $(ARGS)

check: .venv/.test  ## style, types, layers, sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/check_house.py

test: check  ## everything CI runs
	$(BIN)/pytest -ra $(PYTEST_ARGS)

format: .venv/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.server  ## docs/configuration.md from the configuration's own descriptions
	$(BIN)/python -m llmtap.config.reference > docs/configuration.md

bench: .venv/.test  ## proxy beside nginx, aiohttp and direct; writes loadtests/RESULTS.md
	$(BIN)/python -m loadtests.bench

soak: .venv/.test  ## mixed load with aborts; memory and files must stay level (SOAK_MINUTES=20)
	$(BIN)/python -m loadtests.soak

ci-deps:  ## Debian packages of peers and tools (root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq curl nginx-light prometheus

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
