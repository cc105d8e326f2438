"""The relay is killed while it carries its cursors over from another cluster, and started again."""

import signal

import pytest
from django.db import transaction

import outbox
from relay.log import open_log
from relay.models import Checkpoint
from relay.transfer import transfer
from tests.kit.processes import Process, run
from tests.kit.support import RecordingBroker
from tests.relay.log.moving import move_from_higher
from tests.testapp.events import Happened
from tests.testapp.models import Effect

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def commit(*numbers: int) -> None:
    with transaction.atomic():
        outbox.emit_many([Happened("a", number) for number in numbers])


@pytest.mark.parametrize("point", ["rebase.burned", "rebase.rewritten", "rebase.committed"])
def test_a_rebase_is_all_or_nothing(point: str, database_url: str) -> None:
    """Killed anywhere in it: the next relay publishes what is pending, once and in order."""
    commit(1, 2)
    log = open_log("default", using="default")
    for lane in log.lanes_with_work(8):
        transfer(log, RecordingBroker(), lane, 100)
    commit(3, 4)
    move_from_higher()
    commit(5)
    environment = {"DATABASE_URL": database_url, "BROKER_URL": ""}
    with Process("relay", "--until-empty", failpoint=point, **environment) as process:
        assert process.wait() == -signal.SIGKILL, process.output
    code, output = run("relay", "--until-empty", **environment)

    assert code == 0, output
    assert list(Effect.objects.order_by("pk").values_list("number", flat=True)) == [3, 4, 5]
    assert Checkpoint.objects.filter(count=0).count() == 1
