import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

import corl.rollout.weights
from corl.model.attention import packed_attention
from corl.rollout.engine import Engine
from corl.rollout.request import Request
from corl.rollout.tensor_parallel import TensorParallel
from corl.rollout.weights import SharedWeights, make_weights

REQUESTS = [Request([1, 2, 3], n=4, max_tokens=12)]
IDS = torch.arange(20)
KINDS = ("shared", "arena")


def parameter_bytes(model):
    return sum(parameter.nbytes for parameter in model.parameters())


def forward(model, *, run=False):
    attend = packed_attention(torch.tensor([0, 20], dtype=torch.int32), 20)
    return (model.run if run else model)(IDS, IDS, attend)


@pytest.fixture
def sharded(make_decoder):
    """sharded(seed): a model under FSDP2 on one rank."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)

    def make(seed=0):
        model = make_decoder(seed)
        for layer in model.layers:
            fully_shard(layer)
        fully_shard(model)
        return model

    yield make
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_model_is_swapped_in(make_decoder, kind):
    first, second = make_decoder(seed=0), make_decoder(seed=1)
    engine = Engine(first, page_size=16, weights=kind)
    assert engine.generate(REQUESTS) == Engine(first, page_size=16).generate(REQUESTS)
    report = engine.swap_weights(second)
    assert engine.model is second
    assert report.bytes == parameter_bytes(second)
    assert report.seconds >= 0
    engine.verify_weights(second)
    assert engine.generate(REQUESTS) == Engine(second, page_size=16).generate(REQUESTS)


def test_weights_changed_in_place_are_the_ones_used(make_decoder):
    model = make_decoder(seed=0)
    engine = Engine(model, page_size=16)
    engine.generate(REQUESTS)
    model.load_state_dict(make_decoder(seed=1).state_dict())
    assert engine.generate(REQUESTS) == Engine(make_decoder(seed=1), page_size=16).generate(REQUESTS)


def test_an_arena_has_the_weights_of_the_last_swap(make_decoder):
    model = make_decoder(seed=0)
    engine = Engine(model, page_size=16, weights="arena")
    before = engine.generate(REQUESTS)
    model.load_state_dict(make_decoder(seed=1).state_dict())
    assert engine.generate(REQUESTS) == before
    with pytest.raises(RuntimeError, match="is not the trainer's on rank 0"):
        engine.verify_weights(model)
    engine.swap_weights(model)
    engine.verify_weights(model)
    assert engine.generate(REQUESTS) != before


@pytest.mark.parametrize("kind", KINDS)
def test_another_architecture_is_refused(make_decoder, kind):
    with pytest.raises(ValueError, match="another config"):
        Engine(make_decoder(), weights=kind).swap_weights(make_decoder(max_positions=64))


@pytest.mark.parametrize("kind", KINDS)
def test_fsdp2_weights_are_current_after_a_step_and_training_goes_on(make_decoder, sharded, kind):
    plain, model = make_decoder(), sharded()
    engine = Engine(model, page_size=16, weights=kind)
    with pytest.raises(ValueError, match="swap_weights"):
        engine.generate(REQUESTS)
    optimizers = {m: torch.optim.SGD(m.parameters(), lr=0.1) for m in (plain, model)}
    for step in range(3):
        for m, optimizer in optimizers.items():
            attend = packed_attention(torch.tensor([0, 20], dtype=torch.int32), 20)
            m(IDS, IDS, attend, head=lambda hidden, weight: (hidden @ weight.T).logsumexp(-1).sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
        if kind == "shared":
            error, what = (RuntimeError, "is not the trainer's") if step else (AssertionError, "nothing is gathered")
            with pytest.raises(error, match=what):
                engine.verify_weights(model)
        report = engine.swap_weights(model)
        assert report.bytes == parameter_bytes(plain)
        engine.verify_weights(model)
        expected = Engine(plain, page_size=16).generate(REQUESTS)
        assert [c.ids for c in engine.generate(REQUESTS)] == [c.ids for c in expected]
        with torch.no_grad():
            torch.testing.assert_close(forward(model), forward(plain))


def test_gathered_weights_that_move_are_a_bug(make_decoder, sharded, monkeypatch):
    model = sharded()
    weights = SharedWeights(model)
    assert not weights.current
    weights.refresh(model)
    assert weights.current
    weights.refresh(model)
    gather = corl.rollout.weights.gather_in_place
    monkeypatch.setattr(
        corl.rollout.weights, "gather_in_place", lambda m: {name: x.clone() for name, x in gather(m).items()}
    )
    with pytest.raises(AssertionError, match=r"embed_tokens.weight has moved"):
        weights.refresh(model)
    weights.refresh(sharded(seed=1))  # another model has addresses of its own


def test_shared_weights_are_whole(make_decoder):
    with pytest.raises(ValueError, match="over 2 ranks: the trainer has no slices to read; use weights='arena'"):
        make_weights(make_decoder(), "shared", TensorParallel(None, 0, 2))
