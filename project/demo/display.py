"""What a person sees of the demo: bars on a terminal, a few plain lines elsewhere."""

from importlib.util import find_spec
from typing import IO

from project.demo.reconcile import Report


class Display:
    """Shows nothing; for --json."""

    def say(self, text: str) -> None:
        """Tell that something happened."""

    def progress(self, report: Report, orders: int) -> None:
        """Show how far a run of so many orders has come."""

    def finish(self, report: Report) -> None:
        """Show how the run ended."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainDisplay(Display):
    """One line for each thing that happens."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def finish(self, report: Report) -> None:
        rows = figures(report)
        width = max(len(label) for label, _, _ in rows)
        self.say("\n" + "\n".join(f"{label:<{width}}  {n:>7,}" for label, n, _ in rows))
        self.say(f"\n{verdict(report)}")


class RichDisplay(Display):
    """Bars that grow, what happens above them, and a table in the end."""

    def __init__(self, stream: IO[str]) -> None:
        # Optional, and not needed by who asks for JSON.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

        self._console = Console(file=stream, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description:<17}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=self._console,
        )
        labels = ("orders placed", "events published", "events handled")
        self._bars = [self._progress.add_task(label, total=None) for label in labels]
        self._progress.start()

    def say(self, text: str) -> None:
        self._console.print(text)

    def progress(self, report: Report, orders: int) -> None:
        placed, published, handled = self._bars
        done = report.committed + report.rolled_back
        self._progress.update(placed, completed=done, total=orders)
        self._progress.update(published, completed=report.published, total=report.emitted)
        self._progress.update(handled, completed=report.handled, total=report.emitted)

    def finish(self, report: Report) -> None:
        from rich.table import Table  # noqa: PLC0415 - see __init__

        self.close()
        table = Table(title="Reconciliation")
        table.add_column("what")
        table.add_column("count", justify="right")
        for label, count, is_fault in figures(report):
            style = ("bold red" if count else "green") if is_fault else ""
            table.add_row(label, f"{count:,}", style=style)
        self._console.print(table)
        self._console.print(verdict(report), style="green" if report.kept else "bold red")

    def close(self) -> None:
        self._progress.stop()


def choose(stream: IO[str]) -> Display:
    """Return the display that suits the stream."""
    if stream.isatty() and find_spec("rich"):
        return RichDisplay(stream)
    return PlainDisplay(stream)


def figures(report: Report) -> list[tuple[str, int, bool]]:
    """Return the rows of the table: label, count, and whether it is a fault."""
    return [
        ("orders committed", report.committed, False),
        ("orders rolled back", report.rolled_back, False),
        ("changes of orders rolled back", report.undone, False),
        ("events emitted", report.emitted, False),
        ("events published", report.published, False),
        ("events handled once", report.handled, False),
        *(
            [("tasks done by the Celery worker", report.tasks_done, False)]
            if report.tasks_done is not None
            else []
        ),
        *(
            [("parcels with the carrier, in another database", report.parcels, False)]
            if report.parcels is not None
            else []
        ),
        # None with the local broker, where what a killed relay had handled was rolled back.
        *(
            [("delivered again by the broker, not handled again", suppressed, False)]
            if (suppressed := report.duplicates_suppressed)
            else []
        ),
        ("events lost", report.lost, True),
        ("events of rolled back transactions", report.unfounded, True),
        ("effects twice", report.effects_twice, True),
        ("out of order per key", report.order_violations, True),
    ]


def verdict(report: Report) -> str:
    """Say in a sentence, or some lines, how the run ended."""
    if report.kept:
        return "Every promise was kept."
    missing = [f"  {count:,}: {what}" for what, count in report.missing.items()]
    headline = "A PROMISE WAS BROKEN." if report.finished else "NOT DONE IN TIME."
    return "\n".join([headline, *missing])
