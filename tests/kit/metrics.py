"""An exporter that remembers what it is given."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from outbox.instruments import Exporter, Instrument, exporters, use


class Recorder(Exporter):
    """Keeps sums and values by the name of the instrument and its labels."""

    name = "recorder"

    def __init__(self) -> None:
        self.calls = 0
        self.sums: dict[tuple[str, ...], float] = defaultdict(float)
        self.values: dict[tuple[str, ...], list[float]] = defaultdict(list)
        self.details: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)

    def add(
        self,
        instrument: Instrument,
        labels: tuple[str, ...],
        details: tuple[str, ...],
        amount: float,
    ) -> None:
        self._note(instrument, labels, details)
        self.sums[instrument.name, *labels] += amount

    def record(
        self,
        instrument: Instrument,
        labels: tuple[str, ...],
        details: tuple[str, ...],
        values: Sequence[float],
    ) -> None:
        self._note(instrument, labels, details)
        assert values == sorted(values)
        assert values
        self.values[instrument.name, *labels] += values

    def _note(
        self, instrument: Instrument, labels: tuple[str, ...], details: tuple[str, ...]
    ) -> None:
        assert len(labels) == len(instrument.labels)
        self.calls += 1
        self.details[instrument.name, *labels].add(details)

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the sums of a counter by their labels."""
        return {key[1:]: total for key, total in self.sums.items() if key[0] == name}


@contextmanager
def recording() -> Iterator[Recorder]:
    """Let a recorder, and nobody else, be told in the block."""
    before, recorder = exporters(), Recorder()
    use(recorder)
    try:
        yield recorder
    finally:
        use(*before)
