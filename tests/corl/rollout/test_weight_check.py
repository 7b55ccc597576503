"""One rank; slices and shards on several are checked in test_arena.py."""

import pytest
import torch

from corl.rollout.weight_check import check_weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_every_bit_of_every_parameter_counts(make_decoder, dtype):
    model, copy = make_decoder(), make_decoder(dtype=dtype)
    copy.load_state_dict(model.state_dict())
    check_weights(copy, model, None)
    bits_of = torch.int32 if dtype == torch.float32 else torch.int16
    for name, parameter in copy.named_parameters():
        flat = parameter.detach().view(-1).view(bits_of)
        for index in (0, len(flat) // 2, len(flat) - 1):
            flat[index] ^= 1
            with pytest.raises(RuntimeError, match=rf"the engine's {name} is not the trainer's on rank 0 \(1 differ\)"):
                check_weights(copy, model, None)
            flat[index] ^= 1
    check_weights(copy, model, None)


def test_elements_in_each_other_s_place_count(make_decoder):
    model, copy = make_decoder(), make_decoder()
    weight = copy.layers[1].mlp.down_proj.weight.detach()
    weight.copy_(weight.flip(1))
    with pytest.raises(RuntimeError, match=r"layers.1.mlp.down_proj.weight is not the trainer's"):
        check_weights(copy, model, None)
    copy.norm.weight.detach()[3] = 2.0
    with pytest.raises(RuntimeError, match=r"\(2 differ\)"):
        check_weights(copy, model, None)
