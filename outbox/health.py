"""What is wrong, in words: findings, and the examiners that make them.

The outbox examines what it owns; relay and inbox register examiners of their own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from django.db.utils import Error as DatabaseError

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
    """

    level: Level
    id: str
    title: str
    text: str
    hint: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


Examiner = Callable[[str], Iterable[Finding]]
"""Takes the alias of a database; reads only, by index, and nothing without a bound."""

_examiners: dict[str, Examiner] = {}


def register_examiner(name: str, examiner: Examiner) -> None:
    """Let the doctor ask an examiner; `name` is that of the app's package."""
    _examiners[name] = examiner


def examiners() -> Sequence[str]:
    """Return the names of all examiners, in the order of registration."""
    return tuple(_examiners)


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
    except (DatabaseError, OutboxError) as exc:
        yield Finding(
            level=Level.ERROR,
            id=f"{name}.unexamined",
            title=f"The {name} cannot be examined",
            text=f"Database {using!r}: {str(exc).strip()}",
            hint="Is the database up, and has it been migrated? Run: manage.py migrate",
        )
