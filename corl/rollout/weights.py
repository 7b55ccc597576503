"""How the engine gets the trainer's newest weights: it reads them in place, or it keeps copies at fixed addresses."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.distributed.tensor import DTensor

from corl.fsdp2 import compute_dtype, gather_in_place, is_sharded, keep_gathered
from corl.model.decoder import Decoder
from corl.rollout.arena import ArenaWeights
from corl.rollout.head import head_logits
from corl.rollout.tensor_parallel import TensorParallel
from corl.rollout.weight_check import check_weights

# B samples, D hidden, V vocab


@dataclass(frozen=True, slots=True)
class SwapReport:
    """What a weight swap moved: `bytes` of parameters made current, in `seconds` of wall time."""

    bytes: int
    seconds: float


class SharedWeights:
    """The model's own parameters. Under FSDP2 the gathered ones, which from the first refresh on are never freed.

    decoder     the model itself
    current     whether there is something to read: False for an FSDP2 model before the first refresh
    vocabulary  None: logits have every column
    """

    vocabulary = None

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._addresses: dict[str, int] = {}

    @property
    def current(self) -> bool:
        return not isinstance(self.decoder.head_weight, DTensor)

    def logits(self, hidden: Tensor) -> Tensor:
        """fp32 [B, V] of hidden [B, D]."""
        return head_logits(hidden, self.decoder.head_weight)

    def refresh(self, model: Decoder) -> int:
        """Read `model` from now on, as it is; returns the bytes of its parameters. A collective under FSDP2.

        A plain model is read by reference. FSDP2's parameters are gathered into the storage they have.
        """
        if model is not self.decoder:
            self.decoder, self._addresses = model, {}
        if is_sharded(model):
            keep_gathered(model)
            addresses = {name: tensor.data_ptr() for name, tensor in gather_in_place(model).items()}
            moved = [name for name, address in self._addresses.items() if addresses[name] != address]
            assert not moved, f"{moved[0]} has moved since the last swap: captured graphs would read freed memory"
            self._addresses = addresses
        return sum(parameter.nbytes for parameter in model.parameters())

    def verify(self, model: Decoder) -> None:
        """RuntimeError, on every rank alike, naming the tensors whose bits are not the trainer's; a collective."""
        assert self.current, "nothing is gathered yet"
        check_weights(self.decoder, model, None)

    def release(self) -> None:
        """Nothing: the trainer needs the same memory."""

    def restore(self) -> None:
        """Nothing: it was never released."""


Weights = SharedWeights | ArenaWeights


def make_weights(
    model: Decoder, kind: Literal["shared", "arena"], tensor_parallel: TensorParallel | None = None
) -> Weights:
    """The weights of an engine for `model`; those of a plain model are current at once.

    Raises ValueError for another kind, and when shared weights are asked to be slices.
    """
    if kind == "shared":
        if tensor_parallel is not None:
            raise ValueError(
                f"weights='shared' with tensor parallelism over {tensor_parallel.size} ranks: the trainer has no "
                "slices to read; use weights='arena'"
            )
        return SharedWeights(model)
    if kind != "arena":
        raise ValueError(f"weights={kind!r} must be 'shared' or 'arena'")
    device = model.head_weight.device
    weights = ArenaWeights(model.config, dtype=compute_dtype(model), device=device, tensor_parallel=tensor_parallel)
    if not is_sharded(model):
        weights.refresh(model)
    return weights
