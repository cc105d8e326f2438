"""The port of what the rows say in numbers, for monitoring: gauges, and who reads them.

Counters live and die with a process. A gauge is read from the database, so that it is there while
the process is away that it is about. Relay and inbox register their own.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from outbox.exceptions import ConfigurationError


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number with a name and labels. `name` ends in its unit: messages, bytes, seconds."""

    name: str
    labels: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The value of a gauge for one set of labels, in their order."""

    gauge: Gauge
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True)
class Meter:
    """What reads some gauges: `read` takes the alias of a database, reads by index and bounded.

    `database` returns that alias, by default that of the log. A statement may take `limit` seconds
    (PostgreSQL). What is read is good for `keeps` seconds. What is `slow`, since it waits for
    others than the database, is read in a thread of its own, and nobody waits for it for long.
    """

    name: str
    gauges: Sequence[Gauge]
    read: Callable[[str], Iterable[Reading]]
    database: Callable[[], str] | None = None
    limit: float | None = 1.0
    keeps: float = 5.0
    slow: bool = False


OK = Gauge("outbox_scrape_ok", ("part",), "1 if the gauges of this part could be read, else 0")
SECONDS = Gauge("outbox_scrape_seconds", ("part",), "how long it took to read them")
"""Every part has these two besides its own."""

_meters: dict[str, Meter] = {}


def register_meter(meter: Meter) -> None:
    """Let metrics have the gauges of a meter; a second one of its name replaces the first.

    Raises ConfigurationError if another has a gauge of the same name, or Prometheus knows no such
    names.
    """
    others = [each for each in _meters.values() if each.name != meter.name]
    taken = {gauge.name for each in others for gauge in each.gauges} | {OK.name, SECONDS.name}
    for gauge in meter.gauges:
        if gauge.name in taken:
            raise ConfigurationError(
                f"Meter {meter.name!r}: there is a gauge {gauge.name!r} already. Give it another "
                "name."
            )
        taken.add(gauge.name)
        for name in (gauge.name, *gauge.labels):
            if not (name.isascii() and name.isidentifier()):
                raise ConfigurationError(
                    f"Meter {meter.name!r}: {name!r} is no name of a gauge or label. Use letters, "
                    "digits and underscores."
                )
    _meters[meter.name] = meter


def meters() -> Sequence[Meter]:
    """Return what is registered, in the order of registration."""
    return tuple(_meters.values())
