"""The kernels inside a transformers model of the Qwen2, Qwen3 or Llama family."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from corl_kernels.checks import IGNORE
from corl_kernels.cross_entropy import linear_cross_entropy
from corl_kernels.norm import rms_norm
from corl_kernels.swiglu import swiglu

# B sequences, L positions, H hidden, V vocabulary
FAMILIES = ("qwen2", "qwen3", "llama")


def patch_transformers_model(model: nn.Module) -> nn.Module:
    """Give a transformers causal language model our RMSNorm, SwiGLU and head, and return it.

    model  a Qwen2ForCausalLM, Qwen3ForCausalLM or LlamaForCausalLM; its parameters, their names and its checkpoints
           stay what they are. Call it before FSDP, DDP or torch.compile
    With labels (and no logits_to_keep) the model then returns the loss transformers defines, its `logits` None: no
    [B, L, V] is made. Without labels it returns logits as before. Works under autocast and with gradient checkpointing.
    Raises ValueError for another model, a hidden activation that is not SiLU, and an lm_head with a bias.
    """
    config: Any = getattr(model, "config", None)
    kind = getattr(config, "model_type", type(model).__name__)
    if kind not in FAMILIES or not hasattr(model, "lm_head"):
        raise ValueError(f"model is a {kind}; give a causal language model of one of {', '.join(FAMILIES)}")
    if config.hidden_act not in ("silu", "swish"):
        raise ValueError(f"the model's hidden_act is {config.hidden_act!r}; SwiGLU needs 'silu'")
    head: Any = model.lm_head
    if head.bias is not None:
        raise ValueError("the model's lm_head has a bias; the patched loss has none")
    for module in model.modules():
        name = type(module).__name__
        if name.endswith("RMSNorm"):
            module.forward = _Norm(module)  # type: ignore[method-assign]
        elif name.endswith("MLP"):
            module.forward = _Mlp(module)  # type: ignore[method-assign]
    model.forward = _CausalLM(model)  # type: ignore[method-assign]
    return model


class _Norm:
    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, hidden_states: Tensor) -> Tensor:
        weight = self.module.weight
        x = hidden_states.to(weight.dtype)  # under autocast 16-bit states may meet an fp32 weight
        x = x if x.stride(-1) == 1 else x.contiguous()
        return rms_norm(x, weight, eps=self.module.variance_epsilon)


class _Mlp:
    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        module = self.module
        return module.down_proj(swiglu(module.gate_proj(x), module.up_proj(x)))


class _CausalLM:
    """The model's forward: its own where there are no labels."""

    def __init__(self, model: Any) -> None:
        self.model, self.plainly = model, model.forward
        # the Trainer reads from it which columns of a data set the model takes, and generate what it may pass
        self.__signature__ = inspect.signature(model.forward)

    def __call__(self, *args: Any, **options: Any) -> Any:
        given = self.__signature__.bind(*args, **options).arguments
        given |= given.pop("kwargs", {})
        labels, kept = given.get("labels"), given.get("logits_to_keep", 0)
        if labels is None or isinstance(kept, Tensor) or kept:
            return self.plainly(*args, **options)
        count = given.get("num_items_in_batch")
        for name in ("labels", "logits_to_keep", "num_items_in_batch"):
            given.pop(name, None)
        out = self.model.model(**given | {"return_dict": True})
        # transformers' own class of results, without importing transformers
        return self.__signature__.return_annotation(
            loss=_next_token_loss(out.last_hidden_state, self.model.lm_head.weight, labels, count),
            past_key_values=out.past_key_values,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )


def _next_token_loss(hidden: Tensor, weight: Tensor, labels: Tensor, count: Tensor | int | None) -> Tensor:
    """The mean cross-entropy of labels [B, L] given hidden [B, L, H], position i predicting label i + 1.

    count  what the sum is divided by (transformers' num_items_in_batch); None: the labels that are not -100
    """
    targets = torch.cat((labels[:, 1:], labels.new_full((len(labels), 1), IGNORE)), dim=1)
    if count is None:
        count = (targets != IGNORE).sum()
    weights = torch.ones(targets.shape, dtype=torch.float32, device=hidden.device) / count
    return linear_cross_entropy(hidden, weight, targets, weights)
