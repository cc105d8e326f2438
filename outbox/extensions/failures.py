"""The port through which the page of failures learns what has failed, and what came of a retry.

The relay has parked messages, the inbox receipts and dead letters. Each registers a source for
every kind; the outbox groups what they tell and knows none of them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Model

from outbox.admin_support.html import Content

LIMIT = 10_000
"""Rows of each state that are read, the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A call in the service's own code: the end of its path, its function and its source line.

    The number of the line is only shown: it changes when something else in the file does.
    """

    file: str
    function: str
    code: str = ""
    line: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One row that has failed: of which handler, group or relay (`by`), and with which error.

    `began` is when its message came, `failed` when it has failed last. If it is `traced`, it has a
    traceback; `frame` is known once that was read. The `text` may have secrets.
    """

    number: int
    by: str
    error_class: str
    text: str
    state: str
    began: datetime
    failed: datetime
    traced: bool = False
    frame: Frame | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The newest failures, in any order, and whether there are more."""

    failures: Sequence[Failure]
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """What came of rows that were tried again, in numbers.

    `untried` are due; `behind` others of their key that are not settled. What somebody else has
    settled counts as `handled`. `error` is one of those that have failed again.
    """

    handled: int = 0
    failed: int = 0
    untried: int = 0
    behind: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """What one row says of its failure, without secrets."""

    error: str
    traceback: str = ""


class FailureSource:
    """One kind of rows that fail; read by index, and bounded.

    What is done about them are the actions of the admin of `model`, one of which, `retry`, tries
    rows again: at most `step` in one request. If that is done `at_once`, by the process that shows
    the page, what the action leaves as it was has failed again.
    """

    name: str
    """A short word, for addresses."""
    title: Content
    by_title: Content
    """What is in `by`."""
    empty: Content
    """What is said if nothing fails."""
    model: type[Model]
    place: int = 100
    """They stand by it from top to bottom."""
    retry: str = "retry"
    step: int = 200
    at_once: bool = False

    def database(self) -> str:
        """Return the alias of the database that is asked, the one that is written."""
        raise NotImplementedError

    def newest(self, using: str, limit: int = LIMIT) -> Sample:
        """Return the newest failures of each state, without their frames."""
        raise NotImplementedError

    def frames(self, numbers: Collection[int], using: str) -> Mapping[int, Frame | None]:
        """Return the service's own innermost frames of rows that are traced, as far as they are."""
        return {}

    def between(self, after: int, until: int, *, most: int, using: str) -> Sequence[Failure]:
        """Return what fails now by number, with frames: the first `most` of a range.

        The numbers are greater than `after`, and at most `until`.
        """
        raise NotImplementedError

    def named(self, numbers: Collection[int], using: str) -> Sequence[Failure]:
        """Return those of some rows that fail now, with frames."""
        raise NotImplementedError

    def came(self, numbers: Collection[int], using: str) -> Came:
        """Return what came of rows since they were tried again."""
        raise NotImplementedError

    def example(self, number: int, using: str) -> Example | None:
        """Return what a row says; None if it is no longer there."""
        raise NotImplementedError

    def filter(self, failure: Failure) -> str:
        """Return a filter of the list of rows that finds what fails like one, and little else."""
        return ""


_sources: dict[str, FailureSource] = {}


def register_source(source: FailureSource) -> None:
    """Show a kind of failures; a second one of its name replaces the first."""
    _sources[source.name] = source


def sources() -> Sequence[FailureSource]:
    """Return what is registered as it stands from top to bottom."""
    return sorted(_sources.values(), key=lambda source: (source.place, source.name))


def source_of(name: str) -> FailureSource | None:
    """Return a source by its name."""
    return _sources.get(name)
