"""The cuts of a model in this process; the sliced model on four ranks in processes that run this file as a script."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from corl.model.attention import packed_attention
from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.model.rope import RopeConfig
from corl.parallel import init_world, matrix
from corl.rollout.arena import ArenaWeights
from corl.rollout.engine import Engine
from corl.rollout.head import head_logits
from corl.rollout.request import Request
from corl.rollout.tensor_parallel import (
    BUFFER_BYTES,
    TensorParallel,
    check_tensor_parallel,
    cut_of,
    local_config,
    local_decoder,
    tensor_parallel_group,
)
from corl_kernels import sample_tokens, vocabulary_slice

CPU = torch.device("cpu")
QWEN2 = ModelConfig(
    model_type="qwen2", vocab_size=61, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=8,
    num_kv_heads=2, head_dim=8, max_positions=128, rms_norm_eps=1e-6, rope=RopeConfig(1000.0),
    qkv_bias=True, qk_norm=False, tie_word_embeddings=True, dtype=torch.float32,
)  # fmt: skip
QWEN3 = replace(QWEN2, model_type="qwen3", qkv_bias=False, qk_norm=True, tie_word_embeddings=False)


def whole(config, seed=0):
    model = Decoder(config)
    model.init_weights(torch.Generator().manual_seed(seed), std=0.2)
    return model


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize(
    "config", [QWEN2, QWEN3, replace(QWEN3, vocab_size=700)], ids=["qwen2", "qwen3", "several blocks"]
)
def test_the_slices_of_all_ranks_are_the_model(config, size):
    """Every element of a full parameter is in as many slices as have it: 1, or more where key heads are shared."""
    full = whole(config)
    for rank in range(size):
        local = local_decoder(config, None if size == 1 else TensorParallel(None, rank, size))
        assert local.embed_tokens.weight.is_meta
        assert [n for n, _ in local.named_parameters()] == [n for n, _ in full.named_parameters()]
    shapes = {name: matrix(p).shape for name, p in local.named_parameters()}
    for name, parameter in full.named_parameters():
        counts = torch.zeros(matrix(parameter).shape, dtype=torch.int64)
        for rank in range(size):
            own = torch.zeros(shapes[name], dtype=torch.int64)
            cut = cut_of(name, shapes[name][0], config, rank, size)
            for start in range(0, len(counts), 7):  # however the rows come, seven at a time or fewer
                rows = counts[start : start + 7]
                for place, own_place in cut.overlaps(start, len(rows)):
                    rows[place] += 1
                    own[own_place] += 1
            vocabulary = "embed" in name or "lm_head" in name  # of which a rank may hold few rows, or none
            assert own.max() <= 1 and (own.all() or vocabulary)
        if "norm" in name:
            assert (counts == size).all()
        elif "qkv_proj" in name:
            kv = 2 * config.num_kv_heads * config.head_dim
            assert (counts[:-kv] == 1).all() and (counts[-kv:] == max(1, size // config.num_kv_heads)).all()
        else:
            assert (counts == 1).all(), name


@pytest.mark.parametrize(
    ("changes", "size", "message"),
    [
        ({}, 16, "16 does not divide the model's num_attention_heads=8"),
        ({"intermediate_size": 50}, 4, "4 does not divide the model's intermediate_size=50"),
        ({"num_kv_heads": 3, "num_heads": 12}, 4, "4 neither divides the model's num_key_value_heads=3 nor"),
    ],
)
def test_models_that_do_not_split_are_refused(changes, size, message):
    with pytest.raises(ValueError, match=rf"rollout.tensor_parallel: {message}"):
        local_config(replace(QWEN2, **changes), size)


@pytest.mark.parametrize(
    ("ranks", "on_machine", "size", "message"),
    [
        (6, 6, 4, r"4 does not divide the 6 rank\(s\); start a multiple of it, or lower it"),
        (1, 1, 2, r"2 does not divide the 1 rank\(s\)"),
        (8, 2, 4, "4 does not divide the 2 ranks of a machine, so a group would cross machines"),
        (8, 4, 4, None),
        (3, 3, 1, None),
    ],
)
def test_groups_fill_the_world_and_lie_on_one_machine(monkeypatch, ranks, on_machine, size, message):
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(on_machine))
    if message is None:
        return check_tensor_parallel(size, QWEN2)
    for check in (
        lambda: check_tensor_parallel(size, QWEN2),
        lambda: tensor_parallel_group(SimpleNamespace(size=ranks, rank=0, device=CPU), size),
    ):
        with pytest.raises(ValueError, match=rf"rollout.tensor_parallel: {message}"):
            check()
    return None


def test_one_rank_needs_no_group():
    assert tensor_parallel_group(SimpleNamespace(size=3, rank=1, device=CPU), 1) is None


class Calls(TorchDispatchMode):
    """The names of the operators that were called, with arguments that fit their schemas."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        if self.names[-1] == "two_shot_all_reduce_":  # in place; it has no fake kernel
            return args[0]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("rows", "dtype", "operator"),
    [
        (1, torch.bfloat16, "one_shot_all_reduce_copy"),
        (64, torch.bfloat16, "one_shot_all_reduce_copy"),
        (64, torch.float32, "two_shot_all_reduce_"),
        (1024, torch.bfloat16, "two_shot_all_reduce_"),
        (1025, torch.bfloat16, "nccl"),
    ],
)
def test_sums_on_a_gpu_by_size(monkeypatch, rows, dtype, operator):
    """Without one: torch's fake tensors check the operators' schemas, shapes and dtypes, not what they compute."""
    reduced = []
    monkeypatch.setattr(dist, "all_reduce", lambda x, group: reduced.append(x))
    monkeypatch.setattr(torch.Tensor, "copy_", lambda self, other: self)  # which asks for the device
    with FakeTensorMode(), Calls() as calls:
        buffer = torch.empty(BUFFER_BYTES, dtype=torch.uint8, device="cuda")
        parallel = TensorParallel(SimpleNamespace(group_name="group"), 0, 2, buffer)
        x = torch.empty(rows, 4096, dtype=dtype, device="cuda")
        total = parallel.all_reduce(x)
    assert (total.shape, total.dtype, total.device) == (x.shape, dtype, x.device)
    assert [name for name in calls.names if "all_reduce" in name] == ([operator] if operator != "nccl" else [])
    assert len(reduced) == (operator == "nccl")


@pytest.mark.slow
def test_four_ranks_are_the_model_of_one(run_ranks):
    run_ranks(__file__, 4)


def check_collectives(world, parallel):
    generator = torch.Generator().manual_seed(world.rank // parallel.size)
    terms = torch.randn(parallel.size, 7, 33, generator=generator) * 10.0 ** torch.arange(parallel.size)[:, None, None]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    for rows in (slice(None), slice(3, 4)):  # a row's sum does not depend on its company
        assert torch.equal(parallel.all_reduce(terms[parallel.rank, rows].clone()), total[rows])
    strided = terms[parallel.rank].T
    assert torch.equal(parallel.all_reduce(strided), total.T)

    assert parallel.smallest(7 - parallel.rank) == 8 - parallel.size
    parallel.assert_equal(["a", 1])
    with pytest.raises(AssertionError, match="disagree"):
        parallel.assert_equal(["a", world.rank])


def check_forward(config, parallel):
    model = whole(config)
    weights = ArenaWeights(config, dtype=torch.float32, device=CPU, tensor_parallel=parallel)
    weights.refresh(model)
    ids = torch.arange(40) * 7 % config.vocab_size
    positions = torch.cat([torch.arange(25), torch.arange(15)])
    attend = packed_attention(torch.tensor([0, 25, 40], dtype=torch.int32), 25)
    with torch.inference_mode():
        wanted, hidden = model.run(ids, positions, attend), weights.decoder.run(ids, positions, attend)
        torch.testing.assert_close(hidden, wanted, rtol=0, atol=1e-5)
        first, count = vocabulary_slice(config.vocab_size, parallel.rank, parallel.size)
        logits = weights.logits(wanted)
        assert logits.shape == (40, count) and logits.dtype == torch.float32
        whole_logits = head_logits(wanted, model.head_weight)
        torch.testing.assert_close(logits, whole_logits[:, first : first + count], rtol=0, atol=1e-5)
    check_draws(whole_logits, whole_logits[:, first : first + count], weights.vocabulary)


def check_draws(whole_logits, own_logits, vocabulary):
    """The same bits from the ranks' columns as from all of them, cut and not."""
    rows = len(whole_logits)
    state = {
        "temperature": torch.tensor([0.0, 0.7, 1.0, 1.4]).repeat(rows)[:rows],
        "seeds": torch.arange(rows) * 0x9E3779B97F4A7C15 % 2**63 - 2**62,
        "positions": torch.arange(rows),
    }
    limits = {
        "top_k": torch.tensor([0, 5, 40]).repeat(rows)[:rows],
        "top_p": torch.tensor([1, 0.9]).repeat(rows)[:rows],
    }
    for given in (state, state | limits):
        wanted = sample_tokens(whole_logits, **given)
        found = sample_tokens(own_logits, **given, vocabulary=vocabulary)
        assert torch.equal(found.tokens, wanted.tokens)
        assert torch.equal(found.logprobs, wanted.logprobs)
    with pytest.raises(ValueError, match=r"vocabulary.start=.* where the blocks of rank"):
        sample_tokens(own_logits, **state, vocabulary=replace(vocabulary, start=vocabulary.start + 1))


def check_completions(config, parallel):
    """Sampled and greedy, with other weights after a swap, and after the memory was given back."""
    requests = [
        Request([1, 2, 3], n=3, max_tokens=12, id="a"),
        Request(list(range(20)), n=2, max_tokens=9, id="b", temperature=0.0),
    ]
    model, other = whole(config), whole(config, seed=1)
    engine = Engine(model, page_size=16, weights="arena", tensor_parallel=parallel)
    for swapped in (model, other):
        engine.swap_weights(swapped)
        engine.verify_weights(swapped)
        found, wanted = engine.generate(requests), Engine(swapped, page_size=16).generate(requests)
        assert [(c.ids, c.finish_reason) for c in found] == [(c.ids, c.finish_reason) for c in wanted]
        for completion, same in zip(found, wanted, strict=True):
            assert completion.logprobs == pytest.approx(same.logprobs, abs=1e-5)
        engine.sleep()
    with pytest.raises(ValueError, match="swap_weights"):
        engine.generate(requests)


def worker() -> None:
    world = init_world(60)
    for size in (2, 4):
        parallel = tensor_parallel_group(world, size)
        assert (parallel.rank, parallel.size) == (world.rank % size, size)
        check_collectives(world, parallel)
        for config in (QWEN2, QWEN3, replace(QWEN2, vocab_size=300), replace(QWEN3, vocab_size=700)):
            check_forward(config, parallel)
        check_completions(QWEN2 if size == 2 else QWEN3, parallel)
    dist.destroy_process_group()


if __name__ == "__main__":
    worker()
