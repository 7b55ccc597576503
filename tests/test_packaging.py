"""The traps of the top-level layout: names that shadow other packages, stray __init__ files, the wheel's content."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_no_module_of_corl_shadows_another_package() -> None:
    """`torchrun corl/train.py` puts corl/ first on sys.path."""
    names = {path.stem for path in (ROOT / "corl").iterdir() if path.suffix == ".py" or path.is_dir()}
    third_party = {"torch", "triton", "numpy", "transformers", "tokenizers", "datasets", "evaluate", "yaml", "tqdm"}
    assert not names & (set(sys.stdlib_module_names) | third_party)


def test_kernels_is_a_source_root() -> None:
    assert not list((ROOT / "kernels").glob("*.py"))
    assert not list((ROOT / "tests").rglob("__init__.py"))
    assert not (ROOT / "bench" / "kernels.py").exists()


def test_ranges_admit_what_is_supported() -> None:
    dependencies = PROJECT["project"]["dependencies"]
    assert len(dependencies) <= 10
    assert "triton>=3.6; sys_platform == 'linux'" in dependencies
    assert {"torch>=2.11", "transformers>=5.13"} <= set(dependencies)
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    assert set(PROJECT["project"]["optional-dependencies"]) == {"cuda", "flash", "llm", "wiki", "dev"}


def test_kernels_alone_ask_for_the_same_torch_and_triton() -> None:
    alone = tomllib.loads((ROOT / "kernels" / "pyproject.toml").read_text())
    assert set(alone["project"]["dependencies"]) <= set(PROJECT["project"]["dependencies"])
    assert len(alone["project"]["dependencies"]) == 2
    assert alone["project"]["requires-python"] == PROJECT["project"]["requires-python"]
    assert set(alone["tool"]) == {"hatch"}, "ruff and mypy follow the root's settings"


@pytest.mark.slow
def test_wheel_holds_both_packages_and_the_graph(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        tmp_path,
        ROOT,
    ]
    subprocess.run(command, check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"corl/train.py", "corl/rods/embedded/edges.tsv", "corl_kernels/__init__.py"} <= names
    assert not [name for name in names if name.startswith(("tests/", "kernels/", "bench/"))]


@pytest.mark.slow
def test_public_names_load() -> None:
    code = "import corl; print([getattr(corl, name).__name__ for name in corl.__all__])"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120).stdout
    assert out.strip() == "['Completion', 'Decoder', 'Engine', 'Request', 'load_model', 'score']"
