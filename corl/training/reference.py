"""The reference policy of a KL term: the weights a stage started from, kept as shards beside the policy's."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from corl.parallel import Parameters
from corl.training.session import Session
from corl.training.trainer import Trainer
from corl.training.weights import load_weights


class Reference:
    """One more copy of the sharded weights (4 bytes per parameter / ranks). It takes the policy's
    place while it is scored."""

    def __init__(self, shards: dict[str, Tensor]) -> None:
        self._shards = shards

    @classmethod
    def of_stage_start(cls, session: Session) -> "Reference":
        """The weights that session.stage_source names; a collective. The present weights are left as they are."""
        present = {name: p.to_local().detach().clone() for name, p in session.parameters.items()}
        load_weights(session.stage_source, session.parameters)
        reference = cls(present)
        reference._exchange(session.parameters)
        return reference

    @contextmanager
    def in_place(self, trainer: Trainer) -> Iterator[None]:
        """Within the block the trainer's decoder computes with the reference weights."""
        self._swap(trainer)
        yield
        self._swap(trainer)

    def _swap(self, trainer: Trainer) -> None:
        self._exchange(trainer.parameters)
        trainer.use_shards()

    @torch.no_grad()
    def _exchange(self, parameters: Parameters) -> None:
        for name, parameter in parameters.items():
            local = parameter.to_local()
            kept = local.clone()
            local.copy_(self._shards[name])
            self._shards[name] = kept
