"""What has come and what is gone between looks of the doctor."""

from dataclasses import replace

from outbox.extensions.diagnosis import Finding, Level
from outbox.extensions.watch import Watch

AWAY = Finding(level=Level.ERROR, id="relay.broker", title="Relay 'a': no broker", text="gone")
LATE = Finding(level=Level.WARNING, id="relay.behind", title="Relay 'a' is behind", text="3 s")
WELL = Finding(level=Level.OK, id="relay.progress", title="Relay 'a'", text="0 pending")
INFO = Finding(level=Level.INFO, id="relay.retired", title="Relay 'b'", text="is not there")
BLIND = Finding(level=Level.ERROR, id="inbox.unexamined", title="The inbox", text="no database")


def test_what_is_there_is_raised_once() -> None:
    """A warning or an error, however often it is seen and whatever its numbers are."""
    watch = Watch()
    assert watch.look([AWAY, WELL, INFO]) == ([AWAY], [])
    assert watch.look([replace(AWAY, text="still gone"), LATE]) == ([LATE], [])
    assert watch.look([AWAY, LATE]) == ([], [])


def test_what_is_missing_in_two_looks_is_gone() -> None:
    """As it was found last; what flickers is told once."""
    watch = Watch()
    last = replace(LATE, text="9 s")
    watch.look([LATE])
    assert watch.look([]) == ([], [])
    assert watch.look([last]) == ([], [])
    assert watch.look([]) == ([], [])
    assert watch.look([]) == ([], [last])
    assert watch.look([]) == ([], [])
    assert watch.look([LATE]) == ([LATE], [])


def test_what_becomes_worse_is_raised_again() -> None:
    """And what becomes better is not."""
    watch = Watch()
    worse = replace(LATE, level=Level.ERROR)
    watch.look([LATE])
    assert watch.look([worse]) == ([worse], [])
    assert watch.look([LATE]) == ([], [])


def test_two_of_one_id_are_told_apart() -> None:
    """By their titles, or by what they are about where titles have numbers."""
    watch = Watch()
    other = replace(AWAY, title="Relay 'b': no broker")
    assert watch.look([AWAY, other]) == ([AWAY, other], [])

    one = replace(LATE, title="1 message is parked", about="a topic")
    assert watch.look([AWAY, other, one])[0] == [one]
    assert watch.look([AWAY, other, replace(one, title="2 messages are parked")])[0] == []


def test_while_something_cannot_be_examined_nothing_is_gone() -> None:
    """Nobody knows: the database is away, say."""
    watch = Watch()
    watch.look([LATE])
    for _ in range(5):
        assert watch.look([BLIND])[1] == []
    watch.look([])
    assert watch.look([]) == ([], [BLIND, LATE])


def test_what_is_hidden_by_something_worse_is_not_gone() -> None:
    """It counts as gone only when that is, too, and only what it is about is hidden."""
    watch = Watch()
    mine, other = replace(LATE, about="a"), replace(LATE, about="b")
    still = replace(AWAY, id="relay.stalled", about="a", hides=("relay.behind",))
    watch.look([mine, other])
    assert watch.look([still]) == ([still], [])
    assert watch.look([still]) == ([], [other])
    assert watch.look([still]) == ([], [])
    watch.look([])
    assert watch.look([]) == ([], [mine, still])


def test_what_is_about_nothing_hides_all_of_an_id() -> None:
    """A broker that is away says nothing of any queue."""
    watch = Watch()
    queues = [replace(LATE, id="inbox.queue", title=name) for name in ("one", "two")]
    away = replace(AWAY, hides=("inbox.queue",))
    watch.look(queues)
    for _ in range(3):
        assert watch.look([away])[1] == []
