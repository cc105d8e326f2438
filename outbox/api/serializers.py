"""The shapes of what is common to all resources."""

from rest_framework import serializers

from outbox.api.data import FORMS
from outbox.api.fields import Anything, Id, Instant, number, text
from outbox.api.fields import Shape as Shape
from outbox.operations import MAX_REASON


class Reason(Shape):
    """Why somebody does it: it is kept in the log of what people do."""

    reason = serializers.CharField(max_length=MAX_REASON)


class Done(Shape):
    """What came of an action on one row: whether it changed it, and its state now.

    Asked for a second time it changes nothing, and that is no error.
    """

    id = Id()
    changed = serializers.BooleanField(read_only=True)
    state = text(allow_null=True)


class Matching(Reason):
    """What is to be done to all rows that a filter selects.

    Without a `step` nothing is done: the answer says to how many it would be, with some of them,
    and has the first step. Rows that are newer than the last of them are not meant.
    """

    q = serializers.CharField(
        max_length=2_000,
        help_text="which rows, such as state:dead; a blank one is refused",
    )
    step = serializers.CharField(max_length=200, required=False, allow_null=True)


class Progress(Shape):
    """How far an action on many rows is.

    `matching` counts rows up to 1,000, `more` says that there are more, or that not all was looked
    at. `changed` and `left` are of this step. `next` is the step to ask for now; null if it is
    done.
    """

    matching = number()
    more = serializers.BooleanField(read_only=True)
    examples = serializers.ListField(child=text(), read_only=True, help_text="ids of some rows")
    changed = number()
    left = number()
    looked_to = Id(help_text="up to which primary key it is done")
    bound = Id(help_text="up to which primary key it goes")
    next = text(allow_null=True)


class Data(Shape):
    """What a message carries. `form` says what `data` is."""

    content_type = text()
    size = Id(help_text="of the data, in bytes")
    form = serializers.ChoiceField(choices=[(each, each) for each in FORMS], read_only=True)
    data = Anything(allow_null=True)  # type: ignore[assignment]


class MessageData(Data):
    """What a message of the log carries, with its extension attributes."""

    attributes = Anything()


class ReceivedData(Data):
    """What came in, with its headers."""

    headers = Anything(allow_null=True)


class Envelope(Shape):
    """What is known of a message beside its data."""

    id = Id(source="message_id")
    type = text()
    version = number()
    source = text()  # type: ignore[assignment]
    topic = text()
    subject = text(allow_null=True)
    key = text(allow_null=True)
    time = Instant()
    correlation_id = text()
    causation_id = text(allow_null=True)
    content_type = text()


def page_of(item: type[Shape]) -> type[Shape]:
    """Return the shape of a page of items."""
    fields = {
        "results": item(many=True, read_only=True),
        "newer": text(allow_null=True, help_text="the cursor of what is newer, if anything is"),
        "older": text(allow_null=True, help_text="the cursor of what is older, if anything is"),
        "partial": serializers.BooleanField(
            read_only=True,
            help_text="whether the page ends early, since too much had to be looked at; go on",
        ),
        "__doc__": "A page, the newest first.",
        "__module__": __name__,
    }
    return type(f"{item.__name__}Page", (serializers.Serializer,), fields)
