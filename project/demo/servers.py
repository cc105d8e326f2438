"""Look whether the servers of DATABASE_URL and BROKER_URL can be used, before anything starts."""

from amqp.exceptions import AMQPError
from django.db import Error, connection

from inbox.conf import broker_url, inbox_settings
from outbox.amqp import connection as amqp
from outbox.database import failures
from outbox.exceptions import ConfigurationError

_REMEDY = "Correct the variable or start the server; without the variable the demo needs none."


class ServerError(Exception):
    """A server cannot be used; the text says which one, why, and what to do."""


def check_servers() -> None:
    """Raise ServerError unless the database and, if there is one, the broker let us in."""
    try:
        connection.ensure_connection()
    except Error as exc:
        reason = failures.refusal(exc) or str(exc).strip()
        raise ServerError(
            f"The server of DATABASE_URL cannot be used: {_line(reason)}. {_REMEDY}"
        ) from exc
    if url := broker_url():
        ssl = inbox_settings().SSL
        try:
            amqp.check_url(url)
            link = amqp.connect(
                url, name="demo", connect_timeout=5, socket_timeout=5, heartbeat=0, ssl=ssl
            )
            amqp.drop(link)
        except ConfigurationError as exc:
            raise ServerError(f"BROKER_URL cannot be used: {exc}") from exc
        except (AMQPError, OSError) as exc:
            reason = amqp.refusal(exc) or str(exc)
            where = amqp.address(url, ssl)
            raise ServerError(
                f"The server of BROKER_URL cannot be used ({where}): {_line(reason)}. {_REMEDY}"
            ) from exc


def _line(reason: str) -> str:
    """Return a reason in one line; drivers like to give several."""
    return " ".join(reason.split())
