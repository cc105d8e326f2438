"""What the outcomes of a page mean: pure policy."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from outbox.message.envelope import Envelope
from outbox.runtime.backoff import Backoff
from relay.brokers.base import SKIPPED, Outcome, Status

BEHIND = Outcome(Status.HELD, "an earlier message of its key is parked")


@dataclass(frozen=True, slots=True)
class Judgement:
    """How much of a page is settled: the messages before the first with an unknown fate.

    Of those, `parked` are out of the flow, by their index in the page; the others are confirmed.
    What is left is published again. `outage` says why the broker is away, so that no message is to
    blame; without it the time was over. `nacked` says that nothing is settled, because the broker
    refused everything.
    """

    settled: int
    parked: dict[int, Outcome] = field(default_factory=dict)
    outage: str = ""
    nacked: str = ""

    @property
    def confirmed(self) -> int:
        return self.settled - len(self.parked)


def judge(
    messages: Sequence[Envelope], outcomes: Sequence[Outcome], *, patient: bool = True
) -> Judgement:
    """Tell an outage of the broker from a message's own fault.

    An unknown outcome is an outage; one that was not sent is nobody's fault. Nacks for all that was
    sent may be an outage, if it went to more than one topic: while we are `patient` no message is
    blamed. Any other refusal is about the message or its queue: it is parked, and so is what was
    held behind it.
    """
    if patient and (reason := _refuses_everything(messages, outcomes)):
        return Judgement(0, nacked=reason)
    parked: dict[int, Outcome] = {}
    for index, outcome in enumerate(outcomes):
        if outcome.status in (Status.UNSENT, Status.UNKNOWN):
            unknown = (each for each in outcomes[index:] if each.status is Status.UNKNOWN)
            return Judgement(index, parked, next((each.reason for each in unknown), ""))
        if outcome.status is not Status.CONFIRMED:
            parked[index] = outcome
    return Judgement(len(outcomes), parked)


def _refuses_everything(messages: Sequence[Envelope], outcomes: Sequence[Outcome]) -> str:
    topics: set[str] = set()
    for message, outcome in zip(messages, outcomes, strict=True):
        if outcome.status is Status.NACKED:
            topics.add(message.topic)
        elif outcome.status not in (Status.HELD, Status.UNSENT) and outcome is not SKIPPED:
            return ""
    if len(topics) < 2:
        return ""
    nack = next(outcome for outcome in outcomes if outcome.status is Status.NACKED)
    return f"it refuses everything: {nack.reason}"


@dataclass(frozen=True, slots=True)
class Patience:
    """How often, and with which pauses, a parked message is tried again."""

    attempts: int = 300
    backoff: Backoff = field(default_factory=lambda: Backoff(base=1.0, cap=300.0))

    def pause(self, status: Status, attempts: int) -> float | None:
        """Return the seconds until the next attempt after `attempts` of them; None to give up.

        A nack says that the broker or a queue is in trouble, nothing of the message: nobody could
        mend the message, so it is tried for as long as it takes.
        """
        if attempts >= self.attempts and status is not Status.NACKED:
            return None
        return self.backoff.delay(attempts - 1)
