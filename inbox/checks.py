"""System checks of the consumer."""

import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.db import router

from inbox.conf import InboxSettings, inbox_settings
from inbox.models import DeadLetter, Receipt
from inbox.tasks.conf import task_queues
from outbox import amqp
from outbox.conf import outbox_settings, parse
from outbox.emitting import write_database
from outbox.exceptions import ConfigurationError

# The inbox does not depend on the relay, which has these as its own.
LOCAL_BROKER = "relay.brokers.local.LocalBroker"
LOCAL_RECEIVER = "inbox.local.receive"


@register
def check_settings(**_: Any) -> list[CheckMessage]:
    """E001: INBOX is not as it should be."""
    try:
        conf = parse(InboxSettings, getattr(settings, "INBOX", {}), "INBOX")
        if conf.URL:
            amqp.check_url(conf.URL)
    except ConfigurationError as exc:
        return [Error(str(exc), hint="See the reference of settings.", id="inbox.E001")]
    return []


@register
def check_tasks(**_: Any) -> list[CheckMessage]:
    """E003: TASKS has an OutboxBackend that is not as it should be."""
    try:
        task_queues()
    except ConfigurationError as exc:
        return [Error(str(exc), hint="See the reference of settings.", id="inbox.E003")]
    return []


@register
def check_retention(**_: Any) -> list[CheckMessage]:
    """W001: receipts are forgotten before messages are that can come again."""
    try:
        window, comes_back = inbox_settings().retention, outbox_settings().retention
    except ConfigurationError:
        return []  # told by others
    if window is None or (comes_back is not None and comes_back <= window):
        return []
    kept = "for ever" if comes_back is None else f"for {comes_back}"
    return [
        Warning(
            f"INBOX['RETENTION'] is {window}, but the outbox keeps messages {kept} "
            "(OUTBOX['RETENTION']): one that is replayed later than that is handled twice.",
            hint="Keep receipts at least as long as any outbox that is heard here keeps messages.",
            id="inbox.W001",
        )
    ]


@register
def check_visibility(**_: Any) -> list[CheckMessage]:
    """W002: receipts of tasks are forgotten before their broker delivers them again."""
    if "inbox.celery" not in sys.modules:
        return []
    from celery import current_app  # noqa: PLC0415 - only where it is in use

    try:
        window = inbox_settings().retention
    except ConfigurationError:
        return []  # told by others
    options = current_app.conf.broker_transport_options
    hidden = options.get("visibility_timeout") if isinstance(options, Mapping) else None
    if window is None or not isinstance(hidden, int | float):
        return []
    if window > timedelta(seconds=min(hidden, timedelta.max.total_seconds() // 2)):
        return []
    return [
        Warning(
            f"INBOX['RETENTION'] is {window}, but Celery's broker may deliver a task again after "
            f"{hidden} seconds (visibility_timeout): an idempotent task could run twice.",
            hint="Keep receipts longer than that, and than the farthest eta and all retries.",
            id="inbox.W002",
        )
    ]


@register
def check_databases(**_: Any) -> list[CheckMessage]:
    """E002: a relay hands messages to this inbox on a database that is not the inbox's."""
    alias = write_database()
    problem = _elsewhere(alias)
    if problem is None:
        return []
    return [
        Error(
            f"RELAYS[{name!r}] hands messages to the inbox on the database {alias!r}, that of the "
            f"outbox; {problem}.",
            hint=(
                "Let DATABASE_ROUTERS put django_inbox where django_outbox is, or use an AMQP "
                "broker."
            ),
            id="inbox.E002",
        )
        for name in _local_relays()
    ]


def _elsewhere(alias: str) -> str | None:
    """Return why the inbox is not on a database, or None if it is."""
    for model in (Receipt, DeadLetter):
        found = router.db_for_write(model)
        if found != alias:
            return f"the routers put its {model._meta.verbose_name_plural} on {found!r}"
        if not router.allow_migrate_model(alias, model):
            return "the routers allow no tables of the inbox there"
    return None


def _local_relays() -> Iterator[str]:
    relays = getattr(settings, "RELAYS", {})
    for name, relay in relays.items() if isinstance(relays, Mapping) else ():
        if isinstance(relay, Mapping) and relay.get("BACKEND") == LOCAL_BROKER:
            options = relay.get("OPTIONS")
            receiver = options.get("RECEIVER") if isinstance(options, Mapping) else None
            if receiver in (None, LOCAL_RECEIVER):
                yield name
