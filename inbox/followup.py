"""What came of what a person has done about messages: of which rows, why not, and with what result.

A receipt that is retried is due, and a consumer handles it a moment later. That it was retried says
nothing of what comes of it, so follow() looks at that.
"""

import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from django.db.models import Exists, OuterRef, Q, TextChoices
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from inbox.models import DeadLetter, Receipt
from inbox.receiving.tally import Tally
from inbox.states import OPEN, State
from outbox.database.freshness import refresh

LOOK_EVERY = 0.2
"""Seconds from one look at what has come of receipts to the next."""
PART = 1_000
"""Receipts of one look."""
TOLD_ERROR = 200
"""Characters of an error by which failures are counted together."""


class Left(TextChoices):
    """Why a row was left as it was."""

    IN_WORK = "in_work", _("in work at the moment")
    WAITING = "waiting", _("waiting: it goes on when what it waits for is processed")
    OVER = "over", _("processed, skipped or discarded already")
    UNUSABLE = "unusable", _("as unusable as before")
    ONLY_HEAD = "only_head", _("only the head is kept, as it was too large")
    PASSED = "passed", _("its key has gone on without it")
    GONE = "gone", _("no longer there")


@dataclass(slots=True)
class Came:
    """What came of what a person has done, in receipts: their states now, in numbers.

    `untried` are due, and no consumer has called their handlers yet; `behind` of a message of their
    key that is dead, or retrying later. Neither is in `states`, where what is retrying or dead has
    failed again: `errors` says of which handlers, and why.
    """

    states: Counter[State] = field(default_factory=Counter)
    untried: int = 0
    behind: int = 0
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Receipts of handlers that have failed again."""
        return self.states[State.RETRYING] + self.states[State.DEAD]

    def add(self, other: "Came") -> None:
        self.states.update(other.states)
        self.errors.update(other.errors)
        self.untried += other.untried
        self.behind += other.behind

    def count(self, tally: Tally) -> None:
        """Count what came of one message that was received again; duplicates are processed."""
        self.states[State.PROCESSED] += tally.handled + tally.duplicates
        self.states[State.RETRYING] += tally.retrying
        self.states[State.WAITING] += tally.waiting
        self.states[State.SKIPPED] += tally.skipped
        self.states[State.DEAD] += tally.dead - tally.letters
        self.errors.update(
            {(handler, error[:TOLD_ERROR]): 1 for handler, error in tally.failures.items()}
        )

    def __str__(self) -> str:
        found = [(self.states[state], state.label) for state in State]
        found += [
            (self.untried, _("not tried yet")),
            (self.behind, _("behind another message of their key")),
        ]
        return ", ".join(f"{count} {what}" for count, what in found if count)


@dataclass(slots=True)
class Done:
    """Numbers of the rows that were changed, and of those that were not, and why.

    `came` says what has come of the changed ones until now.
    """

    changed: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    why: dict[int, Left] = field(default_factory=dict)
    came: Came = field(default_factory=Came)

    def add(self, other: "Done") -> None:
        self.changed += other.changed
        self.left += other.left
        self.why.update(other.why)
        self.came.add(other.came)

    def leave(self, number: int, why: Left) -> None:
        self.left.append(number)
        self.why[number] = why


def leave_others(
    done: Done,
    model: type[Receipt | DeadLetter],
    numbers: Collection[int],
    before: Collection[State],
    using: str,
) -> None:
    """Say why the others were left; those that are in a state of `before` are in work."""
    left = sorted(set(numbers) - set(done.changed))
    if not left:
        return
    states = dict(
        model._default_manager.using(using).filter(pk__in=left).values_list("pk", "state")
    )
    for number in left:
        state = states.get(number)
        if state is None:
            why = Left.GONE
        elif state in before:
            why = Left.IN_WORK
        else:
            why = Left.WAITING if state == State.WAITING else Left.OVER
        done.leave(number, why)


def follow(numbers: Collection[int], *, using: str, seconds: float = 0.0) -> Came:
    """Return what has come of receipts since they were retried.

    Waits until nothing of them can be expected any more, or until consumers have got no further for
    `seconds`; by default it only looks.
    """
    came, rest = _look(numbers, using)
    deadline = time.monotonic() + seconds
    while came.untried and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
        refresh(using)
        before, settled = len(rest), came
        came, rest = _look(rest, using)
        settled.untried = settled.behind = 0
        came.add(settled)
        if len(rest) < before:
            deadline = time.monotonic() + seconds
    return came


def _look(numbers: Collection[int], using: str) -> tuple[Came, list[int]]:
    """Return what has come of receipts, and the numbers of those of which something may come."""
    came, rest = Came(), []
    rows = Receipt.objects.using(using)
    line = {name: OuterRef(name) for name in ("handler", "source", "key")}
    stops = Q(state=State.DEAD) | Q(state=State.RETRYING, next_attempt_at__gt=Now())
    ahead = rows.filter(stops, **line, state__in=OPEN, place__lt=OuterRef("place"))
    columns = ("pk", "handler", "state", "attempts", "error", "place", "stopped")
    wanted = sorted(numbers)
    for start in range(0, len(wanted), PART):
        part = rows.filter(pk__in=wanted[start : start + PART])
        found = part.annotate(stopped=Exists(ahead)).values_list(*columns)
        for number, handler, state, attempts, error, place, stopped in found:
            if state == State.RETRYING and not attempts:
                rest.append(number)
                came.behind += bool(place and stopped)
                came.untried += not (place and stopped)
                continue
            came.states[State(state)] += 1
            if state in (State.RETRYING, State.DEAD):
                came.errors[handler, (error or "")[:TOLD_ERROR]] += 1
    return came, rest
