"""Get the source of an installed package, tests included, as its registry ships it."""

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import pytest

from tests.kit.processes import ROOT

KEPT = ROOT / ".local" / "upstream"


def source(name: str) -> Path:
    """Return the unpacked source of a package at its installed version, fetched once.

    Skips the test where it cannot be had; fails it in CI.
    """
    directory = KEPT / f"{name}-{version(name)}"
    if not directory.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT) as scratch:
            archive = _download(f"{name}=={version(name)}", scratch)
            with tarfile.open(archive) as tar:
                tar.extractall(scratch, filter="data")
            # Of several processes that get here at once, the first one's stays.
            unpacked = Path(scratch) / archive.name.removesuffix(".tar.gz")
            try:
                unpacked.rename(directory)
            except OSError:
                assert directory.exists()
    return directory


def _download(requirement: str, directory: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--dest", directory, requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = list(Path(directory).glob("*.tar.gz"))
    if done.returncode or not archives:
        _give_up(f"the source of {requirement} cannot be had: {done.stderr.strip()[-300:]}")
    return archives[0]


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
