"""A relay in memory, for tests of the log."""

from django.db import connection, transaction

import outbox
from relay.log import PostgreSQLLog
from relay.transfer import Transferred, transfer
from tests.kit.support import Counted, RecordingBroker


class Reading:
    """A relay that publishes into memory, page by page."""

    def __init__(self, log: PostgreSQLLog | None = None, page_size: int = 100) -> None:
        self.log = log or PostgreSQLLog("test", using="default")
        self.broker = RecordingBroker()
        self.page_size = page_size

    def page(self) -> Transferred | None:
        return transfer(self.log, self.broker, 0, self.page_size)

    def all(self) -> list[int]:
        """Publish all there is; return the numbers of the events published so far."""
        while self.log.lanes_with_work(1):
            self.page()
        return self.broker.numbers()


def on_disk(log: PostgreSQLLog) -> None:
    """Let a log know that what has committed is on disk, as a relay is woken to do."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT concat(pg_current_wal_insert_lsn(), ' ', pg_current_snapshot())")
        [text] = cursor.fetchone()
    log.flush()
    log.hear(text)


def emit(*numbers: int, key: str = "a") -> None:
    outbox.emit_many([Counted(key, number) for number in numbers])


def commit(*numbers: int) -> None:
    with transaction.atomic():
        emit(*numbers)
