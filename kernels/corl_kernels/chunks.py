"""Rows of logits, a fixed number at a time: what every op on the language-model head shares."""

import torch
from torch import Tensor

# T tokens, H hidden, V vocabulary, C rows of a chunk
IGNORE = -100
ROWS_CPU, ROWS_CUDA = 256, 4096
_DTYPES = (torch.bfloat16, torch.float32, torch.float64)


def check_tensor(
    name: str, value: Tensor, shape: tuple[int | None, ...], like: Tensor, dtypes: tuple[torch.dtype, ...] = _DTYPES
) -> None:
    """Raise ValueError unless `value` has the shape (None: any size), one of the dtypes, and the device of `like`."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}; pass a tensor")
    if hasattr(value, "to_local"):
        raise ValueError(f"{name} is a DTensor; pass {name}.to_local() or call unshard() on its FSDP module first")
    sizes = tuple(value.shape)
    if len(sizes) != len(shape) or any(want not in (None, have) for want, have in zip(shape, sizes, strict=True)):
        wanted = ", ".join("*" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} has shape {list(sizes)}; it must be [{wanted}]")
    if value.dtype not in dtypes:
        raise ValueError(f"{name} is {value.dtype}; it must be one of {', '.join(map(str, dtypes))}")
    if value.device != like.device:
        raise ValueError(f"{name} is on {value.device} but the other inputs are on {like.device}; move it there")


def check_head(hidden: Tensor, weight: Tensor, prefix: str = "") -> None:
    """Raise ValueError unless hidden [T, H] and weight [V, H] share H, dtype (bf16, fp32; fp64 too) and device."""
    check_tensor(f"{prefix}hidden", hidden, (None, None), hidden)
    check_tensor(f"{prefix}weight", weight, (None, hidden.shape[1]), hidden, (hidden.dtype,))


def check_targets(targets: Tensor, hidden: Tensor, vocab_size: int) -> None:
    """Raise ValueError unless targets is int64 [T] and, on the CPU, every id is in the vocabulary or IGNORE."""
    check_tensor("targets", targets, (hidden.shape[0],), hidden, (torch.int64,))
    if not targets.is_cuda:
        wrong = targets[((targets < 0) & (targets != IGNORE)) | (targets >= vocab_size)]
        if len(wrong):
            raise ValueError(f"targets hold {int(wrong[0])}; an id must be in [0, {vocab_size}) or {IGNORE} (ignored)")


def row_temperature(temperature: float | Tensor, hidden: Tensor) -> Tensor | None:
    """The temperature as [T] in the dtype of the statistics; None where it is the number 1 and changes nothing."""
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    if isinstance(temperature, Tensor):
        check_tensor("temperature", temperature, (hidden.shape[0],), hidden)
        if not temperature.is_cuda and not bool((temperature > 0).all()):
            raise ValueError(f"temperature holds {float(temperature.min())}; every entry must be above 0")
        return temperature.detach().to(dtype)
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature={temperature} must be finite and above 0")
    return None if temperature == 1 else torch.full(hidden.shape[:1], temperature, dtype=dtype, device=hidden.device)


class Head:
    """softmax(hidden @ weight.T / temperature), C rows at a time in reused buffers, and the way back through it.

    Every chunk, the last one too, is one GEMM of the same shape on an aligned copy of the rows (zeros below them), so
    that a token's numbers do not depend on its place nor on the length of the pack. Statistics are fp32 (fp64 for fp64
    inputs). GEMMs run in the inputs' dtype with fp32 results on CUDA and, no such GEMM existing there, in fp32 on CPU.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, temperature: Tensor | None, targets: Tensor | None = None):
        tokens, width = hidden.shape
        self.rows = ROWS_CUDA if hidden.is_cuda else ROWS_CPU
        self.dtype = torch.promote_types(hidden.dtype, torch.float32)
        self.gemm_dtype = hidden.dtype if hidden.is_cuda else self.dtype
        self.hidden, self.weight, self.temperature = hidden, weight.detach().to(self.gemm_dtype), temperature
        # A row stride of whole cache lines: MKL sums a row that starts elsewhere in its line in another order.
        stride = -(-width // 16) * 16
        self.x = hidden.new_zeros(self.rows, stride, dtype=self.gemm_dtype)[:, :width]
        self.logits = hidden.new_empty(self.rows, len(weight), dtype=self.dtype)
        self.probs: Tensor | None = None
        self.grad_hidden: Tensor | None = None
        self.grad_weight: Tensor | None = None
        if targets is not None:
            self.ignored = targets == IGNORE
            self.invalid = ((targets < 0) & ~self.ignored) | (targets >= len(weight))
            self.targets = torch.where(self.ignored | self.invalid, 0, targets)

    def want_gradients(self, hidden: bool, weight: bool) -> None:
        """Allocate the sums that `accumulate` fills: grad_hidden [T, H] and grad_weight [V, H], the latter fp32."""
        if hidden:
            self.grad_hidden = self.hidden.new_empty(self.hidden.shape, dtype=self.gemm_dtype)
        if weight:
            self.grad_weight = self.weight.new_zeros(self.weight.shape, dtype=self.dtype)

    def chunks(self, start: int, stop: int) -> list[tuple[int, int]]:
        return [(first, min(first + self.rows, stop)) for first in range(start, stop, self.rows)]

    def log_softmax(self, start: int, stop: int) -> Tensor:
        """Log-probabilities [stop - start, V] of the tokens start..stop, at most C, in the chunk's own buffer."""
        count = stop - start
        self.x[:count].copy_(self.hidden[start:stop])
        self.x[count:].zero_()
        torch.addmm(self.logits, self.x, self.weight.t(), beta=0, out=self.logits)
        if self.temperature is not None:
            self.logits[:count].div_(self.temperature[start:stop, None])
        return torch.log_softmax(self.logits, dim=-1, out=self.logits)[:count]

    def score(self, start: int, stop: int, *, entropy: bool) -> tuple[Tensor, Tensor | None]:
        """Log-probability of each target and, on demand, the entropy, both [stop - start]; `backward` may follow."""
        rows = self.log_softmax(start, stop)
        ignored = self.ignored[start:stop]
        picked = rows.gather(1, self.targets[start:stop, None])[:, 0].masked_fill(ignored, 0.0)
        picked = picked.masked_fill(self.invalid[start:stop], float("nan"))
        if not entropy:
            self.probs = None
            return picked, None
        if self.probs is None:
            self.probs = torch.empty_like(self.logits)
        rows.mul_(torch.exp(rows, out=self.probs[: stop - start]))
        self.entropy = -rows.sum(-1)
        return picked, self.entropy.masked_fill(ignored, 0.0)

    def backward(self, start: int, stop: int, grad_logprobs: Tensor, grad_entropy: Tensor | None = None) -> None:
        """Add the gradients of the tokens `score` has just been called with; consumes the chunk's buffers."""
        ignored, invalid = self.ignored[start:stop], self.invalid[start:stop]
        slope = grad_logprobs.masked_fill(ignored, 0.0).masked_fill(invalid, float("nan"))
        if self.temperature is not None:
            slope = slope / self.temperature[start:stop]
        rows = self.logits[: stop - start]
        if grad_entropy is None:
            dlogits = rows.exp_() if self.probs is None else self.probs[: stop - start]
            dlogits.mul_(-slope[:, None])
        else:
            assert self.probs is not None, "score the chunk with entropy=True"
            # dentropy/dlogit = -p (log p + entropy); `rows` already holds p log p
            slope_entropy = grad_entropy.masked_fill(ignored, 0.0)
            if self.temperature is not None:
                slope_entropy = slope_entropy / self.temperature[start:stop]
            dlogits = self.probs[: stop - start].mul_(-(slope + slope_entropy * self.entropy)[:, None])
            dlogits.sub_(rows.mul_(slope_entropy[:, None]))
        dlogits.scatter_add_(1, self.targets[start:stop, None], slope[:, None])
        self.accumulate(start, stop, dlogits)

    def accumulate(self, start: int, stop: int, dlogits: Tensor) -> None:
        """grad_hidden[start:stop] = dlogits @ weight and grad_weight += dlogits.T @ hidden[start:stop], if wanted."""
        dlogits = dlogits.to(self.gemm_dtype)
        if self.grad_hidden is not None:
            rows = self.grad_hidden[start:stop]
            torch.addmm(rows, dlogits, self.weight, beta=0, out=rows)
        if self.grad_weight is not None:
            torch.addmm(self.grad_weight, dlogits.t(), self.x[: stop - start], out=self.grad_weight)

    def gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """grad_hidden and grad_weight, each rounded once to the dtype of the inputs."""
        grad_hidden, grad_weight = self.grad_hidden, self.grad_weight
        return (
            None if grad_hidden is None else grad_hidden.to(self.hidden.dtype),
            None if grad_weight is None else grad_weight.to(self.hidden.dtype),
        )
