"""What people do about rows, wherever they ask for it: on a page of the admin or through the API.

Each operation says in which states of a row it can be done and which permission it takes. It is
done by one function, carry_out(), and what is no operation by carry_out_once(): they ask for the
permission, and write to one log who did it and why, Django's log of admin actions.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import Model, QuerySet
from django.utils.translation import gettext_noop

from outbox.database.transactions import own_transaction
from outbox.error_text import storable
from outbox.models import Scheduled

MAX_REASON = 500
"""Characters of a reason."""
MAX_NAME = 255
"""Characters of the name of a user."""
T = TypeVar("T")


class Perform(Protocol):
    """Does something to rows as far as it can be done; returns the ids of what was changed."""

    def __call__(self, numbers: Collection[int], *, by: str, using: str) -> Collection[int]: ...


class PerformFor(Protocol):
    """Does something to rows, and keeps for what reason; returns the ids of what was changed."""

    def __call__(
        self, numbers: Collection[int], *, by: str, using: str, reason: str
    ) -> Collection[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Something that people do about rows of a model.

    It can be done in `states`, whenever the row is there if there are none, and leads to `target`:
    whoever asks for it again has what he wanted. `permission` is the verb of the permission that it
    takes, by default `verb`; `written` is what the log says. What `deletes` leaves no row. What
    `halts` goes up the rows, and stops at the first to which it cannot be done for now. `takes` is
    the permission where it is one of another model. What is `reasoned` is done by that, in place of
    `perform`, and the rows keep the reason.
    """

    model: type[Model]
    verb: str
    perform: Perform
    written: str
    states: Sequence[str] = ()
    target: str = ""
    permission: str = ""
    deletes: bool = False
    halts: bool = False
    takes: str = ""
    reasoned: PerformFor | None = None

    def done(
        self, numbers: Collection[int], *, by: str, using: str, reason: str
    ) -> Collection[int]:
        """Do it as far as it can be done; return the ids of what was changed."""
        if self.reasoned is not None:
            why = storable(reason.strip(), MAX_REASON)
            return self.reasoned(numbers, by=by, using=using, reason=why)
        return self.perform(numbers, by=by, using=using)

    @property
    def codename(self) -> str:
        """The permission that it takes, as has_perm() wants it."""
        if self.takes:
            return self.takes
        meta = self.model._meta
        return f"{meta.app_label}.{self.permission or self.verb}_{meta.model_name}"

    def open_to(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return those rows to which it can be done."""
        return rows.filter(state__in=self.states) if self.states else rows


def carry_out(
    operation: Operation, numbers: Collection[int], *, user: Any, reason: str = ""
) -> Collection[int]:
    """Do it as far as it can be done, and write down who did it and why; return what was changed.

    Raises PermissionDenied if the user may not.
    """
    allow(user, operation.codename)
    using = router.db_for_write(operation.model)
    rows = operation.model._default_manager.using(using).filter(pk__in=numbers)
    named = [field.name for field in operation.model._meta.fields if field.name in _NAMING]
    # What is deleted must not be gone without a trace.
    with own_transaction(using, durable=False) if operation.deletes else nullcontext():
        known = {row.pk: row for row in rows.only("pk", *named)} if operation.deletes else {}
        changed = operation.done(numbers, by=name_of(user), using=using, reason=reason)
        if changed:
            write_down(
                [known[pk] for pk in changed]
                if operation.deletes
                else rows.model._default_manager.using(using)
                .filter(pk__in=changed)
                .only("pk", *named),
                operation.written,
                user=user,
                reason=reason,
                flag=DELETION if operation.deletes else CHANGE,
            )
    return changed


def carry_out_once(
    act: Callable[[], T], row: Model, *, permission: str, written: str, user: Any, reason: str = ""
) -> T:
    """Do something else to one row, and write down who did it and why; return what came of it.

    What returns False was not done. `permission` is as has_perm() wants it; raises PermissionDenied
    if the user may not, and whatever `act` raises.
    """
    allow(user, permission)
    came = act()
    if came is not False:
        write_down([row], written, user=user, reason=reason)
    return came


def write_down(
    rows: Iterable[Model], what: str, *, user: Any, reason: str = "", flag: int = CHANGE
) -> None:
    """Keep what a user did to which rows, and why, in the log of what people do."""
    why = storable(reason.strip(), MAX_REASON)
    LogEntry.objects.log_actions(
        user_id=user.pk,
        queryset=rows if isinstance(rows, QuerySet) else list(rows),
        action_flag=flag,
        change_message=f"{what} {why}".strip(),
    )


def name_of(user: Any) -> str:
    """Return the name of a user as it is kept, whatever field of a project's own it comes from."""
    return storable(str(user.get_username()), MAX_NAME)


def allow(user: Any, permission: str) -> None:
    """Raise PermissionDenied unless a user has a permission, as has_perm() wants it."""
    if not user.has_perm(permission):
        raise PermissionDenied


_NAMING = frozenset({"type", "message_id", "handler", "reason", "digest", "state", "group"})
"""Columns that the names of rows are made of, none of them long."""


def _cancel(numbers: Collection[int], *, by: str, using: str) -> Collection[int]:
    """Take messages back that are not due yet."""
    with own_transaction(using, durable=False):
        # Waits for a delivery that is taking them; what it took is no longer among them.
        waiting = Scheduled.objects.using(using).filter(pk__in=numbers).select_for_update()
        cancelled = list(waiting.order_by("pk").values_list("pk", flat=True))
        Scheduled.objects.using(using).filter(pk__in=cancelled).delete()
    return cancelled


CANCEL = Operation(
    model=Scheduled,
    verb="cancel",
    perform=_cancel,
    written=gettext_noop("Cancelled."),
    deletes=True,
)
