"""The language-model head a fixed number of rows at a time: the GEMMs that every op on it shares."""

from types import ModuleType

import torch
from torch import Tensor

from corl_kernels import rows
from corl_kernels.checks import IGNORE

# T tokens, H hidden, V vocabulary, C rows of a chunk
ROWS_CPU, ROWS_CUDA = 256, 4096


class Head:
    """logits = hidden @ weight.T, C rows at a time in one reused buffer, and the way back to hidden and weight.

    Every GEMM has the same shape, those of the last chunk too: an aligned copy of the rows with zeros below them. So a
    token's numbers do not depend on its place nor on the length of the pack. Logits and sums are fp32 (fp64 for fp64
    inputs): bf16 operands with fp32 results on CUDA and, no such GEMM existing there, fp32 operands on the CPU.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, targets: Tensor | None = None):
        """With targets, the hidden states where they are IGNORE are taken as 0: nothing of them, not even a NaN,
        reaches a gradient."""
        self.rows = ROWS_CUDA if hidden.is_cuda else ROWS_CPU
        self.dtype = torch.promote_types(hidden.dtype, torch.float32)
        self.gemm_dtype = hidden.dtype if hidden.is_cuda else self.dtype
        self.hidden, self.weight = hidden, weight.detach().to(self.gemm_dtype)
        self._ignored = None if targets is None else (targets == IGNORE)[:, None]
        self._x = _aligned(self.rows, hidden.shape[1], hidden, self.gemm_dtype)
        self._x_holds: tuple[int, int] | None = None
        self._logits: dict[int, Tensor] = {}
        self.grad_hidden: Tensor | None = None
        self.grad_weight: Tensor | None = None
        self._started = False

    def want_gradients(self, hidden: bool, weight: bool) -> None:
        """Allocate what `backward` fills: for hidden in the GEMMs' dtype, for weight [V, H] in fp32."""
        if hidden:  # whole chunks
            rows = -(-len(self.hidden) // self.rows) * self.rows
            self.grad_hidden = self.hidden.new_empty(rows, self.hidden.shape[1], dtype=self.gemm_dtype)
        if weight:
            self.grad_weight = self.weight.new_empty(self.weight.shape, dtype=self.dtype)

    def chunks(self) -> list[tuple[int, int]]:
        """(start, stop) of every chunk; the last one may be short."""
        tokens = len(self.hidden)
        return [(first, min(first + self.rows, tokens)) for first in range(0, tokens, self.rows)]

    def logits(self, buffer: int = 0) -> Tensor:
        """[C, V] of the statistics' dtype; every buffer is made when it is first asked for."""
        if buffer not in self._logits:
            self._logits[buffer] = _aligned(self.rows, len(self.weight), self.hidden, self.dtype)
        return self._logits[buffer]

    def forward(self, start: int, stop: int, *, buffer: int = 0) -> Tensor:
        """The logits [C, V] of a chunk; the rows below its last token belong to none."""
        gemm(self._rows_of(start, stop), self.weight.t(), self.logits(buffer), accumulate=False)
        return self.logits(buffer)

    def backward(self, start: int, stop: int, dlogits: Tensor) -> None:
        """Add a chunk's gradients, given dlogits [C, V] with zeros below its last token."""
        if self.grad_hidden is not None:
            gemm(dlogits, self.weight, self.grad_hidden[start : start + self.rows], accumulate=False)
        if self.grad_weight is not None:
            gemm(dlogits.t(), self._rows_of(start, stop), self.grad_weight, accumulate=self._started)
        self._started = True

    def _rows_of(self, start: int, stop: int) -> Tensor:
        """An aligned copy [C, H] of the chunk's hidden states, zeros below."""
        if self._x_holds != (start, stop):
            self._x[: stop - start].copy_(self.hidden[start:stop])
            if self._ignored is not None:
                self._x[: stop - start].masked_fill_(self._ignored[start:stop], 0)
            self._x[stop - start :].zero_()
            self._x_holds = (start, stop)
        return self._x

    def gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """grad_hidden [T, H] in the GEMMs' dtype and grad_weight [V, H] in fp32, None where not wanted."""
        if self.grad_weight is not None and not self._started:
            self.grad_weight.zero_()
        return None if self.grad_hidden is None else self.grad_hidden[: len(self.hidden)], self.grad_weight


def row_functions(hidden: Tensor) -> ModuleType:
    """`statistics`, `gradient` and `policy` of the rows between the GEMMs: Triton's on CUDA, torch's on the CPU."""
    if hidden.is_cuda:
        from corl_kernels.jit import policy_rows

        return policy_rows
    return rows


def scale_gradient(gradient: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """gradient * factor, rounded once to `dtype`; in place where that is the dtype already."""
    out = gradient if gradient.dtype == dtype else torch.empty_like(gradient, dtype=dtype)
    return torch.mul(gradient, factor, out=out)


def _aligned(rows: int, columns: int, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows that each start on a cache line: MKL sums a row that starts elsewhere in its line in another order, and
    cuBLAS has slower kernels for rows that are not aligned to 16 bytes."""
    return like.new_empty(rows, -(-columns // 64) * 64, dtype=dtype)[:, :columns]


def gemm(a: Tensor, b: Tensor, out: Tensor, *, accumulate: bool) -> None:
    """out = a @ b, or += ; fp32 sums of bf16 operands exist on CUDA alone."""
    if a.dtype == out.dtype:
        torch.addmm(out, a, b, beta=float(accumulate), out=out)
    elif accumulate:
        torch.addmm(out, a, b, out_dtype=out.dtype, out=out)
    else:
        torch.mm(a, b, out_dtype=out.dtype, out=out)
