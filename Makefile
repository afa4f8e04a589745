# Two commands: `make up` runs the whole program on this machine, `make test` passes every test. Both install what they need.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin

# Nothing is written to the home folder.
export PIP_CACHE_DIR ?= $(CURDIR)/.sandbox/cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SHELL_SCRIPTS := images/fungibility-entrypoint images/fungibility-health sandbox/bin/gke-gcloud-auth-plugin .ci/run .ci/install-docker

.PHONY: help up down status test test-unit test-images test-sandbox test-vllm lint format

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# stand-in (the default), or vllm: real vLLM on the CPU with a tiny random-weight model (installs about 5 GB once).
SERVER ?=

up: .venv/.installed ## set everything up and run the stack on the sandbox (SERVER=vllm: with real vLLM)
	@$(BIN)/python -m sandbox up $(if $(SERVER),--server $(SERVER))

down: .venv/.installed ## end the sandbox and remove its state
	@$(BIN)/python -m sandbox down

status: .venv/.installed ## nodes by pool, and the pods on them
	@$(BIN)/python -m sandbox status

test: test-unit test-images test-sandbox ## every test

test-unit: .venv/.installed ## quick and offline
	$(BIN)/pytest -n 4 --dist loadfile tests/unit

test-images: .venv/.installed ## the images' scripts, and real builds where a Docker daemon can be had
	$(BIN)/pytest tests/images

test-sandbox: .venv/.installed ## end to end, on a sandbox of its own
	$(BIN)/pytest tests/sandbox

test-vllm: .venv/.installed ## opt-in: real vLLM behind the entrypoint, and the stand-in held against it
	$(BIN)/pytest tests/vllm

lint: .venv/.installed ## every linter and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd examples/consumer && ../../$(BIN)/mypy --config-file ../../pyproject.toml .
	$(BIN)/shellcheck $(SHELL_SCRIPTS)
	$(BIN)/hadolint images/*.Dockerfile examples/consumer/gateway/Dockerfile

format: .venv/.installed ## rewrite what the formatter would
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/.installed: requirements.txt requirements-dev.txt constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) here: install Python 3.11 or later, or name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is $$($(PYTHON) --version): this needs Python 3.11 or later; name one with PYTHON=..." >&2; exit 1; }
	@echo "installing Python packages into .venv (once)"
	@$(PYTHON) -m venv .venv || { echo "make: no virtual environment could be made; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet -r requirements-dev.txt -c constraints.txt
	@touch $@
