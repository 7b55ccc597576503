"""Exact mode for what treats every token alone (projections, norms, rotation, MLP): the bits of a token's row are the
same in a pack of any length, at any place in it, and in a decode step.

Everything runs on blocks of one fixed number of rows, so every op sees the same shapes whatever the pack; what is left
to matter is a row's place in its block, and whether it does is tried out on the machine at hand.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# T packed tokens, R rows of a block
# Elementwise ops split a block among at most MAX_THREADS threads. 2, 3 and 4 divide 96, so no row is cut: its pieces
# would end in remainders shorter than a vector, for which torch takes another exp.
ROWS_CPU, ROWS_CUDA = 96, 256
MAX_THREADS = 4
TRIED = 4  # rows
LINE = 64  # bytes of a cache line

Compute = Callable[..., tuple[Tensor, ...]]


def all_at_once(compute: Compute, *rows: Tensor) -> tuple[Tensor, ...]:
    """compute(*rows): what a decoder that is not exact does with rows."""
    return compute(*rows)


class InBlocks:
    """compute(*rows), whose bits in a row depend on that row alone.

    compute takes and returns tensors [T, ...] and treats every row for itself. Values come from blocks of R rows, zeros
    below the last; gradients, where they are recorded, from one ordinary call on all rows, which costs a second forward
    and spares the weights a gradient for every block.
    Raises ValueError where this machine gives equal rows of a block unequal numbers, and on a CPU for more threads than
    MAX_THREADS. This is found out when rows of such a shape first come, with a synchronisation on CUDA: call it once
    before capturing a graph.
    """

    def __init__(self) -> None:
        self._tried: set[tuple[object, ...]] = set()

    def __call__(self, compute: Compute, *rows: Tensor) -> tuple[Tensor, ...]:
        tokens, size = len(rows[0]), ROWS_CUDA if rows[0].is_cuda else ROWS_CPU
        with torch.no_grad():
            self._try(compute, rows, size)
            starts = range(0, max(tokens, 1), size)
            blocks = [compute(*(_filled(x[start : start + size], size) for x in rows)) for start in starts]
            whole = blocks[0] if len(blocks) == 1 else map(torch.cat, zip(*blocks, strict=True))
            exact = tuple(out[:tokens] for out in whole)
        if not torch.is_grad_enabled():
            return exact
        return tuple(map(with_gradients_of, exact, compute(*rows)))

    def _try(self, compute: Compute, rows: tuple[Tensor, ...], size: int) -> None:
        device, threads = rows[0].device, torch.get_num_threads()
        key = (device, threads, *((x.shape[1:], x.dtype) for x in rows))
        if key in self._tried:
            return
        if device.type == "cpu" and threads > MAX_THREADS:
            raise ValueError(
                f"exact mode is exact for at most {MAX_THREADS} threads, not {threads}; "
                f"call torch.set_num_threads({MAX_THREADS})"
            )
        for i in range(min(TRIED, len(rows[0]))):
            equal = [x[i : i + 1].expand(size, *x.shape[1:]).contiguous() for x in rows]
            if not all(((out == out[0]) | out.isnan()).all() for out in compute(*equal)):
                raise ValueError(
                    f"exact mode: equal rows of a block come out unequal on {device} with {threads} threads; "
                    "use torch.set_num_threads(1), or exact=False"
                )
        self._tried.add(key)


def aligned_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear of x [R, D] with x and the result in rows that each start on a cache line, without gradients.

    MKL sums a row that starts elsewhere in its line in another order. What fills a line behind a row must be zeros:
    its bf16 products read on to whole blocks of columns, and 0 * NaN is NaN.
    """
    step, columns = LINE // x.element_size(), x.shape[1]
    if columns % step == 0 and len(weight) % step == 0:
        return F.linear(x, weight, bias)
    x = F.pad(x, (0, -columns % step))[:, :columns]
    out = x.new_empty(len(x), -(-len(weight) // step) * step)[:, : len(weight)]
    return torch.mm(x, weight.t(), out=out) if bias is None else torch.addmm(bias, x, weight.t(), out=out)


def with_gradients_of(values: Tensor, ordinary: Tensor) -> Tensor:
    """`values`, whose gradient goes to `ordinary`: the same numbers up to rounding, computed another way."""
    return _WithGradientsOf.apply(values, ordinary)


class _WithGradientsOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, ordinary: Tensor) -> Tensor:
        return values.clone()  # what FSDP2 hooks the backward to must not be a view

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad


def _filled(rows: Tensor, size: int) -> Tensor:
    """Contiguous, with zeros below up to `size` rows."""
    missing = size - len(rows)
    return F.pad(rows, (0, 0) * (rows.ndim - 1) + (0, missing)) if missing else rows.contiguous()
