"""The way of one message as a list of steps, each behind its cause, whatever clocks say."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import ClassVar, Literal

from django.utils.html import format_html
from django.utils.translation import gettext as _

from outbox.admin_support import html
from outbox.admin_support.html import Content

Mood = Literal["done", "open", "failed", "quiet"]
"""Whether a step is over and well, goes on by itself, waits for a person, or is no news."""

_LATEST = datetime.max.replace(tzinfo=UTC)


class Stage(IntEnum):
    """Which steps come behind which: a later one has one of an earlier stage as its cause."""

    EMITTED = 1
    DUE = 2
    PUBLISHED = 3
    HANDLED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that happened to a message, or is to come.

    `by` names the relay or handler; steps by one `actor` follow each other in the order in which
    they are given. `what` is what happened, as a badge; `caused` what is said of the time since
    then, such as "published". `note` tells more, `buttons` are what can be done about it.
    """

    stage: Stage
    what: Content
    actor: str = ""
    by: Content = ""
    at: datetime | None = None
    took: timedelta | None = None
    where: str = ""
    attempts: int = 0
    mood: Mood = "done"
    details: Sequence[Content] = ()
    note: Content = ""
    buttons: Content = ""
    caused: Content = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A step at its place, and how long after its cause it happened."""

    step: Step
    since: Content = ""

    @property
    def shown_at(self) -> str:
        return html.stamp(self.step.at) if self.step.at else ""

    @property
    def details(self) -> list[Content]:
        """Where it was done, how long that took, and what else there is to say in a few words."""
        step = self.step
        found: list[Content] = []
        if step.where:
            found.append(format_html("{} {}", _("in"), html.code(step.where)))
        if step.took is not None:
            found.append(_("took %(length)s") % {"length": html.span(step.took)})
        return [*found, *step.details]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Steps below each other, the first one first."""

    template: ClassVar[str] = "outbox/admin/timeline.html"

    title: Content
    steps: Sequence[Placed]
    note: Content = ""


def placed(steps: Iterable[Step]) -> list[Placed]:
    """Return steps in the order of their causes; what several have done side by side, by time."""
    actors: dict[tuple[Stage, str], list[Step]] = {}
    for step in steps:
        actors.setdefault((step.stage, step.actor), []).append(step)
    lines = sorted(actors.values(), key=_place)
    found: list[Placed] = []
    for line in lines:
        before = [each.step for each in found if each.step.stage < line[0].stage]
        for index, step in enumerate(line):
            found.append(Placed(step, since(step, [*before, *line[:index]])))
    return found


def since(step: Step, causes: Sequence[Step]) -> Content:
    """Return in words how long after its cause a step happened; "" if nobody can know.

    The cause is what happened last before it. Where the clocks say that it came before all that it
    follows from, they disagree, and that is said instead.
    """
    timed = [each for each in causes if each.at is not None and each.caused]
    if step.at is None or not timed:
        return ""
    for cause in reversed(timed):
        assert cause.at is not None
        if cause.at <= step.at:
            length = html.span(step.at - cause.at)
            return _("%(length)s after it was %(what)s") % {"length": length, "what": cause.caused}
    return _("by a clock that differs from that of the step before")


def _place(line: Sequence[Step]) -> tuple[Stage, datetime, str]:
    return line[0].stage, line[0].at or _LATEST, line[0].actor
