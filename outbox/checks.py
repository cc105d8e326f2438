"""System checks of the producer. Each id stands for one thing to mend."""

from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections, router
from django.db.models import Model

from outbox.conf import OutboxSettings, flaws_in, outbox_settings, parse
from outbox.flow.conf import FlowSettings, raw_settings
from outbox.message.event_types import registry
from outbox.producer import sql
from outbox.producer.recording import EmitsEvents
from outbox.producer.writing import write_database
from outbox.statements import conf as statements
from outbox.telemetry.exporting import lacking
from outbox.tracing.hooks import available
from outbox.webhooks.conf import WHERE, webhook_settings

SUPPORTED = ("postgresql", "sqlite")


@register
def check_settings(**_: Any) -> list[CheckMessage]:
    """E001: OUTBOX is not as it should be."""
    return [
        Error(flaw, hint="See the reference of settings.", id="outbox.E001")
        for flaw in flaws_in(parse, OutboxSettings, getattr(settings, "OUTBOX", {}), "OUTBOX")
    ]


@register
def check_metrics(**_: Any) -> list[CheckMessage]:
    """E008: OUTBOX["METRICS"] names what is not installed."""
    if flaws_in(outbox_settings):
        return []  # that is E001
    return [
        Error(
            f"OUTBOX['METRICS'] names {name!r}, whose library is not installed.",
            hint=f"pip install 'django-outbox-inbox[{extra}]'",
            id="outbox.E008",
        )
        for name, extra in lacking(outbox_settings().METRICS)
    ]


@register
def check_webhooks(**_: Any) -> list[CheckMessage]:
    """E009: OUTBOX["WEBHOOKS"] is not as it should be."""
    if flaws_in(outbox_settings):
        return []  # that is E001
    return [
        Error(flaw, hint="See the reference of settings.", id="outbox.E009")
        for flaw in flaws_in(webhook_settings)
    ]


@register(deploy=True)
def check_webhooks_deployed(**_: Any) -> list[CheckMessage]:
    """W005: callbacks may go in the clear. W006: or into private networks."""
    if flaws_in(outbox_settings) or flaws_in(webhook_settings):
        return []  # that is E001 or E009
    conf = webhook_settings()
    found: list[CheckMessage] = []
    if conf.HTTP:
        found.append(
            Warning(
                f"{WHERE}['HTTP'] is on: anybody on the way can read what a callback says.",
                hint="Turn it off; without it a callback_url begins with https://.",
                id="outbox.W005",
            )
        )
    if private := [str(each) for each in conf.subnets if not each.is_global]:
        found.append(
            Warning(
                f"{WHERE}['SUBNETS'] lists private networks: {', '.join(private)}. Whoever may "
                "give a callback_url can have any server in them called.",
                hint="List as few addresses as possible, such as '10.1.2.3/32'.",
                id="outbox.W006",
            )
        )
    return found


@register
def check_acknowledgements(**_: Any) -> list[CheckMessage]:
    """E010: what groups acknowledge comes to nobody."""
    if apps.is_installed("inbox"):
        return []
    return [
        Error(
            f"{event_type} wants to be acknowledged, and nobody here takes what groups tell.",
            hint="Add 'inbox' to INSTALLED_APPS, run manage.py migrate, and a consumer.",
            id="outbox.E010",
        )
        for event_type in registry
        if event_type.acknowledge is not None
    ]


@register
def check_requests(**_: Any) -> list[CheckMessage]:
    """W007: a request waits as long as it happens to. W008: nobody here can ask it, or answer.

    W009: its reply is a request, which nobody answers.
    """
    found: list[CheckMessage] = []
    for asked in (each for each in registry if each.is_request):
        if not asked.says_within:
            found.append(
                Warning(
                    f"The request {asked} does not say within which time it is to be answered: it "
                    f"waits {asked.within}.",
                    hint="Say it: @outbox.request(..., within=timedelta(minutes=2)).",
                    id="outbox.W007",
                )
            )
        if not apps.is_installed("inbox"):
            found.append(
                Warning(
                    f"The request {asked} can neither be asked nor answered here: nobody takes "
                    "what is answered, and there are no handlers.",
                    hint="Add 'inbox' to INSTALLED_APPS, and run manage.py migrate.",
                    id="outbox.W008",
                )
            )
        replies = map(registry.of_class, asked.replies)
        found += [
            Warning(
                f"The reply {reply} of the request {asked} is a request itself, whose answer "
                "nobody waits for.",
                hint="Let its reply be an event; whoever is asked can ask back with ask().",
                id="outbox.W009",
            )
            for reply in replies
            if reply.is_request
        ]
    return found


@register
def check_flow(**_: Any) -> list[CheckMessage]:
    """E007: FLOW is not as it should be."""
    return [
        Error(flaw, hint="See the reference of settings.", id="outbox.E007")
        for flaw in flaws_in(parse, FlowSettings, raw_settings(), "FLOW")
    ]


@register
def check_reconcile(**_: Any) -> list[CheckMessage]:
    """E011: RECONCILE is not as it should be. E012: nobody here takes what a group answers."""
    raw = getattr(settings, "RECONCILE", {})
    found: list[CheckMessage] = [
        Error(flaw, hint="See the reference of settings.", id="outbox.E011")
        for flaw in flaws_in(statements.read, raw)
    ]
    if raw and not apps.is_installed("inbox"):
        found.append(
            Error(
                "RECONCILE is set, and 'inbox' is not in INSTALLED_APPS: groups answer to the "
                "queue of this service, which nobody reads.",
                hint="Add 'inbox' to INSTALLED_APPS, and run manage.py migrate.",
                id="outbox.E012",
            )
        )
    return found


@register
def check_tracing(**_: Any) -> list[CheckMessage]:
    """W004: there shall be spans, and OpenTelemetry is not there to make them."""
    raw = getattr(settings, "OUTBOX", {})
    wanted = raw.get("TRACING", "off") if isinstance(raw, Mapping) else "off"
    if wanted == "off" or available():
        return []
    return [
        Warning(
            f"OUTBOX['TRACING'] is {wanted!r}, and opentelemetry cannot be imported: there are no "
            "spans.",
            hint='Install it: pip install "django-outbox-inbox[opentelemetry]".',
            id="outbox.W004",
        )
    ]


@register
def check_apps(**_: Any) -> list[CheckMessage]:
    """W003: an app has settings and is not installed, so that nothing of it runs."""
    return [
        Warning(
            f"{setting} is set, and {app!r} is not in INSTALLED_APPS: {missing}.",
            hint=f"Add {app!r} to INSTALLED_APPS and run manage.py migrate, or delete {setting}.",
            id="outbox.W003",
        )
        for app, setting, missing in (
            ("relay", "RELAYS", "nothing is published"),
            ("inbox", "INBOX", "no handler is known, and nothing is received"),
        )
        if getattr(settings, setting, None) and not apps.is_installed(app)
    ]


@register(Tags.database)
def check_database_tagged(databases: Any = None, **_: Any) -> list[CheckMessage]:
    """E003: the server's isolation level, asked of the server, is not READ COMMITTED."""
    alias = write_database()
    if alias not in (databases or ()) or connections[alias].vendor != "postgresql":
        return []
    if _configured_level(alias) is not None:
        return []  # goes before the server's default; check_database looks at it
    with connections[alias].cursor() as cursor:
        cursor.execute("SHOW default_transaction_isolation")
        level = str(cursor.fetchone()[0])
    return [] if level == "read committed" else [_isolation_error(alias, level)]


@register(Tags.database)
def check_durability(databases: Any = None, **_: Any) -> list[CheckMessage]:
    """W020: what has committed is not on disk. W021: and never certainly is."""
    alias = write_database()
    if alias not in (databases or ()) or connections[alias].vendor != "postgresql":
        return []
    return durability(alias)


def durability(alias: str) -> list[CheckMessage]:
    """Return what the server of a database says of when a commit is on disk."""
    found: list[CheckMessage] = []
    with connections[alias].cursor() as cursor:
        cursor.execute(sql.PG_ASYNCHRONOUS)
        if where := ", ".join(str(row[0]) for row in cursor.fetchall()):
            found.append(
                Warning(
                    f"Commits do not wait for the disk in the database {alias!r} "
                    f"(synchronous_commit is off for {where}): a crash of the server undoes the "
                    "last of them, data and events alike.",
                    hint=(
                        "Nothing is published of what is undone: the relay waits for the disk. "
                        "Leave synchronous_commit on where the data must not be lost either."
                    ),
                    id="outbox.W020",
                )
            )
        cursor.execute("SHOW fsync")
        if cursor.fetchone()[0] == "off":
            found.append(
                Warning(
                    f"The server of the database {alias!r} runs with fsync off: a crash of its "
                    "machine can undo what was published, or break the database.",
                    hint="Set fsync = on in postgresql.conf.",
                    id="outbox.W021",
                )
            )
    return found


@register
def check_database(**_: Any) -> list[CheckMessage]:
    """E002: the outbox is on a database that cannot hold it. E003: not READ COMMITTED."""
    alias = write_database()
    connection = connections[alias]
    if connection.vendor not in SUPPORTED:
        return [
            Error(
                f"The outbox cannot be on {connection.display_name} (database {alias!r}).",
                hint="Use PostgreSQL, or SQLite for development, and route the outbox there.",
                id="outbox.E002",
            )
        ]
    level = _configured_level(alias)
    # psycopg.IsolationLevel.READ_COMMITTED is 2.
    if connection.vendor == "postgresql" and level not in (None, 2):
        return [_isolation_error(alias, getattr(level, "name", str(level)))]
    return []


@register
def check_models(**_: Any) -> list[CheckMessage]:
    """E004: a model emits events on a database where no outbox is, or one that nobody asked for."""
    if not apps.is_installed("outbox"):
        return []  # nothing to be routed
    from outbox.models import Message  # noqa: PLC0415 - models are not loaded when this is imported

    home = write_database()
    return [
        Error(
            f"{model._meta.label} emits events, and is written on the database {alias!r}; the "
            f"outbox is on {home!r}. What it records {_fate(alias, Message)}.",
            hint=(
                "Let DATABASE_ROUTERS put both on one database. Or give that database an outbox of "
                f"its own: a router whose allow_migrate() says True there for django_outbox, "
                f"manage.py migrate --database {alias}, and manage.py relay --database {alias}."
            ),
            obj=model,
            id="outbox.E004",
        )
        for model in apps.get_models()
        if issubclass(model, EmitsEvents)
        and (alias := _written_on(model)) not in (None, home)
        and not _has_outbox(str(alias), Message)
    ]


def _written_on(model: type[Model]) -> str | None:
    """Return the database that a model is written on; None if the routers do not tell now."""
    try:
        alias = router.db_for_write(model)
    except Exception:  # a router for tenants, say, that none is chosen for
        return None
    return alias if alias in connections else None  # what is unknown is told by whoever uses it


def _fate(alias: str, model: type[Model]) -> str:
    if router.allow_migrate_model(alias, model):
        return "lies in a table there, if it was migrated, that no relay reads by default"
    return "cannot be written: there is no table for it"


def _has_outbox(alias: str, model: type[Model]) -> bool:
    """Tell whether a router says in so many words that the outbox is on a database as well."""
    label, name = model._meta.app_label, model._meta.model_name
    for each in router.routers:
        if hasattr(each, "allow_migrate"):
            try:
                said = each.allow_migrate(alias, label, model_name=name, model=model)
            except Exception:
                return True  # it does not tell now: nothing is to be said of it
            if said is not None:
                return bool(said)
    return False


@register(deploy=True)
def check_sqlite(**_: Any) -> list[CheckMessage]:
    """W002: the outbox is on SQLite, and this is no development."""
    alias = write_database()
    if connections[alias].vendor != "sqlite" or settings.DEBUG:
        return []
    return [
        Warning(
            f"The outbox is on SQLite (database {alias!r}), and DEBUG is off.",
            hint=(
                "Use PostgreSQL in production: SQLite has one writer at a time, and no relay is "
                "woken by a commit."
            ),
            id="outbox.W002",
        )
    ]


@register(deploy=True)
def check_deployment(**_: Any) -> list[CheckMessage]:
    """W001: services whose source is a default can take each other's message ids for theirs."""
    raw = getattr(settings, "OUTBOX", {})
    if not isinstance(raw, Mapping) or raw.get("SOURCE"):
        return []  # what is no mapping is E001
    return [
        Warning(
            "OUTBOX['SOURCE'] is not set; the name of the project's package stands in for it.",
            hint="Set it to a URI reference that no other service uses, such as '/shop'.",
            id="outbox.W001",
        )
    ]


def _configured_level(alias: str) -> object:
    return (connections[alias].settings_dict.get("OPTIONS") or {}).get("isolation_level")


def _isolation_error(alias: str, level: str) -> CheckMessage:
    return Error(
        f"The database {alias!r} runs transactions at {level}; the relay needs READ COMMITTED.",
        hint=(
            "Set OPTIONS['isolation_level'] of the database to IsolationLevel.READ_COMMITTED; "
            "raise it per transaction where you need more."
        ),
        id="outbox.E003",
    )
