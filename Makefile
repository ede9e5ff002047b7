# Needs make and Python 3.11 or newer, nothing else. Another Python: make PYTHON=/path/to/python3 …

PYTHON ?= python3
UV ?= uv
MINORS ?=
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(PYTHON) -m scripts.environment
PYTHON_IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

# Dozens of processes would compile the same files anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-live crash hostile lint format airflow docs docs-serve test-matrix matrix-environments bench-imports bench-others bench-campaign bench-receiver bench-waiting \
	bench-deliveries bench-guards bench-personal locks clean python

help: ## show this list
	@echo "make …"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/ready ## real Airflow sends, hears receipts and counts replies, on a simulated platform; nothing is really sent
	@$(RUN) -m scripts.demo

test: $(VENV)/ready ## run the tests on the newest Airflow, but for the next three's (ARGS="-k phones" for some of them, "-n 0" in one process)
	@$(RUN) -m pytest -n 4 --dist worksteal -m "not crash and not hostile and not live" $(ARGS)

lint: $(VENV)/ready ## check style and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

format: $(VENV)/ready ## put the code into shape, as lint asks for
	@$(RUN) -m ruff check --fix-only --quiet .
	@$(RUN) -m ruff format .

airflow: $(VENV)/ready ## open Airflow's user interface on this machine, simulator connected (PORT=8080)
	@$(RUN) -m scripts.airflow_ui $(if $(PORT),--port $(PORT))

docs: .docs/ready ## build the docs, English and Chinese, into .docs/site
	@NO_MKDOCS_2_WARNING=1 .docs/bin/python -m mkdocs build --strict
	@echo "Open .docs/site/index.html, or run make docs-serve, which has the search too."

docs-serve: .docs/ready ## show the docs on this machine, built anew at every change (PORT=8000)
	@NO_MKDOCS_2_WARNING=1 .docs/bin/python -m mkdocs serve --strict --dev-addr 127.0.0.1:$(or $(PORT),8000)

test-live: $(VENV)/ready ## run the tests against Airflow's own servers, and its user interface in Chromium
	@SMS_LIVE=1 $(RUN) -m pytest -s -m "live and not crash" $(ARGS)

crash: $(VENV)/ready ## kill sends at every step on SQLite, PostgreSQL and under a scheduler (RUNS=250 RACES=200)
	@SMS_LIVE=1 SMS_CRASH_RUNS=$(or $(RUNS),250) SMS_RACES=$(or $(RACES),200) $(RUN) -m pytest tests/crash $(ARGS)

hostile: $(VENV)/ready ## kill and attack the receiver (KILLS=100 REQUESTS=100000)
	@SMS_RECEIVER_KILLS=$(or $(KILLS),100) SMS_HOSTILE_REQUESTS=$(or $(REQUESTS),100000) \
		$(RUN) -m pytest -m "crash or hostile" tests/receiver $(ARGS)

test-matrix: $(VENV)/ready ## run the tests on every supported Airflow (MINORS="2.11 3.3" for some of them)
	@$(RUN) -m scripts.matrix $(MINORS)

matrix-environments: $(VENV)/ready ## install what test-matrix runs in, and run nothing (MINORS="2.11 3.3")
	@$(RUN) -m scripts.matrix --environments $(MINORS)

bench-imports: .bench/ready ## measure what importing the provider costs a DAG file, beside other providers
	@.bench/bin/python -m benchmarks.import_cost $(ARGS)

bench-others: .bench/ready ## count what other providers' operators send when an answer is lost
	@.bench/bin/python -m benchmarks.other_providers $(ARGS)

bench-campaign: $(VENV)/ready .bench/ready ## compare a campaign to 1,000,000 phones with a bare loop of posts (ARGS="--phones 100000")
	@$(RUN) -m benchmarks.campaign --http-python .bench/bin/python $(ARGS)

bench-receiver: $(VENV)/ready ## compare pushes stored a second with an empty form endpoint (ARGS="--rows 10000000")
	@$(RUN) -m benchmarks.receiver $(ARGS)

bench-waiting: $(VENV)/ready ## count what 10,000 waiting tasks ask of ledger and platform
	@$(RUN) -m benchmarks.waiting $(ARGS)

bench-deliveries: $(VENV)/ready ## time the delivery counts of 1,000,000 phones, and matching
	@$(RUN) -m benchmarks.deliveries $(ARGS)

bench-guards: $(VENV)/ready ## compare plans with and without a cap on texts per phone (ARGS="--phones 1000000 --runs 1")
	@$(RUN) -m benchmarks.guards $(ARGS)

bench-personal: $(VENV)/ready ## time the plan of personal texts, and its memory (ARGS="--phones 1000000")
	@$(RUN) -m benchmarks.personal $(ARGS)

locks: python ## renew the locks after a change of their inputs (UPGRADE=1: to the newest releases); needs uv
	@$(PYTHON) -m scripts.locks --uv "$(UV)" $(if $(UPGRADE),--upgrade)

clean: ## remove everything that make made
	@rm -rf .venv .matrix .bench .docs .demo .ci-results .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/ready: locks/airflow-3.3.txt pyproject.toml scripts/environment.py | python
	@$(INSTALL) $(VENV) locks/airflow-3.3.txt

.bench/ready: locks/bench.txt pyproject.toml scripts/environment.py | python
	@$(INSTALL) .bench locks/bench.txt

.docs/ready: locks/docs.txt pyproject.toml scripts/environment.py | python
	@$(INSTALL) .docs locks/docs.txt

python:
	@$(PYTHON) -c '$(PYTHON_IS_NEW_ENOUGH)' 2>/dev/null || \
		{ echo "This needs Python 3.11 or newer, and '$(PYTHON)' is not that. Name one: make PYTHON=/path/to/python3" >&2; exit 1; }
