"""What import-linter cannot see."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
KERNEL = next(
    contract["source_modules"]
    for contract in _CONTRACTS["contracts"]
    if contract.get("id") == "model-free-kernel"
)


@pytest.mark.parametrize("module", KERNEL)
def test_the_kernel_knows_no_database(module: str):
    """The kernel of outbox imports neither django.db nor a models module, not even late."""
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}

    assert not [
        name
        for name in imported
        if f"{name}.".startswith("django.db.") or "models" in name.split(".")
    ]
