"""What is wrong, in words: findings, and the examiners that make them.

The outbox examines what it owns; relay and inbox register examiners of their own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from django.db.models import Model
from django.db.utils import Error as DatabaseError

from outbox.database.failures import is_canceled
from outbox.database.limits import limited
from outbox.database.privileges import is_denied, remedy
from outbox.error_text import describe, is_a, text_of
from outbox.exceptions import OutboxError


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    """Looked at, and nothing to do."""
    INFO = "info"
    """Worth knowing, or it cannot be told."""
    WARNING = "warning"
    """Something is late, is piling up or will be in the way."""
    ERROR = "error"
    """Something does not work until a person acts."""


EXIT_CODES: Mapping[Level, int] = {
    Level.OK: 0,
    Level.INFO: 0,
    Level.WARNING: 1,
    Level.ERROR: 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that an examiner has to say.

    `id` is stable, for machines. `title` is a few words, `text` what and where, `hint` what to do.
    `figures` are the numbers behind it, fit for JSON; seconds unless their name says otherwise.
    `about` tells it from others of its id where the title does not, or changes with the numbers.
    `page` is where it is seen: the address of a page under "Messaging", such as "failures/".
    `rows` is a list of the admin that shows what it is about, where there is no such page: the
    label of a model, and what to look for in it, such as "django_outbox.request?state:expired".
    `hides` has the ids of findings that nobody can tell while this one is there, since it is worse
    or in the way: all of such an id, or those about the same if this one is `about` something.
    """

    level: Level
    id: str
    title: str
    text: str
    hint: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""
    page: str = ""
    rows: str = ""
    hides: Sequence[str] = ()


Part = Callable[[str], Finding | Iterable[Finding]]
"""What an examiner does about one subject, with the alias of a database."""
SECONDS = 3.0
"""Seconds that a statement of a part may take."""

Examiner = Callable[[str], Iterable[Finding]]
"""Takes the alias of a database; reads only, by index, and nothing without a bound."""

_examiners: dict[str, Examiner] = {}
_models: dict[str, Sequence[type[Model]]] = {}


def register_examiner(name: str, examiner: Examiner, *, models: Sequence[type[Model]] = ()) -> None:
    """Let the doctor ask an examiner; `name` is that of the app's package.

    The ids of its findings begin with the name. They tell of rows of `models`: on a page they are
    for those who may view all of these.
    """
    _examiners[name] = examiner
    _models[name] = models


def examiners() -> Sequence[str]:
    """Return the names of all examiners, in the order of registration."""
    return tuple(_examiners)


def in_time(name: str, what: str, using: str, part: Part) -> Sequence[Finding]:
    """Return what one part of an examiner finds; that it is too much to check, if it is.

    No statement of a part takes longer than SECONDS, so that one that is slow, or waits for a lock,
    keeps nobody from what else there is (PostgreSQL). `name` is that of the examiner, `what` is
    what the part is about. Not for parts that wait for a broker: those would hold a transaction.
    """
    try:
        with limited(using, SECONDS):
            found = part(using)
            return [found] if isinstance(found, Finding) else list(found)
    except DatabaseError as exc:
        if not is_canceled(exc):
            raise
    return [
        Finding(
            level=Level.WARNING,
            id=f"{name}.unexamined",
            title=f"{what}: too much to check within {SECONDS:g} s",
            text=f"Database {using!r} has ended a statement about it; all else was looked at.",
            hint="Is the database busy, or a table locked? Statistics may be old: run ANALYZE.",
            about=what,
        )
    ]


def told_of(finding: Finding) -> Sequence[type[Model]]:
    """Return the models of which a finding may tell: of all that there are, if nobody knows."""
    name = finding.id.partition(".")[0]
    if name in _models:
        return _models[name]
    return list(dict.fromkeys(model for models in _models.values() for model in models))


def examine(using: str) -> list[Finding]:
    """Return what all examiners find, each in its own order; one that fails says so."""
    return [finding for name in _examiners for finding in _examine(name, using)]


def worst(findings: Iterable[Finding]) -> Level:
    """Return the level of the worst finding."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


def _examine(name: str, using: str) -> Iterator[Finding]:
    try:
        yield from _examiners[name](using)
    except Exception as exc:  # also what a broker's own adapter raises
        known = is_a(exc, DatabaseError, OutboxError)
        yield Finding(
            level=Level.ERROR,
            id=f"{name}.unexamined",
            title=f"The {name} cannot be examined",
            text=f"Database {using!r}: {(text_of if known else describe)(exc).strip()}",
            hint=_hint(exc, using)
            if known
            else "This is a mistake of the code that examines: of an adapter in RELAYS, perhaps.",
        )


def _hint(exc: BaseException, using: str) -> str:
    if is_denied(exc):
        return f"Grant it: {remedy(exc, 'look', using)}"
    return "Is the database up, and has it been migrated? Run: manage.py migrate"
