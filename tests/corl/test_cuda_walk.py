"""What the CUDA branches would ask of a device, seen on fake tensors: nothing of this needs a GPU or a build for one.

The walks are in cuda_walks.py, the device that is not there in fake_cuda.py and fake_cuda.cpp. They need a C++ compiler
and run on torch's CPU build and on those for CUDA alike: `pytest tests/corl/test_cuda_walk.py`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import corl_kernels
from corl.model.exact import HEAD_ROWS
from corl.model.exact_rows import ROWS_CUDA

HERE = Path(__file__).resolve().parent
pytestmark = pytest.mark.slow

# Kernels that a decode step launches for every layer (4 GEMMs, 2 norms, SwiGLU, norm and rotation of q and k, keys and
# values into the cache, attention and the merge of its splits) and once; that an update with activation checkpointing
# launches for every layer. They may only fall.
DECODE_LAYER, DECODE_ONCE, TRAIN_LAYER = 11, 38, 41

# (kind, file, function) outside of captures: why the host may read, write or wait there. The rest of corl and the whole
# of corl_kernels neither wait for the device nor are waited for.
BETWEEN_LOOKS = "the scheduler's decisions, between two looks at what was drawn"
ONCE_AN_UPDATE = "loss and norm of an update, which decide whether it is applied"
ALLOWED = {
    ("read", "corl/rollout/decode_batch.py", "read_drawn"): "the look itself: tokens and log-probs in one copy",
    ("read", "corl/model/exact_rows.py", "InBlocks._try"): "exact mode tries rows of a shape out, once",
    ("wait", "corl/rollout/engine.py", "Engine.swap_weights"): "else the report's seconds were those of launching",
    ("write", "corl/rollout/runner.py", "Runner.prefill"): BETWEEN_LOOKS,
    ("write", "corl/rollout/decode_batch.py", "page_table"): BETWEEN_LOOKS,
    ("write", "corl/rollout/decode_batch.py", "sampling_state"): BETWEEN_LOOKS,
    ("write", "corl/rollout/decode_batch.py", "DecodeBatch.insert"): BETWEEN_LOOKS,
    ("write", "corl/rollout/decode_batch.py", "DecodeBatch.move"): BETWEEN_LOOKS,
    ("write", "corl/rollout/decode_batch.py", "DecodeBatch.extend"): BETWEEN_LOOKS,
    ("write", "corl/rollout/kv_cache.py", "KVCache.copy_pages"): BETWEEN_LOOKS,
    ("write", "corl/training/batch.py", "micro_batch.tensor"): "a micro-batch's tokens, before its pass",
    ("read", "corl/training/trainer.py", "Trainer.update"): ONCE_AN_UPDATE,
    ("read", "corl/training/trainer.py", "_bad"): ONCE_AN_UPDATE,
    ("write", "corl/training/trainer.py", "Trainer.update"): ONCE_AN_UPDATE,
    ("write", "corl/parallel.py", "World.sum"): ONCE_AN_UPDATE,
    ("read", "corl/parallel.py", "World.sum"): ONCE_AN_UPDATE,
}

NO_TENSORS = {"vocabulary_slice", "patch_transformers_model"}  # public functions of numbers, of a module


def build_library(folder: Path) -> Path:
    """Compile fake_cuda.cpp against the torch at hand, in a few seconds."""
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        message = f"no C++ compiler ({compiler}): install g++, or name one in CXX"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    torch_folder, library = Path(torch.__file__).parent, folder / "fake_cuda.so"
    subprocess.run(
        [
            compiler, "-std=c++20", "-O0", "-w", "-shared", "-fPIC", HERE / "fake_cuda.cpp", "-o", library,
            "-I", torch_folder / "include", "-L", torch_folder / "lib", "-lc10", "-ltorch_cpu",
            f"-Wl,-rpath,{torch_folder / 'lib'}",
        ],
        check=True,
    )  # fmt: skip
    return library


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    """What every walk found: {walk: {findings: [kind, capture, file, function, count, first], kernels}}."""
    pytest.importorskip("triton")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {
        "LD_PRELOAD": str(build_library(tmp_path_factory.mktemp("fake_cuda"))), "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(map(str, (HERE.parents[1], HERE.parents[1] / "kernels"))),
    }  # fmt: skip
    run = subprocess.run(
        [sys.executable, HERE / "cuda_walks.py"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr[-4000:]
    return {line["walk"]: line for line in map(json.loads, run.stdout.splitlines())}


def findings(walks):
    """Every finding, its walk before it, but those that were planted."""
    return [(walk, *finding) for walk, line in walks.items() if walk != "planted" for finding in line["findings"]]


def test_what_is_planted_is_found(walks):
    assert {(kind, capture) for kind, capture, *_ in walks["planted"]["findings"]} == {
        ("mixed devices", False), ("host tensor for a kernel", False), ("wait", False), ("read", False),
        ("write", False), ("read", True), ("write", True),
    }  # fmt: skip


def test_every_public_function_is_walked_and_waits_for_nothing(walks):
    functions = {name for name in corl_kernels.__all__ if name.islower()} - NO_TENSORS
    assert {f"function {name}" for name in functions} == {name for name in walks if name.startswith("function ")}
    assert [finding for finding in findings(walks) if finding[0].startswith("function ")] == []


def test_no_kernel_gets_tensors_of_two_devices(walks):
    assert [finding for finding in findings(walks) if finding[1] not in ("read", "write", "wait")] == []


def test_no_capture_does_what_a_capture_may_not(walks):
    assert [finding for finding in findings(walks) if finding[2]] == []
    assert all(walks[f"decode {kind}"]["kernels"]["layer"] for kind in ("qwen2", "qwen3")), "nothing was captured"


def test_the_host_reads_and_writes_where_it_is_allowed_to(walks):
    found = {(kind, file, function): first for _, kind, _, file, function, _, first in findings(walks)}
    assert {place: first for place, first in found.items() if place not in ALLOWED} == {}
    assert ALLOWED.keys() - found.keys() == set(), "allowed and no longer needed"


def test_exact_mode_tries_rows_out_once_per_engine(walks):
    """52: four rows of each of the 13 outputs of tables, layers and the last norm, whatever is swapped in."""
    counts = {walk: count for walk, _, _, _, function, count, _ in findings(walks) if function == "InBlocks._try"}
    assert counts["rollout shared exact"] == 52


def test_no_gemm_of_a_decode_step_has_more_rows_than_it_needs(walks):
    """8 samples; in exact mode blocks of a fixed number of rows, of the layers and of the head."""
    for weights in ("shared", "arena"):
        assert walks[f"rollout {weights}"]["kernels"]["gemm_rows"] == 8
        assert walks[f"rollout {weights} exact"]["kernels"]["gemm_rows"] == HEAD_ROWS == ROWS_CUDA


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_kernels_of_a_decode_step_and_of_an_update(walks, kind):
    decode, train = walks[f"decode {kind}"]["kernels"], walks[f"train {kind}"]["kernels"]
    assert sum(decode["layer"].values()) <= DECODE_LAYER, decode["layer"]
    assert sum(decode["once"].values()) <= DECODE_ONCE, decode["once"]
    assert sum(train["layer"].values()) <= TRAIN_LAYER, train["layer"]
