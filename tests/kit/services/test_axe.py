"""Where axe-core comes from, and what tests say that cannot have it."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kit.services import axe, debian


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache with nothing in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    return tmp_path / "django-outbox-inbox" / f"axe-core-{axe.VERSION}"


@pytest.fixture
def no_npm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without npm that cannot install it."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(debian, "can_install", lambda: False)


def test_without_npm_a_test_is_skipped(no_npm: None) -> None:
    """And says why."""
    with pytest.raises(pytest.skip.Exception, match="there is no npm"):
        axe.script()


def test_in_ci_that_is_a_failure(no_npm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everything has to run, nothing is left out in silence."""
    monkeypatch.setenv("CI", "1")

    with pytest.raises(pytest.fail.Exception, match="there is no npm"):
        axe.script()


def test_a_registry_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """What npm says is told."""

    def fail(command: list[str], **options: Any) -> None:
        raise subprocess.CalledProcessError(1, command, output="npm error ECONNREFUSED")

    monkeypatch.setattr(shutil, "which", lambda name: "/bin/npm")
    monkeypatch.setattr(subprocess, "run", fail)

    with pytest.raises(pytest.skip.Exception, match="ECONNREFUSED"):
        axe.script()


def test_another_script_is_not_run(cache: Path, no_npm: None) -> None:
    """Whatever lies in the cache."""
    cache.mkdir(parents=True)
    (cache / "axe.min.js").write_text("alert(1)")

    with pytest.raises(pytest.skip.Exception):
        axe.script()
