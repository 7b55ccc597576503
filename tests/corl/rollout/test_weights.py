import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

from corl.rollout.engine import Engine
from corl.rollout.request import Request

REQUESTS = [Request([1, 2, 3], n=4, max_tokens=12)]


def parameter_bytes(model):
    return sum(parameter.nbytes for parameter in model.parameters())


def test_a_plain_model_is_taken_by_reference(make_decoder):
    first, second = make_decoder(seed=0), make_decoder(seed=1)
    engine = Engine(first, page_size=16)
    engine.generate(REQUESTS)
    report = engine.swap_weights(second)
    assert engine.model is second
    assert report.bytes == parameter_bytes(second)
    assert report.seconds >= 0
    assert engine.generate(REQUESTS) == Engine(second, page_size=16).generate(REQUESTS)


def test_weights_changed_in_place_are_the_ones_used(make_decoder):
    model = make_decoder(seed=0)
    engine = Engine(model, page_size=16)
    engine.generate(REQUESTS)
    model.load_state_dict(make_decoder(seed=1).state_dict())
    assert engine.generate(REQUESTS) == Engine(make_decoder(seed=1), page_size=16).generate(REQUESTS)


def test_another_architecture_is_refused(make_decoder):
    with pytest.raises(ValueError, match="another config"):
        Engine(make_decoder()).swap_weights(make_decoder(max_positions=64))


@pytest.fixture
def process_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_fsdp2_weights_are_current_after_a_step_and_training_goes_on(make_decoder, process_group):
    from corl.model.attention import packed_attention

    plain, sharded = make_decoder(), make_decoder()
    for layer in sharded.layers:
        fully_shard(layer)
    fully_shard(sharded)
    engine = Engine(sharded, page_size=16)
    with pytest.raises(ValueError, match="swap_weights"):
        engine.generate(REQUESTS)

    ids = torch.arange(20)
    attend = packed_attention(torch.tensor([0, 20], dtype=torch.int32), 20)
    optimizers = {model: torch.optim.SGD(model.parameters(), lr=0.1) for model in (plain, sharded)}
    for _ in range(3):
        for model, optimizer in optimizers.items():
            model(ids, ids, attend, head=lambda hidden, weight: (hidden @ weight.T).logsumexp(-1).sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
        report = engine.swap_weights(sharded)
        assert report.bytes == parameter_bytes(plain)
        expected = Engine(plain, page_size=16).generate(REQUESTS)
        assert [c.ids for c in engine.generate(REQUESTS)] == [c.ids for c in expected]
        for got, wanted in zip(sharded.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(got, wanted)
