import torch

from corl.rollout.decode_batch import DecodeBatch, read_drawn


def test_what_was_drawn_is_read_in_one_copy(monkeypatch):
    tokens = torch.randint(0, 2**31 - 1, (3, 7))
    logprobs = -torch.rand(3, 7) * 1e-3
    logprobs[1, :3] = torch.tensor([0.0, -0.0, float("-inf")])
    copies = []
    to_cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda x: copies.append(x.shape) or to_cpu(x))
    got_tokens, got_logprobs = read_drawn(tokens[:, 1:5], logprobs[:, 1:5])
    assert copies == [(2, 3, 4)]
    assert got_tokens == tokens[:, 1:5].tolist()
    assert torch.equal(torch.tensor(got_logprobs).view(torch.int32), logprobs[:, 1:5].view(torch.int32))


def test_rows_not_in_use_have_no_place_wherever_they_stopped():
    """A graph covers its whole bucket: behind the live rows lie the positions of samples that ended, long ones too."""
    batch = DecodeBatch(max_seqs=4, max_pages=8, steps=1, page_size=4, device=torch.device("cpu"))
    batch.block_table[:] = torch.arange(10, 42).view(4, 8).int()
    batch.positions[:] = torch.tensor([0, 7, 31, 3])
    batch.limits[:] = torch.tensor([9, 9, 0, 3])
    slots, context_lens = batch.places(4, width=2)
    assert slots.tolist() == [10 * 4, 19 * 4 + 3, -1, -1] and slots.dtype == torch.int64
    assert context_lens.tolist() == [1, 8, 0, 0] and context_lens.dtype == torch.int32
