"""A page that is published in pieces: what to send next, and what became of it. Pure bookkeeping.

Of one key nothing overtakes: what is behind a message that has no outcome yet waits for it.
"""

import random
from collections.abc import Mapping, Sequence

from outbox.message.envelope import Envelope
from relay.brokers.base import UNSENT, Outcome, Status, hold_behind


class Pieces:
    """The outcomes of one page, and which of its messages may go next, by their index.

    `suspects` maps the ids of messages that have failed alone to how many times others had passed
    by then; the caller keeps it up to date. With `hold`, what is behind a refused message of its
    key is held; without, it goes all the same.
    """

    def __init__(
        self, messages: Sequence[Envelope], suspects: Mapping[str, int], *, hold: bool
    ) -> None:
        self._messages = messages
        self._suspects = suspects
        self._hold = hold
        self._outcomes: list[Outcome | None] = [None] * len(messages)
        self._tried: set[int] = set()
        self._size = 1
        self._reason = ""
        self._topic = ""

    def next(self, passes: int, *, probe: bool = False) -> list[int]:
        """Return what to send now; nothing if the rest cannot be told anything about.

        As many as fit a piece, which doubles while all goes well. Suspects come last and alone,
        and again only after others got through, of which `passes` is the count. A `probe` is one
        message at random, of another topic than the one that failed if there is any: messages
        that cannot be sent often come in numbers.
        """
        ready, suspects = self._ready()
        if not ready:
            again = [
                index
                for index in suspects
                if index not in self._tried or self._suspects[self._messages[index].id] < passes
            ]
            return again[:1]
        if not probe:
            return ready[: self._size]
        firsts = list({self._line(index): index for index in reversed(ready)}.values())
        others = [index for index in firsts if self._messages[index].topic != self._topic]
        return [random.choice(others or firsts)]  # noqa: S311 - no secret

    def settle(self, piece: Sequence[int], outcomes: Sequence[Outcome]) -> bool:
        """Take the outcomes of a piece; return False if it was one message, of unknown fate."""
        unknown = next((each for each in outcomes if each.status is Status.UNKNOWN), None)
        for index, outcome in zip(piece, outcomes, strict=True):
            # What waits behind something unknown waits for it still.
            if outcome.status in (Status.UNKNOWN, Status.UNSENT) or (
                unknown and outcome.status is Status.HELD
            ):
                continue
            self._decide(index, outcome)
        if unknown is None:
            self._size *= 2
            return True
        self._size = 1
        self._reason = unknown.reason or "no word"
        if len(piece) > 1:
            return True
        self._tried.add(piece[0])
        self._topic = self._messages[piece[0]].topic
        return False

    def refuse(self, index: int, reason: str) -> None:
        """Settle a message as refused."""
        self._decide(index, Outcome(Status.REFUSED, reason))

    def outcomes(self) -> list[Outcome]:
        """Return one outcome for each message; those without one are unknown, or were not sent."""
        rest = Outcome(Status.UNKNOWN, self._reason) if self._reason else UNSENT
        return [outcome or rest for outcome in self._outcomes]

    def _ready(self) -> tuple[list[int], list[int]]:
        """Return what nothing of its key stands before that is no part of it, and such suspects."""
        ready, suspects = [], []
        blocked: set[object] = set()
        for index, message in enumerate(self._messages):
            line = self._line(index)
            if self._outcomes[index] is not None or line in blocked:
                continue
            if message.id in self._suspects:
                suspects.append(index)
                blocked.add(line)
            else:
                ready.append(index)
        # A suspect behind others of its key has its turn when they have had theirs.
        lines = {self._line(index) for index in ready}
        return ready, [index for index in suspects if self._line(index) not in lines]

    def _line(self, index: int) -> object:
        """Return what a message stands in line with: its key, or nothing but itself."""
        key = self._messages[index].key
        return index if key is None or not self._hold else key

    def _decide(self, index: int, outcome: Outcome) -> None:
        self._outcomes[index] = outcome
        message = self._messages[index]
        if outcome.status is Status.CONFIRMED or message.key is None or not self._hold:
            return
        hold_behind(self._messages, self._outcomes, index)
