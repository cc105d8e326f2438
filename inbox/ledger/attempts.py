"""What a receipt keeps of the calls of its handler: the last few, as JSON."""

import json
from typing import Any, NamedTuple

from inbox.ledger.masking import masked
from outbox.database import instants
from outbox.runtime.identity import process_name

MOST = 10
"""Attempts that are kept."""
MAX_ERROR = 500
"""Characters of the error of each; the receipt's own error is that of the last one, and longer."""


class Attempt(NamedTuple):
    """One call of a handler: when it ended, how long it took, and in which process it ran.

    `error` is None if the handler returned. Of a call that ended its process no more is known than
    when another one has noticed.
    """

    at: str
    error: str | None
    seconds: float | None = None
    process: str = ""


def made(error: str | None, seconds: float | None) -> Attempt:
    """Return what was an attempt of this process until now."""
    took = None if seconds is None else round(seconds, 3)
    return Attempt(_now(), _brief(error), took, process_name())


def noticed(error: str) -> Attempt:
    """Return what was an attempt of a process that is no more."""
    return Attempt(_now(), _brief(error))


def add(kept: str | None, attempt: Attempt | None) -> str | None:
    """Return what is kept, with an attempt behind the others.

    A call that succeeds at once has no story: most receipts keep nothing.
    """
    if attempt is None or (attempt.error is None and not kept):
        return kept
    # An earlier version has kept them as they were.
    earlier = [_masked(each) for each in read(kept)[1 - MOST :]]
    last = [*earlier, attempt]
    return json.dumps([each._asdict() for each in last])


def read(kept: str | None) -> list[Attempt]:
    """Return the attempts that are kept, the last one at the end."""
    try:
        found = json.loads(kept or "[]")
    except ValueError:
        return []
    return [_attempt(each) for each in found if isinstance(each, dict)]


def _attempt(found: dict[str, Any]) -> Attempt:
    at, error, seconds, process = (found.get(name) for name in Attempt._fields)
    return Attempt(str(at or ""), error, seconds, process or "")


def _masked(attempt: Attempt) -> Attempt:
    error = attempt.error
    return attempt._replace(error=_brief(error)) if isinstance(error, str) else attempt


def _now() -> str:
    return instants.now().isoformat(timespec="milliseconds")


def _brief(error: str | None) -> str | None:
    return None if error is None else masked(error)[:MAX_ERROR]
