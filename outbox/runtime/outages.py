"""What a process needs and may be without for a while: told once, backed off, told when it is back.

Pure policy: a breaker for each of them, and a logger to tell it to.
"""

import logging
import time
from collections.abc import Callable

from outbox.database.failures import AWAY, Sentence
from outbox.error_text import ended
from outbox.instruments import Instrument, Kind, add, declare, hook
from outbox.nouns import counted
from outbox.runtime.backoff import Backoff
from outbox.runtime.breaker import Breaker
from outbox.signals import outage_began, outage_ended, send

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

BROKER = "broker"
DATABASE = "database"

OUTAGE_SECONDS = declare(
    Instrument(
        name="outbox_outage_seconds_total",
        kind=Kind.COUNTER,
        labels={
            "process": "outbox.process",
            "name": "outbox.process.name",
            "what": "outbox.outage.of",
        },
        meaning="how long a relay or a group's consumer (process: relay or inbox) was without what "
        "it needs (broker or database); it grows while that lasts",
        otel="outbox.outage.duration",
    )
)


class Outages:
    """The outages of broker and database, each with a breaker of its own.

    However often one of them is tried in vain, it is told once. It is told again when another
    sentence is to be said of it: that it is there and does not let us in may need a person.
    `persistent`: the process goes on trying, and says so. `of` is what sort of process has them,
    and its name, for metrics.
    """

    persistent = True

    def __init__(
        self,
        backoff: Backoff,
        logger: Logger,
        *,
        clock: Callable[[], float] = time.monotonic,
        of: tuple[str, str] = ("", ""),
    ) -> None:
        self.breakers = {what: Breaker(backoff, clock=clock) for what in (BROKER, DATABASE)}
        self._told: dict[str, Sentence | str] = {}
        self._of = of
        self._counted = dict.fromkeys(self.breakers, 0.0)  # seconds of what goes on
        self._logger = logger

    @property
    def away(self) -> str:
        """What is away, for people; "" if nothing is."""
        return ", ".join(what for what, breaker in self.breakers.items() if breaker.failures)

    @property
    def remaining(self) -> float:
        """Seconds until the last pause is over; not positive if nothing has to be waited for."""
        return max(breaker.remaining for breaker in self.breakers.values())

    def failed(
        self,
        what: str,
        reason: str,
        where: str,
        sentence: Sentence = AWAY,
        *,
        progress: bool = False,
    ) -> float:
        """Note that something is away, and say so once; return how long to leave it alone.

        `sentence` is one of outbox.database.failures. After some `progress` pauses do not grow.
        """
        breaker = self.breakers[what]
        first = breaker.failed(reason, progress=progress)
        self._lasts(what)
        if first or self._told.get(what) != sentence:
            text = sentence.fact + (sentence.promise if self.persistent else ".")
            self._logger.error(text, what, where, ended(reason))
        self._told[what] = sentence
        if first:
            send(outage_began, type(self), what=what, where=where, reason=reason)
        return breaker.remaining

    def unusable(self, what: str, text: str) -> None:
        """Note that something is there and cannot be used as it stands; say why, once each."""
        first = self.breakers[what].failed(text)
        self._lasts(what)
        if first or self._told.get(what) != text:
            self._logger.error("%s", text)
        self._told[what] = text
        if first:
            send(outage_began, type(self), what=what, where="", reason=text)

    def passed(self, what: str) -> None:
        """Note that something works, and say so if it was away."""
        breaker = self.breakers[what]
        if breaker.failures:
            self._logger.info(
                "The %s is back after %s in %.1f s.",
                what,
                counted(breaker.failures, "attempt"),
                breaker.lasted,
            )
            seconds = breaker.lasted
            self._lasts(what)
            self._counted[what] = 0.0
            breaker.passed()
            send(outage_ended, type(self), what=what, seconds=seconds)

    @hook
    def _lasts(self, what: str) -> None:
        """Count the time that has gone by since this was called last, or since it has begun."""
        lasted = self.breakers[what].lasted
        add(OUTAGE_SECONDS, (*self._of, what), lasted - self._counted[what])
        self._counted[what] = lasted
