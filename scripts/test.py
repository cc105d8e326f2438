"""Run the whole test suite on everything it must work on, and sum up.

The last line has the form ``N passed, N failed, N skipped``, for people and for CI.
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
NEWER = "3.13"
# One worker a core. The tests of a file stay together: some share servers that they start.
IN_PARALLEL = ("-n", "auto", "--dist", "loadfile")


def main(arguments: Sequence[str]) -> int:
    """Run the suite in every way; the arguments are passed on to each pytest."""
    # A previous embedded run must not choose the database of this one.
    server = os.environ.pop("DATABASE_URL", "")
    total: Counter[str] = Counter()
    untested = []

    total += run("the complete suite, on embedded PostgreSQL", arguments)

    if server:
        title = "all but the slow tests, on the server that DATABASE_URL names"
        total += run(title, ["-m", "not slow", *arguments], database_url=server)
    else:
        untested.append("a PostgreSQL server: DATABASE_URL is not set")

    with tempfile.TemporaryDirectory() as directory:
        sqlite = f"sqlite:///{directory}/db.sqlite3"
        title = "what SQLite must do as well, on SQLite"
        total += run(title, ["-m", "sqlite", *arguments], database_url=sqlite)

    if sys.version_info[:2] == tuple(map(int, NEWER.split("."))):
        pass  # the runs above were just that
    elif python := newer_python():
        title = f"all but the slow tests, on Python {NEWER} and the newest Django"
        total += run(title, ["-m", "not slow", *arguments], python=python)
    else:
        untested.append(f"Python {NEWER}: there is no such interpreter")

    print()
    for reason in untested:
        print(f"NOT TESTED: {reason}")
    print(", ".join(f"{total[key]} {key}" for key in ("passed", "failed", "skipped")))
    return 1 if total["failed"] or not total["passed"] else 0


def run(
    title: str,
    arguments: Sequence[str],
    *,
    python: str = sys.executable,
    database_url: str | None = None,
) -> Counter[str]:
    """Run pytest once and return how many tests passed, failed and were skipped."""
    print(f"\n##### {title}\n", flush=True)
    environment = dict(os.environ)
    if database_url:
        environment["DATABASE_URL"] = database_url
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [python, "-m", "pytest", f"--junit-xml={report}", *IN_PARALLEL, *arguments]
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        counts = count(report)
    if status and not counts["failed"]:
        # Nothing collected, an interrupt, a crash: whatever it was, it is no success.
        print(f"pytest ended with exit code {status}", flush=True)
        counts["failed"] = 1
    return counts


def count(report: Path) -> Counter[str]:
    """Count the outcomes in a JUnit report; an error counts as a failure."""
    if not report.exists():
        return Counter()
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    numbers: Counter[str] = Counter()
    for suite in suites:
        for key in ("tests", "failures", "errors", "skipped"):
            numbers[key] += int(suite.get(key, 0))
    failed = numbers["failures"] + numbers["errors"]
    passed = numbers["tests"] - failed - numbers["skipped"]
    return Counter(passed=passed, failed=failed, skipped=numbers["skipped"])


def newer_python() -> str | None:
    """Return the interpreter of an environment for the newer Python, made if need be."""
    found = subprocess.run(
        [ROOT / "scripts" / "find-python", NEWER], capture_output=True, text=True, check=False
    )
    if found.returncode:
        return None
    venv = f".venv-{NEWER}"
    subprocess.run([ROOT / "scripts" / "make-venv", venv, found.stdout.strip()], check=True)
    return str(ROOT / venv / "bin" / "python")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
