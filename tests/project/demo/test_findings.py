"""What the second part of the demo found is judged."""

from dataclasses import replace

import pytest

from project.demo.findings import Book, Findings, Loss

LOST = Loss("shop", "billing", "missing", "1")
UNKNOWN = Loss("shop", "billing", "unknown", "2")


def book(*losses: Loss, agrees: bool = True) -> Book:
    return Book(
        sender="shop",
        group="billing",
        compared=10,
        agrees=agrees,
        breaks={"missing": len(losses)},
        repaired=0,
        accepted=0,
        open=frozenset(losses),
    )


@pytest.fixture
def findings() -> Findings:
    """Of a run in which all was found and mended."""
    return Findings(
        asked={"poll": {"answered": 2}, "await": {"declined": 1, "expired": 1}},
        asked_total=4,
        orders=3,
        acknowledged={"billing": {"handled": 3}},
        before=(book(),),
        planted={"stolen": frozenset([LOST])},
        found=(book(LOST, agrees=False),),
        after=(book(),),
        to_mend=1,
        mended=1,
    )


def test_what_is_as_promised_is_no_problem(findings: Findings) -> None:
    """What was lost on purpose, found and mended is none either."""
    assert list(findings.problems()) == []
    assert findings.as_dict()["reconciled"]["planted"] == {"stolen": 1}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"asked_total": 5}, "1 requests have not ended"),
        ({"asked": {"poll": {"failed": 4}}}, "requests have ended as failed"),
        ({"orders": 4}, "1 orders are not acknowledged by billing"),
        (
            {"before": (book(agrees=False),)},
            "the books of shop and billing do not agree before the losses",
        ),
        ({"after": (book(agrees=False),)}, "the books of shop and billing do not agree in the end"),
        ({"found": (book(),)}, "1 losses were not found"),
        ({"found": (book(LOST, UNKNOWN),)}, "1 breaks were found that nobody has made"),
        ({"mended": 0}, "1 orders that lost a message have not come to their end"),
    ],
)
def test_each_problem_is_named(
    findings: Findings, changes: dict[str, object], problem: str
) -> None:
    """And makes the demo fail."""
    assert list(replace(findings, **changes).problems()) == [problem]  # type: ignore[arg-type]
