"""Imports point down the layers of the README's picture, never up, and never in a circle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# From the top; a module may import from its own row and from every row below it.
LAYERS = [
    ("cli", "train"),
    ("pipeline", "prepare", "export", "input_checks"),
    ("training", "curriculum", "rods", "evaluation"),
    ("rollout",),
    ("model", "data", "grading", "checkpoint", "parallel", "fsdp2", "observe"),
    ("config",),
]
LEVEL = {name: len(LAYERS) - depth for depth, row in enumerate(LAYERS) for name in row}
MODULES = sorted((ROOT / "corl").rglob("*.py"))
HEAVY = {"transformers", "tokenizers", "datasets", "matplotlib", "tensorboard"}


def imports(path: Path) -> list[tuple[str, bool]]:
    """(module, whether at the top level) of every import in a file, type-checking blocks left out."""
    tree = ast.parse(path.read_text())
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from package import module` is an import of the module, not of the package's own names.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name if is_module(name) else node.module, id(node) in top) for name in names]
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def area(module: str) -> str | None:
    """The row entry that `corl.x.y` belongs to; None outside corl."""
    parts = module.split(".")
    return parts[1] if parts[0] == "corl" and len(parts) > 1 else None


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_points_down(path: Path) -> None:
    own = path.relative_to(ROOT / "corl").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for module, _ in imports(path):
        target = area(module)
        if target is not None:
            assert LEVEL[target] <= LEVEL[own], f"{path.name} ({own}) imports {module}, which lies above it"


def test_no_circles() -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {m for m, _ in imports(path) if m.startswith("corl.")}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for target in graph.get(name, ()):
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_slow_packages_only_inside_functions(path: Path) -> None:
    assert not [m for m, top in imports(path) if top and m.split(".")[0] in HEAVY]


def test_nothing_imports_the_entry_point() -> None:
    assert not [p for p in MODULES for m, _ in imports(p) if m == "corl.train"]


def test_kernels_know_nothing_above_them() -> None:
    for path in (ROOT / "kernels").rglob("*.py"):
        outside = {m.split(".")[0] for m, _ in imports(path)} - {"corl_kernels", "torch", "triton"}
        standard = set(__import__("sys").stdlib_module_names)
        assert outside <= standard, f"{path.name} imports {sorted(outside - standard)}"
