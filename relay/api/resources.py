"""The relay's resources: what is parked, how far relays are; and the states of messages."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers as rest
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from outbox.api import flow, messages
from outbox.api.access import scoped
from outbox.api.actions import ActingRows, with_operations
from outbox.api.fields import Id, Instant, number, text
from outbox.api.openapi import described
from outbox.api.serializers import Shape
from outbox.api.views import Resource
from outbox.models import Message
from outbox.producer.writing import write_database
from relay.api import again
from relay.api.stream import Stream
from relay.models import Checkpoint, Parked
from relay.operations import OF_PARKED
from relay.parking.blocking import heads
from relay.reports.masking import error_of
from relay.reports.state import cursors, relay_names, states
from relay.reports.status import COUNTED, LaneStatus, lanes


class ParkedItem(Shape):
    """A message that a relay has taken out of the flow. `behind` is the id of what it waits for."""

    id = Id(source="pk")
    relay = text()
    lane = number()
    position = Id()
    message_id = text()
    type = text()
    topic = text()
    key = text(allow_null=True)
    state = text()
    reason = text(allow_blank=True)
    error = rest.SerializerMethodField()
    attempts = number()
    next_attempt_at = Instant(allow_null=True)
    parked_at = Instant()
    changed = Instant(allow_null=True)
    settled_at = Instant(allow_null=True)
    settled_by = text(allow_blank=True)
    behind = Id(allow_null=True)

    def get_error(self, row: Parked) -> str:
        return error_of(row)


@with_operations(OF_PARKED)
class ParkedMessages(ActingRows):
    """What brokers have refused, and what waits behind it."""

    resource = "parked"
    model = Parked
    item = ParkedItem
    changes = ("changed", "parked_at")

    def prepare(self, rows: Sequence[Any], using: str) -> None:
        found = {pk: head for pk, head in heads(rows, using).items() if head.pk != pk}
        numbers = {head.pk for head in found.values()}
        behind = scoped(self.request, Parked.objects.using(using).filter(pk__in=numbers))
        # What one may not see is as if it were not there.
        visible = set(behind.values_list("pk", flat=True)) if numbers else set()
        for row in rows:
            head = found.get(row.pk)
            row.behind = None if head is None or head.pk not in visible else head.pk


class LaneItem(Shape):
    """How far a relay is in a lane; seconds, and messages a second.

    `backlog` is counted to 10,000, and `more` says that there is more; it is null if it cannot be
    told, since the cursor belongs to another database cluster.
    """

    lane = number()
    backlog = number(allow_null=True)
    more = rest.BooleanField(read_only=True)
    oldest_pending = rest.FloatField(read_only=True, allow_null=True)
    last_checkpoint = rest.FloatField(read_only=True, allow_null=True)
    rate = rest.FloatField(read_only=True)
    parked = number()
    waiting = number()
    dead = number()
    moved = rest.BooleanField(read_only=True)
    stalled = rest.BooleanField(read_only=True)
    in_the_way = text(allow_blank=True)


class RelayItem(Shape):
    """A relay, which is `configured` in RELAYS or only has checkpoints, and its lanes."""

    name = text()
    configured = rest.BooleanField(read_only=True)
    lanes = LaneItem(many=True, read_only=True)


class RelaysItem(Shape):
    """All relays."""

    results = RelayItem(many=True, read_only=True)


class Relays(Resource):
    """The relays, with their progress."""

    resource = "relays"
    models = (Checkpoint, Parked)
    whole: ClassVar[bool] = True
    lookup_value_regex = "[^/]+"

    @described(answer=RelaysItem)
    def list(self, request: Request) -> Response:
        """Read how far each relay is in each lane."""
        return Response(RelaysItem({"results": _relays()}).data)

    @described(answer=RelayItem)
    def retrieve(self, request: Request, id: str) -> Response:
        """Read how far one relay is in each lane."""
        found = next((each for each in _relays() if each["name"] == id), None)
        if found is None:
            raise NotFound(f"There is no relay {id!r}.")
        return Response(RelayItem(found).data)

    @classmethod
    def id_parameter(cls) -> OpenApiParameter:
        shape = {"type": "string", "minLength": 1}
        return OpenApiParameter("id", shape, OpenApiParameter.PATH, description="its name")


def _relays() -> list[dict[str, Any]]:
    found: list[LaneStatus] = lanes(write_database(), most_parked=COUNTED + 1)
    return [
        {"name": name, "configured": of_relay[0].configured, "lanes": of_relay}
        for name, group in groupby(found, lambda each: each.relay)
        for of_relay in [list(group)]
    ]


def _states(rows: Sequence[Message], using: str) -> Mapping[int, Mapping[str, str]]:
    found = states([row.pk for row in rows], relay_names(cursors(using)), using)
    return {
        position: {relay: state.value for relay, state in each.items()}
        for position, each in found.items()
    }


messages.tell_states(_states)
flow.shows(Parked)
again.install()

RESOURCES: list[type[Resource]] = [ParkedMessages, Relays, Stream]
