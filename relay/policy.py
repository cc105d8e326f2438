"""What the outcomes of a page mean: pure policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from relay.brokers.base import Outcome, Status


class Verdict(StrEnum):
    """What to do with a page after publishing it."""

    PASSED = "passed"
    """Everything is confirmed: checkpoint it."""
    OUTAGE = "outage"
    """The broker is away: no checkpoint, no blame on any message, publish the page again."""
    REFUSED = "refused"
    """Some message is at fault: checkpoint what is before it, and stop there."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`confirmed` counts the messages before the first that is not confirmed."""

    verdict: Verdict
    confirmed: int
    reason: str = ""


def judge(outcomes: Sequence[Outcome]) -> Judgement:
    """Tell an outage from a message's own fault.

    Any unknown outcome is an outage. So is a page of which everything that was sent was nacked,
    if that is more than one message: a broker that refuses everything is in trouble itself.
    """
    confirmed = 0
    refusals: list[Outcome] = []
    nacked = held = 0
    for outcome in outcomes:
        if outcome.status is Status.UNKNOWN:
            return Judgement(Verdict.OUTAGE, 0, outcome.reason)
        if outcome.status is not Status.CONFIRMED:
            refusals.append(outcome)
            nacked += outcome.status is Status.NACKED
            held += outcome.status is Status.HELD
        elif not refusals:
            confirmed += 1
    if not refusals:
        return Judgement(Verdict.PASSED, confirmed)
    if nacked > 1 and nacked + held == len(outcomes):
        return Judgement(Verdict.OUTAGE, 0, f"all {nacked} messages: {refusals[0].reason}")
    return Judgement(Verdict.REFUSED, confirmed, refusals[0].reason)
