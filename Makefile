# Every target sets up what it needs: a Python from 3.11 on, git and make are enough to begin with.

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test faults fuzz lint docs pictures translations audit bench bench-peers bench-check bench-growth clean

# `make test ARGS='-k order -x'`, `make demo ARGS=--json`
ARGS ?=
BIN := .venv/bin

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

setup: ## Make the virtual environment, or bring it up to date
	@python=$$(scripts/find-python) || { echo "No Python 3.11 or newer found." >&2; exit 1; }; \
	scripts/make-venv .venv "$$python"

demo: setup ## Watch three services exchange events while a relay is killed
	@$(BIN)/python manage.py demo $(ARGS)

serve: setup ## The same, and then stay, with the admin open to look around
	@$(BIN)/python manage.py demo --serve $(ARGS)

test: setup ## Run the tests on every database that is here; with CI=1 all that CI does
	@$(BIN)/python scripts/test.py $(ARGS)

faults: setup ## Break everything under a running service, and write docs/faults.md
	@$(BIN)/python -m tests.proofs.faults $(ARGS)

# `make fuzz N=100000`
N ?= 20000

fuzz: setup ## Send 20,000 hostile messages, some of them large, to a consumer with 300 MiB
	@FUZZ_MESSAGES=$(N) $(BIN)/python -m pytest tests/inbox/receiving/test_fuzz.py -m slow -rP -q $(ARGS)

# In memory, because it is the tables' description that is checked: no server has to start.
lint: setup ## Check style, types, import contracts, security and migrations
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml outbox relay inbox pytest_outbox project
	DATABASE_URL=sqlite://:memory: $(BIN)/python manage.py makemigrations --check --dry-run

docs: ## Build the documentation in .local/docs; a warning is an error
	@python=$$(scripts/find-python) || { echo "No Python 3.11 or newer found." >&2; exit 1; }; \
	scripts/make-venv .venv-docs "$$python" docs
	@.venv-docs/bin/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky --fresh-env \
		--doctree-dir .local/docs-trees docs .local/docs
	@echo "The documentation is in .local/docs/index.html"

pictures: setup ## Run the demo, and take the pictures of the documentation in a browser
	@$(BIN)/python -m scripts.pictures

translations: setup ## Bring the German and the Chinese catalogue up to date with the code
	@DATABASE_URL=sqlite://:memory: $(BIN)/python -m scripts.translations

audit: setup ## Ask whether a pinned package has a known vulnerability
	@$(BIN)/python scripts/audit.py

bench: setup ## Measure everything, and write docs/performance.md
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: setup ## Install the libraries to compare with, in an environment of their own
	@scripts/make-peers

bench-check: setup ## Measure again, and name what got worse by more than 10 %
	@$(BIN)/python -m benchmarks.report.check $(ARGS)

bench-growth: setup ## Ten minutes of steady load: sizes, dead rows, latency
	@$(BIN)/python -m benchmarks growth $(ARGS)

clean: ## Remove environments, caches and the embedded databases
	rm -rf .venv .venv-* .local .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
