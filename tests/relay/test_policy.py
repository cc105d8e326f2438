"""What a page's outcomes mean."""

import pytest

from relay.brokers.base import CONFIRMED, Outcome, Status
from relay.policy import Judgement, Verdict, judge

NACKED = Outcome(Status.NACKED, "full")
FAILED = Outcome(Status.FAILED, "raised")
UNROUTABLE = Outcome(Status.UNROUTABLE, "no queue")
HELD = Outcome(Status.HELD, "behind")
UNKNOWN = Outcome(Status.UNKNOWN, "connection lost")


@pytest.mark.parametrize(
    ("outcomes", "judgement"),
    [
        ([], Judgement(Verdict.PASSED, 0)),
        ([CONFIRMED, CONFIRMED], Judgement(Verdict.PASSED, 2)),
        ([UNKNOWN, UNKNOWN], Judgement(Verdict.OUTAGE, 0, "connection lost")),
        ([CONFIRMED, UNKNOWN, CONFIRMED], Judgement(Verdict.OUTAGE, 1, "connection lost")),
        ([CONFIRMED, NACKED, UNKNOWN], Judgement(Verdict.OUTAGE, 1, "connection lost")),
        ([UNKNOWN, CONFIRMED], Judgement(Verdict.OUTAGE, 0, "connection lost")),
        ([UNROUTABLE, UNKNOWN], Judgement(Verdict.OUTAGE, 0, "connection lost")),
        ([CONFIRMED, NACKED, CONFIRMED], Judgement(Verdict.REFUSED, 1, "full")),
        ([UNROUTABLE, HELD, CONFIRMED], Judgement(Verdict.REFUSED, 0, "no queue")),
        ([UNROUTABLE, UNROUTABLE], Judgement(Verdict.REFUSED, 0, "no queue")),
        ([NACKED], Judgement(Verdict.REFUSED, 0, "full")),
        ([NACKED, HELD, NACKED], Judgement(Verdict.OUTAGE, 0, "all 2 messages: full")),
        ([NACKED, HELD, HELD], Judgement(Verdict.REFUSED, 0, "full")),
        ([FAILED, FAILED], Judgement(Verdict.REFUSED, 0, "raised")),
    ],
)
def test_an_outage_is_told_from_a_refusal(outcomes: list[Outcome], judgement: Judgement) -> None:
    """Unknown or all nacked: the broker is away. Anything else refused: that message's fault."""
    assert judge(outcomes) == judgement
