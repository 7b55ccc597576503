"""One sharded update: forward and backward over micro-batches, exact global loss, clipping, the non-finite guard."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from corl.config import Optim
from corl.fsdp2 import gather_in_place, head_gradient
from corl.model.attention import packed_attention
from corl.model.decoder import Decoder
from corl.parallel import Parameters, World, fsdp_modules
from corl.training.batch import MicroBatch
from corl.training.optimizer import build_optimizer, learning_rate
from corl_kernels import linear_logprobs

HeadOutput = tuple[Any, ...]  # (loss, logprobs [R], ...)
# of hidden [R, D], weight [V, D], and the fp32 [V, D] its gradient is added to (None: to autograd's)
Head = Callable[[Tensor, Tensor, Tensor | None], HeadOutput]


@dataclass(frozen=True, slots=True)
class Update:
    """loss: over all ranks. grad_norm: before clipping. outputs: the head's, per micro-batch of this rank."""

    loss: float
    grad_norm: float
    lr: float
    applied: bool
    bad_items: list[str]
    outputs: list[HeadOutput]


class Trainer:
    """A sharded decoder with its optimiser, for SFT and GRPO alike: they differ in the head they hand to `update`."""

    def __init__(
        self,
        decoder: Decoder,
        parameters: Parameters,
        world: World,
        optim: Optim,
        total_steps: int,
        *,
        keep_gathered: bool = False,
        shard_gradients: bool = False,
    ) -> None:
        """keep_gathered: FSDP2 never frees what it has gathered, since an engine reads it in place; it is gathered
        again, at the same addresses, after every change of the shards.
        shard_gradients: the gradients of every micro-batch are summed over the ranks, and what was gathered is freed.
        Without it a rank holds whole fp32 gradients and whole weights between micro-batches: 180 GiB of a 32B model."""
        assert not (keep_gathered and shard_gradients), "the one keeps what the other frees"
        self.decoder, self.parameters, self.world = decoder, parameters, world
        self.optim, self.total_steps, self.keep_gathered = optim, total_steps, keep_gathered
        self.shard_gradients = shard_gradients
        self.optimizer = build_optimizer(parameters, optim)

    def forward(self, batch: MicroBatch, head: Head, *, one_of_several: bool = False) -> HeadOutput:
        attend = packed_attention(batch.cu_seqlens, batch.max_seqlen, exact=self.decoder.exact)

        def head_on_targets(hidden: Tensor, weight: Tensor) -> HeadOutput:
            # FSDP2 reduces gradients of one dtype: after a single backward they all are autograd's
            grad_weight_out = head_gradient(self.decoder) if one_of_several else None
            return head(hidden.index_select(0, batch.rows), weight, grad_weight_out)

        return self.decoder(batch.input_ids, batch.position_ids, attend, head_on_targets)

    def use_shards(self) -> None:
        """Let the next forward see the shards as they are now; a collective. Call it after every change of them."""
        if self.keep_gathered:
            gather_in_place(self.decoder)
        else:
            for module in fsdp_modules(self.decoder):
                module.reshard()

    @torch.no_grad()
    def score(self, batch: MicroBatch, temperature: float) -> Tensor:
        """[R] fp32 log-probs of the batch's targets under the present weights, bitwise those that `update` computes."""

        def head(hidden: Tensor, weight: Tensor, _: Tensor | None) -> HeadOutput:
            rows = self.decoder.head_rows
            return linear_logprobs(hidden, weight, batch.targets, temperature=temperature, chunk_rows=rows)

        return self.forward(batch, head)[0]

    def update(self, batches: list[MicroBatch], make_head: Callable[[MicroBatch], Head], step: int) -> Update:
        """One optimiser step over this rank's micro-batches. `step` counts updates within the stage (for the schedule).

        The heads' losses add up to the loss of the whole step: the normaliser over all ranks stands in token_weights.
        A non-finite loss or gradient norm leaves weights and optimiser as they were and names the items.
        """
        lr = learning_rate(self.optim, step, self.total_steps)
        losses, outputs = [], []
        alone = self.shard_gradients or len(batches) == 1
        for i, batch in enumerate(batches):
            self._gradient_sync(last=alone or i == len(batches) - 1)
            output = self.forward(batch, make_head(batch), one_of_several=not alone)
            output[0].backward()
            losses.append(output[0].detach())
            outputs.append(tuple(x.detach() if isinstance(x, Tensor) else x for x in output))
        loss, bad_losses = self.world.sum([torch.stack(losses).double().sum().item(), sum(_bad(x) for x in losses)])
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        grad_norm = cast(DTensor, get_total_norm(gradients, foreach=True)).full_tensor().item()
        applied = bad_losses == 0 and _finite(loss) and _finite(grad_norm)
        if applied:
            clip_grads_with_norm_(
                self.parameters.values(), self.optim.max_grad_norm, torch.tensor(grad_norm, device=self.world.device)
            )
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.step()
            self.use_shards()
        bad_items = [] if applied else self._name_bad_items(batches, losses, outputs)
        self.optimizer.zero_grad(set_to_none=True)
        return Update(loss, grad_norm, lr, applied, bad_items, outputs)

    def _gradient_sync(self, *, last: bool) -> None:
        """Gradients stay on their rank until the last micro-batch of a sum over the ranks, whose backward makes the sum
        and frees what was gathered."""
        for module in fsdp_modules(self.decoder):
            module.set_is_last_backward(last)
            module.set_requires_gradient_sync(last, recurse=False)
            module.set_reshard_after_backward(last and not self.keep_gathered, recurse=False)

    def _name_bad_items(self, batches: list[MicroBatch], losses: list[Tensor], outputs: list[HeadOutput]) -> list[str]:
        """Items whose own log-probs are not finite; if there are none, those of micro-batches with a non-finite loss;
        if there are none either, all of the step (a gradient alone went wrong)."""
        by_logprob, by_loss, everything = [], [], []
        for batch, loss, output in zip(batches, losses, outputs, strict=True):
            names = [s.name for s in batch.sequences]
            everything += names
            by_loss += names if _bad(loss) else []
            finite = output[1].isfinite().tolist()
            bounds = batch.target_cu_seqlens.tolist()
            by_logprob += [n for n, a, b in zip(names, bounds, bounds[1:], strict=False) if not all(finite[a:b])]
        gathered = self.world.gather((by_logprob, by_loss, everything))
        for kind in range(3):
            names = sorted({name for found in gathered for name in found[kind]})
            if names:
                return names
        return []


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")


def _bad(loss: Tensor) -> bool:
    return not bool(loss.isfinite())
