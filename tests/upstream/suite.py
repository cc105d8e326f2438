"""Run a foreign test suite in a process of its own, and compare it with what is known of it."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.kit.processes import ROOT


@dataclass(frozen=True)
class Ran:
    """What came of each test of a suite, by name, and all that was printed."""

    passed: frozenset[str]
    failed: frozenset[str]
    output: str

    def compare(self, differences: Mapping[str, str]) -> None:
        """Fail unless exactly the tests that are known to differ have failed.

        `differences` has the names of tests, each with the reason.
        """
        unknown = sorted(self.failed - differences.keys())
        over = sorted(self.passed & differences.keys())
        missing = sorted(differences.keys() - self.passed - self.failed)
        assert not unknown, f"{unknown} failed:\n{self.output[-8000:]}"
        assert not over, f"no difference any more, take them off the list: {over}"
        assert not missing, f"the suite has no such tests: {missing}"


def run(
    directory: Path, tests: Iterable[str], *options: str, timeout: float, **environment: str
) -> Ran:
    """Run tests with pytest in a directory; it and the checkout are on Python's path."""
    report = directory / f"report-{os.getpid()}.xml"
    (directory / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-c", "pytest.ini", "--rootdir", "."]
    command += ["-p", "no:randomly", "-p", "no:cacheprovider", "-q", f"--junit-xml={report}"]
    command += ["-p", "no:outbox"]  # its tests are about brokers
    done = subprocess.run(
        [*command, *options, *tests],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert report.exists(), done.stdout[-8000:]
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    report.unlink()
    assert cases, done.stdout[-8000:]
    bad = {_name(case) for case in cases if _has(case, "failure", "error")}
    skipped = {_name(case) for case in cases if _has(case, "skipped")}
    good = {_name(case) for case in cases} - bad - skipped
    return Ran(frozenset(good), frozenset(bad), done.stdout)


def _has(case: ElementTree.Element, *children: str) -> bool:
    return any(case.find(child) is not None for child in children)


def _name(case: ElementTree.Element) -> str:
    return f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name')}"
