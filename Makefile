# make demo   train with and without transfer on MovieLens-100K and show who won
# make test   run the fast tests and the linters
# make test-core  run what must hold with every supported Python, under six minutes on two cores
# make coverage  the fast tests, and fail if they run under 95% of the package's lines
# make mutation  change losses, rows, solutions and statistics, line by line: which changes does no test notice?
#                MODULES="recbole_llmkt.transfer.losses.*" chooses; the same command resumes
# make fuzz   feed every reader with odd input: EXAMPLES=500 cases a test, SEED=... chooses which
# make results      make the tables of the documents from benchmarks/results/*.jsonl (seconds)
# make results-run  run what they rest on, hours of it; TABLES="NAME ..." chooses
# make docs   build the site of the documents into site/; MERMAID=mermaid.min.js draws its diagrams
# make links  follow every link of the site, also out of it: needs a network
# make release-check  sdist and wheel into dist/, each installed into an empty environment; the demo from there
# make env    only make the environment (.venv); PYTHON=python3.10 chooses the interpreter

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo_output
STAMP := $(VENV)/installed
# A test process for each core; those that start processes themselves run in one of them.
PARALLEL := -n auto --maxprocesses=8 --dist=loadgroup
# Small models gain nothing from many threads; the demo runs one training per core instead.
export OMP_NUM_THREADS ?= 1
# Costs nothing; Python 3.11 and older have another one, which takes twice the time.
export COVERAGE_CORE ?= sysmon
# Tests and comparisons start many processes; each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: env demo test fast coverage mutation fuzz test-core lint test-all bench results results-run docs links release-check clean

env: $(STAMP)

$(STAMP): setup.cfg pyproject.toml tools/make_env.sh
	@tools/make_env.sh $(VENV) $(PYTHON)
	@touch $@

demo: env
	$(BIN)/llmkt compare --models=BPR,EASE,NeuMF --arms=base,kt,shuffled --seeds=1,2,3 \
	  --dataset=ml-100k --kt_preset=properties/experiments/demo.yaml --output=$(DEMO)

# Side by side: neither keeps two cores busy all the time.
test: env
	@$(MAKE) --no-print-directory -j 2 lint fast

fast: env
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" tests

coverage: env
	COVERAGE_FILE=$(CURDIR)/.coverage $(BIN)/python -m pytest $(PARALLEL) -m "not slow" tests \
	  --cov --cov-report=term

mutation: env
	$(BIN)/python -m mutmut run --max-children $(or $(JOBS),1) $(MODULES)
	$(BIN)/python tools/mutants.py

fuzz: env
	EXAMPLES=$(or $(EXAMPLES),500) $(BIN)/python -m pytest $(PARALLEL) tests/fuzz \
	  --hypothesis-seed=$(or $(SEED),$(shell date +%s))

test-core: env
	$(BIN)/python tools/versions.py --no-write $(BIN)/python

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

test-all: test
	$(BIN)/python -m pytest -m slow tests

# Not the helpers, and not those that compare with a checkout of somebody's code.
bench: env
	@for script in $(filter-out $(addprefix benchmarks/,results%.py processes.py authors.py rlmrec.py teacher.py worlds.py),$(wildcard benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done

results: env
	$(BIN)/python benchmarks/results.py $(TABLES)

results-run: env
	$(BIN)/python benchmarks/results.py --run $(TABLES)

docs: env
	NO_MKDOCS_2_WARNING=1 MERMAID=$(MERMAID) $(BIN)/python -m mkdocs build --strict

links: docs
	$(BIN)/python -m pip install --quiet 'linkchecker >=10.5'
	$(BIN)/linkchecker --no-warnings --no-status --check-extern site/index.html

release-check: env
	tools/release_check.sh

clean:
	rm -rf $(DEMO) site mutants build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
