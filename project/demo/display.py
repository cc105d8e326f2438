"""What a person sees of the demo: bars on a terminal, a few plain lines elsewhere."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import IO, NamedTuple

from project.demo.findings import Books, Findings
from project.demo.reconcile import Report


class Display:
    """Shows nothing; for --json."""

    def say(self, text: str) -> None:
        """Tell that something happened."""

    def progress(self, report: Report, orders: int) -> None:
        """Show how far a run of so many orders has come."""

    def finish(self, report: Report, findings: Findings | None = None) -> None:
        """Show how the run ended."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainDisplay(Display):
    """One line for each thing that happens."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def finish(self, report: Report, findings: Findings | None = None) -> None:
        rows = figures(report)
        width = max(len(label) for label, _, _ in rows)
        self.say("\n" + "\n".join(f"{label:<{width}}  {n:>7,}" for label, n, _ in rows))
        for table in tables(findings) if findings is not None else ():
            self.say(f"\n{table.title}")
            widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
            for row in (table.head, *table.rows):
                cells = [
                    text.ljust(width) if number < table.labels else text.rjust(width)
                    for number, (text, width) in enumerate(zip(row, widths, strict=True))
                ]
                self.say("  " + "  ".join(cells).rstrip())
        self.say(f"\n{verdict(report, findings)}")


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

    def finish(self, report: Report, findings: Findings | None = None) -> None:
        from rich.table import Table as RichTable  # noqa: PLC0415 - see __init__

        self.close()
        table = RichTable(title="What became of the orders")
        table.add_column("what")
        table.add_column("count", justify="right")
        for label, count, is_fault in figures(report):
            style = ("bold red" if count else "green") if is_fault else ""
            table.add_row(label, f"{count:,}", style=style)
        self._console.print(table)
        for each in tables(findings) if findings is not None else ():
            table = RichTable(title=each.title)
            for number, name in enumerate(each.head):
                table.add_column(name, justify="left" if number < each.labels else "right")
            for row in each.rows:
                table.add_row(*row)
            self._console.print(table)
        well = report.kept and findings is not None and not any(findings.problems())
        self._console.print(verdict(report, findings), style="green" if well else "bold red")

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


def verdict(report: Report, findings: Findings | None = None) -> str:
    """Say in a sentence, or some lines, how the run ended."""
    problems = [] if findings is None else [f"  {each}" for each in findings.problems()]
    if report.kept and not problems:
        return "Every promise was kept." + (
            ""
            if findings is None
            else " What was lost on purpose was found, and mended or accepted."
        )
    missing = [f"  {count:,}: {what}" for what, count in report.missing.items()]
    headline = "A PROMISE WAS BROKEN." if report.finished else "NOT DONE IN TIME."
    return "\n".join([headline, *missing, *problems])


class Table(NamedTuple):
    """Rows of texts below a head; the first `labels` columns are words, the others numbers."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    labels: int = 1


_KINDS = ("missing", "unknown", "unsettled", "twice")


def tables(findings: Findings) -> Iterator[Table]:
    """Yield the tables of the second part: asked, acknowledged, lost on purpose, reconciled."""
    ends = ("answered", "declined", "expired")
    rows = [
        (way, f"{sum(states.values()):,}", *(f"{states.get(end, 0):,}" for end in ends))
        for way, states in findings.asked.items()
    ]
    yield Table("Asked: the shop asks billing for quotes", ("by", "ended", *ends), rows)
    rows = [
        (group, f"{findings.orders:,}", f"{states.get('handled', 0):,}")
        for group, states in findings.acknowledged.items()
    ]
    yield Table("Acknowledged: orders placed", ("group", "orders", "handled"), rows)
    found = findings.all_found
    rows = [
        (WAYS[way], f"{len(losses):,}", f"{len(losses & found):,}")
        for way, losses in findings.planted.items()
    ]
    yield Table("Lost on purpose", ("how", "breaks", "found"), rows)
    head = ("from", "to", "messages", *_KINDS, "repaired", "accepted")
    for title, books in (
        ("Reconciled before", findings.before),
        ("Reconciled after the losses", findings.found),
        ("Reconciled after mending", findings.after),
    ):
        yield Table(f"{title}, by each service's own database", head, list(_lines(books)), labels=2)


WAYS = {
    "restored": "the shop's database was restored to an earlier time",
    "stolen": "a stranger took messages out of billing's queue",
    "deleted": "shipping's queue was deleted",
    "receipts": "receipts of billing were deleted",
    "messages": "messages of the shop were deleted",
}
"""What was done, for people."""


def _lines(books: Books) -> Iterator[tuple[str, ...]]:
    for book in books:
        numbers = (
            book.compared,
            *(book.breaks.get(kind, 0) for kind in _KINDS),
            book.repaired,
            book.accepted,
        )
        yield (book.sender, book.group, *(f"{number:,}" for number in numbers))
