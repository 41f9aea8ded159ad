# make demo · make up · make test · make check · make bench
# Each makes .venv by itself when it is missing or older than requirements.lock.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
READY := .venv/.ready
WORKERS ?= 2

.PHONY: demo up test check bench format clean

demo: $(READY)
	.venv/bin/integration demo $(ARGS)

up: $(READY)
	.venv/bin/integration up $(ARGS)

test: $(READY)
	.venv/bin/coverage erase
	.venv/bin/pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term $(ARGS)

check: $(READY)
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest tests/test_architecture.py

bench: $(READY) .venv-bench/.ready
	PYTHONPATH=tests/support .venv/bin/python -m benchmarks $(ARGS)

format: $(READY)
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none was found; name one with: make PYTHON=/path/to/python"; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) --version): once, a minute or two …"
	@$(PYTHON) -m venv --clear .venv
	@.venv/bin/python -m pip install --quiet --require-hashes -r requirements.lock
	@.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

# What the product is measured against has an environment of its own.
.venv-bench/.ready: benchmarks/requirements.txt | $(READY)
	@echo "Setting up .venv-bench: once, a minute …"
	@.venv/bin/python -m venv --clear .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --require-hashes -r benchmarks/requirements.txt
	@touch $@

clean:
	rm -rf .venv .venv-bench var .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
