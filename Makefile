# Two commands are enough on a bare machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
SEED ?= 1
RANKS ?= 2
VENV := .venv
BIN := $(VENV)/bin
SETUP := setup
DEMO_DIR := runs/demo$(if $(filter-out 1,$(SEED)),-seed$(SEED))
# Two small ranks on two cores: one thread each, and no spinning while a rank waits.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive

.PHONY: setup demo test test-kernels test-corl test-runs test-rods test-gpu check kernels-aot bench size clean

setup: $(VENV)/.ready

# torch first and alone: asked for through another package it could resolve to a build of several gigabytes.
$(VENV)/.ready: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' .ci/constraints.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt --editable ".[dev]"
	touch $@

demo: setup
	$(if $(RESUME),,rm -rf $(DEMO_DIR))
	$(BIN)/torchrun --standalone --nproc-per-node $(RANKS) corl/train.py configs/demo.yaml run.dir=$(DEMO_DIR) run.seed=$(SEED)

# On the CPU wherever they run: two ranks would need two GPUs.
demo test-kernels test-corl test-runs test-rods: export CUDA_VISIBLE_DEVICES :=

# Two at a time on two cores; the longest first.
test: setup
	$(MAKE) --no-print-directory --jobs 2 --keep-going test-corl test-runs test-rods test-kernels

test-kernels: setup
	$(BIN)/python -m pytest -q -m "not gpu" tests/corl_kernels

test-corl: setup
	$(BIN)/python -m pytest -q -m "not gpu" --ignore tests/corl_kernels --ignore tests/corl/runs --ignore tests/corl/rods

test-runs: setup
	$(BIN)/python -m pytest -q -m "not gpu" tests/corl/runs

test-rods: setup
	$(BIN)/python -m pytest -q -m "not gpu" tests/corl/rods

# The kernels' own tests run on the device where there is one, under triton's interpreter where there is none.
# On a machine with its own torch for its own CUDA: make test-gpu SETUP= BIN=DIR_OF_ITS_PYTHON
test-gpu bench: export PYTHONPATH := kernels
test-gpu: $(SETUP)
	$(BIN)/python -m bench.session.gpu_tests

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every kernel compiled for sm_90, which needs no GPU: registers, spills, shared memory.
kernels-aot: setup
	$(BIN)/python -m corl_kernels.aot

bench: $(SETUP)
	$(BIN)/python -m bench.ops --suite all --out runs/bench/ops.jsonl

size: setup
	$(BIN)/python bench/size.py

clean:
	rm -rf runs $(VENV)
