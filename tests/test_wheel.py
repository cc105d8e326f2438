"""What is installed is all there: not modules alone."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.translations import LOCALES, PACKAGES, ROOT, path_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a wheel built from this checkout."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*command, "--directory", str(directory)], cwd=ROOT, check=True, timeout=100)
    [wheel] = directory.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("suffix", ["po", "mo"])
def test_catalogues_are_in_the_wheel(names: set[str], suffix: str) -> None:
    """Both what people read and what gettext reads."""
    wanted = {
        path_of(package, locale, suffix).relative_to(ROOT).as_posix()
        for package in PACKAGES
        for locale in LOCALES
    }
    assert wanted <= names


@pytest.mark.parametrize("pattern", ["templates/**/*.html", "static/**/*"])
def test_pages_are_in_the_wheel(names: set[str], pattern: str) -> None:
    """With what they are made of, and how they look."""
    found = [path for package in PACKAGES for path in (ROOT / package).glob(pattern)]
    wanted = {path.relative_to(ROOT).as_posix() for path in found if Path.is_file(path)}

    assert wanted
    assert wanted <= names
