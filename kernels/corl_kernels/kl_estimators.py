"""Per-token estimators of the KL divergence from a reference policy."""

import torch
from torch import Tensor

from corl_kernels.checks import check_tensor

KL_ESTIMATORS = ("k1", "k2", "k3")


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, estimator: str) -> Tensor:
    """Estimate KL(policy || reference) from one sampled token each, differentiated as written.

    logprobs, ref_logprobs  same shape, nats
    estimator  k1 `logprobs - ref`; k2 `(logprobs - ref)^2 / 2`; k3 `exp(ref - logprobs) - (ref - logprobs) - 1`
    Raises ValueError for another estimator or unequal shapes. Source: J. Schulman, "Approximating KL Divergence", 2020.
    """
    check_tensor("logprobs", logprobs, (None,) * getattr(logprobs, "ndim", 0), logprobs)
    check_tensor("ref_logprobs", ref_logprobs, tuple(logprobs.shape), logprobs)
    gap = logprobs - ref_logprobs
    if estimator == "k1":
        return gap
    if estimator == "k2":
        return gap.square() / 2
    if estimator == "k3":
        return torch.expm1(-gap) + gap
    raise ValueError(f"estimator={estimator!r} is not known; choose one of {', '.join(KL_ESTIMATORS)}")
