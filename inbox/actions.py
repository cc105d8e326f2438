"""What a person does about messages that are not processed: retry, edit and retry, discard.

Nothing here waits: what a consumer has in work at the moment is left alone and reported.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from inbox.calls import MAX_ERROR
from inbox.delivery import Delivery
from inbox.ledger import Ledger, storable
from inbox.models import DeadLetter, Original, Receipt
from inbox.order import LineKey, place_stored
from inbox.outcomes import read
from inbox.receiver import Batch
from inbox.registry import handlers
from inbox.states import Event, State, letters_before, states_before
from outbox.exceptions import OutboxError, UndecodableMessage

RAW = ("headers", "body")


class NotPossible(OutboxError):
    """A message cannot be edited like this; the text says why."""


@dataclass(slots=True)
class Done:
    """Numbers of the rows that were changed, and of those that were not.

    What is left was in another state by then, in work, or is as unusable as before.
    """

    changed: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)


# --- Receipts ------------------------------------------------------------------------------------


def retry(numbers: Collection[int], *, using: str) -> Done:
    """Let receipts be due at once, with all their attempts before them again."""
    return _change(numbers, Event.RETRY, _retry, using)


def discard(numbers: Collection[int], *, using: str) -> Done:
    """Give receipts up. What waits behind them in their lines goes on."""
    return _change(numbers, Event.DISCARD, _discard, using)


def edit(number: int, message: Delivery, *, by: str, using: str) -> None:
    """Put another message in the place of a receipt's, keep the original, and retry it.

    Raises NotPossible if it would be another message, if its data does not fit its event type, or
    if the receipt is in work or past that.
    """

    def change(rows: list[Receipt], using: str) -> None:
        for row in rows:
            _check_same(row, message)
            _check_fits(row, message)
            _keep_original(row, using, by, receipt=row)
            row.headers, row.body = message.headers_as_json(), message.body
            row.content_type = message.content_type
            row.save(using=using, update_fields=[*RAW, "content_type"])
        _retry(rows, using)

    if not _change([number], Event.RETRY, change, using).changed:
        raise NotPossible("It is being handled right now, or not retrying and not dead any more.")


def _change(
    numbers: Collection[int], event: Event, change: Callable[[list[Receipt], str], None], using: str
) -> Done:
    with transaction.atomic(using=using):
        ledger = Ledger(using)
        found = Receipt.objects.using(using).filter(pk__in=numbers, state__in=states_before(event))
        rows = list(found.values_list("pk", "handler", "source", "key", "place"))
        lines = {
            pk: LineKey(handler, source, key or "")
            for pk, handler, source, key, place in rows
            if place
        }
        mine = ledger.try_lock(lines.values()) if lines else set()
        free = [pk for pk, *_ in rows if pk not in lines or lines[pk] in mine]
        # Asked again, since a consumer may have been faster than the lock.
        locked = found.select_for_update(skip_locked=True).filter(pk__in=free)
        taken = list(locked.defer(*RAW).order_by("pk"))
        change(taken, using)
    changed = [row.pk for row in taken]
    return Done(changed, sorted(set(numbers) - set(changed)))


def _retry(rows: list[Receipt], using: str) -> None:
    _update(rows, using, state=State.RETRYING, attempts=0, begun=None, next_attempt_at=Now())


def _discard(rows: list[Receipt], using: str) -> None:
    _update(rows, using, state=State.DISCARDED, next_attempt_at=None)
    ledger = Ledger(using)
    keys = {LineKey(row.handler, row.source, row.key or "") for row in rows if row.place}
    lines = ledger.lines(keys) if keys else {}
    for row in sorted(rows, key=lambda row: row.place or 0):
        found = handlers.get(row.handler)
        line = lines.get(LineKey(row.handler, row.source, row.key or ""))
        if line is None or found is None or found.sequence is None:
            continue
        # The place of what could not be read is a guess.
        place = place_stored(row.place or 0)
        if place == line.expected(found.sequence_start) and row.reason != "invalid_data":
            line.handled(place)
    ledger.advance(lines.values())
    woken = {}
    for key, line in lines.items():
        found = handlers.get(key.handler)
        if line.head_state is State.WAITING:
            expected = line.expected(found.sequence_start) if found and found.sequence else None
            gap = found is not None and expected is not None and line.head > expected
            woken[key] = found.gap_seconds if found and gap else 0.0
    ledger.wake(woken)


def _update(rows: Iterable[Receipt], using: str, **values: Any) -> None:
    numbers = [row.pk for row in rows]
    if numbers:
        Receipt.objects.using(using).filter(pk__in=numbers).update(changed=Now(), **values)


def _check_same(row: Receipt, message: Delivery) -> None:
    try:
        envelope = message.decode()
    except UndecodableMessage as exc:
        raise NotPossible(f"This is no message: {exc}.") from exc
    for what, old, new in (
        ("id", row.message_id, envelope.id),
        ("source", row.source, envelope.source),
        ("type", row.type, envelope.type),
        ("key", row.key, envelope.key),
    ):
        if old != new:
            raise NotPossible(
                f"The {what} of a message stays as it is ({old!r}): it is what the receipt is of."
            )


def _check_fits(row: Receipt, message: Delivery) -> None:
    found = handlers.get(row.handler)
    if found is None:  # of a process with other handlers, which will see
        return
    try:
        read(found, message.decode())
    except UndecodableMessage as exc:
        raise NotPossible(f"The handler could not read it: {exc}.") from exc


# --- Dead letters --------------------------------------------------------------------------------


def retry_letters(numbers: Collection[int], *, using: str) -> Done:
    """Receive dead letters again, with today's handlers, each in a transaction of its own."""
    done = Done()
    for number in numbers:
        (done.changed if _retry_letter(number, using) else done.left).append(number)
    return done


def discard_letters(numbers: Collection[int], *, using: str) -> Done:
    """Give dead letters up."""
    with transaction.atomic(using=using):
        locked = list(_letters(numbers, Event.DISCARD, using).values_list("pk", flat=True))
        DeadLetter.objects.using(using).filter(pk__in=locked).update(state=State.DISCARDED)
    return Done(locked, sorted(set(numbers) - set(locked)))


def edit_letter(number: int, message: Delivery, *, by: str, using: str) -> bool:
    """Change a dead letter, keep the original, and receive it again; return whether it was usable.

    Raises NotPossible if it is in work or over.
    """
    with transaction.atomic(using=using):
        letter = _letters([number], Event.HANDLED, using).first()
        if letter is None:
            raise NotPossible("It is being received right now, or not dead any more.")
        _keep_original(letter, using, by, dead_letter=letter)
        letter.headers, letter.body = message.headers_as_json(), message.body
        letter.content_type = storable(message.content_type or "", 255)
        # The digest stays: it is by what was received that it is known if it comes again.
        letter.save(using=using, update_fields=[*RAW, "content_type"])
    return _retry_letter(number, using)


def _retry_letter(number: int, using: str) -> bool:
    with transaction.atomic(using=using):
        letter = _letters([number], Event.HANDLED, using).first()
        if letter is None:
            return False
        message = Delivery.from_stored(
            letter.headers, letter.body, letter.content_type, letter.topic
        )
        batch = Batch([message], using=using, group=letter.group or None, keep_letters=False)
        batch.receive()
        if batch.unusable:
            letter.reason = batch.unusable[0].reason
            letter.error = storable(batch.unusable[0].error, MAX_ERROR)
        else:
            letter.state = State.PROCESSED
        letter.save(using=using, update_fields=["reason", "error", "state"])
    return not batch.unusable


def _letters(numbers: Collection[int], event: Event, using: str) -> QuerySet[DeadLetter]:
    """Return dead letters to which something can happen, locked."""
    found = DeadLetter.objects.using(using).filter(pk__in=numbers, state__in=letters_before(event))
    return found.select_for_update(skip_locked=True).order_by("pk")


def _keep_original(row: Receipt | DeadLetter, using: str, by: str, **of: Any) -> None:
    Original.objects.using(using).create(
        topic=row.topic or "",
        content_type=row.content_type or "",
        headers=row.headers or "",
        body=row.body or b"",
        edited_by=by[:255],
        **of,
    )
