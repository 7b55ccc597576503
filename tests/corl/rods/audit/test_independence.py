"""The audit must not be able to repeat the sampler's mistakes: it shares no code with it."""

import ast
from pathlib import Path

import corl.rods.audit

FOLDER = Path(corl.rods.audit.__file__).parent
ALLOWED = ("corl.rods.audit", "corl.rods.graph", "corl.data.items", "corl.observe.progress")
TRUSTED = FOLDER.parent / "graph"


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "corl"}


def test_imports_nothing_from_the_sampler() -> None:
    files = sorted(FOLDER.rglob("*.py"))
    assert len(files) > 5
    for path in files:
        for name in imported(path):
            assert name.startswith(tuple(prefix + "." for prefix in ALLOWED)), f"{path.name} imports {name}"
        assert "importlib" not in path.read_text(encoding="utf-8")


def test_nor_does_the_graph_it_reads() -> None:
    for path in sorted(TRUSTED.rglob("*.py")):
        assert not [name for name in imported(path) if name.startswith("corl.rods.sampling")], path.name


def test_reads_no_proof() -> None:
    """The names of what the sampler claims to have shown do not even stand in the code."""
    for path in sorted(FOLDER.rglob("*.py")):
        texts = {
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant)
        }
        assert not texts & {"proof", "options_evidence", "option_nodes", "provenance", "masked"}, path.name
