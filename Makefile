# Everything runs from .venv, which the targets make themselves: with uv where it is installed, with pip where not.
#   make gameday   a whole gameday on this machine, with report        make test    all tests
#   make bench     measurements                                         make chaos   the long SIGKILL campaign
#   make lint      style, types, import contracts                       make protos  regenerate the gRPC code
#   make clean     remove what these made                               make lock    renew the pinned versions
#   make catalogue regenerate docs/faults.md and protos/catalogue.json from the faults
#   make test-services  every scenario on its test services, with verdicts (root; minutes)
#   make servers   build the servers for tests that Debian does not have (Go; once, minutes)
#   make testcluster    a Kubernetes control plane on loopback (Go; minutes the first time); make testcluster-down
#   make fuzz      fuzzers over all that is read from outside (ARGS='--seconds 600')

PYTHON ?= python3
GAMEDAY ?= experiments/gamedays/quickstart.yaml
ARGS ?=
WORKERS ?= 2
# Tests that keep a processor busy, and those that mostly wait for servers: each kind two at a time, not beside the other.
# What failed there is run once more by itself: a test that fails twice has failed, and the first failure is in the output.
# Last come those that measure against short bounds, or give the machine all it has to do (marked `alone`).
BUSY := tests --ignore=tests/integration
PATIENT := tests/integration

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTOS_VENV := .venv-protos
PROTOS_STAMP := $(PROTOS_VENV)/.installed
GRPC_TOOLS := grpcio-tools==1.71.2# the oldest supported: generated code sets the floor of the runtime
SOURCES := protos agent controller blackstart experiments deploy tests

UV := $(shell uv --version >/dev/null 2>&1 && echo uv)

# $(call make-venv,directory): an environment that still works is kept.
define make-venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Blackstart needs Python 3.11 or later, and '$(PYTHON)' is not: name one, as in 'make PYTHON=python3.11'" >&2; exit 2; }
	@$(if $(UV),true,$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null) || { \
	  echo "'$(PYTHON)' cannot make environments: run 'apt-get install python3-venv', or install uv" >&2; exit 2; }
	@test -x $(1)/bin/python && $(1)/bin/python -c '$(if $(UV),,import pip)' 2>/dev/null || { \
	  echo "making $(1) with $(if $(UV),uv,pip)"; rm -rf $(1); \
	  $(if $(UV),uv venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')",$(PYTHON) -m venv) $(1); }
endef

# $(call install,directory,requirements)
install = $(if $(UV),uv pip install --python $(1)/bin/python,$(1)/bin/python -m pip install --disable-pip-version-check --progress-bar on) $(2)

.PHONY: gameday test servers testcluster testcluster-down bench chaos fuzz test-services lint format protos catalogue lock clean help
.DEFAULT_GOAL := help

help:
	@sed -n '2,10s/^# *//p' Makefile

$(STAMP): pyproject.toml requirements.lock
	$(call make-venv,$(VENV))
	@echo "installing Blackstart and its tools into $(VENV)"
	$(call install,$(VENV),--constraint requirements.lock --editable '.[dev]')
	@touch $@

gameday: $(STAMP)
	$(BIN)/blackstart gameday $(GAMEDAY) $(ARGS)

# Tests have no network but their own: what they need from outside is there before.
test: $(STAMP)
	@$(BIN)/python -m tests.servers.build || echo "tests that use it are skipped" >&2
	@status=0; run() { $(BIN)/python -m pytest "$$@" || status=$$?; }; \
	$(if $(ARGS),run -m 'not benchmark' $(ARGS); exit $$status;) \
	run -m 'not benchmark and not alone' -n $(WORKERS) --dist loadfile --cache-clear $(BUSY); \
	run -m 'not benchmark and not alone' -n $(WORKERS) --dist loadfile $(PATIENT); \
	if [ $$status -ne 0 ]; then \
	  echo "again, with nothing beside them: what failed beside others"; \
	  status=0; run -m 'not benchmark and not alone' --last-failed --last-failed-no-failures none tests; fi; \
	run -m alone tests; exit $$status

servers: $(STAMP)
	$(BIN)/python -m tests.servers.build

testcluster: $(STAMP)
	$(BIN)/blackstart testcluster up --detach $(ARGS)

testcluster-down: $(STAMP)
	$(BIN)/blackstart testcluster down $(ARGS)

bench: $(STAMP)
	@set -e; for bench in $(sort $(wildcard tests/benchmarks/bench_*.py)); do \
	  echo "== $$bench"; $(BIN)/python -m pytest -q -s -p no:randomly -m benchmark "$$bench" $(ARGS); done

chaos: $(STAMP)
	$(BIN)/python -m tests.chaos.campaign --out docs/undo.md $(ARGS)
	BLACKSTART_CHAOS_WHOLE=8 $(BIN)/python -m pytest -q tests/chaos/test_whole.py

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz.campaign --out docs/fuzzing.md $(ARGS)

test-services: $(STAMP)
	$(BIN)/python -m tests.integration.scenario_campaign $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

$(PROTOS_STAMP): Makefile
	$(call make-venv,$(PROTOS_VENV))
	$(call install,$(PROTOS_VENV),$(GRPC_TOOLS))
	@touch $@

# The digests tell `tests/unit/test_generated.py` whether the code is of these .proto files.
protos: $(PROTOS_STAMP)
	$(PROTOS_VENV)/bin/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. --grpc_python_out=. protos/*.proto
	@LC_ALL=C; export LC_ALL; sha256sum protos/*.proto protos/*_pb2.py protos/*_pb2.pyi protos/*_pb2_grpc.py > protos/generated.sha256
	@echo "generated code and protos/generated.sha256 are up to date"

catalogue: $(STAMP)
	$(BIN)/python -m agent.catalogue

lock:
	uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-header --no-annotate $(ARGS) \
	  pyproject.toml --output-file requirements.lock
	@sed -i '1i # Versions that `make` and CI install, for every supported Python; `make lock` renews them.' requirements.lock

clean:
	rm -rf $(VENV) $(PROTOS_VENV) build dist reports .blackstart *.egg-info \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
