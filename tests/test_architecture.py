"""What import-linter cannot see."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
PURE = next(
    contract["source_modules"]
    for contract in _CONTRACTS["contracts"]
    if contract.get("id") == "pure"
)
FILES = sorted(
    file
    for module in PURE
    for path in [ROOT / module.replace(".", "/")]
    for file in (path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")])
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_a_message_is_needs_no_database(file: Path):
    """It imports neither django.db nor a models module, not even late."""
    tree = ast.parse(file.read_text())
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
