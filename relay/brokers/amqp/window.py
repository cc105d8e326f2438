"""Publisher confirms, pipelined: which message may be sent, and what became of those that were.

Pure bookkeeping, no I/O. A later message of a key is sent only when the one before it is
confirmed: if the broker refuses one message of a key, none behind it has overtaken it. Different
keys share the window freely.

When the broker closes the channel over a message, it does not say over which. What was in flight
is then suspected and sent again on a new channel, one by one, so that the next close has one
culprit.
"""

from collections import deque
from collections.abc import Sequence

from outbox.message.envelope import Envelope
from relay.brokers.base import CONFIRMED, UNSENT, Outcome, Status, hold_behind


class ConfirmWindow:
    """The outcomes of one page on one channel in confirm mode.

    `first_tag` is the delivery tag that the broker will give to the next message (tags count
    from 1 on each channel); `limit` bounds how many are in flight. With `hold`, what is behind a
    refused message of its key is not sent; without, it is sent all the same.
    """

    def __init__(
        self,
        page: Sequence[Envelope],
        *,
        first_tag: int = 1,
        limit: int = 1000,
        hold: bool = True,
    ) -> None:
        self._page = page
        self._limit = limit
        self._hold = hold
        self._suspects: deque[int] = deque()
        self._alone = False
        self._next_tag = first_tag
        self._in_flight: dict[int, int] = {}  # tag -> index, in the order of sending
        self._fresh = 0
        self._ready: deque[int] = deque()
        self._behind: dict[str, deque[int]] = {}  # key in flight -> indexes that wait for it
        self._returned: dict[str, str] = {}  # message id -> reason
        self._outcomes: list[Outcome | None] = [None] * len(page)
        self._open = len(page)
        self._stopped = False

    @property
    def done(self) -> bool:
        """Whether every message has its outcome, or every one that was sent before the end."""
        return self._open == 0 or (self._over and not self._in_flight)

    @property
    def _over(self) -> bool:
        """Whether nothing more is sent. Some of a page is settled in any case."""
        return self._stopped and self._outcomes[0] is not None

    @property
    def settled(self) -> int:
        """How many messages have their outcome; grows with everything the broker says."""
        return len(self._page) - self._open

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def confirmed(self) -> bool:
        """Whether any message is confirmed."""
        return CONFIRMED in self._outcomes

    @property
    def next_tag(self) -> int:
        return self._next_tag

    def stop(self) -> None:
        """Send nothing more, as soon as the first message has its outcome."""
        self._stopped = True

    def next(self) -> Envelope | None:
        """Return a message to send now, counted as sent, or None until something is confirmed."""
        index = None if self._over else self._next_index()
        if index is None:
            return None
        self._in_flight[self._next_tag] = index
        self._next_tag += 1
        return self._page[index]

    def unsendable(self, reason: str) -> None:
        """Refuse the message that next() returned last: it was not sent, and has no tag."""
        self._next_tag -= 1
        index = self._in_flight.pop(self._next_tag)
        self._refuse(index, Outcome(Status.REFUSED, reason))

    def _next_index(self) -> int | None:
        if self._alone and self._in_flight:
            return None
        self._alone = bool(self._suspects)
        if self._alone:
            return self._suspects.popleft()
        if len(self._in_flight) >= self._limit:
            return None
        return self._ready.popleft() if self._ready else self._next_fresh()

    def _next_fresh(self) -> int | None:
        while self._fresh < len(self._page):
            index = self._fresh
            self._fresh += 1
            key = self._page[index].key
            if key is None:
                return index
            if key not in self._behind:
                self._behind[key] = deque()
                return index
            if self._outcomes[index] is None:
                self._behind[key].append(index)
        return None

    def returned(self, message_id: str, reason: str) -> None:
        """Note that the broker sent a message back: the ack that follows does not count."""
        self._returned[message_id] = reason

    def ack(self, tag: int, multiple: bool = False) -> None:
        """Settle one message, or all up to this tag, as confirmed. Unknown tags are ignored."""
        for index in self._settle(tag, multiple):
            reason = self._returned.pop(self._page[index].id, None)
            if reason is None:
                self._confirm(index)
            else:
                self._refuse(index, Outcome(Status.UNROUTABLE, reason))

    def nack(self, tag: int, multiple: bool = False) -> None:
        """Settle one message, or all up to this tag, as refused. Unknown tags are ignored."""
        for index in self._settle(tag, multiple):
            self._refuse(index, Outcome(Status.NACKED, "the broker refused the message (nack)"))

    def channel_closed(self, reason: str) -> None:
        """Note that the broker closed the channel over a message; tags start again from 1.

        If there is just one in flight, it was that one. Else each is to be sent again by itself.
        """
        suspects = sorted(self._in_flight.values())
        self._in_flight.clear()
        self._returned.clear()
        self._next_tag = 1
        if len(suspects) == 1:
            self._refuse(suspects[0], Outcome(Status.REFUSED, reason))
        else:
            self._suspects.extend(suspects)
            self._alone = True

    def outcomes(self, reason: str = "") -> list[Outcome]:
        """Return one outcome for each message; those without one are unknown, for `reason`.

        Without a reason, those that there was no time for were not sent.
        """
        open_ = UNSENT if self._stopped and not reason else Outcome(Status.UNKNOWN, reason)
        return [outcome or open_ for outcome in self._outcomes]

    def _settle(self, tag: int, multiple: bool) -> list[int]:
        if not multiple:
            index = self._in_flight.pop(tag, None)
            return [] if index is None else [index]
        # Tags were inserted in ascending order, so the settled ones stand in front.
        settled = []
        for sent in self._in_flight:
            if sent > tag:
                break
            settled.append(sent)
        return [self._in_flight.pop(sent) for sent in settled]

    def _confirm(self, index: int) -> None:
        self._outcomes[index] = CONFIRMED
        self._open -= 1
        self._release(self._page[index].key)

    def _release(self, key: str | None) -> None:
        """Let the next message of a key be sent."""
        if key is None:
            return
        behind = self._behind[key]
        if behind:
            self._ready.append(behind.popleft())
        else:
            del self._behind[key]

    def _refuse(self, index: int, outcome: Outcome) -> None:
        self._outcomes[index] = outcome
        self._open -= 1
        refused = self._page[index]
        if not self._hold:
            self._release(refused.key)
        if refused.key is None or not self._hold:
            return
        # The key stays in _behind, so that whatever is still to come of it is held as well.
        self._behind[refused.key].clear()
        self._open -= hold_behind(self._page, self._outcomes, index)
