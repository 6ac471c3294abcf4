# Every target makes its own environment: python3 (3.11 or newer) and make are all that is needed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
# Half the tests wait for one process to start; two at a time suit two cores.
JOBS ?= 2
# Neighbours share fixtures, so that each process begins with a half of them all, and takes from the other's at the end.
PYTEST = $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

.PHONY: help demo test quick test-crash fuzz lint bench clean

help:
	@echo "make demo    simulate lenses, train, evaluate, explain, report (demo/report.html); CLEAN=1 starts anew"
	@echo "make test    run all tests"
	@echo "make quick   run the tests that are not marked slow, kill or fuzz: two minutes on two idle cores"
	@echo "make fuzz    20,000 damaged files of every kind; SEED=7 repeats a run, MUTANTS=1000 is a short one"
	@echo "make test-crash  kill every command at every change of the disk, and fill and break the disk there (hours)"
	@echo "make lint    ruff, import-linter, mypy"
	@echo "make bench   the measurements of benchmarks/ that need no GPU"
	@echo "make clean   remove the environment, the demo and caches"

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/skyclass demo $(if $(CLEAN),--clean)

test: $(READY)
	$(PYTEST)

quick: $(READY)
	$(PYTEST) -m "not slow and not kill and not fuzz"

fuzz: $(READY)
	PYTHONPATH=tests $(BIN)/python -m helpers.fuzz --mutants $(or $(MUTANTS),20000) $(if $(SEED),--seed $(SEED))

# CRASH="--points 20 --only train" looks at less.
test-crash: $(READY)
	$(BIN)/python tests/crash/certificate.py .crash $(CRASH)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/simulate.py
	$(BIN)/python benchmarks/gradcam.py
	$(BIN)/python benchmarks/label_errors.py
	$(BIN)/python benchmarks/novelty.py

clean:
	rm -rf .venv demo fuzz .crash .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
