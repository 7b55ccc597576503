import pytest
import torch

from corl.checkpoint import save_checkpoint
from corl.config import Optim
from corl.training.batch import TrainSequence, micro_batch
from corl.training.reference import Reference
from corl.training.trainer import Trainer
from corl.training.weights import WeightSource

BATCH = micro_batch([TrainSequence("s", list(range(3, 20)), 4, 0.1, 1.0)], torch.device("cpu"))


@pytest.fixture(params=[False, True], ids=["freed", "kept"])
def setting(request, world, make_sharded, make_session, tmp_path):
    """A session whose stage started from the weights of seed 5 and whose present weights are those of seed 6; with a
    trainer that frees the gathered weights or keeps them for an engine."""
    _, start = make_sharded(seed=5)
    tensors = {f"model.{name}": p for name, p in start.items()}
    path = save_checkpoint(tmp_path / "checkpoints", "step_000001_rl1", tensors, {}, {}, world)
    decoder, parameters = make_sharded(seed=6)
    source = WeightSource("checkpoint", path)
    session = make_session(["easy"], world=world, decoder=decoder, parameters=parameters, stage_source=source)
    return session, Trainer(decoder, parameters, world, Optim(lr=1e-2), 10, keep_gathered=request.param)


def test_the_reference_scores_with_the_stage_s_start_and_leaves_the_policy_as_it_was(
    setting, world, make_sharded, make_decoder
):
    session, trainer = setting
    expected = {}
    for seed in (5, 6):
        decoder, parameters = make_sharded(seed=seed)
        expected[seed] = Trainer(decoder, parameters, world, Optim(lr=1e-2), 10).score(BATCH, 1.0)
    reference = Reference.of_stage_start(session)
    present = dict(make_decoder(seed=6).named_parameters())
    assert all(torch.equal(p.full_tensor(), present[name]) for name, p in session.parameters.items())
    for _ in range(2):  # gathered weights must never be those of the other policy
        assert torch.equal(trainer.score(BATCH, 1.0), expected[6])
        with reference.in_place(trainer):
            assert torch.equal(trainer.score(BATCH, 1.0), expected[5])
    assert torch.equal(trainer.score(BATCH, 1.0), expected[6])
    assert all(torch.equal(p.full_tensor(), present[name]) for name, p in session.parameters.items())


def test_the_reference_stays_while_the_policy_learns(setting):
    session, trainer = setting
    reference = Reference.of_stage_start(session)
    with reference.in_place(trainer):
        before = trainer.score(BATCH, 1.0)

    def head(hidden, weight, grad_weight_out):
        loss = hidden.square().sum() + weight.square().sum()
        return loss, hidden.detach()

    policy = trainer.score(BATCH, 1.0)
    assert trainer.update([BATCH], lambda _: head, 0).applied
    with reference.in_place(trainer):
        assert torch.equal(trainer.score(BATCH, 1.0), before)
    assert not torch.equal(trainer.score(BATCH, 1.0), policy)
