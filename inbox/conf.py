"""Settings of the consumer."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from inbox.verdicts import MAX_ATTEMPTS, MAX_DELAY, RetryPolicy
from outbox.amqp import connection as amqp
from outbox.amqp import tls
from outbox.conf import flaws_in, outbox_settings, parse, refuse
from outbox.runtime.backoff import Backoff

# Part of queue names and of dead letters; RabbitMQ keeps amq.* to itself.
_GROUP = re.compile(r"(?!amq\.)[A-Za-z0-9_.:-]{1,100}")
# The inbox does not depend on the relay, which has these as its own.
LOCAL_BROKER = "relay.brokers.local.LocalBroker"
LOCAL_RECEIVER = "inbox.sources.local.receive"
MOST_BYTES = 512 * 1024 * 1024
"""The largest body that RabbitMQ can be made to take, and half of what PostgreSQL stores."""


def is_group(name: str) -> bool:
    """Tell whether `name` can name a group of handlers and its queue."""
    return bool(_GROUP.fullmatch(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxSettings:
    """INBOX = {...}. Times are in seconds.

    URL: the broker to consume from; by default that of the first relay with an AMQP URL, together
        with the EXCHANGE and SSL in that relay's OPTIONS, unless they are set here.
    EXCHANGE: the topic exchange that queues are bound to.
    GROUP: the group of handlers that name none. By default the service's name, from
        OUTBOX["SOURCE"].
    QUEUE_PREFIX: what the name of a group's queue begins with, before that of the group. Another
        one for each environment keeps apart those that share a broker.
    PREFETCH: how many messages a consumer holds at once, and the largest batch.
    PREFETCH_BYTES: about how many bytes of messages it holds at once; a message that is larger is
        held alone.
    MAX_BYTES: the largest body that is handled. Of a larger one the head is kept, as a dead letter.
    BATCH_SECONDS: how long handlers are begun in one transaction; what was not begun by then is the
        next batch. A crash repeats the effects outside the database of about so long.
    RETRY_ATTEMPTS, RETRY_BASE, RETRY_CAP: the retry policy of handlers that have none: how often
        a handler is called for a message before it is dead, and the pauses between the calls,
        each random and up to RETRY_BASE * 2**n, at most RETRY_CAP.
    RETRY_CRASHES: how many processes may end, or lose the database, while a handler runs for one
        and the same message before that is dead; at least 2. Such a message is handled alone from
        the first time on.
    GAP_TIMEOUT: how long a message waits for earlier ones of its sequence.
    RETENTION: how long receipts are kept, and duplicates recognised: a timedelta, or a number of
        days; None for ever.
    PRUNE_INTERVAL: seconds between two rounds of deleting what RETENTION no longer keeps, by a
        consumer; 0 leaves it to relays and to outbox_prune.
    RETRY_MAX: longest pause while the broker or the database is away.
    STATEMENTS: whether the groups here tell senders, who state what they have sent, what they have
        had of it. It binds each queue to one more topic.
    HEARTBEAT, CONNECT_TIMEOUT, SOCKET_TIMEOUT, SSL: as for AMQPBroker.
    """

    URL: str = field(default="", repr=False)
    EXCHANGE: str = "events"
    GROUP: str = ""
    QUEUE_PREFIX: str = ""
    PREFETCH: int = 100
    PREFETCH_BYTES: int = 64 * 1024 * 1024
    MAX_BYTES: int = 16 * 1024 * 1024
    BATCH_SECONDS: float = 1.0
    RETRY_ATTEMPTS: int = 16
    RETRY_BASE: float = 1.0
    RETRY_CAP: float = 3600.0
    RETRY_CRASHES: int = 3
    GAP_TIMEOUT: float = 300.0
    RETENTION: timedelta | float | None = timedelta(days=30)
    PRUNE_INTERVAL: float = 60.0
    RETRY_MAX: float = 30.0
    STATEMENTS: bool = False
    HEARTBEAT: int = 30
    CONNECT_TIMEOUT: float = 5.0
    SOCKET_TIMEOUT: float = 15.0
    SSL: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        refuse(self._flaws())

    def _flaws(self) -> Iterator[str]:
        for name, value in (("GROUP", self.GROUP), ("QUEUE_PREFIX", self.QUEUE_PREFIX)):
            if value and not is_group(value):
                yield (
                    f"INBOX[{name!r}] {value!r}: 1 to 100 letters, digits, or any of '_.:-', and "
                    "not amq.*"
                )
        if not 1 <= len(self.EXCHANGE.encode()) <= 255:
            yield f"INBOX['EXCHANGE'] must have 1 to 255 bytes, not {len(self.EXCHANGE.encode())}"
        if not 1 <= self.PREFETCH <= 10_000:
            yield f"INBOX['PREFETCH'] must be 1 to 10000, not {self.PREFETCH}"
        for name in ("PREFETCH_BYTES", "MAX_BYTES"):
            if not 1 <= getattr(self, name) <= MOST_BYTES:
                yield f"INBOX[{name!r}] must be 1 to {MOST_BYTES}, not {getattr(self, name)}"
        yield from self._flaws_of_times()
        yield from (f"INBOX: {flaw}" for flaw in flaws_in(tls.read, self.SSL))

    def _flaws_of_times(self) -> Iterator[str]:
        if not 1 <= self.RETRY_ATTEMPTS <= MAX_ATTEMPTS:
            yield f"INBOX['RETRY_ATTEMPTS'] must be 1 to {MAX_ATTEMPTS}, not {self.RETRY_ATTEMPTS}"
        if not 0 < self.BATCH_SECONDS <= 3600:
            yield (
                "INBOX['BATCH_SECONDS'] must be above 0 and at most 3600 seconds, not "
                f"{self.BATCH_SECONDS}"
            )
        if not 0 < self.RETRY_BASE <= self.RETRY_CAP <= MAX_DELAY.total_seconds():
            yield (
                "INBOX: 0 < RETRY_BASE <= RETRY_CAP <= a year must hold, not of "
                f"{self.RETRY_BASE} and {self.RETRY_CAP} seconds"
            )
        if not 2 <= self.RETRY_CRASHES <= 1000:
            yield f"INBOX['RETRY_CRASHES'] must be 2 to 1000, not {self.RETRY_CRASHES}"
        if not 0 <= self.GAP_TIMEOUT <= MAX_DELAY.total_seconds():
            yield f"INBOX['GAP_TIMEOUT'] must be 0 seconds to a year, not {self.GAP_TIMEOUT}"
        if self.RETENTION is not None and not timedelta(0) < as_timedelta(self.RETENTION):
            yield (
                "INBOX['RETENTION'] must be a positive timedelta or number of days, or None, not "
                f"{self.RETENTION!r}"
            )
        if self.PRUNE_INTERVAL and not 0.1 <= self.PRUNE_INTERVAL <= 86_400:
            yield (
                "INBOX['PRUNE_INTERVAL'] must be 0 (off) or from 0.1 to 86400 seconds, not "
                f"{self.PRUNE_INTERVAL}"
            )
        if not self.RETRY_MAX >= 0.1:
            yield f"INBOX['RETRY_MAX'] must be at least 0.1 seconds, not {self.RETRY_MAX}"
        if not 0 <= self.HEARTBEAT <= 65_535:
            yield f"INBOX['HEARTBEAT'] must be 0 (off) to 65535 seconds, not {self.HEARTBEAT}"
        for name in ("CONNECT_TIMEOUT", "SOCKET_TIMEOUT"):
            if not getattr(self, name) > 0:
                yield f"INBOX[{name!r}] must be positive, not {getattr(self, name)}"

    @property
    def group(self) -> str:
        """The group of handlers that name none."""
        name = re.sub(r"[^A-Za-z0-9_.:-]+", ".", outbox_settings().source).strip(".")
        return self.GROUP or name[:100] or "inbox"

    @property
    def retry_policy(self) -> RetryPolicy:
        """That of handlers that have none."""
        return RetryPolicy(attempts=self.RETRY_ATTEMPTS, base=self.RETRY_BASE, cap=self.RETRY_CAP)

    @property
    def retention(self) -> timedelta | None:
        return None if self.RETENTION is None else as_timedelta(self.RETENTION)

    @property
    def backoff(self) -> Backoff:
        return Backoff(base=min(0.1, self.RETRY_MAX), cap=self.RETRY_MAX)


def as_timedelta(length: object) -> timedelta:
    """Return a timedelta or a number of days as a timedelta; zero for anything else."""
    if isinstance(length, timedelta):
        return length
    if isinstance(length, int | float) and not isinstance(length, bool):
        try:
            return timedelta(days=length)
        except (OverflowError, ValueError):
            pass
    return timedelta(0)


@cache
def inbox_settings() -> InboxSettings:
    """Return INBOX as it is now, with a relay's broker if it has none of its own."""
    raw = getattr(settings, "INBOX", {})
    if isinstance(raw, Mapping) and not raw.get("URL"):
        relays = _relays_broker()
        raw = {**relays, **raw, "URL": relays.get("URL", "")}
    return parse(InboxSettings, raw, "INBOX")


def broker_url() -> str:
    """Return the URL of the AMQP broker to consume from, or "" if there is none."""
    return inbox_settings().URL


def local_relays() -> Iterator[str]:
    """Yield the names of the relays that hand messages to this inbox, in their own process.

    Read as plain settings: the inbox does not depend on the relay, which checks them itself.
    """
    relays = getattr(settings, "RELAYS", {})
    for name, relay in relays.items() if isinstance(relays, Mapping) else ():
        if isinstance(relay, Mapping) and relay.get("BACKEND") == LOCAL_BROKER:
            options = relay.get("OPTIONS")
            receiver = options.get("RECEIVER") if isinstance(options, Mapping) else None
            if receiver in (None, LOCAL_RECEIVER):
                yield name


def _relays_broker() -> dict[str, Any]:
    """Return URL, EXCHANGE and SSL of the first relay with an AMQP URL.

    Read as plain settings: the inbox does not depend on the relay, which checks them itself.
    """
    relays = getattr(settings, "RELAYS", {})
    for relay in relays.values() if isinstance(relays, Mapping) else ():
        url = relay.get("URL", "") if isinstance(relay, Mapping) else ""
        # Malformed ones too: whoever wants to connect says why they cannot be used.
        if str(url).partition("://")[0].strip().lower() in amqp.SCHEMES:
            options = relay.get("OPTIONS")
            options = options if isinstance(options, Mapping) else {}
            return {"URL": str(url)} | {
                name: options[name]
                for name, kind in (("EXCHANGE", str), ("SSL", Mapping))
                if isinstance(options.get(name), kind) and options[name] != ""
            }
    return {}


def _forget(*, setting: str, **_: Any) -> None:
    if setting in {"INBOX", "RELAYS"}:
        inbox_settings.cache_clear()


setting_changed.connect(_forget)
