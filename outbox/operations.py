"""What people do about rows, wherever they ask for it: on a page of the admin or through the API.

Each operation says in which states of a row it can be done and which permission it takes. It is
done by one function, carry_out(), and what is no operation by carry_out_once(): they ask for the
permission, and write to one log who did it and why, Django's log of admin actions. Nothing is done
and not written down, also where the process is killed. Where that log is in another database, its
entry is there a moment before what was done is committed.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import Model, Q, QuerySet
from django.utils.translation import gettext_noop

from outbox.database.transactions import own_transaction
from outbox.error_text import storable
from outbox.failpoints import hit
from outbox.models import Scheduled

MAX_REASON = 500
"""Characters of a reason."""
MAX_NAME = 255
"""Characters of the name of a user."""
BEGUN = gettext_noop("Begun, and not known to be done.")
"""What is written down before something is done outside of the database."""
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
    `perform`, and the rows keep the reason. With `only` it is for those rows alone that it selects.
    What acts `outside`, on a broker, has no part in the transactions of a database; what is done
    `singly` calls handlers, so that each row has a transaction of its own.
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
    outside: bool = False
    singly: bool = False
    only: Q | None = None

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
        found = rows.filter(state__in=self.states) if self.states else rows
        return found if self.only is None else found.filter(self.only)


def carry_out(
    operation: Operation, numbers: Collection[int], *, user: Any, reason: str = ""
) -> Collection[int]:
    """Do it as far as it can be done, and write down who did it and why; return what was changed.

    Both are one transaction, or one for each row if it is done `singly`. What acts `outside` is
    written down before, as begun: a process that dies meanwhile, or an error, leaves that. Raises
    PermissionDenied if the user may not.
    """
    allow(user, operation.codename)
    using = router.db_for_write(operation.model)
    if operation.outside:
        rows = _named(operation.model, numbers, using)
        act = partial(operation.done, numbers, by=name_of(user), using=using, reason=reason)
        return _begun_and_done(act, rows, operation.written, lambda it: it, user, reason)
    changed: list[int] = []
    for part in [[number] for number in numbers] if operation.singly else [numbers]:
        with own_transaction(using, durable=False, handlers=operation.singly):
            changed += _do_and_write_down(operation, part, using, user, reason)
    return changed


def _do_and_write_down(
    operation: Operation, numbers: Collection[int], using: str, user: Any, reason: str
) -> Collection[int]:
    # What is deleted must not be gone without a trace.
    before = _named(operation.model, numbers, using) if operation.deletes else ()
    known = {row.pk: row for row in before}
    changed = operation.done(numbers, by=name_of(user), using=using, reason=reason)
    hit("operation.performed")
    if changed:
        write_down(
            [known[pk] for pk in changed]
            if operation.deletes
            else _named(operation.model, changed, using),
            operation.written,
            user=user,
            reason=reason,
            flag=DELETION if operation.deletes else CHANGE,
        )
    return changed


def carry_out_once(
    act: Callable[[], T],
    row: Model,
    *,
    permission: str,
    written: str,
    user: Any,
    reason: str = "",
    using: str = "",
    outside: bool = False,
) -> T:
    """Do something else to one row, and write down who did it and why; return what came of it.

    Both are one transaction in the database `using`, by default that of the row, in which handlers
    may be called; or it is written down before, as begun, if it acts `outside`. What returns False
    was not done. `permission` is as has_perm() wants it; raises PermissionDenied if the user may
    not, and whatever `act` raises.
    """
    allow(user, permission)
    if outside:
        return _begun_and_done(act, [row], written, lambda it: it is not False, user, reason)
    where = using or router.db_for_write(type(row))
    with own_transaction(where, durable=False, handlers=True):
        came = act()
        hit("operation.performed")
        if came is not False:
            write_down([row], written, user=user, reason=reason)
    return came


def _begun_and_done(
    act: Callable[[], T],
    rows: Iterable[Model],
    written: str,
    done: Callable[[T], Collection[int] | bool],
    user: Any,
    reason: str,
) -> T:
    """Write down that it is begun, do it, then write down to which rows it was done.

    What is outside of the database cannot be in a transaction with it.
    """
    entries = write_down(rows, f"{BEGUN} {written}", user=user, reason=reason)
    came = act()
    hit("operation.performed")
    changed = done(came)
    log = LogEntry.objects.using(router.db_for_write(LogEntry))
    if isinstance(changed, bool):
        mine = entries if changed else []
    else:
        names = set(map(str, changed))
        mine = [entry for entry in entries if str(entry.object_id) in names]
    log.filter(pk__in=[entry.pk for entry in mine]).update(change_message=_said(written, reason))
    others = {entry.pk for entry in entries} - {entry.pk for entry in mine}
    log.filter(pk__in=others).delete()
    return came


def write_down(
    rows: Iterable[Model], what: str, *, user: Any, reason: str = "", flag: int = CHANGE
) -> list[LogEntry]:
    """Keep what a user did to which rows, and why, in the log of what people do."""
    entries: list[LogEntry] = LogEntry.objects.log_actions(
        user_id=user.pk,
        queryset=rows if isinstance(rows, QuerySet) else list(rows),
        action_flag=flag,
        change_message=_said(what, reason),
    )
    return entries


def _said(what: str, reason: str) -> str:
    return f"{what} {storable(reason.strip(), MAX_REASON)}".strip()


def _named(model: type[Model], numbers: Collection[int], using: str) -> QuerySet[Any]:
    """Return rows with no more than what their names are made of."""
    columns = [field.name for field in model._meta.fields if field.name in _NAMING]
    return model._default_manager.using(using).filter(pk__in=numbers).only("pk", *columns)


def name_of(user: Any) -> str:
    """Return the name of a user as it is kept, whatever field of a project's own it comes from."""
    return storable(str(user.get_username()), MAX_NAME)


def allow(user: Any, permission: str) -> None:
    """Raise PermissionDenied unless a user has a permission, as has_perm() wants it."""
    if not user.has_perm(permission):
        raise PermissionDenied


_NAMING = frozenset({"type", "message_id", "handler", "reason", "digest", "state", "group", "kind"})
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
