"""Inputs of the smoke test, the memory it poisons, and how far a result may be from fp64."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.inputs import HeadBatch, ModelShape, trained_like
from bench.session.context import Context
from bench.session.record import Goal, at_most

# T tokens, H hidden, V vocabulary, B rows, L positions, Hq query heads, Hkv key heads, D head dim
# ||x - fp64|| / ||fp64||: a bf16 result is off by 2^-9 / sqrt(3) = 1.1e-3, one of two roundings by 1.6e-3
RELATIVE = {torch.bfloat16: 4e-3, torch.float32: 1e-5}
LOGPROB = 1e-4  # nats, the design's bound


@dataclass(frozen=True, slots=True)
class Inputs:
    """`batch`: of the head ops, more than one chunk of rows. `tokens`, `rows`, `context`: of the others."""

    shape: ModelShape
    batch: HeadBatch
    tokens: int
    rows: int
    context: int

    @property
    def dtype(self) -> torch.dtype:
        return self.batch.hidden.dtype

    def random(self, *size: int) -> Tensor:
        return torch.randn(*size, device=self.batch.hidden.device).to(self.dtype)

    def within(self, found: Tensor, wanted: Tensor) -> tuple[float, Goal]:
        """The error of a result in the inputs' dtype, and its bound."""
        return relative(found, wanted), at_most(RELATIVE[self.dtype])


Found = dict[str, tuple[float, Goal]]  # by what was compared


@contextmanager
def poisoned() -> Iterator[None]:
    """Memory fresh from the allocator reads as NaN, and as the largest number where it holds integers."""
    fills = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = fills


def make_inputs(shape: ModelShape, context: Context) -> Inputs:
    tokens, length = (300, 100) if context.toy else (4500, 1024)
    batch = trained_like(shape, tokens, length, context.device.type, context.dtype)
    return Inputs(shape, batch, 37, 5, 300) if context.toy else Inputs(shape, batch, 2049, 33, 1300)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def largest(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).abs().max())


def gradient_goal(inputs: Inputs) -> Goal:
    """dlogits are rounded to bf16 and their products once more."""
    return at_most(1.5 * RELATIVE[inputs.dtype])
