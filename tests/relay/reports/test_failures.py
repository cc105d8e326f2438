"""What brokers have refused, grouped; and a group that is tried again, one first."""

from collections.abc import Collection, Sequence
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from outbox.extensions.failures import Came
from outbox.failures import runs
from outbox.failures.grouping import find
from outbox.failures.runs import Run, Standing
from outbox.models import DoneOnce
from outbox.once import StillBegun
from relay.brokers.base import Status
from relay.models import Parked
from relay.parking.people import discard, requeue
from relay.reports import failures
from relay.reports.failures import ParkedFailures
from tests.relay.parking.test_store import Line, by_state, commit, park

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.usefixtures("one_lane"),
    pytest.mark.django_db(transaction=True),
]
SOURCE = ParkedFailures()


def retry(numbers: Sequence[int]) -> Collection[int]:
    return requeue(Parked.objects.filter(pk__in=numbers))


def begun() -> Run:
    [only] = find(SOURCE, "default").groups
    run = runs.begin(
        SOURCE, "default", lambda: find(SOURCE, "default"), only.fingerprint, lambda _: "what"
    )
    assert run is not None
    return run


def step(run: Run) -> Run:
    return runs.go_on(run, SOURCE, "default", retry)


def came(run: Run) -> Came:
    return SOURCE.came(run.pending, "default")


def test_parked_messages_are_grouped_by_relay_topic_reason_and_text() -> None:
    """What waits behind one of them has not failed."""
    line = Line()
    for number, key in enumerate("abc"):
        park(line, number, number + 10, key=key)
    Parked.objects.filter(key="a", state="parked").update(error="queue 1 is full")
    Parked.objects.filter(key="b", state="parked").update(error="queue 2 is full", state="dead")

    groups = find(SOURCE, "default").groups

    assert [each.count for each in groups] == [1, 2]
    assert groups[1].message == "queue … is full"
    assert groups[1].states == {"parked": 1, "dead": 1}
    assert groups[1].newest.by == "test → tests.counted"
    assert groups[1].newest.error_class == "unroutable"


def test_there_may_be_more_than_are_read() -> None:
    """That is said."""
    line = Line()
    for number, key in enumerate("abc"):
        park(line, number, key=key)

    found = find(SOURCE, "default", limit=2)
    assert (found.cut, found.groups[0].count) == (True, 2)
    assert not find(SOURCE, "default", limit=3).cut


def test_the_rest_is_tried_when_the_first_one_is_published() -> None:
    """What is parked after the beginning is none of it."""
    line = Line()
    for number, key in enumerate("abc"):
        park(line, number, key=key)
    run = step(begun())
    assert run.standing(came(run)) is Standing.WAITING
    line.broker.refuse.clear()
    park(line, 3, key="d")

    assert run.standing(came(run)) is Standing.READY
    run = step(run)
    assert (run.handled, len(run.pending)) == (1, 2)
    line.drain()

    assert came(run) == Came(handled=2)
    assert run.standing(came(run)) is Standing.OVER
    assert by_state() == {"published": [0, 1, 2], "parked": [3]}


def test_nothing_else_is_tried_if_the_first_one_is_refused_again() -> None:
    """And it is said why."""
    line = Line()
    for number, key in enumerate("ab"):
        park(line, number, key=key)
    run = step(begun())
    line.drain()

    assert (came(run).failed, came(run).error) == (1, "refused by the test")
    assert step(run) == run
    assert Parked.objects.get(key="b").attempts == 1


def refused_later() -> tuple[Run, list[int]]:
    """Begin a run with one that waits behind a first; then the first is given up, the other fails.

    Returns the run after all its steps, and the numbers that were tried.
    """
    line, tried = Line(), []

    def noted(numbers: Sequence[int]) -> Collection[int]:
        tried.extend(numbers)
        return retry(numbers)

    park(line, 0, key="a")
    park(line, 1, key="b")
    park(line, 2, key="b")
    early, first, behind = Parked.objects.order_by("pk")
    park(line, 3, key="c")
    run = begun()
    assert behind.state == "waiting"
    discard(Parked.objects.filter(pk=first.pk), by="somebody")
    line.drain()  # what waited is refused now: after the beginning, at a number within
    assert Parked.objects.get(pk=behind.pk).attempts == 1
    assert Parked.objects.get(pk=early.pk).attempts == 1

    line.broker.refuse.clear()
    for _ in range(3):
        run = runs.go_on(run, SOURCE, "default", noted)
        line.drain()
    return run, [tried.count(row.pk) for row in (early, behind)]


def test_what_is_refused_after_the_beginning_is_none_of_it() -> None:
    """Though it was parked before, at a number within the run."""
    run, (early, behind) = refused_later()
    assert run.standing(came(run)) is Standing.OVER
    assert (early, behind) == (1, 0)


def test_a_run_by_when_they_were_parked_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would sweep in what was refused later."""
    whole = failures._of_row

    def by_parking(*values: Any) -> Any:
        return whole(*values[:-1], None)

    monkeypatch.setattr(failures, "_of_row", by_parking)
    assert refused_later()[1] == [1, 1]


def test_each_step_is_done_once() -> None:
    """Whoever asks again gets what came of it, and tries nothing."""
    line = Line()
    for number, key in enumerate("abcd"):
        park(line, number, key=key)
    begin = begun()
    first = step(begin)
    assert step(begin) == first
    assert [row.attempts for row in Parked.objects.order_by("pk")] == [0, 1, 1, 1]
    assert DoneOnce.objects.count() == 1

    DoneOnce.objects.update(answer=None)  # its process has died within
    with pytest.raises(StillBegun):
        step(begin)
    assert [row.attempts for row in Parked.objects.order_by("pk")] == [0, 1, 1, 1]


def test_a_step_that_fails_can_be_asked_for_again() -> None:
    """It was not done."""
    park(Line(), 0)
    begin = begun()

    def fail(numbers: Sequence[int]) -> Collection[int]:
        raise LookupError(numbers)

    with pytest.raises(LookupError):
        runs.go_on(begin, SOURCE, "default", fail)
    assert step(begin).steps == 1


def test_what_waits_behind_another_has_neither_failed_nor_been_tried() -> None:
    """It was held meanwhile."""
    line = Line()
    park(line, 0)
    run = step(begun())
    Parked.objects.update(state="waiting", reason=Status.HELD.value)

    assert came(run) == Came(behind=1)


def test_an_example_has_no_secrets() -> None:
    """What is gone has none."""
    park(Line(), 0)
    Parked.objects.update(error="refused: password=hunter2")

    found = SOURCE.example(Parked.objects.get().pk, "default")
    assert found is not None
    assert "hunter2" not in found.error
    assert SOURCE.example(0, "default") is None


@pytest.mark.skipif(connection.vendor != "postgresql", reason="about PostgreSQL's plans")
def test_they_are_found_by_an_index() -> None:
    """Beside any number of those that were published in the end."""
    park(Line(), 0)
    commit(1)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_relay_parked (relay, lane, position, message_id, type, topic, key, "
            "state, reason, error, attempts, parked_at, settled_by) SELECT 'test', 0, n, "
            "gen_random_uuid(), 't', 't', 'k', 'published', 'x', '', 1, now(), 'x' "
            "FROM generate_series(10000000, 10020000) AS n"
        )
        cursor.execute("ANALYZE django_relay_parked")
        with CaptureQueriesContext(connection) as captured:
            assert len(SOURCE.newest("default").failures) == 1
            assert len(SOURCE.between(0, 10**9, most=10, using="default")) == 1
        for statement in [each["sql"] for each in captured.captured_queries]:
            cursor.execute(f"EXPLAIN {statement}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "relay_parked_" in plan, plan
            assert "Seq Scan" not in plan, plan
