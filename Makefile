# Everything runs in .venv, made here from requirements.lock with nothing but Python and pip.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

# The patterns are written so that this line does not match itself.
FOREIGN := pyp[i]\.org|pythonhoste[d]|npmj[s]\.(org|com)|deb\.debia[n]|(^|[^a-z0-9_.])/(wor[k]|roo[t]|hom[e])/

LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock" --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench studies scenarios agreement spark lock clean

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## Run service, dashboard and a simulated shop until Ctrl-C
	@$(BIN)/rialto demo $(ARGS)

test: $(READY) ## Run every test, two files at a time (ARGS="-m 'not slow'" for the quick ones)
	@# Threads of OpenBLAS get in each other's way on small matrices; two files at a time do not.
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 1 $(ARGS)

lint: $(READY) ## Check format, rules, types, imports, and that nothing names this machine
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@if git grep -nIE '$(FOREIGN)'; then echo 'error: a registry host or a path of one machine stands above' >&2; exit 1; fi

bench: $(READY) ## Measure the running service and its peers, and write benchmarks/README.md (ARGS="assign" for a part)
	@$(BIN)/python -m benchmarks $(ARGS)

studies: $(READY) ## Run the long studies and write docs/calibration.md and docs/policies.md (ARGS="policies" for a part)
	@$(BIN)/python -m benchmarks.studies $(ARGS)

scenarios: $(READY) ## Run every named scenario in full and write docs/scenarios.md (ARGS="a_a" for one)
	@OPENBLAS_NUM_THREADS=1 $(BIN)/rialto sim claims --replications 30 --out docs/scenarios.md $(ARGS)

agreement: $(READY) ## Ask GrowthBook's gbstats, in an environment of its own, and record what the test reads
	@$(BIN)/python -m benchmarks.agreement

spark: $(READY) ## Install PySpark beside the rest (it is large, and only one test needs it)
	@$(PIP) install --require-hashes --requirement requirements-spark.lock

lock: ## Resolve pyproject.toml anew into requirements.lock (needs uv)
	$(LOCK) $(addprefix --extra ,analysis archive compiled dashboard dask dev postgres sim telemetry) --upgrade \
		--output-file requirements.lock pyproject.toml
	$(LOCK) --extra spark --constraint requirements.lock --output-file requirements-spark.lock pyproject.toml

clean: ## Remove .venv, caches and build output
	rm -rf .venv build dist *.egg-info .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo 'error: Rialto runs on Python 3.11, 3.12 or 3.13; choose one: make PYTHON=python3.12' >&2; exit 1; }
	@echo 'installing into .venv, a few minutes the first time' >&2
	@$(PYTHON) -m venv .venv
	@$(PIP) install --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(READY)
