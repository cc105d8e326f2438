"""The embedded default: hand messages to the inbox of the same process and database."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

from django.apps import apps
from django.utils.module_loading import import_string

from outbox.database.freshness import refresh
from outbox.exceptions import ConfigurationError
from outbox.message.envelope import Envelope
from relay.brokers.base import CONFIRMED, UNSENT, Broker, Depth, Outcome, Status

DEFAULT_RECEIVER = "inbox.sources.local.receive"
DEFAULT_RETRY = "inbox.sources.local.retry_due"
RETRY_EVERY = 1.0
"""Seconds from one look at what is due to the next, and the longest that one takes."""


class Receive(Protocol):
    """Handle messages in the running transaction of the database `using`.

    Returns one value for each, in order: None when it is settled, else why it is not. Behind a
    message that is not settled, the later ones of its key are not handled. After `seconds` no
    other message is begun; there are no values for those, which are at least not the first.
    """

    def __call__(
        self, page: Sequence[Envelope], *, using: str, seconds: float
    ) -> Sequence[str | None]: ...


class ReceiveFor(Receive, Protocol):
    """A Receive that can hand over for one group alone."""

    def __call__(
        self,
        page: Sequence[Envelope],
        *,
        using: str,
        seconds: float,
        group: str | None = None,
    ) -> Sequence[str | None]: ...


class Retry(Protocol):
    """Handle some of what is due again on the database `using`; return whether more is."""

    def __call__(self, *, using: str) -> bool: ...


class LocalBroker(Broker):
    """Runs handlers within the relay's transaction: effects and checkpoint commit together.

    Needs no server. Messages without a handler are dropped, as a broker drops what nobody
    subscribed to. What failed is tried again between the pages. OPTIONS: RECEIVER and RETRY, the
    dotted paths of a Receive and a Retry function.
    """

    confirms: ClassVar[bool] = True
    ordered: ClassVar[bool] = True
    durable: ClassVar[bool] = True
    routable_check: ClassVar[bool] = False
    runs_handlers: ClassVar[bool] = True
    addresses_queues = True
    # Handlers run while the transaction is open, so pages are smaller than a broker's.
    page_size: ClassVar[int] = 100

    def __init__(
        self,
        receive: Receive,
        retry: Retry | None = None,
        *,
        using: str,
        receive_for: ReceiveFor | None = None,
    ) -> None:
        self._receive = receive
        self._receive_for = receive_for
        self.addresses_queues = receive_for is not None
        self._retry = retry
        self._using = using
        self._next_retry = 0.0

    @classmethod
    def from_settings(cls, url: str, options: Mapping[str, Any], *, using: str) -> Self:
        unknown = sorted(set(options) - {"RECEIVER", "RETRY"})
        if unknown:
            raise ConfigurationError(
                f"LocalBroker has no OPTIONS {unknown}; known: RECEIVER, RETRY"
            )
        if "RECEIVER" not in options and not apps.is_installed("inbox"):
            raise ConfigurationError(
                "LocalBroker hands messages to the app 'inbox', which is not installed: add "
                "'inbox' to INSTALLED_APPS and run manage.py migrate, or use another BACKEND, such "
                "as relay.brokers.amqp.AMQPBroker"
            )
        # What another receiver has in its care, it retries itself, unless it says otherwise.
        retry = options.get("RETRY", "" if "RECEIVER" in options else DEFAULT_RETRY)
        try:
            receive = import_string(options.get("RECEIVER", DEFAULT_RECEIVER))
            return cls(
                receive,
                import_string(retry) if retry else None,
                using=using,
                # Another receiver may know no groups.
                receive_for=None if "RECEIVER" in options else receive,
            )
        except ImportError as exc:
            raise ConfigurationError(f"LocalBroker's RECEIVER or RETRY: {exc}") from exc

    def publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        outcomes = [
            CONFIRMED if reason is None else Outcome(Status.FAILED, reason)
            for reason in self._receive(page, using=self._using, seconds=self.page_seconds)
        ]
        return outcomes + [UNSENT] * (len(page) - len(outcomes))

    def publish_to(self, queue: str, page: Sequence[Envelope]) -> list[Outcome]:
        assert self._receive_for is not None
        reasons = self._receive_for(page, using=self._using, seconds=self.page_seconds, group=queue)
        outcomes = [
            CONFIRMED if reason is None else Outcome(Status.UNROUTABLE, reason)
            for reason in reasons
        ]
        return outcomes + [UNSENT] * (len(page) - len(outcomes))

    def depth_of(self, queue: str) -> Depth | None:
        return None  # nothing waits: what is handed over is received

    def keep_alive(self) -> None:
        started = time.monotonic()
        if self._retry is None or started < self._next_retry:
            return
        self._next_retry = started + RETRY_EVERY  # also if the database is away
        while self._retry(using=self._using) and time.monotonic() < started + RETRY_EVERY:
            refresh(self._using)
        self._next_retry = time.monotonic() + RETRY_EVERY

    @property
    def address(self) -> str:
        return "inbox of this process"
