"""Which rights each kind of process needs in PostgreSQL, and the GRANT for what is missing.

The how-to on least privilege shows the same; a test compares them.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress

from django.db import DatabaseError, connections

from outbox.exceptions import AccessDenied

INSUFFICIENT_PRIVILEGE = "42501"
"""The SQLSTATE of a statement that the user may not run."""

Needs = Mapping[str, Sequence[str]]
"""Rights by table, or by sequence, whose name ends in _seq."""

_needs: dict[str, dict[str, Sequence[str]]] = {}
_at_start: dict[str, dict[str, Sequence[str]]] = {}


def register_needs(process: str, needs: Needs, *, at_start: Needs | None = None) -> None:
    """Add what a kind of process needs: "emit", "relay", "consume", "prune" or "person".

    A person who only looks, with "look", needs to read what a "person" needs.

    `at_start` is the part without which it can do nothing at all; the rest, such as the right to
    delete what is old, is asked for when it is needed.
    """
    _needs.setdefault(process, {}).update(needs)
    _at_start.setdefault(process, {}).update(at_start or {})


def needs_of(process: str) -> Needs:
    """Return the rights of a kind of process by table and sequence."""
    if process == "look":
        return dict.fromkeys(_needs.get("person", {}), ("SELECT",))
    return _needs.get(process, {})


def is_denied(exc: BaseException) -> bool:
    """Tell whether a statement was refused for want of a right."""
    return getattr(exc.__cause__, "sqlstate", None) == INSUFFICIENT_PRIVILEGE


def concerns(exc: BaseException, process: str) -> bool:
    """Tell whether a statement was refused on a table that a kind of process has rights on."""
    return _table(exc, needs_of(process)) is not None


def remedy(exc: BaseException, process: str, using: str) -> str:
    """Return the GRANT that a statement lacked which was refused, as far as its words tell."""
    mine = needs_of(process)
    if name := _table(exc, mine):
        return grant(name, _lacking(name, mine[name], using), _user(using))
    found = re.search(r"for (table|relation|sequence|view|schema|function) (\S+)", str(exc))
    what = f" on {found[1]} {found[2]}" if found else ""
    return f"what it needs{what}, to {_user(using) or 'the user in DATABASES'}"


def add_remedy(exc: BaseException, process: str, using: str) -> None:
    """Add the GRANT that a statement lacked to an error, where tracebacks show it."""
    if is_denied(exc):
        exc.add_note(f"Grant it: {remedy(exc, process, using)}")


def grant(name: str, rights: Sequence[str], user: str) -> str:
    """Return the statement that gives a user rights on a table, or on a sequence."""
    kind = "SEQUENCE " if name.endswith("_seq") else ""
    return f'GRANT {", ".join(rights)} ON {kind}{name} TO "{user or "the user in DATABASES"}";'


def check_rights(process: str, using: str) -> None:
    """Raise AccessDenied, with every GRANT that is missing, unless a process may start its work.

    One statement. What does not exist, before migrations say, is not looked at: that is told
    otherwise.
    """
    needs = _at_start.get(process)
    if connections[using].vendor != "postgresql" or not needs:
        return
    pairs = [(name, right) for name, rights in needs.items() for right in rights]
    rows = _missing(pairs, using)
    missing: dict[str, list[str]] = {}
    for name, right, _user in rows:
        missing.setdefault(name, []).append(right)
    if missing:
        grants = "\n".join(grant(name, rights, rows[0][2]) for name, rights in missing.items())
        raise AccessDenied(
            f"The database user lacks rights (database {using!r}). Grant it:\n{grants}"
        )


def _table(exc: BaseException, needs: Needs) -> str | None:
    """Return which table or sequence of some was refused."""
    for name in sorted(needs, key=len, reverse=True):  # a sequence's name begins with its table's
        if re.search(rf"\b{re.escape(name)}\b", str(exc)):
            return name
    return None


def _lacking(name: str, rights: Sequence[str], using: str) -> Sequence[str]:
    """Return which rights on a table the user lacks; all, where the server cannot be asked."""
    if connections[using].in_atomic_block:
        return rights  # the transaction has failed
    with suppress(DatabaseError):
        return [row[1] for row in _missing([(name, right) for right in rights], using)] or rights
    return rights


def _missing(pairs: Sequence[tuple[str, str]], using: str) -> list[tuple[str, str, str]]:
    """Return which rights are missing: name, right, and whose."""
    with connections[using].cursor() as cursor:
        cursor.execute(_MISSING, [[name for name, _ in pairs], [right for _, right in pairs]])
        return [(name, right, user) for name, right, user in cursor.fetchall()]


_MISSING = """
SELECT wanted.name, wanted.right, current_user
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS wanted (name, "right", place)
JOIN LATERAL (SELECT to_regclass(wanted.name) AS id) AS found ON found.id IS NOT NULL
JOIN pg_class AS c ON c.oid = found.id
WHERE NOT CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT, USAGE')
               ELSE has_table_privilege(c.oid, wanted."right") END
ORDER BY wanted.place
"""


def _user(using: str) -> str:
    """Return who the connection belongs to, without asking the server: it may be in an error."""
    connection = connections[using]
    driver = connection.connection
    if connection.vendor == "postgresql" and driver is not None and not driver.closed:
        return str(driver.info.user)
    return str(connection.settings_dict.get("USER") or "")


MESSAGE, SEQUENCE = "django_outbox_message", "django_outbox_message_position_seq"
SCHEDULED, NOTE = "django_outbox_scheduled", "django_outbox_failurenote"
ONCE = "django_outbox_doneonce"
REQUEST, REPLY = "django_outbox_request", "django_outbox_reply"
SETTLEMENT = "django_outbox_settlement"
ACKNOWLEDGEMENT = "django_outbox_acknowledgement"
RECONCILIATION, TOTAL = "django_outbox_reconciliation", "django_outbox_buckettotal"
TOPIC, TO_STATE = "django_outbox_grouptopic", "django_outbox_tostate"
BREAK = "django_outbox_break"

# A request is locked before it is settled, for which PostgreSQL wants the right to update.
register_needs(
    "emit",
    {
        MESSAGE: ["INSERT"],
        SCHEDULED: ["SELECT", "INSERT", "DELETE"],
        REQUEST: ["SELECT", "INSERT", "UPDATE"],
        REPLY: ["SELECT"],
        SETTLEMENT: ["SELECT", "INSERT"],
        ACKNOWLEDGEMENT: ["SELECT", "INSERT"],
    },
)
register_needs(
    "relay",
    {
        MESSAGE: ["SELECT", "INSERT", "UPDATE", "DELETE"],
        SEQUENCE: ["SELECT"],
        SCHEDULED: ["SELECT", "UPDATE", "DELETE"],
        ACKNOWLEDGEMENT: ["SELECT", "UPDATE", "DELETE"],
    },
    # Without a right on the sequence newer servers give NULL, and pages would get slow in silence.
    at_start={MESSAGE: ["SELECT"], SEQUENCE: ["SELECT"], SCHEDULED: ["SELECT"]},
)
register_needs(
    "prune",
    {
        MESSAGE: ["SELECT", "DELETE"],
        REQUEST: ["SELECT", "DELETE"],
        REPLY: ["SELECT", "DELETE"],
        SETTLEMENT: ["SELECT", "DELETE"],
        ACKNOWLEDGEMENT: ["SELECT", "DELETE"],
        NOTE: ["SELECT", "DELETE"],
        TOTAL: ["SELECT", "DELETE"],
        BREAK: ["SELECT", "DELETE"],
    },
)
register_needs(
    "person",
    {
        MESSAGE: ["SELECT", "INSERT"],
        SEQUENCE: ["SELECT"],
        SCHEDULED: ["SELECT"],
        NOTE: ["SELECT", "INSERT", "UPDATE"],
        ONCE: ["SELECT", "INSERT", "UPDATE", "DELETE"],
        REQUEST: ["SELECT", "UPDATE"],
        REPLY: ["SELECT"],
        SETTLEMENT: ["SELECT", "INSERT"],
        ACKNOWLEDGEMENT: ["SELECT", "UPDATE"],
        RECONCILIATION: ["SELECT"],
        TOPIC: ["SELECT"],
        TOTAL: ["SELECT"],
        TO_STATE: ["SELECT"],
        BREAK: ["SELECT", "UPDATE"],
    },
)
