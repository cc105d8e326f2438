"""Have messages published again: one, or all that a filter selects, step by step.

Receivers drop what they have had, since the ids stay the same. So that a repeated request sends
nothing once more, each step is done once, and so is a request with an Idempotency-Key.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.lookups import Exact
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers as rest
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from outbox.api import serializers
from outbox.api.actions import Many, acted_on
from outbox.api.messages import Messages
from outbox.api.openapi import described
from outbox.api.problems import Conflict, Kind, Refused
from outbox.conf import outbox_settings
from outbox.error_text import masked
from outbox.exceptions import ConfigurationError, OutboxError
from outbox.message.kinds import KINDS
from outbox.models import Message
from outbox.once import StillBegun, once
from outbox.operations import Operation, carry_out
from relay.conf import relay_settings
from relay.exceptions import BrokerFailed, MovedDatabase, ReplayHalted
from relay.replay import publish_some_again
from relay.reports.state import State, StateOf, states

PERMISSION = "django_relay.replay_checkpoint"
LONGEST_KEY = 200
_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "maxLength": LONGEST_KEY},
    OpenApiParameter.HEADER,
    description="any text; with the same one it is done once, and answered as then",
)


class Again(serializers.Reason):
    """Why, and by which relay; that may be left out if there is only one."""

    relay = rest.CharField(max_length=100, required=False, allow_null=True)


class MatchingAgain(serializers.Matching):
    """Which messages, why, and by which relay; that may be left out if there is only one."""

    relay = rest.CharField(max_length=100, required=False, allow_null=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaying(Operation):
    """Publishes again what a relay has published."""

    relay: str

    def open_to(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        tasks = Q(type__in=[kind.type for kind in KINDS if not kind.replayed and kind.type])
        return rows.filter(Exact(StateOf(self.relay), State.PUBLISHED.value)).exclude(tasks)


def by(relay: str) -> Replaying:
    """Return the operation that has messages published again by a relay."""

    def perform(numbers: Collection[int], *, by: str, using: str) -> Collection[int]:
        return publish_some_again(numbers, relay, using=using)

    return Replaying(
        model=Message,
        verb="replay",
        perform=perform,
        written=f"Published again by relay {relay}.",
        states=(State.PUBLISHED.value,),
        takes=PERMISSION,
        halts=True,
        outside=True,
        relay=relay,
    )


@described(answer=serializers.Done, request=Again, query=(_KEY,), problems=(Kind.BROKER,))
def replay(self: Messages, request: Request, id: str) -> Response:
    """Publish one message again. Takes the permission `django_relay.replay_checkpoint`."""
    given = Again(data=request.data)
    given.is_valid(raise_exception=True)
    relay = _relay(given.validated_data.get("relay"))
    row = self.find(self.to_change(), id)

    def do() -> dict[str, Any]:
        state = states([row.pk], [relay], row._state.db)[row.pk][relay]
        operation = by(relay)
        reason = str(given.validated_data["reason"])
        changed = carry_out(operation, [row.pk], user=request.user, reason=reason)
        if not changed:
            raise Conflict(_why_not(relay, state), state.value)
        return {"id": id, "changed": True, "state": State.PUBLISHED.value}

    key = request.headers.get("Idempotency-Key", "")
    if len(key) > LONGEST_KEY:
        raise ValidationError({"Idempotency-Key": [f"It has {LONGEST_KEY} characters at most."]})
    return Response(_done(do, *([_user(request), str(row.pk), relay, key] if key else [])))


@described(answer=serializers.Progress, request=MatchingAgain, problems=(Kind.BROKER,))
def replay_matching(self: Messages, request: Request) -> Response:
    """Publish all messages again that a filter selects and the relay has published, step by step.

    Those that run again with each copy, such as Celery's tasks, are left out. It stops at what the
    broker does not take. Takes the permission `django_relay.replay_checkpoint`.
    """
    given = MatchingAgain(data=request.data)
    given.is_valid(raise_exception=True)
    wanted = given.validated_data
    relay = _relay(wanted.get("relay"))
    many = Many(self, by(relay), wanted["q"], relay)
    step = wanted.get("step")
    if not step:
        return Response(many.ahead())
    asked = (_user(request), many.of, step)
    return Response(_done(lambda: many.step(step, request.user, wanted["reason"]), *asked))


def _done(do: Callable[[], dict[str, Any]], *name: str) -> dict[str, Any]:
    """Do it, once if it has a name; return what came of it. A problem is no reason to remember."""
    try:
        if not name:
            return do()
        answer, _ = once(lambda: json.dumps(do()), "relay.api.again", *name)
    except StillBegun as exc:
        raise Conflict(str(exc)) from None
    except MovedDatabase as exc:
        raise Conflict(str(exc), "moved") from None
    except (ReplayHalted, BrokerFailed, ConfigurationError) as exc:
        why = masked(str(exc), tuple(outbox_settings().REDACT))
        raise Refused(f"Nothing was published again. {why}") from None
    except OutboxError as exc:
        raise Conflict(str(exc)) from None
    found: dict[str, Any] = json.loads(answer)
    return found


def _relay(name: str | None) -> str:
    known = sorted(relay_settings())
    if name is None and len(known) == 1:
        return known[0]
    if name not in known:
        text = f"Name the relay: {', '.join(known)}." if known else "There is no relay."
        raise ValidationError({"relay": [text]})
    return name


def _why_not(relay: str, state: State) -> str:
    if state is State.PUBLISHED:
        return f"Relay {relay!r} has published it, but its broker does not carry it."
    return f"It is {state.value}; relay {relay!r} publishes again what it has published."


def _user(request: Request) -> str:
    return str(request.user.pk)


def install() -> None:
    """Give the messages of the API these actions."""
    one = action(detail=True, methods=["post"], url_path="replay")(replay)
    many = action(detail=False, methods=["post"], url_path="replay")(replay_matching)
    vars_of: dict[str, Any] = {"replay": one, "replay_matching": many}
    for name, method in vars_of.items():
        setattr(Messages, name, method)
    needed = dict.fromkeys(vars_of, PERMISSION)
    Messages.action_permissions = {**Messages.action_permissions, **needed}
    acted_on[Message] = None
