"""Publish messages once more, to one group and nobody else: under the address of its queue."""

from collections.abc import Collection
from uuid import UUID

from outbox.models import Message
from relay.replay import publish_some_again
from relay.reports.state import State, states

AT_ONCE = 500
"""Messages that are looked up with one statement."""


class RelayResending:
    """See outbox.extensions.resending."""

    def unpublished(self, message_ids: Collection[str], *, relay: str, using: str) -> set[str]:
        found: set[str] = set()
        for positions in _positions(message_ids, using):
            known = states(list(positions), [relay], using)
            found |= {
                positions[position]
                for position, by_relay in known.items()
                if by_relay[relay] is not State.PUBLISHED
            }
        return found

    def resend(
        self, message_ids: Collection[str], *, topic: str, relay: str, using: str
    ) -> list[str]:
        done: list[str] = []
        for positions in _positions(message_ids, using):
            if positions:
                again = publish_some_again(list(positions), relay, using=using, topic=topic)
                done += [positions[position] for position in again]
        return done


def _positions(message_ids: Collection[str], using: str) -> list[dict[int, str]]:
    """Return the ids by position, in parts; without those that are not in the log."""
    wanted = [UUID(each) for each in message_ids]
    log = Message.objects.using(using)
    return [
        {
            position: str(message_id)
            for position, message_id in log.filter(
                message_id__in=wanted[start : start + AT_ONCE]
            ).values_list("position", "message_id")
        }
        for start in range(0, len(wanted), AT_ONCE)
    ]
