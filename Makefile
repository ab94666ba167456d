# Everything works on a machine with Python >= 3.11 and make: the virtual environment and the servers are set up on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Lock a folder, and run a command that holds the lock until it ends, however it ends.
HOLD := import fcntl, os, sys; \
	os.makedirs(sys.argv[1], exist_ok=True); \
	folder = os.open(sys.argv[1], os.O_RDONLY); \
	fcntl.flock(folder, fcntl.LOCK_EX); \
	os.set_inheritable(folder, True); \
	os.execvp(sys.argv[2], sys.argv[2:])

.PHONY: help demo test up lint format lock generate clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# Of two that set up at once, one waits at the lock and then finds it done.
ifndef LOCKED
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mbevents needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version`. Try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up $(VENV) (once; about a minute)…" >&2
	@$(PYTHON) -c '$(HOLD)' $(VENV) $(MAKE) -s LOCKED=1 $@
else
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
endif

demo: $(READY) ## real MusicBrainz edits, from commit to their effects (start here)
	@$(BIN)/mbevents demo $(ARGS)

up: $(READY) ## everything running on embedded servers, until Ctrl-C
	@$(BIN)/mbevents up $(ARGS) || test $$? = 130  # Ctrl-C is the way to end it

# Hundreds of processes are started: none is to compile our modules again, though images for containers often ask for that.
test: export PYTHONDONTWRITEBYTECODE =
# As many as cores: some tests are of time. Files with long stories come first, as one process runs each.
test: $(READY) ## all tests, on real embedded servers
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(READY) ## style, types and import directions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## rewrite the code in its style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench-%: $(READY) ## a benchmark: capture, latency, bridge, apply, export, mirror-lag, verify, cache, ratelimit, http, statistics
	@$(BIN)/python -m tests.benchmarks.$(subst -,_,$*) $(ARGS)

generate: $(READY) ## write the generated files again (entity map, JSON Schemas, AsyncAPI, pages)
	@$(BIN)/python -m ops.generate

lock: ## resolve the dependencies again into requirements.lock (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate --all-extras --override requirements-override.txt -o requirements.lock pyproject.toml requirements-build.in

clean: ## remove the virtual environment and the embedded servers' data
	@test ! -x $(BIN)/mbevents || $(BIN)/mbevents stack destroy --yes
	rm -rf $(VENV)
