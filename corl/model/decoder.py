"""The decoder that trainer and engine share: Qwen2/2.5, Qwen3 and Llama on packed one-dimensional tokens.

The q, k, v projections are one parameter and so are gate and up: fewer, larger GEMMs, and nothing to repack
when the engine takes the trainer's weights. Where keys and values come from is the caller's business (`attend`).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from corl.model.attention import Attend
from corl.model.config import ModelConfig
from corl.model.exact import HEAD_ROWS
from corl.model.exact_rows import InBlocks, aligned_linear, all_at_once
from corl.model.rope import rope_tables
from corl_kernels import add_rms_norm, qk_norm_rope, rms_norm, swiglu

# T packed tokens, D hidden, I intermediate, H query heads, K kv heads, E head dim, V vocab
Head = Callable[[Tensor, Tensor], Any]


class Linear(nn.Linear):
    """nn.Linear; where `aligned`, rows without gradients (exact mode's blocks) each start on a cache line."""

    aligned = False

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name of nn.Linear
        if self.aligned and not torch.is_grad_enabled():
            return aligned_linear(input, self.weight, self.bias)
        return super().forward(input)


class RMSNorm(nn.Module):
    """A learned scale per channel over the root mean square, at the eps of the checkpoint."""

    def __init__(self, size: int, config: ModelConfig) -> None:
        super().__init__()
        self.eps = config.rms_norm_eps
        self.weight = nn.Parameter(torch.ones(size, dtype=config.dtype))

    def forward(self, x: Tensor, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The residual stream [T, D], x plus what there is of it, normed and as it is."""
        if residual is None:
            return rms_norm(x, self.weight, eps=self.eps), x
        return add_rms_norm(x, residual, self.weight, eps=self.eps)


class Attention(nn.Module):
    """Grouped-query self-attention; rows of qkv_proj are q | k | v. Qwen3 norms the heads of q and k."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.head_dim = config.head_dim
        self.heads = [config.num_heads, config.num_kv_heads, config.num_kv_heads]
        self.qkv_proj = _linear(config, config.hidden_size, sum(self.heads) * self.head_dim, bias=config.qkv_bias)
        self.o_proj = _linear(config, config.num_heads * self.head_dim, config.hidden_size)
        self.eps = config.rms_norm_eps
        self.q_norm = RMSNorm(self.head_dim, config) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, config) if config.qk_norm else None

    def project(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q [T, H, E], k and v [T, K, E]; q and k normed and rotated."""
        q, k, v = self.qkv_proj(hidden).unflatten(-1, (-1, self.head_dim)).split(self.heads, dim=1)
        norms = [norm.weight for norm in (self.q_norm, self.k_norm) if norm is not None]
        q, k = qk_norm_rope(q, k, cos, sin, *norms, eps=self.eps)
        return q, k, v


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv:2002.05202); rows of gate_up_proj are gate | up."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up_proj = _linear(config, config.hidden_size, 2 * config.intermediate_size)
        self.down_proj = _linear(config, config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.down_proj(swiglu(self.gate_up_proj(hidden)))


class DecoderLayer(nn.Module):
    """One pre-norm transformer block: the unit of FSDP sharding and of activation checkpointing.

    Layers hand on the residual stream in two parts, what the last MLP gave and what it is to be added to, so that the
    next norm adds them. Where a layer is recomputed in the backward it hands on the sum, one tensor to keep.
    """

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config)
        self.self_attn = Attention(config, index)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config)
        self.mlp = MLP(config)
        self.recompute = False
        self.by_rows = all_at_once

    def forward(
        self, hidden: Tensor, residual: Tensor | None, cos: Tensor, sin: Tensor, attend: Attend
    ) -> tuple[Tensor, Tensor | None]:
        """hidden and residual [T, D], whose sum is the stream; a residual of None is zeros. So are those returned."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self._summed_block, hidden, residual, cos, sin, attend, use_reentrant=False), None
        return self._block(hidden, residual, cos, sin, attend)

    def _summed_block(self, *args: Any) -> Tensor:
        hidden, residual = self._block(*args)
        return residual + hidden

    def _block(
        self, hidden: Tensor, residual: Tensor | None, cos: Tensor, sin: Tensor, attend: Attend
    ) -> tuple[Tensor, Tensor]:
        stream = (hidden,) if residual is None else (hidden, residual)
        residual, q, k, v = self.by_rows(self._before_attention, cos, sin, *stream)
        attended = attend(self.self_attn.index, q, k, v)
        hidden, residual = self.by_rows(self._after_attention, residual, attended)
        return hidden, residual

    def _before_attention(self, cos: Tensor, sin: Tensor, *stream: Tensor) -> tuple[Tensor, ...]:
        normed, residual = self.input_layernorm(*stream)
        return residual, *self.self_attn.project(normed, cos, sin)

    def _after_attention(self, residual: Tensor, attended: Tensor) -> tuple[Tensor, ...]:
        normed, residual = self.post_attention_layernorm(self.self_attn.o_proj(attended.flatten(1)), residual)
        return self.mlp(normed), residual


class Decoder(nn.Module):
    """A causal language model without a logits layer: callers bring a head that never stores [T, V]."""

    def __init__(self, config: ModelConfig) -> None:
        """Parameters in `config.dtype`, uninitialised in any useful sense: `init_weights` or load_model fills them."""
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, dtype=config.dtype)
        self.layers = nn.ModuleList(DecoderLayer(config, index) for index in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config)
        tied = config.tie_word_embeddings
        self.lm_head = None if tied else _linear(config, config.hidden_size, config.vocab_size)
        self.exact = False
        self.by_rows = all_at_once

    @property
    def head_weight(self) -> Tensor:
        """The [V, D] parameter of the output layer: the embedding's when they are tied."""
        return self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    @property
    def head_rows(self) -> int | None:
        """The head ops' chunk_rows: fixed in exact mode, where a token's bits must not depend on its pack."""
        return HEAD_ROWS if self.exact else None

    def forward(self, input_ids: Tensor, position_ids: Tensor, attend: Attend, head: Head | None = None) -> Any:
        """Hidden states [T, D] after the final norm, or `head(hidden, head_weight)` when a head is given.

        input_ids, position_ids  [T] i64; positions restart at 0 with every packed sequence
        attend                   (layer index, q [T, H, E], k [T, K, E], v [T, K, E]) -> [T, H, E] at scale
                                 1 / sqrt(E); q and k are normed and rotated, v is a strided view
        The head is called in here because FSDP has the root's weights unsharded only here; what it returns must be
        a pytree (tensor, tuple, NamedTuple), so that FSDP's backward hooks find the tensors.
        """
        hidden = self._hidden(nn.Module.__call__, input_ids, position_ids, attend)
        return hidden if head is None else head(hidden, self.head_weight)

    def run(self, input_ids: Tensor, position_ids: Tensor, attend: Attend) -> Tensor:
        """The same hidden states without module hooks: FSDP neither gathers nor frees anything, so the weights
        must be unsharded. Nothing in it synchronises with the host: it can be captured in a CUDA graph."""
        return self._hidden(lambda module, *args: module.forward(*args), input_ids, position_ids, attend)

    def _hidden(self, call: Callable[..., Any], input_ids: Tensor, position_ids: Tensor, attend: Attend) -> Tensor:
        hidden = call(self.embed_tokens, input_ids)
        config, dtype = self.config, hidden.dtype
        cos, sin = self.by_rows(lambda x: rope_tables(x, config.rope, config.head_dim, dtype), position_ids)
        residual = None
        for layer in self.layers:
            hidden, residual = call(layer, hidden, residual, cos, sin, attend)
        stream = (hidden,) if residual is None else (hidden, residual)
        return self.by_rows(lambda *stream: call(self.norm, *stream)[:1], *stream)[0]

    def set_activation_checkpointing(self, enabled: bool) -> None:
        """Keep one hidden state per layer in training and compute the rest again in the backward."""
        for module in self.modules():
            if isinstance(module, DecoderLayer):
                module.recompute = enabled

    def set_exact(self, enabled: bool) -> None:
        """Make the bits of a token's hidden state depend on the tokens before it alone, not on the rest of the pack or
        of the decode step, given an `attend` that does: packed_attention(exact=True), exact_decode_attention.

        Costs a second forward where gradients are recorded, and work for whole blocks of rows in a small step. The
        first call raises ValueError where this machine or its number of threads does not allow it (InBlocks).
        Nothing changes, and nothing is tried out again, where the model is as it shall be already.
        """
        if enabled == self.exact:
            return
        self.exact = enabled
        self.by_rows = InBlocks() if enabled else all_at_once
        for module in self.modules():
            if isinstance(module, DecoderLayer):
                module.by_rows = self.by_rows
            elif isinstance(module, Linear):
                module.aligned = enabled

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator, std: float = 0.02) -> None:
        """Fill in place: matrices from N(0, std), biases 0, norms 1. The generator lives on the parameters' device."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(0.0, std, generator=generator)
            else:
                parameter.fill_(0.0 if name.endswith(".bias") else 1.0)


def _linear(config: ModelConfig, inputs: int, outputs: int, bias: bool = False) -> Linear:
    return Linear(inputs, outputs, bias=bias, dtype=config.dtype)
