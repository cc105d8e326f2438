"""Run the test suite on every database that is here, in CI all of it and on a newer Python; sum up.

The last line has the form ``N passed, N failed, N skipped``, for people and for CI.
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
NEWER = "3.13"
QUICK = "not foreign and not mutant and not pages"
"""What a person does not wait for."""
TOLD_LINES = 60
"""Of each failure, at the end."""
# One worker more than there are cores: many tests wait for processes. The tests of a file stay
# together: some share servers that they start. A worker that is killed ends the run: pytest-xdist
# may wait for ever for what it had to do.
IN_PARALLEL = (
    *("-n", str((os.cpu_count() or 1) + 1), "--dist", "loadfile", "--no-loadscope-reorder"),
    *("--max-worker-restart", "0"),
)


def main(arguments: Sequence[str]) -> int:
    """Run the suite in every way; the arguments are passed on to each pytest."""
    # A previous embedded run must not choose the database of this one.
    server = os.environ.pop("DATABASE_URL", "")
    ci = bool(os.environ.get("CI"))
    untested = []
    complete = "the complete suite, on embedded PostgreSQL"
    reports = [run(complete, arguments if ci else ["-m", QUICK, *arguments])]
    if not ci:
        untested.append(
            f"Celery's own suite, what shows that tests catch mistakes, axe-core on every page, "
            f"Python {NEWER}: CI does, and `CI=1 make test`"
        )

    newer = None
    if ci and sys.version_info[:2] != tuple(map(int, NEWER.split("."))):
        newer = newer_python()
        if not newer:
            untested.append(f"Python {NEWER}: there is no such interpreter")
    if not server:
        untested.append("a PostgreSQL server: DATABASE_URL is not set")
    if server or newer:
        # What is another here is another in one run: each takes long, and they do not meet.
        others = [
            *(["the server that DATABASE_URL names"] if server else []),
            *([f"Python {NEWER} with the newest Django"] if newer else []),
        ]
        reports.append(
            run(
                f"all but the slow tests, on {' and '.join(others)}",
                ["-m", "not slow", *arguments],
                python=newer or sys.executable,
                database_url=server,
            )
        )

    with tempfile.TemporaryDirectory() as directory:
        sqlite = f"sqlite:///{directory}/db.sqlite3"
        title = "what SQLite must do as well, on SQLite"
        reports.append(run(title, ["-m", "sqlite", *arguments], database_url=sqlite))

    # Again, in one place: of so long an output the beginning is seldom kept.
    for report in reports:
        for failure in report.failures:
            print(f"\nFAILED, in {report.title}:\n{failure}")
    print()
    for reason in untested:
        print(f"NOT TESTED: {reason}")
    total = sum((report.counts for report in reports), Counter[str]())
    print(", ".join(f"{total[key]} {key}" for key in ("passed", "failed", "skipped")))
    return 1 if total["failed"] or not total["passed"] else 0


class Report(NamedTuple):
    """What became of one run: how many tests passed, failed and were skipped, and what failed."""

    title: str
    counts: Counter[str]
    failures: list[str]


def run(
    title: str,
    arguments: Sequence[str],
    *,
    python: str = sys.executable,
    database_url: str = "",
) -> Report:
    """Run pytest once."""
    print(f"\n##### {title}\n", flush=True)
    environment = dict(os.environ)
    if database_url:
        environment["DATABASE_URL"] = database_url
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "report.xml"
        command = [python, "-m", "pytest", f"--junit-xml={path}", *IN_PARALLEL, *arguments]
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        report = read(title, path)
    if status and not report.counts["failed"]:
        # Nothing collected, an interrupt, a crash: whatever it was, it is no success.
        report.failures.append(f"pytest ended with exit code {status}")
        report.counts["failed"] = 1
    return report


def read(title: str, path: Path) -> Report:
    """Read a JUnit report; an error counts as a failure."""
    counts, failures = Counter[str](), list[str]()
    if path.exists():
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            found = [each for each in case if each.tag in ("failure", "error", "skipped")]
            failed = [each for each in found if each.tag != "skipped"]
            counts["failed" if failed else "skipped" if found else "passed"] += 1
            where = f"{case.get('classname')}.{case.get('name')}"
            failures += [f"{where}\n{_end(each.text or '')}" for each in failed]
    return Report(title, counts, failures)


def _end(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-TOLD_LINES:])


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
