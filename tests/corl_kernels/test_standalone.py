"""The package needs torch alone, on CUDA triton too, and is a distribution of its own."""

import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import corl_kernels

SOURCE_ROOT = Path(__file__).resolve().parents[2] / "kernels"
README = (SOURCE_ROOT / "README.md").read_text()

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
def test_runs_with_torch_alone() -> None:
    code = f"import sys; sys.path.insert(0, {str(SOURCE_ROOT)!r})\n{PROGRAM}"
    out = run(sys.executable, "-W", "ignore", "-c", code)
    assert out.stdout.strip() == "done", out.stderr


def test_public_list() -> None:
    assert sorted(corl_kernels.__all__) == corl_kernels.__all__
    assert all(getattr(corl_kernels, name).__doc__ for name in corl_kernels.__all__)
    functions = {name for name in corl_kernels.__all__ if name.islower()}
    assert not {name for name in functions if f"{name}(" not in README.partition("##")[0]}, "not in the README's table"


@pytest.mark.slow
def test_the_distribution_runs_its_readme_with_torch_and_triton_alone(tmp_path: Path) -> None:
    """Installed from its wheel into an empty environment that sees torch, triton and what those two require."""
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, SOURCE_ROOT)
    (wheel,) = tmp_path.glob("corl_kernels-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        fields = message_from_bytes(archive.read(metadata))
        assert {name.split("/")[0] for name in archive.namelist()} == {"corl_kernels", Path(metadata).parts[0]}
        assert {"corl_kernels/py.typed", "corl_kernels/jit/__init__.py"} <= set(archive.namelist())
    required = {Requirement(text) for text in fields.get_all("Requires-Dist")}
    assert {requirement.name for requirement in required} == {"torch", "triton"}
    assert not any(requirement.extras for requirement in required)

    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    here = {each.name for each in required if each.marker is None or each.marker.evaluate()}
    link(here, site)

    names = {"corl_kernels", "torch", "triton", "numpy", "transformers", "corl"}
    importable = f"import importlib.util as util; print(*sorted(n for n in {names} if util.find_spec(n)))"
    assert set(run(python, "-c", importable, cwd=tmp_path).stdout.split()) == {"corl_kernels", *here}
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    lines = run(python, "-W", "ignore", "-c", block, cwd=tmp_path).stdout.splitlines()
    losses = [float(line.split()[-1]) for line in lines if line.startswith("imitation")]
    rewards = [float(line.split()[3]) for line in lines if line.startswith("GRPO")]
    assert len(losses) > 1, lines
    assert losses[-1] < losses[0] / 2
    assert rewards[-1] > rewards[0] + 0.1


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    out = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert out.returncode == 0, out.stdout + out.stderr
    return out


def link(names: set[str], site: Path) -> None:
    """Make the distributions and what they require importable from `site`, taken from the running environment."""
    waiting, done = sorted(names), set()
    while waiting:
        name = waiting.pop()
        if name.lower() in done:
            continue
        done.add(name.lower())
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(found.locate_file(top))))
        requirements = [Requirement(text) for text in found.requires or ()]
        waiting += [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
