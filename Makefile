# Everything a newcomer runs. `make` alone lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.sentei-installed
JOBS   ?= 2
PYTEST_ARGS ?=

# One thread a worker: two workers with a pool each on two cores only wait for each other.
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

# macOS has no `timeout`; there the tests just run.
LIMIT := $(if $(shell command -v timeout),timeout 900)

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format zoo stream fuzz bench docs clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## make .venv with everything the tests need

# A .venv that is already there is kept; one without a working Python (copied from elsewhere,
# or half made) is made anew. pip runs again only when pyproject.toml has changed.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("sentei needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; try: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

demo: $(STAMP) ## train, prune, fine-tune, save, load in a fresh process: under two minutes
	$(BIN)/python examples/demo.py

test: lint ## lint, types and all tests: 15 minutes at most
	$(THREADS) $(LIMIT) $(BIN)/python -m pytest -q -n $(JOBS) $(PYTEST_ARGS)

lint: $(STAMP) ## ruff, and mypy --strict on the graph engine
	$(BIN)/ruff check .
	@if [ -d src/sentei/graph ]; then $(BIN)/mypy; fi

format: $(STAMP) ## let ruff put imports and layout in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

zoo: $(STAMP) ## prune every network of the model zoo and verify each
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[zoo]'
	$(THREADS) $(BIN)/python -m zoo

stream: $(STAMP) ## checkpoints of the zoo's text decoders, pruned on disk and in memory: the same?
	$(THREADS) $(BIN)/python -W ignore -m zoo.stream --family transformers-text-decoder

fuzz: $(STAMP) ## prune thousands of random networks and verify each: SEEDS=20, 500 draws a seed
	$(THREADS) $(BIN)/python -W ignore -m tests.fuzz --seeds $(or $(SEEDS),20)

bench: $(STAMP) ## measure everything: engine, latency, allocation, masks, zeros, recovery, claims (hours)
	@set -e; for b in engine latency allocation mask_overhead sparse_products streaming recovery claims; do \
	  echo "== benchmarks.$$b"; $(BIN)/python -W ignore -m benchmarks.$$b; done
	$(BIN)/sentei bench benchmarks/bench/weights.yaml --out benchmarks/results/bench/weights
	$(BIN)/sentei bench benchmarks/bench/units.yaml --out benchmarks/results/bench/units

docs: $(STAMP) ## build the site into docs/_build/html
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

clean: ## remove caches, keep .venv
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist
	find src tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
