"""The script behind `make test`."""

from pathlib import Path

import pytest

from scripts import test as script

_REPORT = """
<testsuites>
  <testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10" />
</testsuites>
"""


def test_an_error_counts_as_a_failure(tmp_path: Path):
    """A test whose fixture broke has not passed."""
    report = tmp_path / "report.xml"
    report.write_text(_REPORT)

    assert script.count(report) == {"passed": 4, "failed": 3, "skipped": 3}


@pytest.mark.parametrize("selection", ["-k no_test_has_this_name", "--no-such-option"])
def test_a_run_without_tests_has_failed(selection: str, database_url: str):
    """A run that selects nothing, or does not even start, is no success."""
    arguments = [*selection.split(), "tests/test_architecture.py"]

    assert script.run("nothing", arguments, database_url=database_url)["failed"] == 1


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
    monkeypatch.setattr(script, "run", lambda *args, **kwargs: script.Counter(outcome))
    monkeypatch.setattr(script, "newer_python", lambda: None)

    assert script.main([]) == status
    assert last in capsys.readouterr().out.splitlines()[-1]
