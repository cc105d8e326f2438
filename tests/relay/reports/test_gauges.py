"""What the relays owe, in numbers."""

from collections.abc import Iterator

import pytest
from django.test import override_settings

from relay.models import Parked
from relay.reports import gauges
from tests.relay.test_retention import commit, park, relays

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def one_relay() -> Iterator[None]:
    with override_settings(OUTBOX={"LANES": 1}, RELAYS=relays("mine")):
        yield


def read() -> dict[tuple[str, ...], float]:
    return {(each.gauge.name, *each.labels): each.value for each in gauges.read("default")}


def test_what_a_relay_owes() -> None:
    """Of each lane, with what is parked."""
    park()
    commit(2)
    values = read()

    assert values["relay_pending_messages", "mine", "0"] == 2
    assert values["relay_parked_messages", "mine", "0", "parked"] == 1
    assert values["relay_parked_messages", "mine", "0", "waiting"] == 2
    assert values["relay_parked_messages", "mine", "0", "dead"] == 0
    assert ("relay_checkpoint_age_seconds", "mine", "0") in values


def test_a_relay_that_was_renamed_is_not_late_for_ever() -> None:
    """Its checkpoints stay, and age; only what it has parked is still owed."""
    park()
    commit(2)
    with override_settings(RELAYS=relays("renamed")):
        values = read()

    assert {name for name, relay, *_ in values if relay == "mine"} == {"relay_parked_messages"}
    assert values["relay_parked_messages", "mine", "0", "waiting"] == 2
    assert ("relay_pending_messages", "renamed", "0") in values


def test_what_is_parked_is_counted_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each relay, so that none hides another's."""
    park()
    for row in Parked.objects.all():
        Parked.objects.create(
            **{
                field.name: getattr(row, field.name)
                for field in Parked._meta.fields
                if field.name not in ("id", "relay")
            },
            relay="other",
        )
    monkeypatch.setattr(gauges, "COUNTED", 1)
    with override_settings(RELAYS=relays("mine", "other")):
        values = read()

    for relay in ("mine", "other"):
        states = ("parked", "waiting", "dead")
        assert sum(values["relay_parked_messages", relay, "0", each] for each in states) == 2
