"""The script behind `make test`."""

from pathlib import Path

import pytest

from scripts import test as script

_REPORT = """
<testsuites>
  <testsuite name="pytest">
    <testcase classname="tests.test_a" name="test_one" />
    <testcase classname="tests.test_a" name="test_two"><skipped message="no broker" /></testcase>
    <testcase classname="tests.test_a" name="test_three"><failure>assert 1 == 2</failure></testcase>
    <testcase classname="tests.test_b" name="test_four"><error>no fixture</error></testcase>
  </testsuite>
</testsuites>
"""


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is given, and what the script changes in the environment is undone."""
    monkeypatch.setenv("DATABASE_URL", "")


def test_an_error_counts_as_a_failure(tmp_path: Path):
    """A test whose fixture broke has not passed; of each it is known where and how."""
    path = tmp_path / "report.xml"
    path.write_text(_REPORT)

    report = script.read("all", path)

    assert report.counts == {"passed": 1, "failed": 2, "skipped": 1}
    assert report.failures == [
        "tests.test_a.test_three\n  assert 1 == 2",
        "tests.test_b.test_four\n  no fixture",
    ]


@pytest.mark.parametrize("selection", ["-k no_test_has_this_name", "--no-such-option"])
def test_a_run_without_tests_has_failed(selection: str, database_url: str):
    """A run that selects nothing, or does not even start, is no success."""
    arguments = [*selection.split(), "tests/test_architecture.py"]

    assert script.run("nothing", arguments, database_url=database_url).counts["failed"] == 1


@pytest.mark.parametrize(
    ("outcome", "status", "last"),
    [
        ({"passed": 2, "failed": 0, "skipped": 1}, 0, "passed, 0 failed"),
        ({"passed": 2, "failed": 1, "skipped": 0}, 1, "passed, "),
        ({}, 1, "0 passed, 0 failed, 0 skipped"),
    ],
)
def test_the_last_line_sums_up(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: dict[str, int],
    status: int,
    last: str,
):
    """One failed test in any run fails the whole, and so does a run of nothing."""
    failures = ["tests.test_a.test_three"] * outcome.get("failed", 0)
    report = script.Report("all", script.Counter(outcome), failures)
    monkeypatch.setattr(script, "run", lambda *args, **kwargs: report)
    monkeypatch.setattr(script, "newer_python", lambda: None)

    assert script.main([]) == status
    printed = capsys.readouterr().out
    assert last in printed.splitlines()[-1]
    assert ("FAILED, in all:\ntests.test_a.test_three" in printed) is bool(failures)


@pytest.mark.parametrize(("ci", "runs"), [("1", 3), ("", 2)])
def test_a_newer_python_is_for_ci(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ci: str, runs: int
):
    """At a desk it would be a third of the time; that it was not tested is said."""
    titles: list[str] = []

    def run(title: str, *args: object, **kwargs: object) -> script.Report:
        titles.append(title)
        return script.Report(title, script.Counter(passed=1), [])

    monkeypatch.setattr(script, "run", run)
    monkeypatch.setattr(script, "newer_python", lambda: "python-newer")
    monkeypatch.setattr(script, "NEWER", "3.99")
    monkeypatch.setenv("CI", ci)

    assert script.main([]) == 0
    assert len(titles) == runs
    assert ("Python 3.99: CI does" in capsys.readouterr().out) is not bool(ci)
