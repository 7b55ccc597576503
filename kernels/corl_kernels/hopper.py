"""Compile what launchers would launch for an sm_90 that is not there, and say what is wrong with the result.

triton's driver is replaced by a stand-in and a launch stops after the compile, so block sizes, warps and what is
specialised are the launcher's own. Launchers run on meta tensors, in forked processes that end when one takes too long.
"""

import multiprocessing
import os
import re
import signal
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction, KernelInterface

MAX_SHARED = 232_448  # bytes a block may ask for: 227 KiB
# Of a multiprocessor: warps, registers, bytes of shared memory (a block takes 1 KiB more than it asks for), blocks.
_WARPS, _REGISTERS, _SHARED, _BLOCKS = 64, 65_536, 233_472, 32
_BARRIER = r"\bbar(?:rier)?\.(?:cta\.)?(?:sync|red)\b"


@dataclass(frozen=True, slots=True)
class Row:
    """One compiled variant. Registers and stack (spilled bytes) are per thread, -1 where cuobjdump failed."""

    kernel: str
    case: str
    warps: int
    registers: int
    stack: int
    shared: int  # bytes of a block
    blocks: int  # that fit on a multiprocessor together
    per_value: float  # instructions for 4 loaded bytes, in the innermost loop with the most of them; 0 without loads
    in_flight: int  # bytes that such loops' loads can have under way on a full multiprocessor
    wgmma: int  # these four count instructions in the PTX
    tma: int
    cp_async: int
    barriers: int
    seconds: float
    calls: tuple[str, ...]  # the jit functions, of those asked about, that were compiled into it


@dataclass(frozen=True, slots=True)
class Limit:
    """What a variant may cost at most (registers, instructions) and must reach at least (blocks, bytes in flight)."""

    registers: int
    blocks: int
    per_value: float
    in_flight: int

    def broken(self, row: Row) -> list[str]:
        """What of the row is outside, in words."""
        found = []
        if row.registers > self.registers:
            found.append(f"{row.registers} registers a thread, at most {self.registers}")
        if row.blocks < self.blocks:
            found.append(f"{row.blocks} blocks a multiprocessor, at least {self.blocks}")
        if row.per_value > self.per_value:
            found.append(f"{row.per_value} instructions a value, at most {self.per_value}")
        if row.in_flight < self.in_flight:
            found.append(f"{row.in_flight} bytes in flight, at least {self.in_flight}")
        return found


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be, in one line."""

    text: str


def full_name(kernel: Any) -> str:
    """`module.function` of a kernel, whatever autotuners or heuristics are wrapped around it."""
    while isinstance(kernel, KernelInterface):
        kernel = getattr(kernel, "fn")  # noqa: B009
    return f"{kernel.__module__}.{kernel.__qualname__}"


def defined_in(module: ModuleType) -> dict[str, KernelInterface]:
    """The @triton.jit functions that the module defines itself, by full name."""
    functions = [value for value in vars(module).values() if isinstance(value, KernelInterface)]
    return {full_name(jit): jit for jit in functions if full_name(jit).startswith(f"{module.__name__}.")}


def functions_in(source: str, names: Iterable[str]) -> tuple[str, ...]:
    """Those of the jit functions that a kernel calls, given its IR before inlining, `compiled.asm["source"]`."""
    return tuple(sorted(name for name in names if re.search(rf'@"?{re.escape(name)}__', source)))


def unguarded_stores(ptx: str) -> list[str]:
    """The global stores in loops that no barrier separates from the global loads before them.

    Where a kernel works in place every thread must have loaded its part of a block before any thread stores. So on the
    way back from a store, around its innermost loop, a barrier has to come before a load. This is the order of
    instructions and no proof about addresses: it also objects to a load of something else after the barrier, and says
    nothing about stores outside loops, such as a row's statistics.
    """
    lines = ptx.splitlines()
    labels = {match[1]: i for i, line in enumerate(lines) if (match := re.match(r"(\$\w+):", line))}
    jumps = [(i, match[1]) for i, line in enumerate(lines) if (match := re.search(r"\bbra\S*\s+(\$\w+)", line))]
    loops = [(labels[label], i) for i, label in jumps if labels[label] < i]
    unguarded = []
    for i, line in enumerate(lines):
        around = [(stop - start, start, stop) for start, stop in loops if start < i < stop]
        if around and re.search(r"\bst\.global\b", line):
            _, start, stop = min(around)
            back = lines[start:i][::-1] + lines[i:stop][::-1]
            met = next((match[0] for at in back if (match := re.search(rf"\bld\.global\b|{_BARRIER}", at))), "")
            if met == "ld.global":
                unguarded.append(line.strip())
    return unguarded


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    doing: str
    deadline: float


def compile_launches(
    jobs: Sequence[Mapping[str, Callable[[], Any]]],
    *,
    functions: Iterable[str],
    in_place: Iterable[str] = (),
    limit_s: float,
    workers: int,
    cache: str = "",
) -> Iterator[Row | Finding]:
    """Every different kernel that the jobs launch, and every finding.

    jobs       each a process: what calls launchers on meta tensors, by the name it gets in `Row.case`
    functions  full names that `Row.calls` may hold
    in_place   bare names of the kernels that `unguarded_stores` has to pass
    limit_s    seconds a kernel may take      workers  processes at a time
    cache      triton's cache directory; empty for the usual one
    """
    context = multiprocessing.get_context("fork")
    waiting, running = list(jobs), dict[Connection, _Worker]()
    while waiting or running:
        while waiting and len(running) < workers:
            receiver, sender = context.Pipe(duplex=False)
            arguments = (sender, waiting.pop(0), tuple(functions), tuple(in_place), cache)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            sender.close()
            running[receiver] = _Worker(process, "a start", time.monotonic() + limit_s)
        soonest = min(worker.deadline for worker in running.values())
        for ready in wait(list(running), timeout=max(0.0, soonest - time.monotonic())):
            assert isinstance(ready, Connection)
            worker = running[ready]
            worker.deadline = time.monotonic() + limit_s
            try:
                message = ready.recv()
            except EOFError:
                worker.process.join()
                if worker.process.exitcode:
                    yield Finding(f"{worker.doing}: the compiler died, exit code {worker.process.exitcode}")
                del running[ready]
                continue
            if isinstance(message, str):
                worker.doing = message
            else:
                yield message
        for receiver, worker in list(running.items()):
            if time.monotonic() > worker.deadline:
                assert worker.process.pid is not None
                os.killpg(worker.process.pid, signal.SIGKILL)
                worker.process.join()
                del running[receiver]
                yield Finding(f"{worker.doing}: not done after {limit_s:g} s")


class _Sm90:
    """What triton asks of a driver before a launch."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def _work(
    report: Connection,
    launches: Mapping[str, Callable[[], Any]],
    functions: tuple[str, ...],
    in_place: tuple[str, ...],
    cache: str,
) -> None:
    """One process: report what is being done (str), every Row and every Finding."""
    os.setsid()  # one group for this process and its ptxas, to be ended together
    if cache:
        os.environ["TRITON_CACHE_DIR"] = cache
    driver.set_active(_Sm90())
    run, seen, case = JITFunction.run, set(), ""

    def compile_only(kernel, *args, grid, warmup=True, **options):
        name = full_name(kernel)
        report.send(f"{name} ({case})")
        start = time.perf_counter()
        try:
            compiled = run(kernel, *args, grid=grid, warmup=True, **options)
        except Exception as error:  # the compiler raises what it likes, and each is a finding
            report.send(Finding(f"{name} ({case}): does not compile: {_last_line(error)}"))
            return
        if compiled.hash not in seen:
            seen.add(compiled.hash)
            seconds = round(time.perf_counter() - start, 2)
            for result in _inspect(name, case, compiled, seconds, functions, in_place):
                report.send(result)

    JITFunction.run = compile_only  # type: ignore[method-assign]
    for case, launch in launches.items():
        report.send(f"{case}, its launcher")
        try:
            launch()
        except Exception as error:  # so does a launcher that wants what a meta tensor does not have
            report.send(Finding(f"{case}: the launcher fails: {_last_line(error)}"))


def _inspect(
    name: str, case: str, compiled: Any, seconds: float, functions: tuple[str, ...], in_place: tuple[str, ...]
) -> Iterator[Row | Finding]:
    """The row of a compiled variant, then what is wrong with it."""
    ptx, shared, where = compiled.asm["ptx"], compiled.metadata.shared, f"{name} ({case})"
    registers, stack, loops = -1, -1, list[tuple[int, int]]()
    try:
        registers, stack, loops = _resources(compiled.asm["cubin"])
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        yield Finding(f"{where}: registers and spills are unknown: {_last_line(error)}")
    patterns = r"\bwgmma\.mma_async", r"\bcp\.async\.bulk\.(?:tensor|shared)", r"\bcp\.async\.c[ag]\b", _BARRIER
    wgmma, tma, cp_async, barriers = (len(re.findall(pattern, ptx)) for pattern in patterns)
    warps, calls = compiled.metadata.num_warps, functions_in(compiled.asm["source"], functions)
    blocks = resident_blocks(warps, registers, shared)
    per_value = max((round(4 * instructions / loaded, 1) for instructions, loaded in loops), default=0.0)
    in_flight = min((loaded for _, loaded in loops), default=0) * 32 * warps * blocks
    counts = blocks, per_value, in_flight, wgmma, tma, cp_async, barriers
    yield Row(name, case, warps, registers, stack, shared, *counts, seconds, calls)
    if stack > 0:
        yield Finding(f"{where}: spills {stack} bytes a thread; use smaller blocks or more warps")
    if shared > MAX_SHARED:
        yield Finding(f"{where}: wants {shared} bytes of shared memory; a block has {MAX_SHARED}")
    if name.rpartition(".")[2] in in_place and (stores := unguarded_stores(ptx)):
        yield Finding(f"{where}: works in place without a barrier between its loads and `{stores[0]}`")


def resident_blocks(warps: int, registers: int, shared: int) -> int:
    """Blocks of a kernel that fit on one multiprocessor of an H100 or H200 together.

    A warp's registers come 256 at a time. CUDA C++ Programming Guide, compute capability 9.0.
    """
    of_warp = -(-max(registers, 1) * 32 // 256) * 256
    return min(_WARPS // warps, _REGISTERS // of_warp // warps, _SHARED // (shared + 1024), _BLOCKS)


def loading_loops(sass: str) -> list[tuple[int, int]]:
    """(instructions, bytes a thread loads from global memory) of every innermost loop that loads.

    A loop is what lies between a branch backwards and its target; its bytes are those of LDG, and of LDGSTS where loads
    go to shared memory.
    """
    lines = re.findall(r"/\*([0-9a-f]{4,5})\*/\s+(.*?);", sass)
    at = {int(address, 16): k for k, (address, _) in enumerate(lines)}
    jumps = [(k, re.search(r"\bBRA\b.*?\b0x([0-9a-f]+)", text)) for k, (_, text) in enumerate(lines)]
    spans = [(at[int(jump[1], 16)], k) for k, jump in jumps if jump and at.get(int(jump[1], 16), k) < k]
    found = []
    for start, stop in spans:
        if not any(start <= a and b < stop for a, b in spans if (a, b) != (start, stop)):
            body = [text for _, text in lines[start : stop + 1]]
            widths = [re.search(r"\bLDG(?:STS)?\.E(?:\.\w+)*?\.(64|128)\b", text) for text in body if "LDG" in text]
            loaded = sum(int(width[1]) // 8 if width else 4 for width in widths)
            if loaded:
                found.append((len(body), loaded))
    return found


def _resources(cubin: bytes) -> tuple[int, int, list[tuple[int, int]]]:
    """(registers, stack and local bytes of a thread, its loops), from the cuobjdump that triton brings along."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = triton.knobs.nvidia.cuobjdump.path
        text, sass = (
            subprocess.run([tool, what, file.name], check=True, capture_output=True, text=True, timeout=60).stdout
            for what in ("--dump-resource-usage", "-sass")
        )
    used = [[int(number) for number in match] for match in re.findall(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", text)]
    if not used:
        raise ValueError("cuobjdump printed no resource usage")
    return max(use[0] for use in used), max(use[1] + use[2] for use in used), loading_loops(sass)


def _last_line(error: BaseException) -> str:
    """The line that says what is wrong: the compiler wraps an error once per call, each with a page of source."""
    while error.__cause__ is not None:
        error = error.__cause__
    return traceback.format_exception_only(error)[-1].strip().splitlines()[-1]
