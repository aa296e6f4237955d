# Two commands: `make quickstart` and `make test`. Each does everything from a fresh clone and can be run again.
SHELL := /bin/sh
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The quickstart's own AiiDA profile, page and archive go here; a user's ~/.aiida is never touched.
QUICKSTART ?= quickstart

.PHONY: help env quickstart test lint pytest clean

help:
	@echo 'make quickstart   the whole chain, from DFT labels to a report, in $(QUICKSTART)/'
	@echo 'make test         linters, types and all tests'
	@echo 'make env          only the environment, in $(VENV)/'
	@echo 'make clean        remove $(VENV)/ and $(QUICKSTART)/'

env: $(VENV)/.complete

# The stamp is written last: an installation that was broken off goes on where it was.
$(VENV)/.complete: pyproject.toml tools/system-packages.sh tools/gpaw_siteconfig.py
	@PYTHON='$(PYTHON)' tools/system-packages.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, $(PYTHON) is %d.%d; set PYTHON=…" % sys.version_info[:2])'
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@echo 'installing into $(VENV) (about 3 GB; a few minutes)'
	@GPAW_CONFIG='$(CURDIR)/tools/gpaw_siteconfig.py' $(BIN)/pip install -q -e '.[engines,dev]'
	@touch $@

quickstart: env
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/aiida-liheal quickstart --workdir '$(QUICKSTART)'

test: lint pytest

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pytest: env
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest

clean:
	rm -rf '$(VENV)' '$(QUICKSTART)'
