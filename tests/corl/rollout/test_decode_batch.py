import torch

from corl.rollout.decode_batch import read_drawn


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
