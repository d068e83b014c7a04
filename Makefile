# `make` lists the targets. PYTHON=python3.12 make … selects the interpreter. Without it, an existing .venv is kept.
.DEFAULT_GOAL := help
.PHONY: help setup demo run test test-fast browser screenshots lint types pgbouncer nginx yaz node ci bench chaos fuzz mutants lock clean

BIN := .venv/bin
MANAGE := $(BIN)/python manage.py
CODE := alexandria quota enrichment harvest tests manage.py
export DEBUG := on

# A deployment that does not exist: nothing listens on port 1. Every value is set, so that no .env on this machine has an effect.
PRODUCTION := DEBUG=off SECRET_KEY=a-key-for-this-check-alone-long-and-varied-0123456789 TRUSTED_PROXIES=127.0.0.1 \
	ALLOWED_HOSTS=alexandria.example CSRF_TRUSTED_ORIGINS=https://alexandria.example \
	DATABASE_URL=postgres://alexandria:none@127.0.0.1:1/alexandria REDIS_URL=redis://127.0.0.1:1/0
# The lock files contain the checksum of their inputs, so that `lint` can compare them without the package index.
INPUTS = $(shell cat requirements.in requirements-dev.in | cksum)
LOCK = $(BIN)/uv pip compile --quiet --universal --no-strip-extras --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock (inputs: $(INPUTS))" $(ARGS)

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: ## makes .venv from requirements-dev.txt; does nothing if nothing changed
	@PYTHON="$(PYTHON)" .ci/setup

demo: setup ## enriches ISBNs through the sandbox at both prices of a batch, and uses the quota of a small day
	@$(MANAGE) demo

run: setup ## starts the whole service on this machine, until Ctrl-C
	@$(MANAGE) run

# One process more than there are cores: many tests wait, for a browser, a worker or the pace.
PYTEST := $(BIN)/python -m pytest --numprocesses $$(($$(nproc) + 1)) --maxprocesses 8 --dist worksteal

test: setup ## runs all tests on a real PostgreSQL and Redis; at least 90% branch coverage
	@mkdir -p .data && folder=$$(mktemp -d "$(CURDIR)/.data/coverage.XXXXXX") && trap 'rm -rf "$$folder"' EXIT && \
	COVERAGE_FILE="$$folder/data" $(PYTEST) --cov --cov-report term

test-fast: setup ## runs the tests that are not marked as slow, without coverage (ARGS=tests/quota: only those)
	@$(PYTEST) -m "not slow" $(ARGS)

lint: setup ## checks style, import contracts, migrations, deployment settings, lock files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(PRODUCTION) $(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(PRODUCTION) $(MANAGE) check --deploy --fail-level WARNING
	@for lock in requirements.txt requirements-dev.txt; do \
		grep -qF "(inputs: $(INPUTS))" $$lock || { echo "$$lock is out of date: make lock" >&2; exit 1; }; \
	done

types: setup ## checks types with mypy, strict
	$(BIN)/mypy $(CODE)

ci: export CI := on
ci: browser pgbouncer nginx yaz node lint types test ## every change must pass this; fails without a browser

browser: ## installs Debian's chromium for the browser tests, if there is none (CHROMIUM=/path uses another)
	@.ci/browser

# Installs the package $(2) of Debian, if its program $(1) is missing.
DEBIAN = PATH="$$PATH:/usr/sbin"; command -v $(1) > /dev/null || { \
	[ "$$(id -u)" = 0 ] || { echo "$(1): not found. Install it as root: apt-get install $(2)" >&2; exit 1; }; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qq -y --no-install-recommends $(2); }

pgbouncer: ## installs Debian's PgBouncer, if it is missing; `test` skips what needs it
	@$(call DEBIAN,pgbouncer,pgbouncer)

nginx: ## installs Debian's nginx, if it is missing; `test` skips what needs it
	@$(call DEBIAN,nginx,nginx-light)

yaz: ## installs Debian's yaz, which checks MARC files, if it is missing; `test` skips what needs it
	@$(call DEBIAN,yaz-marcdump,yaz)

node: ## installs Debian's Node and curl, which run the recipes, if they are missing; `test` skips what needs them
	@$(call DEBIAN,node,nodejs)
	@$(call DEBIAN,curl,curl)

screenshots: setup browser ## renews docs/screenshots from an invented day
	@$(BIN)/python -m tests.browser.screenshots

bench: setup ## measures upsert, quota, queue, refresh, look-up, pace, growth, abuse, memory, next to their baselines
	@$(BIN)/python -m tests.bench

chaos: setup ## breaks the service 300 times under load, then checks every call, job and book (SEED=7: as then)
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(ARGS)

fuzz: setup ## sends the running service odd requests with every kind of key (CASES=200: so many for each operation)
	@$(BIN)/python -m tests.fuzz $(ARGS)

mutants: setup ## puts small faults into copies of the code, and fails if the tests do not notice 95 % of them (ARGS=--list)
	@$(BIN)/python -m tests.mutants $(ARGS)

lock: setup ## renews the lock files after a change of requirements*.in (ARGS=--upgrade also takes newer versions)
	$(LOCK) --output-file requirements.txt requirements.in
	$(LOCK) --output-file requirements-dev.txt --constraint requirements.txt requirements-dev.in

clean: ## stops the embedded services and removes .venv, .data and all caches
	@find .data -name start.lock 2> /dev/null | while read -r lock; do \
		ALEXANDRIA_DATA_DIR="$(CURDIR)/$${lock%/start.lock}" \
			$(BIN)/python -c 'from alexandria.development.embedded import servers; servers.stop()' || echo "$$lock: not stopped" >&2; \
	done
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
	@rm -rf .venv .data .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage* htmlcov staticfiles
