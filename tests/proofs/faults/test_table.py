"""The table says what the rounds have shown."""

from pathlib import Path

import pytest

from tests.proofs.faults.__main__ import PAGE, main
from tests.proofs.faults.catalogue import Fault
from tests.proofs.faults.round import Outcome
from tests.proofs.faults.table import render, replace_section

FAULT = Fault(name="outage", title="away for {outage:g} s", strike=lambda world: None)


def outcome(drained: float, *problems: str) -> Outcome:
    return Outcome(
        fault=FAULT, events=1000, repeated=2, suppressed=1, drained=drained, problems=problems
    )


def test_a_row_sums_the_rounds_of_a_fault():
    """Events and duplicates are summed up; of the times it is the longest that counts."""
    row = render([outcome(1.0), outcome(3.0)], outage=60).splitlines()[2]

    assert row == "| away for 60 s | 2 | 2,000 | 4 | 2 | 3.0 s of 30 s | kept |"


def test_a_broken_promise_stands_out():
    """The verdict says how often, and the reason stands below the table."""
    lines = render([outcome(1.0), outcome(3.0, "lost: 1")], outage=60).splitlines()

    assert lines[2].endswith("| **broken in 1**, kept in 1 |")
    assert lines[-1] == "- away for 60 s: lost: 1"


def test_a_section_is_replaced():
    """What was between the comments goes, all else stays."""
    page = "before\n<!-- a -->\nold\n<!-- /a -->\nafter\n"

    assert replace_section(page, "a", "new\n") == (
        "before\n<!-- a -->\n\nnew\n\n<!-- /a -->\nafter\n"
    )
    with pytest.raises(ValueError, match="no section"):
        replace_section(page, "b", "new")


def test_the_page_has_its_sections():
    """The page that the tables are written to has a place for each."""
    for section in ("table", "soak"):
        assert "new" in replace_section(Path(PAGE).read_text(), section, "new")


def test_an_unknown_fault_is_refused(capsys: pytest.CaptureFixture[str]):
    """A misspelt name runs nothing, and the error lists the names there are."""
    with pytest.raises(SystemExit):
        main(["--fault", "nonsense"])
    assert "kill-relay.published" in capsys.readouterr().err
