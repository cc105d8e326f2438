"""What can be looked for among receipts, dead letters and bindings, and by receipts of messages."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from inbox.handlers.registry import handlers
from inbox.models import Binding, DeadLetter, OpenRequest, Receipt
from inbox.states import OPEN, Reason, State
from outbox.filtering import recurring, values
from outbox.filtering.messages import known_types
from outbox.filtering.qualifiers import Condition, Meaning, Qualifier, Reach, Words, register
from outbox.message.cloudevents import bounded
from outbox.models import Message

FEW = 2_000
"""Receipts of a state whose messages are looked up one by one, the newest of them."""

INDEXED = [each for each in State if each is not State.PROCESSED]
LETTER_STATES = (State.DEAD, State.PROCESSED, State.DISCARDED)


def known_handlers() -> list[str]:
    """Return the names of the handlers that are registered."""
    return sorted({each.name for each in handlers})


def known_groups() -> list[str]:
    """Return the groups of the handlers that are registered."""
    return sorted({each.group for each in handlers})


def _receipt_reach(wanted: Sequence[str]) -> Reach:
    return Reach.ROWS if State.PROCESSED in wanted else Reach.PART


def _exactly(column: str, reach: Reach = Reach.FEW) -> Meaning:
    """Select a text as it is stored, where what is very long was cut."""
    return lambda value, using: Condition(Q(**{column: bounded(value)}), reach)


def _words(*columns: str) -> Words:
    return lambda value, using: [Q(**{column: bounded(value)}) for column in columns]


def by_receipts(value: str, using: str, receipts: QuerySet[Receipt]) -> Condition:
    """Select messages of which one of some receipts is in one of the states."""
    known = [values.OPEN, *(each.value for each in INDEXED)]
    wanted = [
        each
        for name in values.chosen(value, known)
        for each in (OPEN if name == values.OPEN else [name])
    ]
    found = (
        receipts.filter(state__in=wanted).order_by("-pk").values_list("message_id", flat=True)[:FEW]
    )
    return Condition(Q(message_id__in=list(_uuids(found))), Reach.PART)


def _uuids(texts: Iterable[str]) -> Iterable[UUID]:
    for text in texts:
        try:
            yield UUID(text)
        except ValueError:
            continue  # of another service: its messages are not in this log


TYPE = Qualifier(
    name="type",
    meaning=_("event type; * stands for one word between dots, # for any number"),
    example="shop.order.*",
    condition=values.pattern("type"),
    known=known_types,
)
HANDLER = Qualifier(
    name="handler",
    meaning=_("handler, exactly, or a pattern with * and #"),
    example="billing.invoice",
    condition=values.pattern("handler"),
    known=known_handlers,
)


def register_own() -> None:
    """Declare what the inbox knows."""
    register(
        Message,
        Qualifier(
            name="receipt",
            meaning=_("state of a receipt of one of our handlers; several with commas"),
            example="dead",
            across=by_receipts,
            of=Receipt,
            index="inbox_state",
            known=lambda: (values.OPEN, *(each.value for each in INDEXED)),
            negatable=False,
        ),
    )
    register(
        Receipt,
        Qualifier(
            name="state",
            meaning=_("state; several with commas; open stands for all that is not over"),
            example="dead",
            condition=values.one_of(
                "state",
                lambda: State.values,
                groups={values.OPEN: list(OPEN)},
                reach=_receipt_reach,
            ),
            index="inbox_state",
            known=lambda: (values.OPEN, *State.values),
        ),
        HANDLER,
        TYPE,
        Qualifier(
            name="reason",
            meaning=_("why it is not processed; several with commas"),
            example="rejected",
            condition=values.one_of("reason", lambda: Reason.values),
            known=lambda: Reason.values,
        ),
        recurring.ERROR,
        recurring.age("changed", _("last changed longer ago, or not as long: s, min, h, d, w")),
        recurring.message_id(_exactly("message_id"), "inbox_once"),
        Qualifier(
            name="correlation",
            meaning=_("correlation id, exactly"),
            example="checkout-7",
            condition=_exactly("correlation_id"),
            index="inbox_correlation",
            negatable=False,
        ),
        Qualifier(
            name="key",
            meaning=_("key, exactly, of what an ordered handler holds"),
            example="42",
            condition=_exactly("key", Reach.ROWS),
        ),
        Qualifier(
            name="source",
            meaning=_("source, exactly"),
            example="/shop",
            condition=_exactly("source", Reach.ROWS),
        ),
        Qualifier(
            name="attempts",
            meaning=_("attempts, a number or a bound"),
            example=">3",
            condition=values.number("attempts", most=2**15 - 1),
        ),
        words=_words("message_id", "correlation_id"),
        words_meaning=_("message id or correlation id, exactly"),
    )
    register(
        DeadLetter,
        Qualifier(
            name="state",
            meaning=_("state; several with commas; open stands for what nobody has seen to"),
            example="dead",
            condition=values.one_of(
                "state",
                lambda: [each.value for each in LETTER_STATES],
                groups={values.OPEN: list(OPEN)},
            ),
            known=lambda: (values.OPEN, *(each.value for each in LETTER_STATES)),
        ),
        Qualifier(
            name="reason",
            meaning=_("why it cannot be used; several with commas"),
            example="unknown_type",
            condition=values.one_of("reason", lambda: DeadLetter.Reason.values),
            known=lambda: DeadLetter.Reason.values,
        ),
        TYPE,
        recurring.ERROR,
        Qualifier(
            name="group",
            meaning=_("group, exactly"),
            example="billing",
            condition=_exactly("group", Reach.ROWS),
            known=known_groups,
        ),
        HANDLER,
        recurring.age("received", _("received longer ago, or not as long: s, min, h, d, w")),
        recurring.message_id(_exactly("message_id"), "inbox_dead_message"),
        Qualifier(
            name="correlation",
            meaning=_("correlation id"),
            refused=_("what cannot be used has none; look for the message id"),
        ),
        words=_words("message_id"),
        words_meaning=_("message id, exactly"),
    )
    register(
        OpenRequest,
        TYPE,
        HANDLER,
        recurring.age("opened_at", _("opened longer ago, or not as long: s, min, h, d, w")),
        recurring.message_id(_exactly("message_id"), "inbox_open_once"),
        Qualifier(
            name="source",
            meaning=_("source, exactly"),
            example="/shop",
            condition=_exactly("source", Reach.ROWS),
        ),
        words=_words("message_id"),
        words_meaning=_("message id, exactly"),
    )
    register(
        Binding,
        Qualifier(
            name="group",
            meaning=_("group, exactly"),
            example="billing",
            condition=values.equals("group"),
            known=known_groups,
        ),
        Qualifier(
            name="queue",
            meaning=_("queue, exactly"),
            example="billing",
            condition=values.equals("queue"),
        ),
        Qualifier(
            name="topic",
            meaning=_("topic that is bound, exactly"),
            example="shop.order.placed",
            condition=values.equals("topic"),
        ),
    )
