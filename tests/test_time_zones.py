"""USE_TZ on and off, in zones with odd hours and hours that come twice: all times stay right."""

import io
import json
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.db.models import DateTimeField, Max
from django.test import Client, override_settings
from django.utils import timezone

import outbox
from inbox import Retry
from inbox.models import DeadLetter, Original, Receipt
from inbox.retention import prune
from outbox.database.clock import database_now
from outbox.database.fields import InstantField
from outbox.message import cloudevents
from outbox.models import Message, Scheduled
from outbox.producer.scheduling import deliver_due, next_due
from relay.brokers.base import Status
from relay.log import open_log
from relay.models import Checkpoint, Parked
from relay.replay import envelope
from relay.transfer import transfer
from tests.inbox import task_functions as tasks
from tests.inbox.admin.test_tools import reject
from tests.inbox.django_tasks.support import backend
from tests.inbox.support import Handling, happened, receive, turn
from tests.kit.admin_pages import ALL_MODELS, detail_url, list_url, log_in, page, rows
from tests.kit.defaults import defaults
from tests.kit.support import Counted, RecordingBroker
from tests.outbox.management.test_doctor_command import doctor

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

# Clocks went back in Los Angeles on 2 November 2025, so that 01:30 came twice, an hour apart; and
# forward on 8 March 2026, so that 02:30 never came.
FIRST, SECOND = datetime(2025, 11, 2, 8, 30, tzinfo=UTC), datetime(2025, 11, 2, 9, 30, tzinfo=UTC)
TIMES = [
    datetime(2025, 7, 1, 12, 34, 56, 789012, tzinfo=UTC),
    FIRST,
    SECOND,
    datetime(2026, 3, 8, 9, 59, 59, tzinfo=UTC),
    datetime(2026, 3, 8, 10, 0, tzinfo=UTC),
]
LOCAL = {"default": {"BACKEND": "relay.brokers.local.LocalBroker"}}
SOON = timedelta(seconds=30)


@pytest.fixture(
    params=[
        (use_tz, zone)
        for use_tz in (True, False)
        for zone in ("America/Los_Angeles", "Asia/Kathmandu")
    ],
    ids=lambda param: f"{param[1].partition('/')[2]}-{'aware' if param[0] else 'naive'}",
    autouse=True,
)
def zone(request: pytest.FixtureRequest) -> Iterator[ZoneInfo]:
    """The zone of the settings; Django gives connections and this process theirs anew."""
    use_tz, name = request.param
    with override_settings(USE_TZ=use_tz, TIME_ZONE=name, RELAYS=LOCAL):
        yield ZoneInfo(name)


def emit(number: int = 1, **options: Any) -> outbox.Envelope:
    with transaction.atomic():
        return outbox.emit("tests.counted", {"key": "a", "number": number}, **options)


def log_of(*times: datetime) -> list[Message]:
    """Messages with these times, through the front door: scheduled for then, and delivered."""
    for number, moment in enumerate(times):
        emit(number, deliver_at=moment)
    deliver_due("default")
    return list(Message.objects.order_by("position"))


def publish(broker: RecordingBroker | None = None) -> list[outbox.Envelope]:
    broker = broker or RecordingBroker()
    log = open_log("default", using="default")
    while lanes := log.lanes_with_work(4):
        for lane in lanes:
            transfer(log, broker, lane, 100)
    return broker.published


def is_now(moment: datetime) -> bool:
    return abs(moment - datetime.now(UTC)) < SOON


def call(*arguments: str) -> Any:
    output = io.StringIO()
    with suppress(CommandError):  # after what it has printed
        call_command(*arguments, "--json", stdout=output)
    return json.loads(output.getvalue().splitlines()[-1])


# --- Columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize("app", ["django_outbox", "django_relay", "django_inbox"])
def test_every_column_of_ours_is_an_instant(app: str) -> None:
    """A DateTimeField would say what USE_TZ says."""
    models = apps.get_app_config(app).get_models()
    fields = [field for model in models for field in model._meta.fields]
    times = [field for field in fields if isinstance(field, DateTimeField)]

    assert times
    assert [field.name for field in times if not isinstance(field, InstantField)] == []


def test_a_column_gives_back_what_it_was_given() -> None:
    """Aware, in UTC, to the microsecond; found by it and compared with it."""
    for moment in TIMES:
        made = Checkpoint.objects.create(created=moment, **checkpoint())
        made.refresh_from_db()
        assert (made.created, made.created.tzinfo) == (moment, UTC)
        assert Checkpoint.objects.filter(created=moment).get() == made
        assert not Checkpoint.objects.filter(created__lt=moment).exists()
        assert Checkpoint.objects.aggregate(at=Max("created"))["at"] == moment
        made.delete()


def test_without_a_zone_it_is_a_time_of_the_settings(zone: ZoneInfo) -> None:
    """As Django has it; `fold` tells the two hours apart that have one name."""
    if settings.USE_TZ:
        pytest.skip("Django warns of these")
    for moment in TIMES:
        naive = moment.astimezone(zone).replace(tzinfo=None)
        made = Checkpoint.objects.create(created=naive, **checkpoint())
        made.refresh_from_db()
        assert made.created == moment
        made.delete()
    assert is_now(Checkpoint(**checkpoint()).created)


def checkpoint() -> dict[str, Any]:
    numbers = ("lane", "previous", "position", "sequence", "window_start", "next_start", "count")
    return {
        **dict.fromkeys([*numbers, "window_count", "system_identifier", "first_position"], 0),
        **{"relay": "r", "floor": "1:1:", "ceiling": "1:1:", "complete": True},
        **{"published_by": "", "duration": timedelta(0)},
    }


# --- From emit() to the wire ---------------------------------------------------------------------


def test_a_message_says_when_it_was_emitted() -> None:
    """In what emit() returns, in the log, in its id and on the wire."""
    made = emit()
    [message] = Message.objects.all()
    [sent] = publish()

    assert is_now(made.time)
    assert abs(made.time - message.time) < timedelta(milliseconds=1)
    assert made.time.microsecond == message.time.microsecond
    in_id = datetime.fromtimestamp((UUID(made.id).int >> 80) / 1000, UTC)
    assert abs(in_id - made.time) < timedelta(seconds=1)
    assert cloudevents.to_headers(sent)["ce-time"] == cloudevents.to_headers(made)["ce-time"]
    assert cloudevents.to_headers(sent)["ce-time"] == made.time.isoformat().replace("+00:00", "Z")


def test_the_hour_that_comes_twice_is_told_apart_on_the_wire() -> None:
    """A scheduled message's time is when it is due, in every night of the year."""
    messages = log_of(*TIMES)
    sent = publish()

    assert [message.time for message in messages] == TIMES
    assert [envelope(message).time for message in messages] == TIMES
    assert sorted(each.time for each in sent) == TIMES
    assert [cloudevents.to_headers(each)["ce-time"] for each in sent if each.time == SECOND] == [
        "2025-11-02T09:30:00Z"
    ]


def test_a_delay_is_from_now_on() -> None:
    """Not hours off: in what emit() returns, in the table, and in what the relay waits for."""
    made = emit(delay=60)
    [scheduled] = Scheduled.objects.all()
    due, ahead = next_due("default")

    assert is_now(made.time - timedelta(seconds=60))
    assert scheduled.due_at == made.time
    assert not due
    assert ahead is not None
    assert 20 < ahead <= 60
    assert deliver_due("default") == 0
    emit(delay=0)
    assert deliver_due("default") == 1


def test_deliver_at_is_a_point_in_time(zone: ZoneInfo) -> None:
    """In whatever zone it is given; what is returned is in UTC."""
    for moment in [*TIMES, datetime.now(UTC) + timedelta(hours=5)]:
        made = emit(deliver_at=moment.astimezone(zone))
        assert made.time == moment
        assert made.time.utcoffset() == timedelta(0)
    assert deliver_due("default") == len(TIMES)


@pytest.mark.parametrize("where", ["deliver_at", "payload"])
def test_what_has_no_zone_is_refused_with_an_advice_that_helps(where: str) -> None:
    """What the error names makes it right, with USE_TZ and without."""
    naive = datetime(2026, 7, 1, 12)  # noqa: DTZ001
    given: dict[str, Any] = {"deliver_at": naive} if where == "deliver_at" else {}
    payload = {"key": "a", "number": 1}
    with transaction.atomic():
        with pytest.raises(outbox.InvalidEvent, match=r"django\.utils\.timezone\.make_aware\(\)"):
            if given:
                outbox.emit("tests.counted", payload, **given)
            else:
                outbox.emit("tests.naive", {"at": naive})
        outbox.emit("tests.counted", payload, deliver_at=timezone.make_aware(naive))


@pytest.fixture(autouse=True)
def _naive(registered: Any) -> None:
    registered("tests.naive")


def test_the_clock_of_the_database() -> None:
    """In UTC."""
    assert is_now(database_now("default"))
    assert database_now("default").tzinfo is UTC


# --- Commands ------------------------------------------------------------------------------------


def test_doctor_and_status() -> None:
    """They tell the age of what is pending, and that both clocks agree."""
    log_of(datetime.now(UTC) - timedelta(hours=3))
    code, output = doctor("--json")
    findings = {each["id"]: each for each in json.loads(output)["findings"]}
    assert code == 2, output  # no relay is running
    assert not [each for each in findings if each.endswith("unexamined")]
    assert findings["outbox.clock"]["level"] == "ok"
    assert findings["outbox.scheduled"]["level"] == "ok"
    assert "3 h" in findings["relay.not_running"]["text"]

    publish()
    assert doctor("--json")[0] == 0
    [lane] = [each for each in call("relay_status")["lanes"] if each["last_checkpoint"]]
    assert 0 <= lane["last_checkpoint"] < SOON.total_seconds()
    log_of(datetime.now(UTC) - timedelta(hours=2))
    [lane] = [each for each in call("relay_status")["lanes"] if each["backlog"]]
    assert 7190 < lane["oldest_pending"] < 7260


def test_a_scheduled_message_that_is_late_is_told() -> None:
    """By its age."""
    emit(deliver_at=datetime.now(UTC) - timedelta(hours=3))
    findings = {each["id"]: each for each in json.loads(doctor("--json")[1])["findings"]}

    assert "the oldest for 1080" in findings["outbox.scheduled"]["text"]


def test_replay_by_time(zone: ZoneInfo) -> None:
    """With a zone it is a point in time; without, one of TIME_ZONE, and a double hour is both."""
    log_of(*TIMES)
    publish()

    def count(*bounds: str) -> int:
        return int(call("relay_replay", "--dry-run", *bounds)["count"])

    assert count("--since", FIRST.isoformat(), "--until", SECOND.isoformat()) == 2
    assert count("--since", SECOND.isoformat(), "--until", SECOND.isoformat()) == 1
    for moment in TIMES:
        local = moment.astimezone(zone).replace(tzinfo=None).isoformat()
        twice = zone.key == "America/Los_Angeles" and moment in (FIRST, SECOND)
        assert count("--since", local, "--until", local) == (2 if twice else 1)
    if zone.key == "America/Los_Angeles":
        assert count("--since", "2026-03-08T02:30", "--until", "2026-03-08T02:30") == 2
    call("relay_replay", "--since", "2025-11-02")


def test_retention() -> None:
    """Of messages, checkpoints and what is parked: by their ages, whatever the zone."""
    now = datetime.now(UTC)
    log_of(now - timedelta(hours=25), now - timedelta(hours=23))
    publish()
    Checkpoint.objects.update(created=now - timedelta(hours=25))
    assert call("outbox_prune", "--older-than", "24h", "--dry-run")["rows"]["messages"] == 1
    assert call("outbox_prune", "--older-than", "24h")["rows"]["messages"] == 1
    [kept] = Message.objects.all()
    assert abs(kept.time - (now - timedelta(hours=23))) < SOON


# --- The inbox -----------------------------------------------------------------------------------


def test_a_pause_before_a_retry(handling: Handling) -> None:
    """It is as long as the handler says."""

    def later(event: Any, message: outbox.Envelope) -> None:
        raise Retry(after=60)

    handling(later)
    receive(happened(1))
    [receipt] = Receipt.objects.all()

    assert is_now(receipt.changed)
    assert is_now(receipt.received)
    assert is_now(receipt.next_attempt_at - timedelta(seconds=60))
    assert turn().handled == 0


def test_receipts_and_dead_letters_are_kept_for_as_long_as_they_should(handling: Handling) -> None:
    """In batches that start where the last one ended, in the night with the double hour too."""
    handling(lambda event, message: None)
    receive(*(happened(number) for number in range(5)))
    receive(happened(1, type="tests.unknown"))
    numbers = list(Receipt.objects.order_by("pk").values_list("pk", flat=True))
    for number, moment in zip(numbers, TIMES, strict=True):
        Receipt.objects.filter(pk=number).update(changed=moment)
    assert is_now(DeadLetter.objects.get().received)

    kept = datetime.now(UTC) - SECOND + timedelta(minutes=1)
    assert prune("default", kept, limit=1) == 1
    assert prune("default", kept) == 1
    assert list(Receipt.objects.order_by("pk").values_list("changed", flat=True)) == TIMES[2:]


def test_tasks(zone: ZoneInfo) -> None:
    """The times of a result are as Django's own are: naive where USE_TZ is off."""
    with override_settings(TASKS={"default": backend()}):
        start = timezone.now()
        result = tasks.add.enqueue(40, more=2)
        later = timezone.now() + timedelta(hours=1)
        waiting = tasks.add.using(run_after=later).enqueue(1)
        call_command("relay", "--until-empty", verbosity=0)
        result.refresh()
        waiting.refresh()
        [scheduled] = Scheduled.objects.all()

        times = [start, result.enqueued_at, result.started_at, result.finished_at, timezone.now()]
        assert times == sorted(times)
        assert {moment.utcoffset() is not None for moment in times} == {settings.USE_TZ}
        assert is_now(scheduled.due_at - timedelta(hours=1))
        assert waiting.task.run_after == later


# --- The admin -----------------------------------------------------------------------------------


def test_admin_pages(client: Client, handling: Handling, zone: ZoneInfo) -> None:
    """Every list, every filter by age and every page of a row; times are those of the zone."""
    log_in(client, *ALL_MODELS)
    now = datetime.now(UTC)
    for message in log_of(SECOND, now - timedelta(hours=5), now - timedelta(minutes=30)):
        in_id = int(message.time.timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62
        Message.objects.filter(pk=message.pk).update(message_id=UUID(int=in_id + message.pk))
    old, _, new = Message.objects.order_by("pk")
    emit(delay=600)
    broker = RecordingBroker()
    broker.refuse = {str(old.message_id): Status.UNROUTABLE}
    publish(broker)
    handling(reject)
    receive(happened(1))
    receive(happened(1, type="tests.unknown"))
    letter = DeadLetter.objects.get()
    Original.objects.create(
        dead_letter=letter, topic="", content_type="", headers="{}", body=b"", edited_by="x"
    )

    for model in (Message, Scheduled, Checkpoint, Parked, Receipt, DeadLetter):
        page(client, list_url(model))
        for row in model._default_manager.all():
            page(client, detail_url(row))
    local = SECOND.astimezone(zone)
    assert local.strftime("%Y-%m-%d %H:%M:%S") in page(client, list_url(Message))
    assert local.isoformat(sep=" ", timespec="microseconds") in page(client, detail_url(old))
    assert rows(client, list_url(Message, "?age=last-hour")) == [new]
    assert len(rows(client, list_url(Message, "?age=last-day"))) == 2
    assert rows(client, list_url(Message, "?age=over-day")) == [old]
    assert len(rows(client, list_url(Message, "?age=over-hour"))) == 2
    Receipt.objects.update(changed=now - timedelta(hours=2))
    assert len(rows(client, list_url(Receipt, "?age=1"))) == 1
    assert rows(client, list_url(Receipt, "?age=24")) == []


# --- Sessions with a zone of their own -----------------------------------------------------------


def pg() -> bool:
    return connection.vendor == "postgresql"


def test_the_zone_of_a_database_or_a_connection_does_not_matter() -> None:
    """A TimeZone that the database has, or TIME_ZONE of an alias in DATABASES."""
    alias = connections["default"]
    before = alias.settings_dict["TIME_ZONE"]
    with defaults(TimeZone="Pacific/Auckland") if pg() else nullcontext():
        try:
            connection.close()
            if settings.USE_TZ:  # Django refuses it else
                alias.settings_dict["TIME_ZONE"] = "Australia/Lord_Howe"
            for name in ("timezone", "timezone_name"):
                vars(alias).pop(name, None)
            [message] = log_of(SECOND)
            made = emit(delay=60)
            Counted("a", 1)

            assert message.time == SECOND
            assert [each.time for each in publish()] == [SECOND]
            assert is_now(made.time - timedelta(seconds=60))
            assert is_now(database_now("default"))
            assert next_due("default")[0] is False
            assert call("outbox_prune", "--older-than", "1d")["rows"]["messages"] == 1
        finally:
            alias.settings_dict["TIME_ZONE"] = before
            connection.close()
            for name in ("timezone", "timezone_name"):
                vars(alias).pop(name, None)
