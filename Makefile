# Two commands do all set-up: `make up` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: up test check format ci-deps peers bench soak docs clean
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

# llama.cpp comes whole inside the source package of its Python binding.
LLAMA := 0.3.36
peers: .peers/llama-server .peers/tiny.gguf  ## llama-server as a backend for tests (needs cmake and g++; minutes)

.peers/llama-server: | .venv/.test
	mkdir -p .peers/build
	$(BIN)/pip download --quiet --no-deps --no-binary :all: --dest .peers/build llama-cpp-python==$(LLAMA)
	tar -xzf .peers/build/llama_cpp_python-$(LLAMA).tar.gz -C .peers/build
	cmake -S .peers/build/llama_cpp_python-$(LLAMA)/vendor/llama.cpp -B .peers/build/out \
	  -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS=-O1 -DGGML_NATIVE=OFF -DBUILD_SHARED_LIBS=OFF \
	  -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF \
	  -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_NUMBER=1 -DLLAMA_BUILD_COMMIT=sdist
	cmake --build .peers/build/out --target llama-server --parallel 2
	cp .peers/build/out/bin/llama-server $@

.peers/tiny.gguf: tests/integration/tiny_gguf.py | .venv/.test
	mkdir -p .peers
	$(BIN)/pip install --quiet 'gguf>=0.19'
	$(BIN)/python tests/integration/tiny_gguf.py $@

ci-deps:  ## Debian packages of peers and tools (root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq curl nginx-light prometheus

clean:
	rm -rf .venv .peers .mypy_cache .ruff_cache .pytest_cache .hypothesis
