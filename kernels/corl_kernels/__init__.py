"""Kernels for reinforcement learning of language models: losses on the head, attention, norms, rotary, sampling.

CUDA tensors run the Triton kernels of corl_kernels.jit, CPU tensors plain torch, for which triton is never imported.
Every op has a plain torch reference beside it, named `<op>_reference`.
"""

from corl_kernels.cross_entropy import linear_cross_entropy
from corl_kernels.hugging_face import patch_transformers_model
from corl_kernels.kl import linear_kl
from corl_kernels.kl_estimators import kl_estimate
from corl_kernels.kv_store import store_kv
from corl_kernels.logprobs import LogProbs, linear_logprobs
from corl_kernels.norm import add_rms_norm, rms_norm
from corl_kernels.objective import PolicyMetrics, PolicyObjective
from corl_kernels.paged_attention import paged_attention_decode
from corl_kernels.policy_loss import PolicyLoss, linear_policy_loss
from corl_kernels.rotary import qk_norm_rope
from corl_kernels.sampling import Sampled, sample_tokens, vocabulary_slice
from corl_kernels.swiglu import swiglu
from corl_kernels.vocabulary import VocabularySlice

__all__ = [
    "LogProbs",
    "PolicyLoss",
    "PolicyMetrics",
    "PolicyObjective",
    "Sampled",
    "VocabularySlice",
    "add_rms_norm",
    "kl_estimate",
    "linear_cross_entropy",
    "linear_kl",
    "linear_logprobs",
    "linear_policy_loss",
    "paged_attention_decode",
    "patch_transformers_model",
    "qk_norm_rope",
    "rms_norm",
    "sample_tokens",
    "store_kv",
    "swiglu",
    "vocabulary_slice",
]
