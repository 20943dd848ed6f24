# Each target sets up what it needs by itself, in .venv; when nothing changed that takes a moment.
#   PYTHON=python3.12     the Python to make .venv with, 3.11 or newer
#   TORCH_INDEX=https://… the package index that torch comes from
#   ARGS="…"              handed on: make train ARGS="--arch aonet --dataset coco --style wave"

PYTHON ?= python3
SET_UP = @command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON). Install Python 3.11 or newer."; exit 1; }; \
	$(PYTHON) tools/setup.py
BIN = .venv/bin

.PHONY: help serve test quick test-compose check audit bench chaos train clean

help:
	@echo "make serve   start the service on this machine"
	@echo "make train   train a network: ARGS=\"--arch aonet --dataset coco --style wave\""
	@echo "make test    run the tests"
	@echo "make quick   run the tests of single modules, in a minute or two"
	@echo "make test-compose   build the images, run them with docker-compose, and kill what can be killed"
	@echo "make check   look for mistakes: ruff, mypy"
	@echo "make audit   look for known holes in what is installed"
	@echo "make bench   measure"
	@echo "make chaos   the fault tests at full length: what survives what"
	@echo "make clean   remove what these made, .venv with it"

serve:
	$(SET_UP)
	@$(BIN)/impasto serve $(ARGS)

train:
	$(SET_UP)
	@$(BIN)/impasto train $(ARGS)

test:
	$(SET_UP) test
	@$(BIN)/pytest -n 3 --dist loadfile $(ARGS)

quick:
	$(SET_UP) test
	@$(BIN)/pytest -n 2 --dist loadfile -m "not slow" tests/unit $(ARGS)

test-compose:
	$(SET_UP) test
	@tests/faults/compose.sh $(ARGS)

check:
	$(SET_UP) dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit:
	$(SET_UP) dev
	$(BIN)/pip-audit --skip-editable

bench:
	$(SET_UP)
	@$(BIN)/python -m benchmarks $(ARGS)

chaos:
	$(SET_UP) test
	@$(BIN)/pytest tests/faults --full --timeout 3600 -s $(ARGS)

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
