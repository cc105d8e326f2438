"""manage.py outbox_prune."""

import json
import signal
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import F
from django.test import override_settings

import outbox
from inbox.models import DeadLetter, OpenRequest, Receipt
from outbox.models import Acknowledgement, Break, BucketTotal, Message, Request, Settlement
from relay.models import Parked
from tests.kit.processes import running
from tests.testapp.events import Happened

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LOCAL = {"default": {"BACKEND": "relay.brokers.local.LocalBroker"}}


@pytest.fixture(autouse=True)
def local() -> Any:
    with override_settings(RELAYS=LOCAL):
        yield


def publish(count: int, days_old: float = 8) -> None:
    with transaction.atomic():
        outbox.emit_many([Happened("a", number) for number in range(count)])
    call_command("relay", "--until-empty", stdout=StringIO())
    Message.objects.update(time=F("time") - timedelta(days=days_old))


def prune(*arguments: str) -> dict[str, Any]:
    output = StringIO()
    call_command("outbox_prune", "--json", *arguments, stdout=output)
    found: dict[str, Any] = json.loads(output.getvalue())
    return found


def test_it_deletes_what_retention_does_not_keep() -> None:
    """By default what is older than seven days; more than a batch, too."""
    publish(25)

    found = prune("--batch", "10")
    assert found["rows"]["messages"] == 25
    assert found["older_than_seconds"] == 7 * 86_400
    assert not found["stopped"]
    assert not Message.objects.exists()


def test_it_says_why_what_is_old_stays() -> None:
    """A relay that never ran owes everything: no silence about it."""
    with transaction.atomic():
        outbox.emit(Happened("a", 1))
    Message.objects.update(time=F("time") - timedelta(days=8))
    output = StringIO()
    call_command("outbox_prune", stdout=output)
    assert "messages: 0 deleted" in output.getvalue()
    assert "stays: a relay of RELAYS has yet to publish it" in output.getvalue()

    Message.objects.update(time=F("time") + timedelta(days=8))
    output = StringIO()
    call_command("outbox_prune", stdout=output)
    assert "stays" not in output.getvalue()


def test_the_setting_and_the_option_decide_the_age() -> None:
    """RETENTION as days; --older-than goes before it."""
    publish(3)
    with override_settings(OUTBOX={"RETENTION": 9}):
        assert prune()["rows"]["messages"] == 0
        assert prune("--older-than", "10d")["rows"]["messages"] == 0
        assert prune("--older-than", "190h")["rows"]["messages"] == 3


def test_a_dry_run_deletes_nothing() -> None:
    """It tells how many would go."""
    publish(12)

    found = prune("--dry-run", "--batch", "5")
    assert found["rows"]["messages"] == 12
    assert found["dry_run"]
    assert Message.objects.count() == 12


def old_rows() -> None:
    """Write two rows, from long ago, of each kind that has no other test here."""
    for number in range(2):
        asked = Request.objects.create(
            message_id=uuid4(),
            expiry_id=uuid4(),
            version=1,
            wanted=1,
            asked_at=LONG_AGO,
            deadline=LONG_AGO,
        )
        Settlement.objects.create(request=asked, outcome="expired", settled_at=LONG_AGO)
        Acknowledgement.objects.create(
            message_id=uuid4(),
            group="billing",
            state="handled",
            sent_at=LONG_AGO,
            within=60,
            resends=0,
            most=5,
        )
        BucketTotal.objects.create(group="billing", start=number, type="a", count=1, made=LONG_AGO)
        Break.objects.create(
            group="billing", message_id=str(number), start=0, state="repaired", changed=LONG_AGO
        )
        OpenRequest.objects.create(
            message_id=str(number), source="/shop", version=1, opened_at=LONG_AGO
        )
        Receipt.objects.create(
            message_id=str(number), handler="a", source="/shop", state="processed", changed=LONG_AGO
        )
        DeadLetter.objects.create(digest=str(number), state="discarded", received=LONG_AGO)
        Parked.objects.create(
            relay="default",
            lane=0,
            position=number,
            message_id=uuid4(),
            state="discarded",
            parked_at=LONG_AGO,
            settled_at=LONG_AGO,
        )


def test_a_dry_run_counts_each_row_once() -> None:
    """Also where there is more than a batch; what is deleted then is as much."""
    publish(2)
    old_rows()
    counted = prune("--dry-run", "--batch", "1")["rows"]
    assert {name for name, count in counted.items() if count == 2} >= {
        "messages",
        "requests",
        "acknowledgements",
        "totals of buckets",
        "breaks",
        "open requests",
        "receipts",
        "dead letters",
        "parked",
    }
    assert prune("--batch", "1")["rows"] == counted


def test_words_for_people() -> None:
    """Without --json one line for each kind of row."""
    publish(2)
    output = StringIO()
    call_command("outbox_prune", stdout=output)

    assert "messages: 2 deleted" in output.getvalue()


def test_what_is_kept_for_ever() -> None:
    """RETENTION = None deletes nothing and says how to."""
    publish(2)
    output = StringIO()
    with override_settings(OUTBOX={"RETENTION": None}):
        call_command("outbox_prune", stdout=output)

    assert "--older-than" in output.getvalue()
    assert Message.objects.count() == 2


def test_each_kind_is_kept_as_its_own_setting_says() -> None:
    """What the outbox keeps for ever is no reason to keep receipts."""
    with override_settings(OUTBOX={"RETENTION": None}):
        assert set(prune()["rows"]) == {"receipts", "dead letters", "open requests"}
    with override_settings(INBOX={"RETENTION": None}):
        assert {"messages", "receipts"} & set(prune()["rows"]) == {"messages"}


@pytest.mark.parametrize("age", ["", "7w", "-1d", "d", "1e9d", "nan", "999999999d"])
def test_an_age_that_is_none(age: str) -> None:
    """It says what an age looks like."""
    with pytest.raises(CommandError, match=r"no age|longer ago"):
        call_command("outbox_prune", f"--older-than={age}")


@pytest.mark.parametrize("size", ["0", "100001"])
def test_a_batch_out_of_bounds(size: str) -> None:
    """--batch is checked on the command line."""
    with pytest.raises(CommandError, match="from 1 to 100000"):
        call_command("outbox_prune", "--batch", size)


@pytest.mark.slow
def test_sigterm_ends_it_after_the_batch(database_url: str) -> None:
    """The batch under way is committed, the rest stays, and the exit code is 0."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite's test database is in memory")
    publish(6)
    environment = {"DATABASE_URL": database_url, "BROKER_URL": ""}
    with running("outbox_prune", "--batch", "2", "--json", **environment) as process:
        with transaction.atomic():
            blocked = Message.objects.select_for_update().earliest("position")
            process.wait_for(waiting_for_lock)
            process.send(signal.SIGTERM)
            assert blocked
        assert process.wait() == 0, process.output
        found = json.loads(process.output)

    assert found["stopped"]
    assert found["rows"]["messages"] == 2
    assert Message.objects.count() == 4


def waiting_for_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])
