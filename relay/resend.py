"""Publish messages once more, to one group and nobody else: under the address of its queue."""

from collections.abc import Collection
from uuid import UUID

from outbox.exceptions import ConfigurationError
from outbox.models import Message
from relay.conf import relay_settings
from relay.replay import publish_some_again
from relay.reports.state import State, states

AT_ONCE = 500
"""Messages that are looked up with one statement."""
UNDER_WAY = frozenset({State.PENDING, State.PARKED, State.WAITING, State.DEAD})
"""What may be published yet. What was skipped or discarded never is."""


class RelayResending:
    """See outbox.extensions.resending."""

    def unpublished(self, message_ids: Collection[str], *, relay: str, using: str) -> set[str]:
        if relay not in relay_settings():  # of which nothing would ever be published
            raise ConfigurationError(f"There is no relay {relay!r} in RELAYS.")
        found: set[str] = set()
        for positions in _positions(message_ids, using):
            known = states(list(positions), [relay], using)
            found |= {
                positions[position]
                for position, by_relay in known.items()
                if by_relay[relay] in UNDER_WAY
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
