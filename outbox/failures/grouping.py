"""Put failures together that are alike: one handler, one exception class, one place in the code.

Where no place is known, the text counts instead, without what differs from one to the next. To
read the traceback of every row would take long. So a bounded number is read, spread over all; a row
whose traceback was not read is taken to come from where the nearest one that says the same does.
"""

import hashlib
import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from outbox.conf import outbox_settings
from outbox.error_text import masked
from outbox.extensions.failures import Failure, FailureSource, Frame
from outbox.failures.texts import normalised

READ = 1_000
"""Tracebacks that are read for a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Failures that are alike, the newest first.

    It is `estimated` if some were put here by their neighbours, and those have several places.
    """

    fingerprint: str
    failures: Sequence[Failure]
    message: str
    estimated: bool = False

    @property
    def newest(self) -> Failure:
        return self.failures[0]

    @property
    def frame(self) -> Frame | None:
        return self.newest.frame

    @property
    def count(self) -> int:
        return len(self.failures)

    @property
    def states(self) -> Counter[str]:
        return Counter(failure.state for failure in self.failures)

    @property
    def first(self) -> datetime:
        return min(failure.began for failure in self.failures)

    @property
    def last(self) -> datetime:
        return max(failure.failed for failure in self.failures)


@dataclass(frozen=True, slots=True)
class Found:
    """All groups of a source, that which has failed last first; `cut` if there are more rows."""

    groups: Sequence[Group]
    cut: bool = False

    def get(self, fingerprint: str) -> Group | None:
        """Return a group, if there is still something of it."""
        return next((each for each in self.groups if each.fingerprint == fingerprint), None)


def fingerprint(source: str, failure: Failure, message: str = "") -> str:
    """Return what failures that are alike have in common, in 32 digits.

    `message` is its text as said() returns it, where that is known already. Secrets are no part of
    it: who knows the rest could try them until the digits come out.
    """
    frame = failure.frame
    if frame is not None:
        place = [frame.file, frame.function, _without_secrets(frame.code)]
    else:
        place = [message or said(failure.text)]
    whole = json.dumps([source, failure.by, failure.error_class, *place])
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


def said(text: str) -> str:
    """Return what a text says, without secrets and without what differs from one to the next."""
    return normalised(_without_secrets(text))


def _without_secrets(text: str) -> str:
    return masked(text, tuple(outbox_settings().REDACT))


def find(source: FailureSource, using: str, limit: int | None = None) -> Found:
    """Read the newest failures of a source and group them, in a few statements."""
    sample = source.newest(using, **({} if limit is None else {"limit": limit}))
    texts = {text: said(text) for text in {each.text for each in sample.failures}}
    messages = {each.number: texts[each.text] for each in sample.failures}
    chosen = to_read(sample.failures, messages)
    frames = source.frames(chosen, using) if chosen else {}
    return Found(group(source.name, sample.failures, messages, frames), sample.cut)


def group(
    source: str,
    failures: Sequence[Failure],
    messages: Mapping[int, str],
    frames: Mapping[int, Frame | None],
) -> list[Group]:
    """Group failures whose texts are known by their numbers, and some of their frames."""
    known = _Neighbours(failures, messages, frames)
    members: dict[str, list[Failure]] = defaultdict(list)
    names: dict[tuple[object, ...], str] = {}
    guessed: set[str] = set()
    for failure in failures:
        frame, sure = known.frame_of(failure)
        placed = replace(failure, frame=frame) if frame is not None else failure
        message = messages[failure.number]
        alike = (failure.by, failure.error_class, frame or message)
        name = names.get(alike)
        if name is None:
            name = names[alike] = fingerprint(source, placed, message)
        members[name].append(placed)
        if not sure:
            guessed.add(name)
    groups = []
    for name, found in members.items():
        found.sort(key=lambda failure: (failure.failed, failure.number), reverse=True)
        groups.append(
            Group(
                fingerprint=name,
                failures=found,
                message=messages[found[0].number],
                estimated=name in guessed,
            )
        )
    return sorted(groups, key=lambda each: (each.last, each.fingerprint), reverse=True)


def to_read(failures: Iterable[Failure], messages: Mapping[int, str], most: int = READ) -> set[int]:
    """Choose of which failures to read the traceback.

    Each handler and class has its turn, in it each text, and of that rows from all of its time.
    """
    buckets: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for each in failures:
        if each.traced:
            buckets[each.by, each.error_class][messages[each.number]].append(each.number)
    turns = [
        _in_turn([_spread(sorted(numbers)) for numbers in texts.values()])
        for texts in buckets.values()
    ]
    return set(islice(_in_turn(turns), most))


def _in_turn(found: Sequence[Iterator[int]]) -> Iterator[int]:
    """Yield one of each, then the next of each, as long as there is any."""
    waiting = list(found)
    while waiting:
        going_on = []
        for each in waiting:
            number = next(each, None)
            if number is not None:
                yield number
                going_on.append(each)
        waiting = going_on


def _spread(numbers: Sequence[int]) -> Iterator[int]:
    """Yield numbers so that the first few are spread over all: the ends, then the middles."""
    if numbers:
        yield numbers[-1]
    parts = [(0, len(numbers) - 1)]
    while parts:
        later = []
        for start, end in parts:
            if start < end:
                middle = (start + end) // 2
                yield numbers[middle]
                later += [(start, middle), (middle + 1, end)]
        parts = later


class _Neighbours:
    """Which frame a failure has, or the nearest one does that says the same, or has its class."""

    def __init__(
        self,
        failures: Iterable[Failure],
        messages: Mapping[int, str],
        frames: Mapping[int, Frame | None],
    ) -> None:
        self._messages = messages
        self._frames = frames
        self._read: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for each in sorted(failures, key=lambda failure: failure.number):
            if each.number in frames:
                for key in self._keys(each):
                    self._read[key].append(each.number)
        self._several = {
            key: len({frames[number] for number in numbers}) > 1
            for key, numbers in self._read.items()
        }

    def frame_of(self, failure: Failure) -> tuple[Frame | None, bool]:
        """Return a frame, and whether there is no doubt about it."""
        if not failure.traced:
            return None, True
        if failure.number in self._frames:
            return self._frames[failure.number], True
        key = next((key for key in self._keys(failure) if key in self._read), None)
        if key is None:
            return None, False
        numbers = self._read[key]
        place = bisect_left(numbers, failure.number)
        nearest = min(
            numbers[max(0, place - 1) : place + 1], key=lambda number: abs(number - failure.number)
        )
        return self._frames[nearest], not self._several[key]

    def _keys(self, failure: Failure) -> list[tuple[str, ...]]:
        about = (failure.by, failure.error_class)
        return [(*about, self._messages[failure.number]), about]
