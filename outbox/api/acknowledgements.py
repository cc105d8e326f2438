"""Which groups have settled what was sent here, and what to do about the others."""

from outbox.acknowledging.operations import OF_ACKNOWLEDGEMENTS
from outbox.api import serializers
from outbox.api.actions import ActingRows, with_operations
from outbox.api.fields import Id, Instant, number, text
from outbox.models import Acknowledgement


class AcknowledgementItem(serializers.Shape):
    """A message and a group that is to acknowledge it."""

    id = Id(source="pk")
    message_id = Id()
    group = text()
    type = text()
    state = text()
    sent_at = Instant()
    told_at = Instant(allow_null=True)
    told_by = text(allow_blank=True)
    due_at = Instant(allow_null=True)
    resends = number()
    most = number(help_text="how often it is sent again at most")
    hold = text(allow_blank=True, help_text="why it was not sent again when that was due")


@with_operations(OF_ACKNOWLEDGEMENTS)
class Acknowledgements(ActingRows):
    """What groups are to acknowledge."""

    resource = "acknowledgements"
    model = Acknowledgement
    item = AcknowledgementItem
