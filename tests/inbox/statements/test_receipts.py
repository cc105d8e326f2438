"""Totals of what a group has had: the quick way and the thorough one tell the same."""

import random

import pytest
from django.db import connection

from inbox.models import DeadLetter, Receipt
from inbox.statements import receipts
from inbox.statements.receipts import Had
from outbox.statements.buckets import MINUTE
from outbox.statements.totals import Total
from tests.inbox.statements.support import NOW, id_at

pytestmark = pytest.mark.django_db
HANDLERS = ["a", "b"]


def receipt(
    message_id: str, handler: str = "a", state: str = "processed", type_: str = "x"
) -> None:
    Receipt.objects.create(
        handler=handler, source="/s", message_id=message_id, type=type_, state=state
    )


def had(until: int = NOW + 10 * MINUTE) -> Had:
    return Had(since=NOW, until=until, source="/s", types=["#"], group="g", handlers=HANDLERS)


def both_ways(monkeypatch: pytest.MonkeyPatch) -> list[Total]:
    """Return the totals, which must be the same in both ways."""
    quick = receipts.totals(had(), MINUTE, "default")
    monkeypatch.setattr(receipts, "MOST_BUCKETS", 0)
    assert receipts.totals(had(), MINUTE, "default") == quick
    return quick


def test_each_message_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever number of handlers; not while one of them is not done, in no other bucket."""
    for number, states in enumerate(
        (["processed", "processed"], ["processed", "retrying"], ["skipped"], ["dead"])
    ):
        for handler, state in zip(HANDLERS, states, strict=False):
            receipt(id_at(NOW + number, number), handler, state)
    receipt(id_at(NOW + MINUTE, 7))
    receipt(id_at(NOW + 10 * MINUTE, 8))
    found = both_ways(monkeypatch)
    assert [(each.start, each.count) for each in found] == [(NOW, 2), (NOW + MINUTE, 1)]


@pytest.mark.parametrize(
    "odd",
    ["{}x", "{}-", "foreign"],
    ids=["too long", "a dash more", "other"],
)
def test_other_forms_of_ids_are_left_out(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are no UUIDv7; those beside them count."""
    good = id_at(NOW, 1)
    receipt(good)
    receipt(odd.format(good) if "{" in odd else f"{good[:14]}{odd}")
    receipt(good.replace("-7", "-4", 1))
    receipt(good[:-1].upper() + "g")
    assert [each.count for each in both_ways(monkeypatch)] == [1]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="one way there")
def test_whatever_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many random rows both ways tell the same."""
    chance = random.Random(14)
    for number in range(400):
        message_id = id_at(NOW + chance.randrange(12 * MINUTE), number)
        kind = chance.choice("xyz")
        for handler in chance.sample(HANDLERS, chance.choice((1, 1, 2))):
            state = chance.choices(("processed", "skipped", "dead", "waiting"), (90, 5, 2, 1))[0]
            receipt(message_id, handler, state, kind)
        if chance.random() < 0.03:
            DeadLetter.objects.create(
                group="g",
                source="/s",
                message_id=message_id,
                type=kind,
                reason="unknown_type",
                state=chance.choice(("dead", "discarded")),
                digest=f"{number}",
                body=b"",
            )
    found = both_ways(monkeypatch)
    assert len(found) == 30
