import pytest
import torch

from bench import head
from bench.accuracy import cross_entropy_truth, errors, policy_truth
from bench.contest import hold
from bench.inputs import HeadBatch, ModelShape, trained_like
from bench.roofline import Peaks
from corl_kernels import PolicyObjective, chunks, linear_logprobs

CPU = torch.device("cpu")
TINY = ModelShape(hidden=32, vocab=307, heads=4, kv_heads=2, head_dim=8, qk_norm=True)


@pytest.fixture(scope="module")
def batch() -> HeadBatch:
    return trained_like(TINY, 96, 32, "cpu", torch.float32)


def test_inputs_look_trained():
    batch = trained_like(ModelShape(256, 1009, 4, 2, 64, qk_norm=True), 512, 32, "cpu", torch.float32)
    found = linear_logprobs(batch.hidden, batch.weight, batch.targets, return_entropy=True)
    probs = found.logprobs.exp()
    assert float((probs > 0.9).float().mean()) > 0.4
    assert float((probs < 0.1).float().mean()) > 0.03
    assert 0.05 < found.entropy.mean() < 3
    assert int(batch.targets.min()) >= 0 and int(batch.targets.max()) < 1009
    assert batch.advantages.view(-1, 32).std(dim=1).max() == 0 and batch.advantages.std() > 0


def test_no_ratio_lies_near_a_clip_bound(batch):
    ratio = (linear_logprobs(batch.hidden, batch.weight, batch.targets).logprobs - batch.old_logprobs).exp()
    assert (ratio - 0.8).abs().min() > 0.02 and (ratio - 1.2).abs().min() > 0.02
    assert (ratio < 0.8).any() and (ratio > 1.2).any()


def test_a_slice_is_a_batch_of_its_own(batch):
    part = batch.take(16)
    assert part.sequence_length == 16 and part.weight is batch.weight
    assert torch.equal(part.hidden, batch.hidden[:16]) and part.hidden.is_leaf
    assert float(part.token_weights.sum()) == pytest.approx(1)


@pytest.mark.parametrize("truth", ["policy", "cross_entropy"])
def test_truth_is_the_gradient_of_the_loss(batch, truth):
    """Against full logits in fp64, written out, with more tokens than a chunk of the truth's."""
    long = trained_like(TINY, 300, 300, "cpu", torch.float32)
    hidden, weight = (x.detach().double().requires_grad_() for x in (long.hidden, long.weight))
    rows = torch.log_softmax(hidden @ weight.T, dim=-1)
    logprobs = rows[torch.arange(300), long.targets]
    if truth == "policy":
        found = policy_truth(long, PolicyObjective("grpo", entropy_coef=0.01))
        ratio = (logprobs - long.old_logprobs).exp()
        terms = -torch.minimum(ratio * long.advantages, ratio.clamp(0.8, 1.2) * long.advantages)
        terms = terms + 0.01 * (rows.exp() * rows).sum(-1)
    else:
        found = cross_entropy_truth(long)
        terms = -logprobs
    (terms.mean()).backward()
    torch.testing.assert_close(found.logprobs, logprobs.detach())
    # the batch's 1 / tokens is fp32
    torch.testing.assert_close(found.grad_hidden, hidden.grad, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(found.grad_weight, weight.grad, rtol=1e-6, atol=1e-12)


def test_errors_are_relative_norms(batch):
    part = batch.take(16)
    truth = cross_entropy_truth(part)
    part.clear()
    part.hidden.grad = (truth.grad_hidden * 1.5).float()
    part.weight.grad = truth.grad_weight.float()
    shift = torch.zeros(16)
    shift[3] = 0.32
    found = errors(part, truth, (truth.logprobs + shift).float())
    part.clear()
    assert found["logprobs_max"] == pytest.approx(0.32, rel=1e-4)
    assert found["logprobs_mean"] == pytest.approx(0.02, rel=1e-4)
    assert found["grad_hidden"] == pytest.approx(0.5, rel=1e-4) and found["grad_weight"] < 1e-6


def test_bare_gemms_are_the_products_of_the_rows_needed(batch, monkeypatch):
    """89 rows in chunks of 32: the last has 25, and no more than those are computed."""
    monkeypatch.setattr(chunks, "ROWS_CPU", 40)
    multiplied = []
    product = head.gemm
    monkeypatch.setattr(head, "gemm", lambda a, b, *rest, **kw: (multiplied.append(len(a)), product(a, b, *rest, **kw)))
    part = batch.take(89)
    gemms = head.Gemms(part)
    multiplied.clear()
    gemms.run()
    assert multiplied == [32, 32, 307] * 2 + [25, 25, 307]
    hidden, weight = part.hidden.detach(), part.weight.detach()
    dlogits = torch.cat((gemms.dlogits, gemms.dlogits, gemms.dlogits[:25]))
    torch.testing.assert_close(gemms.grad_hidden, dlogits @ weight)
    torch.testing.assert_close(gemms.grad_weight, dlogits.T @ hidden)
    torch.testing.assert_close(gemms.logits[:25], hidden[64:] @ weight.T)
    gemms.forward()
    torch.testing.assert_close(gemms.logits[:25], hidden[64:] @ weight.T)
    whole = head.UnchunkedGemms(gemms)
    whole.run()
    torch.testing.assert_close(whole.logits, hidden @ weight.T)
    torch.testing.assert_close(whole.grad_hidden, gemms.grad_hidden)
    torch.testing.assert_close(whole.grad_weight, gemms.grad_weight)


@pytest.mark.parametrize(("tokens", "length"), [(512, 128), (500, 125), (257, 257), (130, 65), (128, 128), (7, 7)])
def test_a_slice_has_equal_sequences_of_one_advantage(tokens, length):
    """Rivals take a rectangle of sequences; 257 is prime and becomes one sequence."""
    part = trained_like(TINY, 512, 128, "cpu", torch.float32).take(tokens)
    assert part.sequence_length == length
    rectangle = part.advantages.view(-1, part.sequence_length)
    assert torch.equal(rectangle, rectangle[:, :1].expand_as(rectangle))


def test_every_way_is_measured_and_right(batch):
    """Ours and every rival installed, against fp64: a rival called wrongly would be timed for other work."""
    part = batch.take(64)
    found = head.ways(CPU)
    measured = head.measure_errors(part, found)
    assert {way.name for way in found if way.skipped is None} <= set(measured)
    for name, values in measured.items():
        assert max(values.values()) < 1e-4, name
        assert ("grad_weight" in values) == ("forward" not in name and "linear_logprobs" not in name), name
    assert "logprobs_max" in measured[head.OURS] and "grad_hidden" in measured[head.GEMMS]
    assert part.hidden.grad is None and part.weight.grad is None


def test_a_contest_on_the_head_compares_with_the_gemms(batch):
    rows = hold(
        head.Case("head", "tiny", "float32", {"T": 96}),
        head.contenders(batch, head.ways(CPU)),
        CPU,
        Peaks(1.0, 1.0, "made up"),
        repeats=2,
    )
    by_name = {row.name: row for row in rows}
    ours = by_name[head.OURS]
    assert ours.floor == head.GEMMS and ours.floor_ratio > 0
    assert ours.flops == 6 * 96 * 32 * 307 and ours.traffic == 2 * 4 * 32 * (96 + 307)
    assert by_name["corl linear_logprobs, entropy"].floor == head.GEMM
    assert by_name[head.OUTSIDERS_GEMMS].floor_ratio > 0 and by_name[head.OUTSIDERS_GEMM].floor == head.GEMM
    assert by_name[head.MAIN_GRAD].gradient_bytes == {"dX": 96 * 32 * 4}
    assert ours.gradient_bytes == {"dX": 96 * 32 * 4, "dW": 307 * 32 * 4}
    assert ours.peak_bytes > sum(ours.gradient_bytes.values())
    assert by_name["liger FusedLinearCrossEntropy"].skipped
