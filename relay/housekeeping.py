"""What a relay deletes beside its work: what is on the database of its log."""

import logging

from outbox.emitting import write_database
from outbox.housekeeping import Housekeeping
from outbox.retention import Pruner, pruners

logger = logging.getLogger("relay")


def housekeeping(using: str, interval: float) -> Housekeeping:
    """Return the housekeeping of a relay whose log is on the database `using`."""
    return Housekeeping(using, interval, lambda: _here(using), logger)


def _here(using: str) -> list[Pruner]:
    """Return the pruners of a database: those of the log, and others as the routers say."""
    return [
        each for each in pruners() if each.database is write_database or each.database() == using
    ]
