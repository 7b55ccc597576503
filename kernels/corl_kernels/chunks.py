"""The language-model head a chunk of rows at a time: the GEMMs that every op on it shares."""

from types import ModuleType

import torch
from torch import Tensor

from corl_kernels import rows
from corl_kernels.checks import IGNORE
from corl_kernels.vocabulary import VocabularySlice, combine_statistics, sum_over_slices

# T tokens, H hidden, V vocabulary, C rows of a chunk
# Of a chunk: the most rows, and what their number is a multiple of. 4,096 rows of logits of 152,064 tokens are 2.5 GB.
ROWS_CPU, ROWS_CUDA = 256, 4096
STEP_CPU, STEP_CUDA = 16, 128


def chunk_rows(tokens: int, on_gpu: bool) -> int:
    """Rows of every GEMM of a call on `tokens` tokens: as few chunks as the most rows allow, of even size.

    A multiple of 128 on a GPU (a tile of a GEMM) and of 16 on a CPU, so at most a few percent of the rows are padding.
    """
    most, step = (ROWS_CUDA, STEP_CUDA) if on_gpu else (ROWS_CPU, STEP_CPU)
    count = max(1, -(-tokens // most))
    return max(1, -(-tokens // (count * step))) * step


def operand_dtype(hidden: Tensor) -> torch.dtype:
    """The dtype to which operands are rounded: autocast's where it is on, else that of hidden."""
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind) and hidden.dtype != torch.float64:
        return torch.get_autocast_dtype(kind)
    return hidden.dtype


def gemm_dtype(operand: torch.dtype, on_gpu: bool) -> torch.dtype:
    """The dtype in which the GEMMs read their operands: no CPU sums the products of 16-bit operands in fp32."""
    return operand if on_gpu else torch.promote_types(operand, torch.float32)


class Head:
    """logits = hidden @ weight.T, C rows at a time in one reused buffer, and the way back to hidden and weight.

    Every GEMM of a call has the same shape, those of the last chunk too: an aligned copy of the rows with zeros below
    them. Two calls with as many tokens, or with the same `fixed_rows`, give equal rows equal bits. Logits and sums are
    fp32 (fp64 for fp64 inputs): 16-bit operands with fp32 results on CUDA and, no such GEMM existing there, fp32
    operands on the CPU.
    """

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor | None = None,
        *,
        operand: torch.dtype | None = None,
        fixed_rows: int | None = None,
        vocabulary: VocabularySlice | None = None,
    ):
        """With targets, the hidden states where they are IGNORE are taken as 0: nothing of them, not even a NaN,
        reaches a gradient. `operand`: see operand_dtype; None for that of hidden."""
        operand = operand or hidden.dtype
        self.rows = fixed_rows or chunk_rows(len(hidden), hidden.is_cuda)
        self.dtype = torch.promote_types(operand, torch.float32)
        self.gemm_dtype = gemm_dtype(operand, hidden.is_cuda)
        self.row_ops = row_functions(hidden)
        self.hidden, self.weight = hidden.to(operand), weight.detach().to(operand).to(self.gemm_dtype)
        self.vocabulary = vocabulary
        self._ignored = None if targets is None else (targets == IGNORE)[:, None]
        self._x = _aligned(self.rows, hidden.shape[1], hidden, self.gemm_dtype)
        self._x_holds: tuple[int, int] | None = None
        self._logits: dict[int, Tensor] = {}
        self.grad_hidden: Tensor | None = None
        self.grad_weight: Tensor | None = None
        self.grad_bias: Tensor | None = None
        self._accumulate = False

    def want_gradients(self, hidden: bool, weight: bool, bias: bool = False, *, weight_into: Tensor | None = None):
        """Allocate what `backward` fills: for hidden in the GEMMs' dtype (fp32 where ranks add up theirs), for weight
        [V, H] and bias [V] in fp32. With `weight_into`, the weight's is added there instead."""
        if hidden:  # whole chunks
            rows = -(-len(self.hidden) // self.rows) * self.rows
            dtype = self.gemm_dtype if self.vocabulary is None else self.dtype
            self.grad_hidden = self.hidden.new_empty(rows, self.hidden.shape[1], dtype=dtype)
        if weight:
            self._accumulate = weight_into is not None
            empty = weight_into is None
            self.grad_weight = self.weight.new_empty(self.weight.shape, dtype=self.dtype) if empty else weight_into
        if bias:
            self.grad_bias = self.weight.new_zeros(len(self.weight), dtype=self.dtype)

    def chunks(self) -> list[tuple[int, int]]:
        """(start, stop) of every chunk; the last one may be short."""
        tokens = len(self.hidden)
        return [(first, min(first + self.rows, tokens)) for first in range(0, tokens, self.rows)]

    def logits(self, buffer: int = 0) -> Tensor:
        """[C, V] of the statistics' dtype, on the CPU with rows below for its last block; made when first asked for."""
        if buffer not in self._logits:
            block = 1 if self.hidden.is_cuda else rows.block_rows(len(self.weight))
            count = -(-self.rows // block) * block
            self._logits[buffer] = _aligned(count, len(self.weight), self.hidden, self.dtype)
        return self._logits[buffer]

    def forward(self, start: int, stop: int, *, buffer: int = 0) -> Tensor:
        """The logits [C, V] of a chunk; the rows below its last token belong to none."""
        gemm(self._rows_of(start, stop), self.weight.t(), self.logits(buffer)[: self.rows], accumulate=False)
        return self.logits(buffer)

    def score(self, tokens: rows.Tokens, start: int, stop: int, *, buffer: int = 0) -> Tensor:
        """`forward`, and the statistics of these tokens over the whole vocabulary; a collective where it is sliced."""
        logits = self.forward(start, stop, buffer=buffer)
        self.row_ops.statistics(logits, tokens, start, stop)
        if self.vocabulary is not None:
            combine_statistics(tokens, start, stop, self.vocabulary)
        return logits

    def backward(self, start: int, stop: int, dlogits: Tensor) -> None:
        """Add a chunk's gradients, given dlogits [C, V] with zeros below its last token."""
        dlogits = dlogits[: self.rows]
        if self.grad_hidden is not None:
            gemm(dlogits, self.weight, self.grad_hidden[start : start + self.rows], accumulate=False)
        if self.grad_weight is not None:
            gemm(dlogits.t(), self._rows_of(start, stop), self.grad_weight, accumulate=self._accumulate)
            self._accumulate = True
        if self.grad_bias is not None:
            self.grad_bias += dlogits.sum(0, dtype=self.dtype)

    def _rows_of(self, start: int, stop: int) -> Tensor:
        """An aligned copy [C, H] of the chunk's hidden states, zeros below."""
        if self._x_holds != (start, stop):
            self._x[: stop - start].copy_(self.hidden[start:stop])
            if self._ignored is not None:
                self._x[: stop - start].masked_fill_(self._ignored[start:stop], 0)
            self._x[stop - start :].zero_()
            self._x_holds = (start, stop)
        return self._x

    def gradients(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Of hidden [T, H], summed over the ranks of a sliced vocabulary, weight [V, H] and bias [V]; None where not
        wanted."""
        if self.grad_weight is not None and not self._accumulate:
            self.grad_weight.zero_()
        grad_hidden = None if self.grad_hidden is None else self.grad_hidden[: len(self.hidden)]
        if grad_hidden is not None and self.vocabulary is not None:
            sum_over_slices(grad_hidden, self.vocabulary)
        return grad_hidden, self.grad_weight, self.grad_bias


def row_functions(hidden: Tensor) -> ModuleType:
    """What happens to the rows between the GEMMs: Triton's kernels on CUDA, torch's on the CPU."""
    if hidden.is_cuda:
        from corl_kernels.jit import policy_rows

        return policy_rows
    return rows


def _aligned(rows: int, columns: int, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows that each start on a cache line: MKL sums a row that starts elsewhere in its line in another order, and
    cuBLAS has slower kernels for rows that are not aligned to 16 bytes."""
    return like.new_empty(rows, -(-columns // 64) * 64, dtype=dtype)[:, :columns]


def gemm(a: Tensor, b: Tensor, out: Tensor, *, accumulate: bool) -> None:
    """out = a @ b, or += ; fp32 sums of 16-bit operands exist on CUDA alone."""
    if a.dtype == out.dtype:
        torch.addmm(out, a, b, beta=float(accumulate), out=out)
    elif accumulate:
        torch.addmm(out, a, b, out_dtype=out.dtype, out=out)
    else:
        torch.mm(a, b, out_dtype=out.dtype, out=out)
