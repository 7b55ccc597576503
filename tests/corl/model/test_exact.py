from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from corl.model import exact, exact_rows
from corl.model.attention import packed_attention
from corl.model.config import FAMILIES, ModelConfig
from corl.model.decoder import Decoder
from corl.model.exact import HEAD_ROWS, exact_decode_attention, exact_packed_attention
from corl.model.rope import RopeConfig
from corl.model.score import score
from corl_kernels import linear_logprobs, linear_policy_loss, paged_attention_decode

DTYPES = [torch.float32, torch.bfloat16]
# hidden, intermediate, query heads, kv heads, head dim
SHAPES = [(32, 48, 4, 2, 8), (24, 40, 4, 2, 6), (40, 56, 5, 5, 8), (64, 100, 7, 1, 24)]
MODELS = list(zip(["qwen2", "qwen3", "llama", "qwen2"], SHAPES, strict=True))
VOCAB = 101
LENGTHS = [1, 15, 17, 127, 128, 129, 130, 300]


def make_model(family="qwen2", shape=SHAPES[0], dtype=torch.float32, tied=True):
    hidden, intermediate, num_heads, num_kv_heads, head_dim = shape
    config = ModelConfig(
        family, VOCAB, hidden, intermediate, 2, num_heads, num_kv_heads, head_dim, 512, 1e-6, RopeConfig(1e4),
        FAMILIES[family].qkv_bias, FAMILIES[family].qk_norm, tied, dtype,
    )  # fmt: skip
    model = Decoder(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
            parameter.mul_(0.3)
    model.set_exact(True)
    return model


def draw(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, VOCAB, (length,), generator=generator) for length in lengths]


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pack_of(sequences):
    lengths = [len(ids) for ids in sequences]
    return torch.cat(sequences), torch.cat([torch.arange(n) for n in lengths]), torch.tensor([0, *lengths]).cumsum(0)


class Cache:
    """Paged keys and values of sequences that are prefilled, decoded a token at a time, dropped and prefilled again."""

    def __init__(self, model, sequences, page_size, generator):
        config, self.model, self.sequences, self.page_size = model.config, model, sequences, page_size
        self.attention = exact_decode_attention if model.exact else paged_attention_decode
        width = -(-max(map(len, sequences)) // page_size)
        pages = torch.randperm(len(sequences) * width, generator=generator).view(-1, width)
        self.table = pages.int()
        shape = (config.num_layers, pages.numel(), page_size, config.num_kv_heads, config.head_dim)
        self.k, self.v = (torch.full(shape, 1e3, dtype=config.dtype) for _ in range(2))

    def write(self, layer, owners, positions, k, v):
        pages = self.table[owners, positions // self.page_size].long()
        self.k[layer, pages, positions % self.page_size] = k
        self.v[layer, pages, positions % self.page_size] = v

    def prefill(self, counts):
        """counts: {sequence: tokens of it}, packed in that order."""
        ids, positions, cu_seqlens = pack_of([self.sequences[i][:n] for i, n in counts.items()])
        owners = torch.tensor(list(counts)).repeat_interleave(torch.tensor(list(counts.values())))
        causal = packed_attention(cu_seqlens, max(counts.values()), exact=self.model.exact)

        def attend(layer, q, k, v):
            self.write(layer, owners, positions, k, v)
            return causal(layer, q, k, v)

        return self.model.run(ids, positions, attend)[cu_seqlens[1:] - 1]

    def decode(self, counts, idle=0):
        """Forward token counts[i] of every sequence i, and `idle` rows that stand for none."""
        rows, scale = torch.tensor(list(counts)), self.model.config.head_dim**-0.5
        positions = torch.tensor(list(counts.values()))
        ids = torch.stack([self.sequences[i][n] for i, n in counts.items()])
        lens = torch.cat((positions + 1, torch.zeros(idle, dtype=torch.int64))).int()
        table = torch.cat((self.table[rows], torch.full((idle, self.table.shape[1]), -1, dtype=torch.int32)))

        def attend(layer, q, k, v):
            self.write(layer, rows, positions, k[: len(rows)], v[: len(rows)])
            return self.attention(q, self.k[layer], self.v[layer], table, lens, scale=scale)

        filler = torch.zeros(idle, dtype=torch.int64)
        return self.model.run(torch.cat((ids, filler)), torch.cat((positions, filler)), attend)[: len(rows)]


@torch.no_grad()
def decoded(model, sequences, *, page_size, batch, decoded_tokens, seed, temperature):
    """Log-probs of ids[1:] of every sequence, of the last `decoded_tokens` at most while decoding; the rest are NaN."""
    generator = torch.Generator().manual_seed(seed)
    cache = Cache(model, sequences, page_size, generator)
    logprobs = [torch.full((len(ids) - 1,), torch.nan) for ids in sequences]
    unfinished = [i for i, ids in enumerate(sequences) if len(ids) > 1]
    prefilled = {i: max(1, len(sequences[i]) - decoded_tokens) for i in unfinished}
    cached = {}
    while unfinished:
        order = torch.randperm(len(unfinished), generator=generator).tolist()
        chosen = [unfinished[i] for i in order[: int(torch.randint(1, batch + 1, (1,), generator=generator))]]
        if cached and torch.rand(1, generator=generator) < 0.1:  # preempted: to be prefilled again, as far as it came
            victim = list(cached)[0]
            prefilled[victim] = cached.pop(victim)
        fresh = {i: prefilled[i] for i in chosen if i not in cached}
        parts = []
        if fresh:
            parts.append((list(fresh), cache.prefill(fresh)))
        known = {i: cached[i] for i in chosen if i in cached}
        if known:
            parts.append((list(known), cache.decode(known, idle=int(torch.randint(0, 3, (1,), generator=generator)))))
        for members, hidden in parts:
            counts = [fresh[i] if i in fresh else known[i] + 1 for i in members]
            following = torch.stack([sequences[i][n] for i, n in zip(members, counts, strict=True)])
            heat = torch.full((len(members),), temperature)
            rows = model.head_rows
            got = linear_logprobs(hidden, model.head_weight, following, temperature=heat, chunk_rows=rows).logprobs
            for i, n, value in zip(members, counts, got, strict=True):
                logprobs[i][n - 1] = value
                cached[i] = n
        unfinished = [i for i in unfinished if cached.get(i) != len(sequences[i]) - 1]
        cached = {i: n for i, n in cached.items() if i in unfinished}
    return logprobs


def trained(model, sequences, *, temperature):
    """The log-probs that the trainer's loss has for ids[1:] of every sequence, all in one pack."""
    ids, positions, cu_seqlens = pack_of(sequences)
    targets = ids.roll(-1)
    targets[cu_seqlens[1:] - 1] = -100
    rows = (targets != -100).nonzero()[:, 0]
    attend = packed_attention(cu_seqlens, max(map(len, sequences)), exact=model.exact)

    def head(hidden, weight):
        ones = torch.ones(len(rows))
        settings = {"temperature": temperature, "chunk_rows": model.head_rows}
        return linear_policy_loss(hidden[rows], weight, targets[rows], ones, ones, **settings).logprobs

    return model(ids, positions, attend, head=head).split([len(x) - 1 for x in sequences])


def assert_same_bits(model, lengths, *, page_size=16, batch=8, decoded_tokens=20, seed=0, temperature=1.0):
    sequences = draw(*lengths, seed=seed)
    want = trained(model, sequences, temperature=temperature)
    got = decoded(
        model, sequences, page_size=page_size, batch=batch, decoded_tokens=decoded_tokens, seed=seed,
        temperature=temperature,
    )  # fmt: skip
    compared = 0
    for one, other in zip(got, want, strict=True):
        live = ~one.isnan()
        compared += int(live.sum())
        assert torch.equal(one[live], other[live])
    assert compared >= min(decoded_tokens, sum(lengths) - len(lengths))


@pytest.mark.parametrize("count", [1, 2], ids=["1thread", "2threads"])
@pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "bf16"])
@pytest.mark.parametrize(("family", "shape"), MODELS, ids=str)
def test_decoded_logprobs_have_the_trainers_bits(family, shape, dtype, count):
    with threads(count):
        assert_same_bits(make_model(family, shape, dtype), LENGTHS, temperature=0.7)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_whatever_the_schedule(data):
    shape = data.draw(st.sampled_from(SHAPES))
    model = make_model(
        data.draw(st.sampled_from(list(FAMILIES))), shape, data.draw(st.sampled_from(DTYPES)), tied=False
    )
    assert_same_bits(
        model,
        data.draw(st.lists(st.integers(1, 140), min_size=1, max_size=6)),
        page_size=data.draw(st.sampled_from([4, 16, 256])),
        batch=data.draw(st.integers(1, 6)),
        decoded_tokens=data.draw(st.integers(1, 12)),
        seed=data.draw(st.integers(0, 9)),
        temperature=data.draw(st.sampled_from([1.0, 0.6])),
    )


def test_without_exact_mode_the_bits_differ():
    model = make_model("qwen3")
    model.set_exact(False)
    with pytest.raises(AssertionError):
        assert_same_bits(model, LENGTHS)


def test_score_gives_the_trainers_bits_in_any_pass():
    model, sequences = make_model("llama", SHAPES[1]), draw(*LENGTHS)
    want = trained(model, sequences, temperature=0.7)
    ids = [x.tolist() for x in sequences]
    for limit in (1, 300, 16384):
        got = score(model, ids, temperature=0.7, max_tokens_per_pass=limit)
        assert all(map(torch.equal, got, want))


@pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "bf16"])
@pytest.mark.parametrize("recompute", [False, True], ids=["", "recompute"])
def test_gradients_are_those_of_the_ordinary_forward(dtype, recompute):
    sequences, grads = draw(3, 140, 40), []
    for enabled in (False, True):
        model = make_model("qwen3", SHAPES[1], dtype)
        model.set_exact(enabled)
        model.set_activation_checkpointing(recompute)
        ids, positions, cu_seqlens = pack_of(sequences)
        hidden = model(ids, positions, packed_attention(cu_seqlens, 140, exact=enabled))
        loss = linear_logprobs(hidden, model.head_weight, ids.flip(0)).logprobs.mean()
        grads.append(torch.autograd.grad(loss, list(model.parameters())))
    loose = 1e-4 if dtype == torch.float32 else 0.05
    for got, want in zip(*grads, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=loose * want.abs().max().item())


@pytest.mark.parametrize("recompute", [False, True], ids=["", "recompute"])
def test_fully_sharded_gives_the_same_bits(recompute, tmp_path):
    from torch.distributed.fsdp import fully_shard

    plain, sharded = make_model("qwen3", SHAPES[1]), make_model("qwen3", SHAPES[1])
    sharded.set_activation_checkpointing(recompute)
    ids, positions, cu_seqlens = pack_of(draw(20, 150))
    attend = packed_attention(cu_seqlens, 150, exact=True)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        for layer in sharded.layers:
            fully_shard(layer, mesh=dist.init_device_mesh("cpu", (1,)))
        fully_shard(sharded, mesh=dist.init_device_mesh("cpu", (1,)))
        hidden = [model(ids, positions, attend) for model in (plain, sharded)]
        assert torch.equal(*hidden)
        for one in hidden:
            one.square().mean().backward()
        for (name, want), got in zip(plain.named_parameters(), sharded.parameters(), strict=True):
            assert torch.equal(got.grad.full_tensor(), want.grad), name
    finally:
        dist.destroy_process_group()


def test_what_is_switched_off_again_leaves_nothing():
    model = make_model()
    ids, positions, cu_seqlens = pack_of(draw(5, 30))
    attend = packed_attention(cu_seqlens, 30)
    model.set_exact(False)
    untouched = Decoder(model.config)
    untouched.load_state_dict(model.state_dict())
    assert not untouched.exact and not model.exact
    assert torch.equal(model(ids, positions, attend), untouched(ids, positions, attend))
    for one, other in zip(model.modules(), untouched.modules(), strict=True):
        assert [vars(x).get("by_rows") for x in (one, other)] in ([None] * 2, [exact_rows.all_at_once] * 2)
        assert not getattr(one, "aligned", False)


def attention_inputs(lengths, num_heads, num_kv_heads, head_dim, *, dtype=torch.float32, device="cpu"):
    """q, k and v of a pack, v a strided view as the decoder hands it over, and the pack's bounds."""
    generator = torch.Generator().manual_seed(num_heads)
    heads = (num_heads, num_kv_heads, num_kv_heads)
    qkv = torch.randn(sum(lengths), sum(heads), head_dim, generator=generator).to(device, dtype)
    q, k, v = qkv.split(list(heads), dim=1)
    return q.contiguous(), k.contiguous(), v, torch.tensor([0, *lengths]).cumsum(0).to(device)


def paged(k, v, lengths, page_size):
    """Caches and block table [S, M] of a pack, garbage wherever no token lies."""
    width = -(-max(lengths) // page_size)
    table = torch.randperm(len(lengths) * width, generator=torch.Generator().manual_seed(0)).view(-1, width)
    caches = [torch.full((table.numel(), page_size, *x.shape[1:]), 7e3, dtype=x.dtype) for x in (k, v)]
    for cache, x in zip(caches, (k, v), strict=True):
        for pages, own in zip(table, x.cpu().split(lengths), strict=True):
            for page, part in zip(pages, own.split(page_size), strict=False):
                cache[page, : len(part)] = part
    return *(cache.to(k.device) for cache in caches), table.int().to(k.device)


def assert_decode_has_the_packs_bits(lengths, heads, *, page_size, batch, **options):
    q, k, v, cu_seqlens = attention_inputs(lengths, *heads, **options)
    want = packed_attention(cu_seqlens, max(lengths), exact=True)(0, q, k, v)
    k_cache, v_cache, table = paged(k, v, lengths, page_size)
    owners = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).to(q.device)
    lens = torch.cat([torch.arange(1, n + 1) for n in lengths]).int().to(q.device)
    order = torch.randperm(len(q), generator=torch.Generator().manual_seed(1)).to(q.device)
    for rows in order.split(batch):
        got = exact_decode_attention(
            q[rows], k_cache, v_cache, table[owners[rows]], lens[rows], scale=q.shape[-1] ** -0.5
        )
        assert torch.equal(got, want[rows])


@pytest.mark.parametrize("count", [1, 2, 3, 4], ids="{}threads".format)
@pytest.mark.parametrize("heads", [(1, 1, 6), (2, 2, 8), (4, 2, 24), (9, 1, 10), (7, 1, 64)], ids=str)
def test_attention_of_decode_has_the_packs_bits(heads, count):
    with threads(count):
        for page_size, batch in ((4, 1), (16, 3), (256, 64)):
            assert_decode_has_the_packs_bits([1, 20, 0, 129, 257], heads, page_size=page_size, batch=batch)
        assert_decode_has_the_packs_bits([140, 1], heads, page_size=16, batch=50, dtype=torch.bfloat16)


@pytest.mark.parametrize("way", ["each alone", "over pages"])
@pytest.mark.parametrize("lengths", [[1], [17, 0, 63, 64, 65], [300, 2]], ids=str)
def test_exact_attention_is_attention(monkeypatch, way, lengths):
    q, k, v, cu_seqlens = attention_inputs(lengths, 4, 2, 8)
    want = packed_attention(cu_seqlens, max(lengths))(0, q, k, v)
    if way == "each alone":
        got = exact_packed_attention(cu_seqlens, max(lengths))(q, k, v)
    else:  # what runs on CUDA, here through the decode kernel's reference, a few rows at a time
        monkeypatch.setattr(exact, "_PARTIAL", 2000)
        got = exact._over_pages(q, k, v, exact._lay_out(cu_seqlens, max(lengths), len(q)))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_decode_attention_is_the_kernels_and_a_row_of_length_0_gives_zeros():
    lengths = [40, 130, 7]
    q, k, v, _ = attention_inputs(lengths, 4, 2, 8)
    k_cache, v_cache, table = paged(k, v, lengths, 16)
    arguments = q[:3], k_cache, v_cache, table, torch.tensor([40, 0, 5], dtype=torch.int32)
    got = exact_decode_attention(*arguments, scale=0.3)
    torch.testing.assert_close(got, paged_attention_decode(*arguments, scale=0.3), rtol=1e-5, atol=1e-5)
    assert not got[1].any()
    nothing = torch.zeros(3, dtype=torch.int32)
    assert not exact_decode_attention(*arguments[:4], nothing, scale=0.3).any()


@pytest.mark.parametrize("count", [1, 2], ids=["1thread", "2threads"])
@pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "bf16"])
@pytest.mark.parametrize("vocab", [101, 1024, 3001])
def test_the_heads_bits_are_those_of_the_loss_in_a_longer_pack(vocab, dtype, count):
    generator = torch.Generator().manual_seed(vocab)
    hidden, weight = (torch.randn(n, 40, generator=generator).to(dtype) for n in (600, vocab))
    targets, ones = torch.randint(0, vocab, (600,), generator=generator), torch.ones(600)
    with threads(count):
        for temperature in (1.0, 0.7):
            fixed = {"chunk_rows": HEAD_ROWS}
            want = linear_policy_loss(hidden, weight, targets, ones, ones, temperature=temperature, **fixed).logprobs
            for rows in torch.randperm(600, generator=generator)[:200].split([1, 2, 5, 64, 128]):
                for heat in (temperature, torch.full((len(rows),), temperature)):
                    got = linear_logprobs(hidden[rows], weight, targets[rows], temperature=heat, **fixed).logprobs
                    assert torch.equal(got, want[rows])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "bf16"])
@pytest.mark.parametrize("heads", [(28, 4, 128), (8, 8, 64)], ids=str)
def test_on_cuda_decode_has_the_packs_bits(heads, dtype):
    for page_size in (16, 64, 256):
        assert_decode_has_the_packs_bits(
            [1, 0, 700, 1500, 64], heads, page_size=page_size, batch=100, dtype=dtype, device="cuda"
        )
