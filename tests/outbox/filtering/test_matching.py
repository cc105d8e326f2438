"""Patterns that are made to be slow."""

import time

import pytest
from django.db import connection
from django.utils import timezone

from inbox.models import Receipt
from outbox.filtering.qualifiers import select
from outbox.message.patterns import matches

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
LONG = ".".join("ab" for _ in range(85))


def receipts(*types: str) -> None:
    Receipt.objects.bulk_create(
        Receipt(handler="h", source="/s", message_id=str(at), type=text, changed=timezone.now())
        for at, text in enumerate(types)
    )


@pytest.mark.parametrize(
    "pattern",
    ["#.ab.#.ab.#.ab.#.ab.#.x", "*.#.*.#.*.#.*.#.*.#.x", "#.#.#.#.#.x", "#.*.#.*.#.*.x.#"],
)
def test_a_hostile_pattern_is_compared_in_time(pattern: str) -> None:
    """However often something could be tried anew; on every database."""
    receipts(*[LONG] * 1_000, f"{LONG[:-3]}.x")
    found = select(Receipt, f"type:{pattern}", "default").of(Receipt.objects.all())
    started = time.monotonic()
    assert found.count() == matches(pattern, f"{LONG[:-3]}.x")
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("pattern", ["#", "*", "a.*", "a.#", "#.b", "a.#.b", "*.b", "a.*.b.#"])
def test_a_pattern_selects_the_same_on_every_database(pattern: str) -> None:
    """What matches() says; all else is what its negation selects."""
    types = ["a", "b", "a.b", "a.c.b", "a.c.b.d", "c", "ab", "a.b.c.d", "A.b"]
    receipts(*types)
    rows = Receipt.objects.all()
    chosen = select(Receipt, f"type:{pattern}", "default").of(rows).values_list("type", flat=True)
    others = select(Receipt, f"-type:{pattern}", "default").of(rows).values_list("type", flat=True)
    assert sorted(chosen) == sorted(each for each in types if matches(pattern, each))
    assert sorted([*chosen, *others]) == sorted(types), connection.vendor
