"""What long-running commands print."""

import io
import json
import logging
import os
import pty
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import pytest

from outbox.runtime import display
from outbox.runtime.display import JSONFormatter, Reporter

NAME = "tests.terminal"
logger = logging.getLogger(NAME)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep the records of these tests from the root logger."""
    logger.propagate = False
    yield
    logger.propagate = True


class Screen:
    """A pseudo-terminal, and everything that was written to it."""

    def __init__(self) -> None:
        self._main, follower = pty.openpty()
        self.stream = os.fdopen(follower, "w")
        self._read = bytearray()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while True:
            try:
                data = os.read(self._main, 1024)
            except OSError:  # the other side is closed
                return
            with self._changed:
                self._read += data
                self._changed.notify_all()

    def wait_for(self, text: str) -> str:
        """Wait until a text has been written; return everything so far."""
        with self._changed:
            assert self._changed.wait_for(lambda: text.encode() in self._read, 20), self._read
            return self._read.decode()

    def close(self) -> None:
        self.stream.close()
        self._thread.join()
        os.close(self._main)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    monkeypatch.setenv("TERM", "xterm")
    made = Screen()
    yield made
    made.close()


def report(
    stream: Any, figures: Callable[[], Mapping[str, Any]] = dict, **options: Any
) -> Reporter:
    return Reporter(stream, (NAME,), figures, **options)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class TestJSON:
    """Elsewhere than on a terminal: a JSON object a line."""

    def test_log_records(self):
        """Every record is an object with time, level, logger and message."""
        stream = io.StringIO()
        with report(stream):
            logger.info('A "quoted" %s\nand a line', "näh")
            logger.warning("second")

        first, second, _ = lines(stream)
        assert first["message"] == 'A "quoted" näh\nand a line'
        assert (first["level"], first["logger"]) == ("info", NAME)
        assert datetime.fromisoformat(first["time"]).tzinfo is not None
        assert (second["level"], second["message"]) == ("warning", "second")

    def test_exception(self):
        """With the exception, if there is one."""
        stream = io.StringIO()
        with report(stream):
            try:
                1 / 0  # noqa: B018
            except ZeroDivisionError:
                logger.exception("failed")

        assert "ZeroDivisionError: division by zero" in lines(stream)[0]["exception"]

    def test_figures(self):
        """At the end it tells the figures, also values that JSON does not know."""
        stream = io.StringIO()
        with report(stream, lambda: {"published": 7, "rate": 1.5, "what": {1}}):
            pass

        [last] = lines(stream)
        assert (last["message"], last["published"], last["rate"]) == ("stopped", 7, 1.5)
        assert last["what"] == "{1}"

    def test_progress(self):
        """Meanwhile it tells them when they have changed, and only then."""
        stream = io.StringIO()
        asked = threading.Semaphore(0)
        counts = iter([1, 1, 1, 1, 2, 2])

        def figures() -> dict[str, int]:
            asked.release()
            return {"count": next(counts, 3)}

        with report(stream, figures, interval=0.001):
            for _ in range(12):
                assert asked.acquire(timeout=20)

        found = [(line["message"], line["count"]) for line in lines(stream)]
        assert found[-1] == ("stopped", 3)
        assert [message for message, _ in found[:-1]] == ["progress"] * (len(found) - 1)
        assert len(found) <= 5

    def test_formatter(self):
        """The formatter serves in LOGGING, too."""
        record = logging.makeLogRecord({"name": "a.b", "msg": "x %d", "args": (1,)})
        record.levelname = "ERROR"
        found = json.loads(JSONFormatter().format(record))

        assert (found["logger"], found["message"], found["level"]) == ("a.b", "x 1", "error")


class TestTerminal:
    """On a terminal: one line that is redrawn, log records above it."""

    def test_line(self, screen: Screen):
        """The figures stand in the line, with separators, and stay at the end."""
        with report(screen.stream, lambda: {"published": 12345, "lanes": "0, 1"}):
            screen.wait_for("published 12,345  lanes 0, 1")
        assert screen.wait_for("0, 1\r\n")

    def test_record_above_the_line(self, screen: Screen):
        """A record pushes the line down instead of breaking into it."""
        with report(screen.stream, lambda: {"published": 1}):
            screen.wait_for("published 1")
            logger.warning("attention [bold]as it is[/bold]")
            text = screen.wait_for("as it is[/bold]\r\npublished 1")

        assert "WARNING attention [bold]as it is[/bold]" in text

    def test_long_line(self, screen: Screen, monkeypatch: pytest.MonkeyPatch):
        """What is wider than the terminal is cut: in two lines it could not be redrawn."""
        monkeypatch.setenv("COLUMNS", "40")
        with report(screen.stream, lambda: {"published": "x" * 100, "lanes": 1}):
            text = screen.wait_for("…")

        assert "x" * 41 not in text

    def test_without_rich(self, screen: Screen, monkeypatch: pytest.MonkeyPatch):
        """It is not installed everywhere: then there are lines of text, now and then."""
        monkeypatch.setattr(display, "find_spec", lambda name: None)
        with report(screen.stream, lambda: {"published": 12345}, interval=0.01):
            text = screen.wait_for("INFO progress: published 12,345\r\n")
            logger.warning("attention")
        text = screen.wait_for("INFO stopped: published 12,345\r\n")

        assert "WARNING attention\r\n" in text
        assert "\x1b" not in text


class TestLoggers:
    """What it does to logging is undone."""

    @pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG, logging.ERROR])
    def test_restored(self, level: int):
        """Levels and handlers are as before, also after an exception."""
        logger.setLevel(level)
        before = list(logger.handlers)
        try:
            with pytest.raises(ZeroDivisionError), report(io.StringIO()):
                assert logger.getEffectiveLevel() <= logging.INFO
                raise ZeroDivisionError
            assert (logger.level, logger.handlers) == (level, before)
        finally:
            logger.setLevel(logging.NOTSET)

    def test_broken_stream(self, monkeypatch: pytest.MonkeyPatch):
        """A reader that has gone away does not stop the work."""
        complaints = io.StringIO()
        monkeypatch.setattr(sys, "stderr", complaints)
        reader, writer = os.pipe()
        os.close(reader)
        stream = os.fdopen(writer, "w", buffering=1)
        with report(stream):
            logger.warning("nobody reads this")
        with pytest.raises(BrokenPipeError):
            stream.close()

        assert "BrokenPipeError" in complaints.getvalue()


def test_rate(monkeypatch: pytest.MonkeyPatch):
    """Events per second, never divided by nothing."""
    monkeypatch.setattr(display.time, "monotonic", lambda: 10.0)

    assert display.rate(50, 5.0) == 10.0
    assert display.rate(1, 7.0) == 0.3
    assert display.rate(0, 10.0) == 0
    assert display.rate(5, 10.0) == 5000
