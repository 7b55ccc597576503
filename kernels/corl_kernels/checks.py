"""The errors every op raises: shapes, dtypes, devices and values out of range."""

import torch
from torch import Tensor

IGNORE = -100  # a target that predicts nothing
ELSEWHERE = -101  # a target whose column of a sliced vocabulary another rank holds
_DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


def check_tensor(
    name: str, value: Tensor, shape: tuple[int | None, ...], like: Tensor, dtypes: tuple[torch.dtype, ...] = _DTYPES
) -> None:
    """Raise ValueError unless `value` has the shape (None: any size), one of the dtypes, and the device of `like`."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}; pass a tensor")
    if hasattr(value, "to_local"):
        raise ValueError(f"{name} is a DTensor; pass {name}.to_local() or call unshard() on its FSDP module first")
    sizes = tuple(value.shape)
    # equal shapes first: ops of every decode step come through here, several times a layer
    if sizes != shape and not (
        len(sizes) == len(shape) and all(want is None or want == have for want, have in zip(shape, sizes, strict=True))
    ):
        wanted = ", ".join("*" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} has shape {list(sizes)}; it must be [{wanted}]")
    if value.dtype not in dtypes:
        raise ValueError(f"{name} is {value.dtype}; it must be one of {', '.join(map(str, dtypes))}")
    if value.device != like.device:
        raise ValueError(f"{name} is on {value.device} but the other inputs are on {like.device}; move it there")


def check_head(hidden: Tensor, weight: Tensor, prefix: str = "") -> None:
    """Raise ValueError unless hidden [.., H] and weight [V, H] share H, device and dtype (bf16, fp16, fp32; on a CPU
    fp64 too). Under autocast their dtypes may differ: both are rounded to autocast's."""
    check_tensor(f"{prefix}hidden", hidden, (None,) * max(2, getattr(hidden, "ndim", 2)), hidden)
    if hidden.is_cuda and hidden.dtype == torch.float64:
        raise ValueError(f"{prefix}hidden is torch.float64; on CUDA it must be torch.bfloat16 or torch.float32")
    autocast = torch.is_autocast_enabled(hidden.device.type)
    check_tensor(f"{prefix}weight", weight, (None, hidden.shape[-1]), hidden, _DTYPES if autocast else (hidden.dtype,))
    if len(weight) == 0:
        raise ValueError(f"{prefix}weight has no rows; a vocabulary holds at least one token")


def check_targets(targets: Tensor, hidden: Tensor, vocab_size: int) -> None:
    """Raise ValueError unless targets is int32 or int64 with the leading sizes of hidden and, on the CPU, every id is
    in the vocabulary or IGNORE."""
    check_tensor("targets", targets, tuple(hidden.shape[:-1]), hidden, (torch.int64, torch.int32))
    if values_are_known(targets):
        low, high = bounds(torch.where(targets == IGNORE, 0, targets))
        if low < 0 or high >= vocab_size:
            wrong = low if low < 0 else high
            raise ValueError(f"targets hold {wrong}; an id must be in [0, {vocab_size}) or {IGNORE} (ignored)")


def flat_targets(targets: Tensor) -> Tensor:
    """[T] int64, contiguous, as the row kernels read them."""
    return targets.reshape(-1).to(torch.int64).contiguous()


def shaped(values: Tensor, shape: torch.Size) -> Tensor:
    """The values of T tokens in the shape the caller gave; no view where that is [T], as FSDP2 warns of views."""
    return values if values.shape == shape else values.view(shape)


def values_are_known(values: Tensor) -> bool:
    """Whether there are values that can be read without waiting for a device, and not just traced by a compiler."""
    return not values.is_cuda and values.numel() > 0 and not torch.compiler.is_compiling()


def check_bias(bias: Tensor | None, weight: Tensor) -> None:
    if bias is not None:
        check_tensor("bias", bias, (len(weight),), weight)


def check_softcap(softcap: float | None) -> None:
    if softcap is not None and not (isinstance(softcap, int | float) and 0 < softcap < float("inf")):
        raise ValueError(f"softcap={softcap!r} must be finite and above 0, or None for no bound")


def check_chunk_rows(chunk_rows: int | None) -> None:
    if chunk_rows is not None and not (isinstance(chunk_rows, int) and chunk_rows > 0 and chunk_rows % 16 == 0):
        raise ValueError(f"chunk_rows={chunk_rows!r} must be a multiple of 16, or None for even chunks")


def bounds(values: Tensor) -> list:
    """[least, greatest] as Python numbers. tolist() reads CPU memory itself: no op a trace would count as a wait."""
    return torch.stack(torch.aminmax(values)).tolist()


def row_temperature(temperature: float | Tensor, hidden: Tensor) -> Tensor | None:
    """The temperature of each of the T tokens in the dtype of the statistics; None where it is the number 1 and changes
    nothing."""
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    if isinstance(temperature, Tensor):
        check_tensor("temperature", temperature, tuple(hidden.shape[:-1]), hidden)
        if values_are_known(temperature):
            least, greatest = bounds(temperature)
            if not 0 < least <= greatest < float("inf"):
                wrong = greatest if least > 0 else least
                raise ValueError(f"temperature holds {wrong}; every entry must be finite and above 0")
        return temperature.detach().to(dtype).reshape(-1).contiguous()
    if not isinstance(temperature, int | float):
        raise ValueError(f"temperature is a {type(temperature).__name__}; pass a number or a tensor [T]")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature={temperature} must be finite and above 0")
    if temperature == 1:
        return None
    return torch.full((hidden.shape[:-1].numel(),), temperature, dtype=dtype, device=hidden.device)
