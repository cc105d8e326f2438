"""What the relays have made of the messages of a conversation."""

from collections.abc import Iterator, Sequence

from outbox.extensions.flow import Mood, Question, Report, Reporter, Stage
from outbox.models import Message
from relay.conf import relay_settings
from relay.models import Parked
from relay.reports.masking import error_of
from relay.reports.state import State, cursors, relay_names, states

AT_ONCE = 1000
"""Messages that one statement asks about."""

MOODS = {
    State.PENDING: Mood.OPEN,
    State.PARKED: Mood.OPEN,
    State.WAITING: Mood.OPEN,
    State.DEAD: Mood.FAILED,
}
"""Of what is not over and well; a message that is skipped or discarded is nobody's concern."""


class RelayReporter(Reporter):
    """Reports for each relay in which state a message is, and why one is parked."""

    def report(self, question: Question) -> Report:
        messages, using = question.messages, question.using
        relays = relay_names(cursors(using)) if messages else []
        return Report(
            [
                stage
                for start in range(0, len(messages), AT_ONCE)
                for stage in _stages(messages[start : start + AT_ONCE], relays, using)
            ]
        )


def _stages(messages: Sequence[Message], relays: Sequence[str], using: str) -> Iterator[Stage]:
    positions = [message.position for message in messages]
    found = states(positions, relays, using)
    rows = Parked.objects.using(using).filter(position__in=positions)
    parked = {(row.position, row.relay): row for row in rows}
    configured = relay_settings()
    for message in messages:
        # A message that was deleted meanwhile is in no state any more.
        for relay, state in found.get(message.position, {}).items():
            if state == State.PENDING and relay not in configured:
                continue  # it has gone, and will publish nothing
            row = parked.get((message.position, relay))
            yield Stage(
                message_id=str(message.message_id),
                source=message.source,
                type=message.type,
                by=relay,
                state=state.value,
                mood=MOODS.get(state, Mood.DONE),
                at=(row.settled_at or row.parked_at) if row else None,
                attempts=row.attempts if row else 0,
                error=error_of(row) if row else "",
                of=Parked._meta.label_lower,
                row=row.pk if row else None,
            )
