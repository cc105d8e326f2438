"""Try a group of failures again: one as a canary, then the rest in steps, as long as it holds.

A run is about what had failed when it began. What fails later is none of it, also where an older
row fails only then: such a row may fail for another reason, or because the run does no good.
Whoever goes on with a run carries its state from step to step, signed. It is for the one who began
it, and each of its steps is done once (outbox.once), however often it is asked for.
"""

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from itertools import accumulate, pairwise
from typing import Any

from django.core import signing

from outbox.database.clock import database_now
from outbox.extensions.failures import Came, Failure, FailureSource
from outbox.failures.grouping import Found, Group, fingerprint
from outbox.once import once

LOOK = 500
"""Rows of one look for those that are to be tried."""
LOOKS = 4
"""Looks of one step."""
MAX_AGE = 7 * 24 * 3600
"""Seconds in which one can go on with a run."""
LONGEST = 200
"""Characters of what a group is called."""
_SALT = "outbox.failures"
_ROWS = f"{_SALT}.rows"  # one kind of token is never taken for the other

Act = Callable[[Sequence[int]], Collection[int]]
"""Tries rows again; returns the numbers of those of which that was possible."""


class Standing(StrEnum):
    """What is to be done next."""

    WAITING = "waiting"
    """Nothing: some of the last step were not tried yet."""
    READY = "ready"
    """The next step."""
    STOPPED = "stopped"
    """See why one has failed again."""
    OVER = "over"
    """Nothing: all were tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How far it has come: rows up to the number `after`, of those up to `until`.

    `pending` are those of the last step; `handled` and `behind` say what came of those before.
    `name` tells it from all others, `user` is the key of who began it, `steps` how many were done.
    """

    source: str
    fingerprint: str
    what: str
    total: int
    until: int
    started: datetime
    after: int
    pending: Sequence[int] = ()
    handled: int = 0
    behind: int = 0
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    user: str = ""
    steps: int = 0

    @property
    def holds(self) -> bool:
        """Whether one was handled, so that the rest may be tried."""
        return self.handled > 0

    def token(self) -> str:
        """Return all of it as text that nobody else can make."""
        values = asdict(self)
        values |= {"started": self.started.isoformat(), "pending": _steps(self.pending)}
        return signing.dumps(values, salt=_SALT, compress=True)

    @classmethod
    def of(cls, token: str) -> "Run":
        """Return what token() was made of; raise BadSignature for any other text."""
        values: dict[str, Any] = signing.loads(token, salt=_SALT, max_age=MAX_AGE)
        started = datetime.fromisoformat(values["started"])
        return cls(**values | {"started": started, "pending": _numbers(values["pending"])})

    def takes(self, failure: Failure) -> bool:
        """Tell whether a row is one of those that had failed when the run began."""
        return (
            failure.failed <= self.started and fingerprint(self.source, failure) == self.fingerprint
        )

    def standing(self, came: Came) -> Standing:
        """Return what is to be done next, from what came of the last step."""
        if came.failed:
            return Standing.STOPPED
        if came.untried:
            return Standing.WAITING
        return Standing.READY if self.after < self.until else Standing.OVER


def begin(
    source: FailureSource,
    using: str,
    look: Callable[[], Found],
    name: str,
    what: Callable[[Group], str],
    *,
    user: str = "",
) -> Run | None:
    """Return a run of a group by its fingerprint, before its first step; None if it is gone.

    `what` tells what a group is called; `user` is the key of who begins it.
    """
    started = database_now(using)  # before it is looked: what is found has failed by then
    group = look().get(name)
    if group is None:
        return None
    numbers = [failure.number for failure in group.failures]
    return Run(
        source=source.name,
        fingerprint=name,
        what=what(group)[:LONGEST],
        total=len(numbers),
        until=max(numbers),
        started=started,
        after=min(numbers) - 1,
        user=user,
    )


def begin_once(begin: Callable[[], Run | None], *name: str) -> tuple[Run | None, bool]:
    """Return a run, and whether it is new: the one that has begun under this name if there is one.

    Raises StillBegun if that is about to begin.
    """

    def begun() -> str:
        run = begin()
        return run.token() if run else ""

    token, is_new = once(begun, _SALT, "begin", *name)
    return Run.of(token) if token else None, is_new


def go_on(run: Run, source: FailureSource, using: str, act: Act) -> Run:
    """Do the next step, if it is its turn: one row until one was handled, then several.

    Whoever asks for a step that was done gets what came of it then. Raises StillBegun if that is
    not known.
    """
    came = source.came(run.pending, using)
    if run.standing(came) is not Standing.READY:
        return run
    settled = replace(
        run,
        pending=(),
        handled=run.handled + came.handled,
        behind=run.behind + came.behind,
        steps=run.steps + 1,
    )

    def step() -> str:
        return _try_next(settled, source, using, act).token()

    token, _done_now = once(step, _SALT, run.name, str(run.steps))
    return Run.of(token)


def _try_next(run: Run, source: FailureSource, using: str, act: Act) -> Run:
    size = source.step if run.holds else 1
    after = run.after
    for _ in range(LOOKS):
        rows = source.between(after, run.until, most=LOOK, using=using)
        taken = [row.number for row in rows if run.takes(row)]
        if len(taken) > size:
            taken = taken[:size]
            after = taken[-1]
        else:
            after = rows[-1].number if len(rows) == LOOK else run.until
        # One that is in work cannot be tried: then it is the next one's turn.
        changed = act(taken) if taken else ()
        tried = taken if source.at_once else changed
        if tried:
            return replace(run, after=after, pending=tuple(sorted(tried)))
        if after >= run.until:
            break
    return replace(run, after=after)


def pack(numbers: Sequence[int]) -> str:
    """Return the numbers of rows as short text that nobody else can make."""
    return signing.dumps(_steps(sorted(numbers)), salt=_ROWS, compress=True)


def unpack(token: str) -> list[int]:
    """Return what was packed; raise BadSignature for any other text."""
    return _numbers(signing.loads(token, salt=_ROWS, max_age=MAX_AGE))


def _steps(numbers: Sequence[int]) -> list[int]:
    """Return the first number, then how much greater each is than the one before."""
    return [*numbers[:1], *(second - first for first, second in pairwise(numbers))]


def _numbers(steps: Sequence[int]) -> list[int]:
    return list(accumulate(steps))
