# Everything from a fresh clone, with nothing but make and Python 3.11 or 3.12:
#
#   make demo    cut people out of the example photos with the real server; installs into .venv, without torch
#   make test    every test; installs the rest first; TESTS="..." for pytest, WORKERS=0 for one process
#   make bench   measure on this machine, under 15 minutes, and write benchmarks/RESULTS.md
#   make lint    ruff, mypy, import rules
#   make web-assets   what the web page needs to cut photos in the browser; needs npm
#   make clean   remove what these made
#
# Paths are relative throughout, so that a clone may lie in a folder whose name has spaces.

PYTHON ?= $(firstword $(foreach p,python3.12 python3.11 python3 python,$(shell \
	$(p) -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $(p))))
BIN := .venv/bin
# Without byte code, which Python makes by itself of what is imported: a third of the installation's time.
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check

# Half of the tests wait for servers. A file stays with one worker, because its tests share them.
WORKERS ?= 2

# PyTorch is for training, export and their tests; nothing that serves photos loads it.
TORCH := torch==2.13.0

.PHONY: help demo test bench lint web-assets clean

help:
	@sed -n 's/^#   //p' Makefile

demo: .venv/.demo
	@$(BIN)/python examples/demo.py

test: .venv/.test
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(TESTS)

bench: .venv/.test
	$(BIN)/python -m bgbench install
	$(BIN)/python -m bgbench run
	$(BIN)/python -m bgbench report

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

web-assets: | .venv/bin/python
	@$(BIN)/python client/bgclient/web/assets.py

clean:
	rm -rf .venv demo/out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or 3.12 with venv found; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "making .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml | .venv/bin/python
	@echo "installing bgclient and the server into .venv (no torch)"
	@$(PIP) --editable '.[server]'
	@$(BIN)/python -m bgserver install > /dev/null
	@touch $@

.venv/.test: pyproject.toml .venv/.demo
	@echo "installing what the tests need, PyTorch among it"
	@$(PIP) '$(TORCH)' --editable '.[server,web,train,export,hub,tensorrt-rtx,bench,heif,otel,ray,mcp,deploy,dev]'
	@touch $@
