"""Who handles what in this service, and what became of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from django.db import router
from django.db.models import Case, Count, Max, Q, QuerySet, Value, When

from inbox.handlers.registry import handlers
from inbox.ledger.masking import masked
from inbox.models import DeadLetter, Receipt
from inbox.reports import pace
from inbox.states import OPEN, State
from outbox.extensions.flow import (
    Declared,
    Mood,
    Observed,
    Question,
    Report,
    Reporter,
    Stage,
)
from outbox.message.kinds import KINDS, kind_of
from outbox.models import Message

AT_ONCE = 1000
"""Messages that one statement asks about."""

MOODS = {State.RETRYING: Mood.OPEN, State.WAITING: Mood.OPEN, State.DEAD: Mood.FAILED}
"""Of what is not over and well; what is skipped or discarded is nobody's concern any more."""

# What a person may have to do something about must not be behind a limit.
_WORST_FIRST = Case(When(state=State.DEAD, then=0), When(state__in=OPEN, then=1), default=Value(2))

Place = tuple[str, str]
"""The source and the id of a message."""


class InboxReporter(Reporter):
    """Reports for each handler in which state a message is; and what nobody could use."""

    def report(self, question: Question) -> Report:
        receipts, cut = _read(question)
        places = _receipts_of(question.messages)
        stages = [
            _of_receipt(receipt, *places.get(place, place))
            for receipt in receipts
            for place in [(receipt.source, receipt.message_id)]
        ]
        return Report([*stages, *_of_letters(question, receipts)], cut)

    def knows(self, correlation_id: str) -> bool:
        return _receipts().filter(correlation_id=correlation_id).exists()

    def correlation_of(self, message_id: str) -> str | None:
        found = list(_receipts().filter(message_id=message_id)[:AT_ONCE])
        named = next((each.correlation_id for each in found if each.correlation_id), None)
        if named or found or _letters().filter(message_id=message_id).exists():
            return named or message_id
        return None

    def declared(self) -> Iterable[Declared]:
        for handler in handlers:
            if handler.in_every_group:
                continue
            yield Declared(handler=handler.name, group=handler.group, pattern=handler.pattern)

    def observed(self, limit: int) -> Iterable[Observed]:
        newest = _receipts().aggregate(newest=Max("pk"))["newest"] or 0
        events = _receipts().exclude(source__in=[kind.source for kind in KINDS if kind.source])
        rows = events.filter(pk__gt=newest - limit).values("handler", "type")
        dead = Count("pk", filter=Q(state=State.DEAD))
        of = Receipt._meta.label_lower
        paces = pace.of(events.filter(pk__gt=newest - min(limit, pace.SAMPLED)))
        for row in rows.annotate(count=Count("pk"), failed=dead).order_by("type", "handler"):
            found = paces.get((row["handler"], row["type"]), pace.UNKNOWN)
            yield Observed(**row, rate=found.rate, p95=found.p95, of=of)

    def types_of(self, message_ids: Sequence[str]) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for part in _parts(message_ids):
            rows = _receipts().filter(message_id__in=part)
            found |= dict(rows.values_list("message_id", "type"))
        return found


def _receipts() -> QuerySet[Receipt]:
    """Return receipts from where they are written: a replica may not have the newest."""
    return Receipt.objects.using(router.db_for_write(Receipt)).only(
        *("handler", "source", "message_id", "type", "correlation_id", "state", "reason"),
        *("changed", "attempts", "error"),
    )


def _letters() -> QuerySet[DeadLetter]:
    return DeadLetter.objects.using(router.db_for_write(DeadLetter)).only(
        "group", "handler", "source", "message_id", "type", "state", "error", "received"
    )


def _read(question: Question) -> tuple[list[Receipt], bool]:
    """Return the receipts of a conversation, and of its causes; and whether there are more.

    Messages of other senders often have no correlation id: then it is their own id.
    """
    named = _receipts().filter(correlation_id=question.correlation_id)
    found = list(named.order_by(_WORST_FIRST, "pk")[: question.limit + 1])
    cut = len(found) > question.limit
    alone = _receipts().filter(message_id=question.correlation_id, correlation_id__isnull=True)
    receipts = {each.pk: each for each in (*found[: question.limit], *alone.order_by("pk"))}
    for part in _parts(question.causes):
        rows = _receipts().filter(message_id__in=part).order_by("pk")
        receipts |= {each.pk: each for each in rows}
    return [receipts[pk] for pk in sorted(receipts)], cut


def _receipts_of(messages: Iterable[Message]) -> dict[Place, Place]:
    """Return the messages whose receipts are kept under another source and id, those of tasks."""
    return {
        (source, kind_of(message.content_type).receipt_id(message.key, message.subject) or ""): (
            message.source,
            str(message.message_id),
        )
        for message in messages
        if (source := kind_of(message.content_type).source) is not None
    }


def _of_receipt(receipt: Receipt, source: str, message_id: str) -> Stage:
    handler = handlers.get(receipt.handler)
    state = State(receipt.state)
    return Stage(
        message_id=message_id,
        source=source,
        type=receipt.type,
        by=receipt.handler,
        group=handler.group if handler else "",
        state=state.value,
        mood=MOODS.get(state, Mood.DONE),
        at=receipt.changed,
        attempts=receipt.attempts,
        error=masked(receipt.error) if receipt.error else receipt.reason or "",
        of=Receipt._meta.label_lower,
        row=receipt.pk,
    )


def _of_letters(question: Question, receipts: Iterable[Receipt]) -> Iterator[Stage]:
    """Yield what nobody could use, of the conversation's messages and of others like it."""
    sources = {str(each.message_id): each.source for each in question.messages}
    others = {each.message_id for each in receipts} - sources.keys()
    wanted = [*sources, *sorted({*others, *question.causes, question.correlation_id} - {*sources})]
    for part in _parts(wanted):
        for letter in _letters().filter(message_id__in=part).order_by("pk"):
            own = sources.get(letter.message_id)
            if own is not None and letter.source not in ("", own):
                continue  # a stranger's, with the same id
            state = State(letter.state)
            yield Stage(
                message_id=letter.message_id,
                source=own or letter.source,
                type=letter.type or "(no type)",
                by=letter.handler or letter.group,
                group=letter.group,
                state=state.value,
                mood=MOODS.get(state, Mood.DONE),
                at=letter.received,
                error=masked(letter.error),
                of=DeadLetter._meta.label_lower,
                row=letter.pk,
            )


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
