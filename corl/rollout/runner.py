"""The tensors of the engine: forward prefixes or single tokens over the cache, and draw what follows."""

from collections.abc import Sequence
from itertools import chain
from weakref import WeakMethod

import torch
import torch.nn.functional as F
from torch import Tensor

from corl.model.attention import packed_attention
from corl.model.exact import exact_decode_attention
from corl.rollout.decode_batch import DecodeBatch, is_truncated, page_table, read_drawn, sampling_state
from corl.rollout.graphs import Body, make_steps
from corl.rollout.kv_cache import KVCache
from corl.rollout.sample import Group, Sample
from corl.rollout.weights import Weights
from corl_kernels import linear_logprobs, paged_attention_decode, sample_tokens

# T packed tokens, G groups, B samples, D hidden, H query heads, K kv heads, E head dim, V vocab
Drawn = list[tuple[list[int], list[float]]]  # per step the next token and its logprob of every row


def _weakly(step: Body) -> Body:
    """A method that does not keep its object: the memory of a dropped engine must not wait for the collector."""
    method = WeakMethod(step)

    def call(rows: int, width: int, truncated: bool) -> None:
        bound = method()
        assert bound is not None, "the runner of these steps is gone"
        bound(rows, width, truncated)

    return call


class Runner:
    """A KV cache and a decode batch for these weights, on the device and in the dtype they have now."""

    def __init__(self, weights: Weights, *, num_pages: int, page_size: int, max_seqs: int, steps: int) -> None:
        config, weight = weights.decoder.config, weights.decoder.head_weight
        shape = (config.num_layers, num_pages, page_size, config.num_kv_heads, config.head_dim)
        max_pages = min(num_pages, -(-config.max_positions // page_size))
        self.weights = weights
        self.device, self.dtype = weight.device, weight.dtype
        self.cache = KVCache(shape, dtype=self.dtype, device=self.device)
        self.batch = DecodeBatch(max_seqs, max_pages, steps, page_size, self.device)
        self.steps = make_steps(_weakly(self._step), max_seqs, max_pages, self.device)

    def close(self) -> None:
        """Free everything now, whoever still holds this object."""
        self.steps.forget()
        self.cache.close()

    def prefill(self, groups: Sequence[Group]) -> tuple[list[int], list[float]]:
        """Forward every group's prefix once, packed; all samples of a group draw from the logits of its last token."""
        decoder, page_size = self.weights.decoder, self.batch.page_size
        counts = torch.tensor([len(group.prefix) for group in groups], device=self.device)
        input_ids = torch.tensor(list(chain.from_iterable(group.prefix for group in groups)), device=self.device)
        cu_seqlens = F.pad(counts.cumsum(0), (1, 0))
        owners = torch.repeat_interleave(counts, output_size=len(input_ids))  # [T], the group of each token
        positions = torch.arange(len(input_ids), device=self.device) - cu_seqlens[owners]
        table = page_table([group.pages for group in groups], self.device)
        slots = table[owners, positions // page_size] * page_size + positions % page_size
        longest = max(len(group.prefix) for group in groups)
        causal = packed_attention(cu_seqlens.int(), longest, exact=decoder.exact)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self.cache.write(layer, slots, k, v)
            return causal(layer, q, k, v)

        hidden = decoder.run(input_ids, positions, attend)[cu_seqlens[1:] - 1]  # [G, D]
        logits = self.weights.logits(hidden)  # [G, V]
        owned = [(row, sample) for row, group in enumerate(groups) for sample in group.samples]
        parts = []
        # every sample gets a copy of its group's logits, so the samples of a large group draw in several rounds
        for start in range(0, len(owned), self.batch.max_seqs):
            rows, samples = zip(*owned[start : start + self.batch.max_seqs], strict=True)
            index = torch.tensor(rows, device=self.device)
            state = sampling_state(samples, self.device)
            parts.append(self._draw(hidden[index], logits[index], state))
        return read_drawn(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def decode(self, running: Sequence[Sample], steps: int) -> Drawn:
        """Forward the last token of every running sample and draw its next one, `steps` times over."""
        batch, size = self.batch, len(running)
        assert self.cache.mapped, (
            "the cache's memory was released; a graph that writes there would take the device down"
        )
        batch.rewind()
        width = max(len(sample.pages) for sample in running)  # the pages of these steps are among them
        self.steps.run(size, steps, width=width, truncated=is_truncated(running))
        drawn = read_drawn(batch.drawn_tokens[:steps, :size], batch.drawn_logprobs[:steps, :size])
        return list(zip(*drawn, strict=True))

    def _step(self, rows: int, width: int, truncated: bool) -> None:
        """One decode step over the static buffers: nothing in it is read by the host or depends on its values.

        width  columns of the block table that are in use, at most
        """
        batch, decoder = self.batch, self.weights.decoder
        slots, context_lens = batch.places(rows, width)
        block_table = batch.block_table[:rows, :width]
        decode_attention = exact_decode_attention if decoder.exact else paged_attention_decode
        scale = decoder.config.head_dim**-0.5

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self.cache.write(layer, slots, k, v)
            return decode_attention(q, *self.cache.layer(layer), block_table, context_lens, scale=scale)

        hidden = decoder.run(batch.tokens[:rows], batch.positions[:rows], attend)  # [B, D]
        state = batch.sampling_state(rows, truncated=truncated)
        batch.advance(rows, *self._draw(hidden, self.weights.logits(hidden), state))

    def _draw(self, hidden: Tensor, logits: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """tokens [B] and logprobs [B]; in exact mode the latter come from the trainer's own head."""
        tokens, logprobs = sample_tokens(logits, **state, vocabulary=self.weights.vocabulary)
        if self.weights.decoder.exact:
            heat = state["temperature"]
            heat = torch.where(heat == 0, 1.0, heat)
            weight, rows = self.weights.decoder.head_weight, self.weights.decoder.head_rows
            logprobs = linear_logprobs(hidden, weight, tokens, temperature=heat, chunk_rows=rows).logprobs
        return tokens, logprobs
