"""What a person does about messages that are not processed: retry, edit, discard, restore.

Nothing here waits: what a consumer has in work at the moment is left alone and reported. A receipt
that is retried is due, and a consumer handles it: inbox.followup says what has come of it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now

from inbox.acknowledgements.telling import Acknowledgements
from inbox.delivery import Delivery
from inbox.followup import Done as Done
from inbox.followup import Left, follow, leave_others
from inbox.handlers.ordering import LineKey, place_stored
from inbox.handlers.registry import handlers
from inbox.ledger.ledger import Ledger
from inbox.models import DeadLetter, KeySequence, Original, Receipt
from inbox.receiving.batch import Batch
from inbox.receiving.settlement import read
from inbox.states import Event, Reason, State, letters_before, states_before
from outbox.database.transactions import own_transaction
from outbox.error_text import MAX_ERROR, storable
from outbox.exceptions import OutboxError, UndecodableMessage
from outbox.message.acknowledgements import TO
from outbox.message.cloudevents import bounded

RAW = ("headers", "body")
LONG = (*RAW, "traceback", "last_attempts")


class NotPossible(OutboxError):
    """A message cannot be edited like this; the text says why."""


# --- Receipts ------------------------------------------------------------------------------------


def retry(numbers: Collection[int], *, using: str) -> Done:
    """Let receipts be due at once, with all their attempts before them again."""
    done = _change(numbers, Event.RETRY, _retry, using)
    done.came = follow(done.changed, using=using)
    return done


def discard(numbers: Collection[int], *, using: str) -> Done:
    """Give receipts up. What waits behind them in their lines goes on."""
    done = _change(numbers, Event.DISCARD, _discard, using)
    done.came.states[State.DISCARDED] = len(done.changed)
    return done


def restore(numbers: Collection[int], *, using: str) -> Done:
    """Take back that receipts were given up: they are dead, and later ones of their lines wait.

    One whose sequence has gone past it by more than itself is left: it could only be skipped.
    """
    passed: set[int] = set()

    def change(rows: list[Receipt], using: str) -> None:
        passed.update(_passed(rows, using))
        _update([row for row in rows if row.pk not in passed], using, state=State.DEAD)

    done = _change(numbers, Event.RESTORE, change, using)
    done.changed = [number for number in done.changed if number not in passed]
    for number in sorted(passed):
        done.leave(number, Left.PASSED)
    done.came.states[State.DEAD] = len(done.changed)
    return done


def edit(number: int, message: Delivery, *, by: str, using: str) -> Done:
    """Put another message in the place of a receipt's, keep the original, and retry it.

    Raises NotPossible if it would be another message, if its data does not fit its event type, or
    if the receipt is in work or past that.
    """

    def change(rows: list[Receipt], using: str) -> None:
        for row in rows:
            # By itself Django would read what was deferred where the routers say, from a replica.
            row.refresh_from_db(using=using, fields=RAW)
            _check_same(row, message)
            _check_fits(row, message)
            _keep_original(row, using, by, receipt=row)
            row.headers, row.body = message.headers_as_json(), message.body
            row.content_type = message.content_type
            row.save(using=using, update_fields=[*RAW, "content_type"])
        _retry(rows, using)

    done = _change([number], Event.RETRY, change, using)
    if not done.changed:
        raise NotPossible("It is being handled right now, or not retrying and not dead any more.")
    done.came = follow(done.changed, using=using)
    return done


def _change(
    numbers: Collection[int], event: Event, change: Callable[[list[Receipt], str], None], using: str
) -> Done:
    with own_transaction(using, durable=False):
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
        taken = list(locked.defer(*LONG).order_by("pk"))
        change(taken, using)
        done = Done([row.pk for row in taken])
        leave_others(done, Receipt, numbers, states_before(event), using)
    return done


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
        if place == line.expected(found.sequence_start) and row.reason != Reason.INVALID_DATA:
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
    _acknowledge([row.pk for row in rows], using)


def _acknowledge(numbers: Collection[int], using: str) -> None:
    """Tell the senders that want to know that messages were given up."""
    acknowledgements = Acknowledgements(using)
    asking = Receipt.objects.using(using).filter(pk__in=numbers, headers__icontains=TO)
    for row in asking.order_by("pk"):
        handler = handlers.get(row.handler)
        message = Delivery.from_stored(row.headers, row.body, row.content_type, row.topic)
        if handler is not None:
            with suppress(UndecodableMessage):
                acknowledgements.add_alone(message.decode(), handler, State.DISCARDED)
    acknowledgements.tell()


def _passed(rows: list[Receipt], using: str) -> Iterator[int]:
    """Yield the receipts that their sequences have gone past; set the others' sequences back."""
    keys = {LineKey(row.handler, row.source, row.key or "") for row in rows if row.place}
    lines = Ledger(using).lines(keys) if keys else {}
    for row in sorted(rows, key=lambda row: row.place or 0, reverse=True):
        line = lines.get(LineKey(row.handler, row.source, row.key or ""))
        place = place_stored(row.place or 0)
        if line is None or line.done is None or row.reason == Reason.INVALID_DATA:
            continue
        if line.done == place:  # it was given up as the last of its sequence, so far
            line.done -= 1
            sequence = KeySequence.objects.using(using).filter(**line.key._asdict(), last=place)
            sequence.update(last=line.done, changed=Now())
        elif line.done > place:
            yield row.pk


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
        ("id", row.message_id, bounded(envelope.id)),
        ("source", row.source, bounded(envelope.source)),
        ("type", row.type, bounded(envelope.type)),
        ("key", row.key, envelope.key and bounded(envelope.key)),
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
    """Receive dead letters again, with today's handlers, each in a transaction of its own.

    Those of which only the head is here are left. What came of the others is counted in receipts.
    """
    done = Done()
    for number in numbers:
        _retry_letter(number, using, done)
    return done


def receipts_of(numbers: Collection[int], *, using: str) -> Counter[str]:
    """Count the states of the receipts of what were dead letters of a group, if they had an id."""
    letters = DeadLetter.objects.using(using).filter(pk__in=numbers).exclude(message_id="")
    groups = handlers.groups()
    about = {
        (message_id, source, handler.name)
        for message_id, source, group in letters.values_list("message_id", "source", "group")
        for handler in groups.get(group, ())
    }
    receipts = Receipt.objects.using(using).filter(message_id__in={each for each, _, _ in about})
    found = receipts.values_list("message_id", "source", "handler", "state")
    return Counter(state for *of, state in found if tuple(of) in about)


def discard_letters(numbers: Collection[int], *, using: str) -> Done:
    """Give dead letters up."""
    return _move_letters(numbers, Event.DISCARD, State.DISCARDED, using)


def restore_letters(numbers: Collection[int], *, using: str) -> Done:
    """Take back that dead letters were given up."""
    return _move_letters(numbers, Event.RESTORE, State.DEAD, using)


def _move_letters(numbers: Collection[int], event: Event, state: State, using: str) -> Done:
    with own_transaction(using, durable=False):
        locked = list(_letters(numbers, event, using).values_list("pk", flat=True))
        DeadLetter.objects.using(using).filter(pk__in=locked).update(state=state, changed=Now())
        done = Done(locked)
        done.came.states[state] = len(locked)
        leave_others(done, DeadLetter, numbers, letters_before(event), using)
    return done


def edit_letter(number: int, message: Delivery, *, by: str, using: str) -> Done:
    """Change a dead letter, keep the original, and receive it again; it is left if still unusable.

    Raises NotPossible if it is in work or over.
    """
    with own_transaction(using, durable=False):
        letter = _letters([number], Event.HANDLED, using).first()
        if letter is None:
            raise NotPossible("It is being received right now, or not dead any more.")
        if not letter.is_whole:
            raise NotPossible(
                "It is only the head of a message that was too large: have it sent again."
            )
        _keep_original(letter, using, by, dead_letter=letter)
        letter.headers, letter.body = message.headers_as_json(), message.body
        letter.content_type = storable(message.content_type or "", 255)
        # The digest stays: it is by what was received that it is known if it comes again.
        letter.save(using=using, update_fields=[*RAW, "content_type"])
    return retry_letters([number], using=using)


def _retry_letter(number: int, using: str, done: Done) -> None:
    with own_transaction(using, durable=False, handlers=True):
        letter = _letters([number], Event.HANDLED, using).first()
        if letter is None:
            leave_others(done, DeadLetter, [number], letters_before(Event.HANDLED), using)
            return
        if not letter.is_whole:
            done.leave(number, Left.ONLY_HEAD)
            return
        message = Delivery.from_stored(
            letter.headers, letter.body, letter.content_type, letter.topic
        )
        batch = Batch([message], using=using, group=letter.group or None, keep_letters=False)
        [tally] = batch.receive()
        if batch.unusable:
            letter.reason = batch.unusable[0].reason
            letter.error = storable(batch.unusable[0].error, MAX_ERROR)
        else:
            letter.state = State.PROCESSED
        letter.changed = Now()
        letter.save(using=using, update_fields=["reason", "error", "state", "changed"])
    if batch.unusable:
        done.leave(number, Left.UNUSABLE)
    else:
        done.changed.append(number)
    done.came.count(tally)


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
