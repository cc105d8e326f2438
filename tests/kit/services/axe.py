"""Get axe-core, which finds what a screen reader or a weak eye cannot use, from npm."""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from tests.kit.services import debian

NO_AXE = "no axe-core: "

VERSION = "4.14.1"
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
"""Of the script; what differs is not run."""
_SCRIPT = "axe.min.js"
_PATIENCE = 120  # seconds for npm


def script() -> str:
    """Return the script, from the cache or from npm; without it skip the test, or fail it in CI."""
    kept = _cache() / f"axe-core-{VERSION}" / _SCRIPT
    if not _is_right(kept):
        _get(kept)
    return kept.read_text(encoding="utf-8")


def _cache() -> Path:
    """Return a directory outside the checkout, which other checkouts share."""
    parent = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(parent) / "django-outbox-inbox"


def _is_right(path: Path) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256


def _get(kept: Path) -> None:
    if shutil.which("npm") is None:
        if not debian.can_install():
            _give_up("there is no npm, and only root on Debian can install it here")
        _try(lambda: debian.install("npm"))
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as directory:
        _try(lambda: _unpack(Path(directory)))
        found = Path(directory) / _SCRIPT
        if not _is_right(found):
            _give_up(f"what npm has as version {VERSION} is not what it was")
        # At once, as other workers may look for it.
        found.replace(kept)


def _unpack(directory: Path) -> None:
    subprocess.run(
        ["npm", "pack", "--silent", f"axe-core@{VERSION}"],
        cwd=directory,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_PATIENCE,
    )
    with tarfile.open(directory / f"axe-core-{VERSION}.tgz") as archive:
        member = archive.extractfile(f"package/{_SCRIPT}")
        assert member is not None
        (directory / _SCRIPT).write_bytes(member.read())


def _try(act: Callable[[], None]) -> None:
    try:
        act()
    except (subprocess.SubprocessError, tarfile.TarError, KeyError, OSError) as error:
        output = (getattr(error, "output", None) or "").strip()[-2000:]
        _give_up(f"npm did not give it: {error}\n{output}")


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(NO_AXE + reason, pytrace=False)
    pytest.skip(NO_AXE + reason)
