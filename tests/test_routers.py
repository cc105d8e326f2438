"""Routers: everything is decided where it is written, whatever is read from where."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, connections, router, transaction
from django.db.models import Model
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

import outbox
from inbox.models import DeadLetter, Original, Receipt
from outbox.models import Message, Scheduled
from relay.brokers.base import Status
from relay.log import open_log
from relay.models import Checkpoint, Parked
from relay.transfer import transfer
from tests.inbox import task_functions as tasks
from tests.inbox.admin.test_tools import reject
from tests.inbox.django_tasks.support import backend
from tests.inbox.support import Handling, happened, postgresql, receive, record
from tests.kit.admin_pages import detail_url, list_url
from tests.kit.admin_pages import rows as listed
from tests.kit.support import Counted, RecordingBroker
from tests.outbox.management.test_doctor_command import doctor
from tests.outbox.models import Thing

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]

OURS = ("django_outbox", "django_relay", "django_inbox")
MODELS: list[type[Model]] = [Message, Scheduled, Checkpoint, Parked, Receipt, DeadLetter]
MANY = (Message, Parked, Checkpoint)
LOCAL = {"default": {"BACKEND": "relay.brokers.local.LocalBroker"}}


class FreshRouter:
    """Reads of all models go to the replica."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return "replica"

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        return "default"

    def allow_relation(self, *_: Any, **__: Any) -> bool:
        return True


class StaleRouter(FreshRouter):
    """Those of ours go to one that has seen none of it yet."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return "replica" if model._meta.app_label in OURS else None


class ElsewhereRouter:
    """What is of ours, and what it belongs to, is on another database."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return "other" if model._meta.app_label in (*OURS, "tests_outbox", "testapp") else None

    db_for_write = db_for_read


def written() -> str:
    """The alias of the database that is written."""
    return router.db_for_write(Message)


@contextmanager
def replicated(kind: str) -> Iterator[None]:
    """A second alias, on which nothing can be written; "stale" finds all tables of ours empty."""
    options = "-c default_transaction_read_only=on"
    if kind == "stale":
        options += " -c search_path=stale"
        with connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA stale")
            for model in [*MODELS, Original]:
                table = model._meta.db_table
                cursor.execute(f"CREATE TABLE stale.{table} (LIKE public.{table} INCLUDING ALL)")
    replica = connections["default"].copy("replica")
    replica.settings_dict["OPTIONS"] = {**replica.settings_dict["OPTIONS"], "options": options}
    replica.ensure_connection()  # before Django's tests know the alias, and forbid it
    connections.settings["replica"] = replica.settings_dict
    connections["replica"] = replica
    routers = [f"{__name__}.{kind.title()}Router"]
    try:
        with override_settings(DATABASE_ROUTERS=routers, RELAYS=LOCAL):
            yield
    finally:
        replica.close()
        del connections["replica"], connections.settings["replica"]
        if kind == "stale":
            with connection.cursor() as cursor:
                cursor.execute("DROP SCHEMA stale CASCADE")


@pytest.fixture(
    params=[
        pytest.param("fresh", marks=postgresql),
        pytest.param("stale", marks=postgresql),
        "elsewhere",
    ]
)
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where reads go: to a replica, or where the writes go, which is not the default database."""
    if request.param != "elsewhere":
        with replicated(request.param):
            yield request.param
    else:
        with override_settings(DATABASE_ROUTERS=[f"{__name__}.ElsewhereRouter"], RELAYS=LOCAL):
            yield request.param


@pytest.fixture
def rows(place: str, handling: Handling) -> dict[type[Model], Model]:
    """A row of each model about which something can be done."""
    handling(reject)
    broker = RecordingBroker()
    with transaction.atomic(using=written()):
        messages = outbox.emit_many(Counted(str(number), number) for number in range(3))
        outbox.emit("tests.counted", {"key": "b", "number": 1}, delay=600)
    broker.refuse = {each.id: Status.UNROUTABLE for each in messages[1:]}
    log = open_log("default", using=written())
    for lane in log.lanes_with_work(4):
        transfer(log, broker, lane, 100)
    receive(happened(1), using=written())
    receive(happened(1, type="tests.unknown"), using=written())
    return {model: model._default_manager.using(written()).earliest("pk") for model in MODELS}


@pytest.fixture
def root(client: Client, rows: dict[type[Model], Model]) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


def state_of(row: Any) -> str:
    return str(
        type(row)._default_manager.using(written()).values_list("state", flat=True).get(pk=row.pk)
    )


def logged() -> int:
    return LogEntry.objects.using("default").count()


def call(*arguments: str) -> str:
    output = io.StringIO()
    with suppress(CommandError):  # after what it has printed
        call_command(*arguments, stdout=output)
    return output.getvalue()


@postgresql
@pytest.mark.parametrize("kind", ["fresh", "stale"])
def test_nothing_can_be_written_on_the_replica(kind: str) -> None:
    """Or this file would prove nothing."""
    with replicated(kind):
        _check_read_only()


def _check_read_only() -> None:
    with pytest.raises(DatabaseError, match="read-only"):
        Scheduled.objects.using("replica").all().delete()
    assert Message.objects.all().db == "replica"


@pytest.mark.parametrize("model", MODELS)
def test_pages_are_read_from_the_replica(
    model: type[Model], root: Client, rows: dict[type[Model], Model], place: str
) -> None:
    """Lists, filters, search, and the page of a row."""
    queries = ["", "?q=1", "?p=before-1000000", "?age=over-minute", "?state=dead"]
    queries += ["?state=pending:default", "?state=published:default", "?state=dead:default"]
    names = {each.parameter_name for each in admin.site._registry[model].get_list_filter(None)}
    for query in queries:
        if query[1:].partition("=")[0] in {"", "q", "p", *names}:
            assert root.get(list_url(model, query)).status_code == 200
    assert len(listed(root, list_url(model))) == (1 if place != "stale" else 0) or model in MANY
    assert root.get(detail_url(rows[model])).status_code == (200 if place != "stale" else 302)


@pytest.mark.parametrize(
    ("model", "action", "after"),
    [
        (Parked, "requeue", "parked"),
        (Parked, "discard", "discarded"),
        (Receipt, "retry_selected", "retrying"),
        (Receipt, "discard_selected", "discarded"),
        (Receipt, "retry_matching", "retrying"),
        (DeadLetter, "discard_selected", "discarded"),
        (DeadLetter, "discard_matching", "discarded"),
        (DeadLetter, "retry_selected", "dead"),
    ],
)
def test_actions_act_where_it_is_written(
    model: type[Model], action: str, after: str, root: Client, rows: dict[type[Model], Model]
) -> None:
    """On what is there, whatever the replica knows; and it is written down who did it."""
    row: Any = rows[model]
    before = logged()
    form = {"action": action, "_selected_action": [row.pk], "confirmed": "yes", "of": row.pk}
    response = root.post(list_url(model), form)

    assert response.status_code == 302
    assert state_of(row) == after
    assert logged() - before == (0 if after == "dead" else 1)


def test_a_scheduled_message_is_cancelled(root: Client, rows: dict[type[Model], Model]) -> None:
    chosen = {"_selected_action": [rows[Scheduled].pk]}
    form = {"action": "cancel_selected", "confirmed": "yes", **chosen}
    assert root.post(list_url(Scheduled), form).status_code == 302

    assert not Scheduled.objects.using(written()).exists()
    assert logged() == 1


@pytest.mark.parametrize("model", [Receipt, DeadLetter])
@pytest.mark.parametrize("what", ["discard", "edit"])
def test_the_buttons_of_a_row(
    model: type[Model], what: str, root: Client, rows: dict[type[Model], Model]
) -> None:
    """Also the form to edit it, which shows and compares what stands where it is written."""
    row: Any = rows[model]
    url = reverse(f"admin:django_inbox_{model._meta.model_name}_{what}", args=(row.pk,))
    form = {}
    if what == "edit":
        form = dict(root.get(url).context["form"].initial)
        form["body"] = form["body"].replace("1", "200")
        form["confirmed"] = "yes"
    assert root.post(url, form).status_code == 302

    expected = {"discard": "discarded", "edit": "retrying" if model is Receipt else "dead"}
    assert state_of(row) == expected[what]
    assert logged() == 1


def test_commands(rows: dict[type[Model], Model], handling: Handling) -> None:
    """Each does what it does, on the database that is written."""
    handling(record, name="late", pattern="tests.counted")
    lanes = json.loads(call("relay_status", "--json"))["lanes"]
    assert sum(each["parked"] for each in lanes) == 2
    assert call("relay_requeue", "--all").startswith("2 messages requeued")
    call("relay", "--until-empty")
    assert Parked.objects.using(written()).filter(state="published").count() == 2
    assert "3 messages would be published" in call("relay_replay", "--all", "--dry-run")
    assert "1 of 1 receipts discarded" in call("inbox_retry", "--all", "--discard")
    assert "0 of 1 dead letters retried" in call("inbox_retry", "--dead-letters", "--all")
    findings = json.loads(doctor("--json")[1])["findings"]
    assert not [each for each in findings if each["id"].endswith("unexamined")]
    assert {each["level"] for each in findings if each["id"] == "inbox.dead"} == {"warning"}
    old = timezone.now() - timedelta(days=100)
    Message.objects.using(written()).update(time=old)
    assert json.loads(call("outbox_prune", "--json"))["rows"]["messages"] == 3


def test_models_tasks_and_cancel(place: str) -> None:
    """What a program does."""
    made = Thing(name="a")
    made.note("a")
    with transaction.atomic(using=written()):
        made.save()
    made.note("b")
    with pytest.raises(ValueError, match="no"), transaction.atomic(using=written()):
        made.save()
        raise ValueError("no")
    made.save()
    found = Message.objects.using(written()).order_by("pk")
    assert [json.loads(bytes(each.data))["note"] for each in found] == ["a", "b"]

    with transaction.atomic(using=written()):
        later = outbox.emit("tests.counted", {"key": "b", "number": 1}, delay=600)
    assert outbox.cancel(later.id)
    with override_settings(TASKS={"default": backend()}):
        result = tasks.add.enqueue(40, more=2)
        result.refresh()
        call("relay", "--until-empty")
        result.refresh()
        assert result.return_value == 42
