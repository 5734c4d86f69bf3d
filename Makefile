# Two commands matter: `make demo` and `make test`. Both set themselves up, once.
#   make demo PYTHON=python3.12        another interpreter
#   make setup PIP_OPTIONS="..."       options for pip, such as where a CPU-only build of torch is (README.md)

VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that is new enough. Looked for only when something must be installed.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
PIP_OPTIONS ?=
WORKERS ?= 2
MODAL_FAULTS := $(patsubst %,tests/orchestrator/backends/test_modal_%.py,once preempted refused detached) \
  tests/orchestrator/cloud/test_on_modal.py tests/jobs/test_modal_data.py tests/modal_plane

.PHONY: help setup demo test test-whole chaos lint fix bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   three seeds of the demo recipe on this CPU: tables, a report and a submission folder under runs/"
	@echo "make test   everything CI runs: lint, types, tests; make test-whole runs what it takes a slice of"
	@echo "make chaos  every fault on purpose, on real local Ray clusters too: what fired, what survived, how fast"
	@echo "make bench  the measured claims, peers side by side; a quarter of an hour on a quiet machine"
	@echo "make lint | fix | setup | clean"

setup: $(VENV)/.project

# What the lock says, exactly: .locked is as new as the lock it installed.
$(VENV)/.locked: requirements.lock
	@python="$(PYTHON)"; \
	if [ -z "$$python" ]; then \
		echo "Python 3.11 or newer was not found (python3 is $$(python3 -V 2>&1 || true)); install it or name one: make setup PYTHON=/path/to/python3.11" >&2; exit 2; fi; \
	command -v "$$python" >/dev/null || { echo "there is no $$python; name another: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$$python is $$("$$python" -V 2>&1), but Python 3.11 or newer is needed; name another: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear $(VENV) || { \
		echo "$$python cannot make a virtual environment; Debian and Ubuntu have it in the package python3-venv" >&2; exit 2; }
	@echo "installing the packages of requirements.lock into $(VENV) (once; one to three minutes, longer with CUDA)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) -r requirements.lock
	@touch $@

$(VENV)/.project: $(VENV)/.locked pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

demo: setup
	$(BIN)/python -m orchestrator submit --seeds 1337,42,2025 -y

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(PYTEST_OPTIONS)

# What `make test` takes a slice of: every variant of every grid, the slowest codecs at full size, and properties on ten
# times as many examples.
test-whole: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "whole or hypothesis" --hypothesis-profile whole $(PYTEST_OPTIONS)

# Every fault on purpose, with the counts of each: injected, fired, survived, seconds until recovered.
chaos: setup
	$(BIN)/python -m pytest -n 0 -m "chaos or not chaos" tests/chaos $(MODAL_FAULTS) $(PYTEST_OPTIONS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python benchmarks/train_rate.py
	$(BIN)/python benchmarks/submit_latency.py
	$(BIN)/python benchmarks/demo.py
	$(BIN)/python benchmarks/parse_logs.py
	$(BIN)/python benchmarks/collect_runs.py
	$(BIN)/python benchmarks/report_page.py
	$(BIN)/python benchmarks/encode_documents.py
	$(BIN)/python benchmarks/export_documents.py
	$(BIN)/python benchmarks/load_data.py
	$(BIN)/python benchmarks/triage.py

# Finished runs under runs/ are results, not rubbish: they stay.
clean:
	rm -rf $(VENV) data/cache build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
