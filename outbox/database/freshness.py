"""Let database connections be as fresh, before each piece of work, as at a request's start.

Django closes connections that are broken, or older than CONN_MAX_AGE, where a request begins and
ends. Long-running commands have no requests.
"""

import logging
import time

from django.conf import settings
from django.db import connections, reset_queries
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox import error_text

logger = logging.getLogger("outbox")


def refresh(own: str) -> None:
    """Close connections of this thread that a request would not be given; none in a transaction.

    A statement is run as Django would: where an error has occurred, and, at the first use of a
    connection, with CONN_HEALTH_CHECKS. `own` is the alias on which the process itself works all
    the time: if its session has ended, that shows before anything else is done, and is waited out.
    So it stays open with a CONN_MAX_AGE of 0, Django's default, which would cost a new session a
    batch, and needs no health check.

    What DEBUG has Django keep of each statement, with all its values, is forgotten, as it is there.
    """
    if settings.DEBUG:
        reset_queries()
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:  # Django would close it, as that turns autocommit off
            continue
        if connection.alias == own and not (connection.errors_occurred or _is_old(connection)):
            continue
        try:
            connection.close_if_unusable_or_obsolete()
        except Exception as exc:  # it is gone in any case
            error_text.log(
                logger,
                logging.DEBUG,
                "Error while closing the connection of database %r",
                connection.alias,
                exc=exc,
            )


def _is_old(connection: BaseDatabaseWrapper) -> bool:
    until = connection.close_at
    return bool(connection.settings_dict["CONN_MAX_AGE"]) and (
        until is not None and time.monotonic() >= until
    )
