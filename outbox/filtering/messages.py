"""What can be looked for among messages, and among those that are scheduled."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from outbox.celery import apps_in_use
from outbox.filtering import values
from outbox.filtering.qualifiers import Condition, Qualifier, Reach, Words, register
from outbox.message.event_types import registry
from outbox.message.kinds import TASK
from outbox.models import Message, Scheduled

SLACK = timedelta(minutes=1)
"""How far positions and times may differ: clocks that disagree, a bulk that takes its time."""


def known_types() -> list[str]:
    """Return the event types that the service knows, and the names of its tasks."""
    names = sorted({event_type.name for event_type in registry})
    if "celery" in sys.modules:
        names += [str(TASK.type), *sorted(apps_in_use.task_names().difference(names))]
    return names


def type_condition(value: str, using: str) -> Condition:
    """Select an event type or a pattern; tasks by their name, which is their topic."""
    of_task = Q(type=TASK.type) & values.like("topic", value, using)
    return Condition(values.like("type", value, using) | of_task)


TYPE = Qualifier(
    name="type",
    meaning=_(
        "event type, or the name of a task; * stands for one word between dots, # for any number"
    ),
    example="shop.order.*",
    condition=type_condition,
    known=known_types,
)


def by_age(value: str, using: str) -> Condition:
    """Select by time, without an index on it: ids are UUIDv7, and theirs lead to a position."""
    side, moment = values.moment_of(value)
    if side == "older":
        return Condition(older_than(moment, using), Reach.PART)
    return Condition(younger_than(moment, using), Reach.PART)


def older_than(moment: datetime, using: str) -> Q:
    """Return the condition that messages were emitted before a moment."""
    return Q(time__lt=moment, position__lte=_position_at(moment + SLACK, using))


def younger_than(moment: datetime, using: str) -> Q:
    """Return the condition that messages were emitted at a moment, or after it."""
    return Q(time__gte=moment, position__gt=_position_at(moment - SLACK, using))


def _position_at(moment: datetime, using: str) -> int:
    """Return the last position whose message id was made before a moment; 0 if there is none.

    A scheduled message got its id long before its position; its time tells.
    """
    try:
        lowest = UUID(int=(int(moment.timestamp() * 1000) << 80) | (0x7 << 76) | (0b10 << 62))
    except ValueError:
        return 0  # before 1970
    log = Message.objects.using(using)
    older = log.filter(message_id__lt=lowest, time__lt=moment)
    return older.order_by("-message_id").values_list("position", flat=True).first() or 0


def exact(*columns: str) -> Words:
    """Return what a text by itself means: a column has it; `message_id` takes ids alone."""
    return lambda value, using: list(_exact(value, columns))


def _exact(value: str, columns: Sequence[str]) -> Iterable[Q]:
    for column in columns:
        if column != "message_id":
            yield Q(**{column: value})
        elif (message_id := _uuid_or_none(value)) is not None:
            yield Q(message_id=message_id)


def _uuid_or_none(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None


ID = Qualifier(
    name="id",
    meaning=_("message id"),
    example="0193f5a0-8f6e-7000-8000-000000000000",
    condition=values.is_uuid("message_id"),
    index="message_id",
    negatable=False,
)
DATA = Qualifier(
    name="data",
    meaning=_("what a message carries"),
    refused=_("payloads have no index, and may hold secrets"),
)


def register_own() -> None:
    """Declare what the outbox itself knows of its messages."""
    register(
        Message,
        TYPE,
        ID,
        Qualifier(
            name="key",
            meaning=_("key, exactly; of a task without one its id"),
            example="42",
            condition=values.equals("key", Reach.FEW),
            index="outbox_key",
            negatable=False,
        ),
        Qualifier(
            name="correlation",
            meaning=_("correlation id: everything that one thing led to"),
            example="checkout-7",
            condition=values.equals("correlation_id", Reach.FEW),
            index="outbox_correlation",
            negatable=False,
        ),
        Qualifier(
            name="age",
            meaning=_("emitted longer ago, or not as long: s, min, h, d, w"),
            example=">1h",
            condition=by_age,
            index="message_id",
            known=lambda: ("<1h", "<1d", ">1min", ">1h", ">1d"),
            negatable=False,
        ),
        Qualifier(
            name="source",
            meaning=_("source, exactly"),
            example="/shop",
            condition=values.equals("source"),
        ),
        Qualifier(
            name="lane",
            meaning=_("lane, a number"),
            example="0",
            condition=values.number("lane", most=2**15 - 1),
        ),
        Qualifier(
            name="position",
            meaning=_("position in the log, a number or a bound such as >1000"),
            example=">1000",
            condition=values.number("position", reach=Reach.PART),
            index="primary key",
        ),
        Qualifier(
            name="causation",
            meaning=_("id of the message that led to it"),
            refused=_("no index finds it; look for the correlation id, and follow the flow"),
        ),
        DATA,
        words=exact("message_id", "key", "correlation_id"),
        words_meaning=_("message id, key (of a task: its id) or correlation id, exactly"),
    )
    register(
        Scheduled,
        TYPE,
        ID,
        Qualifier(
            name="key",
            meaning=_("key, exactly"),
            example="42",
            condition=values.equals("key", Reach.FEW),
            index="outbox_due_key",
            negatable=False,
        ),
        Qualifier(
            name="due",
            meaning=_("due in less time, or in more: s, min, h, d, w"),
            example="<1h",
            condition=values.until("due_at"),
            known=lambda: ("<15min", "<1h", ">1d"),
        ),
        Qualifier(
            name="age",
            meaning=_("emitted longer ago, or not as long"),
            example=">1h",
            condition=values.age("time"),
        ),
        Qualifier(
            name="correlation",
            meaning=_("correlation id"),
            example="checkout-7",
            condition=values.equals("correlation_id"),
        ),
        DATA,
        words=exact("message_id", "key"),
        words_meaning=_("message id or key, exactly"),
    )
