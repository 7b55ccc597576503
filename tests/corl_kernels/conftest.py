"""Where kernels are launched, and a record of every @triton.jit function that runs in this session."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

HERE = Path(__file__).resolve().parent


class Launch(NamedTuple):
    """What decides whether triton compiles anew: launches that are equal here share one compiled kernel.

    arguments  (name, what it is specialised on): ("*bf16", "D") a pointer and ("i32", "D") an integer divisible by 16,
               ("i32", "") any other integer, ("i32", None) one in do_not_specialize, ("constexpr", x) a constexpr,
               the integer 1 or None
    options    num_warps and whatever else the launcher gives
    """

    kernel: str
    arguments: tuple[tuple[str, Any], ...]
    options: tuple[tuple[str, Any], ...]


@dataclass
class Record:
    """The full names of kernels launched and helpers called; on a GPU helpers show in the first IR of `sources`."""

    launched: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    sources: dict[str, str] = field(default_factory=dict)
    launches: list[Launch] | None = None
    deselected: list[str] = field(default_factory=list)


RECORD = Record()


@pytest.fixture
def device() -> str:
    """Where kernels are launched: on the GPU where there is one, otherwise under triton's interpreter."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def record() -> Record:
    """The record of the session so far."""
    return RECORD


@pytest.fixture
def launches() -> Iterator[list[Launch]]:
    """This test's launches, in order. Where a size varies from call to call `set(launches)` must not grow with it.

    Integers count as triton sees them, so vary the size over 1, a multiple of 16 and something else.
    """
    RECORD.launches = []
    yield RECORD.launches
    RECORD.launches = None


@pytest.fixture
def left_out(request: pytest.FixtureRequest) -> str:
    """Why this session does not run every test of this folder; empty where it does."""
    config = request.config
    asked = [config.invocation_params.dir / argument for argument in config.args if "::" not in argument]
    if not any(path.resolve() in (HERE, *HERE.parents) for path in asked):
        return f"only a part of tests/{HERE.name} was asked for"
    return f"deselected: {RECORD.deselected[0]} .." if RECORD.deselected else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Coverage of the kernels is judged when every other test has run."""
    items.sort(key=lambda item: item.path == HERE / "test_jit_coverage.py")


def pytest_deselected(items: list[pytest.Item]) -> None:
    mine = [item for item in items if item.path.is_relative_to(HERE) and not item.get_closest_marker("gpu")]
    RECORD.deselected += [item.nodeid for item in mine]


def _record_kernels() -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend
    from triton.runtime import interpreter, jit

    interpreted, compiled = interpreter.InterpretedFunction, jit.JITFunction
    interpret, call, run, combine = (
        interpreted.run, interpreted.__call__, compiled.run, interpreter.ReduceScanOpInterface.__init__,
    )  # fmt: skip

    @cache
    def rule(kernel: Any) -> tuple[list[str], Any]:
        """The names of a kernel's arguments, and triton's own rule of what they are specialised on for Hopper."""
        kernel = kernel if isinstance(kernel, compiled) else compiled(kernel.fn, **kernel.kwargs)
        backend = make_backend(GPUTarget("cuda", 90, 32))
        return kernel.arg_names, jit.create_function_from_signature(kernel.signature, kernel.params, backend)

    def launched(kernel: Any, args: tuple, options: dict[str, Any]) -> None:
        RECORD.launched.add(_full_name(kernel))
        if RECORD.launches is not None:
            names, specialise = rule(kernel)
            _, arguments, rest = specialise(*args, **options)
            pairs = tuple(zip(names, arguments, strict=True))
            RECORD.launches.append(Launch(_full_name(kernel), pairs, tuple(sorted(rest.items()))))

    def recorded_interpret(kernel, *args, grid, warmup, **options):
        launched(kernel, args, options)
        return interpret(kernel, *args, grid=grid, warmup=warmup, **options)

    def recorded_call(helper, *args, **options):
        RECORD.called.add(_full_name(helper))
        return call(helper, *args, **options)

    def recorded_combine(operation, axis, helper, *rest):
        RECORD.called.add(_full_name(helper))
        return combine(operation, axis, helper, *rest)

    def recorded_run(kernel, *args, grid, warmup, **options):
        launched(kernel, args, options)
        result = run(kernel, *args, grid=grid, warmup=warmup, **options)
        RECORD.sources[result.hash] = result.asm["source"]
        return result

    interpreted.run, interpreted.__call__, compiled.run = recorded_interpret, recorded_call, recorded_run
    interpreter.ReduceScanOpInterface.__init__ = recorded_combine


def _full_name(kernel: Any) -> str:
    return f"{kernel.fn.__module__}.{kernel.fn.__qualname__}"


if importlib.util.find_spec("triton"):
    _record_kernels()
