# Two commands: `make up` runs the whole program on this machine, `make test` passes every test. Both install what they need.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin

# Nothing is written to the home directory.
export PIP_CACHE_DIR ?= $(CURDIR)/.sandbox/cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# If this is set, as in many containers, Python compiles every module again in each of the many short programs here.
unexport PYTHONDONTWRITEBYTECODE

SHELL_SCRIPTS := images/fungibility-entrypoint images/fungibility-health images/fungibility-drain sandbox/metrics/image/adapter .ci/run .ci/install-docker .ci/install-chromium

.PHONY: help up down status live preflight policy test test-unit test-images test-sandbox test-drills test-vllm conformance lint check format pages
.PHONY: preview deploy recover drift cost smoke verify-hardware benchmark comment drift-issue deployed-commit bench drills picture

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# stand-in (the default), or vllm: real vLLM on the CPU with a tiny random-weight model (installs about 5 GB once).
SERVER ?=

# build (the default), or download: the vendors' released tools in place of a build from source, for a machine with the internet.
TOOLS ?=

up: .venv/.installed ## set everything up and run the stack on the sandbox (SERVER=vllm: with real vLLM; TOOLS=download: no build)
	@$(if $(TOOLS),SANDBOX_TOOLS=$(TOOLS) )$(BIN)/python -m sandbox up $(if $(SERVER),--server $(SERVER))

down: .venv/.installed ## end the sandbox and remove its state
	@$(BIN)/python -m sandbox down

status: .venv/.installed ## show nodes by pool, and the pods on them
	@$(BIN)/python -m sandbox status

live: .venv/.installed ## show the sandbox's ladder as a live page, with buttons that make trouble (a real cluster's: python -m ops live)
	@$(BIN)/python -m sandbox live

test: test-unit test-images test-sandbox ## run every test except the nightly ones

test-unit: .venv/.installed policies/.venv/.installed ## run the unit tests: quick and offline
	$(BIN)/pytest -n 3 --dist loadfile tests/unit

test-images: .venv/.installed ## test the images' scripts, and build them if there is a Docker daemon
	$(BIN)/pytest -n 4 --dist loadfile tests/images

test-sandbox: .venv/.installed policies/.venv/.installed ## test end to end, on sandboxes of its own
	$(BIN)/pytest -v -n 2 -m "not drill" --durations 12 tests/sandbox

test-drills: .venv/.installed policies/.venv/.installed ## opt-in: break a sandbox in every way, as the nightly workflow does
	$(BIN)/pytest -m drill tests/sandbox

# On PATH alone, so that no other sandbox takes it in place of the stand-in.
conformance: .venv/.installed policies/.venv/.installed ## opt-in: test end to end with the real Kubernetes provider (its build, once, takes half an hour of processor time)
	plugin=$$($(BIN)/python -m sandbox.toolchain.tools kubernetes-provider) && mkdir -p .sandbox/conformance && \
	  ln -sfn "$$plugin" .sandbox/conformance/pulumi-resource-kubernetes && \
	  PATH="$(CURDIR)/.sandbox/conformance:$$PATH" $(BIN)/pytest -m "not drill" --durations 12 $(or $(TESTS),tests/sandbox)

test-vllm: .venv/.installed .venv-benchmark/.installed ## opt-in: real vLLM behind the entrypoint, the stand-in beside it, and the benchmark
	$(BIN)/pytest tests/vllm

# The targets that a team's pipelines run (docs/deploy.md), on a stack of the backend that `pulumi` is logged in to.
STACK ?= dev
# A folder in which each step's output and exit status are also kept, for the pull request's comment and the drift issue.
REPORT ?=
# The policy pack (empty for none), and the stack's configuration of it; without one the levels of production apply.
POLICY_PACK ?= policies
POLICY_CONFIG ?= $(wildcard policies/$(STACK).json)
step = $(if $(STACK),,$(error STACK is not set: make $@ STACK=dev))$(if $(REPORT),$(BIN)/python -m ops ci record --folder $(REPORT)/$(STACK) $@ --)
# --refresh detects changes that were made by hand, which an update then reverts.
pulumi_options = --refresh --stack $(STACK) --non-interactive$(if $(REPORT), --color never)
policy_options = $(if $(POLICY_PACK),--policy-pack $(POLICY_PACK)$(if $(POLICY_CONFIG), --policy-pack-config $(POLICY_CONFIG)))
# A pool that is out of stock must not keep the service from coming up on the others: everything that does not depend on it is still made
# (the exit status stays that of a failure), and no other resource waits for a slot while Google tries for half an hour.
deploy_options = --continue-on-error --parallel 64
# Targets that change something require STACK to be given.
named = $(if $(filter file,$(origin STACK)),$(error STACK is not set: make $@ STACK=dev))

preview: .venv/.installed policies/.venv/.installed ## show what an update of STACK would do, checked by the policy pack; changes nothing
	$(step) pulumi preview $(pulumi_options) $(policy_options)

deploy: .venv/.installed policies/.venv/.installed ## update STACK without asking
	$(named)$(step) pulumi up --yes $(pulumi_options) $(deploy_options) $(policy_options)

recover: .venv/.installed ## after a killed update of STACK: remove its lock, find what it had begun (docs/operate.md)
	$(named)$(step) $(BIN)/python -m ops recovery --stack $(STACK) $(RECOVER_ARGUMENTS)

policy: .venv/.installed policies/.venv/.installed ## preview STACK=dev with the policy pack (docs/policies.md)
	pulumi preview --stack $(STACK) --policy-pack policies $(if $(POLICY_CONFIG),--policy-pack-config $(POLICY_CONFIG))

drift: .venv/.installed ## fail if STACK's resources differ from its settings; changes nothing
	$(step) pulumi preview --expect-no-changes $(pulumi_options)

preflight: .venv/.installed ## check STACK's project before `pulumi up` (docs/preflight.md)
	$(step) $(BIN)/python -m ops preflight --stack $(STACK) $(PREFLIGHT_ARGUMENTS)

cost: .venv/.installed ## show what STACK costs an hour
	$(step) $(BIN)/python -m ops cost --stack $(STACK) --markdown

with_key = $(if $(API_KEY_SECRET),VLLM_API_KEY="$$(gcloud secrets versions access $(API_KEY_SECRET)/versions/latest)" && export VLLM_API_KEY && )

smoke: .venv/.installed ## check that STACK's service answers
	@$(with_key)$(step) $(BIN)/python -m ops smoke --stack $(STACK) $(SMOKE_ARGUMENTS)

verify-hardware: .venv/.installed ## the smoke test, and what only hardware shows, in STACK's pods; deletes one of them (docs/unverified.md)
	@$(named)$(MAKE) --no-print-directory smoke STACK=$(STACK) SMOKE_ARGUMENTS=--hardware

benchmark: .venv/.installed ## measure each rung of STACK: speed, latency, and what a million tokens cost
	@$(named)$(MAKE) --no-print-directory .venv-benchmark/.installed
	@$(with_key)$(BIN)/python -m ops benchmark --stack $(STACK) $(BENCHMARK_ARGUMENTS)

# Arguments of `make smoke` and `make benchmark`: docs/operate.md.
SMOKE_ARGUMENTS ?=
BENCHMARK_ARGUMENTS ?=
# The load generator's.
BENCHMARK_PYTHON ?= python3.12

# If the server requires a key: the Secret Manager secret that holds it, projects/PROJECT/secrets/NAME, unless VLLM_API_KEY is set.
API_KEY_SECRET ?=

# Stacks whose records make up the comment, and the pull request; without one the comment is printed.
STACKS ?= dev prod
PULL_REQUEST ?=

comment: .venv/.installed ## write the pull request's comment from the records in REPORT
	@$(BIN)/python -m ops ci comment --reports $(or $(REPORT),$(error REPORT is not set: make $@ REPORT=report)) $(if $(PULL_REQUEST),--pull-request $(PULL_REQUEST)) $(STACKS)

drift-issue: .venv/.installed ## open, update or close the issue about STACK's drift, from the record in REPORT
	@$(BIN)/python -m ops ci drift-issue --reports $(or $(REPORT),$(error REPORT is not set: make $@ STACK=dev REPORT=report)) $(or $(STACK),$(error STACK is not set: make $@ STACK=dev REPORT=report))

deployed-commit: .venv/.installed ## print the commit that STACK was last deployed from
	@$(BIN)/python -m ops ci deployed-commit $(or $(STACK),$(error STACK is not set: make $@ STACK=dev))

# Arguments of `make recover`: --take-lock, --id URN=ID.
RECOVER_ARGUMENTS ?=

# Arguments of `make bench` and `make drills`: docs/figures.md.
BENCH_ARGUMENTS ?=
DRILLS_ARGUMENTS ?=

bench: .venv/.installed ## measure times and costs on the sandbox, and compare them with the last saved run
	@$(BIN)/python -m trials bench $(BENCH_ARGUMENTS)

drills: .venv/.installed ## break things on the sandbox: stock-outs, kills, faulty answers, events under load, random settings
	@$(BIN)/python -m trials drills $(DRILLS_ARGUMENTS)

picture: .venv/.installed ## take README's picture of the live page again, from the sandbox that runs (needs Chromium)
	@$(BIN)/python -m trials picture

lint: .venv/.installed ## run every linter and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd examples/consumer && MYPYPATH=../.. ../../$(BIN)/mypy --config-file ../../pyproject.toml .
	$(BIN)/shellcheck $(SHELL_SCRIPTS)
	$(BIN)/hadolint images/*.Dockerfile examples/consumer/gateway/Dockerfile
	actionlint=$$($(BIN)/python -m sandbox.toolchain.tools actionlint) && "$$actionlint" -shellcheck $(BIN)/shellcheck -pyflakes=
	$(BIN)/zizmor --quiet --offline --persona pedantic .github
	$(BIN)/python -m ops pages --check

pages: .venv/.installed ## write the generated pages again (docs/settings.md, docs/results.md, tables in others)
	$(BIN)/python -m ops pages

check: lint test-unit ## run linters and unit tests: the loop while you work

format: .venv/.installed ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/.installed: requirements.txt requirements-dev.txt constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) was not found: install Python 3.11 or later, or name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is $$($(PYTHON) --version): Python 3.11 or later is needed; name one with PYTHON=..." >&2; exit 1; }
	@echo "installing Python packages into .venv (once)"
	@$(PYTHON) -m venv .venv || { echo "make: the virtual environment could not be created; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet -r requirements-dev.txt -c constraints.txt
	@touch $@

.venv-benchmark/.installed: ops/benchmark/requirements.txt
	@command -v $(BENCHMARK_PYTHON) >/dev/null || { echo "make: $(BENCHMARK_PYTHON) was not found: install Python 3.12 or later, or name one with BENCHMARK_PYTHON=..." >&2; exit 1; }
	@echo "installing inference-perf into .venv-benchmark (once, 0.8 GB)"
	@$(BENCHMARK_PYTHON) -m venv .venv-benchmark
	@.venv-benchmark/bin/python -m pip install --quiet -r ops/benchmark/requirements.txt
	@touch $@

# A separate environment, since pulumi-policy needs an older protobuf than the program's packages.
policies/.venv/.installed: policies/requirements.txt policies/constraints.txt | .venv/.installed
	@echo "installing the policy pack's packages into policies/.venv (once)"
	@$(PYTHON) -m venv policies/.venv
	@policies/.venv/bin/python -m pip install --quiet -r policies/requirements.txt -c policies/constraints.txt
	@touch $@
