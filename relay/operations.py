"""What people do about parked messages, on pages and through the API."""

from collections.abc import Collection

from django.utils.translation import gettext_noop

from outbox.operations import Operation
from relay.models import Parked
from relay.parking import people
from relay.states import TRANSITIONS, Verb


def _requeue(numbers: Collection[int], *, by: str, using: str) -> Collection[int]:
    return people.requeue(Parked.objects.using(using).filter(pk__in=numbers))


def _discard(numbers: Collection[int], *, by: str, using: str) -> Collection[int]:
    return people.discard(Parked.objects.using(using).filter(pk__in=numbers), by=by)


def _restore(numbers: Collection[int], *, by: str, using: str) -> Collection[int]:
    return people.restore(Parked.objects.using(using).filter(pk__in=numbers))


OF_PARKED = {
    operation.verb: operation
    for operation in (
        Operation(
            model=Parked,
            verb="requeue",
            perform=_requeue,
            written=gettext_noop("Requeued."),
            states=TRANSITIONS[Verb.REQUEUE].sources,
        ),
        Operation(
            model=Parked,
            verb="discard",
            perform=_discard,
            written=gettext_noop("Discarded."),
            states=TRANSITIONS[Verb.DISCARD].sources,
            target=TRANSITIONS[Verb.DISCARD].target,
        ),
        Operation(
            model=Parked,
            verb="restore",
            perform=_restore,
            written=gettext_noop("Restored."),
            states=TRANSITIONS[Verb.RESTORE].sources,
            target=TRANSITIONS[Verb.RESTORE].target,
            permission="discard",
        ),
    )
}
"""By verb; in which states each can be done is said by the table of relay.states."""
