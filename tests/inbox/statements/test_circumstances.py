"""Statements where something is not as it was: settings, receipts, and who answers."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction
from django.test import override_settings

from inbox.conf import inbox_settings
from inbox.models import Receipt
from inbox.statements.answering import answer
from outbox.message.envelope import Envelope
from outbox.message.ids import uuid7_text
from outbox.message.requests import address_of
from outbox.models import Break, Reconciliation, ToState
from outbox.statements import exchange, wire
from outbox.statements.buckets import HOUR, MINUTE, SECOND, moment
from outbox.statements.conf import peers
from outbox.statements.rounds import Rounds
from outbox.statements.topics import Topic
from outbox.statements.wire import Answer, Statement
from tests.inbox.statements.support import GROUP, NOW, Both, breaks, emitted, id_at, reconciling
from tests.inbox.support import HAPPENED, Handling, receive

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]


@pytest.fixture
def both(handling: Handling) -> Iterator[Both]:
    """A sender and a group, with a handler for the event of the test app."""
    handling()
    with reconciling() as found:
        found.round()
        Reconciliation.objects.update(stated=NOW + 60 * MINUTE, closed=NOW + 60 * MINUTE)
        yield found


def with_buckets_of(seconds: int) -> Any:
    peer = {"TYPES": ["tests.#"], "GRACE": timedelta(0), "BUCKET": timedelta(seconds=seconds)}
    return override_settings(RECONCILE={GROUP: peer})


def keeping_receipts(age: timedelta) -> Any:
    return override_settings(INBOX={**getattr(settings, "INBOX", {}), "RETENTION": age})


class TestAnotherBucket:
    """BUCKET is changed while statements are under way."""

    @pytest.mark.parametrize("seconds", [1, 20, 120, 1800, 3600])
    def test_what_was_noted_is_stated_as_it_is_now(self, both: Both, seconds: int) -> None:
        """The group would refuse buckets of another width, and be asked again and again."""
        sent = emitted(NOW + MINUTE, NOW + 3 * MINUTE)
        both.lost = {sent[1].id}
        both.settle()
        Reconciliation.objects.update(stated=NOW + 5 * MINUTE, closed=NOW + 5 * MINUTE)
        for since in (NOW + MINUTE, NOW + 3 * MINUTE):
            ToState.objects.create(group=GROUP, since=since, until=since + MINUTE, width=MINUTE)

        with with_buckets_of(seconds):
            for _ in range(3):
                both.round()
            assert breaks() == {"missing": [sent[1].id]}
        assert not ToState.objects.exists()
        assert not Receipt.objects.exclude(state="processed").exists()

    def test_looking_again_is_in_whole_buckets(self, both: Both) -> None:
        """Where the last ones have ended in the middle of a new one."""
        sent = emitted(NOW + 4 * MINUTE)
        both.lost = {sent[0].id}
        both.settle()
        Reconciliation.objects.update(stated=NOW + 5 * MINUTE, closed=NOW + 5 * MINUTE)

        with with_buckets_of(120):
            both.round(NOW)
            both.round(NOW)
            assert breaks() == {"missing": [sent[0].id]}
        assert not Receipt.objects.exclude(state="processed").exists()


def test_an_answer_that_takes_long_counts(both: Both) -> None:
    """Also if it was asked again before that: else a slow group would never have answered."""
    sent = emitted(NOW)
    both.lost = {sent[0].id}
    both.settle()
    with transaction.atomic():
        exchange.ask_since(GROUP, peers()[GROUP], NOW, "default")
        exchange.run_round(GROUP, peers()[GROUP], "default")
    first = set(ToState.objects.values_list("message_id", flat=True))
    assert None not in first
    ToState.objects.update(sent_at=datetime.now(UTC) - timedelta(days=1))
    with transaction.atomic():
        exchange.run_round(GROUP, peers()[GROUP], "default")
    second = set(ToState.objects.values_list("message_id", flat=True))
    assert not first & second

    both.lost |= set(map(str, second))
    both.settle()

    assert breaks("in_transit") == {"missing": [sent[0].id]}
    assert not ToState.objects.exists()


class TestForgotten:
    """Receipts are kept for less long than messages."""

    def test_what_is_older_than_receipts_are_kept_is_not_missing(
        self, both: Both, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It would be published again, and handled twice."""
        emitted(NOW, NOW + 30 * MINUTE)
        both.settle()
        Receipt.objects.filter(handler="record").delete()  # as housekeeping does

        with keeping_receipts(timedelta(hours=2)):
            assert both.compare(NOW - 30 * HOUR) == {}
        assert not Break.objects.exists()
        assert "keeps no receipts" in caplog.text

    def test_what_is_younger_is(self, both: Both) -> None:
        """Days and hours in which only a part is forgotten are looked into."""
        kept = datetime.now(UTC) - moment(NOW - HOUR)
        sent = emitted(NOW - 40 * HOUR, NOW + MINUTE)
        both.lost = {each.id for each in sent}
        both.settle()

        with keeping_receipts(kept / 0.9):
            assert both.compare(NOW - 48 * HOUR) == {"missing": [sent[1].id]}

    def test_a_break_that_is_forgotten_is_not_repaired(self, both: Both) -> None:
        """Nobody knows whether it came."""
        sent = emitted(NOW)
        both.lost = {sent[0].id}
        both.settle()
        both.compare()

        with keeping_receipts(timedelta(hours=2)):
            assert both.compare() == {"missing": [sent[0].id]}

    def test_all_is_told_where_all_is_kept(self, both: Both) -> None:
        sent = emitted(NOW)
        both.lost = {sent[0].id}
        both.settle()
        with override_settings(INBOX={**getattr(settings, "INBOX", {}), "RETENTION": None}):
            assert both.compare() == {"missing": [sent[0].id]}


class TestAnswersOfOthers:
    """Whoever has seen the id of a statement can answer it."""

    def ask(self) -> str:
        """State an hour; return the id of the statement."""
        with transaction.atomic():
            exchange.ask_since(GROUP, peers()[GROUP], NOW, "default")
            exchange.run_round(GROUP, peers()[GROUP], "default")
        return str(ToState.objects.get(since=NOW, until=NOW + HOUR).message_id)

    def answer(self, to: str, **about: Any) -> None:
        told: dict[str, Any] = {"differing": [], "listings": [], "twice": {}}
        body = Answer(
            group=GROUP,
            to=to,
            until=NOW + HOUR,
            **(told | {"topics": [Topic("#", 0)], "handles": ["#"]} | about),
        )
        message = Envelope(
            id=uuid7_text(),
            source="/stranger",
            type=wire.TYPE,
            content_type=wire.CONTENT_TYPE,
            data=wire.encode(body),
            topic=address_of(inbox_settings().group),
            time=datetime.now(UTC),
        )
        receive(message, group=inbox_settings().group)

    def test_what_nobody_asked_for_is_never_stated(self, both: Both) -> None:
        """Not a time that no id can have, either, of which all rounds from then on would fail."""
        emitted(NOW)
        both.settle()
        asked = [(NOW + number * MINUTE, HAPPENED) for number in range(25)]
        others = [(-MINUTE, HAPPENED), ((1 << 48) + MINUTE, HAPPENED), (NOW, "a(b"), (NOW + 1, "a")]

        self.answer(self.ask(), differing=[*asked, *others])
        assert ToState.objects.filter(type=HAPPENED).count() == 25
        assert not ToState.objects.filter(since__gt=NOW + 24 * HOUR).exists()
        Reconciliation.objects.update(next_at=moment(NOW))
        assert Rounds().turn() == 1
        both.settle()

        assert not ToState.objects.exists()
        assert not Receipt.objects.exclude(state="processed").exists()
        assert breaks() == breaks("in_transit") == {}

    def test_what_cannot_be_stored_is_dropped(self, both: Both) -> None:
        """And the rest of the answer is taken."""
        sent = emitted(NOW, NOW + 1)
        both.lost = {sent[0].id}
        both.settle()
        ids = {"x" * 300: "settled", id_at(NOW, 99): "a" * 30, sent[1].id: "settled"}
        listing = wire.Listing(type=HAPPENED, since=NOW, until=NOW + MINUTE, ids=ids)
        self.answer(
            self.ask(), differing=[(NOW, HAPPENED)], listings=[listing], twice={"a\x00": "b"}
        )

        assert breaks("in_transit") == {"missing": [sent[0].id]}

    @pytest.mark.parametrize(
        "about",
        [
            {"topics": [Topic("#", 1 << 70)]},
            {"topics": [Topic("#", -1)]},
            {"topics": [Topic("#", 0, 1 << 63)]},
            {"handles": ["a"] * 2000},
        ],
    )
    def test_what_no_group_says_is_no_answer(
        self, both: Both, about: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.CRITICAL)
        self.answer(self.ask(), **about)
        mine = Receipt.objects.filter(handler__startswith="outbox.statements")
        assert mine.get(source="/stranger").reason == "rejected"


def test_a_statement_of_a_stranger_takes_no_longer_than_any(both: Both) -> None:
    """However much it says: what there is no time for is stated again, in smaller parts."""
    totals = [[NOW, f"tests.n{number}", 1, "00"] for number in range(30_000)]
    body = {
        "role": "statement",
        "group": GROUP,
        "address": address_of("stranger"),
        "since": NOW,
        "until": NOW + SECOND,
        "width": SECOND,
        "bucket": MINUTE,
        "patterns": ["#"],
        "totals": totals,
    }
    statement = wire.decode(json.dumps(body).encode())
    assert isinstance(statement, Statement)
    message = Envelope(id="x", source="/stranger", type=wire.TYPE, data=b"")

    found = answer(statement, message, using="default")

    assert len(found.differing) == 30_000
    assert len(found.listings) <= 20_000
