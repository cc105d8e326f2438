"""What loading a fixture means for the log: `loaddata`, `serialized_rollback` and their like.

A message that is loaded is emitted now: it enters the log at its end, under the id of the
transaction that loads it, and every relay publishes it. Its old place would be among what relays
have gone past, or another message's.
"""

from typing import Any

from django.db.models import F

from outbox.database.fields import CurrentTransactionId
from outbox.models import AppendOnly, Message


def append(instance: Message, *, raw: bool, using: str, **_: Any) -> None:
    """Give a message that is loaded a new position; leave one that is in the log as it is."""
    if not raw:
        return
    found = Message.objects.using(using).filter(message_id=instance.message_id)
    instance.pk = found.values_list("pk", flat=True).first()
    if instance.pk is None:
        take_id(instance)
    else:
        leave_as_it_is(instance)


def take_id(instance: AppendOnly) -> None:
    """Let a row that is loaded have the id of the running transaction."""
    instance.transaction_id = CurrentTransactionId()  # type: ignore[attr-defined]


def leave_as_it_is(instance: AppendOnly) -> None:
    """Let the UPDATE by which a fixture writes a row that is there change nothing."""
    for field in instance._meta.concrete_fields:
        if not field.primary_key:
            setattr(instance, field.attname, F(field.name))
