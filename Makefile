# The one door: every job a person or CI does starts here.
VENV   := .venv
PY     := $(VENV)/bin/python
PYTHON ?= python3.11
ARGS   ?=
JOBS   ?= 2
STAMP  := $(VENV)/.ready
LOCALE := node/kengele_node/pages/locale

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast check reformat bench fuzz torture schemas translations lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	@echo "Making $(VENV) with what constraints.txt names; this takes a minute, once ..." >&2
	@$(or $(shell command -v $(PYTHON)),$(shell command -v python3)) -m venv $(VENV) >&2
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r constraints.txt >&2
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
	@touch $(STAMP)

setup: $(STAMP) ## make .venv from the lock

demo: $(STAMP) ## run the whole network on this machine (ARGS="--once --json")
	@$(VENV)/bin/kengele demo $(ARGS)

test: $(STAMP) ## every test, two at a time (JOBS=N)
	@$(PY) -m pytest -n $(JOBS) --dist worksteal $(ARGS)

test-fast: $(STAMP) ## the unit suite, under a minute
	@$(PY) -m pytest -n $(JOBS) --dist worksteal -m "not full" $(ARGS)

check: $(STAMP) ## lint, format, types, import arrows, generated files
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(PY) -m kengele_schemas.jsonschema --check schemas/json

reformat: $(STAMP) ## format the code
	@$(VENV)/bin/ruff check --fix -q . || true
	@$(VENV)/bin/ruff format .

bench: $(STAMP) ## timings, as ratios measured side by side (ARGS=--json)
	@PYTHONPATH=tests $(PY) tests/bench/run.py $(ARGS)

fuzz: $(STAMP) ## bent inputs for every reader, a million (ARGS="--executions N --seed N --json")
	@PYTHONPATH=tests $(PY) -m fuzz.run $(ARGS)

torture: $(STAMP) ## a network that is killed, frozen, cut off and filled up; judged (ARGS="--kills 50 --reports 50000")
	@PYTHONPATH=tests $(PY) -m torture.run $(ARGS)

schemas: $(STAMP) ## write the JSON Schemas from the models
	@$(PY) -m kengele_schemas.jsonschema schemas/json

translations: $(STAMP) ## gather the pages' words into the catalogues and compile them
	@pot=$$(mktemp) && trap 'rm -f "$$pot"' EXIT && \
	$(VENV)/bin/pybabel -q extract -F pyproject.toml --no-location --omit-header --sort-output --no-wrap -o "$$pot" . && \
	$(VENV)/bin/pybabel -q update -i "$$pot" -d $(LOCALE) -D kengele --ignore-obsolete --ignore-pot-creation-date \
	  --no-fuzzy-matching --no-wrap && \
	$(VENV)/bin/pybabel -q compile -d $(LOCALE) -D kengele

lock: $(STAMP) ## resolve the dependencies anew into constraints.txt (needs pip-tools)
	@$(PY) -m pip install --quiet pip-tools
	@$(VENV)/bin/pip-compile --quiet --extra hub --extra dev --generate-hashes --allow-unsafe --strip-extras \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate --no-header \
	  --output-file constraints.txt pyproject.toml

clean: ## remove what the targets made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
