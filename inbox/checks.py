"""System checks of the consumer."""

import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning, register
from django.db import router

from inbox.conf import InboxSettings, inbox_settings, local_relays
from inbox.django_tasks import registered
from inbox.django_tasks.conf import task_queues
from inbox.handlers.registry import handlers
from inbox.handlers.typos import meant
from inbox.handlers.versions import Expects, expects, missed
from inbox.models import DeadLetter, Receipt
from inbox.replies.answering import answers
from inbox.replies.promises import no_replies
from outbox.amqp import connection as amqp
from outbox.amqp import exposure
from outbox.conf import flaws_in, outbox_settings, parse
from outbox.exceptions import ConfigurationError
from outbox.message.event_types import registry as event_types
from outbox.message.patterns import selects_many
from outbox.producer.writing import write_database


@register
def check_settings(**_: Any) -> list[CheckMessage]:
    """E001: INBOX is not as it should be."""
    raw = getattr(settings, "INBOX", {})
    flaws = flaws_in(parse, InboxSettings, raw, "INBOX")
    url = raw.get("URL") if isinstance(raw, Mapping) else None
    if url and isinstance(url, str):
        flaws += tuple(f"INBOX['URL']: {flaw}" for flaw in flaws_in(amqp.check_url, url))
    return [Error(flaw, hint="See the reference of settings.", id="inbox.E001") for flaw in flaws]


@register(deploy=True)
def check_deployment(**_: Any) -> list[CheckMessage]:
    """W010: credentials go in the clear. W011: guest. W012: a server's certificate is not checked.

    A broker that is a relay's is told by the relay, which is checked as well.
    """
    raw = getattr(settings, "INBOX", {})
    if apps.is_installed("relay") and not (isinstance(raw, Mapping) and {"URL", "SSL"} & set(raw)):
        return []
    try:
        conf = inbox_settings()
        links = exposure.amqp_links(conf.URL, conf.SSL) if conf.URL else []
    except ConfigurationError:
        return []  # told by others
    return exposure.warnings("INBOX", links, ("inbox.W010", "inbox.W011", "inbox.W012"))


@register
def check_tasks(**_: Any) -> list[CheckMessage]:
    """E003: TASKS has an OutboxBackend that is not as it should be."""
    try:
        task_queues()
    except ConfigurationError as exc:
        return [Error(str(exc), hint="See the reference of settings.", id="inbox.E003")]
    return []


@register
def check_registered(**_: Any) -> list[CheckMessage]:
    """W050: a task is in a module that the start does not import, so nothing would run it."""
    try:
        aliases = {queue.alias for queue in task_queues()}
    except ConfigurationError:
        return []  # told by others
    if not aliases:
        return []
    from inbox.django_tasks.framework import Task  # noqa: PLC0415 - only where it is in use

    late = {
        each.module_path: each.backend
        for each in registered.late()
        if issubclass(type(each), Task) and each.backend in aliases
    }
    return [
        Warning(
            f"The task {path} is in a module that was not imported when the app inbox was ready. A "
            "process that does not import it by itself cannot run the task.",
            hint=(
                "Define it in the module tasks of an installed app, or name its module in "
                f"TASKS[{alias!r}]['OPTIONS']['MODULES']."
            ),
            id="inbox.W050",
        )
        for path, alias in sorted(late.items())
        if not registered.at_start(path)
    ]


@register
def check_patterns(**_: Any) -> list[CheckMessage]:
    """W060: a handler is for a type that nobody registers, one letter from one that is there."""
    known = {each.name for each in event_types}
    return [
        Warning(
            f"Handler {each.name} is for {each.pattern!r}, which selects no event type that is "
            f"registered here. {event_type!r} is, which looks much like it.",
            hint=(
                f"Write {event_type!r}, or its class. If another service emits {each.pattern!r}, "
                "register it here: outbox.register(…) in <app>/events.py."
            ),
            id="inbox.W060",
        )
        for each in handlers
        if (event_type := meant(each.pattern, known)) is not None
    ]


@register
def check_versions(**_: Any) -> list[CheckMessage]:
    """W061: a version of an event is registered that a group's handlers of others would miss."""
    try:
        groups = handlers.groups()
    except ConfigurationError:
        return []  # told by others
    return [
        Warning(
            f"Group {group!r} has no handler for {event_type}, only for other versions: "
            f"{', '.join(f'{each.name} (v{each.version})' for each in others)}.",
            hint=(
                "Each message of that version becomes a dead letter of the group. Write a handler "
                "for it, with @handler on the class of that version."
            ),
            id="inbox.W061",
        )
        for group, members in sorted(groups.items())
        for event_type in sorted(event_types, key=str)
        if (others := missed(members, event_type))
    ]


@register
def check_payloads(**_: Any) -> list[CheckMessage]:
    """W062: a handler expects plain JSON, and is given an object. I062: it may not know."""
    messages: list[CheckMessage] = []
    for each in handlers:
        given = [t for t in event_types if t.schema is not None and each.wants(t.name)]
        given = sorted((t for t in given if each.version in (None, t.version)), key=str)
        expected = expects(each)
        if not given or expected is Expects.SOMETHING:
            continue
        objects = ", ".join(f"{t.schema.__name__} for {t}" for t in given if t.schema)
        if expected is Expects.MAPPING:
            messages.append(
                Warning(
                    f"Handler {each.name} ({each.pattern!r}) expects a dict, and is given {objects}"
                    ", since these classes are registered.",
                    hint="Let it take the object; message.data has the JSON as it was sent.",
                    id="inbox.W062",
                )
            )
        elif each.version is None and selects_many(each.pattern):
            messages.append(
                Info(
                    f"Handler {each.name} ({each.pattern!r}) is given {objects}; plain JSON, a "
                    "dict most often, for event types without a class.",
                    hint="Annotate its event, with object for example, once it copes with both.",
                    id="inbox.I062",
                )
            )
    return messages


@register
def check_answers(**_: Any) -> list[CheckMessage]:
    """W063: a handler of a request says that it returns nothing, or what is no reply of it."""
    messages: list[CheckMessage] = []
    for each in handlers:
        for asked in (t for t in event_types if answers(each, t.name, t.version) is not None):
            declared = " or ".join(reply.__qualname__ for reply in asked.replies)
            wrong = no_replies(each, asked)
            if not wrong:
                continue
            messages.append(
                Warning(
                    f"Handler {each.name} is for the request {asked}, and says that it returns "
                    f"{' or '.join(wrong)}: that answers nothing.",
                    hint=(
                        f"Let it return {declared}, or inbox.LATER, and say so. If it only looks "
                        f"on, write it for a pattern: @inbox.handler('{asked.name}.#')."
                    ),
                    id="inbox.W063",
                )
            )
    return messages


@register
def check_tenants(**_: Any) -> list[CheckMessage]:
    """W040: each tenant of django-tenants has a log and receipts, which nobody reads."""
    shared = {"outbox", "relay", "inbox"}
    raw = getattr(settings, "TENANT_APPS", None)
    found = [str(app) for app in raw] if isinstance(raw, list | tuple | set) else []
    ours = [app for app in found if app.split(".")[0] in shared]
    if not ours:
        return []
    return [
        Warning(
            f"TENANT_APPS has {', '.join(ours)}: no relay reads what is emitted in the schema of a "
            "tenant.",
            hint="Put outbox, relay and inbox into SHARED_APPS alone. See docs/how-to/tenants.md.",
            id="inbox.W040",
        )
    ]


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
def check_sizes(**_: Any) -> list[CheckMessage]:
    """W030: events are emitted here that are too large to be received here."""
    try:
        emitted, received = outbox_settings().MAX_DATA_BYTES, inbox_settings().MAX_BYTES
    except ConfigurationError:
        return []  # told by others
    if emitted <= received:
        return []
    return [
        Warning(
            f"OUTBOX['MAX_DATA_BYTES'] is {emitted:,}, but INBOX['MAX_BYTES'] {received:,}: what "
            "this service may emit, its own handlers would get as dead letters.",
            hint="Let MAX_BYTES be the largest MAX_DATA_BYTES of all services that are heard here.",
            id="inbox.W030",
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
        for name in local_relays()
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
