"""The port of what is counted: who is told, and what happens when that fails."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from outbox import instruments
from outbox.exceptions import ConfigurationError
from outbox.instruments import Instrument, Kind, add, declare, hook, record, use
from tests.kit.calls import calls_of
from tests.kit.metrics import Recorder, recording

DOORS = Instrument(
    name="doors_total", kind=Kind.COUNTER, labels={"colour": "c"}, meaning="", otel="doors"
)
WAITS = Instrument(name="waits_seconds", kind=Kind.HISTOGRAM, meaning="", otel="waits")


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recording() as found:
        yield found


class Broken(Recorder):
    """Raises what it is given, and counts how often it was asked."""

    name = "broken"

    def __init__(self, exc: BaseException) -> None:
        super().__init__()
        self.exc = exc

    def add(self, *_: Any) -> None:
        self.calls += 1
        raise self.exc

    def record(self, *_: Any) -> None:
        self.calls += 1
        raise self.exc


@pytest.mark.parametrize("exc", [ValueError("full disk"), SystemExit(3), MemoryError()])
def test_an_exporter_that_raises_is_told_once(
    exc: BaseException, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """Messages go on, the other exporter has all, and the broken one is asked again."""
    broken = Broken(exc)
    use(broken, recorder)
    for _ in range(3):
        add(DOORS, ("red",))
        record(WAITS, (), [1.0])

    assert broken.calls == 6
    assert recorder.of("doors_total") == {("red",): 3}
    assert recorder.values["waits_seconds",] == [1.0] * 3
    said = [each for each in caplog.records if "Metrics by broken fail" in each.getMessage()]
    assert len(said) == 1
    assert said[0].levelno == logging.ERROR


def test_ctrl_c_is_no_failure_of_an_exporter(recorder: Recorder) -> None:
    """A person who ends the process ends it here as well."""
    use(Broken(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        add(DOORS, ("red",))


def test_what_a_hook_raises_is_told_once(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake of ours in counting is no reason to lose a message."""

    @hook
    def wrong() -> None:
        raise ZeroDivisionError

    wrong()
    wrong()
    assert caplog.text.count("Metrics by wrong fail") == 1


def test_without_an_exporter_a_hook_does_nothing() -> None:
    """It is not called, and what surrounds it is a look at one name."""
    called = []
    counts = hook(called.append)
    use()
    counts("x")
    assert called == []
    assert calls_of(lambda: counts("x")) <= 3


def test_the_number_of_series_is_bounded(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a label may come to be: those that came first go on, the rest is one."""
    monkeypatch.setattr(instruments, "MOST_SERIES", 2)
    monkeypatch.setattr(instruments, "_series", {})
    for colour in ("red", "blue", "green", "grey", "red"):
        add(DOORS, (colour,))
    assert recorder.of("doors_total") == {("red",): 2, ("blue",): 1, ("other",): 2}


@pytest.mark.parametrize(
    ("given", "got"),
    [([3.0, 1.0, 2.0], [1.0, 2.0, 3.0]), ([-0.5], [0.0]), ([0.5, -2.0], [0.0, 0.5]), ([], [])],
)
def test_values_are_in_order_and_not_negative(
    recorder: Recorder, given: Sequence[float], got: list[float]
) -> None:
    """A clock that is behind makes no time run backwards: sums only grow."""
    record(WAITS, (), given)
    assert recorder.values.get(("waits_seconds",), []) == got


def test_a_name_stands_for_one_instrument(monkeypatch: pytest.MonkeyPatch) -> None:
    """Declared twice, by one module that is loaded again or by two, it would be two."""
    monkeypatch.setattr(instruments, "_instruments", {})
    declare(WAITS)
    assert declare(WAITS) is WAITS
    with pytest.raises(ConfigurationError, match="'waits_seconds' already"):
        declare(Instrument(name="waits_seconds", kind=Kind.COUNTER, meaning="", otel="x"))
