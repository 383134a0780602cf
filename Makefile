PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
PYTEST := $(VENV)/bin/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

CPP := $(wildcard cpp/*.cpp cpp/*/*.cpp cpp/*/*.hpp)
NATIVE := gossamer.kernels._native

.PHONY: help demo test test-fast test-slow coverage sanitize lint format docs bench wheel clean
.DEFAULT_GOAL := help

help: ## say what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /:/' | awk -F: '{ printf "make %-10s %s\n", $$1, $$2 }'

demo: $(READY) ## set up, and run the main job on embedded images of digits
	$(VENV)/bin/gossamer run demo --out runs/demo

test: lint ## set up, lint and run all tests but the slow ones
	$(PYTEST) --durations=20

test-fast: $(READY) ## run the tests of a minute, without lint
	$(PYTEST) tests/stats tests/records tests/data tests/masks tests/test_architecture.py

test-slow: $(READY) ## run the slow tests, which nothing else here runs
	$(PYTEST) --durations=20 -m slow

coverage: $(READY) ## run the tests, and say which lines none of them reaches
	$(PYTEST) --cov=gossamer --cov-report=term-missing:skip-covered

# -S leaves out the hook of the editable install, which would find the kernels of every day. Leaks are not looked for: Python itself
# leaves much behind at its end.
SANITIZED = LD_PRELOAD="$$(for one in asan ubsan stdc++; do g++ -print-file-name=lib$$one.so; done | tr '\n' ' ')" PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	PYTHONPATH="build/sanitized:$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" $(VENV)/bin/python -S

sanitize: $(READY) ## test the engine where the kernels see bad memory and undefined behaviour; needs CMake and GCC
	$(VENV)/bin/python -m pip install --quiet --no-deps --upgrade --target build/sanitized --config-settings=build-dir=build/sanitizing \
		--config-settings=cmake.define.GOSSAMER_SANITIZE=address,undefined .
	$(SANITIZED) -m pytest tests/engine
	$(SANITIZED) tests/fuzz/fuzz_gsm.py --count 1000

lint: $(READY) ## check style, types, and what is written from the code
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/clang-format --dry-run --Werror $(CPP)
	$(VENV)/bin/mypy
	$(VENV)/bin/python docs/judge.py --check
	$(VENV)/bin/python docs/tables.py --check
	$(VENV)/bin/python docs/study_schema.py --check
	$(VENV)/bin/python docs/results_columns.py --check

format: $(READY) ## lay out the code, and write what is written from it
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format
	$(VENV)/bin/clang-format -i $(CPP)
	$(VENV)/bin/python -m nanobind.stubgen --module $(NATIVE) --output-file src/$(subst .,/,$(NATIVE)).pyi
	$(VENV)/bin/python docs/judge.py
	$(VENV)/bin/python docs/tables.py
	$(VENV)/bin/python docs/study_schema.py
	$(VENV)/bin/python docs/results_columns.py

docs: $(READY) ## build the documentation site into build/docs
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt sphinx furo myst-parser  # without building the kernels again
	$(VENV)/bin/python -m sphinx -W --keep-going -q docs build/docs
	@echo "$(CURDIR)/build/docs/index.html"

bench: $(READY) ## run every benchmark
	$(VENV)/bin/python -m benchmarks.run_all

wheel: $(VENV)/bin/python ## build a wheel for this machine into dist/
	rm -f dist/gossamer-*.whl
	$(VENV)/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls "$(CURDIR)"/dist/gossamer-*.whl

clean: ## remove what was set up and built; results in runs/ stay
	rm -rf $(VENV) build dist

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gossamer needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(READY): pyproject.toml constraints.txt CMakeLists.txt $(CPP) | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)
