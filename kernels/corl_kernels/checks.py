"""The errors every op raises: shapes, dtypes, devices and values out of range."""

import torch
from torch import Tensor

IGNORE = -100
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
    # equal shapes first: ops of every decode step come through here, several times a layer
    if sizes != shape and (
        len(sizes) != len(shape) or any(want not in (None, have) for want, have in zip(shape, sizes, strict=True))
    ):
        wanted = ", ".join("*" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} has shape {list(sizes)}; it must be [{wanted}]")
    if value.dtype not in dtypes:
        raise ValueError(f"{name} is {value.dtype}; it must be one of {', '.join(map(str, dtypes))}")
    if value.device != like.device:
        raise ValueError(f"{name} is on {value.device} but the other inputs are on {like.device}; move it there")


def check_head(hidden: Tensor, weight: Tensor, prefix: str = "") -> None:
    """Raise ValueError unless hidden [T, H] and weight [V, H] share H, dtype (bf16, fp32; fp64 too) and device."""
    check_tensor(f"{prefix}hidden", hidden, (None, None), hidden)
    if hidden.is_cuda and hidden.dtype == torch.float64:
        raise ValueError(f"{prefix}hidden is torch.float64; on CUDA it must be torch.bfloat16 or torch.float32")
    check_tensor(f"{prefix}weight", weight, (None, hidden.shape[1]), hidden, (hidden.dtype,))
    if len(weight) == 0:
        raise ValueError(f"{prefix}weight has no rows; a vocabulary holds at least one token")


def check_targets(targets: Tensor, hidden: Tensor, vocab_size: int) -> None:
    """Raise ValueError unless targets is int64 [T] and, on the CPU, every id is in the vocabulary or IGNORE."""
    check_tensor("targets", targets, (hidden.shape[0],), hidden, (torch.int64,))
    if not targets.is_cuda and len(targets):
        low, high = bounds(torch.where(targets == IGNORE, 0, targets))
        if low < 0 or high >= vocab_size:
            wrong = low if low < 0 else high
            raise ValueError(f"targets hold {wrong}; an id must be in [0, {vocab_size}) or {IGNORE} (ignored)")


def bounds(values: Tensor) -> list:
    """[least, greatest] as Python numbers. tolist() reads CPU memory itself: no op a trace would count as a wait."""
    return torch.stack(torch.aminmax(values)).tolist()


def row_temperature(temperature: float | Tensor, hidden: Tensor) -> Tensor | None:
    """The temperature as [T] in the dtype of the statistics; None where it is the number 1 and changes nothing."""
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    if isinstance(temperature, Tensor):
        check_tensor("temperature", temperature, (hidden.shape[0],), hidden)
        if not temperature.is_cuda and len(temperature):
            least, greatest = bounds(temperature)
            if not 0 < least <= greatest < float("inf"):
                wrong = greatest if least > 0 else least
                raise ValueError(f"temperature holds {wrong}; every entry must be finite and above 0")
        return temperature.detach().to(dtype).contiguous()
    if not isinstance(temperature, int | float):
        raise ValueError(f"temperature is a {type(temperature).__name__}; pass a number or a tensor [T]")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature={temperature} must be finite and above 0")
    return None if temperature == 1 else torch.full(hidden.shape[:1], temperature, dtype=dtype, device=hidden.device)
