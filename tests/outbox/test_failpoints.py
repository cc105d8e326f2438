"""Failpoints: a test can kill a process where it wants to."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from outbox import failpoints

ROOT = Path(__file__).resolve().parents[2]
PASS = "from outbox.failpoints import hit\nfor n in range(5): hit({name!r}); print(n, flush=True)"


def run(spec: str | None, name: str = "relay.read") -> subprocess.CompletedProcess[str]:
    """Pass a failpoint five times in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k != failpoints.VARIABLE}
    if spec is not None:
        environment[failpoints.VARIABLE] = spec
    return subprocess.run(
        [sys.executable, "-c", PASS.format(name=name)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("spec", "passed"), [("relay.read", 0), ("relay.read:1", 0), ("relay.read:3", 2)]
)
def test_kills(spec: str, passed: int):
    """The process dies the n-th time it passes, as if the power had gone."""
    result = run(spec)

    assert result.returncode == -signal.SIGKILL
    assert result.stdout.split() == [str(number) for number in range(passed)]


@pytest.mark.parametrize("spec", [None, "", "relay.published", "relay.read:6"])
def test_lives(spec: str | None):
    """Unset, of another name, or not often enough: nothing happens."""
    result = run(spec)

    assert (result.returncode, result.stdout.split()) == (0, ["0", "1", "2", "3", "4"])


@pytest.mark.parametrize("spec", ["relay.raed", ":1", "relay"])
def test_unknown_name(spec: str):
    """A name that does not exist is refused, since a crash test would pass without a crash."""
    result = run(spec)

    assert result.returncode == 1
    assert "unknown failpoint" in result.stderr
    assert "relay.published" in result.stderr


@pytest.mark.parametrize("spec", ["relay.read:0", "relay.read:-1", "relay.read:x", "relay.read:²"])
def test_wrong_count(spec: str):
    """So is a number of passes that would never be reached."""
    result = run(spec)

    assert result.returncode == 1
    assert "is not a number of passes" in result.stderr


def test_every_name_is_passed_somewhere():
    """The names are those of the code, no more and no fewer."""
    passed = set()
    for package in ("outbox", "relay", "inbox"):
        for path in (ROOT / package).rglob("*.py"):
            passed |= set(re.findall(r'\bhit\("([a-z._]+)"\)', path.read_text()))

    assert passed == failpoints.FAILPOINTS
