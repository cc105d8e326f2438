"""Whether a web process has what it needs: the database, with our tables as they are now."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from django.apps import apps
from django.db import connections, router
from django.db.migrations.loader import MigrationLoader

from outbox.error_text import describe
from outbox.extensions.diagnosis import examiners

logger = logging.getLogger("outbox")

LIMIT = 2.0
"""Seconds after which a database that does not answer counts as away."""
KEEPS = 1.0
"""Seconds for which an answer is good: however many ask, the database is asked once."""
READY = ""
DATABASE = "database"
MIGRATIONS = "migrations"


class Readiness:
    """Looks in a thread of its own, one at a time, so that nobody waits for longer than `limit`.

    What is missing is logged once, with its reason.
    """

    def __init__(
        self,
        look: Callable[[], str],
        *,
        limit: float = LIMIT,
        keeps: float = KEEPS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._limit = limit
        self._keeps = keeps
        self._clock = clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._found, self._until = READY, clock()

    def missing(self) -> str:
        """Return what is missing, in a word; "" if nothing is."""
        with self._lock:
            if self._clock() < self._until:
                return self._found
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._refresh, name="outbox-ready", daemon=True
                )
                self._thread.start()
            thread = self._thread
        thread.join(self._limit)
        if thread.is_alive():
            self._hangs()
        return self._found

    def _hangs(self) -> None:
        """Note that the database does not answer, so that the next who asks need not wait."""
        with self._lock:
            if self._found != DATABASE:
                logger.error("This process is not ready: the database gives no answer.")
            self._found, self._until = DATABASE, self._clock() + self._keeps

    def _refresh(self) -> None:
        try:
            found, why = self._look(), ""
        except Exception as exc:  # of any driver, in any way
            found, why = DATABASE, describe(exc)
        finally:
            connections.close_all()
        if found and found != self._found:
            logger.error("This process is not ready (%s). %s", found, why)
        elif self._found and not found:
            logger.info("This process is ready again.")
        self._found, self._until = found, self._clock() + self._keeps


class Tables:
    """Looks whether each database answers, and until it has been migrated whether it has been.

    `using` is the alias of the database with our tables, by default as the routers say.
    """

    def __init__(self, using: str | None = None) -> None:
        self._using = using
        self._migrated: set[str] = set()

    def __call__(self) -> str:
        """Return what is missing, in a word; raise the error of a database that is away."""
        for alias, labels in self._labels().items():
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT 1")
            if alias not in self._migrated:
                if any(_unapplied(alias, labels)):
                    return MIGRATIONS
                self._migrated.add(alias)
        return READY

    def _labels(self) -> Mapping[str, set[str]]:
        """Return the labels of our apps, by the database that each writes to."""
        ours: dict[str, set[str]] = defaultdict(set)
        for config in apps.get_app_configs():
            model = next(config.get_models(), None)
            if model is not None and config.name in examiners():
                ours[self._using or router.db_for_write(model)].add(config.label)
        return ours


def _unapplied(alias: str, labels: set[str]) -> Iterator[tuple[str, str]]:
    loader = MigrationLoader(connections[alias])
    for label, name in loader.graph.nodes:
        if label in labels and (label, name) not in loader.applied_migrations:
            yield label, name
