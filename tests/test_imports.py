"""The layers of the package: who may import whom, and what `import hspan` may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "hspan"

# Imports go leftwards only: a package may import packages of a lower rank, never its neighbours.
RANKS = {
    "_version": 0,
    "_allocator": 0,
    "errors": 0,
    "_whole_files": 1,
    "hardware": 2,
    "ops": 2,
    "imaging": 2,
    "modules": 3,
    "data": 3,
    "metrics": 3,
    "models": 4,
    "weights": 5,
    "inference": 6,
    "export": 6,
    "evaluation": 7,
    "explanation": 8,
    "training": 8,
    "recipes": 8,
    "reproduce": 9,
    "integrations": 9,
    "web": 10,
    "cli": 11,
}


def layer(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imported_layers(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names = [f"{module}.{a.name}" if module == "hspan" else module for a in node.names]
        else:
            continue
        found |= {n.split(".")[1] for n in names if n.startswith("hspan.")}
    return found


FILES = sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_leftwards(path):
    here = layer(path)
    for other in imported_layers(path) - {here}:
        assert RANKS[other] < RANKS[here], f"{here} imports {other}"


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    return {line.split(".")[0] for line in output.splitlines()}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import hspan", {"torch", "numpy", "triton", "gradio", "lightning", "pyvips", "PIL"}),
        ("import hspan.cli", {"torch", "numpy", "lightning", "pyvips", "PIL"}),
        ("import hspan.ops, hspan.models", {"triton", "lightning", "pyvips", "torchvision"}),
    ],
)
def test_import_is_light(statement, absent):
    assert not loaded_by(statement) & absent


def test_attention_does_not_load_the_compiler():
    """Importing torch's compiler takes a second, which every command would wait for."""
    code = (
        "import sys, torch, hspan; x = torch.rand(1, 4, 8, 8); hspan.HSPA(4)(x).sum().backward();"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_resolve():
    import hspan

    for name in hspan.__all__:
        assert getattr(hspan, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'soft_treshold'"):
        hspan.soft_treshold  # noqa: B018
