# make demo: set up and run the main job on the embedded digits; make test: set up and test;
# make wheel: build a wheel for this machine into dist/.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: demo test lint bench wheel clean

demo: $(READY)
	$(VENV)/bin/gossamer run demo --out runs/demo

test: lint
	$(VENV)/bin/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

lint: $(READY)
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/python docs/tables.py --check
	$(VENV)/bin/python docs/study_schema.py --check
	$(VENV)/bin/python docs/results_columns.py --check

bench: $(READY)
	$(VENV)/bin/python -m benchmarks.run_all

wheel: $(VENV)/bin/python
	rm -f dist/gossamer-*.whl
	$(VENV)/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls "$(CURDIR)"/dist/gossamer-*.whl

clean:
	rm -rf $(VENV) runs build dist

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gossamer needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(READY): pyproject.toml constraints.txt CMakeLists.txt $(wildcard cpp/*.cpp cpp/*/*) | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)
