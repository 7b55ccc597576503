"""The tensors of the engine: forward prefixes or single tokens over the cache, and draw what follows."""

from collections.abc import Sequence
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from corl.model.attention import packed_attention
from corl.model.decoder import Decoder
from corl.rollout.decode_batch import DecodeBatch, page_table, sampling_state
from corl.rollout.kv_cache import KVCache
from corl.rollout.scheduler import Group, Sample
from corl_kernels import paged_attention_decode, sample_tokens

# T packed tokens, G groups, B samples, D hidden, H query heads, K kv heads, E head dim, V vocab
HEAD_CHUNK = 8192  # vocabulary rows cast to fp32 at a time

Drawn = tuple[list[int], list[float]]  # the next token and its logprob of every sample


class Runner:
    """A KV cache and a decode batch for a model of this shape, on the device and in the dtype its weights have now."""

    def __init__(self, model: Decoder, *, num_pages: int, page_size: int, max_seqs: int) -> None:
        config, weight = model.config, model.head_weight
        shape = (config.num_layers, num_pages, page_size, config.num_kv_heads, config.head_dim)
        max_pages = min(num_pages, -(-config.max_positions // page_size))
        self.device, self.dtype = weight.device, weight.dtype
        self.cache = KVCache(shape, dtype=self.dtype, device=self.device)
        self.batch = DecodeBatch(max_seqs, max_pages, page_size, self.device)

    def prefill(self, model: Decoder, groups: Sequence[Group]) -> Drawn:
        """Forward every group's prefix once, packed; all samples of a group draw from the logits of its last token."""
        page_size = self.batch.page_size
        counts = torch.tensor([len(group.prefix) for group in groups], device=self.device)
        input_ids = torch.tensor(list(chain.from_iterable(group.prefix for group in groups)), device=self.device)
        cu_seqlens = F.pad(counts.cumsum(0), (1, 0))
        owners = torch.repeat_interleave(counts, output_size=len(input_ids))  # [T], the group of each token
        positions = torch.arange(len(input_ids), device=self.device) - cu_seqlens[owners]
        table = page_table([group.pages for group in groups], self.device)
        slots = table[owners, positions // page_size] * page_size + positions % page_size
        causal = packed_attention(cu_seqlens.int(), max(len(group.prefix) for group in groups))

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self.cache.write(layer, slots, k, v)
            return causal(layer, q, k, v)

        hidden = model.run(input_ids, positions, attend)[cu_seqlens[1:] - 1]  # [G, D]
        logits = head_logits(hidden, model.head_weight)  # [G, V]
        owned = [(row, sample) for row, group in enumerate(groups) for sample in group.samples]
        parts = []
        # every sample gets a copy of its group's logits, so the samples of a large group draw in several rounds
        for start in range(0, len(owned), self.batch.max_seqs):
            rows, samples = zip(*owned[start : start + self.batch.max_seqs], strict=True)
            parts.append(sample_tokens(logits[list(rows)], **sampling_state(samples, self.device)))
        tokens, logprobs = (torch.cat(part) for part in zip(*parts, strict=True))
        return tokens.tolist(), logprobs.tolist()

    def decode(self, model: Decoder, running: Sequence[Sample]) -> Drawn:
        """Forward the last token of every running sample and draw its next one."""
        batch, size = self.batch, len(running)
        block_table = batch.block_table[:size, : max(len(sample.pages) for sample in running)]
        context_lens, slots = batch.context_lens[:size], batch.slots[:size]
        scale = model.config.head_dim**-0.5

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self.cache.write(layer, slots, k, v)
            keys, values = self.cache.layer(layer)
            return paged_attention_decode(q, keys, values, block_table, context_lens, scale=scale)

        hidden = model.run(batch.tokens[:size], batch.positions[:size], attend)  # [B, D]
        batch.advance(size)
        drawn = sample_tokens(head_logits(hidden, model.head_weight), **batch.sampling_state(size))
        batch.tokens[:size] = drawn.tokens
        return drawn.tokens.tolist(), drawn.logprobs.tolist()


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
