from dataclasses import replace

import pytest
import torch
from torch.distributed.tensor import DTensor

from corl.config import Optim
from corl.model.attention import packed_attention
from corl.parallel import fsdp_modules
from corl.training.batch import TrainSequence, micro_batch
from corl.training.optimizer import build_optimizer
from corl.training.trainer import Trainer
from corl_kernels import linear_cross_entropy, linear_logprobs, linear_policy_loss

CPU = torch.device("cpu")
OPTIM = Optim(lr=3e-3, warmup_steps=2, weight_decay=0.1, max_grad_norm=0.5)


def sequence(k: int, advantage: float = 1.0) -> TrainSequence:
    ids = [(11 * k + 7 * j) % 61 for j in range(6 + k % 5)]
    return TrainSequence(f"s{k}", ids, 2 + k % 2, 0.05, advantage * (-1) ** k)


def micro_batches(*bins: int):
    """One micro-batch of so many sequences each; 0 is the empty bin."""
    numbers = iter(range(100))
    return [micro_batch([sequence(next(numbers)) for _ in range(size)], CPU) for size in bins]


def policy_head(batch):
    def head(hidden, weight, grad_weight_out):
        tokens = (batch.targets, batch.advantages, batch.token_weights)
        return linear_policy_loss(hidden, weight, *tokens, grad_weight_out=grad_weight_out)

    return head


def plain_steps(decoder, optim, steps):
    """The same updates on an unsharded decoder, written out; returns (losses, gradient norms before clipping)."""
    parameters = dict(decoder.named_parameters())
    optimizer = build_optimizer(parameters, optim)
    losses, norms = [], []
    for step, batches in enumerate(steps):
        optimizer.zero_grad()
        total = 0.0
        for batch in batches:
            hidden = decoder(batch.input_ids, batch.position_ids, packed_attention(batch.cu_seqlens, batch.max_seqlen))
            logits = hidden[batch.rows] @ decoder.head_weight.T
            logprobs = -torch.nn.functional.cross_entropy(logits, batch.targets, reduction="none")
            loss = -(batch.token_weights * batch.advantages * logprobs).sum()
            loss.backward()
            total += loss.item()
        norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in parameters.values()])).item()
        for parameter in parameters.values():
            parameter.grad *= min(1.0, optim.max_grad_norm / (norm + 1e-6))
        for group in optimizer.param_groups:
            group["lr"] = optim.lr * min(1.0, (step + 1) / optim.warmup_steps)
        optimizer.step()
        losses.append(total)
        norms.append(norm)
    return losses, norms


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("max_grad_norm", [0.5, 1e9])
def test_an_update_is_adamw_on_the_unsharded_model(world, make_decoder, make_sharded, tied, max_grad_norm):
    steps = [micro_batches(3, 2, 4), micro_batches(5), micro_batches(2, 0, 1)]
    # Rounding of a gradient near 0 must not become a whole step: eps well above it.
    optim = replace(OPTIM, max_grad_norm=max_grad_norm, eps=1e-4)
    decoder, parameters = make_sharded(seed=2, tied=tied)
    trainer = Trainer(decoder, parameters, world, optim, 10)
    updates = [trainer.update(batches, policy_head, step) for step, batches in enumerate(steps)]

    plain = make_decoder(seed=2, tied=tied)
    before = {name: p.detach().clone() for name, p in plain.named_parameters()}
    losses, norms = plain_steps(plain, optim, steps)
    assert [u.loss for u in updates] == pytest.approx(losses, abs=1e-6)
    assert [u.grad_norm for u in updates] == pytest.approx(norms, rel=1e-6)
    assert (norms[0] > optim.max_grad_norm) is (max_grad_norm == 0.5)
    assert [u.lr for u in updates] == [1.5e-3, 3e-3, 3e-3]
    assert all(u.applied and not u.bad_items for u in updates)
    for name, weight in plain.named_parameters():
        torch.testing.assert_close(parameters[name].full_tensor(), weight, rtol=0, atol=1e-6)
        assert not torch.allclose(weight, before[name], rtol=0, atol=1e-4), name


@pytest.mark.parametrize("shard_gradients", [False, True])
def test_accumulation_is_the_same_as_one_batch(world, make_sharded, shard_gradients):
    weights = {}
    # An eps of 1 makes the first step a smooth function of the gradient.
    optim = replace(OPTIM, eps=1.0, lr=0.5)
    for split in ((9,), (4, 5), (1,) * 9, (3, 0, 6)):
        decoder, parameters = make_sharded()
        trainer = Trainer(decoder, parameters, world, optim, 10, shard_gradients=shard_gradients)
        update = trainer.update(micro_batches(*split), policy_head, 0)
        weights[split] = update, {name: p.full_tensor().detach().clone() for name, p in parameters.items()}
    whole, expected = weights.pop((9,))
    for update, found in weights.values():
        assert update.loss == pytest.approx(whole.loss, abs=1e-6)
        assert update.grad_norm == pytest.approx(whole.grad_norm, rel=1e-6)
        for name, weight in expected.items():
            torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shard_gradients", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_sharded_gradients_leave_nothing_whole_between_micro_batches(world, make_sharded, dtype, shard_gradients):
    decoder, parameters = make_sharded(dtype=dtype)
    trainer = Trainer(decoder, parameters, world, OPTIM, 10, shard_gradients=shard_gradients)
    left = []

    def looking_head(batch):
        whole = [p for p in decoder.parameters() if not isinstance(p, DTensor)]
        groups = [module._get_fsdp_state()._fsdp_param_group for module in fsdp_modules(decoder)]
        gradients = [p.unsharded_accumulated_grad for group in groups for p in group.fsdp_params]
        left.append((len(whole), sum(g is not None for g in gradients), sum(p.grad is not None for p in whole)))
        return policy_head(batch)

    assert trainer.update(micro_batches(3, 2, 4), looking_head, 0).applied
    assert left[0] == (0, 0, 0)
    if shard_gradients:
        assert left[1:] == [(0, 0, 0)] * 2
    else:
        assert all(whole == len(parameters) and max(sums, grads) > 0 for whole, sums, grads in left[1:])


@pytest.mark.parametrize("shard_gradients", [False, True])
def test_bf16_gradients_add_up_in_fp32(world, make_sharded, shard_gradients):
    """Eighteen equal micro-batches have nine times the gradient of two; a sum in bf16 would be off by up to 2^-8."""
    norms = []
    for copies in (2, 18):
        decoder, parameters = make_sharded(dtype=torch.bfloat16)
        trainer = Trainer(decoder, parameters, world, OPTIM, 10, shard_gradients=shard_gradients)
        update = trainer.update(micro_batches(4) * copies, policy_head, 0)
        norms.append(update.grad_norm)
        assert all(p.dtype == torch.float32 for p in parameters.values())
    assert norms[1] == pytest.approx(9 * norms[0], rel=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_the_gradient_of_a_bf16_head_is_never_rounded_to_bf16(world, make_sharded, monkeypatch, tied):
    decoder, parameters = make_sharded(dtype=torch.bfloat16, tied=tied)
    trainer = Trainer(decoder, parameters, world, replace(OPTIM, max_grad_norm=1e9), 10)
    want = torch.zeros_like(decoder.head_weight.full_tensor())
    found = []

    def recording_head(batch):
        def head(hidden, weight, grad_weight_out):
            tokens = (batch.targets, batch.advantages, batch.token_weights)
            copies = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
            with torch.enable_grad():
                linear_policy_loss(*copies, *tokens, grad_weight_out=want).loss.backward()
            return linear_policy_loss(hidden, weight, *tokens, grad_weight_out=grad_weight_out)

        return head

    name = "embed_tokens.weight" if tied else "lm_head.weight"
    monkeypatch.setattr(trainer.optimizer, "step", lambda: found.append(parameters[name].grad.full_tensor().clone()))
    trainer.update(micro_batches(3, 2, 4), recording_head, 0)
    if tied:  # the rows of tokens that are never put in hold the output layer's gradient alone
        seen = {token for batch in micro_batches(3, 2, 4) for token in batch.input_ids.tolist()}
        rows = [token for token in range(len(want)) if token not in seen]
        assert rows
        found, want = [found[0][rows]], want[rows]
    torch.testing.assert_close(found[0], want, rtol=1e-6, atol=1e-9)
    assert (want - want.bfloat16()).abs().max() > 1e-4 * want.abs().max()


def test_activation_checkpointing_changes_no_bit(world, make_sharded):
    found = []
    for enabled in (False, True):
        decoder, parameters = make_sharded()
        decoder.set_activation_checkpointing(enabled)
        trainer = Trainer(decoder, parameters, world, OPTIM, 10)
        updates = [trainer.update(micro_batches(3, 4), policy_head, step) for step in range(2)]
        numbers = [(u.loss, u.grad_norm) for u in updates]
        found.append((numbers, {name: p.full_tensor().detach().clone() for name, p in parameters.items()}))
    (plain_numbers, plain), (numbers, recomputed) = found
    assert numbers == plain_numbers
    assert all(torch.equal(recomputed[name], weight) for name, weight in plain.items())


def test_scoring_and_updating_see_the_same_log_probs(world, make_sharded):
    decoder, parameters = make_sharded()
    trainer = Trainer(decoder, parameters, world, OPTIM, 10)
    batches = micro_batches(3, 4)
    for step in range(2):  # after an update the score is that of the new weights
        scored = [trainer.score(batch, 1.0) for batch in batches]
        update = trainer.update(batches, policy_head, step)
        for logprobs, output in zip(scored, update.outputs, strict=True):
            assert torch.equal(logprobs, output[1])
            assert not logprobs.requires_grad
        assert not any(x.requires_grad for output in update.outputs for x in output[:3])
    assert not torch.equal(trainer.score(batches[0], 1.0), scored[0])


def test_the_head_sees_only_the_rows_that_are_learnt_from(world, make_sharded):
    decoder, parameters = make_sharded()
    trainer = Trainer(decoder, parameters, world, OPTIM, 10)
    (batch,) = micro_batches(4)
    seen = []

    def head(hidden, weight, grad_weight_out):
        seen.append(tuple(hidden.shape))
        logprobs = linear_logprobs(hidden, weight, batch.targets).logprobs
        return linear_cross_entropy(hidden, weight, batch.targets, batch.token_weights), logprobs

    update = trainer.update([batch], lambda _: head, 0)
    assert seen == [(len(batch.targets), 32)]
    assert update.loss == pytest.approx(-(batch.token_weights * update.outputs[0][1]).sum().item(), abs=1e-6)


@pytest.mark.parametrize("poison", ["logprob", "loss", "gradient"])
def test_a_step_that_is_not_finite_is_skipped_and_names_its_items(world, make_sharded, poison):
    decoder, parameters = make_sharded()
    trainer = Trainer(decoder, parameters, world, OPTIM, 10)
    batches = micro_batches(2, 3)
    trainer.update(batches, policy_head, 0)
    weights = {name: p.full_tensor().detach().clone() for name, p in parameters.items()}
    moments = {name: trainer.optimizer.state[p]["exp_avg"].full_tensor().clone() for name, p in parameters.items()}

    def make_head(batch):
        second = batch is batches[1]

        def head(hidden, weight, grad_weight_out):
            output = linear_policy_loss(hidden, weight, batch.targets, batch.advantages, batch.token_weights)
            loss, logprobs = output.loss, output.logprobs.clone()
            if second and poison == "logprob":
                start, end = batch.target_cu_seqlens[1:3].tolist()
                logprobs[start:end] = torch.nan
                loss = loss + torch.nan
            if second and poison == "loss":
                loss = loss + torch.inf
            if second and poison == "gradient":
                loss = loss + (hidden.sum() * 0.0).sqrt()  # a finite loss whose slope is 0 x inf
            return loss, logprobs

        return head

    update = trainer.update(batches, make_head, 1)
    assert not update.applied
    expected = {"logprob": ["s3"], "loss": ["s2", "s3", "s4"], "gradient": ["s0", "s1", "s2", "s3", "s4"]}
    assert update.bad_items == expected[poison]
    for name, parameter in parameters.items():
        assert torch.equal(parameter.full_tensor(), weights[name])
        assert torch.equal(trainer.optimizer.state[parameter]["exp_avg"].full_tensor(), moments[name])
        assert parameter.grad is None
    # The next step is as if this one had never been.
    assert trainer.update(batches, policy_head, 1).applied
