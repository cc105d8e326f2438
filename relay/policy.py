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
    """The broker is away: checkpoint what it confirmed, blame no message, send the rest again."""
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
    confirmed = next(
        (i for i, outcome in enumerate(outcomes) if outcome.status is not Status.CONFIRMED),
        len(outcomes),
    )
    others = [each for each in outcomes[confirmed:] if each.status is not Status.CONFIRMED]
    if not others:
        return Judgement(Verdict.PASSED, confirmed)
    if unknown := [each for each in others if each.status is Status.UNKNOWN]:
        return Judgement(Verdict.OUTAGE, confirmed, unknown[0].reason)
    nacked = sum(each.status is Status.NACKED for each in others)
    held = sum(each.status is Status.HELD for each in others)
    if nacked > 1 and nacked + held == len(outcomes):
        return Judgement(Verdict.OUTAGE, 0, f"all {nacked} messages: {others[0].reason}")
    return Judgement(Verdict.REFUSED, confirmed, others[0].reason)
