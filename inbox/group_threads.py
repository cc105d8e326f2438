"""Consume for several groups in one process: each has a thread and connections of its own.

A group fails alone: the others go on, and it is begun again after a pause that grows. If none is
left that works, the process ends, as that of a single group does: a supervisor starts it again.
"""

import logging
import threading
import time
from collections.abc import Sequence

from django.db import connections

from inbox.consumer import Consumer
from outbox.error_text import describe, ended, log
from outbox.runtime.backoff import Backoff
from outbox.runtime.shutdown import Shutdown

logger = logging.getLogger("inbox")

BACKOFF = Backoff(base=1.0, cap=60.0)
STABLE = 60.0
"""Seconds after which a group that fails counts as one that worked."""


class GroupThreads:
    """The consumers of one process. With a single one it is as if there were only that.

    Call its methods from the main thread, where signals are handled.
    """

    def __init__(self, consumers: Sequence[Consumer], shutdown: Shutdown) -> None:
        self._consumers = consumers
        self._shutdown = shutdown
        self._lock = threading.Lock()
        self._failed: dict[str, BaseException] = {}  # by group: what each has ended with
        self._unclean: set[str] = set()  # groups in which not everything could be handled

    def open(self) -> None:
        """Connect to what is there, as Consumer.open() does and with its errors."""
        for consumer in self._consumers:
            if not self._shutdown.requested:
                consumer.open()

    def run(self, *, until_empty: bool = False) -> bool:
        """Consume until a stop is requested, or until all queues are empty and nothing is due.

        Returns what Consumer.run() does, of all: True if all are clean. Raises what a consumer has
        ended with, and was not begun again since, when the others are done: at a stop, with
        `until_empty`, or at once if none is left.
        """
        if len(self._consumers) == 1:
            return self._consumers[0].run(until_empty=until_empty)
        connections.close_all()  # the threads have sessions of their own
        threads = [
            threading.Thread(
                target=self._run, args=(each, until_empty), name=f"inbox-{each.group}", daemon=True
            )
            for each in self._consumers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # by and by: signals are handled between
                thread.join(1.0)
        if self._failed:
            raise next(iter(self._failed.values()))
        return not self._unclean

    @property
    def missing(self) -> str:
        """What groups wait for, before all of them can handle; "" if for nothing."""
        with self._lock:
            ended = ["a group has ended"] if self._failed else []
        missing = [consumer.missing for consumer in self._consumers]
        return ", ".join(dict.fromkeys([*ended, *filter(None, missing)]))

    def close(self) -> None:
        """Let go of the connections to the broker; run() has done so for those that it ran."""
        for consumer in self._consumers:
            consumer.close()

    def _run(self, consumer: Consumer, until_empty: bool) -> None:
        try:
            self._serve(consumer, until_empty)
        except BaseException as exc:  # even what is done about a failure may fail
            self._note(consumer.group, exc)

    def _serve(self, consumer: Consumer, until_empty: bool) -> None:
        failures = 0
        while True:
            started = time.monotonic()
            try:
                if not consumer.run(until_empty=until_empty):
                    with self._lock:
                        self._unclean.add(consumer.group)
                return
            except BaseException as exc:
                last = self._note(consumer.group, exc)
                if until_empty or last or self._shutdown.requested:
                    self._tell(consumer.group, exc, "")
                    return
                if time.monotonic() - started > STABLE:
                    failures = 0
                delay = BACKOFF.delay(failures)
                failures += 1
                self._tell(
                    consumer.group, exc, f" Other groups go on; trying again in {delay:.1f} s."
                )
                self._shutdown.wait(delay)
            finally:
                connections.close_all()
            if self._shutdown.requested:
                return
            with self._lock:
                self._failed.pop(consumer.group, None)

    def _note(self, group: str, exc: BaseException) -> bool:
        """Note that a group has failed; if all have, stop, and return True."""
        with self._lock:
            self._failed[group] = exc
            last = len(self._failed) == len(self._consumers)
        if last:
            self._shutdown.request()
        return last

    @staticmethod
    def _tell(group: str, exc: BaseException, more: str) -> None:
        log(
            logger,
            logging.ERROR,
            "The consumer of group %r has ended: %s Nothing is lost.%s",
            *(group, ended(describe(exc)), more),
            exc=exc,
        )
