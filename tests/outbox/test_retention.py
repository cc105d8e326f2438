"""The registry of what can be pruned, and the rule that one process prunes at a time."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from outbox.extensions import pruning
from outbox.extensions.pruning import PRUNE_KEY, cutoff, prune_batch, pruners, register_pruner
from tests.kit.sessions import sessions

NOW = datetime.now(UTC)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, datetime, int]]:
    """What a pruner of the test's own was called with; it is forgotten after the test."""
    monkeypatch.setattr(pruning, "_pruners", {})
    found: list[tuple[str, datetime, int]] = []

    def prune(using: str, *, before: datetime, limit: int) -> int:
        found.append((using, before, limit))
        return 3

    register_pruner("things", prune)
    return found


def test_the_apps_have_registered_what_they_own():
    """Messages and checkpoints come from the relay."""
    assert {"messages", "checkpoints"} <= {pruner.name for pruner in pruners()}


def test_a_pruner_registers_by_name(calls: list[object]):
    """A second registration of a name takes the place of the first."""
    register_pruner("things", prune=lambda using, *, before, limit: 0, database=lambda: "other")
    [pruner] = pruners()

    assert (pruner.name, pruner.database(), pruner.count) == ("things", "other", None)


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_a_batch_is_one_call_in_a_transaction(calls: list[object]):
    """The pruner gets database, age and limit; what it returns is returned."""
    assert prune_batch(pruners()[0].prune, "default", before=NOW, limit=7) == 3
    assert calls == [("default", NOW, 7)]


@pytest.mark.django_db(transaction=True)
def test_another_process_at_it(calls: list[object]):
    """Housekeeping lets it; the command waits for the batch to end."""
    prune = pruners()[0].prune
    with sessions(1) as [other]:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [PRUNE_KEY])
            arguments = {"before": NOW, "limit": 7}
            assert other.run(prune_batch, prune, "default", wait=False, **arguments) is None
            assert calls == []
            waiting = other.start(prune_batch, prune, "default", **arguments)
            assert not waiting.done()
        assert waiting.result(30) == 3

    assert len(calls) == 1


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_age_is_by_the_databases_clock():
    """Seven days ago, give or take what two clocks of one machine differ."""
    assert abs(datetime.now(UTC) - timedelta(days=7) - cutoff("default", timedelta(days=7))) < (
        timedelta(seconds=5)
    )
