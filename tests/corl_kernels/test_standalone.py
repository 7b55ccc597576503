"""The package needs torch and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

import corl_kernels

PROGRAM = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"triton", "transformers", "corl", "numpy"}:
            raise ModuleNotFoundError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
import torch
import corl_kernels as ck
hidden, weight = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
ones, ids = torch.ones(3), torch.tensor([0, 4, -100])
ck.linear_policy_loss(hidden, weight, ids, ones, ones, objective=ck.PolicyObjective("grpo")).loss.backward()
ck.linear_logprobs(hidden, weight, ids, return_entropy=True)
ck.linear_cross_entropy(hidden, weight, ids, ones)
ck.linear_kl(hidden, weight, hidden, weight)
ck.sample_tokens(torch.randn(3, 5), temperature=1.0, seeds=ids, positions=ids.abs())
cache = torch.randn(2, 4, 1, 8)
table, lens = torch.tensor([[1]], dtype=torch.int32), torch.tensor([3], dtype=torch.int32)
ck.paged_attention_decode(torch.randn(1, 2, 8), cache, cache, table, lens, scale=1.0)
assert not {"triton", "transformers", "corl", "numpy"} & set(sys.modules)
print("done")
"""


@pytest.mark.slow
def test_runs_with_torch_alone():
    source_root = str(Path(corl_kernels.__file__).parents[1])
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path.insert(0, {source_root!r})\n{PROGRAM}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert out.stdout.strip() == "done", out.stderr
    assert out.returncode == 0


def test_public_list():
    assert sorted(corl_kernels.__all__) == corl_kernels.__all__
    assert all(getattr(corl_kernels, name).__doc__ for name in corl_kernels.__all__)
