"""What the inbox adds to the outbox's pages of messages."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext as _

from inbox.admin import handing
from inbox.admin.dead_letters import DeadLetterAdmin
from inbox.admin.receipts import ReceiptAdmin
from inbox.admin.states import badge
from inbox.handlers.registry import handlers
from inbox.ledger import attempts
from inbox.ledger.attempts import Attempt
from inbox.ledger.masking import masked
from inbox.models import DeadLetter, Receipt
from inbox.states import State
from outbox.admin_support import html
from outbox.admin_support.actions import row_buttons
from outbox.admin_support.html import Content
from outbox.admin_support.timeline import Mood, Stage, Step
from outbox.database import instants
from outbox.extensions.message_pages import MessageExtension, extend_messages
from outbox.message.kinds import kind_of
from outbox.models import Message

SHOWN = 50
"""Receipts and dead letters that the page of a message lists."""
ATTEMPTS = 3
"""Attempts of a handler that it lists before the last one; the page of the receipt has more."""
DEFERRED = [name for name in ReceiptAdmin.list_defer if name != "last_attempts"]
MOODS: dict[State, Mood] = {
    State.PROCESSED: "done",
    State.RETRYING: "open",
    State.WAITING: "open",
    State.DEAD: "failed",
}


class InboxExtension(MessageExtension):
    """Shows what the handlers of this service have made of a message."""

    def steps(self, message: Message, request: HttpRequest) -> Sequence[Step]:
        return list(self._steps(message, request))

    def _steps(self, message: Message, request: HttpRequest) -> Iterator[Step]:
        about = {"message_id": str(message.message_id), "source": message.source}
        kind = kind_of(message.content_type)
        if kind.source:
            task_id = kind.receipt_id(message.key, message.subject)
            about = {"message_id": task_id or "", "source": kind.source}
        if html.may_view(request, Receipt):
            receipts = Receipt.objects.filter(**about).defer(*DEFERRED).order_by("handler")[:SHOWN]
            for receipt in receipts:
                yield from _of_receipt(receipt, request)
            missing = list(_without_receipt(message, {each.handler for each in receipts}, request))
            yield from missing
            if not receipts and not missing:
                text = _("No handler of this service has handled it.")
                yield Step(stage=Stage.HANDLED, what=text, mood="quiet")
        if html.may_view(request, DeadLetter):
            letters = DeadLetter.objects.filter(**about).defer(*DeadLetterAdmin.list_defer)
            for letter in letters.order_by("pk")[:SHOWN]:
                yield _of_letter(letter, request)


def _without_receipt(
    message: Message, known: Collection[str], request: HttpRequest
) -> Iterator[Step]:
    """Yield the groups with handlers that want a message and have no receipt of it."""
    for group, names in handing.groups_of(message).items():
        if missing := [name for name in names if name not in known]:
            yield Step(
                stage=Stage.HANDLED,
                actor=f"without {group}",
                by=", ".join(missing),
                what=html.badge(_("no receipt"), "skipped"),
                mood="quiet",
                details=[_("in group %(group)s") % {"group": group}],
                buttons=handing.button(message, group, request),
            )


def _of_receipt(receipt: Receipt, request: HttpRequest) -> Iterator[Step]:
    """Yield what a handler has made of a message: received, its last attempts, how it stands."""
    handler = handlers.get(receipt.handler)
    about: dict[str, Any] = {"stage": Stage.HANDLED, "actor": f"receipt {receipt.pk}"}
    if receipt.received is not None:
        received = html.badge(_("received"), "waiting")
        yield Step(
            **about, by=receipt.handler, what=received, at=receipt.received, caused=_("received")
        )
    kept = attempts.read(receipt.last_attempts)
    # The last one is what the receipt stands for.
    for each in kept[-ATTEMPTS - 1 : -1]:
        yield _of_attempt(each, receipt.handler, about)
    last = kept[-1] if kept else None
    state = State(receipt.state)
    group = [_("in group %(group)s") % {"group": handler.group}] if handler else []
    yield Step(
        **about,
        by=html.detail_link(request, receipt, receipt.handler),
        what=badge(receipt),
        at=receipt.changed,
        took=_length(last),
        where=last.process if last else "",
        attempts=receipt.attempts,
        mood=MOODS.get(state, "quiet"),
        details=[*group, *_next_attempt(receipt)],
        note=Truncator(masked(receipt.error)).chars(120) if receipt.error else "",
        buttons=row_buttons(request, receipt),
        caused=_("handled") if state is State.PROCESSED else "",
    )


def _of_attempt(attempt: Attempt, handler: str, about: dict[str, Any]) -> Step:
    return Step(
        **about,
        by=handler,
        what=html.badge(_("failed") if attempt.error else _("processed"), "retrying"),
        at=_moment(attempt.at),
        took=_length(attempt),
        where=attempt.process,
        mood="quiet",
        note=Truncator(masked(str(attempt.error))).chars(120) if attempt.error else "",
        caused=_("tried"),
    )


def _of_letter(letter: DeadLetter, request: HttpRequest) -> Step:
    """Return that a group could not use a message, and why."""
    state = State(letter.state)
    group = _("group %(group)s") % {"group": letter.group}
    return Step(
        stage=Stage.HANDLED,
        actor=f"letter {letter.pk}",
        by=letter.handler or group,
        what=badge(letter),
        at=letter.received,
        mood=MOODS.get(state, "quiet"),
        details=[group] if letter.handler else [],
        note=html.detail_link(request, letter, letter.get_reason_display()),
        buttons=row_buttons(request, letter),
    )


def _next_attempt(receipt: Receipt) -> list[Content]:
    if receipt.next_attempt_at is None:
        return []
    return [format_html("{} {}", _("next attempt"), html.until(receipt.next_attempt_at))]


def _length(attempt: Attempt | None) -> timedelta | None:
    seconds = attempt.seconds if attempt else None
    return timedelta(seconds=seconds) if isinstance(seconds, int | float) else None


def _moment(at: str) -> datetime | None:
    try:
        return instants.utc(datetime.fromisoformat(at))
    except ValueError:
        return None


extend_messages(InboxExtension())
