"""What long-running commands print: a live line on a terminal, JSON lines elsewhere."""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import IO, Any

Snapshot = Callable[[], Mapping[str, Any]]


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the exception if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "figures", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class Reporter:
    """Shows how a command is doing, until it ends. Use as a context manager.

    On a terminal the figures stand in one line that is redrawn; elsewhere they are logged as
    JSON whenever they changed, at most every `interval` seconds.
    """

    def __init__(
        self, stream: IO[str], loggers: tuple[str, ...], figures: Snapshot, *, interval: float = 10
    ) -> None:
        self._stream = stream
        self._figures = figures
        self._live = bool(getattr(stream, "isatty", lambda: False)())
        self._interval = 0.2 if self._live else interval
        self._loggers = [logging.getLogger(name) for name in loggers]
        self._handler = _LineHandler(stream, live=self._live)
        self._levels: list[int] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def __enter__(self) -> "Reporter":
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.addHandler(self._handler)
            logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._show(final=True)
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.removeHandler(self._handler)
            logger.setLevel(level)

    def _run(self) -> None:
        shown: Mapping[str, Any] = {}
        while not self._stopped.wait(self._interval):
            figures = self._figures()
            if figures != shown:
                shown = dict(figures)
                self._show()

    def _show(self, *, final: bool = False) -> None:
        figures = self._figures()
        if self._live:
            self._handler.draw("  ".join(f"{name} {_pretty(v)}" for name, v in figures.items()))
            if final:
                self._handler.finish()
        else:
            record = self._loggers[0].makeRecord(
                self._loggers[0].name,
                logging.INFO,
                __file__,
                0,
                "stopped" if final else "progress",
                (),
                None,
                extra={"figures": dict(figures)},
            )
            self._handler.handle(record)


class _LineHandler(logging.Handler):
    """Writes log records; on a terminal, above the live line."""

    def __init__(self, stream: IO[str], *, live: bool) -> None:
        super().__init__()
        self._stream = stream
        self._live = live
        self._line = ""
        self.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
            if live
            else JSONFormatter()
        )

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            self._stream.write(f"\r\x1b[K{text}\n{self._line}" if self._live else f"{text}\n")
            self._stream.flush()
        except Exception:
            self.handleError(record)  # as every handler does: what cannot be told must go on

    def draw(self, line: str) -> None:
        with self.lock or threading.RLock():
            self._line = line
            self._stream.write(f"\r\x1b[K{line}")
            self._stream.flush()

    def finish(self) -> None:
        self._line = ""
        self._stream.write("\n")
        self._stream.flush()


def rate(count: int, since: float) -> float:
    """Return how many per second, since a point of time.monotonic(), rounded for people."""
    return round(count / max(time.monotonic() - since, 1e-3), 1)


def _pretty(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
