"""Business totals: what was emitted and what is in the books is compared, bucket by bucket."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from inbox.statements import answering
from outbox import reconcile
from outbox.doctor import examine
from outbox.exceptions import UndecodableMessage
from outbox.models import Break, Reconciliation
from outbox.statements import measures, wire
from outbox.statements.buckets import MINUTE
from outbox.statements.measures import ERROR, Measured, Window
from outbox.statements.mending import accept
from tests.inbox.statements.support import GROUP, NOW, Both, breaks, emitted, reconciling
from tests.inbox.support import HAPPENED, Handling
from tests.kit.admin_pages import detail_url, page, shown
from tests.kit.api import Caller

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]


@pytest.fixture(autouse=True)
def _own_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "measures", {})
    monkeypatch.setattr(measures, "compares", {})
    monkeypatch.setattr(answering, "compares", measures.compares)


@pytest.fixture
def both(handling: Handling) -> Iterator[Both]:
    handling()
    with reconciling() as found:
        found.round()
        Reconciliation.objects.update(stated=NOW + 60 * MINUTE, closed=NOW + 60 * MINUTE)
        yield found


@pytest.fixture
def booked() -> dict[str, Decimal]:
    """Both sides' declarations: each event is worth 1 + its number; this is what the group has."""
    books: dict[str, Decimal] = {}

    @reconcile.measure(HAPPENED)
    def amount(event: Any) -> dict[str, Decimal]:
        return {"EUR": Decimal(1 + event.number)}

    @reconcile.compare(HAPPENED)
    def invoiced(window: Window) -> dict[str, Decimal]:
        found = [books[each] for each in window.message_ids if each in books]
        return {"EUR": sum(found, Decimal(0))}

    return books


def book(books: dict[str, Decimal], *times: int) -> list[str]:
    sent = emitted(*times)
    for number, each in enumerate(sent):
        books[each.id] = Decimal(f"{1 + number}.00")
    return [each.id for each in sent]


def test_equal_totals_are_no_news(both: Both, booked: dict[str, Decimal]) -> None:
    """However they are written: 3 and 3.00 are the same, 0 is nothing."""
    book(booked, NOW, NOW + 1, NOW + MINUTE)
    both.settle()
    assert both.compare() == {}
    assert not Break.objects.exists()


def test_other_totals_are_a_break_with_both_sides(
    both: Both, booked: dict[str, Decimal], client: Client
) -> None:
    """Only in the bucket where they are; mended in the books, it is repaired."""
    ids = book(booked, NOW, NOW + 1, NOW + MINUTE)
    booked[ids[1]] -= Decimal("0.50")
    both.settle()

    both.round()
    assert list(breaks("in_transit")) == ["measure"]
    both.round()
    found = Break.objects.get()
    assert (found.state, found.start, found.type) == ("open", NOW, HAPPENED)
    assert found.figures == {"here": {"EUR": "3"}, "there": {"EUR": "2.5"}}
    assert "outbox.breaks" in {each.id for each in examine("default")}
    client.force_login(User.objects.create_superuser("root"))
    told = shown(page(client, detail_url(found)))
    assert "EUR 3 2.5" in " ".join(told.split())
    [item] = Caller("anna", "django_outbox.view_break").get("breaks")["results"]
    assert item["figures"]["there"] == {"EUR": "2.5"}

    booked[ids[1]] += Decimal("0.50")
    both.compare()
    assert breaks() == {}
    assert list(breaks("repaired")) == ["measure"]


def test_other_numbers_are_another_break(both: Both, booked: dict[str, Decimal]) -> None:
    """What was accepted is these numbers, and no others."""
    ids = book(booked, NOW)
    booked[ids[0]] = Decimal(0)
    both.settle()
    both.compare()
    accept([Break.objects.get().pk], by="anna", using="default", reason="a gift")
    both.compare()
    assert breaks() == {}

    booked[ids[0]] = Decimal(700)
    both.compare()
    assert len(breaks()["measure"]) == len(breaks("accepted")["measure"]) == 1


def test_where_messages_differ_totals_are_not_compared(
    both: Both, booked: dict[str, Decimal]
) -> None:
    """What is missing there is missing in its books as well."""
    ids = book(booked, NOW, NOW + MINUTE)
    both.lost = {ids[0]}
    both.settle()
    assert both.compare() == {"missing": [ids[0]]}


def test_only_what_both_sides_declare_is_compared(both: Both) -> None:
    """A measure without books is no break."""

    @reconcile.measure(HAPPENED)
    def amount(event: Any) -> dict[str, int]:
        return {"pieces": 1}

    emitted(NOW)
    both.settle()
    assert both.compare() == {}


def test_what_fails_is_a_difference_too(both: Both, booked: dict[str, Decimal]) -> None:
    """On either side: it is seen, and stops nothing else."""

    @reconcile.compare(HAPPENED)
    def broken(window: Window) -> dict[str, int]:
        raise LookupError("no such book")

    ids = book(booked, NOW, NOW + MINUTE)
    both.lost = {ids[1]}
    both.settle()
    assert sorted(both.compare()) == ["measure", "missing"]
    found = Break.objects.get(kind="measure")
    assert found.figures is not None
    assert found.figures["there"] == {ERROR: "LookupError"}


def test_a_function_gets_a_bucket(both: Both, booked: dict[str, Decimal]) -> None:
    """With its ends, whose messages they are, and those that are settled."""
    windows: list[Window] = []

    @reconcile.compare(HAPPENED)
    def look(window: Window) -> dict[str, int]:
        windows.append(window)
        return {}

    ids = book(booked, NOW, NOW + 1)
    both.settle()
    both.compare()
    assert list(windows[0].message_ids) == ids
    assert (windows[0].until - windows[0].since).total_seconds() == 60
    assert windows[0].type == HAPPENED


def test_a_statement_adds_up_so_many(
    both: Both, booked: dict[str, Decimal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is beyond that comes with the next."""
    monkeypatch.setattr(measures, "MOST_MEASURED", 3)
    ids = book(booked, *[NOW + number * MINUTE for number in range(8)], NOW + 7 * MINUTE + 1)
    booked[ids[8]] = Decimal(0)
    both.settle()
    assert list(both.compare()) == ["measure"]
    assert Break.objects.get().start == NOW + 7 * MINUTE


@pytest.mark.parametrize("number", [1.5, True, "3", Decimal("NaN")])
def test_what_is_no_number_is_refused(number: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        measures.written({"EUR": number})


def test_numbers_have_one_form() -> None:
    assert measures.written({"b": Decimal("10.50"), "a": 100, "c": Decimal("0.00")}) == {
        "a": "100",
        "b": "10.5",
    }
    assert measures.written({"a": Decimal("1E+3")}) == {"a": "1000"}


def test_a_hostile_answer_is_refused() -> None:
    """As one with texts that are too long."""
    body = wire.Statement(
        group=GROUP,
        address="outbox.replies.g",
        since=0,
        until=0,
        width=MINUTE,
        bucket=MINUTE,
        patterns=[],
        totals=[],
        measured=[Measured(0, "a.b", {"x": "1" * 1000})],
    )
    with pytest.raises(UndecodableMessage, match="business totals"):
        wire.decode(wire.encode(body))


def test_a_mutant_that_compares_whatever_messages_there_are_is_caught(
    both: Both, booked: dict[str, Decimal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "set", lambda differing: set(), raising=False)
    with pytest.raises(AssertionError):
        test_where_messages_differ_totals_are_not_compared(both, booked)
