"""The relay is killed with SIGKILL while it delivers scheduled messages, and started again."""

import signal
from datetime import UTC, datetime

import pytest
from django.db import transaction

import outbox
from outbox.models import Message, Scheduled
from tests.kit.processes import Process, run
from tests.testapp.events import Happened
from tests.testapp.models import Effect

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(
    ("failpoint", "delivered"), [("outbox.delivering", 0), ("outbox.delivered", 50)]
)
def test_each_is_delivered_once(failpoint: str, delivered: int, database_url: str) -> None:
    """Before the commit nothing has happened, after it everything has; all are handled once."""
    with transaction.atomic():
        outbox.emit_many(
            outbox.Draft(event=Happened("a", n), deliver_at=datetime(2026, 1, 1, 0, n, tzinfo=UTC))
            for n in range(50)
        )
    environment = {"DATABASE_URL": database_url, "BROKER_URL": ""}
    with Process("relay", "--until-empty", failpoint=failpoint, **environment) as killed:
        assert killed.wait() == -signal.SIGKILL, killed.output
    assert Message.objects.count() == delivered
    assert Scheduled.objects.count() == 50 - delivered
    code, output = run("relay", "--until-empty", **environment)

    assert code == 0, output
    assert list(Effect.objects.order_by("id").values_list("number", flat=True)) == list(range(50))
