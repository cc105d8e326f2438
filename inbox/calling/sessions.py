"""What a handler does to the session that it shares with others, and the undoing of it.

SET outlives the savepoint of a handler, and so does SET LOCAL: neighbours, receipts and the next
batches would find other tables, by another role or in another time zone. So the statements that a
handler runs through Django are looked at, which takes no round trip, and what they have set is set
back when it is over. What they do not show (a function that calls set_config(), a cursor of the
driver) shows in STATE at the end of the transaction, which is then rolled back and done again, with
STATE read around each call. See docs/decisions/0006-sessions-of-handlers.md.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakSet

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from psycopg.pq import TransactionStatus
from psycopg.sql import Composable

SETTINGS = (
    "session_authorization",
    "role",
    "search_path",
    "TimeZone",
    "statement_timeout",
    "lock_timeout",
    "row_security",
    "session_replication_role",
    "DateStyle",
    "IntervalStyle",
    "client_encoding",
    "default_transaction_isolation",
    "default_transaction_read_only",
)
"""What is looked at where nothing was seen; in the order in which it is set back."""

STATE = f"SELECT {', '.join(f'pg_catalog.current_setting({name!r})' for name in SETTINGS)}"
"""One row: the values of SETTINGS."""

LOOK = "SELECT name, pg_catalog.current_setting(name, true) FROM unnest(%s::text[]) AS name"
"""Settings by name; null for what the session does not know."""

SET_BACK = (
    "SELECT pg_catalog.set_config(name, value, %s) FROM unnest(%s::text[], %s::text[]) "
    "AS kept(name, value) WHERE pg_catalog.current_setting(name, true) IS DISTINCT FROM value"
)
"""Change what has changed, in the given order: who may set the rest comes first."""

State = Mapping[str, str | None]

_watched: WeakSet[Any] = WeakSet()
"""The driver's connections on which something was set unseen."""


class Displaced(Exception):
    """Rows that were there before the call cannot be found or written after it."""


class Leftover(NamedTuple):
    """What a statement leaves behind beside settings, and the statement that removes it."""

    pattern: re.Pattern[str]
    remedy: str
    stays: bool = False
    """Whether a savepoint that is rolled back leaves it as well."""


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.DOTALL)


GAP = r"(?:\s|--[^\n]*(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*\*/)"
"""White space and comments between the words of a statement."""
_START = rf"(?:\A|;){GAP}*"
_SETS = _pattern(rf"{_START}(?:SET(?!{GAP}+(?:CONSTRAINTS|TRANSACTION)\b)|RESET)\b")
_RUNS_CODE = _pattern(rf"{_START}DO\b")
_SET = _pattern(rf"\b(?:SET{GAP}+((?:SESSION|LOCAL){GAP}+)?|RESET{GAP}+)\"?([a-z_][\w$.]*)")
_CONFIGURES = _pattern(rf"\bset_config{GAP}*\({GAP}*(?:'([^']*)')?")
_CONFIGURES_LOCALLY = _pattern(r"\bset_config\s*\([^()]*,\s*true\s*\)")
_PREPARES = _pattern(rf"{_START}PREPARE{GAP}+(\"[^\"']+\"|[a-z_][\w$]*){GAP}*(?:\(|AS\b)")
_NAME = re.compile(r"[A-Za-z_][\w$]*(?:\.[\w$]+)*")

_LEFTOVERS = (
    Leftover(
        _pattern(
            rf"\b(?:CREATE|INTO){GAP}+(?:(?:LOCAL|GLOBAL){GAP}+)?TEMP(?:ORARY)?\b|\bpg_temp\b"
        ),
        "DISCARD TEMP",
    ),
    Leftover(
        _pattern(rf"\bpg_(?:try_)?advisory_lock(?:_shared)?{GAP}*\("),
        "SELECT pg_catalog.pg_advisory_unlock_all()",
        stays=True,
    ),
    Leftover(_pattern(rf"{_START}LISTEN\b"), "UNLISTEN *"),
    Leftover(_pattern(rf"\bWITH{GAP}+HOLD\b"), "CLOSE ALL"),
    Leftover(_pattern(rf"{_START}SET{GAP}+CONSTRAINTS\b"), "SET CONSTRAINTS ALL DEFERRED"),
)

# What begins so, and has none of these words in it, is about rows and nothing else.
_HARMLESS = ("select ", "insert ", "update ", "delete ", "with ", "savepoint ", "release ")
_HINTS = (";", "set_config", "advisory_lock", " temp", "\ttemp", "\ntemp", "pg_temp", "hold")

MAX_NAMES = 100


class Session:
    """What the statements of one call have set, to be undone by undo()."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._before: dict[str, str | None] = {}
        self._local = True
        self._remedies: dict[str, bool] = {}
        if _watched and connection.connection in _watched:
            self._before.update(look(connection, SETTINGS))
            self._local = False

    def note(self, text: str, params: Any) -> None:
        """Look at a statement that is about to run."""
        lowered = text.lower()
        if lowered.startswith(_HARMLESS) and not any(hint in lowered for hint in _HINTS):
            return
        if self._connection.vendor != "postgresql":
            return
        for leftover in _LEFTOVERS:
            if leftover.pattern.search(text):
                self._remedies[leftover.remedy] = leftover.stays
        for name in _PREPARES.findall(text):
            self._remedies[_deallocate(name)] = True
        if _SETS.search(text) or _CONFIGURES.search(text) or _RUNS_CODE.search(text):
            self._note_settings(text, params)

    def _note_settings(self, text: str, params: Any) -> None:
        found = _SET.findall(text)
        configured = _CONFIGURES.findall(text)
        if not found and not configured:
            return
        self._local &= all(scope.strip().upper() == "LOCAL" for scope, _ in found)
        self._local &= len(_CONFIGURES_LOCALLY.findall(text)) == len(configured)
        names = [name for _, name in found] + [name for name in configured if name]
        if configured:
            names += [value for value in _values(params) if _NAME.fullmatch(value)]
        known = {name.lower() for name in self._before}
        wanted = {name.lower(): name for name in (*SETTINGS, *names[:MAX_NAMES])}
        new = [name for lowered, name in wanted.items() if lowered not in known]
        if new and not _has_failed(self._connection):
            self._before.update(look(self._connection, new))

    def undo(self) -> None:
        """Set back what was set, and remove what is left. No statement if there is nothing."""
        for remedy in self._remedies:
            _run(self._connection, remedy)
        if self._before:
            set_back(self._connection, self._before, local=self._local)

    def undo_if_possible(self) -> None:
        """Do so unless there is no session, or a transaction that can only be rolled back."""
        noted = self._before or self._remedies
        if noted and self._connection.connection is not None and not _has_failed(self._connection):
            self.undo()

    def rolled_back(self) -> None:
        """Remove what has outlived the savepoint that the call was in."""
        if self._connection.connection is None:
            return
        with suppress(Error):  # of a session that is lost
            for remedy, stays in self._remedies.items():
                if stays:
                    _run(self._connection, remedy)


@contextmanager
def kept(
    connection: BaseDatabaseWrapper, check: Callable[[str], None] | None = None
) -> Iterator[Session]:
    """Note what statements do during the block; let the connection's wrapper be as before it.

    What is noted is undone in the database by undo() or rolled_back(), as the caller knows what
    became of the transaction. `check` may refuse a statement.
    """
    session = Session(connection)
    wrappers = list(connection.execute_wrappers)
    attributes = _Attributes.of(connection)

    def execute(run: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        text = text_of(sql, connection)
        if check is not None:
            check(text)
        session.note(text, params)
        return run(sql, params, many, context)

    connection.execute_wrappers.append(execute)
    try:
        yield session
    finally:
        connection.execute_wrappers[:] = wrappers
        if attributes is not None:
            attributes.set_back(connection)


@contextmanager
def others_kept(using: str) -> Iterator[None]:
    """Undo, when the block ends, what its statements set in sessions of other databases."""
    with ExitStack() as stack:
        sessions: dict[str, Session] = {}

        def keep(connection: BaseDatabaseWrapper) -> None:
            if connection.alias != using and connection.alias not in sessions:
                stack.callback(_undo_other, connection, sessions)
                sessions[connection.alias] = stack.enter_context(kept(connection))

        token = _keep_new.set(keep)
        stack.callback(_keep_new.reset, token)
        for each in connections.all(initialized_only=True):
            keep(each)
        yield


_keep_new: ContextVar[Callable[[BaseDatabaseWrapper], None] | None] = ContextVar(
    "inbox_keep_new_session", default=None
)


def _created(connection: BaseDatabaseWrapper, **_: Any) -> None:
    keep = _keep_new.get()
    if keep is not None and connections[connection.alias] is connection:
        keep(connection)


connection_created.connect(_created, dispatch_uid=__name__)


def _undo_other(connection: BaseDatabaseWrapper, sessions: Mapping[str, Session]) -> None:
    session = sessions.get(connection.alias)
    if session is None:
        return
    try:
        session.undo_if_possible()
    except Error:
        if not connection.in_atomic_block:
            connection.close()


def watch(connection: BaseDatabaseWrapper) -> bool:
    """Look at the session around each call from now on; False if that is done already."""
    if connection.vendor != "postgresql" or connection.connection is None:
        return False
    if connection.connection in _watched:
        return False
    _watched.add(connection.connection)
    return True


def look(connection: BaseDatabaseWrapper, names: Iterable[str]) -> dict[str, str | None]:
    """Return settings of a session by name."""
    # In the order of `names`, in which they are set back.
    found = dict(_run(connection, LOOK, [list(names)]))
    return {name: found[name] for name in names}


def set_back(connection: BaseDatabaseWrapper, state: State, *, local: bool = False) -> None:
    """Let settings be as they were: until the end of the transaction, if `local`."""
    _run(connection, SET_BACK, [local, list(state), list(state.values())])


def text_of(sql: Any, connection: BaseDatabaseWrapper) -> str:
    """Return a statement as text, however it was given."""
    if isinstance(sql, str):
        return sql
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    if isinstance(sql, Composable):
        return sql.as_string(connection.connection)
    return ""


def _run(connection: BaseDatabaseWrapper, statement: str, params: Any = None) -> list[Any]:
    """Run a statement past Django, whose cursors may run others, or be looked at."""
    with connection.wrap_database_errors, connection.connection.cursor() as cursor:
        cursor.execute(statement, params)
        return list(cursor.fetchall()) if cursor.description else []


def _has_failed(connection: BaseDatabaseWrapper) -> bool:
    status = connection.connection.info.transaction_status
    return bool(status is TransactionStatus.INERROR)


def _values(params: Any) -> Iterator[str]:
    given = params.values() if isinstance(params, Mapping) else params
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        for value in given:
            if isinstance(value, str):
                yield value
            elif isinstance(value, list | tuple):  # of executemany()
                yield from _values(value)


def _deallocate(name: str) -> str:
    """Return a statement that ends a prepared one, if there is one of the name as it is written."""
    plain = name[1:-1] if name.startswith('"') else name.lower()
    return (
        "DO $inbox$ BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_prepared_statements "
        f"WHERE name = '{plain}') THEN EXECUTE 'DEALLOCATE \"{plain}\"'; END IF; END $inbox$"
    )


class _Attributes(NamedTuple):
    """What a class of wrappers keeps beside what Django's own does: the tenant, for instance."""

    djangos: frozenset[str]
    values: dict[str, Any]
    settings: dict[str, Any]

    @classmethod
    def of(cls, connection: BaseDatabaseWrapper) -> "_Attributes | None":
        """Return what is kept now; None for a wrapper of Django's own."""
        djangos = _djangos(type(connection))  # type: ignore[arg-type]  # a class can be hashed
        if djangos is None:
            return None
        values = {name: each for name, each in vars(connection).items() if name not in djangos}
        return cls(djangos, values, dict(connection.settings_dict))

    def set_back(self, connection: BaseDatabaseWrapper) -> None:
        attributes = vars(connection)
        for name in attributes.keys() - self.djangos - self.values.keys():
            del attributes[name]
        attributes.update(self.values)
        settings = connection.settings_dict
        if settings != self.settings:
            for name in settings.keys() - self.settings.keys():
                del settings[name]
            settings.update(self.settings)


@cache
def _djangos(kind: type[BaseDatabaseWrapper]) -> frozenset[str] | None:
    """Return the attributes of Django's own wrapper, for a class derived from it; else None."""
    own = next(each for each in kind.__mro__ if each.__module__.startswith("django."))
    return None if own is kind else frozenset({*dir(own), *vars(own({}, ""))})
