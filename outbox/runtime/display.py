"""What long-running commands print: a live line on a terminal, JSON lines elsewhere."""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
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
        if record.exc_text:
            entry["exception"] = record.exc_text
        elif record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class Reporter:
    """Shows how a command is doing, until it ends. Use as a context manager.

    On a terminal the figures stand in one line that is redrawn, by rich; where that is not
    installed they are printed as text, and elsewhere than on a terminal as JSON, whenever they
    changed, at most every `interval` seconds.
    """

    def __init__(
        self, stream: IO[str], loggers: tuple[str, ...], figures: Snapshot, *, interval: float = 10
    ) -> None:
        self._figures = figures
        terminal = bool(getattr(stream, "isatty", lambda: False)())
        live = terminal and find_spec("rich") is not None
        self._interval = 0.2 if live else interval
        self._loggers = [logging.getLogger(name) for name in loggers]
        name = self._loggers[0].name
        self._display: _Display = (
            _LiveLine(stream) if live else _Lines(stream, name, terminal=terminal)
        )
        self._levels: list[int] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def __enter__(self) -> "Reporter":
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.addHandler(self._display)
            logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._display.show(self._figures(), final=True)
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.removeHandler(self._display)
            logger.setLevel(level)

    def _run(self) -> None:
        shown: Mapping[str, Any] = {}
        while not self._stopped.wait(self._interval):
            figures = self._figures()
            if figures != shown:
                shown = dict(figures)
                self._display.show(figures)


class _Display(logging.Handler):
    """Writes log records, and figures between them."""

    def show(self, figures: Mapping[str, Any], *, final: bool = False) -> None:
        """Show the figures; nothing comes after the final ones."""
        raise NotImplementedError


class _Lines(_Display):
    """Writes figures as records, line by line: text on a terminal, else JSON."""

    def __init__(self, stream: IO[str], logger: str, *, terminal: bool) -> None:
        super().__init__()
        self._stream = stream
        self._logger = logger
        self._terminal = terminal
        self.setFormatter(_text_formatter() if terminal else JSONFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._stream.write(f"{self.format(record)}\n")
            self._stream.flush()
        except Exception:
            self.handleError(record)  # as every handler does: what cannot be told must go on

    def show(self, figures: Mapping[str, Any], *, final: bool = False) -> None:
        message = "stopped" if final else "progress"
        if self._terminal:
            message = f"{message}: {_line(figures)}"
        self.handle(
            logging.makeLogRecord(
                {
                    "name": self._logger,
                    "levelno": logging.INFO,
                    "levelname": "INFO",
                    "msg": message,
                    "figures": dict(figures),
                }
            )
        )


class _LiveLine(_Display):
    """Keeps the figures in the last line of a terminal, and writes log records above it."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        # Not installed everywhere, and slow to import.
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        self._text = Text
        self._console = Console(file=stream, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)
        self.setFormatter(_text_formatter())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._console.print(self._text(self.format(record)), soft_wrap=True)
        except Exception:
            self.handleError(record)

    def show(self, figures: Mapping[str, Any], *, final: bool = False) -> None:
        with self.lock or threading.RLock():
            if not self._live.is_started:
                self._live.start()
                self._console.show_cursor()  # which stays hidden if the process is killed
            line = self._text(_line(figures), no_wrap=True, overflow="ellipsis")
            self._live.update(line, refresh=True)
            if final:
                self._live.stop()


def _text_formatter() -> logging.Formatter:
    return logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")


def rate(count: int, since: float) -> float:
    """Return how many per second, since a point of time.monotonic(), rounded for people."""
    return round(count / max(time.monotonic() - since, 1e-3), 1)


def _line(figures: Mapping[str, Any]) -> str:
    return "  ".join(f"{name} {_pretty(value)}" for name, value in figures.items())


def _pretty(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
