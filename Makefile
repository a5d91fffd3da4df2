# Two commands do everything: `make demo` and `make test`. Both set up .venv on the first run and skip that afterwards.
#   PYTHON=python3.12     which Python makes the environment (3.11 or newer)
#   VENV=.venv            where it stands
#   WORKERS=2             how many processes share the tests
#   BENCH_VENV=.venv-bench, BENCH_FLAGS=--quick      the same for `make bench`, and what it is told
#   BENCH_OPENNMT_VENV=.venv-bench-opennmt           the environment of a peer of `make bench` with a PyTorch of its own
#   PIP_FLAGS=...         extra flags for pip, for instance an index with CPU-only wheels of PyTorch

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
VENV ?= .venv
WORKERS ?= 2
PIP_FLAGS ?=
BENCH_VENV ?= .venv-bench
BENCH_OPENNMT_VENV ?= .venv-bench-opennmt
BENCH_FLAGS ?= --out docs/benchmarks.md

python := $(VENV)/bin/python
pip := $(python) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_FLAGS)
sources := pyproject.toml constraints.txt hatch_build.py $(wildcard src/trasluz/layers/kernels/*.cpp src/trasluz/layers/kernels/*.h)
bench_python := $(BENCH_VENV)/bin/python
bench_pip := $(bench_python) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_FLAGS)
bench_sources := $(sources) benchmarks/requirements.txt benchmarks/requirements-alone.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check lint format docs bench bench-opennmt clean

help:
	@echo "make demo    translate with the bundled model and draw the alignment"
	@echo "make test    run the tests"
	@echo "make check   formatter, linters, types, floors, then the tests"
	@echo "make format  put the code into its one format"
	@echo "make docs    write the pages that are made from the code"
	@echo "make bench   measure speed beside other programs, an hour long, and write docs/benchmarks.md"
	@echo "make clean   remove the environments and caches"

demo: $(VENV)/.ready
	@$(VENV)/bin/trasluz demo

test: $(VENV)/.ready-dev
	$(python) -m pytest --numprocesses $(WORKERS) --dist loadfile

check: lint test

lint: $(VENV)/.ready-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/.ready-dev
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

docs: $(VENV)/.ready-dev
	$(python) docs/generate.py

# OpenNMT-py's environment is several gigabytes; where it cannot be made, its rows say so.
bench: $(BENCH_VENV)/.ready
	-@$(MAKE) bench-opennmt
	BENCH_OPENNMT_VENV=$(abspath $(BENCH_OPENNMT_VENV)) $(bench_python) benchmarks/write_tables.py $(BENCH_FLAGS)

bench-opennmt: $(BENCH_OPENNMT_VENV)/.ready

clean:
	rm -rf $(VENV) $(BENCH_VENV) $(BENCH_OPENNMT_VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# The stamps are written last, so that a set-up cut short is begun again.
$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "trasluz needs Python 3.11 or newer; none was found. Name one: make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11, which trasluz needs" >&2; exit 2; }
	@echo "setting up $(VENV) (once; PyTorch is large)" >&2
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: $(sources) | $(VENV)/bin/python
	$(pip) --editable '.[all]'
	@touch $@

$(VENV)/.ready-dev: $(sources) | $(VENV)/bin/python
	$(pip) --editable '.[dev]'
	@touch $@ $(VENV)/.ready

$(BENCH_VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "trasluz needs Python 3.11 or newer; none was found. Name one: make PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "setting up $(BENCH_VENV) (once; PyTorch is large, and its peers are too)" >&2
	$(PYTHON) -m venv $(BENCH_VENV)

# A peer of the second list that cannot be installed is told of below its table.
$(BENCH_VENV)/.ready: $(bench_sources) | $(bench_python)
	$(bench_pip) --editable '.[all]' --requirement benchmarks/requirements.txt
	while read -r peer; do case "$$peer" in ''|\#*) ;; *) $(bench_pip) --no-deps "$$peer" </dev/null || true ;; esac; done <benchmarks/requirements-alone.txt
	@touch $@

# Its PyTorch is older than constraints.txt knows, and is built for Python 3.8 to 3.12.
$(BENCH_OPENNMT_VENV)/.ready: benchmarks/requirements-opennmt.txt
	@echo "setting up $(BENCH_OPENNMT_VENV) (once; OpenNMT-py's own PyTorch, of 5 GB with CUDA)" >&2
	$(PYTHON) -m venv $(BENCH_OPENNMT_VENV)
	$(BENCH_OPENNMT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --requirement benchmarks/requirements-opennmt.txt
	@touch $@
