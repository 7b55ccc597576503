"""PolicyObjective refuses what no loss is defined for."""

import dataclasses

import pytest

from corl_kernels import PolicyObjective

WRONG = {
    "kind='ppo' is not known; choose one of reinforce, grpo, gspo, cispo": {"kind": "ppo"},
    "kl_estimator='k4' is not known; choose one of k1, k2, k3": {"kl_estimator": "k4"},
    "importance='group' is not known; choose one of token, sequence": {"importance": "group"},
    "rollout_correction='tis' is not known; choose one of None, truncate, mask": {"rollout_correction": "tis"},
    "reinforce has none": {"kind": "reinforce", "importance": "sequence"},
    "clip_low=-0.1 must be 0 or more": {"clip_low": -0.1},
    "clip_high=nan must be 0 or more": {"clip_high": float("nan")},
    "rollout_cap=-1 must be 0 or more": {"rollout_cap": -1},
    "dual_clip=1.0 must be above 1": {"dual_clip": 1.0},
    "kl_coef=inf must be finite": {"kl_coef": float("inf")},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_settings_raise(message):
    with pytest.raises(ValueError, match=message):
        PolicyObjective(**WRONG[message])


def test_defaults_are_those_of_the_contract():
    assert dataclasses.astuple(PolicyObjective()) == ("reinforce", 0.2, 0.2, None, 0.0, "k3", 0.0, "token", None, 2.0)
