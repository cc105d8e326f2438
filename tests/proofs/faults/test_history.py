"""The judge convicts each kind of violation, and nobody else."""

from dataclasses import replace

import pytest

from tests.proofs.faults.history import Counts, Effect, Event, History, UnusableHistory, check
from tests.proofs.faults.service.vocabulary import CHANGED, HANDLERS, HOPPED

VERSIONS = range(1, 8)


def event(version: int, key: str = "key-0") -> Event:
    return Event(CHANGED, key, version, f"{key}/{version}")


COMMITTED = [event(version) for version in VERSIONS]
HOP = Event(HOPPED, "key-0/5", 0, "key-0/5")
CLEAN = History(
    committed=COMMITTED,
    published=[*COMMITTED, HOP],
    effects=[Effect(HANDLERS[e.kind], e.tag) for e in (*COMMITTED, HOP)],
    writers=Counts(committed=7, in_doubt=0),
)


def kinds(history: History) -> list[str]:
    return list(check(history).violations)


def test_a_clean_history_is_acquitted():
    """Everything once and in order is no violation."""
    report = check(CLEAN)

    assert report.clean
    assert (report.events, report.repeated) == (8, 0)
    assert str(report) == "clean"


def test_a_missing_effect_is_lost():
    """An event that was published and never handled is lost."""
    assert kinds(replace(CLEAN, effects=CLEAN.effects[1:])) == ["lost"]


def test_a_missing_effect_of_a_hop_is_lost():
    """What a handler emitted counts like what a writer emitted."""
    assert kinds(replace(CLEAN, effects=CLEAN.effects[:-1])) == ["lost"]


def test_an_event_that_was_never_published_is_lost():
    """An effect without a message does not make up for the message."""
    assert kinds(replace(CLEAN, published=[*CLEAN.published[:6], HOP])) == ["lost"]


def test_a_second_effect_is_seen():
    """A handler that ran twice is convicted."""
    assert kinds(replace(CLEAN, effects=[*CLEAN.effects, CLEAN.effects[3]])) == ["effects twice"]


def test_a_published_rollback_is_seen():
    """A message whose change did not commit is convicted."""
    message = event(7)._replace(tag="undone")

    assert kinds(replace(CLEAN, published=[*CLEAN.published, message])) == [
        "published though rolled back",
        "out of order",
    ]


def test_an_effect_of_a_rollback_is_seen():
    """An effect whose change did not commit is convicted."""
    effect = Effect(HANDLERS[CHANGED], "undone")

    assert kinds(replace(CLEAN, effects=[*CLEAN.effects, effect])) == [
        "published though rolled back"
    ]


@pytest.mark.parametrize("complete", [True, False])
def test_a_swap_is_out_of_order(complete: bool):
    """Two messages of a key that changed places are convicted, even with gaps in the recording."""
    published = [*COMMITTED[:2], COMMITTED[3], COMMITTED[2], *COMMITTED[4:], HOP]

    assert kinds(replace(CLEAN, published=published, recorded_all=complete)) == ["out of order"]


@pytest.mark.parametrize(
    "order",
    [
        [1, 2, 3, 2, 3, 4, 5, 6, 7],
        [1, 2, 3, 4, 1, 5, 2, 6, 3, 7, 4],
        [1, 2, 3, 4, 5, 6, 7, 1],
    ],
)
def test_repetition_is_not_out_of_order(order: list[int]):
    """What had arrived may come again, also between new messages; it is counted."""
    published = [*(event(version) for version in order), HOP]
    report = check(replace(CLEAN, published=published))

    assert report.clean
    assert report.repeated == len(order) - 7


DISCARDED = COMMITTED[2]
WITHOUT = replace(
    CLEAN,
    published=[e for e in CLEAN.published if e != DISCARDED],
    effects=[e for e in CLEAN.effects if e.tag != DISCARDED.tag],
    discarded=[DISCARDED],
)


def test_what_was_discarded_is_not_lost():
    """What a person gave up is neither published nor done, and its successor follows."""
    report = check(WITHOUT)

    assert report.clean
    assert report.events == 7


def test_nothing_but_what_is_on_record_as_discarded_is_excused():
    """The same history without the record is one of a loss."""
    assert kinds(replace(WITHOUT, discarded=[])) == ["lost", "out of order"]
    assert kinds(replace(WITHOUT, discarded=[COMMITTED[3]])) == [
        "lost",
        "out of order",
        "published though discarded",
    ]


def test_what_a_discarded_event_would_have_caused_is_not_lost():
    """Its handler was not called, so it did not emit anything."""
    cause = COMMITTED[4]
    history = replace(
        CLEAN,
        published=[e for e in CLEAN.published if e.tag != cause.tag],
        effects=[e for e in CLEAN.effects if e.tag != cause.tag],
        discarded=[cause],
    )

    assert check(history).clean


@pytest.mark.parametrize("seen", ["published", "effects"])
def test_a_discarded_event_must_not_appear(seen: str):
    """Once a person was told that it is discarded, nobody hears of it."""
    assert kinds(replace(WITHOUT, **{seen: getattr(CLEAN, seen)}))[-1] == (
        "published though discarded"
    )


def test_discarded_messages_of_no_change_make_a_history_unusable():
    """A record that does not fit excuses nothing."""
    with pytest.raises(UnusableHistory, match="1 discarded"):
        check(replace(CLEAN, discarded=[event(99)]))


def test_keys_do_not_order_each_other():
    """Versions are compared within a key only."""
    other = event(1, "key-1")
    history = replace(
        CLEAN,
        committed=[*COMMITTED, other],
        published=[*CLEAN.published, other],
        effects=[*CLEAN.effects, Effect(HANDLERS[CHANGED], other.tag)],
        writers=Counts(committed=8, in_doubt=0),
    )

    assert check(history).clean


def test_a_gap_in_the_recording_is_forgiven_where_it_is_known():
    """Without a complete recording a missing message proves nothing; a missing effect does."""
    published = [*COMMITTED[:2], *COMMITTED[5:]]

    assert kinds(replace(CLEAN, published=published, recorded_all=False)) == []
    assert kinds(replace(CLEAN, published=published)) == ["lost", "out of order"]


@pytest.mark.parametrize(("committed", "in_doubt"), [(8, 0), (6, 0), (5, 1)])
def test_a_history_that_contradicts_the_writers_is_unusable(committed: int, in_doubt: int):
    """The truth itself is checked against what the writers were told."""
    with pytest.raises(UnusableHistory, match="the writers know of"):
        check(replace(CLEAN, writers=Counts(committed=committed, in_doubt=in_doubt)))


def test_a_history_with_a_gap_in_the_versions_is_unusable():
    """Versions count without gaps, or the order proves nothing."""
    with pytest.raises(UnusableHistory, match="versions of key-0"):
        check(replace(CLEAN, committed=COMMITTED[1:], writers=Counts(committed=6, in_doubt=0)))
