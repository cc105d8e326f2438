"""Run pytest as other projects do: in a process of its own, in their directory."""

import os
import subprocess
import sys
from pathlib import Path

OURS = ("DJANGO", "OUTBOX", "PYTEST", "TEST_")


def run_pytest(
    directory: Path, *options: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run the tests in a directory, without anything of our own settings; return what it printed.

    Its plugins are those of the environment, found by themselves.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    always = ("-q", "-p", "no:cacheprovider")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *always, *options],
        cwd=directory,
        env=clean | {"PYTHONPATH": str(directory)} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
