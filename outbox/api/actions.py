"""Actions: POST /{id}/verb for one row, POST /verb for all that a filter selects.

Each is an operation that the pages of the admin have too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from django.db import router
from django.db.models import Max, Min, Model
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from outbox.admin_support.actions import EXAMPLES
from outbox.admin_support.keyset import SPAN
from outbox.api import cursors, serializers
from outbox.api.access import sees_all
from outbox.api.cursors import Span
from outbox.api.openapi import described
from outbox.api.problems import Conflict
from outbox.api.views import SECONDS, Rows
from outbox.database.clock import database_now
from outbox.database.limits import limited
from outbox.operations import Operation, carry_out

STEP = 100
"""Rows of one step of an action on many."""
COUNTED = 1_000
"""Rows that are counted before anything is done to them."""

acted_on: dict[type[Model], None] = {}
"""The models about whose rows something can be done."""

R = TypeVar("R", bound=type["ActingRows"])


class ActingRows(Rows):
    """Rows about which something can be done; see with_operations().

    `changes` are the columns of which the first that has a value says since when a row is as it
    is; none if rows stay as they are.
    """

    operations: ClassVar[Mapping[str, Operation]] = {}
    changes: ClassVar[Sequence[str]] = ()

    def act(self, operation: Operation, request: Request, name: str) -> Response:
        """Do it to one row; answer with its state, or with 409 if it is in another one."""
        reason = self.reason(request)
        row = self.find(self.to_change(), name)
        changed = carry_out(operation, [row.pk], user=request.user, reason=reason)
        state = self.state_of(row)
        if not changed and state != operation.target:
            raise Conflict(self.why_not(operation, state), state)
        return Response({"id": name, "changed": bool(changed), "state": state})

    def act_on_matching(self, operation: Operation, request: Request) -> Response:
        """Tell to which rows it would be done, or do it to the next of them."""
        given = serializers.Matching(data=request.data)
        given.is_valid(raise_exception=True)
        wanted = given.validated_data
        many = Many(self, operation, wanted["q"])
        if not wanted.get("step"):
            return Response(many.ahead())
        return Response(many.step(wanted["step"], request.user, wanted["reason"]))

    def reason(self, request: Request) -> str:
        """Return why it is done; raise ValidationError if that is not said."""
        given = serializers.Reason(data=request.data)
        given.is_valid(raise_exception=True)
        return str(given.validated_data["reason"])

    def state_of(self, row: Any) -> str | None:
        """Return the state of a row as it is now; None if it is gone."""
        rows = self.model._default_manager.using(router.db_for_write(self.model))
        found: str | None = rows.filter(pk=row.pk).values_list("state", flat=True).first()
        return found

    def why_not(self, operation: Operation, state: str | None) -> str:
        """Return why it was not done to what is in a state."""
        if state is None:
            return "It is no longer there."
        if state in operation.states:
            return f"It is {state}, and in work at the moment or of no use as before."
        states = " or ".join(operation.states)
        return f"It is {state}; {operation.verb} is for what is {states}."


def with_operations(operations: Mapping[str, Operation]) -> Callable[[R], R]:
    """Give a resource an action for each operation."""

    def decorate(resource: R) -> R:
        resource.operations = operations
        resource.action_permissions = dict(resource.action_permissions)
        acted_on[resource.model] = None
        for verb, operation in operations.items():
            setattr(resource, verb, _on_row(operation))
            setattr(resource, f"{verb}_matching", _on_matching(operation))
            resource.action_permissions[verb] = operation.codename
            resource.action_permissions[f"{verb}_matching"] = operation.codename
        return resource

    return decorate


class Many:
    """An operation on all rows that a filter selects, in steps that the caller asks for.

    Its bound is taken at the start: rows that are newer are left alone, and so are those that
    have changed since. Each step goes up the primary key from where the last one ended, so that
    one that is asked for twice does nothing more, and nothing is passed over.
    """

    def __init__(self, view: ActingRows, operation: Operation, text: str, *parameters: str) -> None:
        self.view = view
        self.operation = operation
        self.of = cursors.mark(view.resource, operation.verb, text, *parameters)
        self.rows = view.to_change()
        self.selection = view.selected(text, self.rows.db)
        narrowed = not sees_all(view.request, view.model)
        self.unindexed = bool(self.selection.rows) or narrowed

    def ahead(self) -> dict[str, Any]:
        """Return what the whole would be, and its first step; do nothing."""
        started = database_now(self.rows.db)  # before it is looked: what is found was so by then
        with limited(self.rows.db, SECONDS):
            ends = self.rows.order_by().aggregate(first=Min("pk"), last=Max("pk"))
        span = Span((ends["first"] or 1) - 1, ends["last"] or 0, started)
        numbers, looked_to = self._numbers(span, COUNTED)
        more = looked_to < span.until
        first = cursors.encode_span(span, self.of) if numbers or more else None
        return self._told(numbers, more, [], 0, span, first)

    def step(self, name: str, user: Any, reason: str) -> dict[str, Any]:
        """Do it to the next rows, and return what came of it."""
        span = cursors.decode_span(name, self.of)
        numbers, looked_to = self._numbers(span, STEP)
        changed = carry_out(self.operation, numbers, user=user, reason=reason) if numbers else []
        if self.operation.halts and changed and max(changed) < numbers[-1]:
            looked_to = max(changed)
            numbers = [number for number in numbers if number <= looked_to]
        left = len(numbers) - len(changed)
        more = looked_to < span.until
        rest = span._replace(after=looked_to)
        following = cursors.encode_span(rest, self.of) if more else None
        return self._told(numbers, more, list(changed), left, rest, following)

    def _numbers(self, span: Span, most: int) -> tuple[list[int], int]:
        """Return the next rows, and up to where that is all of them."""
        after, until, started = span
        # What has no index is compared row by row, so that a step looks at a part of the table.
        end = min(until, after + SPAN) if self.unindexed else until
        rows = self.operation.open_to(self.selection.of(self.rows))
        with limited(rows.db, SECONDS):
            found = rows.filter(pk__gt=after, pk__lte=end).order_by("pk")
            known = list(found.values_list("pk", *self.view.changes)[:most])
        numbers = [
            number for number, *since in known if next(filter(None, since), started) <= started
        ]
        return numbers, known[-1][0] if len(known) == most else end

    @staticmethod
    def _told(
        numbers: list[int],
        more: bool,
        changed: list[int],
        left: int,
        span: Span,
        following: str | None,
    ) -> dict[str, Any]:
        return {
            "matching": len(numbers),
            "more": more,
            "examples": [str(number) for number in numbers[:EXAMPLES]],
            "changed": len(changed),
            "left": left,
            "looked_to": str(span.after),
            "bound": str(span.until),
            "next": following,
        }


def _on_matching(operation: Operation) -> Any:
    def on_matching(self: ActingRows, request: Request) -> Response:
        return self.act_on_matching(operation, request)

    on_matching.__name__ = f"{operation.verb}_matching"
    meta = operation.model._meta
    on_matching.__doc__ = (
        f"{operation.verb.capitalize()} all {meta.verbose_name_plural} that a filter selects, step "
        f"by step. Takes the permission `{operation.codename}`."
    )
    on_matching = described(answer=serializers.Progress, request=serializers.Matching)(on_matching)
    return action(detail=False, methods=["post"], url_path=operation.verb)(on_matching)


def _on_row(operation: Operation) -> Any:
    def on_row(self: ActingRows, request: Request, id: str) -> Response:
        return self.act(operation, request, id)

    on_row.__name__ = operation.verb
    meta = operation.model._meta
    on_row.__doc__ = (
        f"{operation.verb.capitalize()} one {meta.verbose_name}. Takes the permission "
        f"`{operation.codename}`."
    )
    on_row = described(answer=serializers.Done, request=serializers.Reason)(on_row)
    return action(detail=True, methods=["post"], url_path=operation.verb)(on_row)
