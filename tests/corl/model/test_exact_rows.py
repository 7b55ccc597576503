import pytest
import torch

from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.model.exact_rows import InBlocks, aligned_linear, all_at_once, with_gradients_of
from corl.model.rope import RopeConfig, rope_tables

# 1100 and 1700 columns are work for two, three and four threads
SHAPES = [(128, 1100, 4, 2, 32), (128, 1700, 4, 4, 32), (66, 97, 3, 3, 22)]


@pytest.fixture(params=[1, 2, 3, 4], ids="{}threads".format)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def make_config(shape, dtype):
    hidden, intermediate, num_heads, num_kv_heads, head_dim = shape
    return ModelConfig(
        "qwen3", 50, hidden, intermediate, 1, num_heads, num_kv_heads, head_dim, 512, 1e-6, RopeConfig(1e4),
        False, True, True, dtype,
    )  # fmt: skip


def make_layer(shape, dtype, device="cpu"):
    model = Decoder(make_config(shape, dtype))
    model.init_weights(torch.Generator().manual_seed(0), std=0.1)
    model.set_exact(True)
    return model.layers[0].to(device)


def assert_rows_keep_their_bits(shape, dtype, device="cpu"):
    layer, widths = make_layer(shape, dtype, device), (shape[0], shape[0], shape[2] * shape[4])
    generator = torch.Generator().manual_seed(0)
    hidden, residual, attended = (torch.randn(300, width, generator=generator).to(device, dtype) for width in widths)
    positions = torch.randint(0, 4000, (300,), generator=generator).to(device)
    for size in (300, 97, 96, 17, 1):
        rows = torch.randperm(300, generator=generator)[:size].to(device)
        with torch.no_grad():
            tables = layer.by_rows(lambda x: rope_tables(x, RopeConfig(1e4), shape[4], dtype), positions[rows])
            got = [
                *tables,
                *layer.by_rows(layer._before_attention, *tables, hidden[rows]),
                *layer.by_rows(layer._before_attention, *tables, hidden[rows], residual[rows]),
                *layer.by_rows(layer._after_attention, residual[rows], attended[rows].unflatten(1, (shape[2], -1))),
            ]
        if size == 300:
            want = [torch.empty_like(x).index_copy_(0, rows, x) for x in got]
        for one, other in zip(got, want, strict=True):
            assert torch.equal(one, other[rows])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_row_has_the_same_bits_among_any_others(threads, shape, dtype):
    assert_rows_keep_their_bits(shape, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_row_has_the_same_bits_among_any_others_on_cuda(dtype):
    assert_rows_keep_their_bits((1024, 2816, 8, 2, 128), dtype, "cuda")


def test_gradients_are_those_of_one_call_on_all_rows():
    weight = torch.randn(64, 32, requires_grad=True)
    x = torch.randn(200, 32, requires_grad=True)
    upstream = torch.randn(200, 64)

    def compute(x):
        return (x @ weight.T).tanh(), x.exp()

    want = torch.autograd.grad(compute(x), (x, weight), (upstream, x.detach()))
    got = InBlocks()(compute, x)
    torch.testing.assert_close(got, compute(x))
    assert all(map(torch.equal, torch.autograd.grad(got, (x, weight), (upstream, x.detach())), want))


def test_values_are_taken_from_one_tensor_and_gradients_go_to_the_other():
    values, x = torch.randn(3), torch.randn(3, requires_grad=True)
    got = with_gradients_of(values, 2 * x)
    assert torch.equal(got, values)
    assert torch.equal(torch.autograd.grad(got.sum(), x)[0], torch.full((3,), 2.0))


@pytest.mark.parametrize(("inputs", "outputs"), [(33, 97), (64, 97), (24, 64), (64, 32)])
@pytest.mark.parametrize("has_bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_aligned_linear_is_linear(inputs, outputs, has_bias, dtype):
    x, weight, bias = (torch.randn(*shape).to(dtype) for shape in ((96, inputs), (outputs, inputs), (outputs,)))
    got = aligned_linear(x, weight, bias if has_bias else None)
    assert got.stride(0) * got.element_size() % 64 == 0 and got.data_ptr() % 64 == 0
    want = torch.nn.functional.linear(x.float(), weight.float(), bias.float() if has_bias else None)
    torch.testing.assert_close(got.float(), want, rtol=1e-5 if dtype == torch.float32 else 2e-2, atol=1e-4)


@pytest.mark.parametrize("has_bias", [False, True], ids=["", "bias"])
def test_what_fills_a_line_is_no_part_of_a_row(has_bias):
    x, weight, bias = torch.randn(96, 80).bfloat16(), torch.randn(48, 80).bfloat16(), torch.randn(48).bfloat16()
    nans = [torch.full((96, size), float("nan"), dtype=torch.bfloat16) for size in (96, 64)]
    del nans  # the next allocations of these sizes are this memory
    out = aligned_linear(x, weight, bias if has_bias else None)
    assert out.isfinite().all()


def test_setting_exact_again_tries_nothing_out_again():
    model = Decoder(make_config(SHAPES[2], torch.float32))
    model.set_exact(True)
    by_rows = model.by_rows
    model.set_exact(True)
    assert model.by_rows is by_rows and model.layers[0].by_rows is by_rows
    model.set_exact(False)
    assert model.by_rows is all_at_once and model.layers[0].by_rows is all_at_once


def test_a_machine_that_treats_equal_rows_differently_is_refused():
    by_rows = InBlocks()
    with pytest.raises(ValueError, match="equal rows of a block come out unequal on cpu"):
        by_rows(lambda x: (x + torch.arange(len(x))[:, None] // 95 * 1e-6,), torch.ones(4, 3))
    (out,) = by_rows(lambda x: (x / 0 * 0,), torch.ones(4, 3))  # a diverged model is another matter
    assert out.isnan().all()


def test_more_threads_than_divide_a_block_are_refused():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(5)
        with pytest.raises(ValueError, match="at most 4 threads, not 5"):
            InBlocks()(lambda x: (x,), torch.ones(4, 3))
    finally:
        torch.set_num_threads(before)
