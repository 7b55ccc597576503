import logging
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch

from corl.model import flash
from corl.model.attention import packed_attention

CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def fresh_choice():
    flash.implementation.cache_clear()
    yield
    flash.implementation.cache_clear()


@pytest.fixture
def install(monkeypatch):
    """install(module, function, origin): an importable stand-in; nothing of flash-attn's is there without it."""

    def install(name, function=None, origin="somewhere"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None, origin=origin)
        if function is not None:
            module.flash_attn_varlen_func = function
        monkeypatch.setitem(sys.modules, name, module)

    for name in ("flash_attn", "flash_attn_interface"):
        monkeypatch.setitem(sys.modules, name, None)
    return install


@pytest.fixture
def device_major(monkeypatch):
    return lambda major: monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))


def flash_attn_2(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False,
    window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False, return_attn_probs=False,
    block_table=None,
):  # fmt: skip
    return "2", {**locals()}


def flash_attn_3(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, seqused_q=None, seqused_k=None,
    softmax_scale=None, causal=False, qv=None, q_descale=None, k_descale=None, v_descale=None, window_size=(-1, -1),
    attention_chunk=0, softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False, sm_margin=0,
    return_attn_probs=False,
):  # fmt: skip
    return "3", {**locals()}


@pytest.mark.parametrize("function", [flash_attn_2, flash_attn_3], ids=lambda f: f.__name__)
@pytest.mark.parametrize("as_tuple", [True, False], ids=["with_lse", "out_alone"])
def test_both_versions_get_a_causal_call_with_everything_else_at_its_default(function, as_tuple):
    seen = {}

    def stand_in(*args, **kwargs):
        seen.update(function(*args, **kwargs)[1])
        return (args[0], None) if as_tuple else args[0]

    q, k, v, cu = torch.zeros(7, 4, 8), torch.zeros(7, 2, 8), torch.ones(7, 2, 8), torch.tensor([0, 3, 7])
    assert flash._flash_attn(stand_in)(q, k, v, cu, 4) is q
    plain = function(q, k, v, cu, cu, 4, 4, causal=True)[1]
    assert seen.keys() == plain.keys() and all(seen[name] is plain[name] for name in plain)


def test_the_backward_is_deterministic_where_torch_is_told_to_be(monkeypatch):
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    seen = []
    flash._flash_attn(lambda *args, **kwargs: seen.append(kwargs))(*[torch.zeros(1)] * 4, 4)
    assert seen == [{"causal": True, "deterministic": True}]


@pytest.mark.parametrize("has_flag", [True, False], ids=["gqa_flag", "no_flag"])
def test_torchs_call_is_causal_and_groups_heads_where_the_flag_exists(monkeypatch, has_flag):
    seen = {}

    def with_flag(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, window_size=(-1, -1), enable_gqa=False):
        seen.update(cu=(cu_seq_q, cu_seq_k), longest=(max_q, max_k), window=window_size, grouped=enable_gqa)
        return query

    def without_flag(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, window_size=(-1, -1)):
        return with_flag(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, window_size=window_size)

    monkeypatch.setattr(flash, "varlen_attn", with_flag if has_flag else without_flag)
    cu, q = torch.tensor([0, 3, 7]), torch.zeros(7, 4, 8)
    assert flash._torch_varlen(q, q[:, :2], q[:, :2], cu, 4) is q
    assert seen["window"] == (-1, 0) and seen["longest"] == (4, 4) and seen["grouped"] is has_flag
    assert all(bound is cu for bound in seen["cu"])


@pytest.mark.parametrize(
    ("major", "installed", "expected"),
    [
        (9, ("flash_attn", "flash_attn_interface"), "flash-attn 3"),
        (9, ("flash_attn_interface",), "flash-attn 3"),
        (9, ("flash_attn",), "flash-attn 2"),
        (8, ("flash_attn", "flash_attn_interface"), "flash-attn 2"),
        (10, ("flash_attn_interface",), "torch; `pip install -e '.[flash]'` adds flash-attn's"),
        (9, (), "torch; `pip install -e '.[flash]'` adds flash-attn's"),
    ],
)
def test_one_line_names_the_choice(install, device_major, caplog, major, installed, expected):
    caplog.set_level(logging.INFO, logger=flash.__name__)
    device_major(major)
    functions = {"flash_attn": lambda q, *_, **__: "2", "flash_attn_interface": lambda q, *_, **__: "3"}
    for name in installed:
        install(name, functions[name])
    choices = [flash.implementation(CUDA) for _ in range(3)]
    assert caplog.messages == [f"attention over packs on cuda:0: {expected}"]
    if expected.startswith("flash-attn"):
        assert choices[0](*[torch.zeros(1)] * 4, 4) == expected[-1]
    else:
        assert choices[0] is flash._torch_varlen


def test_a_package_that_is_only_a_folder_is_not_taken_for_flash_attn(install, device_major):
    device_major(9)
    install("flash_attn", origin=None)
    assert flash.implementation(CUDA) is flash._torch_varlen


def test_the_function_dispatches_on_the_device_of_q(monkeypatch):
    seen = []
    monkeypatch.setattr(flash, "implementation", lambda device: lambda *args: seen.append((device, args)) or args[0])
    q, cu = torch.zeros(3, 2, 8), torch.tensor([0, 3])
    assert flash.causal_varlen(q, q, q, cu, 3) is q
    assert seen == [(q.device, (q, q, q, cu, 3))]


@pytest.mark.gpu
@pytest.mark.parametrize("lengths", [[1], [17, 1, 255], [5, 300, 64]], ids=str)
def test_values_and_gradients_on_cuda_are_those_of_the_padded_path(lengths):
    gen = torch.Generator().manual_seed(0)
    cu = torch.tensor([0, *lengths]).cumsum(0).to("cuda", torch.int32)
    exact = [torch.randn(sum(lengths), n, 64, generator=gen).cuda().bfloat16().float() for n in (8, 2, 2)]
    exact = [x.requires_grad_() for x in exact]
    half = [x.detach().bfloat16().requires_grad_() for x in exact]
    want = packed_attention(cu, max(lengths))(0, *exact)  # fp32 is padded
    have = flash.causal_varlen(*half, cu, max(lengths))
    upstream = torch.randn(want.shape, generator=gen).cuda().bfloat16()
    torch.testing.assert_close(have.float(), want, rtol=2e-2, atol=2e-2)
    for got, truth in zip(
        torch.autograd.grad(have, half, upstream), torch.autograd.grad(want, exact, upstream.float()), strict=True
    ):
        torch.testing.assert_close(got.float(), truth, rtol=3e-2, atol=3e-2 * truth.abs().max().item())
