"""The catalogue of metrics as a page has it: names, labels and meanings, in Markdown."""

from collections.abc import Iterable

from outbox.extensions.gauges import Gauge
from outbox.instruments import Instrument

GAUGES = "| gauge | labels | meaning |\n|---|---|---|\n"
INSTRUMENTS = "| name | kind | labels | OpenTelemetry | meaning |\n|---|---|---|---|---|\n"


def gauges_table(gauges: Iterable[Gauge]) -> str:
    """Return a table of gauges."""
    return GAUGES + "".join(
        f"| `{each.name}` | {_names(each.labels)} | {each.meaning} |\n" for each in gauges
    )


def instruments_table(instruments: Iterable[Instrument]) -> str:
    """Return a table of what processes count and time."""
    return INSTRUMENTS + "".join(
        f"| `{each.name}` | {each.kind} | {_names(each.labels)} | `{each.otel}`, {each.unit} "
        f"| {each.meaning} |\n"
        for each in instruments
    )


def attributes_table(instruments: Iterable[Instrument]) -> str:
    """Return a table of the attributes that OpenTelemetry has of each."""
    return "| OpenTelemetry | attributes |\n|---|---|\n" + "".join(
        f"| `{each.otel}` | {_names((*each.constant, *each.labels.values(), *each.details))} |\n"
        for each in sorted(instruments, key=lambda each: each.otel)
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{each}`" for each in names)
