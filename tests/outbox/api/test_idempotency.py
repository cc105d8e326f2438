"""The Idempotency-Key, case by case as draft-ietf-httpapi-idempotency-key-header has them."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from outbox.extensions.pruning import pruners
from outbox.models import Message, Request, Scheduled, Settlement
from outbox.testing import drain
from tests.kit.waiting import until
from tests.outbox.api.quoting import Mapped
from tests.outbox.api.test_accepted import KEY, Visitor, problem

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_quoting"),
]


@pytest.fixture
def visitor() -> Visitor:
    return Visitor("visitor")


def ask(visitor: Visitor, key: str, basket: int = 1, where: str = "quotes") -> Any:
    return visitor.ask({"basket_id": basket}, where, **{KEY: key})


def test_first_time_request(visitor: Visitor) -> None:
    """2.6: the server processes it as usual."""
    assert ask(visitor, '"8e03978e-40d5-43dd-bc93-6894a57f9324"').status_code == 202
    assert Request.objects.count() == 1


def test_duplicate_request_before_it_is_completed(visitor: Visitor) -> None:
    """2.6 wants a conflict for what is in work; here that it was accepted is done, so it is told.

    The very same answer, down to its ETag, and nothing is asked again.
    """
    first, again = ask(visitor, '"k"'), ask(visitor, '"k"')
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert [first[name] for name in ("Location", "ETag")] == [
        again[name] for name in ("Location", "ETag")
    ]
    assert Message.objects.count() == Scheduled.objects.count() == Request.objects.count() == 1


def test_duplicate_request_after_it_is_completed(visitor: Visitor) -> None:
    """2.6: the result of the operation that was completed."""
    first = ask(visitor, '"k"', 4)
    drain()
    again = ask(visitor, '"k"', 4)
    assert again.status_code == 200
    assert again["Location"] == first["Location"]
    assert again.json()["result"]["data"] == {"amount": 8}
    assert again.json() == visitor.get(first["Location"]).json()


def test_duplicate_request_after_an_error(visitor: Visitor) -> None:
    """2.6: success or an error, it is told as it ended; what was refused is not remembered."""
    first = ask(visitor, '"k"')
    visitor.cancel(first["Location"])
    assert ask(visitor, '"k"').json()["state"] == "cancelled"

    problem(visitor.ask({"basket_id": "x"}, **{KEY: '"l"'}), 400, "invalid")
    assert ask(visitor, '"l"').status_code == 202


def test_key_missing(visitor: Visitor) -> None:
    """2.7: 400 where it is required, as a problem that says what to do."""
    said = problem(visitor.ask(where="sure"), 400, "key-missing")
    assert said["title"] == "Idempotency-Key is missing"
    assert KEY in said["detail"]
    assert not Message.objects.exists()
    assert ask(visitor, '"k"', where="sure").status_code == 202
    assert visitor.ask().status_code == 202  # where it is not


def test_key_reused_with_a_different_payload(visitor: Visitor) -> None:
    """2.7: 422, and nothing is asked."""
    ask(visitor, '"k"', 1)
    said = problem(ask(visitor, '"k"', 2), 422, "key-used")
    assert said["title"] == "Idempotency-Key is already used"
    assert Request.objects.count() == 1


def test_the_same_payload_in_another_form(visitor: Visitor) -> None:
    """2.4: the fingerprint is of what is asked, however that is written."""
    first = visitor.ask(b'{"basket_id":1,"note":"x"}', **{KEY: '"k"'})
    again = visitor.ask(b'{ "note": "x", "basket_id": 1 }', **{KEY: "k"})
    assert first.json() == again.json()


def test_a_key_is_one_clients(visitor: Visitor) -> None:
    """5: another one's key says nothing, not even that it is there."""
    first = ask(visitor, '"k"', 1)
    other = ask(Visitor("other"), '"k"', 2)
    assert other.status_code == 202
    assert other.json()["id"] != first.json()["id"]


@pytest.mark.parametrize("key", ["", '""', "a" * 201, "é", '"a', "a, b", "\x7f", "a\x00b"])
def test_a_malformed_key(visitor: Visitor, key: str) -> None:
    """2.1: it is one string; what is none is refused before anything is looked up."""
    said = problem(ask(visitor, key), 400, "invalid")
    assert "200 characters" in said["errors"][KEY][0]
    assert not Message.objects.exists()


def test_key_expired(visitor: Visitor) -> None:
    """2.3: a key is kept as long as its request, and not longer."""
    first = ask(visitor, '"k"')
    drain()
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    Settlement.objects.update(settled_at=long_ago)
    [pruner] = [each for each in pruners() if each.name == "requests"]
    pruner.prune("default", before=long_ago + timedelta(days=1), limit=10)

    problem(visitor.get(first["Location"]), 404, "not-found")
    assert ask(visitor, '"k"', 2).json()["id"] != first.json()["id"]


def test_a_key_is_any_text(visitor: Visitor) -> None:
    """2.2: it is the client's, and means nothing here."""
    assert ask(visitor, "'; DROP TABLE x; --").status_code == 202
    assert ask(visitor, '"../..%00{}\\""').status_code == 202


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has one writer")
@pytest.mark.parametrize("baskets", [(1, 1), (1, 2)], ids=["same body", "other body"])
def test_concurrent_requests(visitor: Visitor, baskets: tuple[int, int]) -> None:
    """2.6: one of two at once is asked, the other waits for it, and is told of the same one."""
    barrier, found = threading.Barrier(2), []

    def run(basket: int) -> None:
        try:
            barrier.wait(20)
            found.append(ask(visitor, '"k"', basket))
        finally:
            connection.close()

    for turn in range(5):
        Request.objects.all().delete()
        found.clear()
        threads = [threading.Thread(target=run, args=[each]) for each in baskets]
        for each in threads:
            each.start()
        for each in threads:
            each.join(30)
        assert Request.objects.count() == 1, turn
        if baskets[0] == baskets[1]:
            assert [each.status_code for each in found] == [202, 202]
            assert found[0].json() == found[1].json()
        else:
            assert sorted(each.status_code for each in found) == [202, 422]


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has one writer")
def test_who_comes_second_waits_for_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What belongs to the request is written once, while the other is at its row already."""
    called: list[str] = []

    def accepted(view: Mapped, asked: Any, request: Any) -> None:
        called.append(asked.id)
        until(others_wait)

    monkeypatch.setattr(Mapped, "accepted", accepted)
    found = []

    def run() -> None:
        try:
            about = {"X_Visitor": "ann", KEY: "k"}
            found.append(Visitor().ask({"number": 7}, "mapped", **about))
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert [each.status_code for each in found] == [202, 202]
    assert {each.json()["id"] for each in found} == {called[0]}
    assert len(called) == 1


def others_wait() -> bool:
    """Tell whether somebody waits for a lock in the database of the tests."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return int(cursor.fetchone()[0]) > 0
