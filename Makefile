# cineray in two commands: `make demo` and `make test`. Everything else is in `make help`.
# Paths here are relative on purpose: a checkout may lie in a folder with spaces in its name.

PYTHON ?= python3
BIN := .venv/bin
DEMO_OUT ?= demo-out
WORKERS ?= 4
RAY_WORKERS ?= 3
PYTEST_ARGS ?=
# torch, and what torch alone asks for in versions of its own
CHOSEN_BY_MACHINE := torch|torchcodec|setuptools|wheel|triton|nvidia-.*|cuda-.*|sympy|mpmath|networkx|jinja2|markupsafe|filelock|typing_extensions

.PHONY: help setup demo check test faults lock clean
.DEFAULT_GOAL := help

help: ## say what can be made
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' Makefile | expand -t 10

setup: ## FFmpeg, .venv, torch for this machine, the package; the second time takes a second
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 to 3.13 is needed: sudo apt-get install -y python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) platform/setup_env.py

demo: setup ## from nothing to generated video: make videos, ingest, train, judge, and a report
	@$(BIN)/cineray demo --out "$(DEMO_OUT)"

check: setup ## linters, the type checker, the audit of dependencies, the architecture test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy platform/setup_env.py platform/audit.py
	$(BIN)/python platform/audit.py
	$(BIN)/python -m pytest -q tests/test_architecture.py

# First what starts no Ray, then what does; a file on one worker, for a file's tests share what is costly to make. More
# workers than two cores, for tests also wait: for processes, servers and disks; each takes up to 1.5 GB. The first failing
# run ends it, so the last line always tells.
# Many tests start processes, servers and clusters and wait for them, on machines that others use too: one that fails is
# tried once more, and the summary names it (RERUN). `make test TRIES=0` is strict.
TRIES ?= 1
test: check ## make check, then all tests
	@$(PYTHON) platform/setup_env.py --browser
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --reruns $(TRIES) -rfER -m "not ray" $(PYTEST_ARGS)
	$(BIN)/python -m pytest -n $(RAY_WORKERS) --dist loadfile --reruns $(TRIES) -rfER -m ray $(PYTEST_ARGS)

# One at a time, for they measure seconds. `make faults FAULTS=tests/faults/test_feed_kill.py` measures a part's rows anew.
FAULTS ?= tests/faults
faults: setup ## do harm to it on purpose, print what it cost, and write cluster/FAULTS.md
	CINERAY_FAULTS=1 CINERAY_FAULTS_TABLE=cluster/FAULTS.md \
		$(BIN)/python -m pytest --reruns $(TRIES) -rfER $(PYTEST_ARGS) $(FAULTS)

lock: setup ## print what is installed, for platform/constraints.txt
	@$(BIN)/python -m pip freeze --exclude-editable | grep -viE "^($(CHOSEN_BY_MACHINE))=="

clean: ## remove what was made here, .venv too
	rm -rf .venv .setup.log .setup.lock demo-out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
