"""The logits of the engine's samples: few rows, all of the vocabulary, nothing to differentiate."""

import torch
from torch import Tensor

# B samples, D hidden, V vocab
HEAD_CHUNK = 8192  # vocabulary rows cast to fp32 at a time


def head_logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """fp32 logits [B, V] of hidden [B, D] and weight [V, D]: the exact products, summed in fp32.

    On a CPU, which has no such product, a bf16 weight is cast a few thousand rows at a time: no fp32 copy of the whole
    head, no bf16 rounding of the logits.
    """
    if weight.is_cuda and weight.dtype != torch.float32:
        return torch.mm(hidden, weight.t(), out_dtype=torch.float32)
    hidden = hidden.float()
    if weight.dtype == torch.float32:
        return hidden @ weight.T
    logits = hidden.new_empty(len(hidden), len(weight))
    for start in range(0, len(weight), HEAD_CHUNK):
        logits[:, start : start + HEAD_CHUNK] = hidden @ weight[start : start + HEAD_CHUNK].float().T
    return logits
