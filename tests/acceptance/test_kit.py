"""A project outside the checkout is tested with the kit alone; so are the examples of its page."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from django.db import connection

from tests.kit.pytests import run_pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/how-to/testing.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PUBLIC = {"outbox", "outbox.testing", "outbox.testing.factories", "inbox", "outbox.celery"}


@pytest.fixture
def boutique(tmp_path: Path) -> Path:
    """The project, with the tests of the page beside its own."""
    project = tmp_path / "boutique"
    shutil.copytree(HERE / "boutique", project, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "pytest.ini").write_text(
        "[pytest]\nDJANGO_SETTINGS_MODULE = boutique.settings\n"
        "addopts = --strict-markers --strict-config\nfilterwarnings = error\n"
        "python_files = test_*.py tests.py\n"
    )
    # What names its file is of the quickstart's project, see test_quickstart.
    blocks = [text for text in BLOCK.findall(PAGE.read_text()) if not text.startswith("# ")]
    (project / "test_page.py").write_text("\n\n".join(blocks))
    return project


def database(vendor: str) -> str:
    """A test database that is none of ours, on our server or in memory."""
    if vendor == "sqlite":
        return json.dumps({"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"})
    names = ("HOST", "PORT", "USER", "PASSWORD", "OPTIONS")
    server = {name: connection.settings_dict[name] for name in names}
    test = {"NAME": f"test_boutique_{uuid.uuid4().hex[:8]}"}
    engine = "django.db.backends.postgresql"
    return json.dumps(server | {"ENGINE": engine, "NAME": "postgres", "TEST": test})


@pytest.mark.slow
@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])
@pytest.mark.django_db
def test_a_project_is_tested_with_the_kit_alone(boutique: Path, vendor: str) -> None:
    """Without a broker, and on either database; its own tests and all examples of the page pass."""
    if vendor == "postgresql" and connection.vendor != vendor:
        pytest.skip("needs PostgreSQL")
    done = run_pytest(boutique, "-p", "no:randomly", "-rp", DATABASE=database(vendor))

    assert done.returncode == 0, done.stdout[-8000:]
    passed = re.findall(r"^PASSED (\S+?)::(?:\w+::)?(\w+)", done.stdout, re.MULTILINE)
    for file in ("test_page.py", "shop/tests.py"):
        there = re.findall(r"^ *def (test_\w+)", (boutique / file).read_text(), re.MULTILINE)
        assert sorted(name for place, name in passed if place == file) == sorted(there) != []


@pytest.mark.slow
def test_it_is_tested_without_pytest(boutique: Path) -> None:
    """Django's own runner has no plugin; the mixin does the same."""
    done = subprocess.run(
        [sys.executable, "-m", "django", "test", "--settings", "boutique.settings", "shop"],
        cwd=boutique,
        env=os.environ | {"PYTHONPATH": str(boutique), "DATABASE": database("sqlite")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-8000:]
    assert "Ran 7 tests" in done.stdout


def test_it_needs_nothing_private(boutique: Path) -> None:
    """No test of the project imports what is not public, replaces anything, or waits."""
    for file in (boutique / "test_page.py", boutique / "shop/tests.py"):
        text = file.read_text()
        modules = {
            node.module
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ImportFrom) and node.module
        } | {
            alias.name
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        ours = {name for name in modules if name.split(".")[0] in ("outbox", "relay", "inbox")}
        assert ours <= PUBLIC
        assert not re.search(r"sleep|mock|monkeypatch|override_settings", text)
